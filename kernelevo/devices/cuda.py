"""The CUDA device: candidates run and are timed on an NVIDIA GPU of this machine, in workers like the emulator's.

Takes builds, gives sessions; see kernelevo/devices/__init__.py for both contracts. Two halves, in two processes:

- CudaDevice, in the parent, never touches CUDA: what it knows of the card comes from NVML. It keeps fork servers that
  do not touch CUDA either, since a process that did cannot be forked: one for judging, and one per kind of timing;
- CudaBackend, in the worker, starts CUDA with the first call. When candidates are judged, device memory comes from
  an allocator with poison and canaries (csrc/cuda_device/guarded_memory.cpp); when they are timed, from torch's own.

The host object is the emulator's: kernelevo_launch and the CUDA runtime's functions about kernels are found in
kernelevo.devices._cuda, which is loaded globally before torch is. `checked` and `sample_blocks` change nothing here:
NVIDIA's own tools, which watch accesses and count events in processes of their own, are in cuda_tools.py.

Not covered: several GPUs at once, MIG instances, and kernels that hang a GPU which has no watchdog: the worker is
killed, and the driver must then end what it left.
"""

from __future__ import annotations

import ctypes
import functools
import glob
import importlib.util
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from kernelevo.devices.confinement import Needs
from kernelevo.devices.isolation import Protection, Sandbox
from kernelevo.devices.nvml import LIBRARY, CardFacts, Nvml
from kernelevo.devices.session import ForkServer, WorkerSession
from kernelevo.devices.timed_session import WorkerTimedSession
from kernelevo.devices.wire import MAX_LAUNCHES, FindingMessage, LaunchMessage, Load, TimingRequest
from kernelevo.errors import ToolchainError, UsageError
from kernelevo.mangled import kernel_name
from kernelevo.records import Build, Task, TimingKind
from kernelevo.toolchain import GET_CUDA_TORCH, find_torch

if TYPE_CHECKING:
    import torch

    from kernelevo.devices.sampling import Sampler
    from kernelevo.worker import Effects, Timed

BACKEND = "kernelevo.devices.cuda:CudaBackend"
BASELINE_BACKEND = "kernelevo.devices.cuda_baseline:BaselineBackend"
PROTOCOL = "measurement 1"  # version of measure/protocol.py
OLDEST = (7, 0)  # compute capability that candidates are compiled for
ADDRESS_SPACE_BYTES = 1 << 46  # CUDA reserves address space for the memory of all devices and the host
DRIVER = "libcuda.so.1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """Where the parts of CUDA are. The defaults are those of NVIDIA's driver."""

    backend: str = BACKEND
    nvml: str = LIBRARY
    driver: str = DRIVER
    settings: Mapping[str, object] = field(default_factory=dict)  # more keyword arguments of the backend
    needs_cuda_torch: bool = True


