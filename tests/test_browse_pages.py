"""`kernelevo browse` as people use it: from the leaderboard to a kernel, its source, what changed, where it comes from.

Screenshots of all pages lie in the folder that pytest prints with `-rP`; nothing is compared with them.
"""

from __future__ import annotations

import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kernelevo.browse import START

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

GALLERY = Path(__file__).resolve().parents[1] / "db" / "gallery.sqlite"
HEARS = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
COMMAND = [sys.executable, "-c", f"{HEARS}from kernelevo.cli import main; main()", "browse"]
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}

pytestmark = pytest.mark.browser


class Site:
    """`kernelevo browse` in a process of its own."""

    def __init__(self, archive: Path, *options: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        command = [*COMMAND, "--archive", str(archive), "--port", str(self.port), *options]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert self.process.stderr is not None
        self.said = self.process.stderr.readline().strip()
        self.address = f"http://127.0.0.1:{self.port}"
        for _ in range(300):
            try:
                urllib.request.urlopen(self.address, timeout=10).close()
            except urllib.error.HTTPError:
                break  # it answers, and does not let us in
            except urllib.error.URLError:
                assert self.process.poll() is None
                time.sleep(0.1)
            else:
                break

    def end(self, how: signal.Signals) -> None:
        self.process.send_signal(how)
        assert self.process.wait(timeout=60) in (0, 130)
        assert self.process.stderr is not None
        self.process.stderr.close()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    archive = Path(shutil.copy(GALLERY, tmp_path_factory.mktemp("site") / "gallery.sqlite"))
    started = Site(archive)
    yield started
    started.end(signal.SIGTERM)
    assert [path.name for path in archive.parent.iterdir()] == ["gallery.sqlite"], "readers leave nothing beside it"


@pytest.fixture(scope="module")
def shots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("screenshots")


Visit = Callable[..., "Page"]


@pytest.fixture
def visit(chromium: Browser, site: Site, request: pytest.FixtureRequest, shots: Path) -> Iterator[Visit]:
    """Opens an address below the archive. Afterwards: no error was told, and nobody else was asked for anything."""
    opened: list[Page] = []
    told: list[str] = []
    asked: list[str] = []

    def open_page(address: str, *, viewport: dict[str, int] = DESKTOP) -> Page:
        page = chromium.new_page(viewport=viewport)  # type: ignore[arg-type]
        page.on("console", lambda message: told.append(message.text) if message.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: told.append(str(error)))
        page.on("request", lambda asking: asked.append(asking.url))
        answer = page.goto(f"{site.address}/gallery/{address}".rstrip("/"))
        assert answer is not None and answer.status == 200
        opened.append(page)
        return page

    yield open_page
    name = re.sub(r"\W+", "-", request.node.name)
    for number, page in enumerate(opened):
        page.screenshot(path=shots / f"{name}-{number}.png")
        page.close()
    print(f"screenshots: {shots}")
    assert told == []
    assert {url.split("/")[2] for url in asked} == {f"127.0.0.1:{site.port}"}


def follow(link: Locator) -> None:
    """Clicks, and waits for what it leads to."""
    link.click()
    link.page.wait_for_load_state()


def texts(page: Page, selector: str) -> list[str]:
    return [text.strip() for text in page.locator(selector).all_inner_texts()]


def numbers(page: Page, column: str) -> list[float]:
    """Of a column, with all their digits."""
    return [float(title) for title in page.locator(f"td.col-{column} .number").evaluate_all("x => x.map(n => n.title)")]


def test_the_first_page_begins_with_questions_not_with_tables(visit: Visit) -> None:
    page = visit("")
    assert texts(page, "h2")[:3] == ["Start here", "Questions", "Views"]
    assert texts(page, ".start a") == list(START.values())
    assert "alembic_version" not in page.content()
    assert not page.locator("#tables li").first.is_visible()
    page.get_by_text("tables", exact=False).first.click()
    assert page.locator("#tables li").first.is_visible()
    assert "One row per attempt" in page.content(), "views say what they are"


@pytest.mark.parametrize("address", START)
def test_every_page_to_start_with_answers(visit: Visit, address: str) -> None:
    page = visit("")
    follow(page.get_by_role("link", name=START[address], exact=True))
    assert page.locator("tbody tr").count() > 0
    assert page.evaluate("document.documentElement.scrollWidth") <= DESKTOP["width"]


def test_from_the_leaderboard_to_a_candidate_its_source_its_changes_and_its_lineage(visit: Visit) -> None:
    page = visit("top_ten")
    softmax = page.locator("tr", has=page.locator("td.col-task", has_text=re.compile("^softmax$")))
    first = softmax.filter(has=page.locator("td.col-place", has_text=re.compile("^1$"))).last
    follow(first.locator("td.col-candidate a"))
    candidate = page.locator("td.col-candidate").first.inner_text().strip()
    assert re.fullmatch(r"c-[0-9a-f]{16}", candidate)
    assert texts(page, "td.col-task")[0] == "softmax"
    at = page.url

    follow(page.get_by_role("link", name="source", exact=True).first)
    code = page.locator("td.col-source pre")
    assert "PYBIND11_MODULE" in code.inner_text()
    colours = code.locator("span").evaluate_all("x => new Set(x.map(s => getComputedStyle(s).color)).size")
    assert colours >= 4, "CUDA is coloured"

    page.goto(at)
    follow(page.get_by_role("link", name="changes", exact=True).first)
    diff = page.locator("td.col-changes pre").inner_text()
    assert "--- before" in diff and re.search(r"^\+.*\S", diff, re.MULTILINE)

    page.goto(at)
    follow(page.get_by_role("link", name="lineage", exact=True).first)
    depths = [int(text) for text in texts(page, "td.col-depth")]
    assert depths[0] == 0 and depths == sorted(depths) and depths[-1] >= 1
    assert texts(page, "td.col-candidate")[0] == candidate
    assert "seed" in texts(page, "td.col-operator")
    follow(page.locator("td.col-candidate a").last)
    assert "/gallery/candidate?candidate=c-" in page.url


def test_times_are_ranked_and_told_with_few_digits(visit: Visit) -> None:
    page = visit("leaderboard?task=softmax&method=prediction+2")
    times = numbers(page, "score_ns")
    assert len(times) > 3 and times == sorted(times)
    assert all(len(text) <= 7 for text in texts(page, "td.col-score_ns"))


def test_history_narrows_by_clicks_on_its_facets(visit: Visit) -> None:
    page = visit("history")
    everything = page.locator("h3").first.inner_text()
    follow(page.locator(".facet-info[data-column=outcome]").get_by_role("link", name="timed out"))
    assert set(texts(page, "td.col-outcome")) == {"timed out"}
    assert page.locator("h3").first.inner_text() != everything
    follow(page.locator(".facet-info[data-column=task]").get_by_role("link").first)
    assert len(set(texts(page, "td.col-task"))) == 1
    assert all(texts(page, "td.col-reason")), "and says why"


def test_failures_costs_and_bests_are_told(visit: Visit) -> None:
    failures = visit("failures")
    counts = [int(text) for text in texts(failures, "td.col-attempts")]
    assert counts == sorted(counts, reverse=True) and sum(counts) > 0
    assert set(texts(failures, "td.col-stage")) >= {"correctness"}
    costs = visit("costs")
    assert texts(costs, "td.col-model") and texts(costs, "td.col-purpose")[0] == "propose"
    best = visit("best")
    tasks = texts(best, "td.col-task")
    assert {"softmax", "rmsnorm", "gelu"} <= set(tasks) and tasks == sorted(tasks)
    heights = best.locator("td.col-source pre").evaluate_all("x => x.map(p => p.clientHeight)")
    assert max(heights) < 400, "long sources scroll where they stand"


@pytest.mark.parametrize("address", ["", "top_ten", "history", "best", "candidate", "source", "changes", "ancestors"])
def test_on_a_phone_no_page_is_wider_than_the_screen(visit: Visit, address: str) -> None:
    if address not in ("", "top_ten", "history", "best"):
        first = visit("history?parent__notblank=1&outcome=passed&_sort_desc=attempt_id", viewport=PHONE)
        child, parent = (texts(first, f"td.col-{name}")[0].split()[-1] for name in ("candidate", "parent"))
        address += f"?candidate={child}&from_candidate={parent}&to_candidate={child}"
    page = visit(address, viewport=PHONE)
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    if address:
        assert page.locator("tbody tr").count() > 0


def test_whoever_is_not_on_this_machine_needs_the_token(chromium: Browser, tmp_path: Path) -> None:
    archive = Path(shutil.copy(GALLERY, tmp_path / "gallery.sqlite"))
    site = Site(archive, "--host", "0.0.0.0")
    try:
        with_token = site.said.replace("0.0.0.0", "127.0.0.1")
        assert re.fullmatch(rf"{site.address}/-/auth-token\?token=[0-9a-f]{{32,}}", with_token)
        page = chromium.new_page()
        stranger = page.goto(f"{site.address}/gallery/leaderboard")
        assert stranger is not None and stranger.status == 403
        assert "softmax" not in page.content()
        page.goto(with_token)
        inside = page.goto(f"{site.address}/gallery/leaderboard")
        assert inside is not None and inside.status == 200
        assert "softmax" in page.content()
        page.close()
    finally:
        site.end(signal.SIGINT)
    assert [path.name for path in tmp_path.iterdir()] == ["gallery.sqlite"]
