"""The views and the cookbook of db/README.md, on a small archive of known contents."""

from __future__ import annotations

import sqlite3
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import archive_examples as examples
import pytest
from postgresql_server import BACKENDS
from sqlalchemy import Connection, text

from kernelevo.archive import bench, open_archive
from kernelevo.archive.queries import QUERIES, in_postgresql
from kernelevo.cli.bench import comparing, deciding
from kernelevo.records import Operator, Rewrite, TimingKind

TASK = examples.task()
RUN = examples.run()

SEED, FAST, WRONG, BROKEN, CHILD = (examples.candidate(number).id for number in range(5))


class Database:
    """An archive as a browser sees it: statements go in, rows come out."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.name = connection.dialect.name

    def rows(self, query: str, **values: str) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in self.connection.execute(text(query), values)]


@pytest.fixture(scope="module", params=BACKENDS)
def database(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """seed -> fast -> child (crossed with the seed); also a wrong one, one that does not build, and a bad reply."""
    place = str(tmp_path_factory.mktemp("views") / "archive.sqlite")
    if request.param == "postgresql":
        place = request.getfixturevalue("server").new_database(like="template")
    with open_archive(place) as archive:
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
    with open_archive(place, read_only=True) as archive, archive.engine.connect() as connection:
        yield Database(connection)


def test_the_leaderboard_ranks_correct_candidates_and_keeps_kinds_apart(database: Database) -> None:
    assert database.rows(
        "SELECT kind, target, place, candidate, ROUND(score_ns) FROM leaderboard ORDER BY kind, place"
    ) == [
        ("measured", "H100 SXM", 1, SEED, 2000),
        ("predicted", "H100 SXM", 1, FAST, 200),
        ("predicted", "H100 SXM", 2, CHILD, 800),
        ("predicted", "H100 SXM", 3, SEED, 2000),
    ]


def test_the_stored_score_is_the_geometric_mean_of_the_medians(database: Database) -> None:
    scores = dict(database.rows("SELECT evaluation_id, score_ns FROM timings"))
    medians: dict[int, list[float]] = {}
    for evaluation, median in database.rows("SELECT evaluation_id, median_ns FROM case_timings"):
        medians.setdefault(evaluation, []).append(median)
    assert len(scores) == 4
    assert scores == {number: pytest.approx(statistics.geometric_mean(m)) for number, m in medians.items()}


def test_lineage_lists_every_ancestor_with_its_depth(database: Database) -> None:
    expected = [
        (FAST, SEED, 1),
        (WRONG, SEED, 1),
        (BROKEN, SEED, 1),
        (CHILD, FAST, 1),
        (CHILD, SEED, 1),
        (CHILD, SEED, 2),
    ]
    assert sorted(database.rows("SELECT candidate, ancestor, depth FROM lineage")) == sorted(expected)


def test_history_says_what_was_asked_and_how_far_it_came(database: Database) -> None:
    found = database.rows(
        "SELECT iteration, operator, parent, second_parent, candidate, stage, outcome, reason, propose_seconds"
        " FROM history WHERE run = :run ORDER BY iteration",
        run=RUN.id,
    )
    assert found == [
        (0, "seed", None, None, SEED, "done", "passed", None, None),
        (1, "optimize", SEED, None, FAST, "done", "passed", None, 0.5),
        (2, "optimize", SEED, None, WRONG, "correctness", "wrong", "rows=31 cols=7: differs", 0.5),
        (3, "optimize", SEED, None, BROKEN, "build", "build failed", 'identifier "y" is undefined', 0.5),
        (4, "optimize", FAST, SEED, CHILD, "done", "passed", None, 0.5),
        (5, "repair", SEED, None, None, "propose", "no candidate", "the reply holds no kernel", 0.5),
    ]


def test_failures_are_counted_by_stage_and_outcome(database: Database) -> None:
    assert sorted(database.rows("SELECT * FROM failures_by_stage")) == [
        ("rmsnorm", "emulator", "build", "build failed", 1),
        ("rmsnorm", "emulator", "correctness", "wrong", 2),
        ("rmsnorm", "emulator", "propose", "no candidate", 1),
    ]


def test_stage_times_add_up(database: Database) -> None:
    found = database.rows("SELECT device, stage, times, failed, total_seconds, longest_seconds FROM stage_times")
    assert sorted(found) == [
        ("cuda", "build", 1, 0, 0.7, 0.7),
        ("cuda", "correctness", 1, 0, 0.2, 0.2),
        ("cuda", "measure", 1, 0, 0.1, 0.1),
        ("emulator", "build", 6, 1, pytest.approx(4.2), 0.7),
        ("emulator", "correctness", 5, 0, pytest.approx(1.0), 0.2),
        ("emulator", "measure", 5, 0, pytest.approx(0.5), 0.1),
        ("emulator", "propose", 5, 0, pytest.approx(2.5), 0.5),
    ]


def test_costs_keep_unknown_prices_apart(database: Database) -> None:
    found = database.rows("SELECT run, model, calls, cost_usd, calls_of_unknown_cost FROM costs")
    assert found == [(RUN.id, "mutate", 5, 2.0, 1)]


# --- the cookbook


def ask(database: Database, name: str) -> list[tuple[Any, ...]]:
    query = QUERIES[name][1]
    names = {"candidate": CHILD, "run": RUN.id, "from_candidate": SEED, "to_candidate": CHILD}
    given = {name: value for name, value in names.items() if f":{name}" in query}
    return database.rows(in_postgresql(query) if database.name == "postgresql" else query, **given)


@pytest.mark.parametrize("name", QUERIES)
def test_each_query_of_the_cookbook_runs(database: Database, name: str) -> None:
    assert bool(ask(database, name)) == (name not in ("unsupported", "found_again"))


def test_the_cookbook_tells_the_lineage_of_a_candidate(database: Database) -> None:
    assert {(row[0], row[1], row[5]) for row in ask(database, "ancestors")} == {
        (0, CHILD, "optimize"),
        (1, FAST, "optimize"),
        (1, SEED, "seed"),
        (1, SEED, None),  # measured outside runs
        (2, SEED, "seed"),
        (2, SEED, None),
    }


def test_the_cookbook_tells_the_best_of_each_task_and_what_fails_where(database: Database) -> None:
    assert sorted((row[3], row[5]) for row in ask(database, "best")) == [("measured", SEED), ("predicted", FAST)]
    assert [row[-1] for row in ask(database, "failures")] == [2, 1, 1]
    assert [row[5:7] for row in ask(database, "top_ten")] == [(1, SEED), (1, FAST), (2, CHILD), (3, SEED)]


def test_the_cookbook_tells_what_models_cost_and_what_was_drawn(database: Database) -> None:
    assert [row[:6] for row in ask(database, "costs")] == [("mutate", "propose", 5, 0, 2.0, 1)]
    sizes = {str(row[6]) for row in ask(database, "hidden_failures")}
    assert {frozenset(one.split()) for one in sizes} == {frozenset({"rows=127", "cols=129"})}


def test_the_cookbook_tells_the_lines_that_changed(database: Database) -> None:
    assert ask(database, "changed_lines") == [("before", 1, "// 0"), ("after", 1, "// 4")]


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
    more = {"decide": deciding, "novelty": comparing}
    rows = bench.bench_archive(tmp_path, small=10, large=60, repeats=3, operations=more)
    assert all(row.small_ms > 0 and row.ratio == row.large_ms / row.small_ms for row in rows)
    assert {"iteration: all of it", "open and close", "leaderboard(), ten places", *more} <= {row.name for row in rows}
    assert list(tmp_path.iterdir()) == []
