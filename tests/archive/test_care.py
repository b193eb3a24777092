"""What is wrong with an archive is found, told by its row, and nothing else is."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from pathlib import Path

import archive_examples as examples
import pytest
from postgresql_server import Server
from sqlalchemy import create_engine, text
from test_schema import migrate

from kernelevo.archive import Archive, open_archive, schema
from kernelevo.archive.care import Flaw, find_flaws, upgrade, vacuum
from kernelevo.errors import ArchiveError, UsageError


def fill(archive: Archive) -> None:
    """With a run of everything."""
    archive.create_run(examples.run(), examples.task())
    parents: tuple[str, ...] = ()
    for iteration, judge in enumerate((examples.passed, examples.wrong, examples.passed)):
        job = archive.record_job(examples.job(iteration, *parents))
        archive.record_reply(job, 0, examples.prompt(), examples.reply())
        candidate = examples.candidate(iteration, *parents)
        archive.record(job, candidate, judge(candidate.id))
        parents = (candidate.id,)


@pytest.fixture
def filled(path: Path) -> Path:
    with open_archive(path) as archive:
        fill(archive)
    return path


@pytest.fixture
def filled_place(place: str) -> str:
    with open_archive(place) as archive:
        fill(archive)
    return place


def flaws_of(place: Path | str) -> tuple[Flaw, ...]:
    with open_archive(place, read_only=True) as archive:
        return find_flaws(archive)


def change(place: Path | str, statement: str) -> None:
    """From outside: by somebody who does not care for references."""
    engine = create_engine(f"sqlite:///{place}" if "://" not in str(place) else str(place))
    with engine.begin() as connection:
        assert connection.execute(text(statement)).rowcount > 0
    engine.dispose()


def test_an_archive_as_it_was_written_is_whole_and_is_left_as_it_is(filled: Path) -> None:
    before = filled.read_bytes()
    assert flaws_of(filled) == ()
    assert filled.read_bytes() == before
    assert [file.name for file in filled.parent.iterdir()] == [filled.name]


@pytest.mark.parametrize(
    ("statement", "tables", "text"),
    [
        ("UPDATE sources SET text = text || ' '", {"sources", "candidates"}, "hash of"),
        ("UPDATE candidates SET entry = 'backward'", {"candidates"}, "hash of"),
        ("UPDATE messages SET text = 'Make it slower.'", {"messages"}, "hash of"),
        ("UPDATE cases SET seed = seed + 1", {"cases"}, "hash of"),
        ("UPDATE case_sizes SET value = value + 1", {"cases"}, "hash of"),
        ("UPDATE timings SET score_ns = score_ns / 2", {"timings"}, "its cases' mean"),
        ("UPDATE case_timings SET median_ns = median_ns * 1.001", {"timings"}, "its cases' mean"),
        ("UPDATE verdicts SET outcome = 'wrong'", {"timings"}, "its verdict is wrong"),
    ],
)
def test_every_change_from_outside_is_found(filled_place: str, statement: str, tables: set[str], text: str) -> None:
    assert flaws_of(filled_place) == ()
    change(filled_place, statement)
    found_with(flaws_of(filled_place), tables, text)


@pytest.mark.parametrize(
    ("statement", "tables", "text"),
    [
        ("DELETE FROM sources", {"candidates"}, "names a row of sources that does not exist"),
        ("DELETE FROM jobs WHERE iteration = 1", {"attempts", "prompts"}, "names a row of jobs that does not exist"),
    ],
)
def test_what_a_server_would_refuse_is_found_in_a_file(
    filled: Path, statement: str, tables: set[str], text: str
) -> None:
    change(filled, statement)
    found_with(flaws_of(filled), tables, text)


def found_with(found: tuple[Flaw, ...], tables: set[str], words: str) -> None:
    assert tables <= {flaw.table for flaw in found}
    assert all(words in flaw.text for flaw in found if flaw.table in tables)
    assert all(flaw.row for flaw in found if flaw.table in ("sources", "candidates", "messages", "cases", "timings"))


@pytest.mark.postgres
def test_a_server_is_not_vacuumed_and_is_upgraded_where_it_has_an_archive(server: Server) -> None:
    with pytest.raises(UsageError, match="vacuums its databases itself"):
        vacuum(server.new_database(like="template"))
    assert upgrade(server.new_database(like="template")) == (schema.REVISION, schema.REVISION)
    with pytest.raises(UsageError, match="is empty"):
        upgrade(server.new_database())


def test_the_command_tells_whole_from_flawed_by_its_exit_code(filled: Path) -> None:
    def verify(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", "from kernelevo.cli import main; main()", "archive", "verify"]
        return subprocess.run(
            [*command, "--archive", str(filled), *arguments], capture_output=True, text=True, check=False
        )

    whole = verify()
    assert (whole.returncode, whole.stdout) == (0, "the archive is whole\n"), whole.stderr
    change(filled, "UPDATE candidates SET entry = 'backward'")
    assert verify().returncode == 1
    told = json.loads(verify("--json").stdout)
    assert told["whole"] is False
    assert {flaw["table"] for flaw in told["flaws"]} == {"candidates"}


def test_a_damaged_file_is_found(filled: Path) -> None:
    size = filled.stat().st_size
    with filled.open("r+b") as file:
        file.seek(size // 2)
        file.write(b"\xff" * 4096)
    try:
        found = flaws_of(filled)
    except ArchiveError as error:
        assert "damaged" in str(error)
    else:
        assert any(flaw.table == "" for flaw in found)


def test_vacuum_gives_back_what_is_not_used_and_keeps_the_rest(filled: Path) -> None:
    connection = sqlite3.connect(filled)
    with connection:
        connection.execute("CREATE TABLE ballast (data BLOB)")
        connection.execute("INSERT INTO ballast VALUES (zeroblob(1000000))")
        connection.execute("DROP TABLE ballast")
    connection.close()
    before, after = vacuum(filled)
    assert before > 1_000_000 > after == filled.stat().st_size
    assert flaws_of(filled) == ()


def test_upgrade_says_what_it_did_and_makes_no_archive(path: Path) -> None:
    with pytest.raises(UsageError, match="there is no archive"):
        upgrade(path)
    assert not path.exists()
    migrate(path, "0001")
    assert upgrade(path) == ("0001", schema.REVISION)
    assert upgrade(path) == (schema.REVISION, schema.REVISION)
    assert flaws_of(path) == ()
