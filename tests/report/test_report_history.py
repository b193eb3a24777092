"""What the report knows of a run: unknown costs stay unknown, gains compare like with like, points are counted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import postgresql_server
import pytest
from report_examples import a_run, more_of, roofs

from kernelevo import open_archive
from kernelevo.archive import Archive
from kernelevo.records import TimingKind
from kernelevo.report import report, roofline, words
from kernelevo.report.charts import charts, outcome_of, stage_seconds
from kernelevo.report.code import HUES, hues
from kernelevo.report.credit import best_so_far, by_model, by_operator, failures, gain_of
from kernelevo.report.gather import History, gather
from kernelevo.report.tree import layout, path_to

GALLERY = Path(__file__).resolve().parents[2] / "db" / "gallery.sqlite"


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    with open_archive(tmp_path / "a.sqlite") as opened:
        yield opened


@pytest.fixture
def history(archive: Archive) -> History:
    return gather(archive, a_run(archive, 24).id)


def test_a_run_is_read_whole(history: History) -> None:
    assert len(history.nodes) == len(history.steps) == 24
    assert history.untold == 0
    assert str(history.basis) == "PREDICTED for H100 SXM by prediction 2"
    assert history.seed is not None and history.seed.job.iteration == 0
    assert history.best is history.timed[0] and history.over_seed(history.best) > 1  # type: ignore[operator]
    assert [node.job.iteration for node in history.nodes.values()] == list(range(24))
    planned = next(node for node in history.nodes.values() if node.job.model == "openai:big")
    assert planned.plan == "use wider loads" and planned.changes == ("use wider loads",)
    rewritten = next(node for node in history.nodes.values() if node.candidate.rewrites and not node.plan)
    assert rewritten.changes == (str(rewritten.candidate.rewrites[0]),)


def test_the_report_agrees_with_what_the_archive_says_in_other_ways(archive: Archive, history: History) -> None:
    run = history.entry.run.id
    assert {n.id: n.score_ns for n in history.nodes.values()} == {s.candidate: s.score_ns for s in archive.scored(run)}
    assert {n.id: n.status for n in history.nodes.values()} == {s.candidate: s.status for s in archive.scored(run)}
    known = sum(step.cost_usd for step in history.steps if step.cost_usd is not None)
    assert known == pytest.approx(archive.ledger.cost(run).cost_usd - 0.001)  # iteration 5: its judge's is known
    assert sum(s.evaluation_seconds for s in history.steps) == pytest.approx(
        sum(total.seconds for total in archive.stage_totals(run))
    )
    assert sum(stage_seconds(history).values()) == pytest.approx(
        sum(s.waited_seconds + s.evaluation_seconds for s in history.steps)
    )


def test_iterations_without_a_candidate_that_tune_and_that_are_not_told(archive: Archive) -> None:
    run = a_run(archive, 13)
    more_of(archive, run)
    history = gather(archive, run.id)
    assert (len(history.nodes), len(history.steps), history.untold) == (14, 15, 1)
    assert failures(history.steps)["propose", "no candidate"] == 1
    none = next(s for s in history.steps if s.iteration == 13)
    assert (none.candidate, none.reason, none.evaluated) == (None, "no rewrite applies ", False)
    tuned = next(n for n in history.nodes.values() if n.job.iteration == 14)
    assert tuned.changes == ("tunable(BLOCK=64)",)
    assert [t.configuration for t in history.tuned[14]] == ["BLOCK=64", "BLOCK=99"]
    assert history.hints == ("mind the last row ",)
    credits = {c.name: c for c in by_operator(history)}
    assert (credits["repair"].tries, credits["repair"].candidates) == (1, 0)
    assert credits["tune"].requests == 0 and words.cost_of(credits["tune"]) == "nothing asked"


def test_a_cost_that_nobody_knows_is_never_0(history: History) -> None:
    step = next(s for s in history.steps if s.iteration == 5)
    assert step.cost_usd is None
    crossed = next(c for c in by_operator(history) if c.name == "crossover")
    assert crossed.unknown_costs == 1
    assert words.cost_of(crossed).endswith("+ 1 not known")
    assert words.cost_of_run(history).endswith("+ ?")
    assert words.dollars(0.0, unknown=3, requests=3) == "not known"
    assert words.dollars(0.0, unknown=0, requests=3) == "free"
    assert words.dollars(0.0, unknown=0, requests=0) == "nothing asked"


def test_credit_counts_tries_gains_and_new_bests(history: History) -> None:
    credits = {c.name: c for c in by_operator(history)}
    assert sum(c.tries for c in credits.values()) == 24
    assert credits["seed"].compared == 0 and credits["seed"].mean_gain is None
    improving = [p for p in best_so_far(history.steps) if p.improves]
    assert sum(c.improved_best for c in credits.values()) == len(improving) > 0
    gains = [g for g in (gain_of(history, s) for s in history.steps) if g is not None]
    assert max(c.best_gain or 0 for c in credits.values()) == max(gains)
    assert {c.name for c in by_model(history)} == {"mutate", "openai:big"}
    assert sum(c.tries for c in by_model(history)) == 23, "the task's own kernel asks nobody"


def test_failures_are_counted_by_the_stage_that_they_ended_in(history: History) -> None:
    assert failures(history.steps) == {
        ("build", "build failed"): 2,
        ("correctness", "crashed"): 2,
        ("correctness", "unsupported"): 2,
        ("correctness", "wrong"): 3,
    }


def test_the_best_so_far_never_rises(history: History) -> None:
    best = [p.best_ns for p in best_so_far(history.steps) if p.best_ns is not None]
    assert best == sorted(best, reverse=True)
    assert best[-1] == history.best.score_ns  # type: ignore[union-attr]


def test_points_lie_below_the_roof(history: History) -> None:
    (roof,) = roofs()
    found = roofline.points(history, roof)
    assert not isinstance(found, str)
    assert len(found) == 2 * len(history.timed)
    assert all(0 < point.share_of(roof) < 1 for point in found)
    assert found[0].intensity == pytest.approx(1e7 / 6e6)
    assert roof.flops_at(roof.ridge) == pytest.approx(roof.flops_per_second)


def test_times_of_another_method_stand_apart(archive: Archive) -> None:
    run = a_run(archive, 8)
    with archive.engine.begin() as connection:
        connection.exec_driver_sql(
            "UPDATE timings SET method = 'prediction 3' WHERE evaluation_id ="
            " (SELECT evaluation_id FROM attempts WHERE iteration = 6)"
        )
    history = gather(archive, run.id)
    node = next(n for n in history.nodes.values() if n.job.iteration == 6)
    assert (node.status, node.score_ns, outcome_of(history, node)) == ("passed", None, "other timing")
    assert history.best is not None and history.best.job.iteration == 5
    assert node not in history.timed and node.id not in {c.node.id for c in roofline.points(history, roofs()[0])}  # type: ignore[union-attr]
    page = report(archive, run.id, roofs=roofs(), place="a.sqlite", now=datetime.now(UTC))
    assert "passed, timed otherwise" in page


@pytest.mark.postgres
def test_a_run_in_postgresql_is_read_the_same(history: History) -> None:
    with postgresql_server.started() as server:
        server.command("CREATE DATABASE reported TEMPLATE template0")
        with open_archive(server.url("reported")) as archive:
            other = gather(archive, a_run(archive, 24).id)
    assert list(other.nodes) == list(history.nodes)
    assert other.steps == history.steps
    assert other.cost.cost_usd == pytest.approx(history.cost.cost_usd)
    assert other.judged == history.judged


def test_without_counters_or_peaks_there_is_no_roofline_and_a_reason(archive: Archive, history: History) -> None:
    assert "not in emulator/gpus.toml" in str(roofline.points(history, None))
    measured = gather(archive, a_run(archive, 6, identity="r-00000000000b", kind=TimingKind.MEASURED).id)
    chart = charts(measured, roofs()[0])["roofline"]
    assert chart.figure is None and "measured" in chart.says
    assert str(measured.basis).startswith("MEASURED")
    nothing = replace(history, basis=None)
    assert roofline.points(nothing, roofs()[0]) == "No candidate has a time."


def test_a_run_without_anything_has_a_reason_for_each_chart(archive: Archive) -> None:
    empty = gather(archive, a_run(archive, 0).id)
    assert {name: chart.figure for name, chart in charts(empty, None).items()} == dict.fromkeys(
        ("lineage", "evaluations", "cost", "behaviours", "failures", "stages", "roofline")
    )
    assert all(chart.says for chart in charts(empty, None).values())


def test_a_tree_stands_parents_between_their_children_and_no_two_in_one_place() -> None:
    drawn = layout({"a": (), "b": ("a",), "c": ("a", "b"), "d": ("b",), "e": ("b", "nowhere"), "f": ("nowhere",)})
    assert {name: (p.depth, p.row) for name, p in drawn.places.items()} == {
        "a": (0, 1.25),
        "b": (1, 0.5),
        "c": (1, 2.0),
        "d": (2, 0.0),
        "e": (2, 1.0),
        "f": (0, 3.0),
    }
    assert drawn.edges == (("a", "b"), ("a", "c"), ("b", "d"), ("b", "e"))
    assert drawn.crossings == (("b", "c"),)
    assert path_to("d", drawn.edges) == ["a", "b", "d"]
    deep = {str(i): (str(i - 1),) if i else () for i in range(5000)}
    assert layout(deep).places["4999"].depth == 4999, "no recursion"
    ring = layout({"a": ("b",), "b": ("a",)})
    assert ring.edges == (("a", "b"),), "two that came from each other are no ring"


@pytest.mark.parametrize(
    "source", ["", "\n", "int x;\n\n", "/* µ 😀 */ float y = 1.0f; // end", '"\\', "\t#define A 1"]
)
def test_hues_cover_the_source_and_nothing_else(source: str) -> None:
    runs = hues(source)
    assert sum(runs[1::2]) == len(source)
    assert all(0 <= hue < len(HUES) for hue in runs[::2])


def test_words_have_units() -> None:
    assert words.duration(15_300) == "15.3 µs"
    assert words.duration(None) == words.NOTHING
    assert [words.seconds(s) for s in (0.0005, 0.02, 1.5, 300, 9000)] == [
        "< 1 ms",
        "20 ms",
        "1.5 s",
        "5.0 min",
        "2.5 h",
    ]
    assert words.count(3.35e12) == "3.35 T"
    assert words.plain("<b>a</b>\n &") == "&lt;b&gt;a&lt;/b&gt; &amp;"
    assert words.counted(1, "request") == "1 request" and words.counted(2, "request") == "2 requests"


def test_every_run_of_the_gallery_has_all_charts() -> None:
    with open_archive(GALLERY, read_only=True) as archive:
        for entry in archive.list_runs():
            found = charts(gather(archive, entry.run.id), roofs()[0])
            assert found["lineage"].figure is not None and found["roofline"].figure is not None
            assert "seconds" in found["cost"].title, "what an agent costs is not known"
