"""A path or SQLAlchemy URL to an engine whose transactions behave the same for every caller.

Gives `connect` and the two contexts `reading` and `writing`; the contexts turn database errors into ArchiveError
with a next step, in this one place.

SQLite: write-ahead log, foreign keys on, a busy timeout, and writes that take the write lock at once, so that two
processes wait for each other instead of failing. A commit is in the operating system's hands when it returns: it
survives kill -9 of this process; a power failure may lose the last moments, never the file.
A read-only engine opens a fresh connection for each transaction. Without a write-ahead log beside it, the file is
then opened as immutable, which works in a read-only folder and leaves nothing behind.

PostgreSQL: the same tables and transactions; readers see one state of the archive (REPEATABLE READ), and writers take
one advisory lock, so that row numbers grow in the order of commits there too.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import URL, Connection, Engine, NullPool, QueuePool, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError

from kernelevo.errors import ArchiveError, UsageError

ADVISORY_LOCK = 0x6B65766F  # "kevo"


def connect(place: Path | str, *, read_only: bool, busy_timeout_seconds: float) -> Engine:
    """An engine for a file path or a SQLAlchemy URL. Opens nothing yet.

    Raises UsageError for a URL that cannot be used.
    """
    if isinstance(place, Path) or "://" not in place:
        return connect_sqlite(Path(place), read_only=read_only, busy_timeout_seconds=busy_timeout_seconds)
    try:
        url = make_url(place)
        if url.get_backend_name() == "sqlite":
            if not url.database or url.database == ":memory:":
                raise UsageError(f"archive {place} is not a file", next_step="name a path")
            path = Path(url.database)
            return connect_sqlite(path, read_only=read_only, busy_timeout_seconds=busy_timeout_seconds)
        if url.get_backend_name() != "postgresql":
            raise UsageError(f"archive {describe(url)} is not SQLite or PostgreSQL", next_step="name a file path")
        return connect_postgresql(url, read_only=read_only, busy_timeout_seconds=busy_timeout_seconds)
    except (ArgumentError, NoSuchModuleError) as error:
        raise UsageError(f"archive {place!r} is not a database URL: {error}", next_step="name a file path") from error
    except ModuleNotFoundError as error:
        raise UsageError(
            f"archive {describe(url)} needs the Python package {error.name}", next_step=f"pip install {error.name}"
        ) from error


def connect_sqlite(path: Path, *, read_only: bool, busy_timeout_seconds: float) -> Engine:
    path = path.absolute()

    def open_file() -> sqlite3.Connection:
        mode = "rwc"
        if read_only:
            mode = "ro" if write_ahead_log(path).exists() else "ro&immutable=1"
        return sqlite3.connect(
            f"file:{quote(str(path))}?mode={mode}",
            uri=True,
            timeout=busy_timeout_seconds,
            isolation_level=None,
            check_same_thread=False,
        )

    engine = create_engine(
        URL.create("sqlite", database=str(path)), creator=open_file, poolclass=NullPool if read_only else QueuePool
    )

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # this module says BEGIN, not the driver
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA synchronous = NORMAL")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get("writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def connect_postgresql(url: URL, *, read_only: bool, busy_timeout_seconds: float) -> Engine:
    options = f"-c client_encoding=UTF8 -c lock_timeout={int(busy_timeout_seconds * 1000)}"
    if read_only:
        options += " -c default_transaction_read_only=on"
    engine = create_engine(url, connect_args={"options": options})

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        if connection.get_execution_options().get("writes", False):  # what it sees begins after it got the lock
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({ADVISORY_LOCK})")
        else:
            connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")

    return engine


def write_ahead_log(path: Path) -> Path:
    return path.with_name(path.name + "-wal")


def use_write_ahead_log(engine: Engine, *, busy_timeout_seconds: float) -> None:
    """Turns it on for good; SQLite keeps the mode in the file. Waits where SQLite itself does not."""
    deadline = time.monotonic() + busy_timeout_seconds
    while True:
        connection = engine.raw_connection()
        try:
            cursor = connection.cursor()
            if cursor.execute("PRAGMA journal_mode").fetchone() != ("wal",):
                cursor.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorname != "SQLITE_BUSY" or time.monotonic() > deadline:
                raise explain(error, engine) from error
            time.sleep(0.01)
        except sqlite3.DatabaseError as error:
            raise explain(error, engine) from error
        finally:
            connection.close()


@contextmanager
def lock(engine: Engine, name: str) -> Iterator[bool]:
    """Whether a lock of that name could be had; while in it, nobody else has it. Its owner's death frees it.

    SQLite: a lock of the operating system on a file beside the archive, which is removed afterwards.
    PostgreSQL: an advisory lock of a connection of its own. Names of which 32 bits of a hash are equal are one lock.
    """
    if engine.dialect.name == "sqlite":
        path = Path(f"{engine.url.database}.{name}.lock")
        with path.open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            try:
                yield True
            finally:
                path.unlink(missing_ok=True)
        return
    keys = (ADVISORY_LOCK, zlib.crc32(name.encode()) - 2**31)
    try:
        connection = engine.connect().execution_options(isolation_level="AUTOCOMMIT")
    except DBAPIError as error:
        raise explain(error.orig or error, engine) from error
    with connection:
        taken = bool(connection.exec_driver_sql("SELECT pg_try_advisory_lock(%s, %s)", keys).scalar())
        try:
            yield taken
        finally:
            if taken:
                with suppress(DBAPIError):  # where the server is gone, so is the lock
                    connection.exec_driver_sql("SELECT pg_advisory_unlock(%s, %s)", keys)


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """A transaction that sees one state of the archive. Raises ArchiveError."""
    try:
        with engine.connect() as connection, connection.begin():
            yield connection
    except DBAPIError as error:
        raise explain(error.orig or error, engine) from error
    except sqlite3.Error as error:
        raise explain(error, engine) from error


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """A transaction that is written whole or not at all. Raises ArchiveError."""
    try:
        with engine.connect().execution_options(writes=True) as connection, connection.begin():
            yield connection
    except DBAPIError as error:
        raise explain(error.orig or error, engine) from error
    except (sqlite3.Error, OverflowError) as error:
        raise explain(error, engine) from error


def describe(url: URL) -> str:
    """The archive's path, or its URL without the password."""
    return str(url.database) if url.get_backend_name() == "sqlite" else url.render_as_string(hide_password=True)


