"""compile_kernel and launch: one kernel at one block size, made native on first use and run over a grid.

Takes a Module (module.py). Compiling is lazy twice over: per block size, because the block's dimensions decide what the
analysis can prove, and per half, because most kernels never run their diverged half.
"""

from __future__ import annotations

import ctypes
import enum
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from . import jit
from .check import Operation, adds_floats_across_blocks
from .flow import Program, build_program, find_live, split
from .layout import Layout, lay_out
from .module import KernelInfo, Module
from .shapes import find_shapes, grid_limit
from .translate import Job, Observer, translate_converged, translate_diverged


class Variant(enum.Enum):
    """What a translation is for."""

    FAST = "fast"
    COUNTED = "counted"
    """Only diverged code, with an Observer's calls in it; one lane mask per block and access."""
    CHECKED = "checked"
    """Both halves, with an Observer's calls in them."""


class LaunchStatus(enum.IntEnum):
    """How a launch ended; csrc/emulator/grid.h."""

    DONE = 0
    TRAPPED = 1
    ASSERTED = 2
    TIMED_OUT = 3
    BARRIER_DEADLOCK = 4
    COMPILE_FAILED = 5
    OUT_OF_MEMORY = 6
    ILLEGAL_ADDRESS = 7


@dataclass(frozen=True, slots=True)
class Site:
    """A place where a warp can stop: the control operation, or else the first operation, of a block."""

    position: str
    """file:line:column of the PTX"""
    source_line: int | None
    """line of the .cu file, with -lineinfo"""


@dataclass(frozen=True, slots=True)
class Report:
    """What came of a launch."""

    status: LaunchStatus
    message: str
    """Empty when DONE; else what happened and where."""
    block: tuple[int, int, int]
    """The block that stopped the launch"""
    warp: int
    blocks_run: int
    site: int
    """Number of the place of a stop in Compiled.sites; -1 when not known"""


def compile_kernel(
    module: Module,
    entry: str,
    block: tuple[int, int, int],
    variant: Variant = Variant.FAST,
    *,
    observer: Observer | None = None,
) -> Compiled:
    """Native code for blocks of `block` threads. An observer makes the COUNTED and the CHECKED variant.

    Raises Unsupported and PtxError, with file:line:column; KeyError for an unknown entry.
    """
    x, y, z = block
    if not (x > 0 and y > 0 and z > 0 and x * y * z <= 1024):
        raise ValueError(f"a block of {x} x {y} x {z} threads cannot be launched; at most 1024 threads")
    return Compiled(module, module.kernels[entry], (x, y, z), variant, observer)


class Compiled:
    """One kernel at one block size, ready to launch. `address` is that of the C struct Kernel."""

    def __init__(
        self, module: Module, info: KernelInfo, block: tuple[int, int, int], variant: Variant, observer: Observer | None
    ) -> None:
        from kernelevo.emulator import _runtime

        self.module, self.info, self.block, self.variant, self.observer = module, info, block, variant, observer
        diverged_only = variant is Variant.COUNTED
        facts: dict[str, Any]
        converged = diverged = 0
        if diverged_only:
            facts = _facts(self.job)
            diverged = self._make_diverged()
        else:
            name = self._key("converged" if observer is None else f"{observer.name} converged")
            kept = jit.read(name)
            if kept is None:
                facts = _facts(self.job)
                code = jit.compile_module(translate_converged(self.job, observer))
                if observer is not None:
                    facts["learned"] = observer.learned()
                jit.write(name, facts, code)
            else:
                facts, code = kept
                if observer is not None:
                    observer.recall(facts["learned"])
            converged = jit.load(code, "converged")
        self.shared_bytes = int(facts["shared_bytes"])
        self.local_bytes = int(facts["local_bytes"])
        self.fixed_order = bool(facts["fixed_order"])
        self.sites = tuple(Site(position, line) for position, line in facts["sites"])
        self.kernel = _runtime.Kernel(
            converged=converged,
            diverged=diverged,
            make_diverged=None if diverged_only else self._make_diverged,
            globals=ctypes.addressof(module.addresses),
            frame_bytes=int(facts["frame_bytes"]),
            shared_bytes=self.shared_bytes,
            local_bytes=self.local_bytes,
            params_bytes=info.params_bytes,
            block=block,
            grid_limit=grid_limit(block),
            fixed_order=self.fixed_order,
        )

    @property
    def address(self) -> int:
        """Of the struct Kernel of csrc/emulator/grid.h; valid as long as this object lives."""
        return int(self.kernel.address)

    def where(self, site: int) -> str:
        """A place that a report names: PTX position and, with -lineinfo, the line of the .cu file."""
        if not 0 <= site < len(self.sites):
            return self.info.name
        place = self.sites[site]
        return f"{place.position} (line {place.source_line} of the .cu file)" if place.source_line else place.position

    @cached_property
    def job(self) -> Job:
        """The analysed program; made only when something must be translated."""
        function = self.module.file.functions[self.info.name]
        program = build_program(self.module.file, function)
        split(program, _first_wait, leaves=False)
        find_live(program)
        shapes = find_shapes(program, self.block)
        if shapes.checks:
            split(program, lambda operation, _before: id(operation) in shapes.checks, leaves=True)
            find_live(program)
        threads = self.block[0] * self.block[1] * self.block[2]
        return Job(program, lay_out(self.module.file, program), shapes, threads)

    def _make_diverged(self) -> int:
        observer = self.observer
        name = self._key("diverged" if observer is None else observer.name)
        kept = jit.read(name)
        if kept is None:
            code = jit.compile_module(translate_diverged(self.job, observer))
            jit.write(name, {"learned": None if observer is None else observer.learned()}, code)
        else:
            facts, code = kept
            if observer is not None:
                observer.recall(facts["learned"])
        return jit.load(code, "diverged")

    def _key(self, half: str) -> str:
        function = self.module.file.functions[self.info.name]
        return jit.key(half, str(self.block), *_sources(self.module, function.name, set()))


