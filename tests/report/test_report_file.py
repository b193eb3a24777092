"""The written file without a browser: what it holds, how it forbids, and what the command says."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest
from report_examples import EVIL

GALLERY = Path(__file__).resolve().parents[2] / "db" / "gallery.sqlite"


class Reader(HTMLParser):
    """Elements with their attributes, and what scripts hold."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append((dict(attrs), ""))

    def handle_data(self, data: str) -> None:
        if self.elements and self.elements[-1][0] == "script" and self.cdata_elem == "script":
            self.scripts[-1] = (self.scripts[-1][0], self.scripts[-1][1] + data)
        else:
            self.text.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def read(page: Path) -> Reader:
    reader = Reader()
    reader.feed(page.read_text())
    return reader


def packed(reader: Reader) -> list[dict[str, dict[str, object]]]:
    texts = [text for attributes, text in reader.scripts if (attributes.get("id") or "").startswith("chunk-")]
    return [json.loads(gzip.decompress(base64.b64decode(text))) for text in texts]


def test_only_our_two_scripts_may_run_and_nothing_may_be_loaded(page: Path) -> None:
    reader = read(page)
    policy = next(m["content"] for m in reader.all("meta") if m.get("http-equiv") == "Content-Security-Policy") or ""
    assert policy.startswith("default-src 'none'; ")
    scripts = [text for attributes, text in reader.scripts if "type" not in attributes]
    assert len(scripts) == 2
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in scripts]
    assert f"script-src 'sha256-{hashes[0]}' 'sha256-{hashes[1]}';" in policy
    assert "http" not in policy and "unsafe-eval" not in policy
    for tag, attributes in reader.elements:
        for name in ("src", "href", "action", "srcset", "poster", "data"):
            value = attributes.get(name) or ""
            assert not value or value.startswith(("#", "data:,")), (tag, name, value)
        assert not any(
            name.startswith("on") or (name == "style" and "url" in (v or "")) for name, v in attributes.items()
        )


def test_each_source_is_there_once(page: Path) -> None:
    reader = read(page)
    chunks = packed(reader)
    sources = [text for chunk in chunks for text in chunk["sources"].values()]
    assert len(sources) == len(set(map(str, sources))) == 24
    index = json.loads(next(text for attributes, text in reader.scripts if attributes.get("id") == "index"))
    assert all(identity in chunks[at[0]]["panels"] for identity, at in index.items())
    assert "rmsnorm_kernel" not in "".join(reader.text), "sources are in the chunks only"


def test_headings_are_in_order_and_every_table_and_region_has_a_name(page: Path) -> None:
    reader = read(page)
    levels = [int(tag[1]) for tag, _ in reader.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    for tag, attributes in reader.elements:
        if attributes.get("role") == "region":
            assert attributes.get("aria-label") or attributes.get("aria-labelledby"), (tag, attributes)
    ids = [attributes["id"] for _, attributes in reader.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = {a["href"] for a in reader.all("a") if a.get("href")}
    candidates = {link for link in links if link and link.startswith("#c-")}
    assert len(candidates) == 24, "every candidate is a link"
    assert {str(link)[1:] for link in links - candidates} <= set(ids)


def test_every_time_stands_beside_its_kind_and_the_commands_repeat_the_run(page: Path) -> None:
    text = " ".join("".join(read(page).text).split())
    assert "PREDICTED for H100 SXM by prediction 2" in text
    assert "kernelevo replay r-00000000000a --archive a.sqlite" in text
    assert (
        "kernelevo evolve rmsnorm --model mutate --model openai:big --judge openai:judge --device emulator "
        "--strategy islands --generations 6 --population 4 --lookahead 0 --seed 7" in text
    )
    assert "1 request of unknown cost" in text
    assert "precision" in text and "recall" in text
    assert "2026-01-02 03:04 UTC" in text


def test_what_a_candidate_or_a_model_wrote_is_text_wherever_it_stands(page: Path, evil_page: Path) -> None:
    harmless, reader = read(page), read(evil_page)
    known = {tag for tag, _ in harmless.elements}
    assert {tag for tag, _ in reader.elements} == known, "no element came from outside"
    assert not reader.all("img") and "onerror" not in {name for _, a in reader.elements for name in a}
    assert len(reader.scripts) == len(harmless.scripts) - 1, "one chunk less, and nothing more"
    assert "no rewrite applies </script>" in "".join(reader.text)
    for attributes, text in reader.scripts:
        if attributes.get("type") == "application/json":
            assert "<" not in text
            assert json.loads(text)
    outside = "".join(reader.text)
    assert "window.harmed" in outside, "it is shown"
    assert "{{ 7 * 7 }}" in outside, "and it is no template"
    for chunk in packed(reader):
        for panel in chunk["panels"].values():
            inside = Reader()
            inside.feed(str(panel))
            tags = {tag for tag, _ in inside.elements}
            assert not tags & {"script", "img", "style", "iframe"}, tags
            assert not any(name.startswith("on") for _, a in inside.elements for name in a)
            assert all((a.get("href") or "#").startswith("#") for _, a in inside.elements)
        assert any(EVIL in str(source) for source in chunk["sources"].values())


def kernelevo(*arguments: str | Path, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from kernelevo.cli import main; main()", *map(str, arguments)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_command_writes_the_page_and_leaves_the_archive_alone(tmp_path: Path) -> None:
    archive = Path(shutil.copy(GALLERY, tmp_path / "gallery.sqlite"))
    before = archive.read_bytes()
    (tmp_path / "out.html").write_text("an older one")
    done = kernelevo("report", "r-a0117", "-o", "out.html", "--archive", archive, folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("out.html: ")
    assert "r-a011775c1892" in (tmp_path / "out.html").read_text()
    assert archive.read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == {"gallery.sqlite", "out.html"}


@pytest.mark.parametrize(
    ("arguments", "says", "next_step"),
    [
        (["r-a0117", "-o", "nowhere/out.html"], "nowhere/out.html: there is no folder nowhere", "mkdir -p nowhere"),
        (["r-a0117", "-o", "."], ". is a folder", "name a file"),
        (["r-123456789abc"], "the archive has no run r-123456789abc", "kernelevo archive list"),
        (["softmax"], "'softmax' is not the id of a run", "hexadecimal"),
        (["r-"], "is not the id of a run", "hexadecimal"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_what_cannot_be_done_is_said_with_the_next_step(
    arguments: list[str], says: str, next_step: str, tmp_path: Path
) -> None:
    done = kernelevo("report", *arguments, "--archive", GALLERY, folder=tmp_path)
    assert done.returncode == 2
    assert says in done.stderr and next_step in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())
