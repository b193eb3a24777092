"""cvt between every pair of integer and floating-point types, and cvt.pack-like x2 forms of f16, bf16 and fp8.

Every conversion rounds the exact source once. Conversions to integers clamp; NaN becomes 0, or the top bit alone
when the source is f64 or the destination has 64 bits.
"""

from __future__ import annotations

from itertools import product

from llvmlite import ir

from kernelevo.emulator.emit import Emitter, element_type, is_signed, size_of
from kernelevo.emulator.instruction import Instruction
from kernelevo.emulator.rules.rounding import exact_integer, round_exact, round_f32
from kernelevo.emulator.rules.row import Row, Signature

INTEGERS = ("u8", "u16", "u32", "u64", "s8", "s16", "s32", "s64")
FLOATS = ("f16", "bf16", "f32", "f64")
TO_INTEGRAL = {"rni": "llvm.roundeven", "rzi": "llvm.trunc", "rmi": "llvm.floor", "rpi": "llvm.ceil"}
ROUNDINGS = ("rn", "rz", "rm", "rp")


def _operands(i: Instruction) -> Signature:
    return (i.types[0],), (i.types[1],)


def _mode(i: Instruction, choices: tuple[str, ...] = ROUNDINGS) -> str:
    return next((modifier for modifier in i.modifiers if modifier in choices), "rn")


# --- integers


def _integer_to_integer(e: Emitter, i: Instruction, a: ir.Value) -> ir.Value:
    to, source = i.types
    if "sat" in i.modifiers:
        a = _clamp(e, a, to, source)
    return e.resize(a, size_of(to), signed=is_signed(source))


def _clamp(e: Emitter, a: ir.Value, to: str, source: str) -> ir.Value:
    """`a` limited to the values of `to`."""
    lowest, highest = _range(to)
    own_lowest, own_highest = _range(source)
    prefix = source[0]
    if highest < own_highest:
        a = e.intrinsic(f"llvm.{prefix}min", a.type, a, e.const(source, highest))
    if lowest > own_lowest:
        a = e.intrinsic(f"llvm.{prefix}max", a.type, a, e.const(source, lowest))
    return a


def _range(kind: str) -> tuple[int, int]:
    size = size_of(kind)
    return (-(1 << size - 1), (1 << size - 1) - 1) if is_signed(kind) else (0, (1 << size) - 1)


def _integer_to_float(e: Emitter, i: Instruction, a: ir.Value) -> ir.Value:
    to, source = i.types
    mode, signed = _mode(i), is_signed(source)
    if mode == "rn" and to in ("f32", "f64"):
        result = (e.builder.sitofp if signed else e.builder.uitofp)(a, e.type_of(to))
    else:
        result = round_exact(e, exact_integer(e, a, signed=signed), to, mode)
    return e.saturate(result, to) if "sat" in i.modifiers else result


# --- floating point to integer


def _float_to_integer(e: Emitter, i: Instruction, a: ir.Value) -> ir.Value:
    to, source = i.types
    if source in ("f16", "bf16"):
        a = e.to_f32(a, source)
    elif "ftz" in i.modifiers:
        a = e.flush(a)
    integral = e.intrinsic(TO_INTEGRAL[_mode(i, tuple(TO_INTEGRAL))], a.type, a)
    nan = 1 << size_of(to) - 1 if source == "f64" or size_of(to) == 64 else 0
    return clamped_integer(e, integral, "f64" if source == "f64" else "f32", to, nan)


def clamped_integer(e: Emitter, value: ir.Value, kind: str, to: str, nan: int) -> ir.Value:
    """An integral f32 or f64 as an integer, limited to its range. (LLVM makes scalar code of llvm.fptosi.sat.)"""
    build = e.builder
    lowest, highest = _range(to)
    above = build.fcmp_ordered(">=", value, e.const(kind, float(highest + 1)))
    below = build.fcmp_ordered("<", value, e.const(kind, float(lowest)))
    unordered = e.is_nan(value)
    outside = build.or_(build.or_(above, below), unordered)
    inside = e.select(outside, e.const(kind, 0.0), value)
    result = build.fptosi(inside, e.type_of(to)) if is_signed(to) else build.fptoui(inside, e.type_of(to))
    result = e.select(above, e.const(to, highest), e.select(below, e.const(to, lowest), result))
    return e.select(unordered, e.const(to, nan), result)


# --- floating point to floating point


