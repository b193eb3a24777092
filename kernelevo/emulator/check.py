"""Instruction -> Operation: what kind of thing it is, which registers it reads and writes, which rule covers it.

This is where a form that is not emulated is refused, with its place in the PTX and in the .cu file. Everything after
works on Operations and need not refuse anything.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass

from . import rules
from .instruction import (
    Address,
    Immediate,
    Instruction,
    Operand,
    Pair,
    Position,
    Register,
    SpecialRegister,
    Symbol,
    Vector,
)
from .ptx import TYPE_BYTES

CARRY = "%cc"  # the condition code register CC.CF, as a register of type pred


class Unsupported(Exception):  # noqa: N818 - the emulator's limit, not an error of anybody
    """The kernel uses something that is not emulated. The message says what and where."""

    def __init__(self, position: Position, what: str, source_line: int | None = None) -> None:
        where = f" (line {source_line} of the .cu file)" if source_line else ""
        super().__init__(
            f"{position}: {what} is not emulated{where}; run on a GPU, or see kernelevo/emulator/README.md"
        )
        self.position = position
        self.source_line = source_line


class Kind(enum.Enum):
    """How translate.py treats an operation."""

    RULE = enum.auto()  # a row of the rule table
    LOAD = enum.auto()
    STORE = enum.auto()
    COPY = enum.auto()  # cp.async
    MOVE = enum.auto()  # mov of a special register or an address
    CONVERT_ADDRESS = enum.auto()  # cvta
    IS_SPACE = enum.auto()  # isspacep
    BARRIER = enum.auto()  # of the block
    BARRIER_RESULT = enum.auto()  # what bar.red agreed on; follows its BARRIER
    ARRIVE = enum.auto()
    WARP_BARRIER = enum.auto()
    BRANCH = enum.auto()
    INDIRECT_BRANCH = enum.auto()
    EXIT = enum.auto()
    TRAP = enum.auto()
    CALL = enum.auto()  # of a function that the emulator provides
    NOTHING = enum.auto()  # hints


@dataclass(frozen=True, slots=True)
class Operation:
    """An instruction that is emulated."""

    kind: Kind
    instruction: Instruction
    writes: tuple[str, ...]
    reads: tuple[str, ...]
    row: rules.Row | None = None
    access: Access | None = None
    uniform_result: bool = False  # one value for lanes that execute it together and name the same members

    @property
    def members(self) -> Operand:
        """The membermask of an operation that waits for lanes."""
        operands = self.instruction.operands
        masked = self.kind is Kind.WARP_BARRIER or self.instruction.opcode in _MASKED
        return operands[-1] if masked and operands else Immediate(None, -1, False)

    @property
    def waits_for_lanes(self) -> bool:
        """Whether lanes named in a membermask must arrive first."""
        return self.kind is Kind.WARP_BARRIER or (
            self.row is not None and self.row.warp_wide and "sync" in self.instruction.modifiers
        )


@dataclass(frozen=True, slots=True)
class Access:
    """A load or store. type is the PTX type of an element, count the elements of a vector."""

    space: str  # "global", "shared", "local", "const", "param" or "generic"
    type: str
    count: int
    volatile: bool  # volatile, relaxed, acquire, release, mmio: another thread may be writing or waiting

    @property
    def bytes_per_lane(self) -> int:
        return TYPE_BYTES[self.type] * self.count


_ACCESS_TYPES = frozenset(
    ("b8", "b16", "b32", "b64", "b128", "u8", "u16", "u32", "u64", "s8", "s16", "s32", "s64", "f16", "f32", "f64",
     "bf16", "f16x2", "bf16x2")
)  # fmt: skip
_SPACES = {
    "global": "global", "shared": "shared", "shared::cta": "shared", "local": "local", "const": "const",
    "param": "param", "param::entry": "param", "param::func": "param",
}  # fmt: skip
_ORDERS = frozenset(["volatile", "relaxed", "acquire", "release", "mmio"])
_HINTS = frozenset(["weak", "ca", "cg", "cs", "lu", "cv", "wb", "wt", "nc", "cta", "cluster", "gpu", "sys", "unified"])
_VECTORS = {"v2": 2, "v4": 4, "v8": 8}
_HINT_PREFIXES = ("L1::", "L2::", "L2:")
_NO_EFFECT = frozenset(
    ["prefetch", "prefetchu", "applypriority", "discard", "nanosleep", "griddepcontrol", "setmaxnreg", "pmevent"]
)
_MASKED = frozenset(("shfl", "vote", "match", "redux", "elect"))
_RUNTIME_FUNCTIONS = frozenset(("vprintf", "__assertfail", "malloc", "free"))


def classify(instruction: Instruction) -> Operation:
    """The Operation of an instruction. Raises Unsupported."""
    operation = _known(instruction)
    if operation is None:
        raise Unsupported(instruction.position, instruction.form, instruction.source_line)
    return operation


def registers_of(operand: Operand | None) -> Iterator[str]:
    """The names of all registers in an operand."""
    if isinstance(operand, Register):
        yield operand.name
    elif isinstance(operand, Address):
        if isinstance(operand.base, Register):
            yield operand.base.name
    elif isinstance(operand, Vector):
        for element in operand.elements:
            yield from registers_of(element)
    elif isinstance(operand, Pair):
        yield from registers_of(operand.first)
        yield from registers_of(operand.second)


def adds_floats_across_blocks(operation: Operation) -> bool:
    """Whether the result depends on the order in which blocks get here: a sum rounds differently in another order."""
    instruction = operation.instruction
    return (
        instruction.opcode in ("atom", "red")
        and "add" in instruction.modifiers
        and "f" in instruction.types[-1]
        and not any(modifier in ("shared", "shared::cta") for modifier in instruction.modifiers)
    )


def flatten(operand: Operand | None) -> tuple[Operand | None, ...]:
    """An operand with the elements of vectors and pairs in the order of the text; "_" is None."""
    if isinstance(operand, Vector):
        return operand.elements or (None,)
    if isinstance(operand, Pair):
        return (*flatten(operand.first), *flatten(operand.second))
    return (operand,)


def _known(instruction: Instruction) -> Operation | None:
    handler = _HANDLERS.get(instruction.opcode)
    if handler and (operation := handler(instruction)):
        return operation
    row = rules.find(instruction)
    if row is None:
        return None
    destinations, sources = row.signature(instruction)
    flat = [element for operand in instruction.operands for element in flatten(operand)]
    if len(flat) != len(destinations) + len(sources):
        return None  # an optional operand that no row knows, such as a cache policy
    writes = _names(*flat[: len(destinations)])
    reads = _names(*flat[len(destinations) :])
    if row.carry_out:
        writes += (CARRY,)
    if row.carry_in:
        reads += (CARRY,)
    return _operation(Kind.RULE, instruction, writes, reads, row=row, uniform=_is_uniform(instruction))


def _is_uniform(instruction: Instruction) -> bool:
    opcode = instruction.opcode
    return opcode in ("vote", "activemask", "redux") or (opcode == "match" and "all" in instruction.modifiers)


def _operation(
    kind: Kind,
    instruction: Instruction,
    writes: tuple[str, ...],
    reads: tuple[str, ...],
    *,
    row: rules.Row | None = None,
    access: Access | None = None,
    uniform: bool = False,
) -> Operation:
    if instruction.guard:
        reads = (*reads, instruction.guard.name)
    return Operation(kind, instruction, writes, reads, row, access, uniform)


def _names(*operands: Operand | None) -> tuple[str, ...]:
    return tuple(name for operand in operands for name in registers_of(operand))


def _access(instruction: Instruction) -> Access | None:
    space, count, volatile = "generic", 1, False
    for modifier in instruction.modifiers:
        if modifier in _SPACES:
            space = _SPACES[modifier]
        elif modifier in _VECTORS:
            count = _VECTORS[modifier]
        elif modifier in _ORDERS:
            volatile = True
        elif modifier not in _HINTS and not modifier.startswith(_HINT_PREFIXES):
            return None
    if len(instruction.types) != 1 or instruction.types[0] not in _ACCESS_TYPES:
        return None
    if instruction.types[0] == "b128" and count > 1:
        return None
    return Access(space, instruction.types[0], count, volatile)


def _load(instruction: Instruction) -> Operation | None:
    access = _access(instruction)
    if access is None or len(instruction.operands) < 2:
        return None
    target, address = instruction.operands[:2]
    return _operation(Kind.LOAD, instruction, _names(target), _names(address), access=access)


def _store(instruction: Instruction) -> Operation | None:
    access = _access(instruction)
    if access is None or len(instruction.operands) < 2:
        return None
    return _operation(Kind.STORE, instruction, (), _names(*instruction.operands[:2]), access=access)


def _copy_async(instruction: Instruction) -> Operation | None:
    modifiers = [m for m in instruction.modifiers if not m.startswith(_HINT_PREFIXES)]
    if modifiers[:1] != ["async"]:
        return None
    if modifiers[1:] in (["commit_group"], ["wait_group"], ["wait_all"]):
        return _operation(Kind.NOTHING, instruction, (), ())
    if modifiers[1:] in (["ca", "shared", "global"], ["cg", "shared", "global"], ["ca", "shared::cta", "global"],
                         ["cg", "shared::cta", "global"]):  # fmt: skip
        operands = copy_operands(instruction)
        size = operands[2]
        if isinstance(size, Immediate) and size.value in (4, 8, 16) and len(operands) <= 4:
            return _operation(Kind.COPY, instruction, (), _names(*operands))
    return None


def copy_operands(instruction: Instruction) -> tuple[Operand, ...]:
    """cp.async's target, source, size and perhaps src-size or, a predicate, ignore-src; no cache policy."""
    return instruction.operands[:-1] if "L2::cache_hint" in instruction.modifiers else instruction.operands


