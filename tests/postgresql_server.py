"""A PostgreSQL server of its own for a run of pytest: a socket in a temporary folder, gone when the tests end.

    with started() as server:
        url = server.new_database()

Takes PostgreSQL's programs where they are installed, on the PATH or where Debian puts them; `missing` says what is not
there. The system's own server is never asked for anything.
"""

from __future__ import annotations

import importlib.util
import itertools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

BACKENDS = ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)]  # of an archive

# The harshest settings that an archive may meet: words are not sorted by their bytes, texts are UTF-8.
CLUSTER = ("-U", "tester", "-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C", "--locale-provider=icu")
SETTINGS = "-c fsync=off -c synchronous_commit=off -c full_page_writes=off -c max_connections=60 -c shared_buffers=32MB"


def programs() -> Path | None:
    """The folder of initdb and pg_ctl, of the newest version that is installed."""
    found = shutil.which("initdb")
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: float(folder.parent.name))
    return Path(found).parent if found else next((f for f in reversed(folders) if (f / "initdb").exists()), None)


def missing() -> str | None:
    """Why no server can be started here, with the next step; None: it can."""
    if programs() is None:
        return "no PostgreSQL server; next: apt install postgresql"
    if importlib.util.find_spec("psycopg") is None:
        return "no Python package psycopg; next: pip install 'psycopg[binary]'"
    return None


@dataclass(frozen=True)
class Server:
    """A server that runs until the end of `started`."""

    folder: str
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def url(self, database: str) -> str:
        return f"postgresql+psycopg://tester@/{database}?host={self.folder}"

    def new_database(self, *, like: str = "template0") -> str:
        """The URL of a new database, a copy of the database `like`."""
        name = f"archive_{next(self.numbers)}"
        self.command(f'CREATE DATABASE {name} TEMPLATE "{like}"')
        return self.url(name)

    def drop(self, url: str) -> None:
        self.command(f"DROP DATABASE {name_of(url)} WITH (FORCE)")

    def command(self, statement: str) -> None:
        import psycopg

        with psycopg.connect(f"host={self.folder} user=tester dbname=postgres", autocommit=True) as connection:
            connection.execute(statement.encode())


def name_of(url: str) -> str:
    """The database that a URL names."""
    return url.partition("@/")[2].partition("?")[0]


@contextmanager
def started() -> Iterator[Server]:
    """A server while in it. It refuses to run as root, and runs as `postgres` then."""
    binaries = programs()
    assert binaries is not None, missing()
    user = "postgres" if os.getuid() == 0 else None
    with tempfile.TemporaryDirectory(prefix="kernelevo-postgresql-", dir="/tmp") as folder:  # a socket's path is short
        if user:
            shutil.chown(folder, user, user)

        def call(program: str, *arguments: str) -> None:
            command = [str(binaries / program), "-D", f"{folder}/data", *arguments]
            groups = {"user": user, "group": user, "extra_groups": []} if user else {}
            subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL, **groups)  # type: ignore[call-overload]

        call("initdb", *CLUSTER, "--icu-locale=en-US")
        call("pg_ctl", "-o", f"-k {folder} -h '' {SETTINGS}", "-l", f"{folder}/log", "-w", "start")
        try:
            yield Server(folder)
        finally:
            call("pg_ctl", "-m", "immediate", "-w", "stop")
