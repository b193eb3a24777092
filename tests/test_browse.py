"""The archive in a web browser: every query answers, ids are links, nothing is written, and strangers see nothing."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from kernelevo import open_archive
from kernelevo.archive.queries import QUERIES
from kernelevo.browse import LINKS, OWN_QUERIES, site

GALLERY = Path(__file__).resolve().parents[1] / "db" / "gallery.sqlite"


# The agents of the gallery rewrote nothing by rule, and had every kernel built; no two runs are of one task.
EMPTY = {"rewrites", "found_again", "complaints", "hidden_failures"}


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copy(GALLERY, tmp_path_factory.mktemp("browse") / "gallery.sqlite"))


@pytest.fixture(scope="module")
def ids(gallery: Path) -> dict[str, str]:
    """What the parameters of the queries may be."""
    with open_archive(gallery, read_only=True) as archive:
        run = archive.list_runs(task="softmax")[0].run.id
        child = next(
            s.candidate
            for s in archive.scored(run)
            if s.score_ns is not None and archive.candidate(s.candidate, run=run).parents
        )
        return {
            "run": run,
            "candidate": child,
            "from_candidate": archive.candidate(child, run=run).parents[0],
            "to_candidate": child,
        }


def get(path: Path, address: str, **options: Any) -> Any:
    return asyncio.run(site(path, private=options.pop("private", False)).client.get(address, **options))


@pytest.mark.parametrize("name", [*QUERIES, *OWN_QUERIES])
def test_every_query_answers_and_says_what_it_shows(name: str, gallery: Path, ids: dict[str, str]) -> None:
    title, sql = {**QUERIES, **OWN_QUERIES}[name]
    wanted = "&".join(f"{key}={value}" for key, value in ids.items() if re.search(rf":{key}\b", sql))
    page = get(gallery, f"/gallery/{name}?{wanted}")
    assert page.status_code == 200
    assert title.replace("'", "&#39;") in page.text
    found = get(gallery, f"/gallery/{name}.json?{wanted}&_shape=array").json()
    assert bool(found) == (name not in EMPTY)


def test_a_candidate_leads_to_its_parent_its_source_and_what_changed(gallery: Path, ids: dict[str, str]) -> None:
    page = get(gallery, f"/gallery/candidate?candidate={ids['candidate']}").text
    changes = f"/gallery/changes?from_candidate={ids['from_candidate']}&amp;to_candidate={ids['to_candidate']}"
    for address in (
        f"/gallery/candidate?candidate={ids['from_candidate']}",
        f"/gallery/source?candidate={ids['candidate']}",
        f"/gallery/run?run={ids['run']}",
        changes,
    ):
        assert f'href="{address}"' in page
    source = get(gallery, f"/gallery/source?candidate={ids['candidate']}").text
    assert "PYBIND11_MODULE" in re.sub("<[^>]+>", "", source)
    assert re.search(r'<span style="[^"]*color: #[0-9A-F]{6}', source), "CUDA is coloured"
    changed = re.sub("<[^>]+>", "", get(gallery, changes.replace("&amp;", "&")).text)
    assert "--- before" in changed and re.search(r"^\+.*\S", changed, re.MULTILINE)


def test_views_are_explained_faceted_and_linked(gallery: Path) -> None:
    page = get(gallery, "/gallery/leaderboard").text
    assert "Correct candidates by time" in page
    assert "facet" in page and "linear_relu" in page
    assert re.search(r'href="/gallery/candidate\?candidate=c-[0-9a-f]{16}"', page)
    assert set(LINKS.values()) <= {*QUERIES, *OWN_QUERIES}


def test_what_a_candidate_wrote_is_text_not_html(gallery: Path, tmp_path: Path) -> None:
    import sqlite3

    path = Path(shutil.copy(gallery, tmp_path / "a.sqlite"))
    evil = "<script>alert(1)</script>"
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE sources SET text = ?", (evil,))
        connection.execute("UPDATE attempts SET reason = ?", (evil,))
        connection.execute("UPDATE jobs SET model = ?", (evil,))
    connection.close()
    with sqlite3.connect(path) as connection:
        run, candidate = connection.execute("SELECT run, candidate FROM history WHERE candidate IS NOT NULL").fetchone()
    connection.close()
    for address in (f"run?run={run}", f"source?candidate={candidate}", "history", "sources", "jobs"):
        page = get(path, f"/a/{address}").text
        assert evil not in page
    assert "&lt;script&gt;" in get(path, "/a/jobs").text


def test_nothing_is_written(gallery: Path) -> None:
    before = gallery.read_bytes()
    answer = get(gallery, "/gallery.json?sql=DELETE+FROM+attempts")
    assert answer.status_code == 400
    assert get(gallery, "/gallery/leaderboard").status_code == 200
    assert gallery.read_bytes() == before


def test_without_the_token_nothing_is_shown_where_others_can_reach_it(gallery: Path) -> None:
    served = site(gallery, private=True)

    async def visit() -> tuple[int, int, int]:
        stranger = await served.client.get("/gallery/leaderboard")
        wrong = await served.client.get("/-/auth-token?token=guess")
        entered = await served.client.get(f"/-/auth-token?token={served._root_token}")
        inside = await served.client.get("/gallery/leaderboard", cookies=dict(entered.cookies))
        return stranger.status_code, wrong.status_code, inside.status_code

    assert asyncio.run(visit()) == (403, 403, 200)


def test_the_command_serves_this_machine_only_until_it_is_interrupted(gallery: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    hears = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    command = [sys.executable, "-c", f"{hears}; from kernelevo.cli import main; main()", "browse"]
    process = subprocess.Popen(
        [*command, "--archive", str(gallery), "--port", str(port)], stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    assert process.stderr.readline() == f"http://127.0.0.1:{port}/gallery\n"
    address = f"http://127.0.0.1:{port}/gallery/best.json?_shape=array"
    for _ in range(300):
        try:
            with urllib.request.urlopen(address, timeout=10) as answer:
                places = json.load(answer)
            break
        except urllib.error.URLError:
            assert process.poll() is None
            time.sleep(0.1)
    assert {place["task"] for place in places} >= {"softmax", "rmsnorm"}
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) in (0, 130)
