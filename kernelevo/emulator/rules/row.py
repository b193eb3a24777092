"""One row of the rule table: which instructions it covers, what their operands are, and how they become LLVM IR.

A row covers an opcode with every combination of its modifier slots and its type tuples. Anything else - an unknown
modifier, a type that is not listed - is not covered, never ignored.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from llvmlite import ir

from kernelevo.emulator.emit import Emitter
from kernelevo.emulator.instruction import Instruction

Types: TypeAlias = tuple[str, ...]
Signature: TypeAlias = tuple[Types, Types]
Result: TypeAlias = "ir.Value | tuple[ir.Value, ...] | None"


@dataclass(frozen=True, slots=True)
class Row:
    """Opcode x modifiers x types -> operand types and code.

    The caller flattens Vector and Pair operands: `mov.b64 {a,b}, c` has two destinations, `setp p|q` two, in the
    order of the text ("_" still counts). Arguments come as LLVM values of exactly the source types at the
    emitter's width; an Address argument comes as its i64 generic host address.
    """

    opcode: str
    section: str
    """Anchor of the PTX ISA section, for example "integer-arithmetic-instructions-add"."""
    types: tuple[Types, ...]
    """The type tuples as written, destination type first."""
    emitter: Callable[..., Result]
    """emitter(e, instruction, *arguments) -> one value, a tuple of values or None."""
    modifiers: tuple[str, ...] = ()
    """Slots in the order of the text: "lo|hi" must be one of them, "rn|rz?" may be absent."""
    operands: Callable[[Instruction], Signature] | int = 2
    """Destination and source types; an integer n means n sources and one destination, all of the first type."""
    warp_wide: bool = False
    """Needs all 32 lanes as vectors and the emitter's mask; otherwise the row is lane-wise and free of side effects."""
    linear: str | None = None
    """The result is affine in the lane when the operands are: one of mov, add, sub, neg, mul, mad, shl, convert.

    mul and mad need one factor that is uniform; shl a uniform shift; convert is a plain change of integer size.
    """
    carry_in: bool = False
    """Takes CC.CF, a pred, as one more argument after the sources."""
    carry_out: bool = False
    """Gives CC.CF, a pred, as one more result after the destinations."""
    choices: tuple[frozenset[str], ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "choices", tuple(_choices(slot) for slot in self.modifiers))

    def matches(self, instruction: Instruction) -> bool:
        """Whether this row covers the instruction's modifiers, in order, and its types."""
        if instruction.types not in self.types:
            return False
        given = list(instruction.modifiers)
        for choices in self.choices:
            if given and given[0] in choices:
                given.pop(0)
            elif "" not in choices:
                return False
        return not given

    def signature(self, instruction: Instruction) -> Signature:
        """(destination types, source types) of the instruction."""
        if isinstance(self.operands, int):
            first = instruction.types[0]
            return (first,), (first,) * self.operands
        return self.operands(instruction)

    def emit(self, e: Emitter, instruction: Instruction, args: Sequence[ir.Value]) -> Result:
        """Code for the instruction; one value per destination."""
        return self.emitter(e, instruction, *args)


def _choices(slot: str) -> frozenset[str]:
    names = slot.rstrip("?").split("|")
    return frozenset((*names, "")) if slot.endswith("?") else frozenset(names)


def each(*names: str) -> tuple[Types, ...]:
    """One-type tuples from space-separated names: each("u32 s32") == (("u32",), ("s32",))."""
    return tuple((name,) for group in names for name in group.split())
