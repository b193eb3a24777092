"""Program -> LLVM IR: functions that advance one warp until it exits, waits at a barrier or has to change its mode.

There are two translations of a kernel, each a function `int32 (WarpState*)` returning a WarpStatus (layout.py):

converged   All 32 lanes execute together, so there are no masks. Registers of known shape (shapes.py) are the scalar of
            lane 0, all others 32-lane vectors. Where lanes part, everything live is stored in the warp's frame and
            the function returns DIVERGED. Resumes after barriers and at joins.
diverged    Every lane has a next block; the lowest block runs first, for the lanes that wait there (min-PC), on vectors
            that live in the frame. Handles any control flow. At a join that all 32 lanes reach, and if the registers
            have the shapes that converged code assumes, it returns CONVERGED. So the analysis is an assumption that is
            tested where the modes meet: a wrong guess costs time, not correctness.

Observers see every block, operation and access of the diverged translation, and those that ask for it every operation
and access of the converged one; see Observer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import llvmlite.binding as llvm
from llvmlite import ir

from . import layout as at
from .check import CARRY, Kind, Operation, Unsupported, copy_operands, flatten
from .emit import WARP, Emitter, element_type, host_features, is_signed, size_of, vector_constant
from .flow import Block, Program, joins, spinning
from .instruction import Address, Immediate, Instruction, Operand, Register, SpecialRegister, Symbol, Vector
from .layout import Layout
from .memory import (
    I1,
    I8,
    I32,
    I64,
    PTR,
    all_lanes,
    declare,
    integer,
    load_known,
    load_unknown,
    masked_store,
    pick,
    pick_many,
    splat,
    store_known,
    store_unknown,
)
from .ptx import TYPE_BYTES
from .shapes import LANES, MOST_GROUPS, ZERO, Offsets, Shape, Shapes, special_operands, special_shape

INTS = ir.VectorType(I32, WARP)
MASK = ir.VectorType(I1, WARP)
SPIN_WEIGHT = 2048  # of a back edge of a loop that waits for other threads; see kBudget in grid.cpp
YIELD_AFTER = 4096  # back edges of the diverged function before it yields
YIELD_AFTER_SPINS = 32


@dataclass(frozen=True, slots=True)
class Place:
    """Addresses of one access: those of the leaders with known offsets from them, or one for every lane."""

    base: ir.Value | None
    offsets: Offsets | None
    groups: int
    vector: ir.Value | None


@dataclass(frozen=True, slots=True)
class Touch:
    """One access to memory by the lanes of a warp."""

    operation: Operation
    part: int  # 1 for the second access of an instruction (the target of cp.async), else 0
    space: str  # "global", "shared", "local", "const", "param" or "generic"
    place: Place  # host addresses
    address: Address | None  # as written, where the instruction has one
    mask: ir.Value  # <32 x i1>: the lanes that make it
    everyone: bool  # the mask is known to be all lanes
    size: int  # bytes of an element; 0: not known, others tell the elements
    count: int  # elements, one after the other
    reads: bool
    writes: bool
    request_bytes: int  # per lane, as one memory request; 0 for what an earlier Touch of the instruction counts
    values: tuple[ir.Value, ...] = ()  # what a store writes, a vector of integers per element


class Observer(Protocol):
    """Adds code to the translations. Methods are called while code is made, at the place where it will run.

    Make calls to C with `code.call_hook(index, *arguments)`: it calls LaunchConfig.hooks[index] as
    `void f(void* observer, WarpState* warp, arguments...)`. Masks are <32 x i1>; bitcast to i32 to pass them.
    `code.b` is the IRBuilder, `code.wide` an Emitter for 32 lanes.

    Code that was made is kept on disk under `name`, with what the observer `learned` as it was made; when it is
    found there again, `recall` takes that instead of the calls below.
    """

    name: str
    converged: bool
    """Whether there is a converged translation, and it is observed: its blocks, operations, waits and accesses."""

    def start(self, code: Code) -> None:
        """A translation begins."""

    def learned(self) -> Any:
        """What JSON can hold."""

    def recall(self, learned: Any) -> None:
        """Gives back what `learned` gave, as JSON returns it."""

    def on_block(self, code: Code, block: Block, mask: ir.Value) -> None:
        """A block begins, for the lanes in `mask`."""

    def on_wait(self, code: Code, operation: Operation, mask: ir.Value) -> None:
        """The lanes in `mask` come to an operation for which they may have to wait for others. Perhaps not the first
        time: while they wait they come here again."""

    def on_operation(self, code: Code, operation: Operation, mask: ir.Value) -> None:
        """An operation is about to execute for the lanes in `mask` (its guard included)."""

    def on_access(self, code: Code, touch: Touch) -> ir.Value:
        """Memory is about to be read or written, atomics included. The lanes that may do it: touch.mask or fewer."""

    def on_branch(self, code: Code, block: Block, taken: ir.Value, mask: ir.Value) -> None:
        """A conditional branch: `taken` are the lanes of `mask` that go to block.successors[0]."""


@dataclass(frozen=True, slots=True)
class Job:
    """All that translation needs to know of one kernel at one block size."""

    program: Program  # split, with liveness
    layout: Layout
    shapes: Shapes
    threads: int  # per block


def translate_converged(job: Job, observer: Observer | None = None) -> ir.Module:
    """A module with the function `converged`. Raises Unsupported."""
    return _Converged(job, observer).build()


def translate_diverged(job: Job, observer: Observer | None = None) -> ir.Module:
    """A module with the function `diverged`. Raises Unsupported."""
    return _Diverged(job, observer).build()


def reentries(job: Job) -> frozenset[int]:
    """Blocks where diverged code may become converged: joins of divergent branches, barriers, ends of waiting."""
    program = job.program
    post = joins(program)
    found = set()
    for block in program.blocks:
        control = block.control
        if control is None:
            continue
        if control.kind is Kind.BARRIER:
            found.add(block.successors[0])
        elif len(block.successors) > 1 and not all(job.shapes.registers[name].uniform for name in control.reads):
            found.add(post[block.index])
    for source, target in spinning(program):
        for inside in program.blocks[target : source + 1]:
            found.update(each for each in inside.successors if not target <= each <= source)
    return frozenset(k for k in found if 0 < k < len(program.blocks) and _can_go_on(program.blocks[k]))


def _can_go_on(block: Block) -> bool:
    return bool(block.operations or block.successors)


class Code:
    """What both translations share: operands, memory and the operations that are not rows of the rule table."""

    mask: ir.Value  # lanes that execute the current operation

    def __init__(self, job: Job, name: str, observer: Observer | None) -> None:
        self.observer = observer
        self.job, self.program, self.layout, self.shapes = job, job.program, job.layout, job.shapes
        self.module = ir.Module(name)
        self.module.triple = llvm.get_process_triple()
        self.function = ir.Function(self.module, ir.FunctionType(I32, [PTR]), name)
        self.function.attributes.add("nounwind")
        self.warp = self.function.args[0]
        self.b = ir.IRBuilder(self.function.append_basic_block("entry"))
        self.wide = Emitter(self.b, WARP, features=host_features())
        self.narrow = self.wide.at(1)
        self.emitters = {1: self.narrow, WARP: self.wide, **{n: self.wide.at(n) for n in (2, 4, MOST_GROUPS)}}
        self.block_state = self.field(PTR, at.WARP_BLOCK)
        self.shared_base = self.load_from(self.block_state, I64, at.BLOCK_SHARED)
        self.local_base = self.field(I64, at.WARP_LOCAL)
        self.params = self.load_from(self.block_state, I64, at.BLOCK_PARAMS)
        self.globals = self.load_from(self.block_state, PTR, at.BLOCK_GLOBALS)
        self.spin_edges = spinning(self.program)
        self.reentries = reentries(job)
        self.block = self.program.blocks[0]
        if observer:
            observer.start(self)

    # --- small pieces

    def pointer_to(self, base: ir.Value, offset: int) -> ir.Value:
        return self.b.gep(base, [I32(offset)], source_etype=I8) if offset else base

    def load_from(self, base: ir.Value, kind: ir.Type, offset: int, align: int | None = None) -> ir.Value:
        return self.b.load(self.pointer_to(base, offset), typ=kind, align=align or 4)

    def field(self, kind: ir.Type, offset: int) -> ir.Value:
        """A field of WarpState."""
        return self.load_from(self.warp, kind, offset)

    def set_field(self, value: ir.Value, offset: int) -> None:
        self.b.store(value, self.pointer_to(self.warp, offset), align=4)

    def new_block(self, name: str) -> ir.Block:
        return self.function.append_basic_block(name)

    def go_on_in(self, block: ir.Block) -> None:
        self.b.position_at_end(block)

    def give(self, status: int) -> None:
        self.b.ret(I32(status))

    def call_hook(self, index: int, *arguments: ir.Value, result: ir.Type | None = None) -> ir.Value:
        """Calls an observer's C function; see Observer."""
        observer = self.load_from(self.block_state, PTR, at.BLOCK_OBSERVER)
        return self.call_runtime(at.FIRST_HOOK + index, result or ir.VoidType(), [observer, self.warp, *arguments])

    def call_runtime(self, index: int, result: ir.Type, arguments: Sequence[ir.Value]) -> ir.Value:
        functions = self.load_from(self.block_state, PTR, at.BLOCK_FUNCTIONS)
        target = self.load_from(functions, PTR, 8 * index)
        kind = ir.FunctionType(result, [argument.type for argument in arguments])
        return self.b.call(_Callee(target, kind), arguments)

    def type_of(self, name: str) -> str:
        return "pred" if name == CARRY else self.program.registers[name]

    def unsupported(self, what: str, instruction: Instruction) -> Unsupported:
        return Unsupported(instruction.position, what, instruction.source_line)

    # --- operands

    def scalar(self, operand: Operand | None, kind: str) -> ir.Value:
        """Lane 0's value as PTX type `kind`."""
        return self.leaders(operand, kind, 1)

    def leaders(self, operand: Operand | None, kind: str, groups: int) -> ir.Value:
        """The values of the first lanes of `groups` groups as PTX type `kind`."""
        e = self.emitters[groups]
        if isinstance(operand, Register):
            return e.coerce(self.read(operand.name, groups), kind)
        if isinstance(operand, SpecialRegister):
            shape = special_shape(operand.name, self.shapes.block)
            if groups > 1 and not shape.uniform:
                every = pick(self.b, self.special_vector(operand.name), range(0, WARP, WARP // groups))
                return e.coerce(every, kind)
        return e.splat(self.narrow.coerce(self.literal(operand, kind), kind))

    def vector(self, operand: Operand | None, kind: str) -> ir.Value:
        """All lanes' values as PTX type `kind`."""
        return self.leaders(operand, kind, WARP)

    def literal(self, operand: Operand | None, kind: str) -> ir.Value:
        if isinstance(operand, Immediate):
            return self.immediate(operand, kind)
        if isinstance(operand, SpecialRegister):
            return self.special_scalar(operand.name)
        if isinstance(operand, Symbol):
            return self.symbol(operand)
        if operand is None:
            return ir.Constant(element_type(kind), ir.Undefined)
        raise TypeError(operand)

    def immediate(self, operand: Immediate, kind: str) -> ir.Value:
        if operand.is_float:
            if kind in ("f32", "f64", "f16"):
                if operand.bits is not None and kind == "f32" and operand.bits < 1 << 32:
                    return self.narrow.float_bits("f32", operand.bits)
                return self.narrow.const(kind, operand.value)
            return self.narrow.const(kind, operand.bits or 0)
        if kind in ("f32", "f64", "f16"):
            return self.narrow.const(kind, float(operand.value))
        return self.narrow.const(kind, int(operand.value))

    def symbol(self, symbol: Symbol) -> ir.Value:
        """An address as i64: an offset in shared and local memory, a host address elsewhere."""
        layout, name = self.layout, symbol.name
        if name in layout.shared:
            return I64(layout.shared[name] + symbol.offset)
        if name in layout.local:
            return I64(layout.local[name] + symbol.offset)
        if name in layout.parameters:
            return self.b.add(self.params, I64(layout.parameters[name] + symbol.offset))
        if name in layout.globals:
            address = self.load_from(self.globals, I64, 8 * layout.globals[name], align=8)
            return self.b.add(address, I64(symbol.offset)) if symbol.offset else address
        raise self.unsupported(f"the address of {name}", self.operation.instruction)

    def special_scalar(self, name: str) -> ir.Value:
        base, _, axis = name[1:].partition(".")
        k = "xyz".find(axis) if axis else 0
        if base == "tid":
            return self.field(I32, at.WARP_TID + 4 * WARP * k)
        if base == "ntid":
            return I32(self.shapes.block[k])
        if base == "ctaid":
            return self.load_from(self.block_state, I32, at.BLOCK_CTAID + 4 * k)
        if base == "nctaid":
            return self.load_from(self.block_state, I32, at.BLOCK_NCTAID + 4 * k)
        if base == "warpid":
            return self.field(I32, at.WARP_INDEX)
        if base == "nwarpid":
            return I32(-(-self.job.threads // WARP))
        if base == "dynamic_smem_size":
            return self.load_from(self.block_state, I32, at.BLOCK_DYNAMIC_SHARED)
        if base in ("total_smem_size", "aggr_smem_size"):
            return self.load_from(self.block_state, I32, at.BLOCK_TOTAL_SHARED)
        if base in ("clock", "clock64", "globaltimer", "clock_hi", "globaltimer_lo", "globaltimer_hi"):
            cycles = self.b.call(declare(self.b, "llvm.readcyclecounter", ir.FunctionType(I64, [])), [])
            if base.endswith("_hi"):
                return self.b.trunc(self.b.lshr(cycles, I64(32)), I32)
            return cycles if base in ("clock64", "globaltimer") else self.b.trunc(cycles, I32)
        if base in ("envreg1", "envreg2"):  # the halves of an address; cooperative groups read them
            workspace = self.load_from(self.block_state, I64, at.BLOCK_WORKSPACE)
            return self.b.trunc(self.b.lshr(workspace, I64(32)) if base == "envreg1" else workspace, I32)
        if base in ("laneid", "smid", "gridid") or base.startswith(
            ("envreg", "cluster_ctaid", "clusterid", "cluster_ctarank")
        ):
            return I32(0)
        if base == "nsmid" or base.startswith(("cluster_nctaid", "cluster_nctarank")):
            return I32(1)
        raise self.unsupported(f"the special register {name}", self.operation.instruction)

    def special_vector(self, name: str) -> ir.Value:
        base, _, axis = name[1:].partition(".")
        if base == "tid":
            return self.load_from(self.warp, INTS, at.WARP_TID + 4 * WARP * "xyz".index(axis), align=64)
        if base == "laneid":
            return vector_constant(I32, LANES)
        if base.startswith("lanemask_"):
            everything = (1 << WARP) - 1
            bits: Callable[[int], int] = {
                "eq": lambda k: 1 << k, "lt": lambda k: (1 << k) - 1, "le": lambda k: (2 << k) - 1,
                "gt": lambda k: everything & ~((2 << k) - 1), "ge": lambda k: everything & ~((1 << k) - 1),
            }[base.removeprefix("lanemask_")]  # fmt: skip
            values = [bits(k) for k in range(WARP)]
            return vector_constant(I32, [v - (1 << 32) if v >> 31 else v for v in values])
        return splat(self.b, self.special_scalar(name), WARP)

    def read(self, name: str, groups: int) -> ir.Value:
        """A register's values in the first lanes of `groups` groups; 1 gives a scalar."""
        raise NotImplementedError

    def write(self, name: str, value: ir.Value, kind: str) -> None:
        """Sets a register to a value of PTX type `kind`, in the lanes of the operation's guard."""
        raise NotImplementedError

    def as_register(self, value: ir.Value, kind: str, name: str) -> ir.Value:
        """A value of PTX type `kind` as the register's own type: narrower integers are extended by their sign."""
        e = self.emitter_of(value)
        own = self.type_of(name)
        if size_of(kind) < size_of(own) and isinstance(e.element_of(value), ir.IntType) and is_signed(kind):
            value = e.resize(value, size_of(own), signed=True)
        return e.coerce(value, own)

    def emitter_of(self, value: ir.Value) -> Emitter:
        return self.emitters[value.type.count if isinstance(value.type, ir.VectorType) else 1]

    def resized(self, value: ir.Value, groups: int) -> ir.Value:
        """A value for some number of groups as one for `groups`: repeated, or only the leaders' kept."""
        have = self.emitter_of(value).lanes
        if have == groups:
            return value
        if have == 1:
            return self.emitters[groups].splat(value)
        if groups == 1:
            return self.b.extract_element(value, I32(0))
        return pick_many(self.b, value, [k * have // groups for k in range(groups)])

    # --- addresses

    def shape_of(self, operand: Operand | None) -> Shape | None:
        """The operand's shape where it may be relied on, else None."""
        raise NotImplementedError

    def groups_of(self, name: str) -> int:
        """How many leaders' values a register is kept as; WARP for a value per lane."""
        raise NotImplementedError

    def place(self, address: Operand, space: str) -> Place:
        assert isinstance(address, Address)
        base, offset = address.base, address.offset
        if isinstance(base, Symbol):
            here = self.symbol(Symbol(base.name, offset))
            return self._in_space(Place(here, ZERO, 1, None), space)
        if isinstance(base, Immediate):
            return self._in_space(Place(I64(int(base.value) + offset), ZERO, 1, None), space)
        kind = "b64" if size_of(self.type_of(base.name)) == 64 else "b32"
        shape = self.shape_of(base)
        if shape and shape.offsets is not None:
            e = self.emitters[shape.groups]
            value = self.leaders(base, kind, shape.groups)
            if offset:
                value = self.b.add(value, e.const(kind, offset))
            if kind == "b32" and shape.offsets != ZERO and not self.everyone():  # a masked lane's may wrap around
                value = self.b.add(self.resized(value, WARP), vector_constant(I32, shape.offsets))
                return self._in_space(Place(None, None, 1, self.wide.resize(value, 64, signed=False)), space)
            place = Place(e.resize(value, 64, signed=False), shape.offsets, shape.groups, None)
            return self._in_space(place, space)
        value = self.vector(base, kind)
        if offset:
            value = self.b.add(value, self.wide.const(kind, offset))
        return self._in_space(Place(None, None, 1, self.wide.resize(value, 64, signed=False)), space)

    def _in_space(self, place: Place, space: str) -> Place:
        if space not in ("shared", "local"):
            return place
        start = self.shared_base if space == "shared" else self.local_base
        stride = self.layout.local_bytes if space == "local" else 0
        if place.base is not None and place.offsets is not None and not (stride and place.groups > 1):
            offsets = place.offsets
            if stride:
                offsets = tuple(offset + lane * stride for lane, offset in enumerate(offsets))
            return Place(self.b.add(place.base, self.emitters[place.groups].splat(start)), offsets, place.groups, None)
        vector = self.b.add(self.addresses(place), splat(self.b, start, WARP))
        if stride:
            vector = self.b.add(vector, vector_constant(I64, [lane * stride for lane in range(WARP)]))
        return Place(None, None, 1, vector)

    def addresses(self, place: Place) -> ir.Value:
        """A place as <32 x i64>."""
        if place.vector is not None:
            return place.vector
        vector = self.resized(place.base, WARP)
        return vector if place.offsets == ZERO else self.b.add(vector, vector_constant(I64, place.offsets or ZERO))

    # --- operations

    operation: Operation

    def everyone(self) -> bool:
        """Whether all 32 lanes execute the current operation, for certain."""
        raise NotImplementedError

    def lanes_here(self) -> ir.Value:
        """The lanes that are at the current operation, those whose guard keeps them from executing it too."""
        return all_lanes()

    def next_blocks(self) -> ir.Value:
        """A pointer to what each lane does next, as in WarpState.next; null where all lanes are together."""
        return ir.Constant(PTR, None)

    def execute(self, operation: Operation) -> None:
        """Code for an operation that is not control flow. self.mask is set."""
        handler = _HANDLERS.get(operation.kind)
        if handler:
            handler(self, operation)

    def rule(self, operation: Operation) -> None:
        instruction, row = operation.instruction, operation.row
        assert row
        destination_kinds, source_kinds = row.signature(instruction)
        flat = [each for operand in instruction.operands for each in flatten(operand)]
        targets, sources = flat[: len(destination_kinds)], flat[len(destination_kinds) :]
        groups = self.groups_for(operation)
        emitter = self.emitters[groups]
        emitter.mask = self.mask
        arguments = []
        for source, kind in zip(sources, source_kinds, strict=True):
            if isinstance(source, Address):
                arguments.append(self.rule_addresses(operation, source, emitter))
            else:
                arguments.append(self.leaders(source, kind, groups))
        if row.carry_in:
            arguments.append(self.leaders(Register(CARRY), "pred", groups))
        result = row.emit(emitter, instruction, arguments)
        results = () if result is None else result if isinstance(result, tuple) else (result,)
        names = [target.name if isinstance(target, Register) else None for target in targets]
        kinds = list(destination_kinds)
        if row.carry_out:
            names.append(CARRY)
            kinds.append("pred")
        for name, value, kind in zip(names, results, kinds, strict=True):
            if name is not None:
                self.write(name, value, kind)

    def groups_for(self, operation: Operation) -> int:
        """For how many leaders to compute a rule; WARP for every lane."""
        raise NotImplementedError

    def space_of(self, instruction: Instruction) -> str:
        for modifier in instruction.modifiers:
            if modifier in ("shared", "shared::cta"):
                return "shared"
            if modifier in ("global", "local"):
                return modifier
        return "generic"

    def rule_addresses(self, operation: Operation, source: Address, emitter: Emitter) -> ir.Value:
        """The addresses that a rule touches, observed; lanes that may not touch theirs are taken out of the mask, or
        where a rule has no mask, sent to memory that nobody uses."""
        instruction = operation.instruction
        space = self.space_of(instruction)
        place = self.place(source, space)
        addresses = self.addresses(place)
        opcode = instruction.opcode
        if self.observer is None or opcode in _TOUCH_NOTHING:
            return addresses
        # What an exchange takes out of the memory is seldom of interest to anybody.
        reads = opcode != "stmatrix" and "exch" not in instruction.modifiers
        writes = opcode in _WRITES
        size = size_of(instruction.types[-1]) // 8 if instruction.types else 0
        if opcode == "wmma":  # the rule finds the addresses of its elements; as a request, only their first is known
            emitter.touch = lambda where, size: self.element_addresses(operation, space, where, size)
            request = Touch(operation, 0, space, place, source, self.mask, self.everyone(), 0, 1, True, False,
                            request_bytes=size)  # fmt: skip
            self.observer.on_access(self, request)
            return addresses
        mask, count = self.mask, _vector_length(instruction)
        if opcode in ("ldmatrix", "stmatrix"):
            matrices = next(int(m[1]) for m in instruction.modifiers if m in ("x1", "x2", "x4"))
            size, count = 4, 4
            mask = self.b.and_(mask, vector_constant(I1, [lane < 8 * matrices for lane in range(WARP)]))
        touch = Touch(
            operation, 0, space, place, source, mask, self.everyone() and mask is self.mask, size, count, reads, writes,
            request_bytes=size * count,
        )  # fmt: skip
        allowed = self.observer.on_access(self, touch)
        if allowed is mask:
            return addresses
        if opcode in ("ldmatrix", "stmatrix"):
            return self.b.select(allowed, addresses, self.sink())
        emitter.mask = allowed
        return addresses

    def element_addresses(self, operation: Operation, space: str, where: ir.Value, size: int) -> ir.Value:
        """As rule_addresses, for an instruction that finds the addresses of its elements itself."""
        assert self.observer
        writes = "store" in operation.instruction.modifiers
        place = Place(None, None, 1, where)
        touch = Touch(
            operation, 0, space, place, None, self.mask, self.everyone(), size, 1, not writes, writes,
            request_bytes=0,
        )  # fmt: skip
        allowed = self.observer.on_access(self, touch)
        return where if allowed is self.mask else self.b.select(allowed, where, self.sink())

    def sink(self) -> ir.Value:
        """Addresses of memory that nobody uses otherwise."""
        here = self.b.ptrtoint(self.pointer_to(self.block_state, at.BLOCK_SINK), I64)
        return splat(self.b, here, WARP)

    def touched(self, touch: Touch) -> ir.Value:
        """The lanes that may do it; touch.mask itself when nobody objects."""
        return self.observer.on_access(self, touch) if self.observer else touch.mask

    def load(self, operation: Operation) -> None:
        instruction, access = operation.instruction, operation.access
        assert access
        targets = flatten(instruction.operands[0])
        place = self.place(instruction.operands[1], access.space)
        kind, count = access.type, access.count
        size = TYPE_BYTES[kind]
        if kind == "b128":
            size, count = 8, 2
        if access.volatile:
            self.memory_fence()
        address = instruction.operands[1]
        assert isinstance(address, Address)
        mask = self.touched(
            Touch(operation, 0, access.space, place, address, self.mask, self.everyone(), size, count, True, False,
                  request_bytes=access.bytes_per_lane)
        )  # fmt: skip
        if place.base is not None and place.offsets is not None and self.everyone():
            base, offsets, groups = place.base, place.offsets, place.groups
            if mask is self.mask:
                values = load_known(self.b, base, offsets, groups, size, count)
            else:
                values = self.either(
                    mask,
                    lambda: load_known(self.b, base, offsets, groups, size, count),
                    lambda: load_unknown(self.b, self.addresses(place), mask, size, count),
                )
        else:
            values = load_unknown(self.b, self.addresses(place), mask, size, count)
        if access.volatile:
            self.memory_fence()
        if kind == "b128":
            e = self.emitter_of(values[0])
            low, high = (e.resize(value, 128, signed=False) for value in values)
            values = [self.b.or_(low, self.b.shl(high, e.const("b128", 64)))]
        for target, value in zip(targets, values, strict=True):
            if isinstance(target, Register):
                e = self.emitter_of(value)
                self.write(target.name, e.bitcast(value, e.type_of(kind)), kind)

    def store(self, operation: Operation) -> None:
        instruction, access = operation.instruction, operation.access
        assert access
        sources = flatten(instruction.operands[1])
        address = instruction.operands[0]
        assert isinstance(address, Address)
        place = self.place(address, access.space)
        kind = access.type
        size, count = TYPE_BYTES[kind], access.count
        if kind == "b128":
            size, count = 8, 2

        def vectors() -> list[ir.Value]:
            shape = self.wide.shape(integer(TYPE_BYTES[kind]))
            values = [self.wide.bitcast(self.vector(source, kind), shape) for source in sources]
            return self.halves(values) if kind == "b128" else values

        if access.volatile:
            self.memory_fence()
        mask, known = self.mask, place.base is not None and place.offsets is not None and self.everyone()
        if self.observer:
            mask = self.observer.on_access(
                self,
                Touch(operation, 0, access.space, place, address, self.mask, self.everyone(), size, count, False, True,
                      request_bytes=access.bytes_per_lane, values=tuple(vectors())),
            )  # fmt: skip
        if known:
            assert place.base is not None and place.offsets is not None
            base, offsets, groups = place.base, place.offsets, place.groups
            if offsets == ZERO and groups == 1:
                values = [self.last_lane(source, kind) for source in sources]
                values = self.halves(values) if kind == "b128" else values
            else:
                values = vectors()
            if mask is self.mask:
                store_known(self.b, base, offsets, groups, values, size)
            else:
                each = vectors()
                self.either(
                    mask,
                    lambda: store_known(self.b, base, offsets, groups, values, size),
                    lambda: store_unknown(self.b, self.addresses(place), mask, each, size),
                )
        else:
            store_unknown(self.b, self.addresses(place), mask, vectors(), size)
        if access.volatile:
            self.memory_fence()

    def either(
        self,
        mask: ir.Value,
        everyone: Callable[[], list[ir.Value] | None],
        some: Callable[[], list[ir.Value] | None],
    ) -> list[ir.Value]:
        """What `everyone` gives where all lanes are in `mask`, else what `some` gives, in the shapes of the former."""
        b = self.b
        all_of_them, part, done = (self.new_block(name) for name in ("all_lanes", "some_lanes", "access_done"))
        b.cbranch(b.icmp_unsigned("==", b.bitcast(mask, I32), I32(-1)), all_of_them, part)
        self.go_on_in(all_of_them)
        values = everyone() or []
        first = b.block
        b.branch(done)
        self.go_on_in(part)
        others = [
            self.resized(value, self.emitter_of(like).lanes) for value, like in zip(some() or [], values, strict=True)
        ]
        second = b.block
        b.branch(done)
        self.go_on_in(done)
        merged = []
        for value, other in zip(values, others, strict=True):
            phi = b.phi(value.type)
            phi.add_incoming(value, first)
            phi.add_incoming(other, second)
            merged.append(phi)
        return merged

    def last_lane(self, operand: Operand | None, kind: str) -> ir.Value:
        """What is left when all lanes store to one address, as an integer."""
        shape = self.shape_of(operand)
        if shape and shape.uniform:
            value = self.scalar(operand, kind)
        else:
            value = self.b.extract_element(self.vector(operand, kind), I32(WARP - 1))
        return self.narrow.bitcast(value, integer(TYPE_BYTES[kind]))

    def halves(self, values: list[ir.Value]) -> list[ir.Value]:
        (value,) = values
        e = self.emitter_of(value)
        return [e.resize(value, 64, signed=False), e.resize(self.b.lshr(value, e.const("b128", 64)), 64, signed=False)]

    def memory_fence(self) -> None:
        """Keeps the compiler from moving or merging memory accesses across this place."""
        self.b.asm(ir.FunctionType(ir.VoidType(), []), "", "~{memory}", [], side_effect=True)

    def copy(self, operation: Operation) -> None:
        """cp.async, done at once."""
        instruction = operation.instruction
        target, source, size_operand, *rest = copy_operands(instruction)
        assert isinstance(size_operand, Immediate)
        size = int(size_operand.value)
        element, count = (8, size // 8) if size >= 8 else (4, 1)
        to, origin = self.place(target, "shared"), self.place(source, "global")
        known = self.everyone() and to.offsets is not None and origin.offsets is not None and not rest
        if known and to.groups == origin.groups == 1 and self.observer is None:
            assert to.base is not None and to.offsets and origin.base is not None and origin.offsets
            values = load_known(self.b, origin.base, origin.offsets, 1, element, count)
            if to.offsets != ZERO:
                values = [v if isinstance(v.type, ir.VectorType) else splat(self.b, v, WARP) for v in values]
            else:
                values = [
                    self.b.extract_element(v, I32(WARP - 1)) if isinstance(v.type, ir.VectorType) else v for v in values
                ]
            store_known(self.b, to.base, to.offsets, 1, values, element)
            return
        sources = self.addresses(origin)
        if rest:
            element, count = 4, size // 4
            values = self.copied_words(operation, sources, self.bytes_to_copy(rest[0], size), count)
        else:
            mask = self.copy_part(operation, 0, "global", origin, self.mask, element, count, size)
            values = load_unknown(self.b, sources, mask, element, count)
        mask = self.copy_part(operation, 1, "shared", to, self.mask, element, count, size, tuple(values))
        store_unknown(self.b, self.addresses(to), mask, values, element)

    def copy_part(
        self, operation: Operation, part: int, space: str, place: Place, mask: ir.Value, size: int, count: int,
        request_bytes: int, values: tuple[ir.Value, ...] = (),
    ) -> ir.Value:  # fmt: skip
        """The lanes of `mask` that may read (part 0) or write (part 1) their piece of a copy."""
        everyone = self.everyone() and mask is self.mask
        return self.touched(
            Touch(operation, part, space, place, None, mask, everyone, size, count, part == 0, part == 1,
                  request_bytes, values)
        )  # fmt: skip

    def bytes_to_copy(self, operand: Operand, size: int) -> ir.Value:
        """What cp.async's fourth operand says: src-size, or that the source is ignored. The rest becomes zeros."""
        if isinstance(operand, Register) and self.type_of(operand.name) == "pred":
            ignored = self.vector(operand, "pred")
            return self.b.select(ignored, self.wide.const("b32", 0), self.wide.const("b32", size))
        return self.vector(operand, "b32")

    def copied_words(self, operation: Operation, sources: ir.Value, used: ir.Value, count: int) -> list[ir.Value]:
        """`count` words of 4 bytes each; bytes from the first `used` on are zeros."""
        b, const, values = self.b, self.wide.const, []
        for k in range(count):
            mask = wanted = b.and_(self.mask, b.icmp_unsigned(">", used, const("b32", 4 * k)))
            where = b.add(sources, const("b64", 4 * k)) if k else sources
            place = Place(None, None, 1, where)
            mask = self.copy_part(operation, 0, "global", place, wanted, 4, 1, 4 * count if k == 0 else 0)
            (word,) = load_unknown(b, where, mask, 4, 1)
            left = b.sub(used, const("b32", 4 * k))
            some = b.sub(b.shl(const("b32", 1), b.mul(left, const("b32", 8))), const("b32", 1))
            bits = b.select(b.icmp_unsigned("<", left, const("b32", 4)), some, const("b32", -1))
            values.append(b.select(wanted, b.and_(word, bits), const("b32", 0)))
        return values

    def move(self, operation: Operation) -> None:
        target, source = operation.instruction.operands
        assert isinstance(target, Register)
        kind = operation.instruction.types[0]
        self.write(target.name, self.leaders(source, kind, self.groups_of(target.name)), kind)

    def convert_address(self, operation: Operation) -> None:
        instruction = operation.instruction
        target, source = instruction.operands
        assert isinstance(target, Register)
        groups = self.groups_of(target.name)
        local = "local" in instruction.modifiers
        kind = instruction.types[0]
        value = self.leaders(source, kind, groups)
        e = self.emitters[groups]
        value = e.resize(value, 64, signed=False)
        start: ir.Value | None = None
        if local:
            lanes = vector_constant(I64, [lane * self.layout.local_bytes for lane in range(WARP)])
            start = self.b.add(splat(self.b, self.local_base, WARP), lanes)
        elif any(modifier in ("shared", "shared::cta") for modifier in instruction.modifiers):
            start = e.splat(self.shared_base)
        if start is not None:
            value = self.b.sub(value, start) if "to" in instruction.modifiers else self.b.add(value, start)
        self.write(target.name, e.resize(value, size_of(kind), signed=False), kind)

    def is_space(self, operation: Operation) -> None:
        target, source = operation.instruction.operands
        assert isinstance(target, Register)
        space = operation.instruction.modifiers[0].removesuffix("::cta")
        value = self.vector(source, "b64")
        shared = self._within(value, self.shared_base, self.load_from(self.block_state, I32, at.BLOCK_TOTAL_SHARED))
        local = self._within(value, self.local_base, I32(self.layout.local_bytes * WARP))
        none = vector_constant(I1, [0] * WARP)
        result = {"shared": shared, "local": local, "global": self.b.not_(self.b.or_(shared, local))}.get(space, none)
        self.write(target.name, result, "pred")

    def _within(self, value: ir.Value, start: ir.Value, size: ir.Value) -> ir.Value:
        distance = self.b.sub(value, splat(self.b, start, WARP))
        return self.b.icmp_unsigned("<", distance, splat(self.b, self.b.zext(size, I64), WARP))

    def barrier_result(self, operation: Operation) -> None:
        target = operation.instruction.operands[0]
        assert isinstance(target, Register)
        value = self.field(I32, at.WARP_BARRIER_RESULT)
        if "popc" in operation.instruction.modifiers:
            self.write(target.name, value, "b32")
        else:
            self.write(target.name, self.b.icmp_unsigned("!=", value, I32(0)), "pred")

    # --- functions that the emulator provides

    def call(self, operation: Operation) -> None:
        results, target, arguments = operation.instruction.operands
        assert isinstance(target, Symbol)
        places = [self._argument(each, operation) for each in flatten(arguments) if each]
        outcome = [self._argument(each, operation) for each in flatten(results) if each]
        bits = self.b.bitcast(self.mask, I32)
        if target.name == "__assertfail":
            self.report(self.block.index)
            lane = self.b.call(declare(self.b, "llvm.cttz.i32", ir.FunctionType(I32, [I32, I1])), [bits, I1(0)])
            address = self.b.add(self._lane_memory(lane), I64(places[0]))
            self.b.store(address, self.pointer_to(self.warp, at.WARP_MESSAGE), align=8)
            self.give(at.ASSERTED)
            self.go_on_in(self.new_block("after_assertion"))
            return
        head, body, done = (self.new_block(name) for name in ("each_lane", "lane", "lanes_done"))
        before = self.b.block
        self.b.branch(head)
        self.go_on_in(head)
        rest = self.b.phi(I32)
        rest.add_incoming(bits, before)
        self.b.cbranch(self.b.icmp_unsigned("==", rest, I32(0)), done, body)
        self.go_on_in(body)
        lane = self.b.call(declare(self.b, "llvm.cttz.i32", ir.FunctionType(I32, [I32, I1])), [rest, I1(0)])
        memory = self._lane_memory(lane)
        values = [self.b.load(self.b.inttoptr(self.b.add(memory, I64(p)), PTR), typ=I64, align=4) for p in places]
        index = {"vprintf": at.PRINTF, "malloc": at.MALLOC, "free": at.FREE}[target.name]
        kind = {"vprintf": I32, "malloc": I64, "free": ir.VoidType()}[target.name]
        result = self.call_runtime(index, kind, values)
        if outcome:
            self.b.store(result, self.b.inttoptr(self.b.add(memory, I64(outcome[0])), PTR), align=4)
        rest.add_incoming(self.b.and_(rest, self.b.sub(rest, I32(1))), self.b.block)
        self.b.branch(head)
        self.go_on_in(done)

    def _argument(self, operand: Operand, operation: Operation) -> int:
        if not isinstance(operand, Symbol) or operand.name not in self.layout.local:
            raise self.unsupported("a call with register arguments", operation.instruction)
        return self.layout.local[operand.name]

    def _lane_memory(self, lane: ir.Value) -> ir.Value:
        return self.b.add(self.local_base, self.b.mul(self.b.zext(lane, I64), I64(self.layout.local_bytes)))

    def report(self, site: int) -> None:
        self.set_field(I32(site), at.WARP_SITE)

    # --- register slots in the frame

    def slot(self, name: str) -> ir.Value:
        return self.pointer_to(self.warp, self.layout.slots[name])

    def load_slot(self, name: str) -> ir.Value:
        if self.type_of(name) == "pred":
            return self.b.bitcast(self.b.load(self.slot(name), typ=I32, align=4), MASK)
        return self.b.load(self.slot(name), typ=self.wide.type_of(self.type_of(name)), align=64)

    def store_slot(self, name: str, vector: ir.Value) -> None:
        if self.type_of(name) == "pred":
            self.b.store(self.b.bitcast(vector, I32), self.slot(name), align=4)
        else:
            self.b.store(vector, self.slot(name), align=64)

    def barrier_operands(self, operation: Operation) -> tuple[Operand, Operand, Operand | None, int]:
        """(barrier, thread count, predicate, WarpState.barrier_operation) of bar.sync, .red and .arrive."""
        instruction = operation.instruction
        operands = list(instruction.operands)
        if "red" not in instruction.modifiers:
            count = operands[1] if len(operands) > 1 else Immediate(None, 0, False)
            return operands[0], count, None, 0
        code = 1 + ("popc", "and", "or").index(instruction.modifiers[-1])
        inner = operands[1:]
        count = inner[1] if len(inner) > 2 else Immediate(None, 0, False)
        return inner[0], count, inner[-1], code


_TOUCH_NOTHING = frozenset(("prefetch", "prefetchu", "applypriority", "discard"))
_WRITES = frozenset(("atom", "red", "stmatrix"))


def _vector_length(instruction: Instruction) -> int:
    """Elements per lane of an atomic operation."""
    if "cas" in instruction.modifiers:
        return 1
    return next((len(operand.elements) for operand in instruction.operands if isinstance(operand, Vector)), 1)


_HANDLERS: dict[Kind, Callable[[Code, Operation], None]] = {
    Kind.RULE: Code.rule, Kind.LOAD: Code.load, Kind.STORE: Code.store, Kind.COPY: Code.copy, Kind.MOVE: Code.move,
    Kind.CONVERT_ADDRESS: Code.convert_address, Kind.IS_SPACE: Code.is_space, Kind.CALL: Code.call,
    Kind.BARRIER_RESULT: Code.barrier_result,
}  # fmt: skip


class _Callee:
    """A function pointer, as llvmlite's call wants it."""

    def __init__(self, pointer: ir.Value, kind: ir.FunctionType) -> None:
        self.function_type = kind
        self.type = pointer.type
        self.pointer = pointer
        self.calling_convention = ""

    def get_reference(self) -> str:
        return str(self.pointer.get_reference())


# --- all lanes together


class _Converged(Code):
    def __init__(self, job: Job, observer: Observer | None) -> None:
        super().__init__(job, "converged", observer)
        self.guard: ir.Value | None = None  # i1 if uniform, <32 x i1> if not
        self.values: dict[str, dict[int, ir.Value]] = {}  # register -> groups -> value, in the current block
        self.mask = all_lanes()

    def build(self) -> ir.Module:
        blocks = self.program.blocks
        self.homes = {
            name: self.b.alloca(self.emitters[self.groups_of(name)].type_of(kind))
            for name, kind in (*self.program.registers.items(), (CARRY, "pred"))
        }
        for name in blocks[0].live_in:  # never written on some path
            home = self.homes[name]
            self.b.store(ir.Constant(home.allocated_type, None), home)
        self.budget = self.b.alloca(I32)
        self.b.store(self.field(I32, at.WARP_BUDGET), self.budget)
        self.places = [self.new_block(f"block{block.index}") for block in blocks]
        entry = self.b.block
        resumes = set(self.reentries)
        for block in blocks:
            if block.control and block.control.kind in (Kind.BARRIER, Kind.ARRIVE):
                resumes.add(block.successors[0])
        points = [(k, self.new_block(f"resume{k}")) for k in sorted(resumes)]
        for k, place in points:
            self.go_on_in(place)
            for name in sorted(blocks[k].live_in):
                self.restore(name)
            self.b.branch(self.places[k])
        self.go_on_in(entry)
        choice = self.b.switch(self.field(I32, at.WARP_RESUME), self.places[0])
        for k, place in points:
            choice.add_case(I32(k + 1), place)
        for block in blocks:
            self.block = block
            self.go_on_in(self.places[block.index])
            self.values = {}
            if self.observer:
                self.observer.on_block(self, block, all_lanes())
            for operation in block.operations:
                self.operation = operation
                self.one(operation)
            self.finish(block)
        return self.module

    def one(self, operation: Operation) -> None:
        guard = operation.instruction.guard
        self.guard, self.mask = None, all_lanes()
        if guard:
            uniform = self.shapes.registers[guard.name].uniform
            self.guard = self.scalar(guard, "pred") if uniform else self.vector(guard, "pred")
            if operation.instruction.guard_negated:
                self.guard = self.b.not_(self.guard)
            self.mask = self.wide.splat(self.guard) if uniform else self.guard
        if id(operation) in self.shapes.checks:
            self.check(operation)
        if self.observer:
            if operation.waits_for_lanes:
                self.observer.on_wait(self, operation, all_lanes())
            self.observer.on_operation(self, operation, self.mask)
        self.execute(operation)
        self.guard = None

    # --- registers

    def groups_of(self, name: str) -> int:
        shape = self.shapes.registers[name]
        return WARP if shape.offsets is None else shape.groups

    def shape_of(self, operand: Operand | None) -> Shape | None:
        return self.shapes.of(operand)

    def everyone(self) -> bool:
        return self.guard is None

    def groups_for(self, operation: Operation) -> int:
        if operation.row is None or operation.row.warp_wide:
            return WARP
        if self.guard is not None and isinstance(self.guard.type, ir.VectorType):
            return WARP
        groups = max((self.groups_of(name) for name in operation.writes), default=WARP)
        if groups < WARP:
            return groups
        shapes = [self.shapes.registers[name] for name in operation.reads]
        shapes += special_operands(operation, self.shapes.block)
        return max((shape.even or WARP for shape in shapes), default=1)

    def read(self, name: str, groups: int) -> ir.Value:
        known = self.values.setdefault(name, {})
        if groups not in known:
            known[groups] = self._read(name, groups)
        return known[groups]

    def _read(self, name: str, groups: int) -> ir.Value:
        shape, kind = self.shapes.registers[name], self.type_of(name)
        e = self.emitters[groups]
        if shape.constant is not None and isinstance(element_type(kind), ir.IntType):
            return e.const(kind, shape.constant)
        own = self.groups_of(name)
        if own == groups:
            return self.b.load(self.homes[name])
        value = self.resized(self.read(name, own), groups)
        if shape.offsets is None or groups <= own or shape.offsets == ZERO:
            return value
        offsets = shape.offsets[:: WARP // groups]
        return self.b.add(value, vector_constant(value.type.element, offsets)) if any(offsets) else value

    def write(self, name: str, value: ir.Value, kind: str) -> None:
        groups = self.groups_of(name)
        value = self.resized(self.as_register(value, kind, name), groups)
        if self.guard is not None:
            condition = self.guard
            if isinstance(condition.type, ir.VectorType):
                condition = self.resized(condition, groups)
            value = self.b.select(condition, value, self.read(name, groups))
        self.values[name] = {groups: value}
        self.b.store(value, self.homes[name])

    def restore(self, name: str) -> None:
        """Reads a register back from its slot, where lane 0's or every lane's value is."""
        groups = self.groups_of(name)
        if groups > 1:
            value = self.resized(self.load_slot(name), groups)
        elif self.type_of(name) == "pred":
            value = self.b.trunc(self.b.load(self.slot(name), typ=I32, align=4), I1)
        else:
            value = self.b.load(self.slot(name), typ=element_type(self.type_of(name)), align=8)
        self.b.store(value, self.homes[name])

    def keep(self, name: str) -> None:
        """Writes a register to its slot, for `restore`."""
        if self.groups_of(name) > 1:
            self.store_slot(name, self.read(name, WARP))
        elif self.type_of(name) == "pred":
            self.b.store(self.b.zext(self.read(name, 1), I32), self.slot(name), align=4)
        else:
            self.b.store(self.read(name, 1), self.slot(name), align=8)

    # --- leaving

    def check(self, operation: Operation) -> None:
        """Leaves to diverged code if widening an operand would not keep its lanes' offsets."""
        instruction = operation.instruction
        kind = instruction.types[-1]
        bits, by_sign = size_of(kind), is_signed(kind)
        wrong: ir.Value | None = None
        for operand in instruction.operands[1:3]:
            shape = self.shapes.of(operand, bits)
            if shape.offsets is None or shape.offsets == ZERO:
                continue
            e = self.emitters[shape.groups]
            base = self.leaders(operand, kind, shape.groups)
            compare = self.b.icmp_signed if by_sign else self.b.icmp_unsigned
            high = ((1 << (bits - 1)) if by_sign else (1 << bits)) - 1
            low = -(1 << (bits - 1)) if by_sign else 0
            above, below = max(0, *shape.offsets), min(0, *shape.offsets)
            for test in (
                compare(">", base, e.const(kind, high - above)) if above else None,
                compare("<", base, e.const(kind, low - below)) if below else None,
            ):
                if test is not None:
                    if shape.groups > 1:
                        some = self.b.bitcast(test, ir.IntType(shape.groups))
                        test = self.b.icmp_unsigned("!=", some, ir.Constant(some.type, 0))
                    wrong = test if wrong is None else self.b.or_(wrong, test)
        if wrong is None:
            return
        leave, stay = self.new_block("wraps"), self.new_block("does_not_wrap")
        self.b.cbranch(wrong, leave, stay)
        self.go_on_in(leave)
        kept = {name: dict(known) for name, known in self.values.items()}
        self.leave([self.block.index], vector_constant(I32, [self.block.index] * WARP), at.DIVERGED)
        self.values = kept
        self.go_on_in(stay)

    def leave(self, targets: Iterable[int], next_blocks: ir.Value, status: int) -> None:
        """Stores everything that is live in `targets` as vectors, each lane's next block, and returns."""
        for name in sorted(set().union(*(self.program.blocks[k].live_in for k in targets))):
            self.store_slot(name, self.read(name, WARP))
        self.b.store(next_blocks, self.pointer_to(self.warp, at.WARP_NEXT), align=64)
        self.b.store(self.b.load(self.budget), self.pointer_to(self.warp, at.WARP_BUDGET))
        self.give(status)

    # --- control flow

    def finish(self, block: Block) -> None:
        control = block.control
        if control is None:
            if block.successors and block.successors[0] < len(self.places):
                self.jump(block.successors[0])
            else:
                self.give(at.EXITED)
            return
        self.operation = control
        if self.observer:
            self.observer.on_operation(self, control, all_lanes())
        {
            Kind.BRANCH: self.finish_branch, Kind.INDIRECT_BRANCH: self.finish_indirect, Kind.EXIT: self.finish_exit,
            Kind.TRAP: self.finish_trap, Kind.BARRIER: self.finish_barrier, Kind.ARRIVE: self.finish_arrive,
        }[control.kind](block)  # fmt: skip

    def jump(self, target: int) -> None:
        self.b.branch(self.edge(target))

    def edge(self, target: int) -> ir.Block:
        """Where to branch in order to go to `target`; back edges are counted on the way."""
        source = self.block.index
        if target > source:
            return self.places[target]
        here = self.b.block
        kept = {name: dict(known) for name, known in self.values.items()}
        edge, empty, leave = (self.new_block(f"{name}{source}_{target}") for name in ("back", "tick", "yield"))
        self.go_on_in(edge)
        spins = (source, target) in self.spin_edges
        left = self.b.sub(self.b.load(self.budget), I32(SPIN_WEIGHT if spins else 1))
        self.b.store(left, self.budget)
        go_on = self.b.icmp_signed(">=", left, I32(0))
        self.b.cbranch(go_on, self.places[target], empty)
        self.go_on_in(empty)
        self.report(target)
        answer = self.call_runtime(at.TICK, I32, [self.warp, I32(int(spins))])
        self.b.store(self.field(I32, at.WARP_BUDGET), self.budget)
        self.b.cbranch(self.b.icmp_unsigned("!=", answer, I32(0)), leave, self.places[target])
        self.go_on_in(leave)
        self.values = {}
        self.leave([target], vector_constant(I32, [target] * WARP), at.YIELDED)
        self.values = kept
        self.go_on_in(here)
        return edge

    def finish_branch(self, block: Block) -> None:
        instruction = self.operation.instruction
        if instruction.guard is None:
            self.jump(block.successors[0])
            return
        target, fall = block.successors
        if self.shapes.registers[instruction.guard.name].uniform:
            taken = self.scalar(instruction.guard, "pred")
            yes, no = self.edge(target), self.edge(fall)
            if instruction.guard_negated:
                yes, no = no, yes
            self.b.cbranch(taken, yes, no)
            return
        lanes = self.vector(instruction.guard, "pred")
        if instruction.guard_negated:
            lanes = self.b.not_(lanes)
        bits = self.b.bitcast(lanes, I32)
        yes, no = self.edge(target), self.edge(fall)
        partly, parted = self.new_block("partly"), self.new_block("parted")
        self.b.cbranch(self.b.icmp_unsigned("==", bits, I32(-1)), yes, partly)
        self.go_on_in(partly)
        self.b.cbranch(self.b.icmp_unsigned("==", bits, I32(0)), no, parted)
        self.go_on_in(parted)
        next_blocks = self.b.select(lanes, vector_constant(I32, [target] * WARP), vector_constant(I32, [fall] * WARP))
        self.leave([target, fall], next_blocks, at.DIVERGED)

    def finish_indirect(self, block: Block) -> None:
        index = self.operation.instruction.operands[0]
        assert isinstance(index, Register)
        if self.shapes.registers[index.name].uniform:
            value = self.scalar(index, "b32")
            edges = {target: self.edge(target) for target in block.successors}
            choice = self.b.switch(value, edges[block.table[-1]])
            for k, target in enumerate(block.table):
                choice.add_case(I32(k), edges[target])
            return
        self.leave(block.successors, self.targets(block, self.vector(index, "b32")), at.DIVERGED)

    def targets(self, block: Block, index: ir.Value) -> ir.Value:
        return _targets(self.b, block, index)

    def finish_exit(self, block: Block) -> None:
        self.give(at.EXITED)

    def finish_trap(self, block: Block) -> None:
        self.report(block.index)
        self.give(at.TRAPPED)

    def finish_barrier(self, block: Block) -> None:
        (following,) = block.successors
        barrier, count, predicate, code = self.barrier_operands(self.operation)
        count_shape, barrier_shape = self.shapes.of(count), self.shapes.of(barrier)
        if self.job.threads <= WARP and not code and count_shape.constant in (0, WARP):
            self.memory_fence()
            self.jump(following)
            return
        self.set_field(I32(code), at.WARP_BARRIER_OPERATION)
        if predicate is not None:
            self.set_field(self.b.bitcast(self.vector(predicate, "pred"), I32), at.WARP_BARRIER_PREDICATE)
        self.set_field(self.scalar(count, "b32"), at.WARP_BARRIER_COUNT)
        if not barrier_shape.uniform:
            self.b.store(self.vector(barrier, "b32"), self.pointer_to(self.warp, at.WARP_BARRIER_OF), align=64)
            self.leave([following], vector_constant(I32, [following | at.BLOCK_WAIT] * WARP), at.DIVERGED)
            return
        self.set_field(self.scalar(barrier, "b32"), at.WARP_BARRIER_ID)
        self.suspend(following, at.BARRIER)

    def finish_arrive(self, block: Block) -> None:
        barrier, count, _predicate, _code = self.barrier_operands(self.operation)
        self.set_field(self.scalar(count, "b32"), at.WARP_BARRIER_COUNT)
        self.set_field(self.scalar(barrier, "b32"), at.WARP_BARRIER_ID)
        self.set_field(I32(-1), at.WARP_BARRIER_PREDICATE)
        self.suspend(block.successors[0], at.ARRIVED)

    def suspend(self, following: int, status: int) -> None:
        """Returns, to go on converged at `following`."""
        for name in sorted(self.program.blocks[following].live_in):
            self.keep(name)
        self.set_field(I32(following + 1), at.WARP_RESUME)
        self.b.store(self.b.load(self.budget), self.pointer_to(self.warp, at.WARP_BUDGET))
        self.give(status)


def _targets(b: ir.IRBuilder, block: Block, index: ir.Value) -> ir.Value:
    """Each lane's next block for brx.idx."""
    result: ir.Value = vector_constant(I32, [block.table[-1]] * WARP)
    for k, target in enumerate(block.table[:-1]):
        here = b.icmp_unsigned("==", index, vector_constant(I32, [k] * WARP))
        result = b.select(here, vector_constant(I32, [target] * WARP), result)
    return result


# --- every lane on its own


@dataclass
class _Lane:
    """Values of registers inside the current block, and which of them must be stored at its end."""

    values: dict[str, ir.Value] = field(default_factory=dict)
    dirty: set[str] = field(default_factory=set)


class _Diverged(Code):
    def __init__(self, job: Job, observer: Observer | None) -> None:
        super().__init__(job, "diverged", observer)
        self.lanes = _Lane()
        self.block_mask: ir.Value = all_lanes()

    def build(self) -> ir.Module:
        blocks, b = self.program.blocks, self.b
        self.next = b.alloca(INTS)
        b.store(self.load_from(self.warp, INTS, at.WARP_NEXT, align=64), self.next)
        self.turns = b.alloca(I32)
        b.store(I32(YIELD_AFTER), self.turns)
        bias = self.field(I32, at.WARP_BIAS)
        may_converge = self.load_from(self.block_state, I32, at.BLOCK_MAY_CONVERGE)
        self.may_converge = b.icmp_unsigned("!=", may_converge, I32(0))
        self.dispatch = self.new_block("dispatch")
        b.branch(self.dispatch)
        self.go_on_in(self.dispatch)
        now = b.load(self.next)
        waits = b.icmp_signed(">=", now, self.ints(at.WARP_WAIT))
        turned = b.and_(b.sub(now, splat(b, bias, WARP)), self.ints(at.WARP_WAIT - 1))
        keys = b.select(waits, now, turned)
        least = b.call(declare(b, f"llvm.vector.reduce.umin.v{WARP}i32", ir.FunctionType(I32, [INTS])), [keys])
        stuck, run = self.new_block("all_wait"), self.new_block("run")
        self.forced = b.icmp_unsigned(">=", least, I32(at.WARP_WAIT))
        b.cbranch(b.icmp_unsigned(">=", least, I32(at.BLOCK_WAIT)), stuck, run)
        self.go_on_in(stuck)
        b.store(b.load(self.next), self.pointer_to(self.warp, at.WARP_NEXT), align=64)
        b.ret(b.select(b.icmp_unsigned("==", least, I32(at.LANE_EXITED)), I32(at.EXITED), I32(at.BARRIER)))
        self.go_on_in(run)
        unturned = b.and_(b.add(least, bias), I32(at.WARP_WAIT - 1))
        number = b.select(self.forced, b.xor(least, I32(at.WARP_WAIT)), unturned)
        here = b.icmp_unsigned("==", b.and_(now, self.ints(~at.WARP_WAIT)), splat(b, number, WARP))
        nowhere = self.new_block("nowhere")
        choice = b.switch(number, nowhere)
        self.go_on_in(nowhere)
        b.unreachable()
        self.bodies = [self.new_block(f"block{block.index}") for block in blocks]
        self.masks: list[ir.Value] = []
        self.forces: list[ir.Value] = []
        for block in blocks:
            start = self.new_block(f"enter{block.index}")
            choice.add_case(I32(block.index), start)
            self.go_on_in(start)
            if block.index in self.reentries:
                self.try_to_converge(block, here)
            end = self.b.block
            self.b.branch(self.bodies[block.index])
            self.go_on_in(self.bodies[block.index])
            if block.continues:
                mask, force = self.b.phi(MASK), self.b.phi(I1)
                mask.add_incoming(here, end)
                force.add_incoming(self.forced, end)
            else:
                mask, force = here, self.forced
            self.masks.append(mask)
            self.forces.append(force)
        for block in blocks:
            self.block = block
            self.go_on_in(self.bodies[block.index])
            self.block_mask = self.mask = self.masks[block.index]
            self.lanes = _Lane()
            if self.observer:
                self.observer.on_block(self, block, self.mask)
            for operation in block.operations:
                self.operation = operation
                self.one(operation)
            self.finish(block)
        return self.module

    def ints(self, value: int) -> ir.Constant:
        return vector_constant(I32, [value] * WARP)

    def one(self, operation: Operation) -> None:
        self.mask = self.block_mask
        if operation.waits_for_lanes:
            if self.observer:
                self.observer.on_wait(self, operation, self.mask)
            self.wait_for_lanes(operation)
        guard = operation.instruction.guard
        if guard:
            condition = self.vector(guard, "pred")
            if operation.instruction.guard_negated:
                condition = self.b.not_(condition)
            self.mask = self.b.and_(self.mask, condition)
        if self.observer:
            self.observer.on_operation(self, operation, self.mask)
        self.execute(operation)
        self.mask = self.block_mask

    def try_to_converge(self, block: Block, mask: ir.Value) -> None:
        """Returns CONVERGED if all lanes are here and registers have the shapes that converged code assumes."""
        b = self.b
        test, converge, stay = (self.new_block(f"{name}{block.index}") for name in ("test", "converge", "stay"))
        all_here = b.icmp_unsigned("==", b.bitcast(mask, I32), I32(-1))
        b.cbranch(b.and_(all_here, self.may_converge), test, stay)
        self.go_on_in(test)
        fits: ir.Value | None = None
        for name in sorted(block.live_in):
            shape = self.shapes.registers[name]
            if shape.offsets is None:
                continue
            if self.type_of(name) == "pred":
                value = self.load_slot(name)
                same = b.not_(b.xor(value, self.resized(self.resized(value, shape.groups), WARP)))
            else:
                width = size_of(self.type_of(name))
                kind = f"b{width}"
                value = self.wide.coerce(self.load_slot(name), kind)
                lead = self.resized(self.resized(value, shape.groups), WARP)
                if shape.offsets != ZERO:
                    lead = b.add(lead, vector_constant(value.type.element, shape.offsets))
                same = b.icmp_unsigned("==", value, lead)
            fits = same if fits is None else b.and_(fits, same)
        if fits is None:
            b.branch(converge)
        else:
            b.cbranch(b.icmp_unsigned("==", b.bitcast(fits, I32), I32(-1)), converge, stay)
        self.go_on_in(converge)
        self.set_field(I32(block.index + 1), at.WARP_RESUME)
        self.give(at.CONVERGED)
        self.go_on_in(stay)

    def wait_for_lanes(self, operation: Operation) -> None:
        """Lanes that execute an operation with a membermask wait for the others it names, if those can still come."""
        b = self.b
        members = self.vector(operation.members, "b32")
        named = b.select(self.mask, members, self.ints(0))
        named = b.call(declare(b, f"llvm.vector.reduce.or.v{WARP}i32", ir.FunctionType(I32, [INTS])), [named])
        alive = b.bitcast(b.icmp_unsigned("!=", b.load(self.next), self.ints(at.LANE_EXITED)), I32)
        missing = b.and_(b.and_(named, alive), b.xor(b.bitcast(self.mask, I32), I32(-1)))
        present = b.or_(b.icmp_unsigned("==", missing, I32(0)), self.forces[self.block.index])
        wait, go_on = self.new_block("wait"), self.new_block("together")
        b.cbranch(present, go_on, wait)
        self.go_on_in(wait)
        self.send(self.ints(self.block.index | at.WARP_WAIT))
        self.go_on_in(go_on)

    # --- registers

    def shape_of(self, operand: Operand | None) -> Shape | None:
        return None

    def everyone(self) -> bool:
        return False

    def lanes_here(self) -> ir.Value:
        return self.block_mask

    def next_blocks(self) -> ir.Value:
        return self.next

    def groups_of(self, name: str) -> int:
        return WARP

    def groups_for(self, operation: Operation) -> int:
        return WARP

    def read(self, name: str, groups: int) -> ir.Value:
        values = self.lanes.values
        if name not in values:
            values[name] = self.load_slot(name)
        return self.resized(values[name], groups)

    def write(self, name: str, value: ir.Value, kind: str) -> None:
        if not isinstance(value.type, ir.VectorType):
            value = splat(self.b, value, WARP)
        value = self.as_register(value, kind, name)
        if self.mask is not self.block_mask:
            known = name in self.lanes.values or name in self.layout.slots
            if known:
                value = self.b.select(self.mask, value, self.read(name, WARP))
        self.lanes.values[name] = value
        self.lanes.dirty.add(name)

    def flush(self, block: Block) -> None:
        """Stores what the block wrote and others read."""
        for name in sorted(self.lanes.dirty & block.live_out):
            value = self.lanes.values[name]
            if self.type_of(name) == "pred":
                old = self.b.load(self.slot(name), typ=I32, align=4)
                mask = self.b.bitcast(self.block_mask, I32)
                new = self.b.or_(
                    self.b.and_(self.b.bitcast(value, I32), mask), self.b.and_(old, self.b.xor(mask, I32(-1)))
                )
                self.b.store(new, self.slot(name), align=4)
            else:
                masked_store(self.b, value, self.slot(name), self.block_mask, 64)

    # --- control flow

    def send(self, next_blocks: ir.Value) -> None:
        """Sets the next block of the lanes in the block's mask and goes to the dispatcher."""
        self.b.store(self.b.select(self.block_mask, next_blocks, self.b.load(self.next)), self.next)
        self.b.branch(self.dispatch)

    def finish(self, block: Block) -> None:
        control = block.control
        self.mask = self.block_mask
        if control is None:
            self.flush(block)
            if not block.successors:
                self.send(self.ints(at.LANE_EXITED))
                return
            following = self.program.blocks[block.successors[0]]
            if following.continues and following.index == block.index + 1:
                mask, force = self.masks[following.index], self.forces[following.index]
                mask.add_incoming(self.block_mask, self.b.block)
                force.add_incoming(I1(0), self.b.block)
                self.b.branch(self.bodies[following.index])
                return
            self.send_on(block, self.ints(following.index))
            return
        self.operation = control
        if self.observer:
            self.observer.on_operation(self, control, self.mask)
        {
            Kind.BRANCH: self.finish_branch, Kind.INDIRECT_BRANCH: self.finish_indirect, Kind.EXIT: self.finish_exit,
            Kind.TRAP: self.finish_trap, Kind.BARRIER: self.finish_barrier, Kind.ARRIVE: self.finish_arrive,
        }[control.kind](block)  # fmt: skip

    def send_on(self, block: Block, next_blocks: ir.Value) -> None:
        """send(), counting back edges: after many the warp yields, so that other lanes and warps get a turn."""
        b = self.b
        if all(target > block.index for target in block.successors):
            self.send(next_blocks)
            return
        spins = any((block.index, target) in self.spin_edges for target in block.successors)
        b.store(b.select(self.block_mask, next_blocks, b.load(self.next)), self.next)
        left = b.sub(b.load(self.turns), I32(YIELD_AFTER // YIELD_AFTER_SPINS if spins else 1))
        b.store(left, self.turns)
        stop = self.new_block(f"yield{block.index}")
        b.cbranch(b.icmp_signed(">", left, I32(0)), self.dispatch, stop)
        self.go_on_in(stop)
        self.report(block.index)
        b.store(b.load(self.next), self.pointer_to(self.warp, at.WARP_NEXT), align=64)
        self.give(at.YIELDED)

    def finish_branch(self, block: Block) -> None:
        instruction = self.operation.instruction
        if instruction.guard is None:
            self.flush(block)
            self.send_on(block, self.ints(block.successors[0]))
            return
        target, fall = block.successors
        taken = self.vector(instruction.guard, "pred")
        if instruction.guard_negated:
            taken = self.b.not_(taken)
        if self.observer:
            self.observer.on_branch(self, block, self.b.and_(taken, self.block_mask), self.block_mask)
        self.flush(block)
        self.send_on(block, self.b.select(taken, self.ints(target), self.ints(fall)))

    def finish_indirect(self, block: Block) -> None:
        index = self.operation.instruction.operands[0]
        targets = _targets(self.b, block, self.vector(index, "b32"))
        self.flush(block)
        self.send_on(block, targets)

    def finish_exit(self, block: Block) -> None:
        self.send(self.ints(at.LANE_EXITED))

    def finish_trap(self, block: Block) -> None:
        self.report(block.index)
        self.give(at.TRAPPED)

    def finish_barrier(self, block: Block) -> None:
        b = self.b
        (following,) = block.successors
        barrier, count, predicate, code = self.barrier_operands(self.operation)
        b_of = self.pointer_to(self.warp, at.WARP_BARRIER_OF)
        masked_store(b, self.vector(barrier, "b32"), b_of, self.mask, 64)
        if predicate is not None:
            mask = b.bitcast(self.mask, I32)
            old = b.and_(self.field(I32, at.WARP_BARRIER_PREDICATE), b.xor(mask, I32(-1)))
            new = b.and_(b.bitcast(self.vector(predicate, "pred"), I32), mask)
            self.set_field(b.or_(old, new), at.WARP_BARRIER_PREDICATE)
        self.set_field(I32(code), at.WARP_BARRIER_OPERATION)
        self.set_field(self.first_active(self.vector(count, "b32")), at.WARP_BARRIER_COUNT)
        self.flush(block)
        self.send(self.ints(following | at.BLOCK_WAIT))

    def finish_arrive(self, block: Block) -> None:
        barrier, count, _predicate, _code = self.barrier_operands(self.operation)
        self.set_field(self.first_active(self.vector(count, "b32")), at.WARP_BARRIER_COUNT)
        self.set_field(self.first_active(self.vector(barrier, "b32")), at.WARP_BARRIER_ID)
        self.set_field(self.b.bitcast(self.mask, I32), at.WARP_BARRIER_PREDICATE)
        self.flush(block)
        b = self.b
        following = self.ints(block.successors[0])
        b.store(
            b.select(self.block_mask, following, b.load(self.next)), self.pointer_to(self.warp, at.WARP_NEXT), align=64
        )
        self.give(at.ARRIVED)

    def first_active(self, vector: ir.Value) -> ir.Value:
        cttz = declare(self.b, "llvm.cttz.i32", ir.FunctionType(I32, [I32, I1]))
        lane = self.b.call(cttz, [self.b.bitcast(self.mask, I32), I1(0)])
        return self.b.extract_element(vector, self.b.and_(lane, I32(WARP - 1)))
