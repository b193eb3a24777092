"""Creates, checks and upgrades the tables of an archive.

A new archive is made from tables.py and views.py at once; an older one is upgraded by the Alembic migrations of
db/migrations, in one transaction. Tests hold the two ways equal. Alembic is imported only when something is upgraded.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, Engine, inspect

from kernelevo.archive.connection import describe, reading, use_write_ahead_log, writing
from kernelevo.archive.tables import Base
from kernelevo.archive.views import VIEWS
from kernelevo.errors import ArchiveError, SchemaError

REVISION = "0004"  # head of db/migrations
APPLICATION_ID = 0x6B65766F  # "kevo", in the header of the SQLite file


def prepare(engine: Engine, *, busy_timeout_seconds: float) -> None:
    """Makes the archive ready for reading and writing: creates it, upgrades it, or finds it current.

    Raises SchemaError when it was written by a newer version, ArchiveError when it is something else or unusable.
    """
    with reading(engine) as connection:
        found = revision(connection)
    if found not in (None, REVISION):
        refuse_newer(describe(engine.url), str(found))  # before anything is written
    if engine.dialect.name == "sqlite":
        use_write_ahead_log(engine, busy_timeout_seconds=busy_timeout_seconds)
    if found is None:
        with writing(engine) as connection:
            found = revision(connection)  # again: another process may have been faster
            if found is None:
                create(connection)
                return
    if found != REVISION:
        upgrade(engine)


def check(engine: Engine) -> None:
    """Raises SchemaError or ArchiveError unless the archive can be read as it is. Writes nothing."""
    place = describe(engine.url)
    with reading(engine) as connection:
        found = revision(connection)
    if found is None:
        raise ArchiveError(f"archive {place} is empty", next_step="`kernelevo evolve` fills it")
    if found != REVISION:
        refuse_newer(place, found)
        raise ArchiveError(
            f"archive {place} has the older schema {found}, and this kernelevo reads {REVISION}",
            next_step=f"kernelevo archive upgrade --archive {place}",
        )


def revision(connection: Connection) -> str | None:
    """The schema's revision, or None for an empty database. Raises ArchiveError for somebody else's tables."""
    place = describe(connection.engine.url)
    if connection.dialect.name == "sqlite":
        tables = connection.exec_driver_sql("SELECT COUNT(*) FROM sqlite_master").scalar_one()
        application = connection.exec_driver_sql("PRAGMA application_id").scalar_one()
        ours = application == APPLICATION_ID
    else:
        names = inspect(connection).get_table_names()
        tables = len(names)
        ours = {"alembic_version", "case_verdicts"} <= set(names)
    if not tables:
        return None
    if not ours:
        raise ArchiveError(
            f"{place} is a database, but not an archive of kernelevo",
            next_step="name another path; kernelevo did not change this one",
        )
    return str(connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar_one())


def create(connection: Connection) -> None:
    """All tables, views and the revision, in an empty database."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql(f"PRAGMA application_id = {APPLICATION_ID}")
    Base.metadata.create_all(connection, checkfirst=False)
    for name, (_, select) in VIEWS.items():
        connection.exec_driver_sql(f"CREATE VIEW {name} AS\n{select.strip()}")
    connection.exec_driver_sql(
        "CREATE TABLE alembic_version (\n\tversion_num VARCHAR(32) NOT NULL, \n"
        "\tCONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)\n)"
    )
    connection.exec_driver_sql(f"INSERT INTO alembic_version (version_num) VALUES ('{REVISION}')")


def upgrade(engine: Engine) -> None:
    """Runs the migrations between the archive's revision and ours, all or none."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(migrations_folder()).replace("%", "%%"))
    with writing(engine) as connection:
        found = revision(connection)  # again: another process may have been faster
        if found == REVISION:
            return
        refuse_newer(describe(engine.url), str(found))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def refuse_newer(place: str, found: str) -> None:
    """Raises SchemaError unless our migrations know the revision."""
    known = sorted(path.name.split("_")[0] for path in (migrations_folder() / "versions").glob("[0-9]*_*.py"))
    if found not in known:
        raise SchemaError(
            f"archive {place} has schema {found}, and this kernelevo knows only up to {REVISION}",
            next_step="update kernelevo, or name another archive; this one was not changed",
        )


def migrations_folder() -> Path:
    """db/migrations: inside the package when installed, beside it in a checkout."""
    package = Path(__file__).resolve().parent
    for folder in (package / "migrations", package.parent.parent / "db" / "migrations"):
        if (folder / "env.py").exists():
            return folder
    raise ArchiveError(
        f"the migrations of the archive are missing beside {package}", next_step="install kernelevo again"
    )
