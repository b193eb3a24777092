"""What the CUDA device has beyond the contract: steps of a measurement, guarded memory, what is missing here.

The driver is the emulator's (cuda_over_emulator.py); nothing here is a statement about a GPU.
"""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from cuda_over_emulator import cuda_device_over_emulator

from kernelevo.build import build
from kernelevo.devices.cuda import CudaDevice, Platform
from kernelevo.devices.emulator import EmulatorDevice
from kernelevo.errors import UsageError
from kernelevo.records import Build, Candidate, Outcome
from kernelevo.toolchain import find_toolchain

SOURCE = Path(__file__).parent.parent / "worker" / "candidates" / "device.cu"
SCALE, WRITE_NOTHING = 0, 6


@pytest.fixture(scope="module")
def device(emulator: EmulatorDevice, tmp_path_factory: pytest.TempPathFactory) -> Iterator[CudaDevice]:
    with cuda_device_over_emulator(tmp_path_factory.mktemp("driver")) as opened:
        yield opened


@pytest.fixture(scope="module")
def built(device: CudaDevice, cache_folder: Path) -> Build:
    candidate = Candidate(source=SOURCE.read_text(), entry="forward")
    return build(candidate, target=device.target, toolchain=find_toolchain(), cache=cache_folder)


@pytest.mark.nvcc
def test_steps_of_a_measurement_are_made_in_a_worker_and_timed_there_and_here(device: CudaDevice, built: Build) -> None:
    sets = [[torch.randn(64, 8), SCALE, 2.0] for _ in range(3)]
    with device.open_timed(built, entry="forward", timeout_seconds=60, memory_bytes=1 << 30) as session:
        prepared = session.prepare(sets, rotate_bytes=20 * 64 * 8 * 4)
        assert (prepared.outcome, prepared.reason) == (Outcome.PASSED, None)
        assert dict(prepared.facts) == {"copies": 20, "l2_bytes": 1 << 15}
        for mode in ("cold", "warm"):
            call = session.sample(mode=mode, calls=6, seed=17, checked_call=4)
            assert (call.outcome, call.reason, call.findings) == (Outcome.PASSED, None, ())
            assert len(call.samples_ns) == 6
            assert all(nanoseconds > 0 for nanoseconds in call.samples_ns)
            assert sum(call.samples_ns) < call.seconds * 1e9
            given = session.inputs_of(seed=17, call=4)
            assert not torch.equal(given[0], sets[1][0])  # swapped
            assert torch.equal(call.outputs[0], 2 * given[0])
        assert session.run(mode="warm", calls=10, seed=1).outcome is Outcome.PASSED
        assert session.run(mode="warm", calls=10, seed=1, stubbed=True).outcome is Outcome.PASSED


@pytest.mark.nvcc
def test_a_step_that_cannot_be_made_is_an_ordinary_call_with_its_reason(device: CudaDevice, built: Build) -> None:
    with device.open_timed(built, entry="forward", timeout_seconds=60, memory_bytes=1 << 30) as session:
        lost = session.sample(mode="cold", calls=1, seed=1)
        assert lost.outcome is Outcome.CRASHED
        assert "no inputs were prepared" in str(lost.reason)
        session.prepare([[torch.ones(4), SCALE, 2.0]] * 3, rotate_bytes=0)
        assert "graphs are not emulated" in str(session.sample(mode="graph", calls=1, seed=1).reason)


@pytest.mark.nvcc
def test_stubbed_launches_are_noted_and_run_nothing(device: CudaDevice, built: Build) -> None:
    x = torch.ones(4, 100)
    with device.open(built, entry="forward", timeout_seconds=60, memory_bytes=1 << 30) as session:
        call = session.call([x, SCALE, 3.0], poison=0x5A, stubbed=True)
        assert [launch.kernel for launch in call.launches] == ["_Z5scalePKfPfif"]
        assert bool((call.outputs[0].view(torch.uint8) == 0x5A).all())
        assert torch.equal(session.call([x, SCALE, 3.0]).outputs[0], 3 * x)


def test_guarded_memory_is_poisoned_and_writes_beside_it_are_found_once(device: CudaDevice) -> None:
    script = textwrap.dedent(
        """
        import ctypes, os, sys
        from kernelevo.devices import _cuda
        _cuda.set_libraries(sys.argv[1], "")
        library = ctypes.CDLL(_cuda.__file__)
        malloc, free = library.kernelevo_guarded_malloc, library.kernelevo_guarded_free
        malloc.restype = ctypes.c_void_p
        malloc.argtypes = [ctypes.c_ssize_t, ctypes.c_int, ctypes.c_void_p]
        free.argtypes = [ctypes.c_void_p, ctypes.c_ssize_t, ctypes.c_int, ctypes.c_void_p]
        _cuda.set_poison(0x3C)
        block, other = malloc(1000, 0, None), malloc(7, 0, None)
        assert ctypes.string_at(block, 1000) == b"\\x3c" * 1000
        assert block % 256 == other % 256 == 0
        assert _cuda.take_overruns() == []
        ctypes.memset(block, 0, 1000)
        ctypes.memset(other, 0, 7)
        assert _cuda.take_overruns() == []
        ctypes.memset(block + 1000, 0, 4)   # right behind the last byte
        ctypes.memset(block - 8, 0, 2)
        free(other, 7, 0, None)
        ctypes.memset(other + 9, 0, 1)      # after its release
        print(sorted(_cuda.take_overruns()), _cuda.take_overruns())
        """
    )
    command = [sys.executable, "-c", script, device._platform.driver]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ})
    assert (done.stdout, done.stderr) == ("[(7, 9, 1), (1000, -8, 2), (1000, 1000, 4)] []\n", "")


def test_what_is_missing_for_a_gpu_is_named_piece_by_piece(device: CudaDevice, tmp_path: Path) -> None:
    nothing = CudaDevice(platform=Platform(nvml=str(tmp_path / "libnvidia-ml.so.1")))
    assert str(nothing.unavailable()).startswith("no NVIDIA GPU: ")
    with pytest.raises(UsageError, match="no NVIDIA GPU"):
        _ = nothing.target
    cards = device._platform.nvml
    driverless = CudaDevice(platform=Platform(nvml=cards, driver=str(tmp_path / "libcuda.so.1")))
    assert "libcuda.so.1 cannot be loaded" in str(driverless.unavailable())
    other = CudaDevice(gpu="GPU-other", platform=Platform(nvml=cards))
    assert "nvmlDeviceGetHandleByUUID failed: NVML error 6 (Not Found)" in str(other.unavailable())


@pytest.mark.skipif(torch.version.cuda is not None, reason="this torch is a CUDA build")
def test_a_cpu_build_of_torch_is_named(device: CudaDevice) -> None:
    platform = Platform(nvml=device._platform.nvml, driver=device._platform.driver)
    assert f"torch {torch.__version__} is a CPU build" in str(CudaDevice(platform=platform).unavailable())


def test_a_closed_device_says_so(device: CudaDevice, built: Build) -> None:
    closed = CudaDevice(platform=device._platform)
    closed.close()
    with pytest.raises(UsageError, match="closed"):
        closed.open(built, entry="forward", timeout_seconds=1, memory_bytes=1 << 30)
