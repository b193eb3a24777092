"""Counted kernels: a kernel's diverged translation with calls to a Counter in it, and the counters of its launches.

Takes a Module, gives a CountedKernel; `count` runs a sample of the grid's blocks on one thread, so that the same
launch always has the same counters. What the events mean is count.py's; how they are collected csrc/emulator/count.h's.
"""

from __future__ import annotations

import ctypes
from typing import Any

from llvmlite import ir

from .check import Operation
from .count import Access, Events, Footprint, count
from .flow import Block, Program
from .grid import Compiled, LaunchStatus, Variant, compile_kernel, launch, sample
from .instruction import Instruction
from .module import Module
from .translate import Code, Touch

WARP = 32
I32, I64 = ir.IntType(32), ir.IntType(64)
ADDRESSES = ir.VectorType(I64, WARP)
BLOCK_HOOK, ACCESS_HOOK = 0, 1  # positions in _runtime.Counter.hooks
WRITES = frozenset(("st", "red", "atom"))
SPACES = {"global": 0, "const": 0, "shared": 1, "local": 2, "generic": 3}  # enum Space of count.h
LIMIT_SECONDS = 10.0  # of a counted launch: its blocks may wait for blocks that do not run


class Counting:
    """The Observer that adds the calls. Afterwards `sites` has each memory operation, in the order of its number."""

    name = "counted"
    converged = False

    def __init__(self) -> None:
        self.sites: list[tuple[str, bool, bool, int, int | None]] = []  # space, reads, writes, bytes, source line
        self.slot: ir.Value | None = None

    def start(self, code: Code) -> None:
        """Numbers are given as accesses come."""

    def learned(self) -> Any:
        return self.sites

    def recall(self, learned: Any) -> None:
        self.sites = [(space, reads, writes, size, line) for space, reads, writes, size, line in learned]

    def on_block(self, code: Code, block: Block, mask: ir.Value) -> None:
        code.call_hook(BLOCK_HOOK, I32(block.index), code.b.bitcast(mask, I32))

    def on_operation(self, code: Code, operation: Operation, mask: ir.Value) -> None:
        """Instructions are counted by block."""

    def on_wait(self, code: Code, operation: Operation, mask: ir.Value) -> None:
        """Waiting costs nothing that is counted."""

    def on_access(self, code: Code, touch: Touch) -> ir.Value:
        if touch.space not in SPACES or touch.request_bytes == 0:
            return touch.mask
        instruction = touch.operation.instruction
        reads, writes = instruction.opcode not in ("st", "red"), instruction.opcode in WRITES
        site = (touch.space, reads, writes, touch.request_bytes, instruction.source_line)
        if self.slot is None:
            with code.b.goto_entry_block():
                self.slot = code.b.alloca(ADDRESSES)
        code.b.store(code.addresses(touch.place), self.slot)
        code.call_hook(ACCESS_HOOK, I32(len(self.sites)), code.b.bitcast(touch.mask, I32), self.slot)
        self.sites.append(site)
        if touch.space == "generic":  # its shared twin, for the accesses that turn out to be to shared memory
            self.sites.append(("shared", *site[1:]))
        return touch.mask

    def on_branch(self, code: Code, block: Block, taken: ir.Value, mask: ir.Value) -> None:
        """Divergence shows in the lanes of the blocks."""


class CountedKernel:
    """One kernel at one block size, ready to be counted."""

    def __init__(self, module: Module, entry: str, block: tuple[int, int, int]) -> None:
        """Raises Unsupported and PtxError, with file:line:column; KeyError for an unknown entry."""
        self.observer = Counting()
        self.kernel: Compiled = compile_kernel(module, entry, block, Variant.COUNTED, observer=self.observer)
        self.blocks = straight_lines(self.kernel.job.program)
        self.warps_per_block = -(-(block[0] * block[1] * block[2]) // WARP)

    def count(
        self, grid: tuple[int, int, int], dynamic_shared_bytes: int, parameters: int, max_blocks: int
    ) -> tuple[int, str, int, dict[str, float]]:
        """Runs at most `max_blocks` blocks: (LaunchStatus, message, blocks run, counters scaled to the whole grid).

        parameters: address of the packed parameters.
        """
        from . import _runtime

        total = grid[0] * grid[1] * grid[2]
        chosen = sample(grid, min(max_blocks, total))
        counter = _runtime.Counter(
            [(SPACES[space], reads, writes, size) for space, reads, writes, size, _line in self.observer.sites],
            len(self.blocks),
        )
        report = launch(
            self.kernel,
            grid,
            self.kernel.block,
            dynamic_shared_bytes,
            ctypes.string_at(parameters, self.kernel.info.params_bytes),
            threads=1,
            time_limit_seconds=LIMIT_SECONDS,
            sample_blocks=chosen,
            hooks=counter.hooks,
            observer=counter.address,
        )
        if report.status is not LaunchStatus.DONE:
            return int(report.status), report.message, report.blocks_run, {}
        return 0, "", report.blocks_run, count(self.blocks, self._events(counter, total, len(chosen)))

    def _events(self, counter: Any, total: int, ran: int) -> Events:
        executions, lanes = counter.blocks()
        names = ("requests", "lanes", "sectors", "wavefronts", "ideal_wavefronts", "serial")
        return Events(
            grid_blocks=total,
            ran_blocks=ran,
            warps_per_block=self.warps_per_block,
            executions=executions,
            lanes=lanes,
            accesses=[
                Access(
                    space="global" if space in ("const", "generic") else space,
                    reads=reads,
                    writes=writes,
                    bytes=size,
                    source_line=line,
                    **dict(zip(names, counts, strict=True)),
                )
                for (space, reads, writes, size, line), counts in zip(self.observer.sites, counter.sites(), strict=True)
            ],
            footprints=[Footprint(*sectors) for sectors in counter.footprints()],
            hottest_of_one=counter.hottest_of_one,
            hottest_of_several=counter.hottest_of_several,
            block_read_sectors=counter.block_read_sectors,
            warp_read_sectors=counter.warp_read_sectors,
            reuse=counter.reuse(),
        )


def straight_lines(program: Program) -> list[list[Instruction]]:
    """The instructions of each block, by block number.

    A block that only continues another, split off for the translation's sake, gives its instructions to the one it
    continues: what a warp waits for is a matter of the whole straight line.
    """
    lines: list[list[Instruction]] = []
    first = 0
    for index, block in enumerate(program.blocks):
        operations = [*block.operations, *([block.control] if block.control else [])]
        lines.append([])
        first = first if block.continues else index
        lines[first] += [operation.instruction for operation in operations]
    return lines
