"""cvt between integer and floating-point types."""

from __future__ import annotations

from itertools import product

from llvmlite import ir

from kernelevo.emulator.emit import Emitter, is_signed, size_of
from kernelevo.emulator.instruction import Instruction
from kernelevo.emulator.rules.row import Row, Signature

INTEGERS = "u8 u16 u32 u64 s8 s16 s32 s64".split()


def _cvt_operands(i: Instruction) -> Signature:
    return (i.types[0],), (i.types[1],)


def _integer_to_integer(e: Emitter, i: Instruction, a: ir.Value) -> ir.Value:
    return e.resize(a, size_of(i.types[0]), signed=is_signed(i.types[1]))


def _integer_to_float(e: Emitter, i: Instruction, a: ir.Value) -> ir.Value:
    target = e.type_of(i.types[0])
    return e.builder.sitofp(a, target) if is_signed(i.types[1]) else e.builder.uitofp(a, target)


def _float_to_integer(e: Emitter, i: Instruction, a: ir.Value) -> ir.Value:
    a = e.intrinsic({"rni": "llvm.roundeven", "rzi": "llvm.trunc", "rmi": "llvm.floor", "rpi": "llvm.ceil"}[
        i.modifiers[0]], a.type, a)  # fmt: skip
    name = "llvm.fptosi.sat" if is_signed(i.types[0]) else "llvm.fptoui.sat"
    result = e.type_of(i.types[0])
    return e.intrinsic(name, result, a, overloads=(result, a.type))


def _round(e: Emitter, i: Instruction, a: ir.Value) -> ir.Value:
    target = e.type_of(i.types[0])
    for modifier in i.modifiers:
        if modifier in ("rni", "rzi", "rmi", "rpi"):
            a = e.intrinsic({"rni": "llvm.roundeven", "rzi": "llvm.trunc", "rmi": "llvm.floor",
                             "rpi": "llvm.ceil"}[modifier], a.type, a)  # fmt: skip
    if size_of(i.types[0]) > size_of(i.types[1]):
        a = e.builder.fpext(a, target)
    elif size_of(i.types[0]) < size_of(i.types[1]):
        a = e.builder.fptrunc(a, target)
    return e.saturate(a, i.types[0]) if "sat" in i.modifiers else a


SECTION = "data-movement-and-conversion-instructions-cvt"
ROWS = (
    Row("cvt", SECTION, tuple(product(INTEGERS, INTEGERS)), _integer_to_integer, operands=_cvt_operands, linear="convert"),
    Row("cvt", SECTION, tuple(product(("f32", "f64"), INTEGERS)), _integer_to_float, ("rn",), _cvt_operands),
    Row("cvt", SECTION, tuple(product(INTEGERS, ("f32", "f64"))), _float_to_integer, ("rni|rzi|rmi|rpi",), _cvt_operands),
    Row("cvt", SECTION, (("f64", "f32"), ("f32", "f16")), _round, (), _cvt_operands),
    Row("cvt", SECTION, (("f32", "f64"), ("f16", "f32")), _round, ("rn",), _cvt_operands),
    Row("cvt", SECTION, (("f32", "f32"), ("f64", "f64")), _round, ("rni|rzi|rmi|rpi?", "sat?"), _cvt_operands),
)
