"""Moves, packing and bit operations: mov, and/or/xor/not/cnot, shifts and bit fields."""

from __future__ import annotations

from llvmlite import ir

from kernelevo.emulator.emit import Emitter, is_signed, mangle, size_of
from kernelevo.emulator.instruction import Instruction, Vector
from kernelevo.emulator.rules.row import Result, Row, Signature, each

# --- mov, also as pack and unpack


def _mov_operands(i: Instruction) -> Signature:
    (kind,) = i.types
    destination, source = i.operands[:2]
    if isinstance(destination, Vector):
        return (f"b{size_of(kind) // len(destination.elements)}",) * len(destination.elements), (kind,)
    if isinstance(source, Vector):
        return (kind,), (f"b{size_of(kind) // len(source.elements)}",) * len(source.elements)
    return (kind,), (kind,)


def _mov(e: Emitter, i: Instruction, *args: ir.Value) -> ir.Value | tuple[ir.Value, ...]:
    if isinstance(i.operands[0], Vector):
        return unpack(e, args[0], len(i.operands[0].elements))
    return pack(e, args) if len(args) > 1 else args[0]


def pack(e: Emitter, parts: tuple[ir.Value, ...]) -> ir.Value:
    """Integers of one size as one integer, the first in the lowest bits."""
    width = e.element_of(parts[0]).width
    total = width * len(parts)
    whole = e.resize(parts[0], total, signed=False)
    for position, part in enumerate(parts[1:], 1):
        wide = e.resize(part, total, signed=False)
        whole = e.builder.or_(whole, e.builder.shl(wide, e.const(f"b{total}", position * width)))
    return whole


def unpack(e: Emitter, whole: ir.Value, count: int) -> tuple[ir.Value, ...]:
    """An integer as `count` integers, the lowest bits first."""
    total = e.element_of(whole).width
    width = total // count
    shifted = [e.builder.lshr(whole, e.const(f"b{total}", k * width)) if k else whole for k in range(count)]
    return tuple(e.resize(part, width, signed=False) for part in shifted)


# --- logic


def _logic(e: Emitter, i: Instruction, a: ir.Value, b: ir.Value) -> ir.Value:
    return {"and": e.builder.and_, "or": e.builder.or_, "xor": e.builder.xor}[i.opcode](a, b)


def _not(e: Emitter, i: Instruction, a: ir.Value) -> ir.Value:
    return e.builder.xor(a, e.const(i.types[0], -1))


def _cnot(e: Emitter, i: Instruction, a: ir.Value) -> ir.Value:
    return e.resize(e.builder.icmp_unsigned("==", a, e.const(i.types[0], 0)), size_of(i.types[0]), signed=False)


# --- shifts: the amount is an u32, and an amount of at least the width counts as the width


def _shift_operands(i: Instruction) -> Signature:
    return (i.types[0],), (i.types[0], "b32")


def _shl(e: Emitter, i: Instruction, a: ir.Value, amount: ir.Value) -> ir.Value:
    width = size_of(i.types[0])
    within = e.builder.icmp_unsigned("<", amount, e.const("b32", width))
    return e.select(within, e.builder.shl(a, e.resize(amount, width, signed=False)), e.const(i.types[0], 0))


def _shr(e: Emitter, i: Instruction, a: ir.Value, amount: ir.Value) -> ir.Value:
    width = size_of(i.types[0])
    within = e.builder.icmp_unsigned("<", amount, e.const("b32", width))
    if is_signed(i.types[0]):
        limited = e.select(within, amount, e.const("b32", width - 1))
        return e.builder.ashr(a, e.resize(limited, width, signed=False))
    return e.select(within, e.builder.lshr(a, e.resize(amount, width, signed=False)), e.const(i.types[0], 0))


# --- funnel shift


def _shf(e: Emitter, i: Instruction, low: ir.Value, high: ir.Value, amount: ir.Value) -> ir.Value:
    build = e.builder
    if "wrap" in i.modifiers:
        amount = build.and_(amount, e.const("b32", 31))
    else:
        amount = e.intrinsic("llvm.umin", amount.type, amount, e.const("b32", 32))
    both = pack(e, (low, high))
    wide = e.resize(amount, 64, signed=False)
    if "l" in i.modifiers:
        return e.resize(build.lshr(build.shl(both, wide), e.const("b64", 32)), 32, signed=False)
    return e.resize(build.lshr(both, wide), 32, signed=False)


# --- bit fields: position and length count in the low 8 bits


def _bfe_operands(i: Instruction) -> Signature:
    return i.types, (i.types[0], "b32", "b32")


def _bfe(e: Emitter, i: Instruction, a: ir.Value, position: ir.Value, length: ir.Value) -> ir.Value:
    (kind,) = i.types
    build, width = e.builder, size_of(kind)
    position, length = _field(e, position, width), _field(e, length, width)
    signed = is_signed(kind)
    if signed:
        position = e.intrinsic("llvm.umin", position.type, position, e.const(kind, width - 1))
    room = build.sub(e.const(kind, width), position)
    length = e.intrinsic("llvm.umin", length.type, length, room)
    empty = build.icmp_unsigned("==", length, e.const(kind, 0))
    unused = e.select(empty, e.const(kind, 0), build.sub(e.const(kind, width), length))
    beyond = e.intrinsic("llvm.umin", position.type, build.sub(unused, position), unused)
    top = build.shl(a, e.select(empty, e.const(kind, 0), beyond))
    field = build.ashr(top, unused) if signed else build.lshr(top, unused)
    return e.select(empty, e.const(kind, 0), field)


