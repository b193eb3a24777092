"""Moves, packing and bit operations: mov, and/or/xor/not/cnot, shifts and bit fields."""

from __future__ import annotations

from llvmlite import ir

from kernelevo.emulator.emit import Emitter, is_signed, size_of
from kernelevo.emulator.instruction import Instruction, Vector
from kernelevo.emulator.rules.row import Row, Signature, each

# --- mov, also as pack and unpack


def _mov_operands(i: Instruction) -> Signature:
    (kind,) = i.types
    destination, source = i.operands
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


ROWS = (
    Row("mov", "data-movement-and-conversion-instructions-mov", each("pred b16 b32 b64 b128 u16 u32 u64 s16 s32 s64 f32 f64 f16"),
        _mov, operands=_mov_operands, linear="mov"),
    *(Row(name, f"logic-and-shift-instructions-{name}", each("pred b16 b32 b64"), _logic) for name in ("and", "or", "xor")),
    Row("not", "logic-and-shift-instructions-not", each("pred b16 b32 b64"), _not, operands=1),
    Row("cnot", "logic-and-shift-instructions-cnot", each("b16 b32 b64"), _cnot, operands=1),
    Row("shl", "logic-and-shift-instructions-shl", each("b16 b32 b64"), _shl, operands=_shift_operands, linear="shl"),
    Row("shr", "logic-and-shift-instructions-shr", each("b16 b32 b64 u16 u32 u64 s16 s32 s64"), _shr,
        operands=_shift_operands),
)  # fmt: skip
