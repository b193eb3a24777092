"""Where threads meet: barriers of the block and operations that wait for lanes, as a Checker must know them.

Takes a Program, gives facts for struct CheckedSite of csrc/emulator/check.h. The control flow tells which blocks a
thread enters that will not come to such a place (again), and yet does things there that the threads which came do as
well: it has gone around the place, and did not return early.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .check import Kind, Operation
from .flow import Block, Program
from .instruction import Address, Immediate

BARRIER, MEETING = 2, 3  # CheckedSite::Kind
FAMILIES = ("shfl", "vote", "match", "redux", "elect", "bar", "barrier", "matrix")  # the last: all others
SHUFFLES = ("none", "up", "down", "bfly", "idx")  # CheckedSite::Shuffle


def meeting_places(program: Program) -> Iterator[tuple[Operation, dict[str, Any]]]:
    """Each operation at which threads wait for others, with its facts."""
    places = [
        (block, operation)
        for block in program.blocks
        for operation in (*block.operations, *([block.control] if block.control else []))
        if operation.kind in (Kind.BARRIER, Kind.ARRIVE) or operation.waits_for_lanes
    ]
    if not places:
        return
    reach = _reach(program)
    effects = sum(1 << block.index for block in program.blocks if _has_effects(block))
    found: dict[int, list[int]] = {}
    for block, operation in places:
        if block.index not in found:
            found[block.index] = _behind(program, block, reach, effects)
        if operation.kind in (Kind.BARRIER, Kind.ARRIVE):
            yield operation, {**_barrier_facts(operation), "behind": found[block.index]}
        else:
            instruction = operation.instruction
            shuffle = next((SHUFFLES.index(m) for m in instruction.modifiers if m in SHUFFLES), 0)
            yield (
                operation,
                {
                    "kind": MEETING,
                    "starts": block.index,
                    "family": FAMILIES.index(instruction.opcode if instruction.opcode in FAMILIES else "matrix"),
                    "shuffle": shuffle if instruction.opcode == "shfl" else 0,
                    "behind": found[block.index],
                },
            )


def _barrier_facts(operation: Operation) -> dict[str, Any]:
    instruction = operation.instruction
    operands = instruction.operands
    if "red" in instruction.modifiers:  # destination, barrier, perhaps a number of threads, predicate
        operands = operands[1:-1]
    number = operands[0] if operands else Immediate(None, 0, False)
    count = operands[1] if len(operands) > 1 else Immediate(None, 0, False)
    is_number = isinstance(number, Immediate) and 0 <= int(number.value) < 16
    return {
        "kind": BARRIER,
        "barrier": int(number.value) if isinstance(number, Immediate) and is_number else -1,
        "counted": not is_number or not (isinstance(count, Immediate) and int(count.value) == 0),
        "arrives": operation.kind is Kind.ARRIVE,
    }


def _reach(program: Program) -> list[int]:
    """Per block, as bits, the blocks that can be reached from its start: itself and all that follow."""
    reach = [1 << block.index for block in program.blocks]
    changed = True
    while changed:
        changed = False
        for block in reversed(program.blocks):
            bits = reach[block.index]
            for target in block.successors:
                bits |= reach[target]
            changed = changed or bits != reach[block.index]
            reach[block.index] = bits
    return reach


def _has_effects(block: Block) -> bool:
    """Whether others can notice that a thread was there."""
    if block.control is not None and block.control.kind in (Kind.BARRIER, Kind.ARRIVE):
        return True
    return any(
        operation.kind in (Kind.STORE, Kind.COPY, Kind.CALL)
        or operation.waits_for_lanes
        or (
            operation.kind is Kind.RULE
            and operation.instruction.opcode in ("atom", "red", "stmatrix", "wmma")
            and any(isinstance(operand, Address) for operand in operation.instruction.operands)
        )
        for operation in block.operations
    )


def _behind(program: Program, place: Block, reach: list[int], effects: int) -> list[int]:
    """The blocks at which it is certain that a thread will not come to `place` (again), and goes on with the others."""
    after = 0
    for target in place.successors:
        after |= reach[target]
    here = 1 << place.index
    entered: set[int] = set()
    for block in program.blocks:
        if reach[block.index] & here:
            entered.update(target for target in block.successors if not reach[target] & here)
    return sorted(target for target in entered if reach[target] & after & effects)
