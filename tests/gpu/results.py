"""A pytest plugin that writes what a run on a GPU machine found as one JSON file.

    KERNELEVO_GPU_RESULTS=results.json pytest -p results ...        (run_all.sh sets both)

The file holds the card, driver and versions, each test's outcome and seconds, and what tests gave to `record`.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pytest

from kernelevo.records import Build

Record = Callable[[str, Any], None]
Built = Callable[[str], Build]  # of a kernel of this folder, or of a task's seed, by name


class Results:
    """What is known so far; written after every test, so that a run that is cut off leaves what it had."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._started = time.time()
        self.numbers: dict[str, Any] = {}
        self.tests: dict[str, dict[str, Any]] = {}
        self._machine = machine()

    def write(self) -> None:
        passed = sum(test["outcome"] == "passed" for test in self.tests.values())
        failed = sum(test["outcome"] in ("failed", "error") for test in self.tests.values())
        content = {
            "machine": self._machine,
            "seconds": round(time.time() - self._started, 1),
            "passed": passed,
            "failed": failed,
            "skipped": len(self.tests) - passed - failed,
            "numbers": self.numbers,
            "tests": self.tests,
        }
        self._path.write_text(json.dumps(content, indent=1, default=str) + "\n")

    @pytest.hookimpl
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or report.outcome != "passed":
            outcome = "error" if report.outcome == "failed" and report.when != "call" else report.outcome
            entry: dict[str, Any] = {"outcome": outcome, "seconds": round(report.duration, 2)}
            if report.outcome == "skipped" and isinstance(report.longrepr, tuple):
                entry["reason"] = report.longrepr[2]
            elif report.outcome == "failed":
                entry["reason"] = str(report.longrepr)[-1500:]
            self.tests[report.nodeid] = entry
            self.write()


def machine() -> dict[str, Any]:
    """Card, driver and versions; None for what is not there."""
    from kernelevo.devices.cuda import CudaDevice
    from kernelevo.devices.nvml import Nvml
    from kernelevo.errors import KernelevoError
    from kernelevo.toolchain import find_nvcc

    found: dict[str, Any] = {"python": platform.python_version(), "system": platform.platform()}
    for package in ("torch", "triton", "numpy"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    nvcc, _ = find_nvcc()
    found["nvcc"] = nvcc.version if nvcc else None
    found["unavailable"] = CudaDevice.missing()
    try:
        with Nvml() as card:
            facts = card.facts()
            found |= {
                "card": facts.name,
                "uuid": facts.uuid,
                "driver": facts.driver,
                "compute capability": ".".join(map(str, facts.compute_capability)),
                "memory_bytes_per_second": facts.memory_bytes_per_second,
                "state": str(card.read()),
            }
    except KernelevoError as error:
        found["card"] = None
        found["no card"] = str(error)
    return found


_KEY = pytest.StashKey[Results]()


def pytest_configure(config: pytest.Config) -> None:
    if path := os.environ.get("KERNELEVO_GPU_RESULTS"):
        config.stash[_KEY] = results = Results(Path(path))
        config.pluginmanager.register(results)
        results.write()


@pytest.fixture(scope="session")
def record(request: pytest.FixtureRequest) -> Record:
    """record(name with unit, value): goes into the JSON file, where there is one."""
    results = request.config.stash.get(_KEY, None)

    def note(name: str, value: Any) -> None:
        if results is not None:
            results.numbers[name] = value
            results.write()

    return note