def _float_to_float(e: Emitter, i: Instruction, a: ir.Value) -> ir.Value:
    to, source = i.types
    if "ftz" in i.modifiers and source == "f32":
        a = e.flush(a)
    integral = _mode(i, tuple(TO_INTEGRAL))
    if integral in TO_INTEGRAL:
        a = _to_integral(e, a, source, TO_INTEGRAL[integral])
    result = _narrow(e, a, to, source, _mode(i))
    if "ftz" in i.modifiers and to == "f32":
        result = e.flush(result)
    return _limit(e, i, result, to)


def _to_integral(e: Emitter, a: ir.Value, kind: str, intrinsic: str) -> ir.Value:
    if kind == "f64":
        return e.intrinsic(intrinsic, a.type, a)
    wide = e.to_f32(a, kind)
    rounded = e.intrinsic(intrinsic, wide.type, wide)
    return rounded if kind == "f32" else round_f32(e, rounded, kind)


def _narrow(e: Emitter, a: ir.Value, to: str, source: str, mode: str) -> ir.Value:
    if to == source:
        return a
    if to == "f64":
        return e.builder.fpext(e.to_f32(a, source), e.type_of("f64"))
    if source != "f64":
        wide = e.to_f32(a, source)
        return wide if to == "f32" else round_f32(e, wide, to, mode)
    if to == "f32" and mode == "rn":
        return e.builder.fptrunc(a, e.type_of("f32"))
    return round_exact(e, (a, e.const("f64", 0.0)), to, mode)


def _limit(e: Emitter, i: Instruction, value: ir.Value, kind: str) -> ir.Value:
    """.relu, .satfinite and .sat applied to a result of the type."""
    if "relu" in i.modifiers:
        value = relu(e, value, kind)
    if "satfinite" in i.modifiers:
        value = _finite(e, value, kind)
    if "sat" not in i.modifiers:
        return value
    if kind == "bf16":
        return round_f32(e, e.saturate(e.to_f32(value, kind), "f32"), kind)
    return e.saturate(value, kind)


def relu(e: Emitter, value: ir.Value, kind: str) -> ir.Value:
    """Negative values become +0.0; NaN becomes the canonical NaN."""
    bits = e.bits(value, f"b{size_of(kind)}")
    negative = e.builder.icmp_signed("<", bits, e.const(f"b{size_of(kind)}", 0))
    nan, canonical = _nan_of(e, value, kind)
    kept = e.select(negative, e.const(f"b{size_of(kind)}", 0), bits)
    return e.bitcast(e.select(nan, canonical, kept), value.type)


def _nan_of(e: Emitter, value: ir.Value, kind: str) -> tuple[ir.Value, ir.Value]:
    """Whether the value is a NaN, and the bits of the canonical one."""
    bits_type = f"b{size_of(kind)}"
    canonical = {"f16": 0x7FFF, "bf16": 0x7FFF, "f32": 0x7FFFFFFF, "tf32": 0x7FFFFFFF}[kind]
    infinity = {"f16": 0x7C00, "bf16": 0x7F80, "f32": 0x7F800000, "tf32": 0x7F800000}[kind]
    bits = e.bits(value, bits_type)
    size = e.builder.and_(bits, e.const(bits_type, (1 << size_of(kind) - 1) - 1))
    return e.builder.icmp_unsigned(">", size, e.const(bits_type, infinity)), e.const(bits_type, canonical)


def _finite(e: Emitter, value: ir.Value, kind: str) -> ir.Value:
    """.satfinite: infinities become the largest finite value of their sign."""
    bits_type = f"b{size_of(kind)}"
    infinity = {"f16": 0x7C00, "bf16": 0x7F80, "tf32": 0x7F800000}[kind]
    largest = {"f16": 0x7BFF, "bf16": 0x7F7F, "tf32": 0x7F7FE000}[kind]
    bits = e.bits(value, bits_type)
    top = 1 << size_of(kind) - 1
    size = e.builder.and_(bits, e.const(bits_type, top - 1))
    limited = e.builder.or_(e.builder.and_(bits, e.const(bits_type, top)), e.const(bits_type, largest))
    infinite = e.builder.icmp_unsigned("==", size, e.const(bits_type, infinity))
    return e.bitcast(e.select(infinite, limited, bits), value.type)


