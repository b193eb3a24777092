"""Integer arithmetic: add, sub, mul, mad, div, rem, abs, neg, min, max.

Division by zero is unspecified in PTX; like the hardware's own code, quotient and remainder are all ones. No
division can raise a signal.
"""

from __future__ import annotations

from llvmlite import ir

from kernelevo.emulator.emit import Emitter, is_signed, size_of
from kernelevo.emulator.instruction import Instruction
from kernelevo.emulator.rules.row import Row, Signature, each

INTEGERS = "u16 u32 u64 s16 s32 s64"


def _add(e: Emitter, i: Instruction, a: ir.Value, b: ir.Value) -> ir.Value:
    if "sat" in i.modifiers:
        return e.intrinsic(f"llvm.s{i.opcode}.sat", a.type, a, b)
    return e.builder.add(a, b) if i.opcode == "add" else e.builder.sub(a, b)


def _wide(i: Instruction) -> str:
    return f"{i.types[0][0]}{2 * size_of(i.types[0])}"


def _mul_operands(i: Instruction) -> Signature:
    (kind,) = i.types
    return (_wide(i) if "wide" in i.modifiers else kind,), (kind, kind)


def _mul(e: Emitter, i: Instruction, a: ir.Value, b: ir.Value) -> ir.Value:
    (kind,) = i.types
    if "lo" in i.modifiers:
        return e.builder.mul(a, b)
    width, signed = size_of(kind), is_signed(kind)
    product = e.builder.mul(e.resize(a, 2 * width, signed=signed), e.resize(b, 2 * width, signed=signed))
    if "wide" in i.modifiers:
        return product
    return e.resize(e.builder.lshr(product, e.constant(ir.IntType(2 * width), width)), width, signed=False)


def _mad_operands(i: Instruction) -> Signature:
    (kind,) = i.types
    result = _wide(i) if "wide" in i.modifiers else kind
    return (result,), (kind, kind, result)


def _mad(e: Emitter, i: Instruction, a: ir.Value, b: ir.Value, c: ir.Value) -> ir.Value:
    product = _mul(e, i, a, b)
    return e.intrinsic("llvm.sadd.sat", c.type, product, c) if "sat" in i.modifiers else e.builder.add(product, c)


def _divide(e: Emitter, i: Instruction, a: ir.Value, b: ir.Value) -> ir.Value:
    (kind,) = i.types
    signed, width = is_signed(kind), size_of(kind)
    zero = e.builder.icmp_unsigned("==", b, e.const(kind, 0))
    unsafe = zero
    if signed:
        lowest = e.builder.icmp_unsigned("==", a, e.const(kind, 1 << (width - 1)))
        overflow = e.builder.and_(lowest, e.builder.icmp_unsigned("==", b, e.const(kind, -1)))
        unsafe = e.builder.or_(zero, overflow)  # lowest / 1 and lowest % 1 are what PTX wants of lowest / -1
    divisor = e.select(unsafe, e.const(kind, 1), b)
    if i.opcode == "div":
        result = e.builder.sdiv(a, divisor) if signed else e.builder.udiv(a, divisor)
    else:
        result = e.builder.srem(a, divisor) if signed else e.builder.urem(a, divisor)
    return e.select(zero, e.const(kind, -1), result)


def _abs(e: Emitter, i: Instruction, a: ir.Value) -> ir.Value:
    return e.call(f"llvm.abs.{_mangled(a)}", a.type, a, ir.IntType(1)(0))


def _mangled(a: ir.Value) -> str:
    from kernelevo.emulator.emit import mangle

    return mangle(a.type)


def _neg(e: Emitter, i: Instruction, a: ir.Value) -> ir.Value:
    return e.builder.sub(e.const(i.types[0], 0), a)


def _minmax(e: Emitter, i: Instruction, a: ir.Value, b: ir.Value) -> ir.Value:
    return e.intrinsic(f"llvm.{i.types[0][0]}{i.opcode}", a.type, a, b)


SECTION = "integer-arithmetic-instructions-"
ROWS = (
    Row("add", SECTION + "add", each(INTEGERS), _add, linear="add"),
    Row("add", SECTION + "add", each("s32"), _add, ("sat",)),
    Row("sub", SECTION + "sub", each(INTEGERS), _add, linear="sub"),
    Row("sub", SECTION + "sub", each("s32"), _add, ("sat",)),
    Row("mul", SECTION + "mul", each(INTEGERS), _mul, ("lo",), _mul_operands, linear="mul"),
    Row("mul", SECTION + "mul", each("u16 u32 s16 s32"), _mul, ("wide",), _mul_operands, linear="mul"),
    Row("mul", SECTION + "mul", each(INTEGERS), _mul, ("hi",), _mul_operands),
    Row("mad", SECTION + "mad", each(INTEGERS), _mad, ("lo",), _mad_operands, linear="mad"),
    Row("mad", SECTION + "mad", each("u16 u32 s16 s32"), _mad, ("wide",), _mad_operands, linear="mad"),
    Row("mad", SECTION + "mad", each(INTEGERS), _mad, ("hi",), _mad_operands),
    Row("mad", SECTION + "mad", each("s32"), _mad, ("hi", "sat"), _mad_operands),
    Row("div", SECTION + "div", each(INTEGERS), _divide),
    Row("rem", SECTION + "rem", each(INTEGERS), _divide),
    Row("abs", SECTION + "abs", each("s16 s32 s64"), _abs, operands=1),
    Row("neg", SECTION + "neg", each("s16 s32 s64"), _neg, operands=1, linear="neg"),
    Row("min", SECTION + "min", each(INTEGERS), _minmax),
    Row("max", SECTION + "max", each(INTEGERS), _minmax),
)
