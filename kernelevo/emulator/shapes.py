"""Shapes: what is known of a register when all 32 lanes execute together, for one block size.

A shape with `offsets` says: lane l holds lane 0's value plus offsets[l], modulo 2^bits. All offsets 0 is a uniform
register. None means nothing is known. The analysis is flow-insensitive: it looks at all definitions of a register at
once, and is right because translate.py uses it only in code that all 32 lanes execute together. Where widening to
64 bits would need that `lane 0 + offset` does not wrap around and no range proves it, the operation is listed in
`Shapes.checks` and converged code tests it as it runs. Divergent branches are handled by `_spoil`: registers that
paths write differently count as unknown at the join.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeAlias

from .check import CARRY, Kind, Operation
from .emit import WARP, size_of
from .flow import Program, joins, region
from .instruction import Address, Immediate, Operand, Register, SpecialRegister, Symbol

Offsets: TypeAlias = "tuple[int, ...]"
ZERO: Offsets = (0,) * WARP
LANES: Offsets = tuple(range(WARP))


@dataclass(frozen=True, slots=True)
class Shape:
    """What is known of the 32 values of a register."""

    offsets: Offsets | None = None
    low: int | None = None
    """With `high`: every lane's value, read as signed, lies in low..high. None: unknown."""
    high: int | None = None
    multiple: int = 1
    """A power of two that divides lane 0's value."""

    @property
    def uniform(self) -> bool:
        return self.offsets == ZERO

    @property
    def constant(self) -> int | None:
        """The value of a uniform register whose value is known."""
        return self.low if self.uniform and self.low is not None and self.low == self.high else None


VARYING = Shape()
UNIFORM = Shape(ZERO)


def constant(value: int) -> Shape:
    return Shape(ZERO, value, value, (value & -value) or 1 << 63)


@dataclass(frozen=True, slots=True)
class Shapes:
    """The result: a shape for every register, and the operations whose shape holds only if they do not wrap."""

    registers: dict[str, Shape]
    checks: frozenset[int]  # id() of operations
    block: tuple[int, int, int]

    def of(self, operand: Operand | None, bits: int = 32) -> Shape:
        return _operand_shape(operand, self.registers, self.block, bits)


