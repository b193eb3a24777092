"""Two archives become one: nothing is lost, nothing is doubled, and what comes out is whole."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import archive_examples as examples
import pytest
from postgresql_server import Server

from kernelevo.archive import open_archive
from kernelevo.archive import tables as t
from kernelevo.archive.care import find_flaws
from kernelevo.archive.merge import REFERENCES, merge
from kernelevo.lineage import lineage_hash
from kernelevo.records import TimingKind


def fill(place: str, run: str, numbers: range, *, outside: int | None = None) -> None:
    """A run of candidates that come from each other, and one evaluation outside runs."""
    with open_archive(place) as archive:
        archive.create_run(examples.run(run), examples.task())
        parents: tuple[str, ...] = ()
        for iteration, candidate_number in enumerate(numbers):
            job = archive.record_job(examples.job(iteration, *parents, of=run))
            call = archive.ledger.begin(job, "m")
            archive.record_reply(job, 0, examples.prompt(), examples.reply(cost_usd=0.25), call=call)
            candidate = examples.candidate(candidate_number, *parents)
            archive.record(job, candidate, examples.passed(candidate.id, median_ns=1000.0 - candidate_number))
            parents = (candidate.id,)
        archive.notes.write_hint(run, "Use the tensor cores.")
        archive.finish_run(run)
        if outside is not None:
            alone = examples.candidate(outside)
            archive.record_evaluation(examples.task(), alone, examples.passed(alone.id))


def contents(place: str) -> dict[str, int]:
    """Rows of each table."""
    with open_archive(place, read_only=True) as archive, archive.engine.connect() as connection:
        return {
            table.name: connection.exec_driver_sql(f"SELECT COUNT(*) FROM {table.name}").scalar_one()
            for table in t.Base.metadata.sorted_tables
        }


def merged(source: str, target: str) -> tuple[int, int, int, int]:
    with open_archive(source, read_only=True) as theirs, open_archive(target) as ours:
        found = merge(theirs, ours)
    return len(found.runs), len(found.known_runs), found.candidates, found.evaluations


ONE, TWO = "r-000000000001", "r-000000000002"


@pytest.fixture
def two(new_place: Callable[[], str]) -> tuple[str, str]:
    """Archives with a run each; candidate 2 is in both."""
    one, other = new_place(), new_place()
    fill(one, ONE, range(3), outside=20)
    fill(other, TWO, range(2, 6), outside=30)
    return one, other


def test_runs_costs_and_lineages_of_both_are_in_one_archive(two: tuple[str, str]) -> None:
    one, other = two
    apart = contents(one), contents(other)
    assert merged(other, one) == (1, 0, 4, 5), "candidates 3, 4, 5 and 30; candidate 2 was known and judged again"
    together = contents(one)
    numbered = ("runs", "jobs", "attempts", "evaluations", "prompts", "replies", "calls", "hints", "case_verdicts")
    assert {name: together[name] for name in numbered} == {name: apart[0][name] + apart[1][name] for name in numbered}
    with open_archive(one, read_only=True) as archive, open_archive(other, read_only=True) as alone:
        assert find_flaws(archive) == ()
        assert [entry.run.id for entry in archive.list_runs()] == [ONE, TWO]
        assert lineage_hash(archive, TWO) == lineage_hash(alone, TWO)
        assert archive.ledger.cost(TWO) == alone.ledger.cost(TWO)
        assert archive.scored(TWO) == alone.scored(TWO)
        assert archive.replies(TWO, 1) == alone.replies(TWO, 1)
        best = archive.best(
            "rmsnorm", device="emulator", kind=TimingKind.PREDICTED, target="H100 SXM", method="prediction 1"
        )
        assert best is not None and best.candidate == examples.candidate(5).id


def test_merging_again_changes_nothing(two: tuple[str, str], new_place: Callable[[], str]) -> None:
    one, other = two
    merged(other, one)
    before = contents(one)
    assert merged(other, one) == (0, 1, 0, 0)
    assert contents(one) == before
    empty = new_place()
    assert merged(one, empty) == (2, 0, 8, 9), "into an archive that holds nothing yet"
    assert contents(empty) == before


@pytest.mark.postgres
def test_an_archive_moves_to_a_server_and_back_without_a_loss(server: Server, tmp_path: Path) -> None:
    file, url, back = str(tmp_path / "a.sqlite"), server.new_database(like="template"), str(tmp_path / "b.sqlite")
    fill(file, ONE, range(4), outside=20)
    assert merged(file, url) == merged(url, back) == (1, 0, 5, 5)
    assert contents(file) == contents(url) == contents(back)
    with open_archive(file, read_only=True) as before, open_archive(back, read_only=True) as after:
        assert find_flaws(after) == ()
        assert lineage_hash(before, ONE) == lineage_hash(after, ONE)
        assert before.scored(ONE) == after.scored(ONE)


def test_the_command_says_what_it_copied(two: tuple[str, str]) -> None:
    one, other = two
    command = [sys.executable, "-c", "from kernelevo.cli import main; main()", "archive", "merge", other]
    for said in (
        "1 runs, 4 candidates and 5 evaluations copied\n",
        "0 runs, 0 candidates and 0 evaluations copied; 1 runs were here already\n",
    ):
        done = subprocess.run([*command, "--archive", one], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (0, said), done.stderr


def test_what_came_outside_runs_is_copied_once_though_its_run_is_known(two: tuple[str, str]) -> None:
    one, other = two
    merged(other, one)
    with open_archive(other) as archive:
        late = examples.candidate(40)
        archive.record_evaluation(examples.task(), late, examples.passed(late.id))
    assert merged(other, one) == (0, 1, 1, 1)
    assert merged(other, one) == (0, 1, 0, 0)


def test_a_merge_that_fails_changes_nothing(two: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = two
    before = contents(one)
    monkeypatch.setattr("kernelevo.archive.merge.count", lambda *_: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        merged(other, one)
    assert contents(one) == before


def test_every_column_that_holds_a_number_of_another_table_is_translated() -> None:
    numbered = {"tasks", "evaluations", "attempts", "calls", "hints", "lessons", "leases"}
    columns = {
        (column.name, foreign.column.table.name)
        for table in t.Base.metadata.sorted_tables
        for column in table.columns
        for foreign in column.foreign_keys
        if foreign.column.table.name in numbered and foreign.column.name == "id"
    }
    assert columns == set(REFERENCES.items())
