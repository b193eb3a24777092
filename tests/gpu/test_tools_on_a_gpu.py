"""NVIDIA's tools on a real kernel: what they print is what our readers expect."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from results import Built, Record

from kernelevo.build import build
from kernelevo.devices.cuda import CudaDevice
from kernelevo.devices.cuda_tools import profile, sanitize
from kernelevo.records import Candidate
from kernelevo.toolchain import find_toolchain

pytestmark = [pytest.mark.gpu, pytest.mark.nvcc, pytest.mark.timeout(200)]

DEVICE = Path(__file__).parent.parent / "worker" / "candidates" / "device.cu"
WRITE_BEHIND = 4


@pytest.mark.skipif(shutil.which("ncu") is None, reason="ncu is not on the PATH")
def test_ncu_profiles_a_kernel(cuda: CudaDevice, built: Built, record: Record) -> None:
    text = profile(built("copy"), entry="forward", inputs=[torch.randn(1 << 22)], gpu=cuda.uuid)
    record("ncu on a copy of 16 MiB", text)
    if "ERR_NVGPUCTRPERM" in text:
        pytest.skip(text)
    assert "copy4" in text
    assert "DRAM Throughput" in text


@pytest.mark.skipif(shutil.which("compute-sanitizer") is None, reason="compute-sanitizer is not on the PATH")
def test_compute_sanitizer_finds_a_write_behind_memory(cuda: CudaDevice, cache_folder: Path, record: Record) -> None:
    candidate = Candidate(source=DEVICE.read_text(), entry="forward")
    made = build(candidate, target=cuda.target, toolchain=find_toolchain(), cache=cache_folder)
    # torch's allocator rounds sizes up: only far behind does memory end, so the tensor fills its segment of 2 MiB.
    inputs = [torch.randn(1 << 23), WRITE_BEHIND, 2.0]
    found = sanitize(made, entry="forward", inputs=inputs, gpu=cuda.uuid)
    record("compute-sanitizer on write_behind", found if isinstance(found, str) else [f.text for f in found])
    assert not isinstance(found, str), found