def thread_shapes(block: tuple[int, int, int]) -> tuple[Shape, Shape, Shape]:
    """%tid.x, .y and .z of full warps."""
    threads = block[0] * block[1] * block[2]
    found = []
    for axis in range(3):
        stride = (1, block[0], block[0] * block[1])[axis]
        bases, patterns = [], set()
        for start in range(0, max(threads - WARP + 1, 1), WARP):
            values = [(start + lane) // stride % block[axis] for lane in range(WARP)]
            bases.append(values[0])
            patterns.add(tuple(value - values[0] for value in values))
        multiple = 1 << 63
        for base in bases:
            if base:
                multiple = min(multiple, base & -base)
        offsets = patterns.pop() if len(patterns) == 1 else None
        found.append(Shape(offsets, 0, block[axis] - 1, multiple if offsets else 1))
    return found[0], found[1], found[2]


def find_shapes(program: Program, block: tuple[int, int, int]) -> Shapes:
    """Shapes of all registers of `program` in blocks of `block` threads."""
    spoiled: set[str] = set()
    post_dominators = joins(program)
    while True:
        registers, checks = _solve(program, block, spoiled)
        more = _spoil(program, registers, post_dominators) - spoiled
        if not more:
            return Shapes(registers, checks, block)
        spoiled |= more


def _solve(program: Program, block: tuple[int, int, int], spoiled: set[str]) -> tuple[dict[str, Shape], frozenset[int]]:
    known: dict[str, Shape] = dict.fromkeys(spoiled, VARYING)
    threads = thread_shapes(block)
    operations = list(program.operations())
    users: dict[str, list[int]] = {}
    for index, operation in enumerate(operations):
        for name in operation.reads:
            users.setdefault(name, []).append(index)
    wanted: dict[str, int] = {}  # how often a range has grown
    pending = list(range(len(operations) - 1, -1, -1))
    queued = set(pending)
    checks: dict[int, bool] = {}
    while pending:
        index = pending.pop()
        queued.discard(index)
        operation = operations[index]
        if not operation.writes:
            continue
        results, wraps = _results(operation, known, program.registers, threads, block)
        if results is None:
            continue  # an operand has no shape yet
        checks[id(operation)] = wraps
        for name, shape in zip(operation.writes, results, strict=True):
            if name in spoiled:
                continue
            old = known.get(name)
            new = shape if old is None else _join(old, shape)
            if new != old and old is not None and (new.low, new.high) != (old.low, old.high):
                wanted[name] = wanted.get(name, 0) + 1
                if wanted[name] > 3:
                    new = replace(new, low=None, high=None)
            if new != old:
                known[name] = new
                for user in users.get(name, ()):
                    if user not in queued:
                        queued.add(user)
                        pending.append(user)
    for name in (*program.registers, CARRY):
        known.setdefault(name, VARYING)
    return known, frozenset(key for key, wraps in checks.items() if wraps)


def _spoil(program: Program, registers: dict[str, Shape], post_dominators: list[int]) -> set[str]:
    """Registers that paths of a divergent branch write differently and that are read after the paths join."""
    found: set[str] = set()
    for block in program.blocks:
        control = block.control
        if len(block.successors) < 2 or control is None:
            continue
        if all(registers[name].uniform for name in control.reads):
            continue
        join = post_dominators[block.index]
        after = program.blocks[join].live_in if join < len(program.blocks) else frozenset()
        if not after:
            continue
        for inside in region(program, block.index, join):
            for operation in program.blocks[inside].operations:
                for name in operation.writes:
                    if name in after and registers[name].offsets is not None:
                        found.add(name)
    return found


def _join(a: Shape, b: Shape) -> Shape:
    low = min(a.low, b.low) if a.low is not None and b.low is not None else None
    high = max(a.high, b.high) if a.high is not None and b.high is not None else None
    return Shape(a.offsets if a.offsets == b.offsets else None, low, high, min(a.multiple, b.multiple))


def _operand_shape(operand: Operand | None, known: dict[str, Shape], block: tuple[int, int, int], bits: int) -> Shape:
    if isinstance(operand, Register):
        return known.get(operand.name, VARYING)
    if isinstance(operand, Immediate):
        return UNIFORM if operand.is_float else constant(signed(int(operand.value), bits))
    if isinstance(operand, Address):
        return UNIFORM if not isinstance(operand.base, Register) else known.get(operand.base.name, VARYING)
    if isinstance(operand, Symbol):
        return UNIFORM
    if isinstance(operand, SpecialRegister):
        return special_shape(operand.name, block)
    return VARYING


def special_shape(name: str, block: tuple[int, int, int]) -> Shape:
    """The shape of a special register."""
    base, _, axis = name[1:].partition(".")
    k = "xyz".find(axis) if axis else -1
    if base == "tid":
        return thread_shapes(block)[k] if k >= 0 else constant(0)
    if base == "ntid":
        return constant(block[k] if k >= 0 else 0)
    if base == "ctaid" and k >= 0:
        return Shape(ZERO, 0, grid_limit(block)[k] - 1)
    if base == "nctaid" and k >= 0:
        return Shape(ZERO, 1, grid_limit(block)[k])
    if base == "laneid":
        return Shape(LANES, 0, WARP - 1, 1 << 63)
    if base in ("warpid", "nwarpid"):
        return Shape(ZERO, 0, 31)
    if base.startswith("lanemask_"):
        return VARYING
    return UNIFORM


def grid_limit(block: tuple[int, int, int]) -> tuple[int, int, int]:
    """The grid up to which shapes hold; larger grids must not run converged code."""
    return ((1 << 31) // block[0] - 1, 65535, 65535)


def signed(value: int, bits: int) -> int:
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value


# --- one operation


def _results(
    operation: Operation,
    known: dict[str, Shape],
    types: dict[str, str],
    threads: tuple[Shape, Shape, Shape],
    block: tuple[int, int, int],
) -> tuple[list[Shape] | None, bool]:
    """The shapes of what the operation writes (None: not yet known) and whether they hold only without wrapping."""
    instruction = operation.instruction
    for name in operation.reads:
        if name not in known:
            return None, False
    count = len(operation.writes)
    if instruction.guard and not known[instruction.guard.name].uniform:
        return [VARYING] * count, False
    uniform = all(known[name].uniform for name in operation.reads)
    kind = operation.kind
    if kind is Kind.MOVE:
        source = instruction.operands[1]
        if isinstance(source, SpecialRegister):
            return [special_shape(source.name, block)], False
        return [UNIFORM], False
    if kind is Kind.CONVERT_ADDRESS:
        shape = _operand_shape(instruction.operands[1], known, block, 64)
        if "local" in instruction.modifiers:
            return [VARYING], False
        return [Shape(shape.offsets)], False
    if kind is Kind.LOAD:
        private = operation.access is not None and operation.access.space == "local"
        return [UNIFORM if uniform and not private else VARYING] * count, False
    if kind is Kind.IS_SPACE:
        return [UNIFORM if uniform else VARYING], False
    if kind is Kind.BARRIER_RESULT:
        return [UNIFORM] * count, False
    if operation.uniform_result:  # within each group of lanes that name the same members
        members = instruction.operands[-1] if "sync" in instruction.modifiers else None
        together = members is None or _operand_shape(members, known, block, 32).uniform
        return [UNIFORM if together else VARYING] * count, False
    if kind is not Kind.RULE or operation.row is None:
        return [VARYING] * count, False
    if operation.row.warp_wide:
        if instruction.opcode == "shfl" and "idx" in instruction.modifiers and _broadcasts(instruction.operands, known):
            return [UNIFORM, *[VARYING] * (count - 1)], False
        return [VARYING] * count, False
    if count == 1 and operation.row.carry_in is False:
        found, wraps = _integer(operation, known, types, block)
        if found is not None:
            return [found], wraps
    return [UNIFORM if uniform else VARYING] * count, False


def _broadcasts(operands: tuple[Operand, ...], known: dict[str, Shape]) -> bool:
    """shfl.idx d|p, a, lane, clamp, mask: whether every lane reads the same lane."""
    lane, clamp = operands[2], operands[3]
    lane_shape, clamp_shape = (_operand_shape(each, known, (1, 1, 1), 32) for each in (lane, clamp))
    return lane_shape.uniform and clamp_shape.constant == 0x1F


def _integer(
    operation: Operation, known: dict[str, Shape], types: dict[str, str], block: tuple[int, int, int]
) -> tuple[Shape | None, bool]:
    """A shape from the rules of integer arithmetic, or None where only uniformity matters."""
    instruction, row = operation.instruction, operation.row
    assert row
    kinds = instruction.types
    if not kinds or not all(kind[0] in "bsu" and kind[1:].isdigit() for kind in kinds):
        return None, False
    bits = size_of(kinds[-1])
    wide = "wide" in instruction.modifiers
    destinations, _sources = row.signature(instruction)
    if size_of(destinations[0]) != size_of(types[operation.writes[0]]):
        return None, False
    operands = []
    for k, each in enumerate(instruction.operands[1:]):
        own_bits = 2 * bits if wide and k == 2 else bits
        shape = _operand_shape(each, known, block, own_bits)
        operands.append(_ranged(shape.offsets, shape.low, shape.high, shape.multiple, own_bits))
    handler = _LINEAR.get(row.linear) if row.linear else _OTHER.get(instruction.opcode)
    if handler is None or any(shape.offsets is None for shape in operands):
        mask = operands[1].constant if instruction.opcode == "and" and len(operands) == 2 else None
        return (Shape(None, 0, mask), False) if mask is not None and mask >= 0 else (None, False)
    return handler(operation, operands, bits)


Handler: TypeAlias = "Callable[[Operation, list[Shape], int], tuple[Shape | None, bool]]"


def _ranged(offsets: Offsets | None, low: int | None, high: int | None, multiple: int, bits: int) -> Shape:
    """A shape with its offsets reduced modulo 2^bits and its range dropped where it does not fit."""
    if low is None or high is None or low < -(1 << (bits - 1)) or high >= 1 << (bits - 1):
        low = high = None
    if offsets is not None and offsets != ZERO:
        offsets = tuple(signed(offset, bits) for offset in offsets)
    return Shape(offsets, low, high, multiple)


def _interval(a: Shape, b: Shape, f: Callable[[int, int], int]) -> tuple[int | None, int | None]:
    if a.low is None or a.high is None or b.low is None or b.high is None:
        return None, None
    corners = [f(x, y) for x in (a.low, a.high) for y in (b.low, b.high)]
    return min(corners), max(corners)


def _move(operation: Operation, operands: list[Shape], bits: int) -> tuple[Shape | None, bool]:
    return (operands[0], False) if len(operands) == 1 else (None, False)


def _add(operation: Operation, operands: list[Shape], bits: int) -> tuple[Shape | None, bool]:
    a, b = operands
    low, high = _interval(a, b, int.__add__)
    return _ranged(_plus(a.offsets, b.offsets, 1), low, high, min(a.multiple, b.multiple), bits), False


def _sub(operation: Operation, operands: list[Shape], bits: int) -> tuple[Shape | None, bool]:
    a, b = operands
    low, high = _interval(a, b, int.__sub__)
    return _ranged(_plus(a.offsets, b.offsets, -1), low, high, min(a.multiple, b.multiple), bits), False


def _plus(a: Offsets | None, b: Offsets | None, sign: int) -> Offsets | None:
    if a is None or b is None:
        return None
    return a if b == ZERO else tuple(x + sign * y for x, y in zip(a, b, strict=True))


def _neg(operation: Operation, operands: list[Shape], bits: int) -> tuple[Shape | None, bool]:
    return _sub(operation, [constant(0), operands[0]], bits)


def _mul(operation: Operation, operands: list[Shape], bits: int) -> tuple[Shape | None, bool]:
    a, b = operands
    wraps = False
    if "wide" in operation.instruction.modifiers:
        is_signed = operation.instruction.types[0][0] == "s"
        a, wraps_a = _widen(a, bits, is_signed)
        b, wraps_b = _widen(b, bits, is_signed)
        wraps, bits = wraps_a or wraps_b, 2 * bits
    product = _product(a, b, bits)
    return product, wraps and product.offsets is not None


def _product(a: Shape, b: Shape, bits: int) -> Shape:
    low, high = _interval(a, b, int.__mul__)
    multiple = min(a.multiple * b.multiple, 1 << 63)
    if a.uniform and b.uniform:
        return _ranged(ZERO, low, high, multiple, bits)
    if a.uniform:
        a, b = b, a
    factor = b.constant
    if factor is None or a.offsets is None:
        return _ranged(None, low, high, 1, bits)
    return _ranged(tuple(offset * factor for offset in a.offsets), low, high, multiple, bits)


def _mad(operation: Operation, operands: list[Shape], bits: int) -> tuple[Shape | None, bool]:
    product, wraps = _mul(operation, operands[:2], bits)
    assert product is not None
    if "wide" in operation.instruction.modifiers:
        bits *= 2
    return _add(operation, [product, operands[2]], bits)[0], wraps


def _shl(operation: Operation, operands: list[Shape], bits: int) -> tuple[Shape | None, bool]:
    amount = operands[1].constant
    if amount is None or not 0 <= amount < bits:
        return None, False
    return _product(operands[0], constant(1 << amount), bits), False


def _convert(operation: Operation, operands: list[Shape], bits: int) -> tuple[Shape | None, bool]:
    target, source = operation.instruction.types
    if operation.instruction.modifiers:
        return None, False
    if size_of(target) <= size_of(source):
        return _ranged(
            operands[0].offsets, operands[0].low, operands[0].high, operands[0].multiple, size_of(target)
        ), False
    return _widen(operands[0], size_of(source), source[0] == "s")


def _widen(shape: Shape, bits: int, is_signed: bool) -> tuple[Shape, bool]:
    """A shape of `bits` bits extended: the same offsets if no lane wraps. The flag says that this must be tested."""
    if shape.low is not None and shape.low >= 0:
        return shape, False
    if shape.uniform:
        return (shape if is_signed else Shape(ZERO, None, None, shape.multiple)), False
    if (
        is_signed
        and shape.low is not None
        and shape.high is not None
        and shape.low > -(1 << (bits - 2))
        and _narrow(shape, bits)
    ):
        return shape, False
    return Shape(shape.offsets, None, None, min(shape.multiple, 1 << (bits - 1))), True


def _narrow(shape: Shape, bits: int) -> bool:
    return shape.offsets is not None and all(abs(offset) < 1 << (bits - 2) for offset in shape.offsets)


def _and(operation: Operation, operands: list[Shape], bits: int) -> tuple[Shape | None, bool]:
    a, b = operands
    if a.constant is not None:
        a, b = b, a
    mask = b.constant
    if mask is None:
        return None, False
    high = mask if mask >= 0 else None
    whole = mask & ((1 << bits) - 1)
    if a.uniform:
        return _ranged(ZERO, 0 if high is not None else None, high, max(1, whole & -whole), bits), False
    assert a.offsets is not None
    if mask >= 0 and (whole + 1) & whole == 0 and a.multiple > whole:  # the low bits are those of the offsets
        return _ranged(tuple(offset & whole for offset in a.offsets), 0, mask, 1 << 63, bits), False
    if all(0 <= offset < a.multiple for offset in a.offsets):  # lane 0's bits and the offsets' are apart
        low = 0 if high is not None or (a.low is not None and a.low >= 0) else None
        return _ranged(
            tuple(offset & whole for offset in a.offsets), low, a.high if high is None else high, 1, bits
        ), False
    return Shape(None, 0 if high is not None else None, high), False


def _or(operation: Operation, operands: list[Shape], bits: int) -> tuple[Shape | None, bool]:
    a, b = operands
    if a.uniform and b.uniform:
        return _ranged(ZERO, *_or_range(a, b), min(a.multiple, b.multiple), bits), False
    for x, y in ((a, b), (b, a)):
        value = y.constant
        if value is not None and x.offsets is not None and 0 <= value < _trailing(x):  # no common bits: or is add
            return _add(operation, [x, y], bits)
    return None, False


def _or_range(a: Shape, b: Shape) -> tuple[int | None, int | None]:
    if a.low is None or b.low is None or a.high is None or b.high is None or a.low < 0 or b.low < 0:
        return None, None
    return 0, (1 << max(a.high.bit_length(), b.high.bit_length())) - 1


def _trailing(shape: Shape) -> int:
    """A power of two that divides the value of every lane."""
    value = shape.multiple
    for offset in shape.offsets or (1,):
        if offset:
            value = min(value, offset & -offset)
    return value


def _xor(operation: Operation, operands: list[Shape], bits: int) -> tuple[Shape | None, bool]:
    a, b = operands
    if a.uniform and b.uniform:
        return _ranged(ZERO, *_or_range(a, b), 1, bits), False
    return None, False


def _shr(operation: Operation, operands: list[Shape], bits: int) -> tuple[Shape | None, bool]:
    a, amount = operands[0], operands[1].constant
    if amount is None or not 0 <= amount < bits:
        return None, False
    non_negative = a.low is not None and a.low >= 0
    low, high = (0, a.high >> amount) if non_negative and a.high is not None else (None, None)
    if not non_negative and operation.instruction.types[0][0] == "s" and a.low is not None and a.high is not None:
        low, high = a.low >> amount, a.high >> amount
    if not non_negative and operation.instruction.types[0][0] != "s" and amount:
        low, high = 0, (1 << bits - amount) - 1
    if a.uniform:
        return _ranged(ZERO, low, high, max(1, a.multiple >> amount) if a.multiple < 1 << 62 else 1, bits), False
    assert a.offsets is not None
    if non_negative and a.multiple >= 1 << amount:  # lane 0 has no low bits to carry
        offsets = tuple(offset >> amount for offset in a.offsets)
        return _ranged(offsets, low, high, max(1, a.multiple >> amount), bits), False
    return Shape(None, low, high), False


def _div_rem(operation: Operation, operands: list[Shape], bits: int) -> tuple[Shape | None, bool]:
    a, divisor = operands[0], operands[1].constant
    if a.low is None or a.high is None or a.low < 0 or divisor is None or divisor <= 0:
        return None, False
    divide = operation.instruction.opcode == "div"
    low, high = (a.low // divisor, a.high // divisor) if divide else (0, min(a.high, divisor - 1))
    if a.uniform:
        return _ranged(ZERO, low, high, 1, bits), False
    assert a.offsets is not None
    if a.multiple >= 1 << 62 or (a.multiple % divisor == 0):  # lane 0 is a multiple of the divisor
        offsets = tuple((offset // divisor) if divide else (offset % divisor) for offset in a.offsets)
        return _ranged(offsets, low, high, 1, bits), False
    return Shape(None, low, high), False


def _min_max(operation: Operation, operands: list[Shape], bits: int) -> tuple[Shape | None, bool]:
    a, b = operands
    f = min if operation.instruction.opcode == "min" else max
    if None in (a.low, a.high, b.low, b.high):
        return None, False
    if operation.instruction.types[0][0] == "u" and (a.low < 0 or b.low < 0):  # type: ignore[operator]
        return None, False
    offsets = ZERO if a.uniform and b.uniform else None
    return Shape(offsets, f(a.low, b.low), f(a.high, b.high)), False  # type: ignore[type-var]


def _select(operation: Operation, operands: list[Shape], bits: int) -> tuple[Shape | None, bool]:
    a, b, condition = operands
    if not condition.uniform:
        return None, False
    return _join(a, b), False


_LINEAR: dict[str, Handler] = {
    "mov": _move, "add": _add, "sub": _sub, "neg": _neg, "mul": _mul, "mad": _mad, "shl": _shl, "convert": _convert,
}  # fmt: skip
_OTHER: dict[str, Handler] = {
    "and": _and, "or": _or, "xor": _xor, "shr": _shr, "div": _div_rem, "rem": _div_rem, "min": _min_max,
    "max": _min_max, "selp": _select,
}  # fmt: skip