def _field(e: Emitter, operand: ir.Value, width: int) -> ir.Value:
    """A position or length: 8 bits, at most the width, as an integer of the width."""
    low = e.builder.and_(operand, e.const("b32", 0xFF))
    return e.resize(e.intrinsic("llvm.umin", low.type, low, e.const("b32", width)), width, signed=False)


def _bfi_operands(i: Instruction) -> Signature:
    return i.types, (i.types[0], i.types[0], "b32", "b32")


def _bfi(e: Emitter, i: Instruction, a: ir.Value, b: ir.Value, position: ir.Value, length: ir.Value) -> ir.Value:
    (kind,) = i.types
    build, width = e.builder, size_of(kind)
    position, length = _field(e, position, width), _field(e, length, width)
    ones = build.not_(_shift_left(e, e.const(kind, -1), length, kind))
    mask = _shift_left(e, ones, position, kind)
    moved = _shift_left(e, a, position, kind)
    return build.or_(build.and_(moved, mask), build.and_(b, build.not_(mask)))


def _shift_left(e: Emitter, value: ir.Value, amount: ir.Value, kind: str) -> ir.Value:
    """Shift by an amount of the value's own width, where the width itself shifts everything out."""
    within = e.builder.icmp_unsigned("<", amount, e.const(kind, size_of(kind)))
    return e.select(within, e.builder.shl(value, e.select(within, amount, e.const(kind, 0))), e.const(kind, 0))


def _bmsk(e: Emitter, i: Instruction, position: ir.Value, length: ir.Value) -> ir.Value:
    if "wrap" in i.modifiers:
        position, length = (e.builder.and_(value, e.const("b32", 31)) for value in (position, length))
    else:
        position, length = (
            e.intrinsic("llvm.umin", value.type, value, e.const("b32", 32)) for value in (position, length)
        )
    ones = e.builder.not_(_shift_left(e, e.const("b32", -1), length, "b32"))
    return _shift_left(e, ones, position, "b32")


# --- counting


def _count_operands(i: Instruction) -> Signature:
    return ("u32",), i.types


def _popc(e: Emitter, i: Instruction, a: ir.Value) -> ir.Value:
    return e.resize(e.intrinsic("llvm.ctpop", a.type, a), 32, signed=False)


def _clz(e: Emitter, i: Instruction, a: ir.Value) -> ir.Value:
    return e.resize(_leading_zeros(e, a), 32, signed=False)


def _leading_zeros(e: Emitter, a: ir.Value) -> ir.Value:
    return e.call(f"llvm.ctlz.{mangle(a.type)}", a.type, a, ir.IntType(1)(0))


def _brev(e: Emitter, i: Instruction, a: ir.Value) -> ir.Value:
    return e.intrinsic("llvm.bitreverse", a.type, a)


def _bfind(e: Emitter, i: Instruction, a: ir.Value) -> ir.Value:
    (kind,) = i.types
    width = size_of(kind)
    if is_signed(kind):
        a = e.builder.xor(a, e.builder.ashr(a, e.const(kind, width - 1)))
    zeros = e.resize(_leading_zeros(e, a), 32, signed=False)
    found = zeros if "shiftamt" in i.modifiers else e.builder.sub(e.const("u32", width - 1), zeros)
    nothing = e.builder.icmp_unsigned("==", zeros, e.const("u32", width))
    return e.select(nothing, e.const("u32", -1), found)


# --- lop3, prmt


def _lop3_operands(i: Instruction) -> Signature:
    if i.modifiers:
        return ("b32", "pred"), ("b32", "b32", "b32", "b32", "pred")
    return ("b32",), ("b32", "b32", "b32", "b32")


def _lop3(
    e: Emitter, i: Instruction, a: ir.Value, b: ir.Value, c: ir.Value, table: ir.Value, q: ir.Value | None = None
) -> Result:
    truth = e.known(table)
    if truth is None:
        raise ValueError("lop3: the look-up table must be an immediate")
    result = _lookup(e, truth, [c, b, a])
    if q is None:
        return result
    some = e.builder.icmp_unsigned("!=", result, e.const("b32", 0))
    return result, e.builder.or_(some, q) if "or" in i.modifiers else e.builder.and_(some, q)


