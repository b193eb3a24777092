"""f32 and f64 arithmetic: add, sub, mul, fma, div, rcp, sqrt, abs, neg, min, max, copysign."""

from __future__ import annotations

from llvmlite import ir

from kernelevo.emulator.emit import Emitter
from kernelevo.emulator.instruction import Instruction
from kernelevo.emulator.rules.row import Row, each


def _arithmetic(e: Emitter, i: Instruction, *args: ir.Value) -> ir.Value:
    if "ftz" in i.modifiers:
        args = tuple(e.flush(value) for value in args)
    b = e.builder
    operation = {"add": b.fadd, "sub": b.fsub, "mul": b.fmul, "fma": e.fma, "div": b.fdiv}[i.opcode]
    return _finish(e, i, operation(*args))


def _finish(e: Emitter, i: Instruction, value: ir.Value) -> ir.Value:
    if "ftz" in i.modifiers:
        value = e.flush(value)
    return e.saturate(value, i.types[0]) if "sat" in i.modifiers else value


def _rcp(e: Emitter, i: Instruction, a: ir.Value) -> ir.Value:
    a = e.flush(a) if "ftz" in i.modifiers else a
    return _finish(e, i, e.builder.fdiv(e.const(i.types[0], 1.0), a))


def _sqrt(e: Emitter, i: Instruction, a: ir.Value) -> ir.Value:
    a = e.flush(a) if "ftz" in i.modifiers else a
    return _finish(e, i, e.intrinsic("llvm.sqrt", a.type, a))


def _abs(e: Emitter, i: Instruction, a: ir.Value) -> ir.Value:
    return _finish(e, i, e.abs(a))


def _neg(e: Emitter, i: Instruction, a: ir.Value) -> ir.Value:
    return _finish(e, i, e.builder.fneg(a))


def _minmax(e: Emitter, i: Instruction, a: ir.Value, b: ir.Value) -> ir.Value:
    if "ftz" in i.modifiers:
        a, b = e.flush(a), e.flush(b)
    name = "imum" if "NaN" in i.modifiers else "imumnum"
    return e.intrinsic(f"llvm.{i.opcode}{name}", a.type, a, b)


def _copysign(e: Emitter, i: Instruction, sign: ir.Value, magnitude: ir.Value) -> ir.Value:
    return e.intrinsic("llvm.copysign", sign.type, magnitude, sign)


SECTION = "floating-point-instructions-"
ROWS = (
    *(Row(op, SECTION + op, each("f32"), _arithmetic, ("rn?", "ftz?", "sat?")) for op in ("add", "sub", "mul")),
    *(Row(op, SECTION + op, each("f64"), _arithmetic, ("rn?",)) for op in ("add", "sub", "mul")),
    Row("fma", SECTION + "fma", each("f32"), _arithmetic, ("rn", "ftz?", "sat?"), 3),
    Row("fma", SECTION + "fma", each("f64"), _arithmetic, ("rn",), 3),
    Row("div", SECTION + "div", each("f32"), _arithmetic, ("rn|approx|full", "ftz?")),
    Row("div", SECTION + "div", each("f64"), _arithmetic, ("rn",)),
    Row("rcp", SECTION + "rcp", each("f32"), _rcp, ("rn|approx", "ftz?"), 1),
    Row("sqrt", SECTION + "sqrt", each("f32"), _sqrt, ("rn|approx", "ftz?"), 1),
    *(Row(op, SECTION + op, each("f32"), emit, ("ftz?",), 1) for op, emit in (("abs", _abs), ("neg", _neg))),
    *(Row(op, SECTION + op, each("f64"), emit, (), 1) for op, emit in (("abs", _abs), ("neg", _neg))),
    *(Row(op, SECTION + op, each("f32"), _minmax, ("ftz?", "NaN?")) for op in ("min", "max")),
    *(Row(op, SECTION + op, each("f64"), _minmax) for op in ("min", "max")),
    Row("copysign", SECTION + "copysign", each("f32 f64"), _copysign),
)
