"""f32 and f64 arithmetic: add, sub, mul, fma, mad, div, rcp, sqrt, abs, neg, min, max, copysign, testp."""

from __future__ import annotations

from llvmlite import ir

from kernelevo.emulator.emit import Emitter, size_of
from kernelevo.emulator.instruction import Instruction
from kernelevo.emulator.rules.rounding import rounded
from kernelevo.emulator.rules.row import Row, Signature, each

ROUNDINGS = ("rn", "rz", "rm", "rp")


def _arithmetic(e: Emitter, i: Instruction, *args: ir.Value) -> ir.Value:
    operation = {"rcp": "div", "mad": "fma"}.get(i.opcode, i.opcode)
    mode = i.modifiers[0] if i.modifiers and i.modifiers[0] in ROUNDINGS else "rn"
    args = _inputs(e, i, *args)
    if i.opcode == "rcp":
        args = (e.const(i.types[0], 1.0), *args)
    return _finish(e, i, rounded(e, operation, i.types[0], mode, *args))


def _inputs(e: Emitter, i: Instruction, *args: ir.Value) -> tuple[ir.Value, ...]:
    return tuple(e.flush(value) for value in args) if "ftz" in i.modifiers else args


def _finish(e: Emitter, i: Instruction, value: ir.Value) -> ir.Value:
    if "ftz" in i.modifiers:
        value = e.flush(value)
    return e.saturate(value, i.types[0]) if "sat" in i.modifiers else value


def _abs(e: Emitter, i: Instruction, a: ir.Value) -> ir.Value:
    return _finish(e, i, e.abs(a))


def _neg(e: Emitter, i: Instruction, a: ir.Value) -> ir.Value:
    return _finish(e, i, e.builder.fneg(a))


def minimum_or_maximum(e: Emitter, i: Instruction, *args: ir.Value) -> ir.Value:
    """min or max of two or three f16, f32 or f64 values: -0.0 < +0.0; a NaN counts only under .NaN."""
    a, *others = args
    for b in others:
        sign = None
        if "xorsign" in i.modifiers:
            sign = e.builder.xor(e.bits(a, f"b{size_of(i.types[0])}"), e.bits(b, f"b{size_of(i.types[0])}"))
        if "abs" in i.modifiers:
            a, b = e.abs(a), e.abs(b)
        propagates = "NaN" in i.modifiers
        a = e.intrinsic(f"llvm.{i.opcode}imum{'' if propagates else 'num'}", a.type, a, b)
        if sign is not None:
            a = e.intrinsic("llvm.copysign", a.type, a, e.bitcast(sign, a.type))
    return a


def _minmax_operands(i: Instruction) -> Signature:
    """f32 has a form of three inputs."""
    return i.types, i.types * (3 if len(i.operands) == 4 else 2)


def _minmax(e: Emitter, i: Instruction, *args: ir.Value) -> ir.Value:
    return minimum_or_maximum(e, i, *_inputs(e, i, *args))


def _copysign(e: Emitter, i: Instruction, sign: ir.Value, magnitude: ir.Value) -> ir.Value:
    return e.intrinsic("llvm.copysign", sign.type, magnitude, sign)


def _testp(e: Emitter, i: Instruction, a: ir.Value) -> ir.Value:
    wanted = {"finite": 0x1F8, "infinite": 0x204, "number": 0x3FC, "notanumber": 0x3, "normal": 0x108,
              "subnormal": 0x90}[i.modifiers[0]]  # fmt: skip
    return e.class_test(a, wanted)


def _testp_operands(i: Instruction) -> Signature:
    return ("pred",), i.types


SECTION = "floating-point-instructions-"
ROWS = (
    *(Row(op, SECTION + op, each("f32"), _arithmetic, ("rn|rz|rm|rp?", "ftz?", "sat?"))
      for op in ("add", "sub", "mul")),
    *(Row(op, SECTION + op, each("f64"), _arithmetic, ("rn|rz|rm|rp?",)) for op in ("add", "sub", "mul")),
    *(Row(op, SECTION + op, each("f32"), _arithmetic, ("rn|rz|rm|rp", "ftz?", "sat?"), 3) for op in ("fma", "mad")),
    *(Row(op, SECTION + op, each("f64"), _arithmetic, ("rn|rz|rm|rp",), 3) for op in ("fma", "mad")),
    Row("div", SECTION + "div", each("f32"), _arithmetic, ("rn|rz|rm|rp", "ftz?")),
    Row("div", SECTION + "div", each("f64"), _arithmetic, ("rn|rz|rm|rp",)),
    *(Row(op, SECTION + op, each("f32"), _arithmetic, ("rn|rz|rm|rp", "ftz?"), 1) for op in ("rcp", "sqrt")),
    *(Row(op, SECTION + op, each("f64"), _arithmetic, ("rn|rz|rm|rp",), 1) for op in ("rcp", "sqrt")),
    *(Row(op, SECTION + op, each("f32"), emit, ("ftz?",), 1) for op, emit in (("abs", _abs), ("neg", _neg))),
    *(Row(op, SECTION + op, each("f64"), emit, (), 1) for op, emit in (("abs", _abs), ("neg", _neg))),
    *(Row(op, SECTION + op, each("f32"), _minmax, ("ftz?", "NaN?"), _minmax_operands) for op in ("min", "max")),
    *(Row(op, SECTION + op, each("f32"), _minmax, ("ftz?", "NaN?", "xorsign", "abs")) for op in ("min", "max")),
    *(Row(op, SECTION + op, each("f64"), _minmax) for op in ("min", "max")),
    Row("copysign", SECTION + "copysign", each("f32 f64"), _copysign),
    Row("testp", SECTION + "testp", each("f32 f64"), _testp,
        ("finite|infinite|number|notanumber|normal|subnormal",), _testp_operands),
)  # fmt: skip
