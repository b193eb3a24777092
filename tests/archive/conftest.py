"""One archive for each test, in an SQLite file and in PostgreSQL: what holds for one holds for the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import postgresql_server
import pytest

from kernelevo.archive import Archive, open_archive


@pytest.fixture(scope="session")
def server() -> Iterator[postgresql_server.Server]:
    """A PostgreSQL server of this process's own. Its database `template` is an archive that holds nothing yet."""
    with postgresql_server.started() as started:
        started.command("CREATE DATABASE template TEMPLATE template0")
        open_archive(started.url("template")).close()
        yield started


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Of an SQLite archive that does not exist yet."""
    return tmp_path / "archive.sqlite"


@pytest.fixture(params=postgresql_server.BACKENDS)
def new_place(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], str]:
    """Gives names of archives that hold nothing yet: paths of SQLite files, or URLs of PostgreSQL databases."""
    if request.param == "postgresql":
        server: postgresql_server.Server = request.getfixturevalue("server")
        return lambda: server.new_database(like="template")
    numbers = iter(range(100))
    return lambda: str(tmp_path / f"archive_{next(numbers)}.sqlite")


@pytest.fixture
def place(new_place: Callable[[], str]) -> str:
    """The name of an archive that holds nothing yet."""
    return new_place()


@pytest.fixture
def archive(place: str) -> Iterator[Archive]:
    with open_archive(place) as opened:
        yield opened
