"""Every released schema becomes today's: an archive as each revision left it is upgraded, listed, verified and read.

`released/REVISION.sql` is such an archive, whole: tables, views and at least one row in every table. They are never
edited; `python tests/archive/test_upgrades.py` writes the one of a new revision before it is released.
"""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import archive_examples as examples
import pytest
from postgresql_server import Server
from sqlalchemy import MetaData, create_engine, select
from test_postgresql import structure as structure_in_postgresql
from test_reading import invoke
from test_schema import migrate, structure

from kernelevo.archive import open_archive, schema
from kernelevo.archive.care import find_flaws, upgrade
from kernelevo.archive.tables import Base

RELEASED = Path(__file__).parent / "released"
REVISIONS = sorted(path.name.split("_")[0] for path in (schema.migrations_folder() / "versions").glob("[0-9]*.py"))
CHILD = examples.candidate(1).id


def released(revision: str, path: Path) -> Path:
    """An archive as that revision left it."""
    connection = sqlite3.connect(path)
    connection.executescript((RELEASED / f"{revision}.sql").read_text())
    connection.close()
    return path


def rows(path: Path, tables: dict[str, list[str]]) -> dict[str, list[tuple[Any, ...]]]:
    """What the given columns of the given tables hold."""
    connection = sqlite3.connect(path)
    try:
        return {
            table: sorted(connection.execute(f"SELECT {', '.join(columns)} FROM {table}").fetchall(), key=str)
            for table, columns in tables.items()
        }
    finally:
        connection.close()


def columns(path: Path) -> dict[str, list[str]]:
    """Tables with their columns; of alembic_version none."""
    connection = sqlite3.connect(path)
    try:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        found = {t: [f'"{row[1]}"' for row in connection.execute(f"PRAGMA table_info({t})")] for t in tables}
        return {table: names for table, names in found.items() if table in Base.metadata.tables}
    finally:
        connection.close()


def test_there_is_an_archive_of_every_revision_and_nobody_edited_a_migration(tmp_path: Path) -> None:
    assert sorted(path.stem for path in RELEASED.iterdir()) == REVISIONS, "run: python tests/archive/test_upgrades.py"
    for revision in REVISIONS:
        migrate(tmp_path / f"{revision}.sqlite", revision)
        frozen = released(revision, tmp_path / f"{revision}-released.sqlite")
        assert structure(tmp_path / f"{revision}.sqlite") == structure(frozen)


@pytest.mark.parametrize("revision", REVISIONS)
def test_an_archive_of_each_revision_is_upgraded_and_keeps_everything(revision: str, tmp_path: Path) -> None:
    path = released(revision, tmp_path / "old.sqlite")
    held = columns(path)
    before = rows(path, held)
    assert all(before.values()), "a row in every table"
    said = invoke(("archive", "upgrade"), path)
    done = "nothing to do" if revision == schema.REVISION else f"-> {schema.REVISION}"
    assert said.startswith(f"schema {revision}") and done in said
    assert rows(path, held) == before
    open_archive(tmp_path / "new.sqlite").close()
    assert structure(path) == structure(tmp_path / "new.sqlite")

    assert invoke(("archive", "verify"), path) == "the archive is whole\n"
    (listed,) = json.loads(invoke(("archive", "list", "--json"), path))
    assert (listed["run"]["id"], listed["attempts"], listed["candidates"]) == (examples.run().id, 3, 2)
    places = json.loads(invoke(("archive", "best", "rmsnorm", "--json"), path))
    assert {place["candidate"] for place in places} == {examples.candidate(0).id, CHILD}
    shown = json.loads(invoke(("archive", "show", CHILD, "--json"), path))
    assert shown["candidate"]["source"] == examples.candidate(1).source
    assert shown["evaluations"][0]["passed"]
    for read in (("show", examples.run().id), ("lineage", CHILD), ("export",)):
        assert not invoke(("archive", *read), path).startswith("exit code")
    with open_archive(path) as archive:  # and it goes on
        child = examples.candidate(7, CHILD)
        archive.record(examples.job(3, CHILD), child, examples.passed(child.id))
        assert [s.iteration for s in archive.scored(examples.run().id)] == [0, 1, 3]
        assert find_flaws(archive) == ()


