"""Runs kernels of a .cu file on the emulator with numpy arrays as arguments. Compiles each file once per session."""

from __future__ import annotations

import struct
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from kernelevo import emulator
from kernelevo.emulator import LaunchStatus, Module, Report, Variant
from kernelevo.toolchain import find_nvcc

HERE = Path(__file__).parent
NVCC = find_nvcc()[0]
needs_nvcc = pytest.mark.nvcc

_SCALARS = {
    np.int32: "i",
    np.uint32: "I",
    np.int64: "q",
    np.uint64: "Q",
    np.float32: "f",
    np.float64: "d",
    np.int8: "b",
}


@cache
def module_of(name: str) -> Module:
    """The module of tests/emulator/NAME.cu."""
    assert NVCC is not None
    with tempfile.TemporaryDirectory() as folder:
        ptx = Path(folder) / f"{name}.ptx"
        subprocess.run([NVCC.path, "-arch=sm_90", "-lineinfo", "-ptx", "-o", ptx, HERE / f"{name}.cu"], check=True)
        return emulator.load_ptx(ptx.read_text(), ptx.name)


def pack(*arguments: np.ndarray | np.generic | bytes) -> bytes:
    """Kernel parameters as CUDA packs them: arrays as pointers, bytes as structs, each at its alignment."""
    packed = bytearray()
    for argument in arguments:
        if isinstance(argument, np.ndarray):
            data, alignment = struct.pack("Q", argument.ctypes.data), 8
        elif isinstance(argument, bytes):
            data, alignment = argument, 8
        else:
            data = struct.pack(_SCALARS[type(argument)], argument.item())
            alignment = len(data)
        packed += bytes(-len(packed) % alignment) + data
    return bytes(packed)


class Kernels:
    """Kernels of one .cu file: run("name", grid, block, arguments...)."""

    def __init__(self, name: str, variant: Variant = Variant.FAST) -> None:
        self.module = module_of(name)
        self.variant = variant

    def attempt(
        self, entry: str, grid: object, block: object, *arguments: object, shared: int = 0, threads: int | None = None,
        seconds: float = 30, sample_blocks: list[int] | None = None, cooperative: bool = False, schedule: int = 0,
    ) -> Report:  # fmt: skip
        kernel = emulator.compile_kernel(self.module, entry, _triple(block), self.variant)
        return emulator.launch(
            kernel, _triple(grid), _triple(block), shared, pack(*arguments), threads, sample_blocks,
            time_limit_seconds=seconds, cooperative=cooperative, schedule=schedule,
        )  # fmt: skip

    def run(self, entry: str, grid: object, block: object, *arguments: object, **options: object) -> None:
        report = self.attempt(entry, grid, block, *arguments, **options)  # type: ignore[arg-type]
        assert report.status is LaunchStatus.DONE, report.message


def _triple(value: object) -> tuple[int, int, int]:
    if isinstance(value, int):
        return value, 1, 1
    x, y, z = (*value, 1, 1)[:3]  # type: ignore[misc]
    return x, y, z
