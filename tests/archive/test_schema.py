"""Tables, migrations and the documents made from them agree."""

from __future__ import annotations

import re
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import archive_examples as examples
import pytest

from kernelevo.archive import document, open_archive, schema
from kernelevo.archive.connection import connect, writing
from kernelevo.archive.tables import Base
from kernelevo.archive.views import VIEWS

DB = Path(__file__).resolve().parents[2] / "db"
OUTER_COMMA = re.compile(r",(?![^()]*\))")


def migrate(place: Path | str, revision: str) -> None:
    """An archive as an older kernelevo left it: made by the migrations up to a revision."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(schema.migrations_folder()))
    engine = connect(place, read_only=False, busy_timeout_seconds=1)
    with writing(engine) as connection:
        if engine.dialect.name == "sqlite":
            connection.exec_driver_sql(f"PRAGMA application_id = {schema.APPLICATION_ID}")
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
    engine.dispose()


def structure(path: Path) -> dict[tuple[str, str], set[str]]:
    """Every table, index and view with the parts of its statement; the order of columns and constraints means nothing.

    ALTER TABLE ADD COLUMN writes a column into the line of the one before.
    """
    connection = sqlite3.connect(path)
    try:
        found = connection.execute("SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
    finally:
        connection.close()
    return {
        (kind, name): {part.strip() for line in sql.splitlines() for part in OUTER_COMMA.split(line) if part.strip()}
        for kind, name, sql in found
    }


def test_migrations_from_nothing_and_the_tables_of_today_are_the_same(tmp_path: Path) -> None:
    migrate(tmp_path / "migrated.sqlite", "head")
    open_archive(tmp_path / "created.sqlite").close()
    migrated, created = structure(tmp_path / "migrated.sqlite"), structure(tmp_path / "created.sqlite")
    assert migrated == created
    assert {name for kind, name in created if kind == "table"} == {*Base.metadata.tables, "alembic_version"}
    assert {name for kind, name in created if kind == "view"} == set(VIEWS)


def test_the_head_of_the_migrations_is_the_revision_that_the_code_expects() -> None:
    from alembic.script import ScriptDirectory

    assert ScriptDirectory(str(schema.migrations_folder())).get_current_head() == schema.REVISION


def test_an_older_archive_is_upgraded_when_it_is_opened_and_keeps_its_rows(path: Path) -> None:
    migrate(path, "0001")
    connection = sqlite3.connect(path)
    with connection:
        connection.execute("INSERT INTO tasks VALUES (1, 'rmsnorm', 't-1', 'title', 'signature', 'description')")
    connection.close()
    with pytest.raises(schema.ArchiveError, match="older schema 0001") as caught:
        open_archive(path, read_only=True)
    assert f"kernelevo archive upgrade --archive {path}" in str(caught.value)
    with open_archive(path) as archive:
        archive.create_run(examples.run(), examples.task())
        assert archive.get_run(examples.run().id).task_digest == "t-1"
    open_archive(path.with_name("new.sqlite")).close()
    assert structure(path) == structure(path.with_name("new.sqlite"))


def test_an_upgrade_that_fails_leaves_the_older_archive_as_it_was(path: Path, tmp_path: Path) -> None:
    migrate(path, "0001")
    connection = sqlite3.connect(path)
    with connection:
        connection.execute("CREATE TABLE history (somebody TEXT)")  # the name of a view that 0002 makes
    connection.close()
    before = structure(path)
    with pytest.raises(schema.ArchiveError):
        open_archive(path)
    assert structure(path) == before


def test_two_processes_upgrade_one_archive_at_once(path: Path) -> None:
    migrate(path, "0001")
    script = "import sys; from kernelevo.archive import open_archive; open_archive(sys.argv[1]).close()"
    processes = [subprocess.Popen([sys.executable, "-c", script, str(path)]) for _ in range(2)]
    assert [process.wait(timeout=60) for process in processes] == [0, 0]
    open_archive(path, read_only=True).close()


def test_migrations_are_found_inside_an_installed_package(tmp_path: Path) -> None:
    """setup.py copies db/migrations into kernelevo/archive/migrations when it builds a wheel."""
    root = DB.parent
    built = tmp_path / "lib"
    shutil.copytree(root / "kernelevo", tmp_path / "source" / "kernelevo", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.py", "pyproject.toml", "README.md", "db", "tasks"):
        if (root / name).is_dir():
            shutil.copytree(root / name, tmp_path / "source" / name, ignore=shutil.ignore_patterns("*.sqlite*"))
        elif (root / name).exists():
            shutil.copy(root / name, tmp_path / "source" / name)
    subprocess.run(
        [sys.executable, "setup.py", "-q", "build_py", "--build-lib", str(built)],
        cwd=tmp_path / "source",
        check=True,
        capture_output=True,
    )
    script = (
        "import sys; sys.path.insert(0, sys.argv[1]); from kernelevo.archive import open_archive, schema;"
        "print(schema.migrations_folder()); open_archive(sys.argv[2]).close()"
    )
    old = tmp_path / "old.sqlite"
    migrate(old, "0001")
    ended = subprocess.run(
        [sys.executable, "-I", "-c", script, str(built), str(old)], capture_output=True, text=True, check=True
    )
    assert ended.stdout.strip() == str(built / "kernelevo" / "archive" / "migrations")


def test_schema_sql_and_the_reference_in_the_readme_are_up_to_date() -> None:
    hint = "run: python -m kernelevo.archive.document db"
    assert (DB / "schema.sql").read_text() == document.schema_sql(), hint
    assert document.reference() in (DB / "README.md").read_text(), hint


def test_schema_sql_makes_the_same_tables(path: Path, tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "by-hand.sqlite")
    connection.executescript((DB / "schema.sql").read_text())
    connection.close()
    open_archive(path).close()
    by_hand, ours = structure(tmp_path / "by-hand.sqlite"), structure(path)
    del ours["table", "alembic_version"]
    assert by_hand == ours


def test_every_column_says_what_it_means() -> None:
    unexplained = [
        str(column) for table in Base.metadata.tables.values() for column in table.columns if not column.comment
    ]
    assert unexplained == []


def test_no_column_holds_json_and_durations_carry_their_unit() -> None:
    for table in Base.metadata.tables.values():
        for column in table.columns:
            assert "JSON" not in str(column.type).upper()
            if str(column.type) == "DOUBLE" and ("time" in column.name or column.name.endswith("duration")):
                raise AssertionError(f"{column} does not name its unit")
