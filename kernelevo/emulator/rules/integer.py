"""Integer arithmetic: add, sub, mul, mad, div, rem, abs, neg, min, max, sad, dot products, carries.

Division by zero is unspecified in PTX; like the hardware's own code, quotient and remainder are all ones. No
division can raise a signal.
"""

from __future__ import annotations

from itertools import product

from llvmlite import ir

from kernelevo.emulator.emit import Emitter, is_signed, mangle, size_of
from kernelevo.emulator.instruction import Instruction
from kernelevo.emulator.rules.row import Result, Row, Signature, each

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
    if e.lanes > 1 and width <= 32 and not isinstance(b, ir.Constant):
        return _divide_by_f64(e, i, a, b)
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


def _divide_by_f64(e: Emitter, i: Instruction, a: ir.Value, b: ir.Value) -> ir.Value:
    """Vectors have no integer division. A quotient of 32-bit integers, rounded to f64 and cut, is exact.

    a/b differs from the next integer n by at least 1/b, relative to n at least 1/(a + b) >= 2^-33.
    """
    (kind,) = i.types
    build, signed = e.builder, is_signed(kind)
    zero = build.icmp_unsigned("==", b, e.const(kind, 0))
    divisor = e.select(zero, e.const(kind, 1), b)
    to_float = build.sitofp if signed else build.uitofp
    quotient = build.fdiv(to_float(a, e.type_of("f64")), to_float(divisor, e.type_of("f64")))
    # 2^31 of -2^31 / -1 wraps to -2^31
    whole = e.resize(build.fptosi(quotient, e.type_of("s64")), size_of(kind), signed=False)
    result = whole if i.opcode == "div" else build.sub(a, build.mul(whole, divisor))
    return e.select(zero, e.const(kind, -1), result)


def _abs(e: Emitter, i: Instruction, a: ir.Value) -> ir.Value:
    return e.call(f"llvm.abs.{mangle(a.type)}", a.type, a, ir.IntType(1)(0))


def _neg(e: Emitter, i: Instruction, a: ir.Value) -> ir.Value:
    return e.builder.sub(e.const(i.types[0], 0), a)


def _minmax(e: Emitter, i: Instruction, a: ir.Value, b: ir.Value) -> ir.Value:
    return e.intrinsic(f"llvm.{i.types[0][0]}{i.opcode}", a.type, a, b)


def _minmax_relu(e: Emitter, i: Instruction, a: ir.Value, b: ir.Value) -> ir.Value:
    return e.intrinsic("llvm.smax", a.type, _minmax(e, i, a, b), e.const("s32", 0))


# --- 24-bit products


def _mul24(e: Emitter, i: Instruction, a: ir.Value, b: ir.Value) -> ir.Value:
    (kind,) = i.types
    signed = is_signed(kind)
    a, b = (e.resize(_low24(e, value, signed=signed), 64, signed=signed) for value in (a, b))
    product = e.builder.mul(a, b)
    if "hi" in i.modifiers:
        product = e.builder.lshr(product, e.const("b64", 16))
    return e.resize(product, 32, signed=False)


def _low24(e: Emitter, value: ir.Value, *, signed: bool) -> ir.Value:
    eight = e.const("b32", 8)
    top = e.builder.shl(value, eight)
    return e.builder.ashr(top, eight) if signed else e.builder.lshr(top, eight)


def _mad24(e: Emitter, i: Instruction, a: ir.Value, b: ir.Value, c: ir.Value) -> ir.Value:
    product = _mul24(e, i, a, b)
    return e.intrinsic("llvm.sadd.sat", c.type, product, c) if "sat" in i.modifiers else e.builder.add(product, c)


# --- sums of differences and products


def _sad(e: Emitter, i: Instruction, a: ir.Value, b: ir.Value, c: ir.Value) -> ir.Value:
    prefix = i.types[0][0]
    highest = e.intrinsic(f"llvm.{prefix}max", a.type, a, b)
    lowest = e.intrinsic(f"llvm.{prefix}min", a.type, a, b)
    return e.builder.add(c, e.builder.sub(highest, lowest))


def _dot_operands(i: Instruction) -> Signature:
    accumulator = "s32" if "s32" in i.types else "u32"
    return (accumulator,), (*i.types, accumulator)


def _dp4a(e: Emitter, i: Instruction, a: ir.Value, b: ir.Value, c: ir.Value) -> ir.Value:
    for place in range(4):
        left, right = (_piece(e, value, place, 8, kind) for value, kind in zip((a, b), i.types, strict=True))
        c = e.builder.add(c, e.builder.mul(left, right))
    return c


def _dp2a(e: Emitter, i: Instruction, a: ir.Value, b: ir.Value, c: ir.Value) -> ir.Value:
    first = 2 if "hi" in i.modifiers else 0
    for place in range(2):
        left = _piece(e, a, place, 16, i.types[0])
        right = _piece(e, b, first + place, 8, i.types[1])
        c = e.builder.add(c, e.builder.mul(left, right))
    return c


def _piece(e: Emitter, value: ir.Value, place: int, width: int, kind: str) -> ir.Value:
    """Bits [place * width, (place + 1) * width) as a 32-bit integer of the type's signedness."""
    part = e.builder.trunc(e.builder.lshr(value, e.const("b32", place * width)), e.type_of(f"b{width}"))
    return e.resize(part, 32, signed=is_signed(kind))


# --- extended precision: CC.CF is the carry of an addition and the borrow of a subtraction


