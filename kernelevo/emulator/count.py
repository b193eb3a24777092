"""Raw events of a counted launch in, named counters of the whole launch out.

Takes the instructions of each basic block, how often each block ran with which lanes, and what each memory
instruction touched (csrc/emulator/count.h), all for the blocks of the grid that ran; gives the counters that
predict.py takes, scaled to the whole grid. Scaling supposes that the sampled blocks stand for the others.

Counters (per launch; "instructions" are executions by a warp):

    warps, blocks, warp_instructions, thread_instructions
    fp32_, fp64_, half_, int_, special_, convert_, convert64_, shuffle_instructions
    flops                       float operations of active lanes, an FMA counting two
    global_requests, global_sectors, global_read_sectors, global_write_sectors
    global_lanes, global_bytes  active lanes of those requests, and what they move
    local_requests, local_sectors
    shared_requests, shared_wavefronts, shared_ideal_wavefronts
    block_read_sectors          distinct sectors that each block reads, summed over blocks
    warp_read_sectors           distinct sectors that each warp reads, summed over warps
    reuse_within_1 ... 32768    sector reads that repeat one of the same warp, fewer than so many sectors before
    unique_read_bytes, unique_write_bytes     distinct bytes of the launch, in whole sectors
    atomics                     executions
    shared_atomic_serial        the longest queue on one shared address of each execution, summed
    hottest_atomics             lanes' atomics on the busiest global address
    barriers, branches, divergent_executions
    path_load, path_shared, path_shuffle, path_special, path_arithmetic
                                dependent operations on the longest path of each executed basic block, summed over
                                warps: what a warp waits for one after the other
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from kernelevo.emulator.instruction import Address, Instruction, Operand, Pair, Register, Vector

SECTOR_BYTES = 32

# Machine instructions that ptxas 13.0 makes for sm_90 of one PTX instruction, where it is not one, on the path that
# ordinary values take: read off `nvdisasm -c` of kernels that hold that one operation. First match wins.
EXPANSIONS: Sequence[tuple[str, str | None, str | None, Mapping[str, float]]] = (
    # opcode, modifier, type (None: any), class -> count
    ("mov", None, None, {}),
    ("cvta", None, None, {}),
    ("div", "rn", "f32", {"fp32": 6, "special": 1, "control": 3}),
    ("div", None, "f32", {"fp32": 4, "special": 1}),
    ("div", None, "f64", {"fp64": 8, "fp32": 3, "int": 1, "special": 1, "control": 3}),
    ("div", None, "s32", {"int": 21, "convert": 2, "special": 1}),
    ("div", None, "u32", {"int": 15, "convert": 2, "special": 1}),
    ("div", None, None, {"int": 80, "convert64": 4, "special": 2, "control": 3}),
    ("rem", None, "s32", {"int": 19, "convert": 2, "special": 1}),
    ("rem", None, "u32", {"int": 14, "convert": 2, "special": 1}),
    ("rem", None, None, {"int": 80, "convert64": 4, "special": 2, "control": 3}),
    ("rcp", "rn", "f32", {"fp32": 3, "int": 3, "special": 1, "control": 3}),
    ("rcp", None, "f64", {"fp64": 5, "fp32": 1, "int": 1, "special": 1, "control": 3}),
    ("sqrt", "rn", "f32", {"fp32": 4, "int": 2, "special": 1, "control": 3}),
    ("sqrt", None, "f64", {"fp64": 8, "int": 5, "special": 1, "control": 3}),
    ("rsqrt", None, "f64", {"fp64": 5, "int": 5, "special": 1, "control": 3}),
    ("rsqrt", "ftz", None, {"special": 1}),
    ("rsqrt", None, "f32", {"fp32": 3, "special": 1}),
    ("ex2", "ftz", None, {"special": 1}),
    ("ex2", None, "f32", {"fp32": 3, "special": 1}),
    ("lg2", "ftz", None, {"special": 1}),
    ("lg2", None, "f32", {"fp32": 3, "special": 1}),
    ("mul", None, "s64", {"int": 4}),
    ("mul", None, "u64", {"int": 4}),
    ("mad", None, "s64", {"int": 6}),
    ("mad", None, "u64", {"int": 6}),
)

SPECIAL = frozenset(("rcp", "rsqrt", "sqrt", "sin", "cos", "ex2", "lg2", "tanh"))
CONTROL = frozenset(("bra", "brx", "ret", "exit", "call", "bar", "barrier", "trap"))
MEMORY = frozenset(("ld", "ldu", "st", "atom", "red"))
BARRIERS = frozenset(("bar", "barrier"))
FLOPS = {"fma": 2, "mad": 2, "add": 1, "sub": 1, "mul": 1, "div": 1, "max": 1, "min": 1, "sqrt": 1, "rsqrt": 1,
         "rcp": 1, "ex2": 1, "lg2": 1, "sin": 1, "cos": 1, "tanh": 1}  # fmt: skip
FLOAT_TYPES = frozenset(("f16", "f16x2", "bf16", "bf16x2", "f32", "f64"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """One memory instruction: static facts and counts of the blocks that ran."""

    space: str  # "global", "shared" or "local"
    reads: bool
    writes: bool
    bytes: int  # per lane
    source_line: int | None
    requests: int
    lanes: int
    sectors: int
    wavefronts: int
    ideal_wavefronts: int
    serial: int


@dataclass(frozen=True, slots=True)
class Footprint:
    """Distinct sectors of one allocation, after the first half of the blocks that ran and after all of them."""

    bytes: int  # of the allocation; 0 when unknown
    read_half: int
    read: int
    written_half: int
    written: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Events:
    """Everything a counted launch saw."""

    grid_blocks: int
    ran_blocks: int
    warps_per_block: int
    executions: Sequence[int]  # of each basic block, by warps
    lanes: Sequence[int]  # active, over those executions
    accesses: Sequence[Access]
    footprints: Sequence[Footprint]
    hottest_of_one: int  # atomics on the busiest of the addresses that one block used
    hottest_of_several: int  # atomics on the busiest of the addresses that several blocks used
    block_read_sectors: int
    warp_read_sectors: int
    reuse: Sequence[int]  # reads of sectors read before by the same warp, by binary digits of the distance between


def count(blocks: Sequence[Sequence[Instruction]], events: Events) -> dict[str, float]:
    """Counters of the whole launch. `blocks`: the kernel's basic blocks, in the order of `events.executions`."""
    scale = events.grid_blocks / max(events.ran_blocks, 1)
    totals: dict[str, float] = defaultdict(float)
    for instructions, executions, lanes in zip(blocks, events.executions, events.lanes, strict=True):
        if executions == 0:
            continue
        for name, amount in block_cost(instructions).items():
            totals[name] += amount * executions
        totals["thread_instructions"] += block_cost(instructions)["warp_instructions"] * lanes
        totals["flops"] += block_flops(instructions) * lanes
        if lanes < executions * 32:
            totals["divergent_executions"] += executions
    for access in events.accesses:
        add_access(totals, access)
    totals["block_read_sectors"] = events.block_read_sectors
    totals["warp_read_sectors"] = events.warp_read_sectors
    for digits, reads in enumerate(accumulate(events.reuse)):
        totals[f"reuse_within_{2**digits}"] = reads
    counters = {name: value * scale for name, value in totals.items()}
    # No sector is read by two sampled blocks, or written twice: then all have their own, though not equally many each.
    own_reads = sum(each.read for each in events.footprints) >= events.block_read_sectors
    own_writes = sum(each.written for each in events.footprints) >= totals["global_write_sectors"]
    counters["unique_read_bytes"] = sum(
        distinct_bytes(each.read, each.read_half, scale, each.bytes, own=own_reads) for each in events.footprints
    )
    counters["unique_write_bytes"] = sum(
        distinct_bytes(each.written, each.written_half, scale, each.bytes, own=own_writes) for each in events.footprints
    )
    counters["hottest_atomics"] = max(events.hottest_of_one, events.hottest_of_several * scale)
    counters["blocks"] = events.grid_blocks
    counters["warps"] = events.grid_blocks * events.warps_per_block
    return counters


