"""How fast the emulator is: `bench()` gives numbers for the kernels of bench_kernels.cu.

Needs nvcc. Compiling is timed twice, translated anew and from the disk cache, loading the PTX included. Running is the
best of several launches; the rates count the useful work of the operation, not what the kernel happens to do.
Checked launches are timed in turns with unchecked ones, so that both meet the same load of the machine.
"""

from __future__ import annotations

import ctypes
import os
import struct
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from . import jit
from .checked import CheckedKernel
from .grid import Compiled, compile_kernel, launch
from .module import load_ptx

T = TypeVar("T")
KERNELS = Path(__file__).with_name("bench_kernels.cu")


@dataclass(frozen=True, slots=True)
class Speed:
    """One kernel's numbers."""

    name: str
    compile_cold_seconds: float
    """PTX to native code"""
    compile_cached_seconds: float
    """the same from the disk cache"""
    seconds: float
    """best launch on `threads` threads"""
    rate: float
    """useful work per second"""
    unit: str
    """of rate: GB/s or GFLOP/s"""
    threads: int
    checked_ratio: float
    """how many times longer a launch takes with the memory, init and sync checkers; both on one thread, in this run"""
    raced_ratio: float
    """the same with the race checker too, on a part of the grid"""


@dataclass(frozen=True, slots=True)
class _Case:
    entry: str
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    arguments: tuple[int | float, ...]  # an int above 2^31 is a pointer
    layout: str
    shared_bytes: int
    work: float  # GB or GFLOP
    unit: str


def bench(*, threads: int = 1, repeats: int = 5, nvcc: str = "nvcc", only: Sequence[str] = ()) -> list[Speed]:
    """Times every kernel on `threads` threads. only: names to restrict it to."""
    with tempfile.TemporaryDirectory() as folder:
        ptx = Path(folder) / "bench_kernels.ptx"
        subprocess.run([nvcc, "-arch=sm_90", "-ptx", "-o", str(ptx), str(KERNELS)], check=True)
        text = ptx.read_text()
        before = jit.kept_in()
        jit.keep_in(Path(folder) / "cache")
        try:
            return [_time(text, case, threads, repeats) for case in _cases() if not only or case.entry in only]
        finally:
            jit.keep_in(before)


def _time(text: str, case: _Case, threads: int, repeats: int) -> Speed:
    def compile_it() -> Compiled:
        return compile_kernel(load_ptx(text, "bench_kernels.ptx"), case.entry, case.block)

    params = struct.pack("<" + case.layout, *case.arguments)
    cold, kernel = _clock(compile_it)

    def run() -> None:
        report = launch(kernel, case.grid, case.block, case.shared_bytes, params, threads)
        if report.message:
            raise RuntimeError(report.message)

    run()  # compiles divergent code, if any is met
    cached, kernel = _clock(compile_it)
    run()
    seconds = min(_clock(run)[0] for _ in range(repeats))
    checked, raced = _checked_ratios(text, case, kernel, params)
    return Speed(case.entry, cold, cached, seconds, case.work / seconds, case.unit, threads, checked, raced)


def _checked_ratios(text: str, case: _Case, kernel: Compiled, params: bytes) -> tuple[float, float]:
    """Best of three launches each, in turns; with races one of some blocks, since it takes long."""
    from . import _runtime

    module = load_ptx(text, "bench_kernels.ptx")
    total = case.grid[0] * case.grid[1] * case.grid[2]
    some = list(range(max(1, total // 32)))
    plain = CheckedKernel(module, case.entry, case.block, races=False)
    raced = CheckedKernel(module, case.entry, case.block, races=True)

    def fast(blocks: list[int] | None) -> float:
        return _clock(lambda: launch(kernel, case.grid, case.block, case.shared_bytes, params, 1, blocks))[0]

    def checked(which: CheckedKernel, blocks: list[int] | None) -> float:
        packed = ctypes.create_string_buffer(params, len(params))
        seconds, (_status, message, _blocks, findings) = _clock(
            lambda: which.check(case.grid, case.shared_bytes, ctypes.addressof(packed), sample_blocks=blocks)
        )
        wrong = [finding.text for finding in findings if finding.kind != "not checked"]
        if message or wrong:
            raise RuntimeError(message or wrong[0])
        return seconds

    _runtime.cuda.set_checking(True)
    try:
        pairs = [(fast(None), checked(plain, None)) for _ in range(3)]
        parts = [(fast(some), checked(raced, some)) for _ in range(3)]
    finally:
        _runtime.cuda.set_checking(False)
    return tuple(min(slow for _, slow in rows) / min(quick for quick, _ in rows) for rows in (pairs, parts))  # type: ignore[return-value]


def _clock(action: Callable[[], T]) -> tuple[float, T]:
    start = time.perf_counter()
    result = action()
    return time.perf_counter() - start, result


def _floats(count: int, *, written: bool) -> int:
    """Device memory of `count` floats between 1 and 2. written: for checkers it is an input."""
    from . import _runtime

    _runtime.cuda.set_checking(True)
    start = int(_runtime.cuda.allocate(4 * count))
    _runtime.cuda.set_checking(False)
    pattern = b"".join(struct.pack("<f", 1 + byte / 256) for byte in os.urandom(4096))
    whole = (pattern * (count // 4096 + 1))[: 4 * count]
    ctypes.memmove(start, whole, len(whole))
    if written:
        _runtime.cuda.mark_written(start, len(whole))
    return start


def _cases() -> list[_Case]:
    n, rows, cols, points = 512, 2048, 4096, 1 << 23
    big, other, out = _floats(points, written=True), _floats(points, written=True), _floats(points, written=False)
    bins = _floats(1 << 16, written=True)
    tiles32, tiles16 = n // 32, n // 16
    flop = 2 * n**3 / 1e9
    image, channels = 128, 16
    return [
        _Case("add", (points // 256, 1, 1), (256, 1, 1), (big, other, out, points), "QQQi", 0, 12e-9 * points, "GB/s"),
        _Case("rmsnorm", (rows, 1, 1), (256, 1, 1), (big, other, out, cols, 1e-5), "QQQif", 128,
              12e-9 * rows * cols, "GB/s"),
        _Case("softmax", (rows, 1, 1), (256, 1, 1), (big, out, cols), "QQi", 0, 8e-9 * rows * cols, "GB/s"),
        _Case("transpose", (64, 64, 1), (32, 8, 1), (big, out, 2048), "QQi", 0, 8e-9 * 2048**2, "GB/s"),
        _Case("histogram", (64, 1, 1), (256, 1, 1), (big, bins, points), "QQi", 0, 1e-9 * points, "GB/s"),
        _Case("matmul_tile32", (tiles32, tiles32, 1), (32, 32, 1), (big, other, out, n), "QQQi", 0, flop, "GFLOP/s"),
        _Case("matmul_tile16", (tiles16, tiles16, 1), (16, 16, 1), (big, other, out, n), "QQQi", 0, flop, "GFLOP/s"),
        _Case("matmul_naive", (tiles16, tiles16, 1), (16, 16, 1), (big, other, out, n), "QQQi", 0, flop, "GFLOP/s"),
        _Case("matmul_registers", (n // 64, n // 64, 1), (256, 1, 1), (big, other, out, n), "QQQi", 0, flop, "GFLOP/s"),
        _Case("convolution", (image // 16, image // 16, channels), (16, 16, 1),
              (big, other, out, channels, image, image), "QQQiii", 0, 18e-9 * channels**2 * image**2, "GFLOP/s"),
    ]  # fmt: skip
