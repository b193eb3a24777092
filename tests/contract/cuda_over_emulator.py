"""The CUDA device where there is no GPU: everything of it is real but the driver, which is the emulator.

The worker's half below is CudaBackend with the emulator's torch and runtime instead of a CUDA build's; device memory is
therefore the emulator's own, and what it finds there is added. NVML is a card made of constants.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from kernelevo.devices import _cuda
from kernelevo.devices.confinement import Needs
from kernelevo.devices.cuda import CudaBackend, CudaDevice, Platform
from kernelevo.devices.wire import FindingMessage, Load
from kernelevo.worker import Effects

HERE = Path(__file__).parent
BACKEND = "cuda_over_emulator:CudaOverEmulator"


@contextmanager
def cuda_device_over_emulator(folder: Path) -> Iterator[CudaDevice]:
    """A CudaDevice whose driver and card are stand-ins, compiled into `folder`."""
    driver, nvml = folder / "libcuda.so.1", folder / "libnvidia-ml.so.1"
    for library, source in ((driver, HERE / "driver_stand_in.cpp"), (nvml, HERE.parent / "measure/nvml_stand_in.cpp")):
        subprocess.run(["g++", "-std=c++20", "-shared", "-fPIC", str(source), "-o", str(library)], check=True)
    settings = {"libraries": str(driver)}
    platform = Platform(backend=BACKEND, nvml=str(nvml), driver=str(driver), settings=settings, needs_cuda_torch=False)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("PYTHONPATH", str(HERE))  # for workers, which import this module
        device = CudaDevice(platform=platform)
        try:
            yield device
        finally:
            device.close()


class CudaOverEmulator(CudaBackend):
    """CudaBackend over the emulator."""

    def __init__(self, *, gpu: str, tf32: bool, guarded: bool, libraries: str) -> None:
        super().__init__(gpu=gpu, tf32=tf32, guarded=guarded)
        spec = importlib.util.find_spec("kernelevo.emulator._runtime")
        assert spec is not None
        assert spec.origin is not None
        os.environ["KERNELEVO_STAND_IN_RUNTIME"] = self._runtime = spec.origin
        self._libraries = libraries

    @property
    def needs(self) -> Needs:
        return Needs(read=(self._libraries,), threads=("emulated-gpu",))

    def warm(self) -> None:
        from kernelevo.emulator import kernels, runtime  # noqa: F401

        super().warm()
        runtime.start(threads=2)
        _cuda.set_libraries(self._libraries, self._runtime)

    def start(self) -> None:
        pass  # no context to make, and the allocator is the emulator's

    def import_module(self, load: Load) -> ModuleType:
        from kernelevo.emulator import runtime

        runtime.memory_limit(load.memory_bytes)
        assert load.ptx is not None
        return runtime.load(Path(load.artifact), Path(load.ptx), "candidate.ptx")

    def begin(self, *, poison: int, timeout_seconds: float, **rest: object) -> None:
        from kernelevo.emulator import runtime

        super().begin(poison=poison, timeout_seconds=timeout_seconds, **rest)  # type: ignore[arg-type]
        runtime.reset()
        runtime.poison(poison)
        runtime.time_limit(max(timeout_seconds - 0.5, 0.5 * timeout_seconds))

    def empty_strided(self, shape: Sequence[int], strides: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
        return torch.empty_strided(shape, strides, dtype=dtype, device="cuda")

    def end(self, error: BaseException | None) -> Effects:
        from kernelevo.emulator import runtime

        effects = super().end(error)
        effects.findings += [
            FindingMessage(kind="out of bounds", text=str(overrun)) for overrun in runtime.redzone_findings()
        ]
        return effects

    def driver(self) -> EmulatorDriver:
        return EmulatorDriver()


class EmulatorDriver:
    """What timing asks of a GPU, of the emulated one: its events tell the host's time, and nothing is captured."""

    def __init__(self) -> None:
        self._buffer = torch.empty(1 << 16, dtype=torch.uint8, device="cuda")

    def l2_bytes(self) -> int:
        return 1 << 15

    def upload(self, tensor: torch.Tensor) -> torch.Tensor:
        made = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="cuda")
        return made.copy_(tensor)

    def flush_l2(self) -> None:
        self._buffer.zero_()

    def reset_persisting_l2(self) -> None:
        _cuda.reset_persisting_l2()

    def delay(self, nanoseconds: float) -> None:
        pass

    def event(self) -> torch.cuda.Event:
        return torch.cuda.Event(enable_timing=True)

    def record(self, event: torch.cuda.Event) -> None:
        event.record()

    def wait(self, event: torch.cuda.Event) -> None:
        event.synchronize()

    def elapsed_ns(self, start: torch.cuda.Event, end: torch.cuda.Event) -> float:
        return max(1.0, start.elapsed_time(end) * 1e6)

    def fork(self, event: torch.cuda.Event) -> None:
        _cuda.fork_streams(torch.cuda.current_stream().cuda_stream, event.cuda_event)

    def join(self) -> None:
        _cuda.join_streams(torch.cuda.current_stream().cuda_stream)

    def synchronize(self) -> None:
        torch.cuda.synchronize()

    def capture(self, body: Callable[[], Any]) -> tuple[Any, Any]:
        raise RuntimeError("graphs are not emulated")

    def replay(self, graph: Any) -> None:
        raise RuntimeError("graphs are not emulated")

    def host_ns(self) -> int:
        return time.perf_counter_ns()
