"""Comparison and selection: setp, selp."""

from __future__ import annotations

from llvmlite import ir

from kernelevo.emulator.emit import Emitter, is_signed
from kernelevo.emulator.instruction import Instruction, Pair
from kernelevo.emulator.rules.row import Row, Signature, each

_SYMBOLS = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">=", "lo": "<", "ls": "<=", "hi": ">",
            "hs": ">="}  # fmt: skip


def compare(e: Emitter, operation: str, kind: str, a: ir.Value, b: ir.Value) -> ir.Value:
    """A pred: a `operation` b for values of PTX type `kind`."""
    if kind in ("f16", "f32", "f64"):
        if operation in ("num", "nan"):
            return e.builder.fcmp_unordered("uno", a, b) if operation == "nan" else e.builder.fcmp_ordered("ord", a, b)
        if operation.endswith("u") and operation != "u":
            return e.builder.fcmp_unordered(_SYMBOLS[operation[:-1]], a, b)
        return e.builder.fcmp_ordered(_SYMBOLS[operation], a, b)
    if is_signed(kind):
        return e.builder.icmp_signed(_SYMBOLS[operation], a, b)
    return e.builder.icmp_unsigned(_SYMBOLS[operation], a, b)


def _setp_operands(i: Instruction) -> Signature:
    (kind,) = i.types
    combined = any(m in ("and", "or", "xor") for m in i.modifiers)
    destinations = ("pred", "pred") if isinstance(i.operands[0], Pair) else ("pred",)
    return destinations, (kind, kind, *(("pred",) if combined else ()))


def _setp(e: Emitter, i: Instruction, a: ir.Value, b: ir.Value, c: ir.Value | None = None) -> ir.Value:
    (kind,) = i.types
    if "ftz" in i.modifiers:
        a, b = e.flush(a), e.flush(b)
    yes = compare(e, i.modifiers[0], kind, a, b)
    no = e.builder.not_(yes) if isinstance(i.operands[0], Pair) else None
    if c is not None:
        operation = next(m for m in i.modifiers if m in ("and", "or", "xor"))
        join = {"and": e.builder.and_, "or": e.builder.or_, "xor": e.builder.xor}[operation]
        yes = join(yes, c)
        no = join(no, c) if no is not None else None
    return (yes, no) if no is not None else yes


def _selp_operands(i: Instruction) -> Signature:
    return (i.types[0],), (i.types[0], i.types[0], "pred")


def _selp(e: Emitter, i: Instruction, a: ir.Value, b: ir.Value, p: ir.Value) -> ir.Value:
    return e.select(p, a, b)


FLOAT_COMPARISONS = "eq|ne|lt|le|gt|ge|equ|neu|ltu|leu|gtu|geu|num|nan"
SECTION = "comparison-and-selection-instructions-"
ROWS = (
    Row("setp", SECTION + "setp", each("b16 b32 b64"), _setp, ("eq|ne", "and|or|xor?"), _setp_operands),
    Row("setp", SECTION + "setp", each("s16 s32 s64"), _setp, ("eq|ne|lt|le|gt|ge", "and|or|xor?"), _setp_operands),
    Row("setp", SECTION + "setp", each("u16 u32 u64"), _setp, ("eq|ne|lt|le|gt|ge|lo|ls|hi|hs", "and|or|xor?"),
        _setp_operands),
    Row("setp", SECTION + "setp", each("f32"), _setp, (FLOAT_COMPARISONS, "and|or|xor?", "ftz?"), _setp_operands),
    Row("setp", SECTION + "setp", each("f64"), _setp, (FLOAT_COMPARISONS, "and|or|xor?"), _setp_operands),
    Row("selp", SECTION + "selp", each("b16 b32 b64 u16 u32 u64 s16 s32 s64 f16 f32 f64"), _selp,
        operands=_selp_operands),
)  # fmt: skip
