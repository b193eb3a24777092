"""The emulated GPU in this process: device="cuda" tensors, the CUDA runtime, loading of candidates, what was seen.

    runtime.start()                                  # torch has device="cuda" from here on
    module = runtime.load(artifact, ptx, "candidate")
    runtime.poison(0xA5); runtime.reset()
    y = module.forward(x.cuda())
    runtime.synchronize()
    runtime.launches(), runtime.faults(), runtime.redzone_findings(), runtime.pending_work()

State is the process's own, as a CUDA context's: one candidate per process, or `reset` between calls. Candidates run in
this process with all its rights; confinement is the caller's. `start` creates no threads, so a process may start, then
fork children that load and run candidates.

What differs from a GPU: random numbers, the speed, the order of floating-point sums inside ATen operators (they run on
the CPU), and that ATen operators under a side stream take effect at once. Errors follow CUDA's rules: a launch that the
target would refuse is a cudaError that the candidate can look at, and a kernel that faults spoils the context.
A thread that a candidate starts needs Python's lock the first time it launches a kernel; if `forward` holds the lock
while it joins that thread, both wait forever. `forward` must release it (py::gil_scoped_release) or launch by itself.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.machinery import ExtensionFileLoader, ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from kernelevo.emulator.refused import NO_KERNEL_IMAGE, RefusedError

__all__ = ["EmulatorError", "Fault", "Launch", "Overrun", "PendingWork", "RefusedError", "load", "start"]

if TYPE_CHECKING:
    from kernelevo.emulator.checked import CheckedKernel, Finding, UncheckedKernel
    from kernelevo.emulator.kernels import CandidateModule, Facts


class EmulatorError(Exception):
    """The emulator cannot be used in this process; the message says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """One kernel launch, refused or not, in the order of the program."""

    kernel: str  # entry name in the PTX
    grid: tuple[int, int, int]  # blocks
    block: tuple[int, int, int]  # threads
    dynamic_shared_bytes: int
    static_shared_bytes: int
    registers: int  # per thread; 0 when not known
    stream: int  # cudaStream_t; 0 is the legacy default stream
    error: int  # cudaError; 0: accepted, and if finished, done
    reason: str  # why it was refused or failed, in words
    finished: bool  # False: refused, failed, or waiting in a stream that nobody joined
    blocks_run: int
    seconds: float  # that the emulator took
    counters: Mapping[str, float]  # of a counted launch


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Something that went wrong on the device, or that nobody looked at."""

    kind: str  # "unsupported", "trap", "assert", "timeout", "deadlock", "emulator", "unchecked launch error", ...
    kernel: str  # entry name
    text: str
    error: int  # cudaError that the program got


@dataclass(frozen=True, slots=True, kw_only=True)
class Overrun:
    """A write outside an allocation, or into a released one, found by the bytes it damaged."""

    origin: str  # "tensor", "cudaMalloc", "pinned host memory", "managed memory"
    size: int  # of the allocation, in bytes
    offset: int  # of the first damaged byte from the start of the allocation; negative: before it
    bytes: int  # damaged
    after_release: bool

    def __str__(self) -> str:
        if self.after_release:
            return f"wrote {self.bytes} bytes into a {self.origin} of {self.size} bytes after its release"
        if self.offset < 0:
            return f"wrote {self.bytes} bytes before a {self.origin} of {self.size} bytes, from byte {self.offset}"
        past = self.offset - self.size
        return f"wrote {self.bytes} bytes past the end of a {self.origin} of {self.size} bytes, {past} bytes behind it"


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingWork:
    """Work in a stream that nothing has waited for."""

    stream: int
    blocking: bool  # whether the legacy default stream would have waited for it
    what: str  # kernel entry, "copy", "fill", ...


@dataclass(slots=True)
class _Settings:
    started: bool = False
    threads: int = 0
    time_limit_seconds: float = 0.0
    schedule: int = 0
    findings: list[Finding] = field(default_factory=list)  # of checked launches since the last reset


_settings = _Settings()
_modules: dict[int, CandidateModule] = {}  # by the module numbers of csrc/cuda_runtime/modules.h


def start(*, threads: int | None = None) -> None:
    """Makes device="cuda" real in this process. Again: only sets `threads`.

    Must come before the process's first backward(), at which torch's autograd counts the devices for good.

    threads: that run the blocks of a grid; None is all cores. Raises EmulatorError when torch is a CUDA build, or when
    the extensions were not built.
    """
    if not _settings.started:
        _import_extensions()
        from kernelevo.emulator import _runtime, torch_cuda

        torch_cuda.install()
        _runtime.cuda.set_source(_describe, _measure, _compile, _locate)
        _settings.started = True
    if threads is not None:
        _settings.threads = threads
    _apply_settings()


def load(
    artifact: Path,
    ptx: Path | None,
    name: str,
    *,
    registers: Mapping[str, int] | None = None,
    object_cache: Path | None = None,
) -> ModuleType:
    """Imports a candidate's extension; its kernels are those of `ptx`.

    artifact: the shared object; PyInit_<name up to the first dot> must be in it.
    ptx: None for an object that nvcc linked with its PTX uncompressed (-no-compress).
    name: says in messages what the PTX belongs to.
    registers: per thread, by entry, from ptxas; launches that need too many are refused.
    object_cache: folder for compiled kernels, so that the next process need not compile them.

    Raises ImportError, with the symbol's name in it, for an object that needs a function of CUDA which is not emulated,
    and RefusedError for PTX that cannot be read.
    """
    start()
    from kernelevo.emulator import _runtime, jit

    if object_cache is not None:
        jit.keep_in(object_cache)
    number = _runtime.cuda.begin_module(name)
    try:
        if ptx is not None:
            _modules[number] = _new_module(ptx.read_text(), name, registers)
        module = _import(artifact, f"module{number}")
    except BaseException:
        _runtime.cuda.end_module(number, 0)
        raise
    _runtime.cuda.end_module(number, _image_of(artifact))
    if ptx is None:
        _module_name, text, problem = _runtime.cuda.module_info(number)
        if not text:
            reason = problem or "it registered no kernels"
            raise RefusedError(f"{artifact}: {reason}", kind="no PTX", cuda_error=NO_KERNEL_IMAGE)
        _modules[number] = _new_module(text, name, registers)
    return module


def reset() -> None:
    """Forgets launches, faults, errors and work that is still queued, as a new context would. Memory stays."""
    from kernelevo.emulator import _runtime

    _runtime.cuda.discard_pending_work()
    _runtime.cuda.reset_log()
    _runtime.cuda.reset_errors()
    _runtime.cuda.take_overruns()
    _runtime.cuda.reset_copied()
    _settings.findings.clear()


def synchronize() -> int:
    """Waits for the device; the cudaError is that of a kernel which faulted, else 0."""
    from kernelevo.emulator import _runtime

    return int(_runtime.cuda.synchronize())


def poison(byte: int) -> None:
    """Byte that fresh device memory is filled with from now on."""
    from kernelevo.emulator import _runtime

    _runtime.cuda.set_poison(byte)


def count(sample_blocks: int | None) -> None:
    """From now on launches count events and run at most this many blocks; None: run everything and count nothing."""
    from kernelevo.emulator import _runtime

    _runtime.cuda.set_counting(sample_blocks is not None, sample_blocks or 0)


def check(on: bool) -> None:
    """From now on launches that are not counted are checked: `findings` says what they did wrong. Accesses that are
    not allowed are left out, and the launch goes on; each launch runs on one thread. Device memory that is made from
    now on is known byte by byte to be written or not."""
    from kernelevo.emulator import _runtime

    _runtime.cuda.set_checking(on)


def stub(on: bool) -> None:
    """From now on launches are judged and logged as ever, and run nothing."""
    from kernelevo.emulator import _runtime

    _runtime.cuda.set_stubbing(on)


def name_memory(address: int, name: str) -> None:
    """What findings call the allocation that starts at `address`, for example "input 0 [129] float32"."""
    from kernelevo.emulator import _runtime

    _runtime.cuda.set_name(address, name)


def time_limit(seconds: float | None) -> None:
    """Of each launch; a kernel that runs longer is a fault of kind "timeout". None: no limit."""
    _settings.time_limit_seconds = seconds or 0.0
    _apply_settings()


def schedule(seed: int) -> None:
    """Order of warps and blocks of uncounted launches from now on: 0 is ascending, any other value seeds another.

    It also orders streams: with 0 their work runs only when somebody waits for it, otherwise some of it runs before.
    """
    _settings.schedule = seed
    _apply_settings()


def memory_limit(size_bytes: int) -> None:
    """Most bytes of device memory that may be in use; more is "out of memory" to the program."""
    from kernelevo.emulator import _runtime

    _runtime.cuda.set_memory_limit(size_bytes)


def launches() -> tuple[Launch, ...]:
    """Since the last `reset`."""
    from kernelevo.emulator import _runtime

    return tuple(Launch(**record) for record in _runtime.cuda.launches())


def faults() -> tuple[Fault, ...]:
    """Since the last `reset`: kernels that failed or could not be emulated. Empty when all went well."""
    from kernelevo.emulator import _runtime

    return tuple(Fault(**fault) for fault in _runtime.cuda.faults())


def findings() -> tuple[Finding, ...]:
    """What checked launches did wrong since the last `reset`: the first of each kind, kernel and line."""
    first: dict[tuple[str, str, object], Finding] = {}
    for found in _settings.findings:
        first.setdefault((found.kind, found.kernel, found.line or found.position), found)
    return tuple(first.values())


def copied_bytes() -> tuple[int, int]:
    """Bytes that were copied from host to device and from device to host since the last `reset`."""
    from kernelevo.emulator import _runtime

    into, out = _runtime.cuda.copied()
    return int(into), int(out)


def unchecked_errors() -> tuple[Fault, ...]:
    """Launches that were refused and that the program has not looked at with cudaGetLastError since."""
    from kernelevo.emulator import _runtime

    return tuple(Fault(**fault) for fault in _runtime.cuda.unchecked_errors())


def pending_work() -> tuple[PendingWork, ...]:
    """What is queued in streams and was not waited for; it stays queued."""
    from kernelevo.emulator import _runtime

    return tuple(PendingWork(stream=s, blocking=b, what=w) for s, b, w in _runtime.cuda.pending_work())


def redzone_findings() -> tuple[Overrun, ...]:
    """Writes outside allocations since the last call. Each damaged place is reported once."""
    from kernelevo.emulator import _runtime

    names = ("origin", "size", "offset", "bytes", "after_release")
    return tuple(Overrun(**{name: found[name] for name in names}) for found in _runtime.cuda.take_overruns())


def error_name(error: int) -> str:
    """ "cudaErrorInvalidConfiguration" for 9."""
    from kernelevo.emulator import _runtime

    return str(_runtime.cuda.error_name(error))


def _apply_settings() -> None:
    from kernelevo.emulator import _runtime

    _runtime.cuda.set_run_settings(_settings.threads, _settings.time_limit_seconds, _settings.schedule)


def _import_extensions() -> None:
    import torch

    if torch.version.cuda is not None or torch.version.hip is not None:
        raise EmulatorError(
            f"torch {torch.__version__} is built for GPUs; the emulator needs a CPU build of it in its process: "
            "install torch==2.13.0+cpu from a package index that has it"
        )
    try:
        from kernelevo.emulator import _runtime

        # Candidates and _tensors find its symbols by name, also where it was imported the ordinary way before.
        ctypes.CDLL(_runtime.__file__, mode=os.RTLD_NOW | os.RTLD_GLOBAL | os.RTLD_NOLOAD)
        flags = sys.getdlopenflags()
        sys.setdlopenflags(os.RTLD_NOW | os.RTLD_GLOBAL)
        try:
            from kernelevo.emulator import _tensors  # noqa: F401
        finally:
            sys.setdlopenflags(flags)
    except ImportError as error:
        raise EmulatorError(
            f"the emulator's extensions cannot be loaded ({error}); run `make install`, or "
            "`python setup.py build_ext --inplace` after a change in csrc/ or of torch"
        ) from error


def _import(artifact: Path, package: str) -> ModuleType:
    # PyInit_ is looked up by the name's last part, pybind11 remembers modules by the whole name.
    name = f"{package}.{artifact.name.partition('.')[0]}"
    loader = ExtensionFileLoader(name, str(artifact))
    module = importlib.util.module_from_spec(ModuleSpec(name, loader, origin=str(artifact)))
    loader.exec_module(module)
    return module


def _image_of(artifact: Path) -> int:
    """An address inside the loaded object: its executable mapping's start."""
    path = str(artifact.resolve())
    with open("/proc/self/maps", encoding="utf-8") as maps:
        for line in maps:
            if line.rstrip("\n").endswith(path):
                return int(line.partition("-")[0], 16)
    return 0


