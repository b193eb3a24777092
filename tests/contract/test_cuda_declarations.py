"""What csrc/cuda_device declares of CUDA is compared with the headers of the CUDA toolkit that is installed."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from kernelevo.toolchain import find_nvcc


@pytest.mark.nvcc
def test_our_declarations_agree_with_the_toolkits_headers() -> None:
    nvcc, _ = find_nvcc()
    assert nvcc is not None
    source = Path(__file__).parent / "cuda_declarations.cpp"
    command = ["g++", "-std=c++20", "-fsyntax-only", "-isystem", str(nvcc.include), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[:3000]
