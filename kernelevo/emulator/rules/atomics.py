"""atom and red: real atomic operations of the host, one lane after the other in lane order.

Warp-wide: the address argument is a <32 x i64> of host addresses; the active lanes of `e.mask` take part. PTX leaves
the order of lanes open; a fixed one makes runs repeatable. f32 additions keep subnormals in every space (current
hardware flushes them in global memory).
"""

from __future__ import annotations

from collections.abc import Callable

from llvmlite import ir

from kernelevo.emulator.emit import Emitter, element_type, size_of
from kernelevo.emulator.instruction import Instruction, Vector
from kernelevo.emulator.rules.half import add_halves, min_max_halves
from kernelevo.emulator.rules.row import Result, Row, Signature, Types, each
from kernelevo.emulator.rules.warp import active_bits

Update = Callable[[Emitter, ir.Value, ir.Value], ir.Value]

_ORDERING = {"acquire": "acquire", "release": "release", "acq_rel": "acq_rel"}
OPERATIONS = ("add", "min", "max", "and", "or", "xor", "exch", "cas", "inc", "dec")


def _operands(i: Instruction) -> Signature:
    (kind,) = i.types
    values = next((len(o.elements) for o in i.operands if isinstance(o, Vector)), 1)
    sources = ("b64", *(kind,) * (2 if "cas" in i.modifiers else values))
    return ((kind,) * values if i.opcode == "atom" else ()), sources


