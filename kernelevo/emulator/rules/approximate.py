"""The `.approx` functions of f32: ex2, lg2, sin, cos, tanh, rsqrt, rcp, div; and rcp, rsqrt of f64.

Vector code without calls: range reduction and a minimax polynomial. A GPU's results differ in the last bits, so
bitwise equality is not promised; the error bounds of the PTX ISA are, and tests measure them:

    function   ISA bound                                          here (tests/emulator/test_rules_approximate.py)
    ex2        2 ulp                                              0.94 ulp
    lg2        2^-22 absolute in (0.5, 2), 2^-22 relative outside  2^-23.8, and relative also near 1
    sin, cos   2^-20.5 absolute in [-pi, pi]                      2^-23.7, also up to 1e5; beyond, a value in [-1, 1]
    tanh       2^-11 relative                                     2^-22.6
    rsqrt      2^-22.9 relative                                   2^-23.4
    rcp, sqrt  1 ulp                                              correctly rounded
    div        2 ulp                                              correctly rounded; 0 for a huge divisor as in the ISA
"""

from __future__ import annotations

from collections.abc import Callable

from llvmlite import ir

from kernelevo.emulator.emit import Emitter
from kernelevo.emulator.instruction import Instruction
from kernelevo.emulator.rules.row import Row, each

# (2^f - 1) / f on [-0.5, 0.5], relative to 2^f: 2e-9
EX2 = (0.6931471824645996, 0.24022647738456726, 0.055503323674201965, 0.00961843691766262, 0.0013398873852565885,
       0.00015353361959569156)  # fmt: skip
# log2(1 + f) / f on [sqrt(1/2) - 1, sqrt(2) - 1]: 6e-9
LG2 = (1.4426950216293335, -0.7213473320007324, 0.4808978736400604, -0.3606964349746704, 0.28858527541160583,
       -0.2396365851163864, 0.2042960375547409, -0.19061264395713806, 0.18782652914524078,
       -0.11297470331192017)  # fmt: skip
# (sin r - r) / r^3 and (cos r - 1 + r^2/2) / r^4 in powers of r^2 on [0, pi/4]
SIN = (-0.166666641831398, 0.008332748897373676, -0.00019588008581195027)
COS = (0.0416666641831398, -0.001388830365613103, 2.454804052831605e-05)
# (tanh x - x) / x^3 in powers of x^2 on [0, 0.6]
TANH = (-0.3333333134651184, 0.1333293318748474, -0.05387631803750992, 0.02112145721912384, -0.006283669266849756)
HALF_PI = (1.5707963705062866, -4.371138828673793e-08, -1.7151245100059374e-15)  # sums to pi/2


def ex2(e: Emitter, x: ir.Value) -> ir.Value:
    """2^x; subnormal results included."""
    build = e.builder
    x = e.select(build.fcmp_ordered("<", x, e.const("f32", -160.0)), e.const("f32", -160.0), x)
    x = e.select(build.fcmp_ordered(">", x, e.const("f32", 160.0)), e.const("f32", 160.0), x)
    magic = e.const("f32", 1.5 * 2**23)  # adding it leaves round(x) in the low bits; defined for NaN too
    shifted = build.fadd(x, magic)
    fraction = build.fsub(x, build.fsub(shifted, magic))
    power = e.fma(polynomial(e, fraction, EX2), fraction, e.const("f32", 1.0))
    exponent = build.sub(e.bits(shifted, "b32"), e.bits(magic, "b32"))
    first = build.ashr(exponent, e.const("b32", 1))
    second = build.sub(exponent, first)
    return build.fmul(build.fmul(power, _power_of_two(e, first)), _power_of_two(e, second))


def _power_of_two(e: Emitter, exponent: ir.Value) -> ir.Value:
    biased = e.builder.add(exponent, e.const("b32", 127))
    return e.bits(e.builder.shl(biased, e.const("b32", 23)), "f32")