def _move(instruction: Instruction) -> Operation | None:
    if len(instruction.operands) == 2 and len(instruction.types) == 1:
        target, source = instruction.operands
        if isinstance(source, SpecialRegister | Symbol) and isinstance(target, Register):
            return _operation(Kind.MOVE, instruction, _names(target), ())
    return None


def _convert_address(instruction: Instruction) -> Operation | None:
    modifiers = [m for m in instruction.modifiers if m != "to"]
    if len(modifiers) != 1 or modifiers[0] not in _SPACES or instruction.types not in (("u64",), ("u32",)):
        return None
    target, source = instruction.operands
    return _operation(Kind.CONVERT_ADDRESS, instruction, _names(target), _names(source))


def _is_space(instruction: Instruction) -> Operation | None:
    if len(instruction.modifiers) != 1 or instruction.modifiers[0] not in _SPACES:
        return None
    target, source = instruction.operands
    return _operation(Kind.IS_SPACE, instruction, _names(target), _names(source))


def _barrier(instruction: Instruction) -> Operation | None:
    modifiers = [m for m in instruction.modifiers if m not in ("cta", "aligned")]
    if modifiers == ["warp", "sync"]:
        return _operation(Kind.WARP_BARRIER, instruction, (), _names(*instruction.operands))
    if modifiers == ["sync"]:
        return _operation(Kind.BARRIER, instruction, (), _names(*instruction.operands))
    if modifiers == ["arrive"]:
        return _operation(Kind.ARRIVE, instruction, (), _names(*instruction.operands))
    if modifiers in (["red", "popc"], ["red", "and"], ["red", "or"]):
        if instruction.opcode == "barrier_result":
            return _operation(Kind.BARRIER_RESULT, instruction, _names(instruction.operands[0]), ())
        return _operation(Kind.BARRIER, instruction, (), _names(*instruction.operands[1:]))
    return None


