"""How long builds take, for `kernelevo bench build`: our cold builds beside the standard one of the same kernel.

Takes a toolchain, gives a row per kind of build, all measured in one run. Cold: a source that no cache has seen, with
headers precompiled. The kernel is bench.cu, a layer normalisation over torch/extension.h. The standard build is nvcc
with the flags of torch.utils.cpp_extension and a link; it takes one to two minutes, and up to 2 GB.
"""

from __future__ import annotations

import secrets
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from kernelevo.build import build, warm
from kernelevo.errors import ToolchainError
from kernelevo.records import Build, BuildMethod, Candidate
from kernelevo.toolchain import HostCompiler, Toolchain, find_host_compilers

KERNEL = Path(__file__).with_name("bench.cu")


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildTime:
    """One kind of build."""

    name: str  # for example "split, clang++ 19.1.7"
    seconds: float  # median of the repetitions, wall clock
    repetitions: int
    ratio: float | None  # how many times faster than the standard build of this run; None for that one itself
    precompile_seconds: float | None  # spent once per machine on headers; None when that was done before, or not needed


def bench_build(toolchain: Toolchain, cache: Path, *, repetitions: int = 5) -> tuple[BuildTime, ...]:
    """The standard build once, then split builds with each host compiler. Raises ToolchainError when one fails."""
    with tempfile.TemporaryDirectory(prefix="kernelevo-bench-") as folder:
        scratch = Path(folder)
        (cache / "host").mkdir(parents=True, exist_ok=True)
        (scratch / "host").symlink_to((cache / "host").resolve())  # precompiled headers are shared, builds are not
        standard = _cold(toolchain, scratch, BuildMethod.STANDARD).seconds
        rows = [
            BuildTime(
                name=f"standard, nvcc {toolchain.nvcc.version} over all of torch {toolchain.torch.version}",
                seconds=standard,
                repetitions=1,
                ratio=None,
                precompile_seconds=None,
            )
        ]
        for host in find_host_compilers():
            rows += _split_rows(replace(toolchain, host=host), host, scratch, standard, repetitions)
    return tuple(rows)


def _split_rows(
    toolchain: Toolchain, host: HostCompiler, scratch: Path, standard: float, repetitions: int
) -> Iterator[BuildTime]:
    started = time.perf_counter()
    warm(toolchain, scratch)
    precompile = time.perf_counter() - started
    _cold(toolchain, scratch, BuildMethod.SPLIT)  # brings compilers and headers into the page cache
    builds = [_cold(toolchain, scratch, BuildMethod.SPLIT) for _ in range(repetitions)]
    seconds = statistics.median(result.seconds for result in builds)
    yield BuildTime(
        name=f"split, {host.family} {host.version}",
        seconds=seconds,
        repetitions=repetitions,
        ratio=standard / seconds,
        precompile_seconds=precompile if precompile > 1 else None,
    )


def _cold(toolchain: Toolchain, cache: Path, method: BuildMethod) -> Build:
    """A build of a source that no cache has seen."""
    source = f"{KERNEL.read_text()}// {secrets.token_hex(8)}\n"
    result = build(
        Candidate(source=source, entry="forward"), target="sm_90", toolchain=toolchain, cache=cache, method=method
    )
    if not result.succeeded or result.cached:
        raise ToolchainError(f"the benchmark's kernel does not build: {result.diagnostics or result.fallback_reason}")
    return result