class CudaDevice:
    """One NVIDIA GPU."""

    name = "cuda"
    timing_kind = TimingKind.MEASURED
    timing_method = PROTOCOL
    checks = False

    def __init__(
        self,
        *,
        gpu: str | None = None,
        tf32: bool = False,
        sandbox: Sandbox = "best-effort",
        platform: Platform | None = None,
    ) -> None:
        """gpu: its UUID, as nvidia-smi -L lists it; None is the first. tf32: whether float32 matrix products may use
        it, in candidates' torch calls and in baselines alike. sandbox: "required": `open` raises UsageError where a
        protection is missing. Raises nothing where there is no GPU; see `unavailable`.
        """
        self._gpu = gpu
        self.tf32 = tf32
        self._sandbox = sandbox
        self._platform = platform or Platform()
        self._servers: dict[str, ForkServer] = {}
        self._closed = False
        if self.unavailable() is None:
            self._server("judge")  # it imports torch meanwhile

    # What it is. These raise UsageError where there is no GPU.

    @property
    def target(self) -> str:
        major, minor = self._facts().compute_capability
        # 9.0 has instructions of its own that only its "a" target may use; plain sm_90 stays loadable on successors.
        return f"sm_{major}{minor}"

    @property
    def timing_target(self) -> str:
        return self._facts().name

    @property
    def facts(self) -> Mapping[str, float]:
        rate = self._facts().memory_bytes_per_second
        return {} if rate is None else {"dram_bytes_per_second": rate}

    @property
    def uuid(self) -> str:
        return self._facts().uuid

    @property
    def driver_version(self) -> str:
        return self._facts().driver

    @property
    def isolation(self) -> tuple[Protection, ...]:
        """What keeps a candidate in here, and what does not hold. Waits for the fork server."""
        return self._server("judge").wait().isolation

    @classmethod
    def missing(cls) -> str | None:
        """What `unavailable` says, without starting anything."""
        device = cls.__new__(cls)
        device._gpu, device._platform = None, Platform()
        return device.unavailable()

    def unavailable(self) -> str | None:
        """Everything that is missing, in words; None when the GPU can be used. Starts nothing on the GPU."""
        problems = self._card_problems()
        torch = find_torch()
        if self._platform.needs_cuda_torch:
            if torch is None:
                problems.append(f"torch is not installed; {GET_CUDA_TORCH}")
            elif not torch.cuda:
                problems.append(f"torch {torch.version} is a CPU build; {GET_CUDA_TORCH}")
        if _library_path() is None:
            problems.append("kernelevo.devices._cuda is not built; run `pip install` in the checkout again")
        return "; ".join(problems) or None

    def _card_problems(self) -> list[str]:
        try:
            card = self._read_facts()
            if card.compute_capability < OLDEST:
                major, minor = card.compute_capability
                return [f"{card.name} has compute capability {major}.{minor}; 7.0 or newer is needed"]
            ctypes.CDLL(self._platform.driver)
        except ToolchainError as error:
            return [f"no NVIDIA GPU: {error.args[0]}"]
        except OSError as error:
            return [f"the NVIDIA driver's {self._platform.driver} cannot be loaded ({error})"]
        return []

    def open(self, build: Build, *, entry: str, timeout_seconds: float, memory_bytes: int) -> WorkerSession:
        load = _load_of(build, entry, memory_bytes)
        return WorkerSession(self._server("judge"), load, timeout_seconds=timeout_seconds)

    def open_timed(self, build: Build, *, entry: str, timeout_seconds: float, memory_bytes: int) -> WorkerTimedSession:
        """A session of a fresh worker that times calls."""
        load = _load_of(build, entry, memory_bytes)
        return WorkerTimedSession(WorkerSession(self._server("time"), load, timeout_seconds=timeout_seconds))

    def open_baseline(
        self, task: Task, *, baseline: str, timeout_seconds: float, memory_bytes: int
    ) -> WorkerTimedSession:
        """A fresh worker that times the task's reference. baseline: a key of cuda_baseline.COMPILE."""
        file = task.folder / "reference.py"
        load = Load(
            artifact=str(file.resolve()),
            ptx=None,
            entry="reference",
            object_cache=str(file.resolve().parent),
            memory_bytes=memory_bytes,
            address_space_bytes=ADDRESS_SPACE_BYTES,
        )
        # Compiling takes much longer than a call.
        session = WorkerSession(self._server(baseline), load, timeout_seconds=max(timeout_seconds, 300.0))
        return WorkerTimedSession(session)

    def clocks(self) -> Nvml | None:
        """The card's state, for the blocks of a measurement."""
        return Nvml(uuid=self.uuid, library=self._platform.nvml)

    def memory_bytes_per_second(self) -> float | None:
        return self._facts().memory_bytes_per_second

    def close(self) -> None:
        self._closed = True
        for server in self._servers.values():
            server.close()
        self._servers.clear()

    def _server(self, purpose: str) -> ForkServer:
        """purpose: "judge", "time", or the name of a baseline."""
        if self._closed or (purpose not in self._servers and (self.unavailable() is not None)):
            raise UsageError(
                "the CUDA device is closed" if self._closed else f"no CUDA device here: {self.unavailable()}",
                next_step="use --device emulator, or run `kernelevo doctor`",
            )
        if purpose not in self._servers:
            settings: dict[str, object] = {"gpu": self.uuid, "tf32": self.tf32, **self._platform.settings}
            if purpose in ("judge", "time"):
                backend = self._platform.backend
                settings["guarded"] = purpose == "judge"
            else:
                backend, settings["baseline"] = BASELINE_BACKEND, purpose
            self._servers[purpose] = ForkServer(backend, settings, sandbox=self._sandbox)
        return self._servers[purpose]

    def _facts(self) -> CardFacts:
        try:
            return self._read_facts()
        except ToolchainError as error:
            raise UsageError(f"no NVIDIA GPU: {error.args[0]}", next_step="use --device emulator") from error

    @functools.cache  # noqa: B019 - a device lives as long as its process uses it
    def _read_facts(self) -> CardFacts:
        with Nvml(uuid=self._gpu, library=self._platform.nvml) as card:
            return card.facts()