def _lookup(e: Emitter, truth: int, inputs: list[ir.Value]) -> ir.Value:
    """The bitwise function with this truth table; inputs[0] is bit 0 of the index."""
    entries = 1 << len(inputs)
    if truth in (0, (1 << entries) - 1):
        return e.const("b32", -1 if truth else 0)
    top, rest = inputs[-1], inputs[:-1]
    low, high = truth & ((1 << entries // 2) - 1), truth >> entries // 2
    if low == high:
        return _lookup(e, low, rest)
    if high == low ^ ((1 << entries // 2) - 1):
        return e.builder.xor(_lookup(e, low, rest), top)
    zero, one = _lookup(e, low, rest), _lookup(e, high, rest)
    return e.builder.or_(e.builder.and_(one, top), e.builder.and_(zero, e.builder.not_(top)))


# selectors of the four result bytes, lowest first, for control values 0 to 3
_PRMT_MODES = {
    "f4e": ((0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (3, 4, 5, 6)),
    "b4e": ((0, 7, 6, 5), (1, 0, 7, 6), (2, 1, 0, 7), (3, 2, 1, 0)),
    "rc8": ((0, 0, 0, 0), (1, 1, 1, 1), (2, 2, 2, 2), (3, 3, 3, 3)),
    "ecl": ((0, 1, 2, 3), (1, 1, 2, 3), (2, 2, 2, 3), (3, 3, 3, 3)),
    "ecr": ((0, 0, 0, 0), (0, 1, 1, 1), (0, 1, 2, 2), (0, 1, 2, 3)),
    "rc16": ((0, 1, 0, 1), (2, 3, 2, 3), (0, 1, 0, 1), (2, 3, 2, 3)),
}


def _prmt(e: Emitter, i: Instruction, a: ir.Value, b: ir.Value, control: ir.Value) -> ir.Value:
    build = e.builder
    if i.modifiers:
        words = [sum(byte << 4 * place for place, byte in enumerate(row)) for row in _PRMT_MODES[i.modifiers[0]]]
        low = build.and_(control, e.const("b32", 3))
        control = e.const("b32", words[3])
        for value in (2, 1, 0):
            chosen = build.icmp_unsigned("==", low, e.const("b32", value))
            control = e.select(chosen, e.const("b32", words[value]), control)
    both = pack(e, (a, b))
    known = e.known(control)
    result = e.const("b32", 0)
    for place in range(4):
        selector = e.const("b32", known >> 4 * place) if known is not None else build.lshr(
            control, e.const("b32", 4 * place)
        )  # fmt: skip
        byte_at = build.shl(build.and_(selector, e.const("b32", 7)), e.const("b32", 3))
        byte = e.resize(build.lshr(both, e.resize(byte_at, 64, signed=False)), 8, signed=False)
        if known is None or known >> 4 * place & 8:
            sign = build.ashr(byte, e.const("b8", 7))
            flagged = build.icmp_unsigned("!=", build.and_(selector, e.const("b32", 8)), e.const("b32", 0))
            byte = e.select(flagged, sign, byte)
        result = build.or_(result, build.shl(e.resize(byte, 32, signed=False), e.const("b32", 8 * place)))
    return result


INTEGER = "integer-arithmetic-instructions-"
ROWS = (
    Row("mov", "data-movement-and-conversion-instructions-mov",
        each("pred b16 b32 b64 b128 u16 u32 u64 s16 s32 s64 f16 f32 f64"), _mov, operands=_mov_operands, linear="mov"),
    *(Row(name, f"logic-and-shift-instructions-{name}", each("pred b16 b32 b64"), _logic)
      for name in ("and", "or", "xor")),
    Row("not", "logic-and-shift-instructions-not", each("pred b16 b32 b64"), _not, operands=1),
    Row("cnot", "logic-and-shift-instructions-cnot", each("b16 b32 b64"), _cnot, operands=1),
    Row("shl", "logic-and-shift-instructions-shl", each("b16 b32 b64"), _shl, operands=_shift_operands, linear="shl"),
    Row("shr", "logic-and-shift-instructions-shr", each("b16 b32 b64 u16 u32 u64 s16 s32 s64"), _shr,
        operands=_shift_operands),
    Row("shf", "logic-and-shift-instructions-shf", each("b32"), _shf, ("l|r", "clamp|wrap"), 3),
    Row("lop3", "logic-and-shift-instructions-lop3", each("b32"), _lop3, ("or|and?",), _lop3_operands),
    Row("prmt", "data-movement-and-conversion-instructions-prmt", each("b32"), _prmt,
        ("f4e|b4e|rc8|ecl|ecr|rc16?",), 3),
    Row("bfe", INTEGER + "bfe", each("u32 u64 s32 s64"), _bfe, operands=_bfe_operands),
    Row("bfi", INTEGER + "bfi", each("b32 b64"), _bfi, operands=_bfi_operands),
    Row("bmsk", INTEGER + "bmsk", each("b32"), _bmsk, ("clamp|wrap",)),
    Row("popc", INTEGER + "popc", each("b32 b64"), _popc, operands=_count_operands),
    Row("clz", INTEGER + "clz", each("b32 b64"), _clz, operands=_count_operands),
    Row("brev", INTEGER + "brev", each("b32 b64"), _brev, operands=1),
    Row("bfind", INTEGER + "bfind", each("u32 u64 s32 s64"), _bfind, ("shiftamt?",), _count_operands),
)  # fmt: skip
