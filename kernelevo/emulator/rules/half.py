"""f16, bf16, f16x2 and bf16x2 arithmetic: every operation rounds its exact result once.

Sums and products of f16 or bf16 values are computed in f32, which has more than twice their precision, so that the
second rounding cannot change the result (Figueroa, "When is double rounding innocuous?", 1995); fma goes through
rounding to odd. The x2 forms are the scalar rules on twice as many lanes. Mixed-precision add, sub and fma with an
f32 accumulator are here too.
"""

from __future__ import annotations

from collections.abc import Callable

from llvmlite import ir

from kernelevo.emulator.emit import Emitter, element_type, size_of
from kernelevo.emulator.instruction import Instruction
from kernelevo.emulator.rules import approximate
from kernelevo.emulator.rules.convert import relu
from kernelevo.emulator.rules.floating import minimum_or_maximum
from kernelevo.emulator.rules.rounding import odd_f32, odd_fma, odd_sum, round_f32, rounded, two_sum
from kernelevo.emulator.rules.row import Row, Signature, each

Scalar = Callable[..., ir.Value]


def _on_halves(scalar: Scalar) -> Scalar:
    """A rule for f16 or bf16 as a rule that also takes the x2 types."""

    def emit(e: Emitter, i: Instruction, *args: ir.Value) -> ir.Value:
        (kind,) = i.types
        if not kind.endswith("x2"):
            return scalar(e, i, kind, *args)
        part = kind.removesuffix("x2")
        twice = e.at(2 * e.lanes)
        halves = [e.builder.bitcast(value, twice.type_of(part)) for value in args]
        return e.builder.bitcast(scalar(twice, i, part, *halves), e.type_of("b32"))

    return emit


def _arithmetic(e: Emitter, i: Instruction, kind: str, *args: ir.Value) -> ir.Value:
    if "ftz" in i.modifiers:
        args = tuple(e.flush(value, "f16") for value in args)
    if i.opcode == "fma":
        result = fma_half(e, kind, *args)
    elif kind == "f16" and "avx512fp16" in e.features:
        result = getattr(e.builder, f"f{i.opcode}")(*args)
    else:
        wide = [e.to_f32(value, kind) for value in args]
        result = round_f32(e, getattr(e.builder, f"f{i.opcode}")(*wide), kind)
    if "ftz" in i.modifiers:
        result = e.flush(result, "f16")
    if "relu" in i.modifiers:
        return relu(e, result, kind)
    return e.saturate(result, kind) if "sat" in i.modifiers else result


def fma_half(e: Emitter, kind: str, a: ir.Value, b: ir.Value, c: ir.Value) -> ir.Value:
    """a * b + c rounded once to f16 or bf16.

    The product of two f16 is exact in f32; that of two bf16 may overflow or underflow there, but not in f64. The
    sum and its error are then rounded to odd.
    """
    if kind == "f16" and "avx512fp16" in e.features:
        return e.fma(a, b, c)
    a, b, c = (e.to_f32(value, kind) for value in (a, b, c))
    odd = odd_fma(e, a, b, c)
    if odd is not None:
        return round_f32(e, odd, kind)
    if kind == "f16":
        return round_f32(e, odd_sum(e, two_sum(e, e.builder.fmul(a, b), c), "f32"), kind)
    a, b, c = (e.builder.fpext(value, e.type_of("f64")) for value in (a, b, c))
    return round_f32(e, odd_f32(e, two_sum(e, e.builder.fmul(a, b), c)), kind)


def _sign(e: Emitter, i: Instruction, kind: str, a: ir.Value) -> ir.Value:
    if "ftz" in i.modifiers:
        a = e.flush(a, "f16")
    bits = e.bits(a, "b16")
    if i.opcode == "abs":
        changed = e.builder.and_(bits, e.const("b16", 0x7FFF))
    else:
        changed = e.builder.xor(bits, e.const("b16", 0x8000))
    return e.bits(changed, kind)


def _minmax(e: Emitter, i: Instruction, kind: str, *args: ir.Value) -> ir.Value:
    if "ftz" in i.modifiers:
        args = tuple(e.flush(value, "f16") for value in args)
    wide = [e.to_f32(value, kind) for value in args]
    return round_f32(e, _wide_minmax(e, i, *wide), kind)


def _wide_minmax(e: Emitter, i: Instruction, *args: ir.Value) -> ir.Value:
    f32 = Instruction(i.opcode, i.modifiers, ("f32",), i.operands, None, False, i.position, i.source_line)
    return minimum_or_maximum(e, f32, *args)