# --- what the runtime asks of Python ---------------------------------------------------------------------------------


def _describe(number: int, entry: str) -> Facts:
    return _of(number).describe(entry)


def _measure(number: int, entry: str) -> tuple[int, int, int]:
    return _of(number).measure(entry)


def _compile(number: int, entry: str, block: tuple[int, int, int], variant: str) -> tuple[Any, int]:
    from kernelevo.emulator.checked import CheckedKernel, UncheckedKernel
    from kernelevo.emulator.grid import Variant

    kernel, shared_bytes = _of(number).compile(entry, block, Variant(variant))
    if isinstance(kernel, CheckedKernel | UncheckedKernel):
        return _CheckedLaunches(kernel), shared_bytes
    return kernel, shared_bytes


class _CheckedLaunches:
    """A checked kernel as the runtime launches it: with this process's settings, its findings kept."""

    def __init__(self, kernel: CheckedKernel | UncheckedKernel) -> None:
        self.kernel = kernel

    def check(
        self, grid: tuple[int, int, int], dynamic_shared_bytes: int, parameters: int, cooperative: bool
    ) -> tuple[int, str, int, dict[str, float]]:
        """(LaunchStatus, message, blocks run, no counters). parameters: address of the packed parameters."""
        status, message, blocks, found = self.kernel.check(
            grid,
            dynamic_shared_bytes,
            parameters,
            cooperative=cooperative,
            schedule=_settings.schedule,
            time_limit_seconds=_settings.time_limit_seconds,
        )
        _settings.findings += found
        return int(status), f": {message}" if message else "", blocks, {}


def _locate(number: int, variable: str) -> tuple[int, int]:
    return _of(number).locate(variable)


def _of(number: int) -> CandidateModule:
    module = _modules.get(number)
    if module is None:  # an object that another library loaded
        from kernelevo.emulator import _runtime

        name, text, problem = _runtime.cuda.module_info(number)
        if not text:
            raise RefusedError(f"{name}: {problem or 'no PTX'}", kind="no PTX", cuda_error=NO_KERNEL_IMAGE)
        module = _modules[number] = _new_module(text, name, None)
    return module


def _new_module(text: str, name: str, registers: Mapping[str, int] | None) -> CandidateModule:
    from kernelevo.emulator.kernels import CandidateModule

    return CandidateModule(text, name, registers=registers or {})
