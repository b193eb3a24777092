"""The views and the cookbook of db/README.md, on a small archive of known contents."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import archive_examples as examples
import pytest

from kernelevo.archive import bench, open_archive
from kernelevo.archive.queries import QUERIES
from kernelevo.records import Operator, Rewrite, TimingKind

TASK = examples.task()
RUN = examples.run()

SEED, FAST, WRONG, BROKEN, CHILD = (examples.candidate(number).id for number in range(5))


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlite3.Connection]:
    """seed -> fast -> child (crossed with the seed); also a wrong one, one that does not build, and a bad reply."""
    path = tmp_path_factory.mktemp("views") / "archive.sqlite"
    with open_archive(path) as archive:
        archive.create_run(RUN, TASK)
        archive.record(examples.job(0), examples.candidate(0), examples.passed(SEED, median_ns=1000.0))
        for iteration, number, parents, evaluation in (
            (1, 1, (SEED,), examples.passed(FAST, median_ns=100.0)),
            (2, 2, (SEED,), examples.wrong(WRONG)),
            (3, 3, (SEED,), examples.unbuildable(BROKEN)),
            (4, 4, (FAST, SEED), examples.passed(CHILD, median_ns=400.0)),
        ):
            job = examples.job(iteration, *parents)
            rewrites = (Rewrite(name="vectorize", argument="4"),)
            archive.record_reply(job, 0, examples.prompt(), examples.reply(rewrites=rewrites, cost_usd=0.5))
            archive.record(job, examples.candidate(number, *parents), evaluation)
        bad = examples.job(5, SEED, operator=Operator.REPAIR)
        archive.record_reply(bad, 0, examples.prompt(), examples.reply("sorry", cost_usd=None))
        archive.record(bad, None, None, reason="the reply holds no kernel")
        archive.record_evaluation(TASK, examples.candidate(0), examples.passed(SEED, kind=TimingKind.MEASURED))
        unsupported = examples.wrong(examples.candidate(9).id)
        archive.record_evaluation(TASK, examples.candidate(9), unsupported)
    connection = sqlite3.connect(path)
    yield connection
    connection.close()


def test_the_leaderboard_ranks_correct_candidates_and_keeps_kinds_apart(database: sqlite3.Connection) -> None:
    rows = database.execute("SELECT kind, target, place, candidate, ROUND(score_ns) FROM leaderboard ORDER BY 1, 3")
    assert rows.fetchall() == [
        ("measured", "H100 SXM", 1, SEED, 2000),
        ("predicted", "H100 SXM", 1, FAST, 200),
        ("predicted", "H100 SXM", 2, CHILD, 800),
        ("predicted", "H100 SXM", 3, SEED, 2000),
    ]


def test_the_stored_score_is_the_geometric_mean_of_the_medians(database: sqlite3.Connection) -> None:
    import math

    database.create_function("log_of", 1, math.log, deterministic=True)
    rows = database.execute(
        "SELECT t.score_ns, AVG(log_of(c.median_ns)) FROM timings t JOIN case_timings c USING (evaluation_id)"
        " GROUP BY t.evaluation_id"
    ).fetchall()
    assert len(rows) == 4
    for score, mean in rows:
        assert score == pytest.approx(math.exp(mean))


def test_lineage_lists_every_ancestor_with_its_depth(database: sqlite3.Connection) -> None:
    rows = database.execute("SELECT candidate, ancestor, depth FROM lineage ORDER BY candidate, depth, ancestor")
    expected = [
        (FAST, SEED, 1),
        (WRONG, SEED, 1),
        (BROKEN, SEED, 1),
        (CHILD, FAST, 1),
        (CHILD, SEED, 1),
        (CHILD, SEED, 2),
    ]
    assert sorted(rows.fetchall()) == sorted(expected)


def test_history_says_what_was_asked_and_how_far_it_came(database: sqlite3.Connection) -> None:
    rows = database.execute(
        "SELECT iteration, operator, parent, second_parent, candidate, stage, outcome, reason, propose_seconds"
        " FROM history WHERE run = ? ORDER BY iteration",
        (RUN.id,),
    )
    assert rows.fetchall() == [
        (0, "seed", None, None, SEED, "done", "passed", None, None),
        (1, "optimize", SEED, None, FAST, "done", "passed", None, 0.5),
        (2, "optimize", SEED, None, WRONG, "correctness", "wrong", "rows=31 cols=7: differs", 0.5),
        (3, "optimize", SEED, None, BROKEN, "build", "build failed", 'identifier "y" is undefined', 0.5),
        (4, "optimize", FAST, SEED, CHILD, "done", "passed", None, 0.5),
        (5, "repair", SEED, None, None, "propose", "no candidate", "the reply holds no kernel", 0.5),
    ]


def test_failures_are_counted_by_stage_and_outcome(database: sqlite3.Connection) -> None:
    rows = database.execute("SELECT * FROM failures_by_stage ORDER BY stage")
    assert rows.fetchall() == [
        ("rmsnorm", "emulator", "build", "build failed", 1),
        ("rmsnorm", "emulator", "correctness", "wrong", 2),
        ("rmsnorm", "emulator", "propose", "no candidate", 1),
    ]


def test_stage_times_add_up(database: sqlite3.Connection) -> None:
    rows = database.execute(
        "SELECT device, stage, times, failed, ROUND(total_seconds, 6), longest_seconds FROM stage_times ORDER BY 1, 2"
    )
    assert rows.fetchall() == [
        ("cuda", "build", 1, 0, 0.7, 0.7),
        ("cuda", "correctness", 1, 0, 0.2, 0.2),
        ("cuda", "measure", 1, 0, 0.1, 0.1),
        ("emulator", "build", 6, 1, 4.2, 0.7),
        ("emulator", "correctness", 5, 0, 1.0, 0.2),
        ("emulator", "measure", 5, 0, 0.5, 0.1),
        ("emulator", "propose", 5, 0, 2.5, 0.5),
    ]


def test_costs_keep_unknown_prices_apart(database: sqlite3.Connection) -> None:
    rows = database.execute("SELECT run, model, calls, cost_usd, calls_of_unknown_cost FROM costs")
    assert rows.fetchall() == [(RUN.id, "mutate", 5, 2.0, 1)]


@pytest.mark.parametrize("name", QUERIES)
def test_each_query_of_the_cookbook_runs(database: sqlite3.Connection, name: str) -> None:
    query = QUERIES[name][1]
    names = {"candidate": CHILD, "run": RUN.id}
    found = database.execute(query, {name: value for name, value in names.items() if f":{name}" in query}).fetchall()
    if name in ("unsupported", "found_again"):
        assert found == []
    else:
        assert found


def test_the_benchmark_fills_what_recording_would_have_filled(tmp_path: Path) -> None:
    with open_archive(tmp_path / "filled.sqlite") as filled, open_archive(tmp_path / "recorded.sqlite") as recorded:
        bench.fill(filled, 20)
        recorded.create_run(bench.RUN, bench.TASK)
        for job, candidate, prompt, reply, evaluation in bench.synthetic_iterations(start=0, stop=20, seed=0):
            recorded.record_job(job)
            recorded.record_reply(job, 0, prompt, reply)
            recorded.record(job, candidate, evaluation)
        assert filled.scored(bench.RUN.id) == recorded.scored(bench.RUN.id)
        tables = [
            {
                name: database.execute(f"SELECT COUNT(*) FROM {name}").fetchone()[0]
                for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
            }
            for database in (sqlite3.connect(a.engine.url.database or "") for a in (filled, recorded))
        ]
    assert tables[0] == tables[1]
    assert tables[0]["counters"] > 0


def test_the_benchmark_reports_both_sizes(tmp_path: Path) -> None:
    rows = bench.bench_archive(tmp_path, small=10, large=60, repeats=3)
    assert all(row.small_ms > 0 and row.large_ms > 0 for row in rows)
    assert {"iteration: all of it", "open and close", "leaderboard(), ten places"} <= {row.name for row in rows}
    assert list(tmp_path.iterdir()) == []
