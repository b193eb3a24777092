"""Golden files: `pytest tests/mutate --update-golden` writes them anew."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from rewriting import SEEDS

from kernelevo.build import build
from kernelevo.devices.emulator import EmulatorDevice
from kernelevo.records import Candidate, Outcome, Purpose
from kernelevo.tasks import load_task
from kernelevo.toolchain import find_toolchain
from kernelevo.verify import verify

HERE = Path(__file__).parent


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """Compares a text with the golden file of that name."""

    def compare(name: str, actual: str) -> None:
        path = HERE / "golden" / name
        if request.config.getoption("--update-golden", default=False):
            path.write_text(actual)
        assert path.exists(), f"no golden file {path}; run pytest tests/mutate --update-golden and read what it wrote"
        assert actual == path.read_text()

    return compare


@pytest.fixture(scope="module")
def judged(emulator: EmulatorDevice, cache_folder: Path) -> Callable[[str, str], str]:
    """(task, source) -> "passed", or what is wrong, on the task's own test cases."""
    toolchain = find_toolchain()
    tasks = {name: load_task(name) for name in SEEDS}

    def judge(name: str, source: str) -> str:
        task = tasks[name]
        candidate = Candidate(source=source, entry=task.entry)
        made = build(candidate, target=emulator.target, toolchain=toolchain, cache=cache_folder)
        if not made.succeeded:
            return "\n".join(d.text for d in made.diagnostics)
        cases = [case for case in task.cases if case.purpose is Purpose.TEST]
        verdict = verify(task, made, emulator, cases=cases, entropy=0, timeout_seconds=60)
        return "passed" if verdict.outcome is Outcome.PASSED else f"{verdict.outcome.value}: {verdict.reason}"

    return judge