def _branch(instruction: Instruction) -> Operation | None:
    return _operation(Kind.BRANCH, instruction, (), ())


def _indirect_branch(instruction: Instruction) -> Operation | None:
    return _operation(Kind.INDIRECT_BRANCH, instruction, (), _names(instruction.operands[0]))


def _exit(instruction: Instruction) -> Operation | None:
    return _operation(Kind.EXIT, instruction, (), ())


def _trap(instruction: Instruction) -> Operation | None:
    return _operation(Kind.TRAP, instruction, (), ())


def _call(instruction: Instruction) -> Operation | None:
    target = instruction.operands[1]
    if isinstance(target, Symbol) and target.name in _RUNTIME_FUNCTIONS:
        return _operation(Kind.CALL, instruction, (), ())
    return None


def _nothing(instruction: Instruction) -> Operation | None:
    return _operation(Kind.NOTHING, instruction, (), ())


_HANDLERS = {
    "ld": _load, "ldu": _load, "st": _store, "cp": _copy_async, "mov": _move, "cvta": _convert_address,
    "isspacep": _is_space, "bar": _barrier, "barrier": _barrier, "barrier_result": _barrier, "bra": _branch,
    "brx": _indirect_branch, "ret": _exit, "exit": _exit, "trap": _trap, "brkpt": _trap, "call": _call,
    **dict.fromkeys(_NO_EFFECT, _nothing),
}  # fmt: skip