def _tf32(e: Emitter, i: Instruction, a: ir.Value) -> ir.Value:
    """f32 to the 10 mantissa bits of tf32: rna halves away from zero, rn to even, rz cuts."""
    build, bits = e.builder, e.bits(a, "b32")
    mode = _mode(i, ("rna", "rn", "rz"))
    if mode == "rna":
        bits = build.add(bits, e.const("b32", 0x1000))
    elif mode == "rn":
        last = build.and_(build.lshr(bits, e.const("b32", 13)), e.const("b32", 1))
        bits = build.add(bits, build.add(last, e.const("b32", 0xFFF)))
    cut = build.and_(bits, e.const("b32", ~0x1FFF))
    result = e.bits(e.select(e.is_nan(a), e.const("b32", 0x7FFFFFFF), cut), "tf32")
    return _limit(e, i, result, "tf32")


# --- two values at a time


def _pair_operands(i: Instruction) -> Signature:
    return (i.types[0],), ("f32", "f32")


def _f32_pair(e: Emitter, i: Instruction, upper: ir.Value, lower: ir.Value) -> ir.Value:
    kind = i.types[0].removesuffix("x2")
    parts = [_limit(e, i, round_f32(e, value, kind, _mode(i)), kind) for value in (lower, upper)]
    low, high = (e.resize(e.bits(part, "b16"), 32, signed=False) for part in parts)
    return e.builder.or_(low, e.builder.shl(high, e.const("b32", 16)))


# fp8: exponent bias, mantissa bits, largest finite value
FP8 = {"e4m3": (7, 3, 448.0), "e5m2": (15, 2, 57344.0)}


def to_fp8(e: Emitter, value: ir.Value, kind: str) -> ir.Value:
    """An f32 rounded to nearest even, as fp8 bits in an i8; beyond the largest finite value it saturates."""
    bias, mantissa, largest = FP8[kind]
    build, size = e.builder, e.abs(value)
    size = e.select(build.fcmp_ordered(">", size, e.const("f32", largest)), e.const("f32", largest), size)
    bits = e.bits(size, "b32")
    drop = 23 - mantissa
    last = build.and_(build.lshr(bits, e.const("b32", drop)), e.const("b32", 1))
    rounded = build.lshr(build.add(bits, build.add(last, e.const("b32", (1 << drop - 1) - 1))), e.const("b32", drop))
    normal = build.sub(rounded, e.const("b32", (127 - bias) << mantissa))
    # adding 2^23 units of the smallest subnormal leaves the rounded multiple of that unit in the low bits
    unit = e.const("f32", 2.0 ** (23 + 1 - bias - mantissa))
    subnormal = build.sub(e.bits(build.fadd(size, unit), "b32"), e.bits(unit, "b32"))
    small = build.fcmp_ordered("<", size, e.const("f32", 2.0 ** (1 - bias)))
    result = build.trunc(e.select(small, subnormal, normal), e.type_of("b8"))
    sign = build.trunc(build.lshr(e.bits(value, "b32"), e.const("b32", 24)), e.type_of("b8"))
    signed = build.or_(result, build.and_(sign, e.const("b8", 0x80)))
    return e.select(e.is_nan(value), e.const("b8", 0x7F), signed)


def from_fp8(e: Emitter, value: ir.Value, kind: str) -> ir.Value:
    """fp8 bits in an i8 as the equal f16."""
    build, bits = e.builder, e.resize(value, 16, signed=False)
    sign = build.shl(build.and_(bits, e.const("b16", 0x80)), e.const("b16", 8))
    size = build.and_(bits, e.const("b16", 0x7F))
    if kind == "e5m2":
        return e.bits(build.or_(sign, build.shl(size, e.const("b16", 8))), "f16")
    scaled = build.fmul(e.to_f32(e.bits(build.shl(size, e.const("b16", 7)), "f16"), "f16"), e.const("f32", 256.0))
    exact = e.bits(build.fptrunc(scaled, e.type_of("f16")), "b16")
    nan = build.icmp_unsigned("==", size, e.const("b16", 0x7F))
    return e.bits(build.or_(sign, e.select(nan, e.const("b16", 0x7FFF), exact)), "f16")


def _to_fp8_pair(e: Emitter, i: Instruction, upper: ir.Value, lower: ir.Value) -> ir.Value:
    kind = i.types[0].removesuffix("x2")
    if "relu" in i.modifiers:
        upper, lower = relu(e, upper, "f32"), relu(e, lower, "f32")
    low, high = (e.resize(to_fp8(e, value, kind), 16, signed=False) for value in (lower, upper))
    return e.builder.or_(low, e.builder.shl(high, e.const("b16", 8)))


