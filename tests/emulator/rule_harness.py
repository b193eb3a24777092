"""Runs single PTX instruction rules on numpy arrays: many forms compiled into one LLVM module.

    rules = compile_forms(["add.rn.f32", "setp.lt.f32 p|q"])
    rules("add.rn.f32", a, b)                # one value per lane, 32 lanes at a time
    rules("add.rn.f32", a, b, lanes=1)       # the scalar code of the same rule

An argument or result of type f16 or bf16 is an array of uint16 bits, pred of uint8 or bool, integers and the x2 types
of unsigned integers, f32 and f64 of floats. A form may be followed by the operands that decide its shape:
"d|p" a pair of destinations, "{2}" a vector of two, "#7" an immediate, "[a]" an address, "r" anything else. Carry in
and out are the last argument and result.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import cache
from typing import Any

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir

from kernelevo.emulator import rules
from kernelevo.emulator.emit import Emitter, element_type, host_features, size_of
from kernelevo.emulator.instruction import (
    TYPES,
    Address,
    Immediate,
    Instruction,
    Operand,
    Pair,
    Position,
    Register,
    Vector,
)

CHUNK = 32


def instruction_of(text: str) -> Instruction:
    """The instruction of a form like "add.rn.f32" or "lop3.b32 d r r r #0x96"."""
    form, *shape = text.split()
    opcode, *parts = form.split(".")
    modifiers = tuple(part for part in parts if part not in TYPES)
    types = tuple(part for part in parts if part in TYPES)
    operands = tuple(_operand(word, place) for place, word in enumerate(shape or ["r"] * 8))
    return Instruction(opcode, modifiers, types, operands, None, False, Position("test.ptx", 1, 1), None)


def _operand(word: str, place: int) -> Operand:
    register = Register(f"%r{place}")
    if word.startswith("#"):
        return Immediate(None, int(word[1:], 0), False)
    if word.startswith("{"):
        return Vector((register,) * int(word[1:-1]))
    if word.startswith("["):
        return Address(register, 0)
    return Pair(register, register) if "|" in word else register


class CompiledRules:
    """Callable rules of a list of forms, at both widths."""

    def __init__(self, forms: Sequence[str], features: frozenset[str]) -> None:
        self.forms = {text: instruction_of(text) for text in forms}
        module = ir.Module("rules")
        for text, instruction in self.forms.items():
            row = rules.find(instruction)
            assert row is not None, f"no row for {text}"
            for lanes in (CHUNK,) if row.warp_wide else (CHUNK, 1):
                _define(module, f"{text} @{lanes}", instruction, row, lanes, features)
        self.text, self.features = str(module), features
        self.engine = _jit(self.text, features)

    @property
    def assembly(self) -> str:
        """What the machine runs, as text."""
        machine, module = _optimised(self.text, self.features)
        return str(machine.emit_assembly(module))

    def __call__(self, text: str, *args: Any, lanes: int = CHUNK, mask: Any = None) -> Any:
        """The results over whole arrays (their length a multiple of 32); scalars are repeated."""
        instruction = self.forms[text]
        row = rules.find(instruction)
        assert row is not None
        destinations, sources = _signature(row, instruction)
        sources = [kind for kind, fixed in sources if fixed is None]
        assert len(args) == len(sources), (text, sources)
        count = max((np.size(each) for each in args), default=CHUNK)
        padded = -(-count // CHUNK) * CHUNK
        inputs = [
            _store(np.broadcast_to(np.asarray(a), (count,)), kind, padded)
            for a, kind in zip(args, sources, strict=True)
        ]
        outputs = [np.zeros(padded, _storage(kind)) for kind in destinations]
        bits = np.ones(padded, np.uint8) if mask is None else np.ascontiguousarray(np.asarray(mask, np.uint8))
        pointers = [array.ctypes.data for array in (*inputs, *outputs, bits)]
        table = (ctypes.c_void_p * len(pointers))(*pointers)
        address = self.engine.get_function_address(f"{text} @{lanes}")
        ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64)(address)(table, padded // lanes)
        results = [array[:count] for array in outputs]
        return results[0] if len(results) == 1 else tuple(results)


def compile_forms(forms: Sequence[str], features: frozenset[str] | None = None) -> CompiledRules:
    return _compiled(tuple(forms), host_features() if features is None else features)


@cache
def _compiled(forms: tuple[str, ...], features: frozenset[str]) -> CompiledRules:
    return CompiledRules(forms, features)


def _storage(kind: str) -> Any:
    if kind in ("f32", "f64"):
        return {"f32": np.float32, "f64": np.float64}[kind]
    prefix = "int" if kind.startswith("s") and not kind.endswith("x2") else "uint"
    return getattr(np, f"{prefix}{max(8, size_of(kind))}")


def _store(values: Any, kind: str, padded: int) -> Any:
    storage = _storage(kind)
    out = np.zeros(padded, storage)
    values = np.asarray(values)
    out[: values.size] = values if storage in (np.float32, np.float64) else values.astype(storage, casting="unsafe")
    return out


def _signature(row: rules.Row, instruction: Instruction) -> tuple[tuple[str, ...], list[tuple[str, int | None]]]:
    """Destination types and (source type, its immediate value) pairs."""
    destinations, sources = row.signature(instruction)
    flat: list[Operand | None] = []
    for operand in instruction.operands:
        flat += operand.elements if isinstance(operand, Vector) else (
            (operand.first, operand.second) if isinstance(operand, Pair) else (operand,)
        )  # fmt: skip
    given = flat[len(destinations) :]
    values = [each.value if isinstance(each, Immediate) else None for each in given] + [None] * 16
    pairs = [(kind, values[place]) for place, kind in enumerate(sources)]
    carry = ("pred",)
    return (*destinations, *(carry if row.carry_out else ())), pairs + [("pred", None)] * row.carry_in


def _define(
    module: ir.Module, name: str, instruction: Instruction, row: rules.Row, lanes: int, features: frozenset[str]
) -> None:
    pointer, i64 = ir.PointerType(), ir.IntType(64)
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [pointer, i64]), name)
    entry = function.append_basic_block("entry")
    body = function.append_basic_block("body")
    done = function.append_basic_block("done")
    builder = ir.IRBuilder(entry)
    destinations, sources = _signature(row, instruction)
    arrays = [kind for kind, value in sources if value is None]
    total = len(arrays) + len(destinations) + 1
    bases = [
        builder.load(builder.gep(function.args[0], [i64(k)], source_etype=pointer), typ=pointer) for k in range(total)
    ]
    builder.branch(body)
    builder.position_at_end(body)
    chunk = builder.phi(i64)
    chunk.add_incoming(i64(0), entry)
    first = builder.mul(chunk, i64(lanes))
    e = Emitter(builder, lanes, features=features)

    def memory(kind: str) -> ir.Type:
        return ir.IntType(8) if kind == "pred" else element_type(kind)

    def load(base: ir.Value, kind: str) -> ir.Value:
        place = builder.gep(base, [first], source_etype=memory(kind))
        value = builder.load(place, typ=e.shape(memory(kind)), align=1)
        return builder.icmp_unsigned("!=", value, e.constant(ir.IntType(8), 0)) if kind == "pred" else value

    e.mask = load(bases[-1], "pred")
    loaded = iter(bases)
    args = [load(next(loaded), kind) if value is None else e.const(kind, value) for kind, value in sources]
    result = row.emit(e, instruction, args)
    results = () if result is None else result if isinstance(result, tuple) else (result,)
    assert len(results) == len(destinations), (name, len(results), destinations)
    for base, kind, value in zip(bases[len(arrays) :], destinations, results, strict=False):
        assert value.type == e.type_of(kind), (name, str(value.type), str(e.type_of(kind)))
        stored = builder.zext(value, e.shape(ir.IntType(8))) if kind == "pred" else value
        builder.store(stored, builder.gep(base, [first], source_etype=memory(kind)), align=1)
    after = builder.add(chunk, i64(1))
    chunk.add_incoming(after, builder.block)
    builder.cbranch(builder.icmp_unsigned("<", after, function.args[1]), body, done)
    ir.IRBuilder(done).ret_void()


def _optimised(text: str, features: frozenset[str]) -> tuple[Any, Any]:
    """(machine, module) after the optimiser."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    module = llvm.parse_assembly(text)
    module.verify()
    named = ",".join("+" + feature for feature in sorted(features))
    target = llvm.Target.from_default_triple()
    machine = target.create_target_machine(cpu="x86-64-v3", features=named, opt=1, jit=True)
    options = llvm.create_pipeline_tuning_options(speed_level=1)
    passes = llvm.create_pass_builder(machine, options)
    passes.getModulePassManager().run(module, passes)
    return machine, module


def _jit(text: str, features: frozenset[str]) -> Any:
    machine, module = _optimised(text, features)
    engine = llvm.create_mcjit_compiler(module, machine)
    engine.finalize_object()
    return engine