class CudaBackend:
    """The worker's half: see kernelevo.worker.Backend and TimingBackend."""

    device_type = "cuda"

    def __init__(self, *, gpu: str, tf32: bool, guarded: bool) -> None:
        """gpu: UUID. guarded: device memory with poison and canaries, and launches noted; not for timing.

        Runs in the fork server before torch is imported, so that candidates and torch find our functions first.
        """
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
        os.environ["CUDA_CACHE_DISABLE"] = "1"  # nothing of one candidate's kernels is kept for another
        self._tf32 = tf32
        self._guarded = guarded
        self._started = False
        self._sampler: Sampler | None = None
        library = _library_path()
        if library is None:
            raise RuntimeError("kernelevo.devices._cuda is not built")
        ctypes.CDLL(library, mode=os.RTLD_NOW | os.RTLD_GLOBAL)

    @property
    def needs(self) -> Needs:
        """The GPU's device files, all of which the driver opens (nvidia-uvm-tools too), and what it reads; names of
        threads that it starts.
        """
        devices = [path for path in glob.glob("/dev/nvidia*") if not os.path.isdir(path)]
        return Needs(
            read=tuple(
                filter(
                    os.path.exists,
                    (
                        "/proc/driver/nvidia",
                        "/proc/devices",
                        "/sys/bus/pci",
                        "/sys/devices",
                        "/usr/local",
                        "/usr/share/nvidia",
                    ),
                )
            ),
            devices=(*sorted(devices), *glob.glob("/dev/nvidia-caps/*")),
            # The driver makes memory files when it starts, and gives up (error 304) where it may not (NVIDIA/OpenShell
            # issue 1696). It also binds a local socket (cuda-uvmfd-...); whether it goes on without is not documented.
            # Connecting stays refused.
            calls=("socket", "bind", "listen", "memfd_create"),
            threads=("cuda", "pt_autograd"),
        )

    def warm(self) -> None:
        """Imports what calls need. CUDA itself starts in the worker: a process that started it cannot be forked."""
        import torch

        torch.backends.cuda.matmul.allow_tf32 = self._tf32
        torch.backends.cudnn.allow_tf32 = self._tf32

    def load(self, load: Load) -> ModuleType:
        from kernelevo.devices import _cuda
        from kernelevo.worker import RefusedError

        _cuda.set_memory_limit(load.memory_bytes)
        _cuda.begin_loading()
        try:
            problem = load_image(load)
            if problem is not None:
                raise RefusedError("unsupported", problem)
            return self.import_module(load)
        finally:
            _cuda.end_loading()

    def import_module(self, load: Load) -> ModuleType:
        from importlib.machinery import ExtensionFileLoader, ModuleSpec

        artifact = Path(load.artifact)
        name = artifact.name.partition(".")[0]
        loader = ExtensionFileLoader(name, str(artifact))
        module = importlib.util.module_from_spec(ModuleSpec(name, loader, origin=str(artifact)))
        loader.exec_module(module)
        return module

    def start(self) -> None:
        """Starts CUDA in this process."""
        import torch

        if self._guarded:
            path = _library_path()
            assert path is not None
            allocator = torch.cuda.memory.CUDAPluggableAllocator(
                path, "kernelevo_guarded_malloc", "kernelevo_guarded_free"
            )
            torch.cuda.memory.change_current_allocator(allocator)
        torch.cuda.init()  # type: ignore[no-untyped-call]
        torch.zeros(1, device="cuda")

    def synchronize(self) -> None:
        """Waits for what the candidate put on the current stream; raises RuntimeError when a kernel failed."""
        import torch

        torch.cuda.current_stream().synchronize()

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
        import torch

        from kernelevo.devices import _cuda

        if not self._started:
            self.start()
            self._started = True
        torch.cuda.synchronize()  # also for what an earlier call left on streams of its own
        _cuda.set_poison(poison)
        if self._guarded:
            _cuda.take_overruns()
        _cuda.reset(record=self._guarded, stubbed=stubbed, delay_side_streams=self._guarded)

    def empty_strided(self, shape: Sequence[int], strides: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
        import torch

        return torch.empty_strided(shape, strides, dtype=dtype, device="cuda")

    def end(self, error: BaseException | None) -> Effects:
        """What the driver and our own library saw. Waits for the current stream only: what others do is not visible."""
        from kernelevo.devices import _cuda
        from kernelevo.worker import Effects

        effects = Effects()
        launched = _cuda.launches()
        effects.launches = [
            LaunchMessage(
                kernel=one["kernel"],
                grid=one["grid"],
                block=one["block"],
                shared_bytes=one["shared_bytes"],
                counters={},
            )
            for one in launched[:MAX_LAUNCHES]
            if not one["error"]
        ]
        effects.findings = [
            FindingMessage(
                kind="bad launch", text=f"kernel {kernel_name(one['kernel'])}: {one['text']}", kernel=one["kernel"]
            )
            for one in _cuda.unseen_refusals()
        ]
        _cuda.forget_errors()  # or torch would raise it when outputs are copied
        try:
            self.synchronize()
        except RuntimeError as failure:
            ran = [one for one in launched if not one["error"]] or launched
            kernels = sorted({kernel_name(one["kernel"]) for one in ran})
            words = str(failure).strip().splitlines()[0].removeprefix("CUDA error: ")
            effects.outcome = "timed out" if "timed out" in words else "crashed"
            effects.reason = f"kernel {' or '.join(kernels)}: {words}" if kernels else words
            return effects
        effects.findings += [
            FindingMessage(
                kind="unjoined stream", text=f"nothing waits for {kernel_name(kernel)} on a side stream", kernel=kernel
            )
            for kernel in _cuda.busy_kernels()
        ]
        if self._guarded:
            effects.findings += [
                FindingMessage(kind="out of bounds", text=_overrun(size, offset, count))
                for size, offset, count in _cuda.take_overruns()
            ]
        return effects

    def time(self, entry: Callable[..., Any], request: TimingRequest, values: Sequence[Any], *, stubbed: bool) -> Timed:
        from kernelevo.worker import Timed

        if request.step == "prepare":
            from kernelevo.devices.sampling import Sampler

            self._sampler = Sampler(self.driver(), entry)
            count = len(values) // request.input_sets
            sets = [values[i : i + count] for i in range(0, len(values), count)]
            return Timed(facts=self._sampler.prepare(sets, rotate_bytes=request.rotate_bytes))
        if self._sampler is None:
            raise RuntimeError("no inputs were prepared in this worker")
        if request.step == "run":
            self._sampler.run(mode=request.mode, calls=request.calls, seed=request.seed)
            return Timed()
        samples, outputs, facts = self._sampler.sample(
            mode=request.mode, calls=request.calls, checked_call=request.checked_call, seed=request.seed
        )
        return Timed(samples_ns=samples, outputs=outputs, facts=facts)

    def driver(self) -> Any:
        """The driver that calls are timed by."""
        from kernelevo.devices import _cuda
        from kernelevo.devices.driver import CudaDriver

        return CudaDriver(
            fork_streams=_cuda.fork_streams,
            join_streams=_cuda.join_streams,
            reset_persisting_l2=_cuda.reset_persisting_l2,
        )


def load_image(load: Load) -> str | None:
    """Gives the candidate's kernels to the driver: the cubin, or PTX where it does not fit. Says why neither does."""
    from kernelevo.devices import _cuda

    if load.ptx is None:
        return None  # nvcc's own object, which registers its kernels with the runtime
    problems = []
    for image in filter(None, (load.cubin, load.ptx)):
        try:
            _cuda.load_image(Path(image).read_bytes())
            return None
        except RuntimeError as error:
            problems.append(str(error))
    return problems[0]


def _load_of(build: Build, entry: str, memory_bytes: int) -> Load:
    if build.artifact is None:
        raise UsageError(f"candidate {build.candidate} has no artifact", next_step="open successful builds only")
    return Load(
        artifact=str(build.artifact),
        ptx=None if build.ptx is None else str(build.ptx),
        cubin=str(cubin) if (cubin := build.artifact.with_name("candidate.cubin")).exists() else None,
        entry=entry,
        object_cache=str(build.artifact.parent / "objects"),
        memory_bytes=memory_bytes,
        address_space_bytes=ADDRESS_SPACE_BYTES,
    )


def _library_path() -> str | None:
    """Of kernelevo.devices._cuda, without importing it."""
    spec = importlib.util.find_spec("kernelevo.devices._cuda")
    return None if spec is None else spec.origin


def _overrun(size: int, offset: int, count: int) -> str:
    if offset < 0:
        return f"wrote {count} bytes before a tensor of {size} bytes, from byte {offset}"
    return f"wrote {count} bytes past the end of a tensor of {size} bytes, {offset - size} bytes behind it"