def _approximate(e: Emitter, i: Instruction, kind: str, a: ir.Value) -> ir.Value:
    wide = e.to_f32(a, kind)
    if "ftz" in i.modifiers:
        wide = e.flush(wide)
    result = round_f32(e, approximate.approximation(e, i.opcode, wide), kind)
    return result


def _mixed_operands(i: Instruction) -> Signature:
    narrow = i.types[1]
    sources = (narrow, narrow, "f32") if i.opcode == "fma" else (narrow, "f32")
    return ("f32",), sources


def _mixed(e: Emitter, i: Instruction, *args: ir.Value) -> ir.Value:
    """f32 accumulation of f16 or bf16 terms: the narrow operands are exact in f32."""
    *narrow, last = args
    mode = next((m for m in i.modifiers if m in ("rn", "rz", "rm", "rp")), "rn")
    wide = [e.to_f32(value, i.types[1]) for value in narrow]
    result = rounded(e, i.opcode, "f32", mode, *wide, last)
    return e.saturate(result, "f32") if "sat" in i.modifiers else result


def add_halves(e: Emitter, kind: str, a: ir.Value, b: ir.Value) -> ir.Value:
    """a + b for f16, bf16, f16x2 or bf16x2, as the atomics need it."""
    part = kind.removesuffix("x2")
    inner = e.at(e.lanes * size_of(kind) // 16)
    parts = [inner.to_f32(e.bitcast(value, inner.shape(element_type(part))), part) for value in (a, b)]
    return e.bitcast(round_f32(inner, e.builder.fadd(*parts), part), a.type)


def min_max_halves(e: Emitter, kind: str, operation: str, a: ir.Value, b: ir.Value) -> ir.Value:
    """min or max of f16, bf16, f16x2 or bf16x2 values; a number wins over a NaN."""
    part = kind.removesuffix("x2")
    inner = e.at(e.lanes * size_of(kind) // 16)
    parts = [inner.to_f32(e.bitcast(value, inner.shape(element_type(part))), part) for value in (a, b)]
    chosen = inner.intrinsic(f"llvm.{operation}imumnum", parts[0].type, *parts)
    return e.bitcast(round_f32(inner, chosen, part), a.type)


SECTION = "half-precision-floating-point-instructions-"
F16 = each("f16 f16x2")
BF16 = each("bf16 bf16x2")
_arithmetic_rule, _sign_rule = _on_halves(_arithmetic), _on_halves(_sign)
_minmax_rule, _approximate_rule = _on_halves(_minmax), _on_halves(_approximate)
ROWS = (
    *(Row(op, SECTION + op, F16, _arithmetic_rule, ("rn?", "ftz?", "sat?")) for op in ("add", "sub", "mul")),
    *(Row(op, SECTION + op, BF16, _arithmetic_rule, ("rn?",)) for op in ("add", "sub", "mul")),
    Row("fma", SECTION + "fma", F16, _arithmetic_rule, ("rn", "ftz?", "sat|relu?"), 3),
    Row("fma", SECTION + "fma", BF16, _arithmetic_rule, ("rn", "relu?"), 3),
    *(Row(op, SECTION + op, F16, _sign_rule, ("ftz?",), 1) for op in ("abs", "neg")),
    *(Row(op, SECTION + op, BF16, _sign_rule, (), 1) for op in ("abs", "neg")),
    *(Row(op, SECTION + op, F16, _minmax_rule, ("ftz?", "NaN?")) for op in ("min", "max")),
    *(Row(op, SECTION + op, F16, _minmax_rule, ("ftz?", "NaN?", "xorsign", "abs")) for op in ("min", "max")),
    *(Row(op, SECTION + op, BF16, _minmax_rule, ("NaN?",)) for op in ("min", "max")),
    *(Row(op, SECTION + op, BF16, _minmax_rule, ("NaN?", "xorsign", "abs")) for op in ("min", "max")),
    Row("tanh", SECTION + "tanh", (*F16, *BF16), _approximate_rule, ("approx",), 1),
    Row("ex2", SECTION + "ex2", F16, _approximate_rule, ("approx",), 1),
    Row("ex2", SECTION + "ex2", BF16, _approximate_rule, ("approx", "ftz"), 1),
    *(Row(op, f"mixed-precision-floating-point-instructions-{op}", (("f32", "f16"), ("f32", "bf16")), _mixed,
          ("rn|rz|rm|rp?", "sat?"), _mixed_operands) for op in ("add", "sub")),
    Row("fma", "mixed-precision-floating-point-instructions-fma", (("f32", "f16"), ("f32", "bf16")), _mixed,
        ("rn|rz|rm|rp", "sat?"), _mixed_operands),
)  # fmt: skip