def launch(
    kernel: Compiled,
    grid: tuple[int, int, int],
    block: tuple[int, int, int],
    shared_bytes: int,
    params: bytes,
    threads: int | None = None,
    sample_blocks: Sequence[int] | None = None,
    *,
    time_limit_seconds: float = 0,
    hooks: Sequence[int] = (),
    observer: int = 0,
    cooperative: bool = False,
    schedule: int = 0,
    watcher: int = 0,
) -> Report:
    """Runs a grid and waits for it.

    shared_bytes: dynamic shared memory. params: the packed parameters. threads: of this CPU, None for all it has,
    or for one when the kernel adds floats atomically across blocks, so that it gives the same bits every time.
    sample_blocks: linear block numbers to run instead of all (see `sample`). hooks, observer: addresses of the C
    functions and of the first argument that an Observer's code uses. cooperative: the kernel may call grid.sync().
    schedule: seeds the order of warps and blocks, 0 to 2**64 - 1 (csrc/emulator/grid.h); 0 is ascending order. One
    schedule on one thread is one order. watcher: address of a Watcher of csrc/emulator/grid.h.
    """
    from kernelevo.emulator import _runtime

    if block != kernel.block:
        raise ValueError(f"compiled for blocks of {kernel.block} threads, launched with {block}")
    if len(params) < kernel.info.params_bytes:
        raise ValueError(f"{kernel.info.name} takes {kernel.info.params_bytes} bytes of parameters, not {len(params)}")
    memory = ctypes.create_string_buffer(params, len(params) + 64)
    start = -(-ctypes.addressof(memory) // 16) * 16
    if start != ctypes.addressof(memory):
        memory = ctypes.create_string_buffer(len(params) + 80)
        start = -(-ctypes.addressof(memory) // 16) * 16
        ctypes.memmove(start, params, len(params))
    found = _runtime.launch(
        kernel.kernel,
        grid=grid,
        shared_bytes=shared_bytes,
        params=start,
        threads=threads or 0,
        time_limit_seconds=time_limit_seconds,
        sample_blocks=list(sample_blocks) if sample_blocks is not None else None,
        hooks=list(hooks),
        observer=observer,
        cooperative=cooperative,
        schedule=schedule,
        watcher=watcher,
    )
    status = LaunchStatus(found.status)
    return Report(status, _message(kernel, status, found), found.block, found.warp, found.blocks_run, found.site)


def sample(grid: tuple[int, int, int], count: int) -> list[int]:
    """At most `count` linear block numbers, evenly spread over the grid as pairs of neighbours, in order."""
    total = grid[0] * grid[1] * grid[2]
    if total <= count:
        return list(range(total))
    pairs = max(1, count // 2)
    starts = [total * k // pairs for k in range(pairs)]
    return sorted({each for start in starts for each in (start, min(start + 1, total - 1))})[:count]


def _message(kernel: Compiled, status: LaunchStatus, found: Any) -> str:
    if status is LaunchStatus.DONE:
        return ""
    what = {
        LaunchStatus.TRAPPED: "trap executed",
        LaunchStatus.ASSERTED: f"device-side assertion: {found.message}",
        LaunchStatus.TIMED_OUT: "timed out",
        LaunchStatus.BARRIER_DEADLOCK: "waits for a barrier that not all threads of the block reach",
        LaunchStatus.COMPILE_FAILED: "could not be translated",
        LaunchStatus.OUT_OF_MEMORY: "this machine has no memory left for the blocks of the grid",
        LaunchStatus.ILLEGAL_ADDRESS: "accessed memory that is not there",
    }[status]
    if status is LaunchStatus.OUT_OF_MEMORY:
        return f"{kernel.info.name}: {what}"
    return f"{kernel.where(found.site)}: {what}, block {found.block}, warp {found.warp}"


def _facts(job: Job) -> dict[str, Any]:
    layout: Layout = job.layout
    return {
        "frame_bytes": layout.frame_bytes,
        "shared_bytes": layout.shared_bytes,
        "local_bytes": layout.local_bytes,
        "fixed_order": any(adds_floats_across_blocks(each) for each in job.program.operations()),
        "sites": _sites(job.program),
    }


def _sites(program: Program) -> list[tuple[str, int | None]]:
    sites: list[tuple[str, int | None]] = []
    for block in program.blocks:
        operation = block.control or (block.operations[0] if block.operations else None)
        if operation:
            sites.append((str(operation.instruction.position), operation.instruction.source_line))
        else:
            sites.append(sites[-1] if sites else ("", None))
    return sites


def _first_wait(operation: Operation, before: list[Operation]) -> bool:
    """A warp operation starts a block, unless the same lanes have met in this block before."""
    if not operation.waits_for_lanes:
        return False
    return not any(each.waits_for_lanes and each.members == operation.members for each in before)


def _sources(module: Module, name: str, seen: set[str]) -> list[str]:
    """Everything in the file that a kernel's code depends on: its text, the variables and what it may call."""
    function = module.file.functions[name]
    seen.add(name)
    parts = [
        module.file.name, str(function.position), str(function.parameters), str(function.results), function.text,
    ]  # fmt: skip
    if name in module.kernels:
        parts.append(str([(v.name, v.space, v.size, v.alignment) for v in module.file.variables.values()]))
    for other in module.file.functions.values():
        if not other.is_entry and other.body_span and other.name not in seen and other.name in function.text:
            parts += _sources(module, other.name, seen)
    return parts
