"""The page in a browser: no network, no overflow, candidates by click and by key, dark charts, hostile text is text."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from report_examples import EVIL, roofs

from kernelevo import open_archive
from kernelevo.report import report

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser
GALLERY = Path(__file__).resolve().parents[2] / "db" / "gallery.sqlite"
WIDE, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
ROW = "#list tbody tr:nth-child({})"


@contextmanager
def opened(chromium: Browser, path: Path, *, where: str = "", **options: Any) -> Iterator[Page]:
    """The page, read to its end. Nothing may be asked of the network, and nothing may be complained about."""
    page = chromium.new_page(**{"viewport": WIDE, "reduced_motion": "reduce", **options})
    problems: list[str] = []
    page.on("console", lambda m: problems.append(m.text) if m.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", lambda r: problems.append(r.url) if not r.url.startswith(("file:", "data:", "blob:")) else None)
    page.goto(path.as_uri() + where)
    try:
        yield page
        assert not problems
    finally:
        page.close()


def see_all(page: Page) -> None:
    """Scrolls through the page, so that every chart is drawn."""
    for plot in page.locator(".plot").all():
        plot.scroll_into_view_if_needed()
        page.wait_for_selector(f"#{plot.get_attribute('id')}.js-plotly-plot")


def until(page: Page, expression: str) -> None:
    """Waits for it to be true. Playwright's own way of waiting evaluates text, which the page's policy forbids."""
    for _ in range(200):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(50)
    raise AssertionError(expression)


def in_panel(page: Page, identity: str) -> None:
    page.wait_for_selector(f"#panel:not([hidden]) #panel-title:text-is('{identity}')")


def row_id(page: Page, number: int) -> str:
    return page.locator(f"{ROW.format(number)} a.id").first.inner_text()


@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["1280", "390"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_wider_than_the_screen(chromium: Browser, page: Path, size: dict[str, int], scheme: str) -> None:
    with opened(chromium, page, viewport=size, color_scheme=scheme) as shown:
        see_all(shown)
        assert shown.locator(".js-plotly-plot").count() == 7
        width = "document.documentElement.scrollWidth"
        assert shown.evaluate(width) == size["width"]
        for plot in shown.locator(".plot").all():
            drawn, room = plot.locator(".main-svg").first.bounding_box(), plot.bounding_box()
            assert drawn and room and drawn["width"] <= room["width"] + 1
        identity = row_id(shown, 4)
        shown.locator(f"{ROW.format(4)} a.id").first.click()
        in_panel(shown, identity)
        assert shown.evaluate(width) == size["width"]
        assert shown.evaluate("document.querySelector('#panel').scrollWidth <= innerWidth")


def test_a_click_on_a_node_shows_its_candidate(chromium: Browser, page: Path) -> None:
    with opened(chromium, page) as shown:
        shown.locator("#tree").scroll_into_view_if_needed()
        shown.wait_for_selector("#plot-lineage.js-plotly-plot .points path")
        identity = shown.evaluate(
            "document.querySelector('#plot-lineage').data.find(t => t.name == 'best').customdata[0]"
        )
        star = shown.evaluate(
            """id => { const plot = document.querySelector('#plot-lineage'), [, , x, y] = JSON.parse(
            document.querySelector('#index').textContent)[id], box = plot.getBoundingClientRect(),
            {xaxis, yaxis} = plot._fullLayout;
            return [box.x + xaxis._offset + xaxis.d2p(x), box.y + yaxis._offset + yaxis.d2p(y)] }""",
            identity,
        )
        shown.mouse.move(*star)
        shown.wait_for_selector("#plot-lineage .hovertext")
        shown.mouse.click(*star)
        in_panel(shown, identity)
        assert shown.url.endswith(f"#{identity}")
        assert "PREDICTED" in shown.locator("#panel-body .verdict").inner_text()


def test_every_candidate_can_be_read_by_keyboard(chromium: Browser, page: Path) -> None:
    with opened(chromium, page) as shown:
        shown.keyboard.press("Tab")
        assert shown.evaluate("document.activeElement.textContent") == "Skip to the candidates"
        outline = shown.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline != "none", "the focus is seen"
        shown.keyboard.press("Enter")
        assert shown.evaluate("document.activeElement.id") == "candidates"
        link = shown.locator(f"{ROW.format(6)} a.id").first
        link.focus()
        identity = link.inner_text()
        shown.keyboard.press("Enter")
        in_panel(shown, identity)
        assert shown.evaluate("document.activeElement.id") == "panel-title"
        shown.keyboard.press("Escape")
        shown.wait_for_selector("#panel", state="hidden")
        assert shown.evaluate("document.activeElement.textContent") == identity, "back to where it was"
        shown.keyboard.press("Enter")
        in_panel(shown, identity)


def test_the_arrow_keys_walk_along_the_tree(chromium: Browser, page: Path) -> None:
    with opened(chromium, page) as shown:
        shown.locator("#tree").scroll_into_view_if_needed()
        shown.wait_for_selector("#plot-lineage.js-plotly-plot")
        seed, children = row_id(shown, 1), [row_id(shown, number) for number in (2, 3, 4)]
        shown.locator("#tree").focus()
        assert seed in shown.locator("#cursor").inner_text()
        shown.keyboard.press("ArrowRight")
        child = shown.locator("#cursor").inner_text().partition(":")[0]
        assert child in children
        shown.keyboard.press("ArrowLeft")
        assert seed in shown.locator("#cursor").inner_text()
        for key in ("ArrowRight", "ArrowDown", "ArrowUp", "Enter"):
            shown.keyboard.press(key)
        in_panel(shown, child)


def test_a_candidate_has_an_address_and_shows_source_changes_times_and_verdicts(chromium: Browser, page: Path) -> None:
    with opened(chromium, page) as shown:
        identity = row_id(shown, 8)
    with opened(chromium, page, where=f"#{identity}") as shown:
        in_panel(shown, identity)
        panel = shown.locator("#panel-body")
        source = panel.locator("[data-source]").inner_text()
        assert "// candidate 7 µ 😀" in source and "PYBIND11_MODULE" in source
        assert panel.locator(".h-comment").first.inner_text().startswith("//")
        assert panel.locator("[data-source] .row").count() == 46
        assert panel.locator("[data-source] .flagged").inner_text().strip().startswith("float v0"), (
            "of a finding, line 4"
        )
        assert "-// candidate 2 " in panel.locator("[data-diff] .del").first.inner_text()
        assert "+// candidate 7 " in panel.locator("[data-diff] .add").first.inner_text()
        assert "out of bounds, line 4: reads past x" in panel.inner_text()
        assert "crashed" in panel.locator(".verdict").inner_text()
        parent = row_id(shown, 3)
        panel.locator(f"a[href='#{parent}']").first.click()
        in_panel(shown, parent)
        assert "bound by DRAM bandwidth" in panel.inner_text()
        assert "6 MB of DRAM, 10 MFLOP" in panel.inner_text()
        shown.go_back()
        in_panel(shown, identity)


def test_a_phone_shows_a_candidate_on_the_whole_screen_and_nothing_else_can_be_reached(
    chromium: Browser, page: Path
) -> None:
    with opened(chromium, page, viewport=PHONE, has_touch=True, is_mobile=True) as shown:
        shown.locator(f"{ROW.format(2)} a.id").first.tap()
        shown.wait_for_selector("#panel:not([hidden])")
        box = shown.locator("#panel").bounding_box()
        assert box and (box["x"], box["width"]) == (0, 390)
        assert shown.evaluate("document.querySelector('#page').inert")
        shown.locator("#close").tap()
        assert not shown.evaluate("document.querySelector('#page').inert")


def test_the_dark_changes_page_and_charts_when_it_comes(chromium: Browser, page: Path) -> None:
    with opened(chromium, page, color_scheme="light") as shown:
        see_all(shown)
        looks = """() => [getComputedStyle(document.body).backgroundColor,
            document.querySelector('#plot-lineage')._fullLayout.font.color,
            document.querySelector('#plot-lineage').data.find(t => t.name == 'best').marker.color,
            document.querySelector('#plot-behaviours').data[0].colorscale[0][1],
            getComputedStyle(document.querySelector('#list .mark svg')).color]"""
        light = shown.evaluate(looks)
        shown.emulate_media(color_scheme="dark")
        until(shown, "document.querySelector('#plot-lineage')._fullLayout.font.color == '#e6edf3'")
        dark = shown.evaluate(looks)
        assert all(a != b for a, b in zip(light, dark, strict=True))
        shown.emulate_media(color_scheme="light")
        until(shown, "document.querySelector('#plot-lineage')._fullLayout.font.color == '#1c2128'")
        assert shown.evaluate(looks) == light


def test_the_list_is_sorted_and_searched(chromium: Browser, page: Path) -> None:
    with opened(chromium, page) as shown:
        times = "() => [...document.querySelectorAll('#list tbody tr')].map(r => r.cells[3].dataset.value)"
        shown.locator("[data-sort='3']").click()
        ascending = [float(t) for t in shown.evaluate(times) if t]
        assert ascending == sorted(ascending)
        assert shown.evaluate(times)[-1] == "", "those without a time come last"
        shown.locator("[data-sort='3']").click()
        assert shown.locator("th[aria-sort='descending']").count() == 1
        assert shown.evaluate(times)[-1] == ""
        shown.locator("#outcome").select_option("crashed")
        assert shown.locator("#list tbody tr:visible").count() == 2
        shown.locator("#outcome").select_option("")
        shown.locator("#find").fill("crossover")
        assert shown.locator("#shown").inner_text() == "4 of 24 candidates"


def test_the_tree_zooms_by_button_and_the_wheel_alone_scrolls_the_page(chromium: Browser, page: Path) -> None:
    with opened(chromium, page) as shown:
        shown.locator("#tree").scroll_into_view_if_needed()
        shown.wait_for_selector("#plot-lineage.js-plotly-plot")
        span = "(r => Math.abs(r[1] - r[0]))(document.querySelector('#plot-lineage').layout.xaxis.range)"
        before = shown.evaluate(span)
        shown.locator("[data-view='in']").click()
        assert shown.evaluate(span) == pytest.approx(0.6 * before)
        shown.locator("[data-view='best']").click()
        shown.locator("[data-view='all']").click()
        assert shown.evaluate(span) == pytest.approx(before)
        at = shown.evaluate("scrollY")
        shown.locator("#plot-lineage").hover()
        shown.mouse.wheel(0, 120)
        until(shown, f"scrollY > {at}")
        assert shown.evaluate(span) == pytest.approx(before)


def test_hostile_text_does_nothing_and_is_shown_as_it_is(chromium: Browser, evil_page: Path) -> None:
    with opened(chromium, evil_page) as shown:
        see_all(shown)
        crashed = row_id(shown, 8)
        for number in range(1, 14):
            shown.evaluate("id => { location.hash = id }", row_id(shown, number))
            in_panel(shown, row_id(shown, number))
            assert EVIL in shown.locator("#panel [data-source]").inner_text()
        shown.evaluate("id => { location.hash = id }", crashed)
        in_panel(shown, crashed)
        assert f"differs {EVIL}" in " ".join(shown.locator("#panel-body").inner_text().split())
        for plot in ("lineage", "evaluations", "cost", "roofline"):
            for trace in range(shown.evaluate("id => document.querySelector(id).data.length", f"#plot-{plot}")):
                shown.evaluate(
                    "([id, trace]) => { try { Plotly.Fx.hover(document.querySelector(id), [{curveNumber: trace,"
                    " pointNumber: 0}]) } catch { } }",
                    [f"#plot-{plot}", trace],
                )
        assert shown.evaluate("window.harmed") is None
        assert shown.locator("img").count() == 0
        assert shown.locator("a:not([href^='#'])").count() == 0, "no link leads out"
        assert shown.evaluate("document.querySelectorAll('a[*|href^=\"http\"]').length") == 0
        assert shown.locator("main").is_visible()


def test_what_would_run_if_it_came_into_the_page_is_forbidden(chromium: Browser, page: Path) -> None:
    shown = chromium.new_page()
    shown.goto(page.as_uri())
    blocked: list[str] = []
    shown.on("console", lambda m: blocked.append(m.text))
    shown.evaluate(
        """() => { const s = document.createElement('script'); s.textContent = 'window.harmed = 1';
        document.body.append(s); const d = document.createElement('div');
        d.innerHTML = '<img src=https://evil.invalid/x onerror="window.harmed = 2">'; document.body.append(d) }"""
    )
    refused = shown.evaluate("fetch('https://evil.invalid/').then(() => 'sent', () => 'refused')")
    assert refused == "refused"
    shown.wait_for_timeout(200)
    assert shown.evaluate("window.harmed") is None
    assert len([text for text in blocked if "Content Security Policy" in text]) >= 3
    shown.close()


def test_the_print_is_light_and_whole(chromium: Browser, page: Path) -> None:
    with opened(chromium, page, color_scheme="dark") as shown:
        shown.emulate_media(media="print", color_scheme="dark")
        shown.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert shown.locator(".js-plotly-plot").count() == 7
        assert shown.evaluate("document.querySelector('#plot-lineage')._fullLayout.font.color") == "#1c2128"
        assert shown.locator("#failures details").first.get_attribute("open") is not None
        shown.evaluate("dispatchEvent(new Event('afterprint'))")
        assert shown.locator("#failures details").first.get_attribute("open") is None


def test_without_scripts_the_tables_are_there(chromium: Browser, page: Path) -> None:
    with opened(chromium, page, java_script_enabled=False) as shown:
        assert shown.locator("#list tbody tr").count() == 24
        assert shown.locator(".noscript").is_visible()
        assert not shown.locator("[data-view]").first.is_visible()


def test_a_run_of_the_gallery(chromium: Browser, tmp_path: Path) -> None:
    """Real candidates, by agents: failures, repairs, a crossover, and costs that nobody knows."""
    archive = Path(shutil.copy(GALLERY, tmp_path / "gallery.sqlite"))
    with open_archive(archive, read_only=True) as found:
        text = report(found, "r-0ef694fde8de", roofs=roofs(), place="gallery.sqlite", now=datetime.now(UTC))
    path = tmp_path / "report.html"
    path.write_text(text)
    with opened(chromium, path) as shown:
        see_all(shown)
        assert "not known" in shown.locator(".tiles").inner_text()
        best = shown.locator(".tile a.id").first.inner_text()
        shown.locator(".tile a.id").first.click()
        in_panel(shown, best)
        assert shown.locator("#panel [data-source] .h-keyword").count() > 10
        assert "plan" in shown.locator("#panel-body").inner_text()


def test_a_run_with_nothing_in_it(chromium: Browser, page_of: Callable[..., Path]) -> None:
    with opened(chromium, page_of(0)) as shown:
        assert "The run has no candidate yet." in shown.locator("main").inner_text()
        assert shown.locator(".plot").count() == 0


@pytest.mark.slow
def test_a_run_of_2000_candidates_opens_in_a_few_seconds(chromium: Browser, page_of: Callable[..., Path]) -> None:
    path = page_of(2000, lines=100)
    assert path.stat().st_size < 25e6
    began = time.monotonic()
    with opened(chromium, path) as shown:
        shown.locator("#tree").scroll_into_view_if_needed()
        shown.wait_for_selector("#plot-lineage.js-plotly-plot")
        identity = row_id(shown, 1990)
        shown.evaluate("id => { location.hash = id }", identity)
        in_panel(shown, identity)
        assert "candidate 1989 " in shown.locator("#panel [data-source]").inner_text()
        assert time.monotonic() - began < 20  # about 3 on an idle machine
        see_all(shown)
