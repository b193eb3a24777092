"""Comparison and selection: setp, set, selp, slct, for the half-precision types too."""

from __future__ import annotations

from itertools import product

from llvmlite import ir

from kernelevo.emulator.emit import Emitter, is_signed
from kernelevo.emulator.instruction import Instruction, Pair
from kernelevo.emulator.rules.row import Result, Row, Signature, each

_SYMBOLS = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">=", "lo": "<", "ls": "<=", "hi": ">",
            "hs": ">="}  # fmt: skip


def compare(e: Emitter, operation: str, kind: str, a: ir.Value, b: ir.Value) -> ir.Value:
    """A pred: a `operation` b for values of PTX type `kind`."""
    if kind == "bf16":
        a, b = e.to_f32(a, kind), e.to_f32(b, kind)
    if kind in ("f16", "bf16", "f32", "f64"):
        if operation in ("num", "nan"):
            return e.builder.fcmp_unordered("uno", a, b) if operation == "nan" else e.builder.fcmp_ordered("ord", a, b)
        if operation.endswith("u"):
            return e.builder.fcmp_unordered(_SYMBOLS[operation[:-1]], a, b)
        return e.builder.fcmp_ordered(_SYMBOLS[operation], a, b)
    if is_signed(kind):
        return e.builder.icmp_signed(_SYMBOLS[operation], a, b)
    return e.builder.icmp_unsigned(_SYMBOLS[operation], a, b)


def _flushed(e: Emitter, i: Instruction, a: ir.Value, b: ir.Value, *, kind: str) -> tuple[ir.Value, ir.Value]:
    return (e.flush(a, kind), e.flush(b, kind)) if "ftz" in i.modifiers else (a, b)


def _join(e: Emitter, i: Instruction, yes: ir.Value, c: ir.Value) -> ir.Value:
    operation = next(m for m in i.modifiers if m in ("and", "or", "xor"))
    return {"and": e.builder.and_, "or": e.builder.or_, "xor": e.builder.xor}[operation](yes, c)


def _setp_operands(i: Instruction) -> Signature:
    (kind,) = i.types
    combined = any(m in ("and", "or", "xor") for m in i.modifiers)
    destinations = ("pred", "pred") if isinstance(i.operands[0], Pair) else ("pred",)
    return destinations, (kind, kind, *(("pred",) if combined else ()))


def _setp(e: Emitter, i: Instruction, a: ir.Value, b: ir.Value, c: ir.Value | None = None) -> Result:
    (kind,) = i.types
    if kind.endswith("x2"):
        return _setp_x2(e, i, a, b, c)
    a, b = _flushed(e, i, a, b, kind=kind)
    yes = compare(e, i.modifiers[0], kind, a, b)
    results = [yes, e.builder.not_(yes)] if isinstance(i.operands[0], Pair) else [yes]
    if c is not None:
        results = [_join(e, i, result, c) for result in results]
    return tuple(results) if len(results) > 1 else results[0]


def _setp_x2(e: Emitter, i: Instruction, a: ir.Value, b: ir.Value, c: ir.Value | None) -> Result:
    """f16x2 and bf16x2: the first predicate compares the low halves, the second the high halves."""
    kind = i.types[0].removesuffix("x2")
    results = []
    for shift in (0, 16):
        left, right = (
            e.bitcast(e.resize(e.builder.lshr(value, e.const("b32", shift)), 16, signed=False), e.type_of(kind))
            for value in (a, b)
        )
        left, right = _flushed(e, i, left, right, kind=kind)
        result = compare(e, i.modifiers[0], kind, left, right)
        results.append(result if c is None else _join(e, i, result, c))
    return tuple(results)


def _selp_operands(i: Instruction) -> Signature:
    return (i.types[0],), (i.types[0], i.types[0], "pred")


def _selp(e: Emitter, i: Instruction, a: ir.Value, b: ir.Value, p: ir.Value) -> ir.Value:
    return e.select(p, a, b)


# --- set, slct


def _set_operands(i: Instruction) -> Signature:
    to, kind = i.types
    combined = any(m in ("and", "or", "xor") for m in i.modifiers)
    return (to,), (kind, kind, *(("pred",) if combined else ()))


def _set(e: Emitter, i: Instruction, a: ir.Value, b: ir.Value, c: ir.Value | None = None) -> ir.Value:
    """All ones or 1.0 where the comparison holds, else 0; element by element for the x2 types."""
    to, kind = i.types
    inner = e
    if kind.endswith("x2"):
        inner, kind, to = e.at(2 * e.lanes), kind.removesuffix("x2"), _half_of(to)
        a, b = (e.builder.bitcast(value, inner.type_of(kind)) for value in (a, b))
    a, b = _flushed(inner, i, a, b, kind=kind)
    yes = compare(inner, i.modifiers[0], kind, a, b)
    if c is not None:
        yes = _join(e, i, yes, c)
    one = {"f32": 1.0, "f16": 1.0, "bf16": 0x3F80}.get(to, -1)
    return e.bitcast(inner.select(yes, inner.const(to, one), inner.const(to, 0)), e.type_of(i.types[0]))