def distinct_bytes(sectors: int, sectors_half: int, scale: float, allocation_bytes: int, *, own: bool = False) -> float:
    """Bytes of the distinct sectors that the whole grid touches, in an allocation of that size (0: not known).

    The number after all sampled blocks over that after half of them says how it grows: blocks with sectors of their
    own double it, blocks that share all sectors leave it as it is. Growth goes on as that power of the blocks.

    own: every block has sectors of its own. Blocks that do not have equally many would look as if they shared some.
    """
    growth = math.log2(sectors / sectors_half) if sectors and sectors_half and not own else 1.0
    size = sectors * SECTOR_BYTES * math.pow(scale, min(growth, 1.0))
    return min(size, allocation_bytes + SECTOR_BYTES) if allocation_bytes else size


def add_access(totals: dict[str, float], access: Access) -> None:
    totals[f"{access.space}_requests"] += access.requests
    if access.space == "shared":
        totals["shared_wavefronts"] += access.wavefronts
        totals["shared_ideal_wavefronts"] += access.ideal_wavefronts
    else:
        totals[f"{access.space}_sectors"] += access.sectors
    if access.space == "global":
        totals["global_lanes"] += access.lanes
        totals["global_bytes"] += access.lanes * access.bytes
        if access.reads:
            totals["global_read_sectors"] += access.sectors
        if access.writes:
            totals["global_write_sectors"] += access.sectors
    if access.reads and access.writes:
        totals["atomics"] += access.requests
        totals["shared_atomic_serial"] += access.serial


