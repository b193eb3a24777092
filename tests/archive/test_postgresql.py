"""The same archive in PostgreSQL. Starts a server of its own; needs PostgreSQL's programs and psycopg."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import archive_examples as examples
import pytest

from kernelevo.archive import open_archive
from kernelevo.errors import ArchiveError
from kernelevo.records import TimingKind

pytest.importorskip("psycopg", reason="needs the Python package psycopg")
pytestmark = pytest.mark.skipif(shutil.which("initdb") is None, reason="needs PostgreSQL's initdb and pg_ctl")

TASK = examples.task()
RUN = examples.run()


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """A server that listens on a socket in a temporary folder only."""
    user = "postgres" if os.getuid() == 0 else None  # PostgreSQL refuses to run as root
    with tempfile.TemporaryDirectory() as folder:
        if user:
            shutil.chown(folder, user)
        options = f"-k {folder} -h ''"
        stop = ["pg_ctl", "-D", f"{folder}/data", "-m", "immediate", "-w", "stop"]
        start = ["pg_ctl", "-D", f"{folder}/data", "-o", options, "-l", f"{folder}/log", "-w", "start"]
        initdb = ["initdb", "-D", f"{folder}/data", "-U", "tester", "-A", "trust", "--no-sync"]
        for command in (initdb, start):
            subprocess.run(command, user=user, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        try:
            yield f"postgresql+psycopg://tester@/postgres?host={folder}"
        finally:
            subprocess.run(stop, user=user, cwd=folder, check=True, stdout=subprocess.DEVNULL)


def test_an_archive_in_postgresql_gives_back_what_was_put_in(server: str) -> None:
    with open_archive(server) as archive:
        archive.create_run(RUN, TASK)
        seed = examples.candidate(0)
        archive.record(examples.job(0), seed, examples.passed(seed.id))
        child = examples.candidate(1, seed.id)
        job = examples.job(1, seed.id)
        archive.record_reply(job, 0, examples.prompt(seed), examples.reply(input_tokens=5))
        archive.record(job, child, examples.passed(child.id, median_ns=10.0))
        archive.record(examples.job(2, seed.id), child, archive.known(child.id, TASK, "emulator"))
        assert archive.get_run(RUN.id) == RUN
        assert archive.candidate(child.id[:9]) == child
        assert archive.evaluations(child.id) == [examples.passed(child.id, median_ns=10.0)]
        assert [(s.candidate, s.children) for s in archive.scored(RUN.id)] == [(seed.id, 2), (child.id, 0)]
        assert [a.candidate for a in archive.lineage(child.id).walk()] == [child.id, seed.id]
        best = archive.best(
            TASK.name, device="emulator", kind=TimingKind.PREDICTED, target="H100 SXM", method="prediction 1"
        )
        assert best is not None and best.candidate == child.id
        assert archive.ledger.cost(RUN.id).input_tokens == 5
        with archive.engine.connect() as connection:
            for view, rows in (
                ("leaderboard", 2),
                ("lineage", 1),
                ("history", 3),
                ("failures_by_stage", 0),
                ("costs", 1),
            ):
                assert connection.exec_driver_sql(f"SELECT COUNT(*) FROM {view}").scalar() == rows
        orphan = examples.candidate(5, "c-0123456789abcdef")
        with pytest.raises(ArchiveError, match="does not hold the parent c-0123456789abcdef"):
            archive.record_evaluation(TASK, orphan, examples.passed(orphan.id))
    with open_archive(server, read_only=True) as archive:
        assert len(archive.scored(RUN.id)) == 2
        with pytest.raises(ArchiveError, match="read-only"):
            archive.finish_run(RUN.id)


def test_two_writers_of_one_postgresql_archive_lose_nothing(server: str) -> None:
    problems: list[BaseException] = []

    def write(run_id: str) -> None:
        try:
            with open_archive(server) as archive:
                archive.create_run(examples.run(run_id), TASK)
                for iteration in range(20):
                    candidate = examples.candidate(iteration)
                    archive.record(examples.job(iteration, of=run_id), candidate, examples.passed(candidate.id))
                    archive.scored(run_id)
                assert [s.iteration for s in archive.scored(run_id)] == list(range(20))
        except BaseException as error:
            problems.append(error)

    writers = [threading.Thread(target=write, args=(f"r-0000000000a{i}",)) for i in range(2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert problems == []


def test_a_server_that_cannot_be_reached_is_an_archive_error(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError) as caught:
        open_archive(f"postgresql+psycopg://tester:secret@/postgres?host={tmp_path}")
    assert "secret" not in str(caught.value)
    assert caught.value.next_step