@pytest.mark.parametrize("revision", REVISIONS[:-1])
def test_an_older_archive_that_is_only_read_is_told_how_to_become_readable(revision: str, tmp_path: Path) -> None:
    path = released(revision, tmp_path / "old.sqlite")
    before = path.read_bytes()
    for command in (("archive", "list"), ("archive", "verify"), ("archive", "export")):
        said = invoke(command, path)
        assert f"older schema {revision}" in said and "kernelevo archive upgrade" in said
    assert path.read_bytes() == before


def test_an_archive_of_a_newer_version_is_refused_by_every_command_and_left_alone(tmp_path: Path) -> None:
    path = released(REVISIONS[-1], tmp_path / "newer.sqlite")
    connection = sqlite3.connect(path)
    with connection:
        connection.execute("UPDATE alembic_version SET version_num = '9042'")
    connection.close()
    before = path.read_bytes()
    for command in (("list",), ("verify",), ("export",), ("upgrade",), ("vacuum",)):
        said = invoke(("archive", *command), path)
        assert f"{path} has schema 9042, and this kernelevo knows only up to {schema.REVISION}" in said
        assert "update kernelevo" in said
    assert path.read_bytes() == before


@pytest.mark.postgres
@pytest.mark.parametrize("revision", REVISIONS)
def test_an_archive_of_each_revision_is_upgraded_in_postgresql_too(
    revision: str, server: Server, tmp_path: Path
) -> None:
    url = server.new_database()
    migrate(url, revision)
    copy_rows(released(revision, tmp_path / "old.sqlite"), url)
    assert upgrade(url) == (revision, schema.REVISION)
    assert structure_in_postgresql(url) == structure_in_postgresql(server.url("template"))
    with open_archive(url) as archive:
        assert find_flaws(archive) == ()
        assert [s.iteration for s in archive.scored(examples.run().id)] == [0, 1]
        child = examples.candidate(7, CHILD)
        archive.record(examples.job(3, CHILD), child, examples.passed(child.id))


def copy_rows(path: Path, url: str) -> None:
    """Into tables of the same revision."""
    source, target = create_engine(f"sqlite:///{path}"), create_engine(url)
    metadata = MetaData()
    metadata.reflect(target)
    with source.connect() as old, target.begin() as new:
        for table in metadata.sorted_tables:
            if table.name != "alembic_version":
                new.execute(table.insert(), [dict(row) for row in old.execute(select(table)).mappings()])
    source.dispose()
    target.dispose()


def write(revision: str, folder: Path) -> None:
    """Writes an archive as that revision left it: today's example with the tables and columns that it has."""
    full, old = folder / "full.sqlite", folder / f"{revision}.sqlite"
    with open_archive(full) as archive:
        examples.fill_everything(archive)
    migrate(old, revision)
    connection = sqlite3.connect(old)
    connection.execute("ATTACH ? AS full", (str(full),))
    with connection:
        for table, names in columns(old).items():
            given = ", ".join(names)
            connection.execute(f"INSERT INTO {table} ({given}) SELECT {given} FROM full.{table}")
    connection.execute("DETACH full")
    dump = [f"PRAGMA application_id = {schema.APPLICATION_ID};", *connection.iterdump()]
    connection.close()
    (RELEASED / f"{revision}.sql").write_text("\n".join(dump) + "\n")


if __name__ == "__main__":
    import tempfile

    for missing in sorted(set(REVISIONS) - {path.stem for path in RELEASED.iterdir()}):
        with tempfile.TemporaryDirectory() as temporary:
            write(missing, Path(temporary))
