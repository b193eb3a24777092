"""Correct rounding in every direction: the arithmetic that PTX's .rn .rz .rm .rp and narrow formats need.

An exact result is carried as an unevaluated sum high + low of two f64 with |low| at most half an ulp of high; only
the sign of low is used. Sums, products, quotients and roots of f32 values have such a form by error-free
transformations (Ogita, Rump, Oishi, "Accurate sum and dot product", 2005). Vectors use the rounding field of
AVX-512 where the target has it; f64 elsewhere runs in a function of its own under llvm.set.rounding.
"""

from __future__ import annotations

from typing import TypeAlias

from llvmlite import ir

from kernelevo.emulator.emit import Emitter, element_type, mangle, size_of

Exact: TypeAlias = tuple[ir.Value, ir.Value]

DIRECTED = ("rz", "rm", "rp")
_AVX512 = {"rm": 9, "rp": 10, "rz": 11}  # the direction, exceptions suppressed
_SET_ROUNDING = {"rz": 0, "rn": 1, "rp": 2, "rm": 3}  # FLT_ROUNDS


def rounded(e: Emitter, operation: str, kind: str, mode: str, *args: ir.Value) -> ir.Value:
    """add, sub, mul, fma, div or sqrt of f32 or f64 values, rounded once in direction rn, rz, rm or rp."""
    if mode == "rn":
        return _nearest(e, operation, *args)
    if "avx512f" in e.features and e.lanes % (512 // size_of(kind)) == 0:
        return _avx512(e, operation, kind, mode, args)
    if kind == "f64":
        return _in_rounding_mode(e, operation, mode, args)
    exact = _exact(e, operation, *(e.builder.fpext(value, e.type_of("f64")) for value in args))
    result = round_exact(e, exact, "f32", mode)
    if mode == "rm" and operation in ("add", "sub", "fma"):
        return _zero_sum(e, operation, exact, result, args)
    return result


def _nearest(e: Emitter, operation: str, *args: ir.Value) -> ir.Value:
    if operation == "fma":
        return e.fma(*args)
    if operation == "sqrt":
        return e.intrinsic("llvm.sqrt", args[0].type, *args)
    return getattr(e.builder, "f" + operation)(*args)


def _exact(e: Emitter, operation: str, a: ir.Value, b: ir.Value | None = None, c: ir.Value | None = None) -> Exact:
    """The exact result of an operation on f64 values that are exact f32 values."""
    build = e.builder
    if operation == "mul":
        return build.fmul(a, b), e.const("f64", 0.0)
    if operation == "add":
        return two_sum(e, a, b)
    if operation == "sub":
        return two_sum(e, a, build.fneg(b))
    if operation == "fma":
        return two_sum(e, build.fmul(a, b), c)
    if operation == "div":
        quotient = build.fdiv(a, b)
        remainder = e.fma(build.fneg(quotient), b, a)
        return quotient, e.intrinsic("llvm.copysign", a.type, remainder, _product_sign(e, remainder, b))
    root = e.intrinsic("llvm.sqrt", a.type, a)
    return root, e.fma(build.fneg(root), root, a)


def _product_sign(e: Emitter, a: ir.Value, b: ir.Value) -> ir.Value:
    return e.bits(e.builder.xor(e.bits(a, "b64"), e.bits(b, "b64")), "f64")


def two_sum(e: Emitter, a: ir.Value, b: ir.Value) -> Exact:
    """a + b exactly, for f32 or f64 values whose sum does not overflow."""
    build = e.builder
    total = build.fadd(a, b)
    b_part = build.fsub(total, a)
    error = build.fadd(build.fsub(a, build.fsub(total, b_part)), build.fsub(b, b_part))
    return total, error


def _zero_sum(e: Emitter, operation: str, exact: Exact, result: ir.Value, args: tuple[ir.Value, ...]) -> ir.Value:
    """Toward minus infinity an exact zero sum is -0.0 unless both terms are +0.0."""
    build = e.builder
    terms = [e.bits(value, "b32") for value in args]
    if operation == "fma":
        terms = [build.xor(terms[0], terms[1]), terms[2]]
    elif operation == "sub":
        terms[1] = build.not_(terms[1])
    sign = build.and_(build.or_(*terms), e.const("b32", 1 << 31))
    return e.select(build.fcmp_ordered("==", exact[0], e.const("f64", 0.0)), e.bits(sign, "f32"), result)


# --- from an exact value to a format


def round_exact(e: Emitter, exact: Exact, kind: str, mode: str) -> ir.Value:
    """high + low as f16, bf16, f32 or f64."""
    high, low = exact
    if kind == "f64":
        if mode == "rn":
            return high
        zero = e.const("f64", 0.0)
        above, below = e.builder.fcmp_ordered("<", low, zero), e.builder.fcmp_ordered(">", low, zero)
        return _step(e, high, "f64", mode, above, below)
    if kind in ("f16", "bf16"):
        return round_f32(e, odd_f32(e, exact), kind, mode)
    if mode == "rn":
        return e.builder.fptrunc(odd_sum(e, exact, "f64"), e.type_of("f32"))
    nearest = e.builder.fptrunc(high, e.type_of("f32"))
    return _step(e, nearest, "f32", mode, *_sides(e, nearest, exact))


def _sides(e: Emitter, nearest: ir.Value, exact: Exact) -> tuple[ir.Value, ir.Value]:
    """Whether the f32 is above and below the exact value."""
    build, zero = e.builder, e.const("f64", 0.0)
    back = build.fpext(nearest, e.type_of("f64"))
    equal = build.fcmp_ordered("==", back, exact[0])
    above = build.or_(build.fcmp_ordered(">", back, exact[0]),
                      build.and_(equal, build.fcmp_ordered("<", exact[1], zero)))  # fmt: skip
    below = build.or_(build.fcmp_ordered("<", back, exact[0]),
                      build.and_(equal, build.fcmp_ordered(">", exact[1], zero)))  # fmt: skip
    return above, below


def _step(e: Emitter, nearest: ir.Value, kind: str, mode: str, above: ir.Value, below: ir.Value) -> ir.Value:
    """The neighbour of `nearest` in the direction of `mode` when the exact value lies on that side."""
    build, bits_type = e.builder, f"b{size_of(kind)}"
    bits = nearest if kind == "bf16" else e.bits(nearest, bits_type)
    negative = build.icmp_signed("<", bits, e.const(bits_type, 0))
    one, minus = e.const(bits_type, 1), e.const(bits_type, -1)
    zero = e.const(bits_type, 0)
    if mode == "rz":
        away = e.select(negative, below, above)
        stepped = build.add(bits, e.select(away, minus, zero))
    elif mode == "rm":
        stepped = build.add(bits, e.select(above, e.select(negative, one, minus), zero))
    else:
        stepped = build.add(bits, e.select(below, e.select(negative, minus, one), zero))
    return stepped if kind == "bf16" else e.bits(stepped, kind)


def odd_f32(e: Emitter, exact: Exact) -> ir.Value:
    """high + low rounded to odd: cut to an f32 whose last bit is set when anything was lost.

    Rounding that once more, to any format with at least two bits less, rounds the exact value correctly (Boldo and
    Melquiond, "Emulation of FMA and correctly rounded sums: proved algorithms using rounding to odd", 2008).
    """
    nearest = e.builder.fptrunc(exact[0], e.type_of("f32"))
    above, below = _sides(e, nearest, exact)
    cut = _step(e, nearest, "f32", "rz", above, below)
    sticky = e.builder.zext(e.builder.or_(above, below), e.type_of("b32"))
    return e.bits(e.builder.or_(e.bits(cut, "b32"), sticky), "f32")


def odd_fma(e: Emitter, a: ir.Value, b: ir.Value, c: ir.Value) -> ir.Value | None:
    """a * b + c of f32 values rounded to odd, where the machine can round in every direction; else None."""
    if "avx512f" not in e.features or e.lanes % 16:
        return None
    cut, down, up = (_avx512(e, "fma", "f32", mode, (a, b, c)) for mode in ("rz", "rm", "rp"))
    inexact = e.builder.fcmp_ordered("!=", down, up)
    return e.bits(e.builder.or_(e.bits(cut, "b32"), e.builder.zext(inexact, e.type_of("b32"))), "f32")


def odd_sum(e: Emitter, exact: Exact, kind: str) -> ir.Value:
    """high + low rounded to odd, as the f32 or f64 that the two are."""
    high, low = exact
    zero, bits_type = e.const(kind, 0.0), f"b{size_of(kind)}"
    above, below = e.builder.fcmp_ordered("<", low, zero), e.builder.fcmp_ordered(">", low, zero)
    cut = _step(e, high, kind, "rz", above, below)
    sticky = e.builder.zext(e.builder.or_(above, below), e.type_of(bits_type))
    return e.bits(e.builder.or_(e.bits(cut, bits_type), sticky), kind)


def round_f32(e: Emitter, value: ir.Value, kind: str, mode: str = "rn") -> ir.Value:
    """An f32 as f16 or bf16, rounded once. A NaN stays a NaN."""
    build = e.builder
    if kind == "f16":
        nearest = build.fptrunc(value, e.type_of("f16"))
        if mode == "rn":
            return nearest
        back = build.fpext(nearest, e.type_of("f32"))
        above, below = build.fcmp_ordered(">", back, value), build.fcmp_ordered("<", back, value)
        return _step(e, nearest, "f16", mode, above, below)
    bits = e.bits(value, "b32")
    if mode == "rn":
        last = build.and_(build.lshr(bits, e.const("b32", 16)), e.const("b32", 1))
        bits = build.add(bits, build.add(last, e.const("b32", 0x7FFF)))
    elif mode != "rz":
        negative = build.icmp_signed("<", bits, e.const("b32", 0))
        outward = negative if mode == "rm" else build.not_(negative)
        bits = build.add(bits, e.select(outward, e.const("b32", 0xFFFF), e.const("b32", 0)))
        infinite = build.fcmp_ordered("==", e.abs(value), e.float_bits("f32", 0x7F800000))
        bits = e.select(infinite, e.bits(value, "b32"), bits)
    short = build.trunc(build.lshr(bits, e.const("b32", 16)), e.type_of("bf16"))
    return e.select(e.is_nan(value), e.const("bf16", 0x7FFF), short)


def exact_integer(e: Emitter, value: ir.Value, *, signed: bool) -> Exact:
    """An integer of up to 64 bits as high + low."""
    build, width = e.builder, e.element_of(value).width
    target = e.type_of("f64")
    convert = build.sitofp if signed else build.uitofp
    if width <= 32:
        return convert(value, target), e.const("f64", 0.0)
    thirty_two = e.const("b64", 32)
    upper = build.ashr(value, thirty_two) if signed else build.lshr(value, thirty_two)
    lower = build.and_(value, e.const("b64", 0xFFFFFFFF))
    return two_sum(e, build.fmul(convert(upper, target), e.const("f64", 2.0**32)), build.uitofp(lower, target))


# --- rounding by the machine


def _avx512(e: Emitter, operation: str, kind: str, mode: str, args: tuple[ir.Value, ...]) -> ir.Value:
    """The operation on 512-bit pieces with an embedded rounding direction."""
    per_piece = 512 // size_of(kind)
    piece = ir.VectorType(element_type(kind), per_piece)
    suffix = {"f32": "ps", "f64": "pd"}[kind]
    name = f"llvm.x86.avx512.{'vfmadd' if operation == 'fma' else operation}.{suffix}.512"
    results = []
    for start in range(0, e.lanes, per_piece):
        lanes = e.vector(ir.IntType(32), range(start, start + per_piece))
        parts = [e.builder.shuffle_vector(value, value, lanes) for value in args]
        results.append(e.call(name, piece, *parts, ir.IntType(32)(_AVX512[mode])))
    return concatenate(e, results)


def concatenate(e: Emitter, parts: list[ir.Value]) -> ir.Value:
    """Vectors of one type, a power of two of them, as one vector."""
    while len(parts) > 1:
        both = e.vector(ir.IntType(32), range(2 * parts[0].type.count))
        parts = [e.builder.shuffle_vector(a, b, both) for a, b in zip(parts[::2], parts[1::2], strict=True)]
    return parts[0]


def _in_rounding_mode(e: Emitter, operation: str, mode: str, args: tuple[ir.Value, ...]) -> ir.Value:
    """Calls a function, made on first use, that switches the rounding mode for this one operation."""
    module, kind = e.builder.module, args[0].type
    name = f"ptx.{operation}.{mode}.{mangle(kind)}"
    function = module.globals.get(name)
    if function is None:
        function = ir.Function(module, ir.FunctionType(kind, [kind] * len(args)), name)
        function.linkage = "internal"
        function.attributes.add("noinline")
        set.add(function.attributes, "strictfp")  # llvmlite knows no such attribute
        inner = Emitter(ir.IRBuilder(function.append_basic_block()), e.lanes)
        _set_rounding(inner, mode)
        metadata = [ir.MetaDataType()] * 2
        full = f"llvm.experimental.constrained.{operation if operation in ('fma', 'sqrt') else 'f' + operation}"
        full += f".{mangle(kind)}"
        constrained = module.globals.get(full) or ir.Function(
            module, ir.FunctionType(kind, [kind] * len(args) + metadata), full
        )
        result = inner.builder.call(
            constrained, [*function.args, _text(module, "round.dynamic"), _text(module, "fpexcept.strict")]
        )
        _set_rounding(inner, "rn")
        inner.builder.ret(result)
    return e.builder.call(function, args)


def _set_rounding(e: Emitter, mode: str) -> None:
    e.call("llvm.set.rounding", ir.VoidType(), ir.IntType(32)(_SET_ROUNDING[mode]))


def _text(module: ir.Module, text: str) -> ir.Value:
    return ir.MetaDataString(module, text)
