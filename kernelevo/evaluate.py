"""One candidate in, everything that can be learned about it out: build -> verify -> measure.

    evaluate(load_task("rmsnorm"), Path("kernel.cu"))     -> Evaluation
    evaluate_file("rmsnorm", Path("kernel.cu"))           -> Evaluation, from a task's name, as fast as can be

Nothing here loads candidate code: that happens in the device's sandboxed workers. What takes time is overlapped: the
device's fork server warms up and torch is imported while compilers run, and expected outputs are computed meanwhile.
A candidate that fails at any stage is an Evaluation, not an exception.

Not covered: duplicates, archiving, promotion of a new best.
"""

from __future__ import annotations

import contextlib
import gc
import secrets
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from kernelevo.config import Settings, read_settings
from kernelevo.devices import Device
from kernelevo.errors import UsageError
from kernelevo.records import (
    Build,
    Candidate,
    Case,
    CaseVerdict,
    Evaluation,
    Outcome,
    Purpose,
    Stage,
    StageOutcome,
    Task,
    Timing,
    Verdict,
)
from kernelevo.toolchain import Toolchain, find_toolchain

Progress = Callable[[str, str], None]  # stage and what happens in it
Result = TypeVar("Result")


def evaluate(
    task: Task,
    candidate: Candidate | Path,
    *,
    device: str | Device = "emulator",
    settings: Settings | None = None,
    toolchain: Toolchain | None = None,
    cases: Sequence[Case] | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Builds, verifies and times one candidate.

    candidate: the record, or the path of one .cu file.
    device: a name, or an open Device, which stays open.
    cases: to verify on; by default the TEST cases, then HIDDEN ones drawn from the randomness of the operating system,
        then the BENCH cases, which are timed afterwards.
    progress: called in this thread with the stage ("build", "verify", "measure") and one line of text.

    Raises UsageError for a file that cannot be read or an unknown device, ToolchainError when nothing can be compiled
    here, TaskError when the task's own functions fail, WorkerError when our worker does.
    """
    settings = settings or read_settings()
    if isinstance(candidate, Path):
        candidate = Candidate(source=read_kernel_file(candidate), entry=task.entry)
    with load_device(device, settings) as opened, ThreadPoolExecutor(1, thread_name_prefix="build") as compiler:
        built = compiler.submit(_build, candidate, opened, settings, toolchain)
        return _judge(task, candidate, built, opened, settings, cases, progress or _silent)


def evaluate_file(
    task: str | Path,
    kernel: Path,
    *,
    device: str | Device = "emulator",
    settings: Settings | None = None,
    toolchain: Toolchain | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """The same for a task's name or folder and a source file ("-": standard input), overlapping even the loading.

    Raises what `evaluate` and `load_task` raise.
    """
    from kernelevo.tasks import load_task
    from kernelevo.tasks.load import entry_of

    settings = settings or read_settings()
    entry = entry_of(task, root=settings.tasks)
    candidate = Candidate(source=read_kernel_file(kernel), entry=entry)
    with load_device(device, settings) as opened, ThreadPoolExecutor(1, thread_name_prefix="build") as compiler:
        built = compiler.submit(_build, candidate, opened, settings, toolchain)
        with _without_collector():
            import torch  # noqa: F401 - a second, spent while the compilers and the fork server are at work
        return _judge(
            load_task(task, root=settings.tasks), candidate, built, opened, settings, None, progress or _silent
        )


@contextlib.contextmanager
def load_device(device: str | Device, settings: Settings) -> Iterator[Device]:
    """A device by name, closed at the end; a device that is already open is passed through and stays open.

    Raises UsageError for an unknown name or a device that cannot be used here.
    """
    if not isinstance(device, str):
        yield device
        return
    if device == "cuda":
        raise UsageError("device cuda is not part of this version", next_step="use --device emulator")
    if device != "emulator":
        raise UsageError(f"unknown device {device!r}", next_step="devices are emulator and cuda")
    from kernelevo.devices.emulator import EmulatorDevice

    opened = EmulatorDevice()
    try:
        if (why := opened.unavailable()) is not None:
            raise UsageError(f"device emulator cannot be used here: {why}", next_step="run `kernelevo doctor`")
        yield opened
    finally:
        opened.close()


def read_kernel_file(path: Path) -> str:
    """The text of one kernel; "-" is standard input. Raises UsageError."""
    try:
        text = sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file", next_step="give the path of one .cu file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot be read: {error}", next_step="give the path of one .cu file") from error
    if not text.strip():
        raise UsageError(f"{path}: empty", next_step="give one CUDA source with a PYBIND11_MODULE")
    return text


def _judge(
    task: Task,
    candidate: Candidate,
    built: Future[tuple[Build, float]],
    device: Device,
    settings: Settings,
    cases: Sequence[Case] | None,
    progress: Progress,
) -> Evaluation:
    from kernelevo.measure import measure
    from kernelevo.tasks import hidden_cases
    from kernelevo.verify import oracle_of, verify

    progress("build", "compiling")
    entropy = secrets.randbits(62)
    if cases is None:
        tests, bench = (tuple(c for c in task.cases if c.purpose is p) for p in (Purpose.TEST, Purpose.BENCH))
        cases = tests + hidden_cases(task, secrets.randbits(62)) + bench
    oracle = oracle_of(task)
    for case in cases:  # while the compilers run; what is not finished then is computed when its turn comes
        if built.done():
            break
        oracle.expected(case)
    build, seconds = built.result()
    stages = [
        Stage(name="build", outcome=StageOutcome.PASSED if build.succeeded else StageOutcome.FAILED, seconds=seconds)
    ]
    verdict: Verdict | None = None
    timing: Timing | None = None
    timing_reason: str | None = None
    timeout_seconds, memory_bytes = settings.timeout_seconds, settings.memory_bytes
    if build.succeeded:
        number = 0

        def judged(case: CaseVerdict) -> None:
            nonlocal number
            number += 1
            progress("verify", f"{number} of {len(cases)}: {case.case.name}: {case.outcome.value}")

        progress("verify", f"{len(cases)} cases")
        found, seconds = _timed(
            lambda: verify(
                task,
                build,
                device,
                cases=cases,
                entropy=entropy,
                timeout_seconds=timeout_seconds,
                memory_bytes=memory_bytes,
                progress=judged,
            )
        )
        verdict = found
        stages.append(
            Stage(
                name="correctness",
                outcome=StageOutcome.PASSED if found.outcome is Outcome.PASSED else StageOutcome.FAILED,
                seconds=seconds,
            )
        )
        if found.outcome is Outcome.PASSED:
            progress("measure", "bench cases")
            result, seconds = _timed(
                lambda: measure(
                    task,
                    build,
                    device,
                    timeout_seconds=timeout_seconds,
                    memory_bytes=memory_bytes,
                    output_bytes=lambda case: sum(o.nbytes for o in oracle.expected(case).reference),
                )
            )
            stages.append(
                Stage(
                    name="measure",
                    outcome=StageOutcome.FAILED if isinstance(result, str) else StageOutcome.PASSED,
                    seconds=seconds,
                )
            )
            timing, timing_reason = (None, result) if isinstance(result, str) else (result, None)
    return Evaluation(
        candidate=candidate.id,
        task=task.name,
        device=device.name,
        build=build,
        verdict=verdict,
        timing=timing,
        timing_reason=timing_reason,
        stages=tuple(stages),
    )


def _build(
    candidate: Candidate, device: Device, settings: Settings, toolchain: Toolchain | None
) -> tuple[Build, float]:
    from kernelevo.build import build

    started = time.monotonic()
    toolchain = toolchain or find_toolchain(settings.host_compiler)
    result = build(candidate, target=device.target, toolchain=toolchain, cache=settings.cache)
    return result, time.monotonic() - started


def _timed(work: Callable[[], Result]) -> tuple[Result, float]:
    started = time.monotonic()
    result = work()
    return result, time.monotonic() - started


@contextlib.contextmanager
def _without_collector() -> Iterator[None]:
    """Imports make much that lives and little that dies; looking through it takes a tenth of torch's second."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _silent(stage: str, text: str) -> None:
    """Progress that nobody watches."""