def block_cost(instructions: Sequence[Instruction]) -> dict[str, float]:
    """Machine instructions by class, and the longest dependent path, of one execution of a basic block."""
    cost: dict[str, float] = defaultdict(float)
    for instruction in instructions:
        for name, amount in expansion(instruction).items():
            cost[f"{name}_instructions"] += amount
            cost["warp_instructions"] += amount
        if instruction.opcode in BARRIERS:
            cost["barriers"] += 1
        if instruction.opcode == "bra":
            cost["branches"] += 1
    for name, amount in longest_path(instructions).items():
        cost[f"path_{name}"] += amount
    return cost


def expansion(instruction: Instruction) -> Mapping[str, float]:
    """Class -> machine instructions of one PTX instruction. Parameters lie in a constant bank: they cost none."""
    if instruction.opcode == "ld" and "param" in instruction.modifiers:
        return {}
    for opcode, modifier, kind, counts in EXPANSIONS:
        if (
            opcode == instruction.opcode
            and modifier in (None, *instruction.modifiers)
            and kind in (None, *instruction.types)
        ):
            return counts
    return {instruction_class(instruction): 2.0 if is_wide_integer(instruction) else 1.0}


def instruction_class(instruction: Instruction) -> str:
    """The pipe that executes an instruction: one of predict.CLASSES, or "memory" or "control"."""
    opcode, types = instruction.opcode, instruction.types
    if opcode in MEMORY:
        return "memory"
    if opcode in CONTROL:
        return "control"
    if opcode in ("shfl", "vote", "match", "redux", "activemask"):
        return "shuffle"
    if opcode in SPECIAL and "f64" not in types:
        return "special"
    if opcode == "cvt":
        return "convert64" if any(t.endswith("64") for t in types) else "convert"
    if "f64" in types:
        return "fp64"
    if any(t in ("f16", "f16x2", "bf16", "bf16x2") for t in types):
        return "half"
    if "f32" in types and opcode not in ("mov", "selp", "set"):
        return "fp32"
    return "int"


def is_wide_integer(instruction: Instruction) -> bool:
    """64-bit integer arithmetic takes two 32-bit instructions; so do 64-bit shifts, logic and compares."""
    return (
        instruction.opcode in ("add", "sub", "shl", "shr", "and", "or", "xor", "setp", "min", "max", "neg", "selp")
        and bool(instruction.types)
        and instruction.types[-1] in ("s64", "u64", "b64")
    )


def block_flops(instructions: Sequence[Instruction]) -> int:
    """Floating-point operations per lane of one execution."""
    return sum(
        FLOPS.get(i.opcode, 0) * (2 if i.types[-1].endswith("x2") else 1)
        for i in instructions
        if i.types and i.types[-1] in FLOAT_TYPES
    )


# Rough cycles that order the paths of a block; the prediction prices the operations on the longest one itself.
PATH_CYCLES = {"load": 479.0, "shared": 29.0, "shuffle": 23.0, "special": 18.0, "arithmetic": 4.5, "none": 0.0}


def longest_path(instructions: Sequence[Instruction]) -> Counter[str]:
    """Operations by kind on the longest chain of register dependencies of a basic block."""
    ready: dict[str, tuple[float, Counter[str]]] = {}
    best: tuple[float, Counter[str]] = (0.0, Counter())
    for instruction in instructions:
        kind = path_kind(instruction)
        written, read = registers(instruction)
        start = max((ready[name] for name in read if name in ready), key=lambda item: item[0], default=(0.0, Counter()))
        chain = (start[0] + PATH_CYCLES[kind], start[1] + Counter({kind: 1}) if kind != "none" else start[1])
        for name in written:
            ready[name] = chain
        best = max(best, chain, key=lambda item: item[0])
    return best[1]


def path_kind(instruction: Instruction) -> str:
    if instruction.opcode in ("mov", "cvta") or "param" in instruction.modifiers:
        return "none"
    if instruction.opcode in ("ld", "ldu", "atom"):
        return "shared" if "shared" in instruction.modifiers else "load"
    kind = instruction_class(instruction)
    return {"shuffle": "shuffle", "special": "special", "memory": "none", "control": "none"}.get(kind, "arithmetic")


def registers(instruction: Instruction) -> tuple[set[str], set[str]]:
    """Names written and read."""
    if not instruction.operands:
        return set(), set()
    first, *rest = instruction.operands
    read = {name for operand in rest for name in names(operand)}
    if instruction.guard is not None:
        read.add(instruction.guard.name)
    if instruction.opcode in ("st", "red", "bra", "bar", "barrier", "ret", "exit") or isinstance(first, Address):
        return set(), read | set(names(first))
    return set(names(first)), read


def names(operand: Operand | None) -> list[str]:
    """Registers in an operand."""
    match operand:
        case Register(name):
            return [name]
        case Address(base=Register(name)):
            return [name]
        case Vector(elements):
            return [name for element in elements for name in names(element)]
        case Pair(first, second):
            return names(first) + names(second)
    return []


__all__ = ["Access", "Events", "Footprint", "count"]