def _with_carry(e: Emitter, i: Instruction, *args: ir.Value) -> Result:
    carry = None
    if i.opcode in ("addc", "subc", "madc"):
        *rest, carry = args
        args = tuple(rest)
    if i.opcode in ("mad", "madc"):
        a, b, c = args
        args = (_mul(e, i, a, b), c)
    name = "usub" if i.opcode.startswith("sub") else "uadd"
    result, out = _overflowing(e, name, *args)
    if carry is not None:
        step = e.resize(carry, size_of(i.types[0]), signed=False)
        result, again = _overflowing(e, name, result, step)
        out = e.builder.or_(out, again)
    return (result, out) if "cc" in i.modifiers else result


def _overflowing(e: Emitter, name: str, a: ir.Value, b: ir.Value) -> tuple[ir.Value, ir.Value]:
    if name == "uadd":
        total = e.builder.add(a, b)
        return total, e.builder.icmp_unsigned("<", total, a)
    return e.builder.sub(a, b), e.builder.icmp_unsigned("<", a, b)


# --- two 16-bit lanes


def _packed(e: Emitter, i: Instruction, a: ir.Value, b: ir.Value) -> ir.Value:
    (kind,) = i.types
    twice = e.at(2 * e.lanes)
    left, right = (e.builder.bitcast(value, twice.type_of("b16")) for value in (a, b))
    if i.opcode == "add":
        result = e.builder.add(left, right)
    else:
        result = twice.intrinsic(f"llvm.{kind[0]}{i.opcode}", left.type, left, right)
    if "relu" in i.modifiers:
        result = twice.intrinsic("llvm.smax", result.type, result, twice.const("b16", 0))
    return e.builder.bitcast(result, a.type)


# --- four bytes or two halves at a time (the video instructions)


def _video(e: Emitter, i: Instruction, a: ir.Value, b: ir.Value, c: ir.Value) -> ir.Value:
    """vop4 and vop2 on whole words: each part by itself, or with .add the sum of the parts added to c."""
    count = int(i.opcode[-1])
    width = 32 // count
    result = c if "add" in i.modifiers else e.const("b32", 0)
    for place in range(count):
        x, y = (_piece(e, value, place, width, kind) for value, kind in zip((a, b), i.types[1:], strict=True))
        part = _video_part(e, i.opcode[1:-1], x, y)
        if "sat" in i.modifiers:
            low, high = (-(1 << width - 1), (1 << width - 1) - 1) if is_signed(i.types[0]) else (0, (1 << width) - 1)
            part = e.intrinsic("llvm.smin", part.type, part, e.const("s32", high))
            part = e.intrinsic("llvm.smax", part.type, part, e.const("s32", low))
        if "add" in i.modifiers:
            result = e.builder.add(result, part)
        else:
            own = e.builder.and_(part, e.const("b32", (1 << width) - 1))
            result = e.builder.or_(result, e.builder.shl(own, e.const("b32", place * width)))
    return result


def _video_part(e: Emitter, operation: str, x: ir.Value, y: ir.Value) -> ir.Value:
    """Exact on parts that were extended to 32 bits."""
    if operation in ("min", "max"):
        return e.intrinsic(f"llvm.s{operation}", x.type, x, y)
    if operation == "add":
        return e.builder.add(x, y)
    difference = e.builder.sub(x, y)
    if operation == "sub":
        return difference
    return e.call(f"llvm.abs.{mangle(x.type)}", x.type, difference, ir.IntType(1)(0))


def _video_operands(i: Instruction) -> Signature:
    return (i.types[0],), (i.types[1], i.types[2], i.types[0])


def _carry_rows() -> tuple[Row, ...]:
    section = "extended-precision-integer-arithmetic-instructions-"
    rows = []
    for opcode in ("add", "sub", "mad", "addc", "subc", "madc"):
        carry_in = opcode.endswith("c")
        multiplies = opcode.startswith("mad")
        for carry_out in (True, False) if carry_in else (True,):
            slots = (*(("lo|hi",) if multiplies else ()), *(("cc",) if carry_out else ()))
            rows.append(
                Row(opcode, f"{section}{opcode}" + ("" if carry_in else "-cc"), each("u32 u64 s32 s64"), _with_carry,
                    slots, 3 if multiplies else 2, carry_in=carry_in, carry_out=carry_out)
            )  # fmt: skip
    return tuple(rows)


DOT_TYPES = tuple(product(("u32", "s32"), repeat=2))
VIDEO_TYPES = tuple(product(("u32", "s32"), repeat=3))
VIDEO = "simd-video-instructions-vadd{0}-vsub{0}-vavrg{0}-vabsdiff{0}-vmin{0}-vmax{0}"
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
    *(Row(op, SECTION + op, each("s32"), _minmax_relu, ("relu",)) for op in ("min", "max")),
    *(Row(op, SECTION + op, each("u16x2 s16x2"), _packed) for op in ("add", "min", "max")),
    *(Row(op, SECTION + op, each("s16x2"), _packed, ("relu",)) for op in ("min", "max")),
    Row("mul24", SECTION + "mul24", each("u32 s32"), _mul24, ("lo|hi",)),
    Row("mad24", SECTION + "mad24", each("u32 s32"), _mad24, ("lo|hi",), 3),
    Row("mad24", SECTION + "mad24", each("s32"), _mad24, ("hi", "sat"), 3),
    Row("sad", SECTION + "sad", each(INTEGERS), _sad, operands=3),
    Row("dp4a", SECTION + "dp4a", DOT_TYPES, _dp4a, (), _dot_operands),
    Row("dp2a", SECTION + "dp2a", DOT_TYPES, _dp2a, ("lo|hi",), _dot_operands),
    *_carry_rows(),
    *(Row(f"v{op}{count}", VIDEO.format(count), VIDEO_TYPES, _video, ("sat|add?",), _video_operands)
      for op in ("add", "sub", "absdiff", "min", "max") for count in (2, 4)),
)  # fmt: skip