def _atomic(e: Emitter, i: Instruction, addresses: ir.Value, *values: ir.Value) -> Result:
    """Loops over the active lanes; each lane's old values go to the result."""
    build, i32 = e.builder, ir.IntType(32)
    element = element_type(i.types[0])
    slots = [e.stack_slot(value) for value in (addresses, *values)]
    count = 1 if "cas" in i.modifiers else len(values)
    results = [e.stack_slot(e.constant(element, 0)) for _ in range(count)] if i.opcode == "atom" else []
    head, body, after = (build.append_basic_block(name) for name in ("lanes", "lane", "atomics_done"))
    before, start = build.block, active_bits(e)
    build.branch(head)
    build.position_at_end(head)
    remaining = build.phi(i32)
    remaining.add_incoming(start, before)
    build.cbranch(build.icmp_unsigned("==", remaining, i32(0)), after, body)
    build.position_at_end(body)
    lane = e.call("llvm.cttz.i32", i32, remaining, ir.IntType(1)(1))
    address, *operands = (build.load(e.lane_pointer(slot, lane)) for slot in slots)
    for place in range(count):
        offset = build.add(address, ir.IntType(64)(place * size_of(i.types[0]) // 8))
        own = operands if "cas" in i.modifiers else operands[place : place + 1]
        old = _one_lane(e.at(1), i, build.inttoptr(offset, ir.PointerType()), own)
        if results:
            build.store(old, e.lane_pointer(results[place], lane))
    remaining.add_incoming(build.and_(remaining, build.sub(remaining, i32(1))), build.block)
    build.branch(head)
    build.position_at_end(after)
    old_values = [e.stack_vector(slot) for slot in results]
    return tuple(old_values) if len(old_values) > 1 else (old_values[0] if old_values else None)


def _one_lane(e: Emitter, i: Instruction, pointer: ir.Value, values: list[ir.Value]) -> ir.Value:
    (kind,) = i.types
    operation = next(m for m in i.modifiers if m in OPERATIONS)
    ordering = next((_ORDERING[m] for m in i.modifiers if m in _ORDERING), "monotonic")
    if operation == "cas":
        return _compare_and_swap(e, pointer, values[0], values[1], ordering)[0]
    if kind in ("f16", "bf16", "f16x2", "bf16x2") and operation != "exch":
        update = _half_update(operation, kind)
        return _update_loop(e, kind, pointer, values[0], update, ordering)
    name = {"exch": "xchg", "inc": "uinc_wrap", "dec": "udec_wrap"}.get(operation, operation)
    if operation in ("min", "max") and not kind.startswith("s"):
        name = ("f" if kind.startswith("f") else "u") + name
    elif operation == "add" and kind.startswith("f"):
        name = "fadd"
    return e.builder.atomic_rmw(name, pointer, values[0], ordering)


def _half_update(operation: str, kind: str) -> Update:
    if operation == "add":
        return lambda e, old, value: add_halves(e, kind, old, value)
    return lambda e, old, value: min_max_halves(e, kind, operation, old, value)


def _compare_and_swap(
    e: Emitter, pointer: ir.Value, expected: ir.Value, new: ir.Value, ordering: str
) -> tuple[ir.Value, ir.Value]:
    """(the old value, whether it was the expected one)."""
    on_failure = "acquire" if ordering in ("acquire", "acq_rel") else "monotonic"
    both = e.builder.cmpxchg(pointer, expected, new, ordering, on_failure)
    return e.builder.extract_value(both, 0), e.builder.extract_value(both, 1)


def _update_loop(e: Emitter, kind: str, pointer: ir.Value, value: ir.Value, update: Update, ordering: str) -> ir.Value:
    """Compare-and-swap until the updated value is in place; gives the old value."""
    build, bits = e.builder, ir.IntType(size_of(kind))
    first = build.load_atomic(pointer, "monotonic", size_of(kind) // 8, typ=bits)
    before, retry, done = build.block, build.append_basic_block("retry"), build.append_basic_block("updated")
    build.branch(retry)
    build.position_at_end(retry)
    guess = build.phi(bits)
    guess.add_incoming(first, before)
    new = update(e, e.bitcast(guess, element_type(kind)), value)
    old, succeeded = _compare_and_swap(e, pointer, guess, e.bitcast(new, bits), ordering)
    guess.add_incoming(old, build.block)
    build.cbranch(succeeded, done, retry)
    build.position_at_end(done)
    return e.bitcast(old, element_type(kind))


ORDER = ("relaxed|acquire|release|acq_rel?", "cta|cluster|gpu|sys?", "global|shared|shared::cta|shared::cluster?")
SPELT_OUT = ("relaxed|acquire|release|acq_rel", "cta|cluster|gpu|sys")
_TYPES: dict[str, tuple[tuple[str, Types], ...]] = {
    "add": (("", ("u32", "s32", "u64", "f32", "f64")), ("noftz", ("f16", "bf16", "f16x2", "bf16x2"))),
    "min|max": (("", ("u32", "s32", "u64", "s64")),),
    "and|or|xor": (("", ("b32", "b64")),),
    "inc|dec": (("", ("u32",)),),
}
_ATOM_ONLY: dict[str, Types] = {"exch": ("b32", "b64"), "cas": ("b16", "b32", "b64")}
_VECTOR: tuple[tuple[tuple[str, ...], Types], ...] = (
    (("v2|v4", "add"), ("f32",)),
    (("v2|v4|v8", "add|min|max", "noftz"), ("f16", "bf16")),
    (("v2|v4", "add|min|max", "noftz"), ("f16x2", "bf16x2")),
)


def _rows() -> tuple[Row, ...]:
    rows = []
    for opcode in ("atom", "red"):
        section = f"parallel-synchronization-and-communication-instructions-{opcode}"
        for operations, groups in _TYPES.items():
            for extra, kinds in groups:
                tail = (extra,) if extra else ()
                # the ISA writes atom.release.gpu.add; cooperative groups and libcu++ write atom.add.release.gpu
                for slots in ((*ORDER, operations, *tail), (operations, *SPELT_OUT, *tail)):
                    rows.append(Row(opcode, section, each(*kinds), _atomic, slots, _operands, warp_wide=True))
        for vector_slots, kinds in _VECTOR:
            slots = (*ORDER, *vector_slots)
            rows.append(Row(opcode, section, each(*kinds), _atomic, slots, _operands, warp_wide=True))
    for operation, kinds in _ATOM_ONLY.items():
        section = "parallel-synchronization-and-communication-instructions-atom"
        for slots in ((*ORDER, operation), (operation, *SPELT_OUT)):
            rows.append(Row("atom", section, each(*kinds), _atomic, slots, _operands, warp_wide=True))
    return tuple(rows)


ROWS = _rows()
