"""The archive as a file: killed writers, two writers, full disks, other people's files."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import archive_examples as examples
import pytest

from kernelevo.archive import Archive, open_archive
from kernelevo.errors import ArchiveError, SchemaError, UsageError

TASK = examples.task()
RUN = examples.run()


@pytest.fixture
def archive(path: Path) -> Iterator[Archive]:
    """In a file; what holds for PostgreSQL too is tested elsewhere."""
    with open_archive(path) as opened:
        yield opened


WRITER = """
    import sys
    sys.path.insert(0, {tests!r})
    import archive_examples as examples
    from dataclasses import replace
    from kernelevo.archive import open_archive

    path, run_id, first, count = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    run = replace(examples.run(), id=run_id)
    with open_archive(path) as archive:
        if first == 0:
            archive.create_run(run, examples.task())
        parent = None
        for iteration in range(first, first + count):
            job = examples.job(iteration, *([parent] if parent else []), of=run_id)
            archive.record_job(job)
            archive.record_reply(job, 0, examples.prompt(), examples.reply())
            print("replied", iteration, flush=True)
            candidate = examples.candidate(iteration, *job.parents)
            archive.record(job, candidate, examples.passed(candidate.id))
            print("told", iteration, flush=True)
            parent = candidate.id
"""


def start_writer(path: Path, *, run: str = RUN.id, first: int = 0, count: int = 10**9) -> subprocess.Popen[str]:
    script = textwrap.dedent(WRITER.format(tests=str(Path(__file__).parent)))
    command = [sys.executable, "-c", script, str(path), run, str(first), str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def integrity(path: Path) -> list[str]:
    connection = sqlite3.connect(path)
    try:
        problems = [row[0] for row in connection.execute("PRAGMA integrity_check") if row[0] != "ok"]
        return problems + [str(row) for row in connection.execute("PRAGMA foreign_key_check")]
    finally:
        connection.close()


def test_a_writer_killed_at_any_moment_leaves_everything_it_reported(path: Path) -> None:
    first = 0
    for wait in (0.0, 0.011, 0.023, 0.037):
        writer = start_writer(path, first=first)
        assert writer.stdout is not None
        lines = [writer.stdout.readline()]
        time.sleep(wait)
        writer.send_signal(signal.SIGKILL)
        lines += writer.stdout.readlines()
        writer.wait()
        replied = {int(line.split()[1]) for line in lines if line.startswith("replied") and line.endswith("\n")}
        told = {int(line.split()[1]) for line in lines if line.startswith("told") and line.endswith("\n")}
        assert replied, "the writer was killed before it did anything"
        with open_archive(path) as archive:
            progress = archive.progress(RUN.id)
            pending = {p.job.iteration for p in progress.pending if p.replies}
            assert told <= progress.told
            assert replied <= progress.told | pending
            assert all(archive.evaluations(s.candidate) for s in archive.scored(RUN.id))
            for waiting in progress.pending:  # as evolve --resume does
                archive.record(waiting.job, None, None, reason="given up in this test")
            first = archive.progress(RUN.id).next_iteration
        assert integrity(path) == []


def test_a_process_killed_while_it_creates_the_archive_leaves_one_that_opens(tmp_path: Path) -> None:
    script = """
    import os, signal, sys
    from sqlalchemy import event
    from sqlalchemy.engine import Engine
    from kernelevo.archive import open_archive

    seen = 0
    @event.listens_for(Engine, "after_cursor_execute")
    def count(*_):
        global seen
        seen += 1
        if seen == int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)
    open_archive(sys.argv[1])
    """
    for statement in (1, 5, 20, 50):
        path = tmp_path / f"{statement}.sqlite"
        command = [sys.executable, "-c", textwrap.dedent(script), str(path), str(statement)]
        assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
        with open_archive(path) as archive:
            archive.create_run(RUN, TASK)
        assert integrity(path) == []


def test_two_processes_write_to_one_archive_at_once_from_the_very_start(path: Path) -> None:
    writers = [start_writer(path, run=f"r-00000000000{i}", count=40) for i in (1, 2)]
    for writer in writers:
        output, _ = writer.communicate(timeout=120)
        assert writer.returncode == 0
        assert output.count("told") == 40
    with open_archive(path) as archive:
        for entry in archive.list_runs():
            assert entry.attempts == 40
            assert len(archive.scored(entry.run.id)) == 40
        assert len(archive.list_runs()) == 2
    assert integrity(path) == []


def test_after_close_one_file_holds_everything(path: Path, tmp_path: Path) -> None:
    with open_archive(path) as archive:
        archive.create_run(RUN, TASK)
    assert os.listdir(tmp_path) == [path.name]
    mailed = tmp_path / "elsewhere.sqlite"
    mailed.write_bytes(path.read_bytes())
    with open_archive(mailed, read_only=True) as archive:
        assert archive.get_run(RUN.id) == RUN


def test_after_close_the_file_is_whole_even_while_somebody_browses_it(path: Path, tmp_path: Path) -> None:
    open_archive(path).close()
    browser = sqlite3.connect(path)
    browser.execute("SELECT COUNT(*) FROM leaderboard").fetchone()
    with open_archive(path) as archive:
        archive.create_run(RUN, TASK)
    mailed = tmp_path / "elsewhere.sqlite"
    mailed.write_bytes(path.read_bytes())
    browser.close()
    with open_archive(mailed, read_only=True) as archive:
        assert archive.get_run(RUN.id) == RUN


def test_reading_only_writes_nothing(path: Path, tmp_path: Path) -> None:
    with open_archive(path) as archive:
        archive.create_run(RUN, TASK)
    before = (path.read_bytes(), path.stat().st_mtime_ns)
    with open_archive(path, read_only=True) as archive:
        assert archive.list_runs()[0].run == RUN
        assert archive.leaderboard() == []
        for write in (
            lambda: archive.finish_run(RUN.id),
            lambda: archive.record_job(examples.job(0)),
            lambda: archive.record_evaluation(TASK, examples.candidate(0), examples.passed(examples.candidate(0).id)),
        ):
            with pytest.raises(ArchiveError, match="cannot be written"):
                write()
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before
    assert os.listdir(tmp_path) == [path.name]


def test_reading_only_does_not_create_an_archive(path: Path) -> None:
    with pytest.raises(ArchiveError, match="there is no archive at") as caught:
        open_archive(path, read_only=True)
    assert "kernelevo evolve" in str(caught.value)
    assert not path.exists()


def test_a_newer_schema_is_refused_by_name_and_left_alone(path: Path) -> None:
    open_archive(path).close()
    connection = sqlite3.connect(path)
    with connection:
        connection.execute("UPDATE alembic_version SET version_num = '9042'")
    connection.close()
    before = path.read_bytes()
    for read_only in (False, True):
        with pytest.raises(SchemaError, match=r"schema 9042, and this kernelevo knows only up to 0004") as caught:
            open_archive(path, read_only=read_only)
        assert "update kernelevo" in str(caught.value)
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"not a database, but a text\n" * 100, b"SQLite format 3\0" + b"\xff" * 4096])
def test_a_file_that_is_not_sqlite_is_refused_and_left_alone(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    for read_only in (False, True):
        with pytest.raises(ArchiveError) as caught:
            open_archive(path, read_only=read_only)
        assert str(path) in str(caught.value)
        assert caught.value.next_step
    assert path.read_bytes() == content


def test_somebody_elses_database_is_refused_and_left_alone(path: Path) -> None:
    connection = sqlite3.connect(path)
    with connection:
        connection.execute("CREATE TABLE alembic_version (version_num TEXT)")
        connection.execute("INSERT INTO alembic_version VALUES ('0002')")
    connection.close()
    before = path.read_bytes()
    for read_only in (False, True):
        with pytest.raises(ArchiveError, match="not an archive of kernelevo"):
            open_archive(path, read_only=read_only)
    assert path.read_bytes() == before


def test_a_damaged_archive_is_named_as_such(path: Path) -> None:
    with open_archive(path) as archive:
        for number in range(20):
            candidate = examples.candidate(number)
            archive.record_evaluation(TASK, candidate, examples.passed(candidate.id))
    content = bytearray(path.read_bytes())
    content[4096 * 3 :] = b"\xa5" * (len(content) - 4096 * 3)
    path.write_bytes(content)
    with pytest.raises(ArchiveError, match="is damaged") as caught, open_archive(path) as archive:
        archive.leaderboard()
        archive.list_runs()
        archive.candidate(examples.candidate(3).id)
    assert ".recover" in str(caught.value)


def test_a_missing_folder_is_named_with_the_command_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match="its folder does not exist") as caught:
        open_archive(tmp_path / "none" / "archive.sqlite")
    assert f"mkdir -p {tmp_path / 'none'}" in str(caught.value)


def test_a_folder_in_the_place_of_the_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match="cannot be opened"):
        open_archive(tmp_path)


def test_an_archive_that_another_process_keeps_locked_is_named_after_the_timeout(path: Path) -> None:
    open_archive(path).close()
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    try:
        with open_archive(path, busy_timeout_seconds=0.1) as archive:
            assert archive.list_runs() == []  # reading is not blocked
            with pytest.raises(ArchiveError, match="is locked by another process"):
                archive.create_run(RUN, TASK)
            holder.execute("ROLLBACK")
            archive.create_run(RUN, TASK)
    finally:
        holder.close()


def test_a_full_database_keeps_what_it_had_and_takes_more_when_there_is_room(archive: Archive) -> None:
    archive.create_run(RUN, TASK)

    def limit_pages(pages: int) -> None:
        with archive.engine.connect() as connection:
            connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")

    limit_pages(1)  # SQLite takes the present size instead
    with pytest.raises(ArchiveError, match="the disk is full") as caught:
        for iteration in range(1000):
            candidate = examples.candidate(iteration)
            archive.record(examples.job(iteration), candidate, examples.passed(candidate.id))
    assert "--resume" in str(caught.value)
    told = archive.told(RUN.id)
    assert told == set(range(len(told)))
    assert len(archive.scored(RUN.id)) == len(told)
    limit_pages(10**6)
    candidate = examples.candidate(len(told))
    archive.record(examples.job(len(told)), candidate, examples.passed(candidate.id))
    assert len(archive.scored(RUN.id)) == len(told) + 1


def test_a_disk_that_takes_no_more_bytes_is_an_archive_error_and_loses_nothing(path: Path) -> None:
    script = """
    import resource, sys
    sys.path.insert(0, {tests!r})
    import archive_examples as examples
    from kernelevo.archive import open_archive
    from kernelevo.errors import ArchiveError

    with open_archive(sys.argv[1]) as archive:
        archive.create_run(examples.run(), examples.task())
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, resource.RLIM_INFINITY))
        try:
            for iteration in range(100_000):
                candidate = examples.candidate(iteration)
                archive.record(examples.job(iteration), candidate, examples.passed(candidate.id))
                done = iteration
        except ArchiveError as error:
            print(done + 1)
            print(error)
            print(archive.list_runs()[0].attempts)
    """
    script = textwrap.dedent(script.format(tests=str(Path(__file__).parent)))
    ended = subprocess.run(
        [sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=False, timeout=120
    )
    assert ended.returncode == 0, ended.stderr
    told, message, next_step, still_there = ended.stdout.splitlines()
    assert "disk is full" in message
    assert "next:" in next_step
    assert told == still_there != "0"
    with open_archive(path) as archive:
        assert archive.list_runs()[0].attempts == int(told)
    assert integrity(path) == []


@pytest.mark.parametrize("read_only", [True, False])
def test_a_read_only_folder_can_be_read_but_not_written(read_only: bool) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as temporary:  # pytest's own folders are closed to nobody
        folder = Path(temporary)
        path = folder / "archive.sqlite"
        with open_archive(path) as archive:
            archive.create_run(RUN, TASK)
        path.chmod(0o444)
        folder.chmod(0o555)
        found = as_nobody(lambda: describe_opening(path, read_only=read_only))
        newly = as_nobody(lambda: describe_opening(folder / "new.sqlite", read_only=False))
        folder.chmod(0o755)
        assert os.listdir(folder) == [path.name]
    if read_only:
        assert found == "1 run"
    else:
        assert "cannot be written" in found and "permissions" in found
    assert "cannot be opened" in newly


def describe_opening(path: Path, *, read_only: bool) -> str:
    try:
        with open_archive(path, read_only=read_only) as archive:
            count = len(archive.list_runs())
            if not read_only:
                archive.finish_run(RUN.id)
            return f"{count} run"
    except ArchiveError as error:
        return str(error)


def as_nobody(action: Callable[[], str]) -> str:
    """The action's result in a child process without root's right to write anywhere."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if os.getuid() == 0:
                os.setuid(65534)
            text = action()
        except BaseException as error:
            text = repr(error)
        os.write(writer, text.encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as stream:
        text = stream.read()
    os.waitpid(child, 0)
    return text


def test_urls_name_an_archive_too(path: Path) -> None:
    with open_archive(f"sqlite:///{path}") as archive:
        archive.create_run(RUN, TASK)
    with open_archive(str(path)) as archive:
        assert archive.get_run(RUN.id) == RUN


def test_a_path_may_hold_spaces_and_signs_that_mean_something_in_a_url(tmp_path: Path) -> None:
    path = tmp_path / "my archive #1?%20&mode=ro.sqlite"
    with open_archive(path) as archive:
        archive.create_run(RUN, TASK)
    with open_archive(path, read_only=True) as archive:
        assert archive.get_run(RUN.id) == RUN
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize(
    "url", ["sqlite://", "sqlite:///:memory:", "mysql://host/x", "nonsense+x://y", "postgresql+no://h/d"]
)
def test_urls_of_another_kind_are_usage_errors(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        open_archive(url)
    assert caught.value.next_step


def test_importing_the_archive_does_not_import_alembic(path: Path) -> None:
    script = "import sys; from kernelevo.archive import open_archive; open_archive(sys.argv[1]).close();"
    script += "print([m for m in ('alembic', 'torch', 'psycopg', 'mako') if m in sys.modules])"
    ended = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "[]"