def _half_of(to: str) -> str:
    return to.removesuffix("x2") if to.endswith("x2") else f"{to[0]}16"


def _slct_operands(i: Instruction) -> Signature:
    return (i.types[0],), (i.types[0], i.types[0], i.types[1])


def _slct(e: Emitter, i: Instruction, a: ir.Value, b: ir.Value, c: ir.Value) -> ir.Value:
    if i.types[1] == "s32":
        return e.select(e.builder.icmp_signed(">=", c, e.const("s32", 0)), a, b)
    if "ftz" in i.modifiers:
        c = e.flush(c)
    return e.select(e.builder.fcmp_ordered(">=", c, e.const("f32", 0.0)), a, b)  # NaN selects b; -0.0 selects a


FLOAT_COMPARISONS = "eq|ne|lt|le|gt|ge|equ|neu|ltu|leu|gtu|geu|num|nan"
SELECTABLE = ("b16", "b32", "b64", "u16", "u32", "u64", "s16", "s32", "s64", "f32", "f64")
HALF = "half-precision-comparison-instructions-setp"
HALF_SET = "half-precision-comparison-instructions-set"
SECTION = "comparison-and-selection-instructions-"
ROWS = (
    Row("setp", SECTION + "setp", each("b16 b32 b64"), _setp, ("eq|ne", "and|or|xor?"), _setp_operands),
    Row("setp", SECTION + "setp", each("s16 s32 s64"), _setp, ("eq|ne|lt|le|gt|ge", "and|or|xor?"), _setp_operands),
    Row("setp", SECTION + "setp", each("u16 u32 u64"), _setp, ("eq|ne|lt|le|gt|ge|lo|ls|hi|hs", "and|or|xor?"),
        _setp_operands),
    Row("setp", SECTION + "setp", each("f32"), _setp, (FLOAT_COMPARISONS, "and|or|xor?", "ftz?"), _setp_operands),
    Row("setp", SECTION + "setp", each("f64"), _setp, (FLOAT_COMPARISONS, "and|or|xor?"), _setp_operands),
    *(Row("setp", HALF, types, _setp, (FLOAT_COMPARISONS, "and|or|xor?", "ftz?"), _setp_operands)
      for types in (each("f16"), each("f16x2"))),
    Row("setp", HALF, each("bf16 bf16x2"), _setp, (FLOAT_COMPARISONS, "and|or|xor?"), _setp_operands),
    Row("set", SECTION + "set", tuple(product(("u32", "s32", "f32"), ("b16", "b32", "b64"))), _set,
        ("eq|ne", "and|or|xor?"), _set_operands),
    Row("set", SECTION + "set", tuple(product(("u32", "s32", "f32"), ("s16", "s32", "s64"))), _set,
        ("eq|ne|lt|le|gt|ge", "and|or|xor?"), _set_operands),
    Row("set", SECTION + "set", tuple(product(("u32", "s32", "f32"), ("u16", "u32", "u64"))), _set,
        ("eq|ne|lt|le|gt|ge|lo|ls|hi|hs", "and|or|xor?"), _set_operands),
    Row("set", SECTION + "set", tuple(product(("u32", "s32", "f32"), ("f32",))), _set,
        (FLOAT_COMPARISONS, "and|or|xor?", "ftz?"), _set_operands),
    Row("set", SECTION + "set", tuple(product(("u32", "s32", "f32"), ("f64",))), _set,
        (FLOAT_COMPARISONS, "and|or|xor?"), _set_operands),
    Row("set", HALF_SET, (("f16", "f16"), *product(("u16", "s16", "u32", "s32"), ("f16",)), ("f16x2", "f16x2"),
        ("u32", "f16x2"), ("s32", "f16x2")), _set, (FLOAT_COMPARISONS, "and|or|xor?", "ftz?"), _set_operands),
    Row("set", HALF_SET, (("bf16", "bf16"), *product(("u16", "s16", "u32", "s32"), ("bf16",)), ("bf16x2", "bf16x2"),
        ("u32", "bf16x2"), ("s32", "bf16x2")), _set, (FLOAT_COMPARISONS, "and|or|xor?"), _set_operands),
    Row("slct", SECTION + "slct", tuple(product(SELECTABLE, ("s32",))), _slct, (), _slct_operands),
    Row("slct", SECTION + "slct", tuple(product(SELECTABLE, ("f32",))), _slct, ("ftz?",), _slct_operands),
    Row("selp", SECTION + "selp", each("b16 b32 b64 u16 u32 u64 s16 s32 s64 f16 f32 f64"), _selp,
        operands=_selp_operands),
)  # fmt: skip
