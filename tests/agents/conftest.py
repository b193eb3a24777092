"""An archive in which the first job of a run on gelu was asked for: its own kernel is evaluated once for all tests."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from kernelevo import load_task, open_archive
from kernelevo.agents import AgentJob, ask
from kernelevo.archive import Archive
from kernelevo.devices.emulator import EmulatorDevice
from kernelevo.records import Task


@pytest.fixture(scope="session")
def gelu() -> Task:
    return load_task("gelu")


@pytest.fixture(scope="session")
def seed(gelu: Task) -> str:
    assert gelu.seed_source is not None
    return gelu.seed_source


@pytest.fixture(scope="session")
def begun(gelu: Task, emulator: EmulatorDevice, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, AgentJob]:
    """The archive, and the job that was handed out to "first" for half an hour."""
    path = tmp_path_factory.mktemp("agents") / "begun.sqlite"
    with open_archive(path) as archive:
        return path, ask(gelu, archive, holder="first", device=emulator)


@pytest.fixture
def archive_file(begun: tuple[Path, AgentJob], tmp_path: Path) -> Path:
    """A copy for one test."""
    return Path(shutil.copy(begun[0], tmp_path / "a.sqlite"))


@pytest.fixture
def job(begun: tuple[Path, AgentJob]) -> AgentJob:
    return begun[1]


class Clock:
    """The time of day, which a test moves."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    def move(self, **by: float) -> None:
        self.ahead += timedelta(**by)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def archive(archive_file: Path, clock: Callable[[], datetime]) -> Iterator[Archive]:
    with open_archive(archive_file, clock=clock) as opened:
        yield opened