# SQLite's result codes: what they mean for an archive, and what to do. The longest matching prefix counts.
EXPLANATIONS: dict[str, tuple[str, str]] = {
    "SQLITE_NOTADB": ("is not a SQLite file", "name another path; kernelevo did not change this file"),
    "SQLITE_CORRUPT": (
        "is damaged",
        "save a copy, then `sqlite3 DAMAGED .recover | sqlite3 RECOVERED`, and use RECOVERED",
    ),
    "SQLITE_FULL": (
        "cannot grow: the disk is full",
        "free some space and go on with `kernelevo evolve --resume RUN`; what was recorded before is safe",
    ),
    "SQLITE_IOERR": (
        "cannot be written: the disk is full, gone or limited",
        "check the disk and `ulimit -f`, then go on with `kernelevo evolve --resume RUN`; what was recorded is safe",
    ),
    "SQLITE_READONLY": ("cannot be written", "check the permissions of the file and its folder, or name another path"),
    "SQLITE_CANTOPEN": ("cannot be opened", "check that the folder exists and may be written, or name another path"),
    "SQLITE_PERM": ("may not be opened", "check the permissions of the file and its folder"),
    "SQLITE_BUSY": ("is locked by another process", "end the process that holds it, or wait and try again"),
    "SQLITE_LOCKED": ("is locked by another process", "end the process that holds it, or wait and try again"),
    "SQLITE_PROTOCOL": ("is locked by another process", "end the process that holds it, or wait and try again"),
    "SQLITE_CONSTRAINT": (
        "refuses a record",
        "this is a defect of kernelevo, or another process goes on with the same run",
    ),
    "SQLITE_TOOBIG": ("cannot hold a text of that length", "this is a defect of kernelevo: texts must be bounded"),
}


# PostgreSQL's error codes, likewise.
POSTGRESQL_EXPLANATIONS: dict[str, tuple[str, str]] = {
    "08": ("cannot be reached", "check the address, and that the server runs"),
    "22003": (
        "refuses a number: it does not fit into 64 bits with a sign",
        "this is a defect of kernelevo: draw seeds below 2**63",
    ),
    "23": ("refuses a record", "this is a defect of kernelevo, or another process goes on with the same run"),
    "25006": ("cannot be written: it was opened read-only, or its server is a standby", "name the primary server"),
    "28": ("does not let this user in", "check the user's name and password"),
    "3D000": ("does not exist", "createdb NAME, or name another database"),
    "42501": ("may not be used like that by this user", "GRANT ALL ON DATABASE and ON SCHEMA to the user"),
    "53100": (
        "cannot grow: the server's disk is full",
        "free some space and go on with `kernelevo evolve --resume RUN`; what was recorded before is safe",
    ),
    "53300": ("takes no more connections", "end some of them, or raise the server's max_connections"),
    "55P03": ("is locked by another process", "end the process that holds it, or wait and try again"),
    "57P": ("cannot be reached", "check that the server runs; what was recorded before is safe"),
}


def explain(error: BaseException, engine: Engine) -> ArchiveError:
    """The ArchiveError for a database error: what, where, the database's own words, and the next step."""
    place = describe(engine.url)
    if isinstance(error, OverflowError):
        return ArchiveError(
            f"archive {place}: a number does not fit into 64 bits with a sign: {error}",
            next_step="this is a defect of kernelevo: draw seeds below 2**63",
        )
    name = getattr(error, "sqlite_errorname", "")
    matches = [prefix for prefix in EXPLANATIONS if name.startswith(prefix)]
    if matches:
        problem, next_step = EXPLANATIONS[max(matches, key=len)]
        if name.startswith("SQLITE_CANTOPEN") and not os.path.exists(os.path.dirname(place)):
            problem, next_step = "cannot be opened: its folder does not exist", f"mkdir -p {os.path.dirname(place)}"
        return ArchiveError(f"archive {place} {problem} ({error})", next_step=next_step)
    code = getattr(error, "sqlstate", None) or ""
    matches = [prefix for prefix in POSTGRESQL_EXPLANATIONS if code.startswith(prefix)]
    if matches:
        problem, next_step = POSTGRESQL_EXPLANATIONS[max(matches, key=len)]
        return ArchiveError(f"archive {place} {problem} ({str(error).strip()})", next_step=next_step)
    if "NUL (0x00)" in str(error):
        return ArchiveError(f"archive {place} takes no text with a NUL byte", next_step="take it out of the source")
    return ArchiveError(f"archive {place}: {error}", next_step="check that the database can be reached and used")
