"""The catalogue of cheats against the real build, worker and verdict: each is rejected, and for its own reason."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import pytest
from catalogue import CHEATS, HONEST, Cheat

from kernelevo.build import build, warm
from kernelevo.config import read_settings
from kernelevo.devices import Device
from kernelevo.devices.emulator import EmulatorDevice
from kernelevo.errors import UsageError
from kernelevo.evaluate import evaluate, load_device
from kernelevo.records import Build, Candidate, Case, Outcome, Purpose, Task, Verdict
from kernelevo.tasks import hidden_cases, load_task
from kernelevo.toolchain import find_toolchain
from kernelevo.verify import verify
from kernelevo.verify.verdict import FATAL

pytestmark = pytest.mark.nvcc

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
ENTROPY = 2025  # the choices of a verdict are the same in every run of this suite

KERNELS = [cheat for cheat in CHEATS if cheat.file and not cheat.gpu and cheat.outcome != "build failed"]
WORDS = [cheat for cheat in CHEATS if cheat.elsewhere]


def name(cheat: Cheat) -> str:
    return f"{cheat.number:02} {cheat.title}"


def read(file: str, task: Task) -> Candidate:
    return Candidate(source=(HERE / f"{file}.cu").read_text(), entry=task.entry)


@pytest.fixture(scope="module")
def built(cache_folder: Path, emulator: EmulatorDevice) -> Iterator[Callable[[str, Task], Build]]:
    """built(file, task) -> Build. All are compiled by two threads from the beginning, in the order of the catalogue."""
    toolchain = find_toolchain()
    warm(toolchain, cache_folder)
    rows = [(cheat.file, cheat.task) for cheat in KERNELS] + [(file, task) for file, task, _ in HONEST]
    with ThreadPoolExecutor(2) as compilers:
        futures = {
            row: compilers.submit(
                build,
                read(row[0], load_task(row[1])),
                target=emulator.target,
                toolchain=toolchain,
                cache=cache_folder,
            )
            for row in rows
        }
        yield lambda file, task: futures[file, task.name].result()
        for future in futures.values():
            future.cancel()


@cache
def cases(task_name: str, kind: str) -> tuple[Case, ...]:
    """Few cases that show the cheat: of the declared ones, and hidden ones."""
    task = load_task(task_name)
    tests = [case for case in task.cases if case.purpose is Purpose.TEST]
    if kind == "bench":
        return tuple(case for case in task.cases if case.purpose is Purpose.BENCH)[1:]
    if kind == "first":
        return (*(c for c in tests if c.name == "rows=1 cols=1 float32 normal"), *hidden_cases(task, ENTROPY, 2))
    if kind == "wide":
        return tuple(case for case in tests if case.sizes["cols"] == 1000)
    sizes: dict[tuple[int, ...], Case] = {}
    for case in tests:
        sizes.setdefault(tuple(case.sizes.values()), case)
    elements = sorted(sizes.values(), key=lambda case: -size(case))
    return (*elements[1:3], *hidden_cases(task, ENTROPY, 4)[2:])


def size(case: Case) -> int:
    product = 1
    for length in case.sizes.values():
        product *= length
    return product


def judge(task: Task, candidate: Build, device: Device, kind: str = "small") -> Verdict:
    return verify(task, candidate, device, cases=cases(task.name, kind), entropy=ENTROPY, timeout_seconds=4.0)


@pytest.mark.parametrize("cheat", KERNELS, ids=name)
def test_cheat(cheat: Cheat, built: Callable[[str, Task], Build], emulator: EmulatorDevice) -> None:
    task = load_task(cheat.task)
    candidate = built(cheat.file, task)
    assert candidate.succeeded, candidate.diagnostics
    verdict = judge(task, candidate, emulator, cheat.cases)
    assert (verdict.outcome.value, bool(re.search(cheat.reason, verdict.reason or ""))) == (cheat.outcome, True), (
        f"{verdict.outcome.value}: {verdict.reason}"
    )


@pytest.mark.parametrize("file, task, resembles", HONEST, ids=[f"{row[0]} (like {row[2]})" for row in HONEST])
def test_honest_twin(
    file: str, task: str, resembles: str, built: Callable[[str, Task], Build], emulator: EmulatorDevice
) -> None:
    candidate = built(file, load_task(task))
    assert candidate.succeeded, candidate.diagnostics
    verdict = judge(load_task(task), candidate, emulator)
    assert verdict.outcome is Outcome.PASSED, verdict.reason
    assert {f.kind for case in verdict.cases for f in case.findings} <= {"not repeatable"}


@pytest.mark.gpu
@pytest.mark.parametrize("cheat", [cheat for cheat in CHEATS if cheat.gpu], ids=name)
def test_cheat_on_a_gpu(cheat: Cheat, cache_folder: Path) -> None:
    task = load_task(cheat.task)
    try:
        with load_device("cuda", read_settings()) as device:
            candidate = build(
                read(cheat.file, task), target=device.target, toolchain=find_toolchain(), cache=cache_folder
            )
            assert candidate.succeeded, candidate.diagnostics
            verdict = judge(task, candidate, device, cheat.cases)
    except UsageError as error:
        pytest.skip(f"{cheat.gpu}, and {error}")
    assert verdict.outcome.value == cheat.outcome, verdict.reason
    assert re.search(cheat.reason, verdict.reason or ""), verdict.reason


def test_a_compiler_message_tells_nothing_of_the_environment(
    emulator: EmulatorDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    cheat = next(cheat for cheat in CHEATS if cheat.outcome == "build failed")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-do-not-tell")
    evaluation = evaluate(load_task(cheat.task), HERE / f"{cheat.file}.cu", device=emulator)
    assert evaluation.status == cheat.outcome
    assert re.search(cheat.reason, evaluation.feedback), evaluation.feedback
    told = [evaluation.feedback, *(diagnostic.text for diagnostic in evaluation.build.diagnostics)]
    assert not any("sk-do-not-tell" in text or "OPENAI" in text for text in told)


@pytest.mark.parametrize("file", ["poisons_the_next_build", "leaves_an_error_behind", "leaves_a_verdict_and_dies"])
def test_the_next_candidate_sees_nothing_of_one_that_left_poison(
    file: str, built: Callable[[str, Task], Build], emulator: EmulatorDevice
) -> None:
    task = load_task("gelu")
    assert judge(task, built(file, task), emulator).outcome is not Outcome.PASSED
    honest = judge(task, built("honest/constant_memory", task), emulator)
    assert honest.outcome is Outcome.PASSED, honest.reason
    wrong = judge(task, built("talks_to_the_judge", task), emulator)
    assert wrong.outcome is Outcome.WRONG, "a verdict that was left behind must not be found"


def test_a_worker_holds_no_expected_output_and_nothing_of_the_judge(
    cache_folder: Path, emulator: EmulatorDevice
) -> None:
    """Asked from inside, by a candidate: which modules there are, where modules are looked for, which tensors live."""
    task = load_task("gelu")
    source = (HERE / "looks_around.cpp").read_text()
    candidate = build(
        Candidate(source=source, entry="forward"), target="sm_90", toolchain=find_toolchain(), cache=cache_folder
    )
    assert candidate.succeeded, candidate.diagnostics
    case = cases("gelu", "small")[0]
    verdict = verify(task, candidate, emulator, cases=[case], entropy=ENTROPY)
    lines = verdict.output.split("call\n")[1].splitlines()  # of the first; in the second there is its own output too
    modules = {line.removeprefix("module ") for line in lines if line.startswith("module ")}
    assert "kernelevo.worker" in modules
    assert not {m for m in modules if m.startswith(("kernelevo.tasks", "kernelevo.verify", "kernelevo.measure"))}
    folders = [line.removeprefix("path ") for line in lines if line.startswith("path ")]
    assert folders
    assert not [folder for folder in folders if "tasks" in Path(folder).parts]
    # The inputs, on the device and as they arrived, are all that a worker has of a case.
    rows, cols = case.sizes["rows"], case.sizes["cols"]
    expected = [line for line in lines if line.startswith("tensor ") and f"[{rows}, {cols}]" in line]
    assert {line.split()[1] for line in expected} <= {"input", "other-equal-to-input"}, expected
    assert any(line.startswith("tensor input") for line in expected)


def test_every_number_of_the_catalogue_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    numbers = {cheat.number for cheat in CHEATS}
    assert numbers == set(range(1, 51))
    here = {cheat.number for cheat in CHEATS if cheat.file and not cheat.gpu}
    gpu = {cheat.number for cheat in CHEATS if cheat.gpu} - here
    words = {cheat.number for cheat in WORDS} - here - gpu
    with capsys.disabled():
        print(f"\n{len(numbers)}/50 of the catalogue: {len(here)} by kernels that are rejected here, ", end="")
        print(f"{len(gpu)} by kernels that need a GPU, {len(words)} by other tests")


def test_every_kernel_is_in_the_catalogue() -> None:
    assert {path.stem for path in HERE.glob("*.cu")} == {cheat.file for cheat in CHEATS if cheat.file}
    assert {f"honest/{path.stem}" for path in HERE.glob("honest/*.cu")} == {
        row[0] for row in HONEST if row[0].startswith("honest/")
    }


def test_every_cheat_says_what_must_be_said_of_it_or_why_no_kernel_can_stand_for_it() -> None:
    for cheat in CHEATS:
        assert bool(cheat.file) != bool(cheat.elsewhere), cheat
        assert not cheat.file or (cheat.outcome and cheat.reason), cheat
        assert not cheat.elsewhere or cheat.tests, cheat


@pytest.mark.parametrize("test", sorted({test for cheat in CHEATS for test in cheat.tests}))
def test_what_is_held_elsewhere_is_held_there(test: str) -> None:
    file, _, function = test.partition("::")
    tree = ast.parse((ROOT / file).read_text())
    assert function in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("kind", FATAL)
def test_a_real_kernel_stands_for_every_finding_that_fails_a_candidate(kind: str) -> None:
    reasons = [cheat.reason for cheat in CHEATS if cheat.file and not cheat.gpu and cheat.outcome == FATAL[kind].value]
    assert [reason for reason in reasons if reason.startswith(f"^{kind}: ")], kind
