"""Where things are: fields of the C structs of csrc/emulator/grid.h, and the memory layout of one kernel."""

from __future__ import annotations

from dataclasses import dataclass

from .emit import WARP, size_of
from .flow import Program
from .ptx import PtxFile, Variable

# WarpStatus
EXITED, BARRIER, DIVERGED, CONVERGED, YIELDED, TRAPPED, ASSERTED, ARRIVED = range(8)

# lane states in WarpState.next
WARP_WAIT = 0x20000000
BLOCK_WAIT = 0x40000000
LANE_EXITED = 0x7FFFFFFF

# WarpState
WARP_BLOCK, WARP_LOCAL, WARP_RESUME, WARP_BUDGET, WARP_BIAS, WARP_SITE = 0, 8, 16, 20, 24, 28
WARP_BARRIER_ID, WARP_BARRIER_COUNT, WARP_BARRIER_PREDICATE, WARP_BARRIER_RESULT = 32, 36, 40, 44
WARP_INDEX, WARP_BARRIER_OPERATION, WARP_MESSAGE = 48, 52, 56
WARP_NEXT, WARP_BARRIER_OF, WARP_TID, WARP_HEADER = 64, 192, 320, 704

# BlockState
BLOCK_SHARED, BLOCK_PARAMS, BLOCK_GLOBALS, BLOCK_FUNCTIONS, BLOCK_OBSERVER = 0, 8, 16, 24, 32
BLOCK_CTAID, BLOCK_NCTAID, BLOCK_DYNAMIC_SHARED, BLOCK_TOTAL_SHARED = 40, 52, 64, 68
BLOCK_LINEAR, BLOCK_MAY_CONVERGE, BLOCK_WORKSPACE = 72, 80, 88
BLOCK_SHARED_SHADOW, BLOCK_LOCAL_SHADOW, BLOCK_SINK = 96, 104, 112

# BlockState.functions
TICK, PRINTF, MALLOC, FREE, FIRST_HOOK = range(5)


@dataclass(frozen=True, slots=True)
class Parameter:
    """A kernel parameter in the packed parameter buffer."""

    name: str
    offset: int  # bytes
    size: int  # bytes


@dataclass(frozen=True, slots=True)
class Layout:
    """Offsets of everything that a kernel addresses by name."""

    parameters: dict[str, int]
    shared: dict[str, int]
    shared_bytes: int  # static; dynamic shared memory follows
    local: dict[str, int]
    local_bytes: int  # per thread
    globals: dict[str, int]  # index into BlockState.globals
    slots: dict[str, int]  # register -> offset from WarpState
    frame_bytes: int


def lay_out_parameters(variables: tuple[Variable, ...]) -> tuple[tuple[Parameter, ...], int]:
    """Parameters at their offsets, as the CUDA runtime packs them, and the size of the buffer."""
    found, at = [], 0
    for variable in variables:
        at = _align(at, variable.alignment)
        found.append(Parameter(variable.name, at, variable.size))
        at += variable.size
    return tuple(found), at


def lay_out(file: PtxFile, program: Program) -> Layout:
    """The layout of a kernel; needs liveness."""
    parameters, _size = lay_out_parameters(program.parameters)
    local, local_bytes = _place([v for v in program.variables if v.space == "local"])
    shared, shared_bytes = lay_out_shared(file, program)
    slots: dict[str, int] = {}
    at = WARP_HEADER
    crossing = set().union(*(block.live_in for block in program.blocks)) if program.blocks else set()
    for name in sorted(crossing):
        bits = size_of(program.registers.get(name, "pred"))
        at = _align(at, 4 if bits == 1 else 64)
        slots[name] = at
        at += 4 if bits == 1 else WARP * bits // 8
    return Layout(
        parameters={each.name: each.offset for each in parameters},
        shared=shared,
        shared_bytes=shared_bytes,
        local=local,
        local_bytes=_align(local_bytes, 16),
        globals={name: k for k, name in enumerate(file.variables)},
        slots=slots,
        frame_bytes=_align(at, 128),
    )


def lay_out_shared(file: PtxFile, program: Program) -> tuple[dict[str, int], int]:
    """Static shared variables one after another, then all `extern` ones at one address: the dynamic shared memory."""
    used = _symbols(program)
    variables = [v for v in program.variables if v.space == "shared"]
    variables += [v for v in file.variables.values() if v.space == "shared" and v.name in used]
    offsets, size = _place([v for v in variables if v.size])
    dynamic = [v for v in variables if not v.size]
    size = _align(size, max([16, *(v.alignment for v in dynamic)])) if dynamic else size
    offsets.update((v.name, size) for v in dynamic)
    return offsets, size


def _symbols(program: Program) -> set[str]:
    from .check import flatten
    from .instruction import Address, Symbol

    found = set()
    for operation in program.operations():
        for operand in operation.instruction.operands:
            for each in flatten(operand):
                base = each.base if isinstance(each, Address) else each
                if isinstance(base, Symbol):
                    found.add(base.name)
    return found


def _place(variables: list[Variable]) -> tuple[dict[str, int], int]:
    offsets, at = {}, 0
    for variable in variables:
        at = _align(at, variable.alignment)
        offsets[variable.name] = at
        at += variable.size
    return offsets, at


def _align(value: int, alignment: int) -> int:
    return -(-value // alignment) * alignment
