"""Evaluate: one candidate in, build, verdict and timing out; what fails is a record, what we must fix is an error."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from kernelevo.config import Settings, read_settings
from kernelevo.devices import Device
from kernelevo.devices.emulator import EmulatorDevice
from kernelevo.errors import TaskError, UsageError
from kernelevo.evaluate import evaluate, evaluate_file, load_device
from kernelevo.records import STAGES, Candidate, Case, Evaluation, Outcome, Purpose, StageOutcome, Task, TimingKind
from kernelevo.tasks import load_task

ROOT = Path(__file__).parent.parent
SEED = ROOT / "tasks" / "rmsnorm" / "seed.cu"


@pytest.fixture(scope="module")
def settings() -> Settings:
    return read_settings()


@pytest.fixture
def device(emulator: EmulatorDevice) -> Device:
    return emulator


@pytest.fixture(scope="module")
def rmsnorm() -> Task:
    return load_task("rmsnorm")


@pytest.fixture(scope="module")
def few(rmsnorm: Task) -> tuple[Case, ...]:
    return tuple(case for case in rmsnorm.cases if case.purpose is Purpose.TEST)[:4]


def of_source(task: Task, source: str, device: Device, cases: tuple[Case, ...]) -> Evaluation:
    return evaluate(task, Candidate(source=source, entry=task.entry), device=device, cases=cases)


@pytest.mark.nvcc
def test_a_correct_kernel_is_built_verified_on_hidden_cases_and_timed(rmsnorm: Task, device: Device) -> None:
    seen: list[str] = []
    first = evaluate(rmsnorm, SEED, device=device, progress=lambda stage, text: seen.append(stage))
    assert first.passed, first.feedback
    assert first.status == "passed"
    assert [stage.name for stage in first.stages] == list(STAGES[:-1])
    assert all(stage.seconds > 0 for stage in first.stages)
    assert set(seen) == set(STAGES[:-1])
    assert first.timing is not None, first.timing_reason
    assert first.timing.kind is TimingKind.PREDICTED
    assert first.timing.score_ns > 0
    assert first.feedback

    second = evaluate(rmsnorm, SEED, device=device)
    assert second.build.cached
    assert second.passed
    assert second.timing is not None
    assert second.timing.score_ns == pytest.approx(first.timing.score_ns)
    hidden = [{c.case.seed for c in e.verdict.cases if c.case.purpose is Purpose.HIDDEN} for e in (first, second)]
    assert hidden[0]
    assert hidden[0].isdisjoint(hidden[1]), "each evaluation must draw hidden cases of its own"


@pytest.mark.nvcc
def test_a_kernel_that_does_not_compile_is_an_evaluation_without_verdict(
    rmsnorm: Task, device: Device, few: tuple[Case, ...]
) -> None:
    broken = SEED.read_text().replace("__global__ void", "__global__ vodi", 1)
    evaluation = of_source(rmsnorm, broken, device, few)
    assert evaluation.status == "build failed"
    assert (evaluation.verdict, evaluation.timing) == (None, None)
    assert [(stage.name, stage.outcome) for stage in evaluation.stages][-1] == ("build", StageOutcome.FAILED)
    assert "vodi" in evaluation.feedback


@pytest.mark.nvcc
def test_a_wrong_kernel_is_not_timed(rmsnorm: Task, device: Device, few: tuple[Case, ...]) -> None:
    wrong = (ROOT / "tests" / "twins" / "wrong_eps.cu").read_text()
    evaluation = of_source(rmsnorm, wrong, device, few)
    assert evaluation.verdict is not None
    assert evaluation.verdict.outcome is Outcome.WRONG
    assert "wrong value" in evaluation.feedback
    assert evaluation.timing is None
    assert [(stage.name, stage.outcome) for stage in evaluation.stages][-1] == ("correctness", StageOutcome.FAILED)


@pytest.mark.parametrize(
    ("source", "reason"),
    [("I cannot write this kernel.", "no PYBIND11_MODULE"), ("int main() {}", "no PYBIND11_MODULE")],
)
def test_text_that_is_no_candidate_fails_to_build_and_says_what_is_missing(
    rmsnorm: Task, device: Device, few: tuple[Case, ...], source: str, reason: str
) -> None:
    evaluation = of_source(rmsnorm, source, device, few)
    assert evaluation.status == "build failed"
    assert reason in evaluation.feedback
    assert evaluation.build.diagnostics[0].stage == "read"


@pytest.mark.parametrize(
    ("content", "message"), [(None, "no such file"), (b"", "empty"), (b"\xff\xfe\x00", "cannot be read")]
)
def test_a_file_that_cannot_be_read_is_the_users_error(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "kernel.cu"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match=message) as caught:
        evaluate_file("rmsnorm", path)
    assert str(path) in str(caught.value)


def test_a_folder_is_no_kernel(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        evaluate_file("rmsnorm", tmp_path)


def test_an_unknown_task_is_the_users_error() -> None:
    with pytest.raises(UsageError, match="rmsnrom"):
        evaluate_file("rmsnrom", SEED)


@pytest.mark.parametrize(("name", "message"), [("tpu", "unknown device 'tpu'"), ("cuda", "cuda")])
def test_a_device_that_is_not_there_is_the_users_error(settings: Settings, name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message), load_device(name, settings):
        pass


def test_a_device_that_was_passed_in_stays_open(settings: Settings, device: Device) -> None:
    with load_device(device, settings) as opened:
        assert opened is device
    assert device.unavailable() is None
    assert isinstance(device, EmulatorDevice)
    assert device.isolation


@pytest.mark.nvcc
def test_a_reference_that_fails_is_the_tasks_error_and_nothing_is_judged(tmp_path: Path, device: Device) -> None:
    folder = tmp_path / "tasks" / "rmsnorm"
    folder.mkdir(parents=True)
    for name in ("task.toml", "seed.cu"):
        (folder / name).write_text((ROOT / "tasks" / "rmsnorm" / name).read_text())
    reference = (ROOT / "tasks" / "rmsnorm" / "reference.py").read_text()
    (folder / "reference.py").write_text(reference + "\n\ndef reference(*inputs):\n    raise ValueError('no')\n")
    with pytest.raises(TaskError, match="reference"):
        evaluate_file(folder, SEED, device=device)


@pytest.mark.nvcc
def test_a_kernel_may_come_from_standard_input(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("nothing of use"))
    assert evaluate_file("rmsnorm", Path("-"), device=device).status == "build failed"
