"""The emulated GPU as a device. The only module that imports kernelevo.emulator, on both sides of the wall:

- EmulatorDevice, in the trusted parent, keeps one warm fork server and opens sessions; it predicts the time of
  counted launches, from the worker's counters and what ptxas said of the kernel;
- EmulatorBackend, in the worker, loads candidates, gives them tensors on the emulated GPU, and reads its log.

Compiled kernels are kept in a folder beside the candidate's own artifact: a candidate that writes there reaches its
own next run and nobody else's. Not covered: several GPUs, and compiled kernels shared between candidates.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from kernelevo.devices import Call, Launch, LaunchTime
from kernelevo.devices.confinement import Needs
from kernelevo.devices.isolation import Protection, Sandbox
from kernelevo.devices.session import ForkServer, WorkerSession
from kernelevo.devices.wire import MAX_LAUNCHES, FindingMessage, LaunchMessage, Load
from kernelevo.errors import ToolchainError, UsageError
from kernelevo.mangled import kernel_name
from kernelevo.records import Build, KernelResources, TimingKind
from kernelevo.toolchain import GET_CPU_TORCH, find_torch

if TYPE_CHECKING:
    import torch

    from kernelevo.devices import Value
    from kernelevo.emulator.predict import Gpu
    from kernelevo.worker import CallOutcome, Effects

BACKEND = "kernelevo.devices.emulator:EmulatorBackend"


class EmulatorDevice:
    """An emulated NVIDIA GPU. Its fork server starts, in the background, with the object."""

    name = "emulator"
    timing_kind = TimingKind.PREDICTED
    checks = True

    def __init__(self, *, gpu: str = "h100_sxm", threads: int | None = None, sandbox: Sandbox = "best-effort") -> None:
        """gpu: whose time is predicted and which target is compiled for, a key of emulator/gpus.toml.
        threads: of each worker for the blocks of a grid; None is all cores.
        sandbox: "required": `open` raises UsageError where a protection is missing.
        """
        # First of all: the server imports torch meanwhile.
        self._server = (
            ForkServer(BACKEND, {"threads": threads or 0}, sandbox=sandbox) if self.unavailable() is None else None
        )
        from kernelevo.emulator import predict

        self._gpu = predict.load_gpu(gpu)
        self.target = self._gpu.target
        self.timing_target = self._gpu.title
        self.facts: Mapping[str, float] = {
            f"{name}.{inner}" if inner else name: float(number)
            for name, value in self._gpu.constants.items()
            for inner, number in (value.items() if isinstance(value, Mapping) else (("", value),))
            if not isinstance(number, str)
        }
        self.timing_method = f"prediction {predict.VERSION}"

    @property
    def isolation(self) -> tuple[Protection, ...]:
        """What keeps a candidate in here, and what does not hold. Waits for the fork server."""
        return self._running().wait().isolation

    def unavailable(self) -> str | None:
        torch = find_torch()
        if torch and torch.cuda:  # which comes without the extension _tensors
            return f"torch {torch.version} is built for CUDA; {GET_CPU_TORCH}"
        missing = [
            name
            for name in ("kernelevo.emulator._runtime", "kernelevo.emulator._tensors", "llvmlite", "torch")
            if importlib.util.find_spec(name) is None
        ]
        if missing:
            return f"{', '.join(missing)} not found; run `pip install` in the checkout again"
        return None

    def open(self, build: Build, *, entry: str, timeout_seconds: float, memory_bytes: int) -> EmulatorSession:
        if build.artifact is None:
            raise UsageError(f"candidate {build.candidate} has no artifact", next_step="open successful builds only")
        load = Load(
            artifact=str(build.artifact),
            ptx=None if build.ptx is None else str(build.ptx),
            entry=entry,
            object_cache=str(build.artifact.parent / "objects"),
            memory_bytes=memory_bytes,
            registers={kernel.kernel: kernel.registers for kernel in build.resources},
        )
        session = WorkerSession(self._running(), load, timeout_seconds=timeout_seconds)
        return EmulatorSession(session, self._gpu, {kernel.kernel: kernel for kernel in build.resources})

    def close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    def _running(self) -> ForkServer:
        if self._server is None:
            raise UsageError("the emulator is closed, or cannot run here", next_step="run `kernelevo doctor`")
        return self._server


class EmulatorSession:
    """A worker's session whose counted launches have a predicted time."""

    def __init__(self, session: WorkerSession, gpu: Gpu, resources: Mapping[str, KernelResources]) -> None:
        self._session = session
        self._gpu = gpu
        self._resources = resources

    def call(
        self,
        inputs: Sequence[Value],
        *,
        poison: int = 0xA5,
        schedule: int = 0,
        sample_blocks: int | None = None,
        checked: bool = False,
        stubbed: bool = False,
        same_memory: bool = False,
    ) -> Call:
        call = self._session.call(
            inputs,
            poison=poison,
            schedule=schedule,
            sample_blocks=sample_blocks,
            checked=checked,
            stubbed=stubbed,
            same_memory=same_memory,
        )
        if sample_blocks is None:
            return call
        return replace(call, launches=tuple(replace(launch, time=self._time(launch)) for launch in call.launches))

    def close(self) -> None:
        self._session.close()

    def __enter__(self) -> EmulatorSession:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _time(self, launch: Launch) -> LaunchTime | None:
        """None for a launch that was not counted, or of a kernel that ptxas did not report."""
        from kernelevo.emulator.predict import Resources, predict

        kernel = self._resources.get(launch.kernel)
        if kernel is None or not launch.counters:
            return None
        resources = Resources(registers=kernel.registers, shared_bytes=kernel.shared_bytes + launch.shared_bytes)
        try:
            predicted = predict(self._gpu, launch.counters, grid=launch.grid, block=launch.block, resources=resources)
        except (ArithmeticError, ValueError):  # counters come from the worker: they may be anything
            return None
        return LaunchTime(
            median_ns=predicted.seconds * 1e9,
            low_ns=predicted.low_seconds * 1e9,
            high_ns=predicted.high_seconds * 1e9,
            bottleneck=predicted.words,
            terms_ns={
                "launch": self._gpu["launch_seconds"] * 1e9,
                **{name: seconds * 1e9 for name, seconds in predicted.terms.items()},
            },
        )