def polynomial(e: Emitter, x: ir.Value, coefficients: tuple[float, ...]) -> ir.Value:
    """Sum of coefficients[k] x^k by Horner's scheme with fma."""
    result: ir.Value = e.const("f32", coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        result = e.fma(result, x, e.const("f32", coefficient))
    return result


def lg2(e: Emitter, x: ir.Value) -> ir.Value:
    """log2 x; -inf for a zero, NaN below zero."""
    build = e.builder
    small = build.fcmp_ordered("<", x, e.const("f32", 2.0**-126))
    scaled = e.select(small, build.fmul(x, e.const("f32", 2.0**23)), x)
    bits = e.bits(scaled, "b32")
    above = build.sub(bits, e.const("b32", 0x3F3504F3))  # sqrt(1/2): the mantissa ends up in [sqrt(1/2), sqrt(2))
    exponent = build.ashr(above, e.const("b32", 23))
    mantissa = e.bits(build.sub(bits, build.shl(exponent, e.const("b32", 23))), "f32")
    whole = build.sitofp(exponent, e.type_of("f32"))
    whole = build.fadd(whole, e.select(small, e.const("f32", -23.0), e.const("f32", 0.0)))
    f = build.fsub(mantissa, e.const("f32", 1.0))
    result = e.fma(polynomial(e, f, LG2), f, whole)
    infinite = build.fcmp_unordered("==", x, e.const("f32", float("inf")))  # also true for NaN
    result = e.select(infinite, x, result)
    result = e.select(build.fcmp_ordered("<", x, e.const("f32", 0.0)), e.const("f32", float("nan")), result)
    return e.select(build.fcmp_ordered("==", x, e.const("f32", 0.0)), e.const("f32", float("-inf")), result)


def sine(e: Emitter, x: ir.Value, quarter_turns: int) -> ir.Value:
    """sin(x + quarter_turns * pi/2): 0 gives sin, 1 gives cos."""
    build = e.builder
    turns = e.intrinsic("llvm.roundeven", x.type, build.fmul(x, e.const("f32", 0.6366197466850281)))
    r = x
    for part in HALF_PI:
        r = e.fma(turns, e.const("f32", -part), r)
    limit = e.const("f32", 0.8)  # beyond the reach of the reduction the result is inaccurate but stays a sine
    r = e.select(build.fcmp_ordered(">", r, limit), limit, r)
    r = e.select(build.fcmp_ordered("<", r, build.fneg(limit)), build.fneg(limit), r)
    square = build.fmul(r, r)
    sin_r = e.fma(build.fmul(polynomial(e, square, SIN), square), r, r)
    cos_tail = e.fma(polynomial(e, square, COS), square, e.const("f32", -0.5))
    cos_r = e.fma(cos_tail, square, e.const("f32", 1.0))
    fours = e.intrinsic("llvm.floor", x.type, build.fmul(turns, e.const("f32", 0.25)))
    quadrant = e.fma(fours, e.const("f32", -4.0), turns)  # 0, 1, 2 or 3
    half = build.fcmp_ordered(">=", quadrant, e.const("f32", 2.0))
    odd = build.fcmp_ordered("!=", e.select(half, build.fsub(quadrant, e.const("f32", 2.0)), quadrant),
                             e.const("f32", 0.0))  # fmt: skip
    if quarter_turns == 0:
        value, negative = e.select(odd, cos_r, sin_r), half
    else:
        value, negative = e.select(odd, sin_r, cos_r), build.xor(half, odd)
    return e.select(negative, build.fneg(value), value)


def tanh(e: Emitter, x: ir.Value) -> ir.Value:
    """Hyperbolic tangent: an odd polynomial near zero, 1 - 2 / (exp(2|x|) + 1) elsewhere."""
    build, one = e.builder, e.const("f32", 1.0)
    size = e.abs(x)
    square = build.fmul(x, x)
    near = e.fma(build.fmul(polynomial(e, square, TANH), square), x, x)
    power = ex2(e, build.fmul(size, e.const("f32", 2.885390043258667)))  # 2 log2(e)
    far = build.fsub(one, build.fdiv(e.const("f32", 2.0), build.fadd(power, one)))
    far = e.intrinsic("llvm.copysign", x.type, far, x)
    return e.select(build.fcmp_ordered("<", size, e.const("f32", 0.6)), near, far)


def rsqrt(e: Emitter, x: ir.Value, kind: str) -> ir.Value:
    return e.builder.fdiv(e.const(kind, 1.0), e.intrinsic("llvm.sqrt", x.type, x))


_FUNCTIONS: dict[str, Callable[[Emitter, ir.Value], ir.Value]] = {
    "ex2": ex2,
    "lg2": lg2,
    "sin": lambda e, x: sine(e, x, 0),
    "cos": lambda e, x: sine(e, x, 1),
    "tanh": tanh,
    "rsqrt": lambda e, x: rsqrt(e, x, "f32"),
    "rcp": lambda e, x: e.builder.fdiv(e.const("f32", 1.0), x),
    "sqrt": lambda e, x: e.intrinsic("llvm.sqrt", x.type, x),
}


def approximation(e: Emitter, name: str, x: ir.Value) -> ir.Value:
    """The f32 function by its PTX opcode."""
    return _FUNCTIONS[name](e, x)


def _unary(e: Emitter, i: Instruction, x: ir.Value) -> ir.Value:
    if "ftz" not in i.modifiers:
        return approximation(e, i.opcode, x)
    return e.flush(approximation(e, i.opcode, e.flush(x)))


def _div(e: Emitter, i: Instruction, a: ir.Value, b: ir.Value) -> ir.Value:
    build, ftz = e.builder, "ftz" in i.modifiers
    if ftz:
        a, b = e.flush(a), e.flush(b)
    quotient = build.fdiv(a, b)
    if "approx" in i.modifiers:
        size = e.abs(b)
        huge = build.and_(build.fcmp_ordered(">", size, e.const("f32", 2.0**126)),
                          build.fcmp_ordered("<", size, e.const("f32", float("inf"))))  # fmt: skip
        zero = e.intrinsic("llvm.copysign", b.type, e.const("f32", 0.0), b)
        quotient = e.select(huge, build.fmul(a, zero), quotient)
    return e.flush(quotient) if ftz else quotient


def _gross(e: Emitter, i: Instruction, a: ir.Value) -> ir.Value:
    """rcp and rsqrt .approx.ftz.f64: only the upper 32 bits of argument and result count."""
    upper = e.const("b64", 0xFFFFFFFF << 32)
    a = _flush64(e, e.bits(e.builder.and_(e.bits(a, "b64"), upper), "f64"))
    result = rsqrt(e, a, "f64") if i.opcode == "rsqrt" else e.builder.fdiv(e.const("f64", 1.0), a)
    cut = e.bits(e.builder.and_(e.bits(_flush64(e, result), "b64"), upper), "f64")
    return e.select(e.is_nan(result), result, cut)


def _flush64(e: Emitter, value: ir.Value) -> ir.Value:
    tiny = e.builder.fcmp_ordered("<", e.abs(value), e.const("f64", 2.0**-1022))
    return e.select(tiny, e.intrinsic("llvm.copysign", value.type, e.const("f64", 0.0), value), value)


SECTION = "floating-point-instructions-"
ROWS = (
    *(Row(name, SECTION + name, each("f32"), _unary, ("approx", "ftz?"), 1)
      for name in ("ex2", "lg2", "sin", "cos", "rsqrt", "rcp", "sqrt")),
    Row("tanh", SECTION + "tanh", each("f32"), _unary, ("approx",), 1),
    Row("div", SECTION + "div", each("f32"), _div, ("approx|full", "ftz?")),
    *(Row(name, SECTION + f"{name}-approx-ftz-f64", each("f64"), _gross, ("approx", "ftz"), 1)
      for name in ("rcp", "rsqrt")),
    Row("rsqrt", SECTION + "rsqrt", each("f64"), lambda e, i, x: rsqrt(e, x, "f64"), ("approx",), 1),
)  # fmt: skip
