"""One candidate in, everything that can be learned about it out. The stages in between are in cascade.py.

    evaluate(load_task("rmsnorm"), Path("kernel.cu"))     -> Evaluation
    evaluate_file("rmsnorm", Path("kernel.cu"))           -> Evaluation, from a task's name, as fast as can be

Nothing here loads candidate code: that happens in the device's sandboxed workers. What takes time is overlapped: the
device's fork server warms up and torch is imported while compilers run, and expected outputs are computed meanwhile.
A candidate that fails at any stage is an Evaluation, not an exception.

Not covered: archiving.
"""

from __future__ import annotations

import contextlib
import gc
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from kernelevo.cascade import Known, Progress, judge, screen, share
from kernelevo.config import Settings, read_settings
from kernelevo.devices import Device
from kernelevo.errors import UsageError
from kernelevo.records import Build, Candidate, Case, Evaluation, Task
from kernelevo.toolchain import Toolchain, find_toolchain


def evaluate(
    task: Task,
    candidate: Candidate | Path,
    *,
    device: str | Device = "emulator",
    settings: Settings | None = None,
    toolchain: Toolchain | None = None,
    cases: Sequence[Case] | None = None,
    known: Known | None = None,
    champion_ns: float | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Builds, verifies and times one candidate.

    candidate: the record, or the path of one .cu file.
    device: a name, or an open Device, which stays open.
    cases: to verify on; by default the TEST cases, then HIDDEN ones drawn from the randomness of the operating system,
        then the BENCH cases, which are timed afterwards.
    known: gives the evaluation of an equal candidate by its source_key or kernel_key, if one passed before.
    champion_ns: the score to beat, infinite for the first; who does is promoted: verified and timed once more.
        None: nobody is.
    progress: called in this thread with the stage (one of records.STAGES) and one line of text.

    Raises UsageError for a file that cannot be read or an unknown device, ToolchainError when nothing can be compiled
    here, TaskError when the task's own functions fail, WorkerError when our worker does.
    """
    settings = settings or read_settings()
    if isinstance(candidate, Path):
        candidate = Candidate(source=read_kernel_file(candidate), entry=task.entry)
    screened = screen(candidate, known, progress or _silent)
    if screened.twin is not None:
        return share(screened.twin, candidate, source_key=screened.source_key, stages=screened.log.all())
    with load_device(device, settings) as opened, ThreadPoolExecutor(1, thread_name_prefix="build") as compiler:
        built = compiler.submit(_build, candidate, opened, settings, toolchain)
        return judge(
            task,
            screened,
            built,
            opened,
            settings=settings,
            cases=cases,
            known=known,
            champion_ns=champion_ns,
        )


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
    screened = screen(candidate, None, progress or _silent)
    with load_device(device, settings) as opened, ThreadPoolExecutor(1, thread_name_prefix="build") as compiler:
        built = compiler.submit(_build, candidate, opened, settings, toolchain)
        with _without_collector():
            import torch  # noqa: F401 - a second, spent while the compilers and the fork server are at work
        return judge(load_task(task, root=settings.tasks), screened, built, opened, settings=settings)


@contextlib.contextmanager
def load_device(device: str | Device, settings: Settings) -> Iterator[Device]:
    """A device by name, closed at the end; a device that is already open is passed through and stays open.

    Raises UsageError for an unknown name or a device that cannot be used here.
    """
    if not isinstance(device, str):
        yield device
        return
    opened = _device_named(device, settings)
    try:
        if (why := opened.unavailable()) is not None:
            raise UsageError(f"device {device} cannot be used here: {why}", next_step="run `kernelevo doctor`")
        yield opened
    finally:
        opened.close()


def _device_named(name: str, settings: Settings) -> Device:
    if name == "emulator":
        from kernelevo.devices.emulator import EmulatorDevice

        return EmulatorDevice(sandbox=settings.sandbox)
    if name == "cuda":
        from kernelevo.devices.cuda import CudaDevice

        return CudaDevice(sandbox=settings.sandbox)
    raise UsageError(f"unknown device {name!r}", next_step="devices are emulator and cuda")


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


def _build(candidate: Candidate, device: Device, settings: Settings, toolchain: Toolchain | None) -> Build:
    from kernelevo.build import build

    toolchain = toolchain or find_toolchain(settings.host_compiler)
    return build(candidate, target=device.target, toolchain=toolchain, cache=settings.cache)


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