def start_here() -> None:
    """Makes device="cuda" real in this process: no worker, no confinement. Raises ToolchainError where it cannot."""
    from kernelevo.emulator import runtime

    try:
        runtime.start()
    except runtime.EmulatorError as error:
        raise ToolchainError(str(error)) from error


def load_here(build: Build) -> ModuleType:
    """Imports a build's module into this process, after `start_here`."""
    from kernelevo.emulator import runtime

    assert build.artifact is not None
    return runtime.load(
        build.artifact,
        build.ptx,
        build.candidate,
        registers={kernel.kernel: kernel.registers for kernel in build.resources},
        object_cache=build.artifact.parent / "objects",
    )


class EmulatorBackend:
    """The worker's half: see kernelevo.worker.Backend."""

    device_type = "cuda"
    needs = Needs(threads=("emulated-gpu",))  # see csrc/emulator/workers.cpp

    def __init__(self, *, threads: int) -> None:
        """threads: that run the blocks of a grid; 0 is all cores."""
        self._threads = threads
        self._inputs = 0  # tensors made for the current call
        self._input_bytes = 0  # theirs, which the worker copies in before the candidate runs

    def warm(self) -> None:
        import torch

        from kernelevo.emulator import kernels, runtime  # noqa: F401 - kernels: imported once, for all workers

        runtime.start(threads=self._threads or None)
        torch.empty(4, device="cuda").fill_(1).cpu()

    def load(self, load: Load) -> ModuleType:
        from kernelevo.emulator import runtime
        from kernelevo.worker import RefusedError

        runtime.memory_limit(load.memory_bytes)
        try:
            return runtime.load(
                Path(load.artifact),
                None if load.ptx is None else Path(load.ptx),
                "candidate.ptx",
                registers=load.registers,
                object_cache=Path(load.object_cache),
            )
        except runtime.RefusedError as refused:
            raise RefusedError("unsupported", str(refused)) from None

    def begin(
        self,
        *,
        poison: int,
        schedule: int,
        sample_blocks: int | None,
        checked: bool,
        stubbed: bool,
        timeout_seconds: float,
    ) -> None:
        from kernelevo.emulator import runtime

        runtime.reset()
        runtime.poison(poison)
        runtime.schedule(schedule)
        runtime.count(sample_blocks)
        runtime.check(checked)
        runtime.stub(stubbed)
        self._inputs, self._input_bytes = 0, 0
        # Ends a kernel that hangs a moment before the parent would end us, so that it can be named.
        runtime.time_limit(max(timeout_seconds - 0.5, 0.5 * timeout_seconds))

    def empty_strided(self, shape: Sequence[int], strides: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
        import torch

        from kernelevo.emulator import runtime

        tensor = torch.empty_strided(shape, strides, dtype=dtype, device="cuda")
        size = "[" + ", ".join(str(length) for length in shape) + "]"
        name = f"input {self._inputs} {size} {str(dtype).removeprefix('torch.')}"
        runtime.name_memory(tensor.untyped_storage().data_ptr(), name)
        self._inputs += 1
        self._input_bytes += tensor.nbytes
        return tensor

    def end(self, error: BaseException | None) -> Effects:
        """Reads the emulator's log. Work on a stream that nothing joined has not happened, and is not waited for."""
        from kernelevo.emulator import runtime
        from kernelevo.worker import Effects

        effects = Effects()
        faults = runtime.faults()
        if faults:
            first = faults[0]
            effects.outcome = _OUTCOMES.get(first.kind, "crashed")
            effects.reason = f"kernel {kernel_name(first.kernel)}: {first.text}" if first.kernel else first.text
            if first.kind == "emulator":
                effects.reason = f"the emulator itself failed: {effects.reason}"
        launches = runtime.launches()
        effects.launches = [
            LaunchMessage(
                kernel=launch.kernel,
                grid=launch.grid,
                block=launch.block,
                shared_bytes=launch.dynamic_shared_bytes,
                counters=dict(launch.counters),
            )
            for launch in launches[:MAX_LAUNCHES]
            if not launch.error
        ]
        effects.findings = [
            FindingMessage(kind="bad launch", text=f"kernel {kernel_name(bad.kernel)}: {bad.text}", kernel=bad.kernel)
            for bad in runtime.unchecked_errors()
        ]
        effects.findings += [
            FindingMessage(
                kind=found.kind,
                text=f"kernel {kernel_name(found.kernel)}{f', line {found.line}' if found.line else ''}: {found.text}",
                kernel=found.kernel,
                line=found.line,
                block=found.block,
                thread=found.thread,
                address=found.address,
                allocation=found.allocation,
                access_bytes=found.access_bytes,
            )
            for found in runtime.findings()
        ]
        effects.findings += [
            FindingMessage(kind="out of bounds", text=str(overrun)) for overrun in runtime.redzone_findings()
        ]
        effects.findings += [
            FindingMessage(kind="unjoined stream", text=f"nothing waits for {kernel_name(work.what)} on a side stream")
            for work in runtime.pending_work()
            if not work.blocking  # the default stream, and so our copy of the outputs, waits for the others
        ]
        into, effects.copied_out_bytes = runtime.copied_bytes()
        effects.copied_in_bytes = max(into - self._input_bytes, 0)
        return effects


# What a fault says about the candidate. A kind that is not here is something it did: "trap", "illegal address", ...
_OUTCOMES: Mapping[str, CallOutcome] = {
    "unsupported": "unsupported",
    "emulator": "unsupported",
    "no PTX": "unsupported",
    "timeout": "timed out",
    "deadlock": "timed out",
}
