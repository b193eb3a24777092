"""Packages exported from the gallery, once for all tests of a run."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from kernelevo import open_archive
from kernelevo.archive import Archive
from kernelevo.export import Exported, export

CHECKOUT = Path(__file__).resolve().parents[2]
GALLERY = CHECKOUT / "db" / "gallery.sqlite"


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Exported]:
    """The package of the best candidate of a task, written once."""
    made: dict[str, Exported] = {}

    def package(task: str) -> Exported:
        if task not in made:
            folder = tmp_path_factory.mktemp("packages") / task
            with open_archive(GALLERY, read_only=True) as archive:
                made[task] = export(archive, task, folder, licence="MIT", author="A. N. Author")
        return made[task]

    return package


@pytest.fixture
def gallery() -> Archive:
    return open_archive(GALLERY, read_only=True)


@pytest.fixture(scope="session")
def run_in_process() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs Python in a process of its own: a GPU that is emulated is so for the whole process."""

    def run(*arguments: str, python: str = sys.executable, **environment: str) -> subprocess.CompletedProcess[str]:
        # PYTHONPATH is given where it is wanted only.
        inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        return subprocess.run(
            [python, *arguments],
            env={**inherited, "OMP_NUM_THREADS": "2", **environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=280,
        )

    return run