def _f16x2_to_fp8(e: Emitter, i: Instruction, a: ir.Value) -> ir.Value:
    lower, upper = (e.to_f32(half, "f16") for half in _halves(e, a, element_type("f16")))
    return _to_fp8_pair(e, i, upper, lower)


def _fp8_to_f16x2(e: Emitter, i: Instruction, a: ir.Value) -> ir.Value:
    kind = i.types[1].removesuffix("x2")
    halves = [from_fp8(e, part, kind) for part in _halves(e, a, ir.IntType(8))]
    if "relu" in i.modifiers:
        halves = [relu(e, half, "f16") for half in halves]
    low, high = (e.resize(e.bits(half, "b16"), 32, signed=False) for half in halves)
    return e.builder.or_(low, e.builder.shl(high, e.const("b32", 16)))


def _halves(e: Emitter, whole: ir.Value, element: ir.Type) -> tuple[ir.Value, ir.Value]:
    """The low and the high half of an integer, as the type."""
    width = e.element_of(whole).width // 2
    high = e.builder.lshr(whole, e.constant(e.element_of(whole), width))
    low, high = (e.resize(part, width, signed=False) for part in (whole, high))
    return e.bitcast(low, e.shape(element)), e.bitcast(high, e.shape(element))


_WIDENING = (("f32", "f16"), ("f64", "f16"), ("f64", "f32"), ("f32", "bf16"), ("f64", "bf16"))
_SAME = tuple((kind, kind) for kind in ("f16", "bf16", "f32", "f64"))
_FP8_PAIRS = ("e4m3x2", "e5m2x2")

SECTION = "data-movement-and-conversion-instructions-cvt"
ROWS = (
    Row("cvt", SECTION, tuple(product(INTEGERS, INTEGERS)), _integer_to_integer, (), _operands, linear="convert"),
    Row("cvt", SECTION, tuple(product(INTEGERS, INTEGERS)), _integer_to_integer, ("sat",), _operands),
    Row("cvt", SECTION, tuple(product(("f16", "f32", "f64"), INTEGERS)), _integer_to_float,
        ("rn|rz|rm|rp", "sat?"), _operands),
    Row("cvt", SECTION, tuple(product(("bf16",), INTEGERS)), _integer_to_float, ("rn|rz|rm|rp",), _operands),
    Row("cvt", SECTION, tuple(product(INTEGERS, FLOATS)), _float_to_integer,
        ("rni|rzi|rmi|rpi", "ftz?", "sat?"), _operands),
    Row("cvt", SECTION, _WIDENING, _float_to_float, ("ftz?", "sat?"), _operands),
    Row("cvt", SECTION, (("f16", "f64"), ("f32", "f64")), _float_to_float, ("rn|rz|rm|rp", "ftz?", "sat?"), _operands),
    Row("cvt", SECTION, (("f16", "f32"),), _float_to_float, ("rn|rz|rm|rp", "ftz?", "sat?"), _operands),
    Row("cvt", SECTION, (("f16", "f32"), ("bf16", "f32")), _float_to_float,
        ("rn|rz", "relu?", "satfinite?"), _operands),
    Row("cvt", SECTION, (("bf16", "f32"), ("bf16", "f64"), ("bf16", "f16"), ("f16", "bf16")), _float_to_float,
        ("rn|rz|rm|rp", "sat?"), _operands),
    Row("cvt", SECTION, _SAME, _float_to_float, ("rni|rzi|rmi|rpi?", "ftz?", "sat?"), _operands),
    Row("cvt", SECTION, (("tf32", "f32"),), _tf32, ("rna|rn|rz", "satfinite?", "relu?"), _operands),
    Row("cvt", SECTION, (("f16x2", "f32"), ("bf16x2", "f32")), _f32_pair,
        ("rn|rz", "relu?", "satfinite?"), _pair_operands),
    Row("cvt", SECTION, tuple((kind, "f32") for kind in _FP8_PAIRS), _to_fp8_pair,
        ("rn", "satfinite", "relu?"), _pair_operands),
    Row("cvt", SECTION, tuple((kind, "f16x2") for kind in _FP8_PAIRS), _f16x2_to_fp8,
        ("rn", "satfinite", "relu?"), _operands),
    Row("cvt", SECTION, tuple(("f16x2", kind) for kind in _FP8_PAIRS), _fp8_to_f16x2, ("rn", "relu?"), _operands),
)  # fmt: skip
