"""What only an archive in PostgreSQL has: a server that others use, users and rights, a schema made by migrations.

What holds for every archive is tested on both: see the fixtures `place` and `archive`.
"""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path

import archive_examples as examples
import pytest
from postgresql_server import Server
from small_task import write_small_task
from sqlalchemy import inspect

from kernelevo import evolve, load_task
from kernelevo.archive import Archive, open_archive, schema
from kernelevo.archive.care import find_flaws
from kernelevo.archive.connection import connect, reading, writing
from kernelevo.devices.emulator import EmulatorDevice
from kernelevo.errors import ArchiveError, SchemaError, UsageError
from kernelevo.lineage import lineage_hash

pytestmark = pytest.mark.postgres

TASK = examples.task()
RUN = examples.run()


@pytest.fixture
def url(server: Server) -> str:
    return server.new_database(like="template")


def test_two_writers_that_find_an_empty_database_lose_nothing(server: Server) -> None:
    empty = server.new_database()
    problems: list[BaseException] = []

    def write(run_id: str) -> None:
        try:
            with open_archive(empty) as archive:
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


def test_a_reader_sees_one_state_from_beginning_to_end(url: str) -> None:
    query = "SELECT COUNT(*) FROM runs"
    with open_archive(url) as writer, open_archive(url, read_only=True) as reader:
        with reading(reader.engine) as connection:
            assert connection.exec_driver_sql(query).scalar() == 0
            writer.create_run(RUN, TASK)
            assert connection.exec_driver_sql(query).scalar() == 0
        with reading(reader.engine) as connection:
            assert connection.exec_driver_sql(query).scalar() == 1


def test_a_run_that_is_held_is_free_again_when_its_process_was_killed(url: str) -> None:
    script = """
    import os, signal, sys
    from kernelevo.archive import open_archive
    with open_archive(sys.argv[1]) as archive, archive.holding(sys.argv[2]):
        print("held", flush=True)
        sys.stdin.read()
    """
    command = [sys.executable, "-c", textwrap.dedent(script), url, RUN.id]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with open_archive(url) as archive:
            with pytest.raises(UsageError, match="under way in another process"), archive.holding(RUN.id):
                pass
            holder.kill()
            holder.wait()
            wait_until(lambda: can_be_held(archive))


def can_be_held(archive: Archive) -> bool:
    try:
        with archive.holding(RUN.id):
            return True
    except UsageError:
        return False


def wait_until(condition: Callable[[], bool]) -> None:
    for _ in range(200):
        if condition():
            return
        threading.Event().wait(0.05)
    raise AssertionError("it did not happen within ten seconds")


@pytest.mark.nvcc
@pytest.mark.slow
def test_a_run_in_a_server_goes_on_is_repeated_and_is_the_one_that_a_file_has(
    server: Server, emulator: EmulatorDevice, tmp_path: Path
) -> None:
    """Into a database that nobody has touched yet."""
    small = load_task(str(write_small_task(tmp_path)))
    hashes = set()
    for place in (server.new_database(), str(tmp_path / "file.sqlite")):
        with open_archive(place) as archive:
            run = evolve(small, archive, device=emulator, generations=1, population=2, seed=3).run
            assert evolve(small, archive, device=emulator, resume=run.id).run == run
            again = evolve(small, archive, device=emulator, replay=run.id).run
            assert find_flaws(archive) == ()
            hashes |= {lineage_hash(archive, one.id) for one in (run, again)}
            assert len(archive.leaderboard(small.name)) >= 1
    assert len(hashes) == 1


# --- what goes wrong, in words


def test_a_server_that_cannot_be_reached_is_an_archive_error_without_the_password(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError) as caught:
        open_archive(f"postgresql+psycopg://tester:secret@/postgres?host={tmp_path}")
    assert "secret" not in str(caught.value)
    assert caught.value.next_step


def test_an_archive_that_is_read_only_or_locked_says_so(url: str) -> None:
    with open_archive(url, read_only=True) as archive, pytest.raises(ArchiveError, match="cannot be written"):
        archive.create_run(RUN, TASK)
    with open_archive(url) as holder, open_archive(url, busy_timeout_seconds=0.1) as waiting:
        with writing(holder.engine):
            assert waiting.list_runs() == [], "reading is not blocked"
            with pytest.raises(ArchiveError, match="is locked by another process"):
                waiting.create_run(RUN, TASK)
        waiting.create_run(RUN, TASK)


def test_a_source_with_a_nul_byte_is_refused_in_words(url: str) -> None:
    candidate = examples.candidate(0)
    evil = type(candidate)(source="\0" + candidate.source, entry="forward")
    with open_archive(url) as archive, pytest.raises(ArchiveError, match="no text with a NUL byte"):
        archive.record_evaluation(TASK, evil, examples.passed(evil.id))


def test_an_unknown_database_and_a_user_without_rights_are_told_apart(server: Server) -> None:
    with pytest.raises(ArchiveError, match="does not exist"):
        open_archive(server.url("nowhere"))
    server.command("CREATE ROLE guest LOGIN")
    with pytest.raises(ArchiveError, match="may not be used like that by this user"):
        open_archive(server.new_database(like="template").replace("tester@", "guest@"))


def test_somebody_elses_tables_and_a_newer_schema_are_refused_and_left_alone(server: Server, url: str) -> None:
    foreign = server.new_database()
    execute(foreign, "CREATE TABLE customers (name TEXT)")
    for read_only in (True, False):
        with pytest.raises(ArchiveError, match="not an archive of kernelevo"):
            open_archive(foreign, read_only=read_only)
    execute(url, "UPDATE alembic_version SET version_num = '9042'")
    for read_only in (True, False):
        with pytest.raises(SchemaError, match="schema 9042"):
            open_archive(url, read_only=read_only)
    with pytest.raises(ArchiveError, match="is empty"):
        open_archive(server.new_database(), read_only=True)


def execute(place: str, statement: str) -> None:
    engine = connect(place, read_only=False, busy_timeout_seconds=1)
    with writing(engine) as connection:
        connection.exec_driver_sql(statement)
    engine.dispose()


# --- schema


def test_migrations_from_nothing_and_the_tables_of_today_are_the_same(server: Server, url: str) -> None:
    from test_schema import migrate

    migrated = server.new_database()
    migrate(migrated, schema.REVISION)
    assert structure(migrated) == structure(url)


def structure(place: str) -> dict[str, object]:
    """Tables with their columns, keys and indices, and views as the server writes them."""
    with open_archive(place, read_only=True) as archive, archive.engine.connect() as connection:
        look = inspect(connection)

        def parts(table: str) -> dict[str, object]:
            columns = {
                c["name"]: (str(c["type"]), c["nullable"], str(c["default"]).replace(table, "TABLE"))
                for c in look.get_columns(table)
            }
            constraints = (
                look.get_pk_constraint(table)["constrained_columns"],
                sorted(str(sorted(k["constrained_columns"])) + str(k["name"]) for k in look.get_foreign_keys(table)),
                sorted(str(k["name"]) for k in look.get_unique_constraints(table)),
                sorted(f"{i['name']} {i['column_names']}" for i in look.get_indexes(table)),
            )
            return {"columns": columns, "constraints": constraints}

        tables: dict[str, object] = {name: parts(name) for name in look.get_table_names()}
        views: dict[str, object] = {name: look.get_view_definition(name) for name in look.get_view_names()}
        return {**tables, **views}
