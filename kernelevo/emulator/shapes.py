"""Shapes: what is known of a register when all 32 lanes execute together, for one block size.

A shape with `offsets` says: lane l holds its leader's value plus offsets[l], modulo 2^bits. The leader is lane 0, or
with `groups` the first lane of each half, quarter or eighth of the warp: in blocks of 16 x 16 threads a warp is two
rows, and row * stride is one value for each. One group and all offsets 0 is a uniform register; None means that nothing
is known.

The analysis is flow-insensitive: it looks at all definitions of a register at once, and is right because translate.py
uses it only in code that all 32 lanes execute together. Where widening to 64 bits would need that `leader + offset`
does not wrap around and no range proves it, the operation is listed in `Shapes.checks` and converged code tests it as
it runs. Divergent branches are handled by `_spoil`: registers that paths write differently are unknown at the join.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeAlias

from .check import CARRY, Kind, Operation, flatten
from .emit import WARP, size_of
from .flow import Program, joins, region
from .instruction import Address, Immediate, Operand, Pair, Register, SpecialRegister, Symbol, Vector

Offsets: TypeAlias = "tuple[int, ...]"
ZERO: Offsets = (0,) * WARP
LANES: Offsets = tuple(range(WARP))


@dataclass(frozen=True, slots=True)
class Shape:
    """What is known of the 32 values of a register."""

    offsets: Offsets | None = None
    groups: int = 1
    """Leaders: 1, 2, 4 or 8"""
    low: int | None = None
    """With `high`: every lane's value, read as signed, lies in low..high. None: unknown."""
    high: int | None = None
    multiple: int = 1
    """A power of two that divides the leaders' values."""

    @property
    def uniform(self) -> bool:
        return self.groups == 1 and self.offsets == ZERO

    @property
    def even(self) -> int | None:
        """The fewest groups of lanes that hold one value each; None: more than MOST_GROUPS."""
        groups = self.groups
        while groups <= MOST_GROUPS:
            if self.relative(groups) == ZERO:
                return groups
            groups *= 2
        return None

    def relative(self, groups: int) -> Offsets | None:
        """The offsets from the leaders of `groups` groups, at least as many as the shape has."""
        if self.offsets is None or groups == self.groups:
            return self.offsets
        width = WARP // groups
        return tuple(offset - self.offsets[lane // width * width] for lane, offset in enumerate(self.offsets))

    def divided(self, groups: int) -> Shape:
        """The same values seen from `groups` leaders."""
        if self.offsets is None or groups == self.groups:
            return self
        multiple = self.multiple
        for offset in self.offsets[:: WARP // groups]:
            if offset:
                multiple = min(multiple, offset & -offset)
        return Shape(self.relative(groups), groups, self.low, self.high, multiple)

    @property
    def constant(self) -> int | None:
        """The value of a uniform register whose value is known."""
        return self.low if self.uniform and self.low is not None and self.low == self.high else None


MOST_GROUPS = 8
VARYING = Shape()
UNIFORM = Shape(ZERO)


def constant(value: int) -> Shape:
    return Shape(ZERO, 1, value, value, (value & -value) or 1 << 63)


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
        found.append(Shape(offsets, 1, 0, block[axis] - 1, multiple if offsets else 1))
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
    groups = max(a.groups, b.groups)
    while a.offsets is not None and b.offsets is not None and groups <= MOST_GROUPS:
        x, y = a.divided(groups), b.divided(groups)
        if x.offsets == y.offsets:
            return Shape(x.offsets, groups, low, high, min(x.multiple, y.multiple))
        groups *= 2
    return Shape(None, 1, low, high)


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
        return Shape(ZERO, 1, 0, grid_limit(block)[k] - 1)
    if base == "nctaid" and k >= 0:
        return Shape(ZERO, 1, 1, grid_limit(block)[k])
    if base == "laneid":
        return Shape(LANES, 1, 0, WARP - 1, 1 << 63)
    if base in ("warpid", "nwarpid"):
        return Shape(ZERO, 1, 0, 31)
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
    same = _same(operation, known, block)
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
        return [Shape(shape.offsets, shape.groups)], False
    if kind is Kind.LOAD:
        private = operation.access is not None and operation.access.space == "local"
        return [VARYING if private else same] * count, False
    if kind is Kind.IS_SPACE:
        return [same], False
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
        if found is not None and found.offsets is not None:
            return [found], wraps
        if found is not None:
            return [replace(same, low=found.low, high=found.high)], False
    return [same] * count, False


def _same(operation: Operation, known: dict[str, Shape], block: tuple[int, int, int]) -> Shape:
    """The shape of a result that depends on nothing but the operands, lane by lane."""
    groups = 1
    for shape in (*(known[name] for name in operation.reads), *special_operands(operation, block)):
        if shape.even is None:
            return VARYING
        groups = max(groups, shape.even)
    return Shape(ZERO, groups)


def special_operands(operation: Operation, block: tuple[int, int, int]) -> list[Shape]:
    """Shapes of the special registers that an operation reads directly."""
    flat = (each for operand in operation.instruction.operands for each in flatten(operand))
    return [special_shape(each.name, block) for each in flat if isinstance(each, SpecialRegister)]


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
    if any(isinstance(each, Vector | Pair) for each in instruction.operands):
        return None, False  # mov that packs or unpacks, even to one register and "_"
    if "relu" in instruction.modifiers:
        return None, False
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
        operands.append(_fit(shape, own_bits))
    handler = _LINEAR.get(row.linear) if row.linear else _OTHER.get(instruction.opcode)
    if handler is None or any(shape.offsets is None for shape in operands):
        mask = operands[1].constant if instruction.opcode == "and" and len(operands) == 2 else None
        return (Shape(None, 1, 0, mask), False) if mask is not None and mask >= 0 else (None, False)
    return handler(operation, operands, bits)


Handler: TypeAlias = "Callable[[Operation, list[Shape], int], tuple[Shape | None, bool]]"


def _fit(shape: Shape, bits: int) -> Shape:
    """A shape with its offsets reduced modulo 2^bits and its range dropped where it does not fit."""
    low, high, offsets = shape.low, shape.high, shape.offsets
    if low is None or high is None or low < -(1 << (bits - 1)) or high >= 1 << (bits - 1):
        low = high = None
    if offsets is not None and offsets != ZERO:
        offsets = tuple(signed(offset, bits) for offset in offsets)
    return Shape(offsets, shape.groups, low, high, shape.multiple)


def _interval(a: Shape, b: Shape, f: Callable[[int, int], int]) -> tuple[int | None, int | None]:
    if a.low is None or a.high is None or b.low is None or b.high is None:
        return None, None
    corners = [f(x, y) for x in (a.low, a.high) for y in (b.low, b.high)]
    return min(corners), max(corners)


def _move(operation: Operation, operands: list[Shape], bits: int) -> tuple[Shape | None, bool]:
    return (operands[0], False) if len(operands) == 1 else (None, False)


def _add(operation: Operation, operands: list[Shape], bits: int) -> tuple[Shape | None, bool]:
    return _sum(operands[0], operands[1], 1, bits), False


def _sub(operation: Operation, operands: list[Shape], bits: int) -> tuple[Shape | None, bool]:
    return _sum(operands[0], operands[1], -1, bits), False


def _sum(a: Shape, b: Shape, sign: int, bits: int) -> Shape:
    low, high = _interval(a, b, lambda x, y: x + sign * y)
    groups = max(a.groups, b.groups)
    a, b = a.divided(groups), b.divided(groups)
    if a.offsets is None or b.offsets is None:
        return _fit(Shape(None, 1, low, high), bits)
    offsets = a.offsets if b.offsets == ZERO else tuple(x + sign * y for x, y in zip(a.offsets, b.offsets, strict=True))
    return _fit(Shape(offsets, groups, low, high, min(a.multiple, b.multiple)), bits)


def _neg(operation: Operation, operands: list[Shape], bits: int) -> tuple[Shape | None, bool]:
    return _sum(constant(0), operands[0], -1, bits), False


def _mul(operation: Operation, operands: list[Shape], bits: int) -> tuple[Shape | None, bool]:
    a, b = operands
    wraps = False
    if "wide" in operation.instruction.modifiers:
        is_signed = operation.instruction.types[0][0] == "s"
        a, wraps_a = _widen(a, bits, is_signed)
        b, wraps_b = _widen(b, bits, is_signed)
        wraps, bits = wraps_a or wraps_b, 2 * bits
    product = _product(a, b, bits)
    return product, wraps and product.offsets not in (None, ZERO)


def _product(a: Shape, b: Shape, bits: int) -> Shape:
    low, high = _interval(a, b, int.__mul__)
    if a.constant is not None:
        a, b = b, a
    multiple = min(a.multiple * b.multiple, 1 << 63)
    factor = b.constant
    if factor is not None and a.offsets is not None:
        return _fit(Shape(tuple(offset * factor for offset in a.offsets), a.groups, low, high, multiple), bits)
    if a.even is None or b.even is None:
        return _fit(Shape(None, 1, low, high), bits)
    groups = max(a.even, b.even)
    multiple = min(a.divided(groups).multiple * b.divided(groups).multiple, 1 << 63)
    return _fit(Shape(ZERO, groups, low, high, multiple), bits)


def _mad(operation: Operation, operands: list[Shape], bits: int) -> tuple[Shape | None, bool]:
    product, wraps = _mul(operation, operands[:2], bits)
    assert product is not None
    if "wide" in operation.instruction.modifiers:
        bits *= 2
    return _sum(product, operands[2], 1, bits), wraps


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
        return _fit(operands[0], size_of(target)), False
    return _widen(operands[0], size_of(source), source[0] == "s")


def _widen(shape: Shape, bits: int, is_signed: bool) -> tuple[Shape, bool]:
    """A shape of `bits` bits extended: the same offsets if no lane wraps. The flag says that this must be tested."""
    if shape.low is not None and shape.low >= 0:
        return shape, False
    if shape.offsets == ZERO:
        return (shape if is_signed else replace(shape, low=None, high=None)), False
    if is_signed and shape.low is not None and shape.low > -(1 << (bits - 2)) and _narrow(shape, bits):
        return shape, False
    return replace(shape, low=None, high=None), True


def _narrow(shape: Shape, bits: int) -> bool:
    return shape.offsets is not None and all(abs(offset) < 1 << (bits - 2) for offset in shape.offsets)


def _and(operation: Operation, operands: list[Shape], bits: int) -> tuple[Shape | None, bool]:
    a, b = operands
    if a.constant is not None:
        a, b = b, a
    mask = b.constant
    if mask is None or a.offsets is None:
        return None, False
    whole = mask & ((1 << bits) - 1)
    low, high = (0, mask) if mask >= 0 else (0, a.high) if a.low is not None and a.low >= 0 else (None, None)
    if mask >= 0 and (whole + 1) & whole == 0 and a.multiple > whole:  # the low bits are those of the offsets
        offsets = tuple(offset & whole for offset in a.offsets)
        return _fit(Shape(offsets, a.groups, low, high, 1 << 63), bits), False
    if all(0 <= offset < a.multiple for offset in a.offsets):  # the leaders' bits and the offsets' are apart
        multiple = max(1, whole & -whole) if a.offsets == ZERO else 1
        return _fit(Shape(tuple(offset & whole for offset in a.offsets), a.groups, low, high, multiple), bits), False
    return Shape(None, 1, low, high), False


def _or(operation: Operation, operands: list[Shape], bits: int) -> tuple[Shape | None, bool]:
    a, b = operands
    for x, y in ((a, b), (b, a)):
        value = y.constant
        if value is not None and 0 <= value < _trailing(x):  # no common bits: or is add
            return _sum(x, y, 1, bits), False
    return _bits(operation, operands, bits)


def _bits(operation: Operation, operands: list[Shape], bits: int) -> tuple[Shape | None, bool]:
    """The range of or and xor."""
    a, b = operands
    if a.low is None or b.low is None or a.high is None or b.high is None or a.low < 0 or b.low < 0:
        return None, False
    return Shape(None, 1, 0, (1 << max(a.high.bit_length(), b.high.bit_length())) - 1), False


def _trailing(shape: Shape) -> int:
    """A power of two that divides the value of every lane."""
    value = shape.multiple
    for offset in shape.offsets or (1,):
        if offset:
            value = min(value, offset & -offset)
    return value


def _shr(operation: Operation, operands: list[Shape], bits: int) -> tuple[Shape | None, bool]:
    a, amount = operands[0], operands[1].constant
    if amount is None or not 0 <= amount < bits:
        return None, False
    arithmetic = operation.instruction.types[0][0] == "s"
    low = high = None
    if a.low is not None and a.high is not None and (a.low >= 0 or arithmetic):
        low, high = a.low >> amount, a.high >> amount
    elif not arithmetic and amount:
        low, high = 0, (1 << bits - amount) - 1
    if a.low is not None and a.low >= 0 and a.multiple >= 1 << amount and a.offsets is not None:
        # the leaders have no low bits to carry
        offsets = tuple(offset >> amount for offset in a.offsets)
        return _fit(Shape(offsets, a.groups, low, high, max(1, a.multiple >> amount)), bits), False
    return Shape(None, 1, low, high), False


def _div_rem(operation: Operation, operands: list[Shape], bits: int) -> tuple[Shape | None, bool]:
    a, divisor = operands[0], operands[1].constant
    if a.low is None or a.high is None or a.low < 0 or divisor is None or divisor <= 0:
        return None, False
    divide = operation.instruction.opcode == "div"
    low, high = (a.low // divisor, a.high // divisor) if divide else (0, min(a.high, divisor - 1))
    if a.offsets is not None and (a.multiple >= 1 << 63 or a.multiple % divisor == 0):  # so are the leaders' values
        offsets = tuple((offset // divisor) if divide else (offset % divisor) for offset in a.offsets)
        return _fit(Shape(offsets, a.groups, low, high), bits), False
    return Shape(None, 1, low, high), False


def _min_max(operation: Operation, operands: list[Shape], bits: int) -> tuple[Shape | None, bool]:
    a, b = operands
    if a.low is None or a.high is None or b.low is None or b.high is None:
        return None, False
    if operation.instruction.types[0][0] == "u" and (a.low < 0 or b.low < 0):
        return None, False
    pick = min if operation.instruction.opcode == "min" else max
    return Shape(None, 1, pick(a.low, b.low), pick(a.high, b.high)), False


def _select(operation: Operation, operands: list[Shape], bits: int) -> tuple[Shape | None, bool]:
    a, b, condition = operands
    return (_join(a, b), False) if condition.uniform else (None, False)


_LINEAR: dict[str, Handler] = {
    "mov": _move, "add": _add, "sub": _sub, "neg": _neg, "mul": _mul, "mad": _mad, "shl": _shl, "convert": _convert,
}  # fmt: skip
_OTHER: dict[str, Handler] = {
    "and": _and, "or": _or, "xor": _bits, "shr": _shr, "div": _div_rem, "rem": _div_rem, "min": _min_max,
    "max": _min_max, "selp": _select,
}  # fmt: skip
