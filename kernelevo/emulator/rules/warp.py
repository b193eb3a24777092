"""Instructions in which the lanes of a warp see each other: shfl, vote, match, redux, elect, activemask.

All are warp-wide: arguments are 32-lane vectors and `e.mask` says which lanes execute. A lane named in the member
mask that does not execute does not count; the value shuffled out of such a lane is unspecified in PTX, and here it
is what the register held. Member masks may differ between lanes.
"""

from __future__ import annotations

from collections.abc import Callable

from llvmlite import ir

from kernelevo.emulator.emit import WARP, Emitter
from kernelevo.emulator.instruction import Instruction, Pair
from kernelevo.emulator.rules.row import Result, Row, Signature, each

LANES = tuple(range(WARP))


def lane_bits(e: Emitter, mask: ir.Value) -> ir.Value:
    """<32 x i1> as a scalar i32, lane 0 in bit 0."""
    return e.builder.bitcast(mask, ir.IntType(32))


def lane_mask(e: Emitter, bits: ir.Value) -> ir.Value:
    """The scalar i32 of lane_bits as <32 x i1>."""
    return e.builder.bitcast(bits, ir.VectorType(ir.IntType(1), WARP))


def active_bits(e: Emitter) -> ir.Value:
    """The executing lanes as a scalar i32."""
    return lane_bits(e, e.mask)


# --- shfl


def _shfl_operands(i: Instruction) -> Signature:
    destinations = ("b32", "pred") if isinstance(i.operands[0], Pair) else ("b32",)
    return destinations, ("b32", "b32", "b32", "b32")


def _shfl(e: Emitter, i: Instruction, a: ir.Value, b: ir.Value, c: ir.Value, _members: ir.Value) -> Result:
    mode = i.modifiers[1]
    offset, clamp = e.known(b), e.known(c)
    if offset is not None and clamp is not None:
        sources, in_range = zip(*(source_lane(mode, lane, offset, clamp) for lane in LANES), strict=True)
        shuffled = e.builder.shuffle_vector(a, a, e.vector(ir.IntType(32), sources))
        valid = e.vector(ir.IntType(1), in_range)
    else:
        source, valid = _source_lanes(e, mode, b, c)
        shuffled = permute(e, a, source)
    return (shuffled, valid) if isinstance(i.operands[0], Pair) else shuffled


def source_lane(mode: str, lane: int, offset: int, clamp: int) -> tuple[int, bool]:
    """The lane that `lane` reads and whether it is in range, for constant operands b and c of shfl."""
    offset, segment, limit = offset & 31, clamp >> 8 & 31, clamp & 31
    first = lane & segment
    last = first | (limit & ~segment)
    source = {"up": lane - offset, "down": lane + offset, "bfly": lane ^ offset,
              "idx": first | (offset & ~segment)}[mode]  # fmt: skip
    in_range = source >= last if mode == "up" else source <= last
    return (source if in_range else lane), in_range


def _source_lanes(e: Emitter, mode: str, b: ir.Value, c: ir.Value) -> tuple[ir.Value, ir.Value]:
    build, five = e.builder, e.const("b32", 31)
    lane = e.vector(ir.IntType(32), LANES)
    offset, limit = build.and_(b, five), build.and_(c, five)
    segment = build.and_(build.lshr(c, e.const("b32", 8)), five)
    outside = build.xor(segment, five)
    first = build.and_(lane, segment)
    last = build.or_(first, build.and_(limit, outside))
    if mode == "up":
        source = build.sub(lane, offset)
        valid = build.icmp_signed(">=", source, last)
    else:
        source = {"down": lambda: build.add(lane, offset), "bfly": lambda: build.xor(lane, offset),
                  "idx": lambda: build.or_(first, build.and_(offset, outside))}[mode]()  # fmt: skip
        valid = build.icmp_signed("<=", source, last)
    return e.select(valid, source, lane), valid


def permute(e: Emitter, values: ir.Value, source: ir.Value) -> ir.Value:
    """values[source[lane]] in each lane; <32 x i32> values, sources below 32."""
    i32 = ir.IntType(32)
    if "avx512f" in e.features:
        half = ir.VectorType(i32, 16)
        low, high = (e.vector(i32, range(start, start + 16)) for start in (0, 16))
        parts = [e.builder.shuffle_vector(values, values, part) for part in (low, high)]
        results = [
            e.call("llvm.x86.avx512.vpermi2var.d.512", half, parts[0],
                   e.builder.shuffle_vector(source, source, part), parts[1])
            for part in (low, high)
        ]  # fmt: skip
        return e.builder.shuffle_vector(*results, e.vector(i32, LANES))
    slot = e.stack_slot(values)
    result = ir.Constant(values.type, ir.Undefined)
    for lane in LANES:
        place = e.lane_pointer(slot, e.builder.extract_element(source, i32(lane)))
        result = e.builder.insert_element(result, e.builder.load(place), i32(lane))
    return result


# --- vote, activemask, elect


def _vote_operands(i: Instruction) -> Signature:
    return (i.types[0],), ("pred", "b32")


def _vote(e: Emitter, i: Instruction, a: ir.Value, members: ir.Value) -> ir.Value:
    mode = i.modifiers[1]
    build = e.builder
    taking_part = build.and_(e.splat(active_bits(e)), members)
    yes = build.and_(e.splat(lane_bits(e, build.and_(a, e.mask))), members)
    if mode == "ballot":
        return yes
    none = build.icmp_unsigned("==", yes, e.const("b32", 0))
    if mode == "any":
        return build.not_(none)
    every = build.icmp_unsigned("==", yes, taking_part)
    return every if mode == "all" else build.or_(every, none)


def _activemask(e: Emitter, i: Instruction) -> ir.Value:
    return e.splat(active_bits(e))


def _elect(e: Emitter, i: Instruction, members: ir.Value) -> Result:
    taking_part = e.builder.and_(e.splat(active_bits(e)), members)
    leader = e.call(f"llvm.cttz.v{WARP}i32", members.type, taking_part, ir.IntType(1)(0))
    return leader, e.builder.icmp_unsigned("==", leader, e.vector(ir.IntType(32), LANES))


# --- match, redux: one round per group of lanes


def _match_operands(i: Instruction) -> Signature:
    destinations = ("b32", "pred") if isinstance(i.operands[0], Pair) else ("b32",)
    return destinations, (i.types[0], "b32")


def _match(e: Emitter, i: Instruction, a: ir.Value, members: ir.Value) -> Result:
    slot = e.stack_slot(a)

    def same(leader: ir.Value) -> tuple[ir.Value, ir.Value]:
        value = e.builder.load(e.lane_pointer(slot, leader))
        group = lane_bits(e, e.builder.and_(e.builder.icmp_unsigned("==", a, e.splat(value)), e.mask))
        return group, group

    equal = e.builder.and_(_by_group(e, ir.IntType(32), same), members)
    if i.modifiers[0] == "any":
        return equal
    taking_part = e.builder.and_(e.splat(active_bits(e)), members)
    everyone = e.builder.icmp_unsigned("==", equal, taking_part)
    result = e.select(everyone, taking_part, e.const("b32", 0))
    return (result, everyone) if isinstance(i.operands[0], Pair) else result


def _redux_operands(i: Instruction) -> Signature:
    return (i.types[0],), (i.types[0], "b32")


def _redux(e: Emitter, i: Instruction, a: ir.Value, members: ir.Value) -> ir.Value:
    operation, (kind,) = i.modifiers[1], i.types
    name = operation
    if operation in ("min", "max"):
        name = ("s" if kind == "s32" else "u") + operation
    neutral = {"umin": -1, "and": -1, "smin": 2**31 - 1, "smax": -(2**31)}.get(name, 0)
    slot = e.stack_slot(members)
    i32 = ir.IntType(32)

    def reduce(leader: ir.Value) -> tuple[ir.Value, ir.Value]:
        named = e.builder.load(e.lane_pointer(slot, leader))
        group = e.builder.and_(named, active_bits(e))
        taken = e.select(lane_mask(e, group), a, e.const("b32", neutral))
        return group, e.call(f"llvm.vector.reduce.{name}.v{WARP}i32", i32, taken)

    return _by_group(e, i32, reduce)


def _by_group(e: Emitter, element: ir.Type, of_leader: Callable[[ir.Value], tuple[ir.Value, ir.Value]]) -> ir.Value:
    """of_leader(lane) -> (bits of the lane's group, the group's result), once per group of the active lanes."""
    i32 = ir.IntType(32)
    before = e.builder.block
    start = active_bits(e)
    head, body, after = (e.builder.append_basic_block(name) for name in ("groups", "group", "grouped"))
    e.builder.branch(head)
    e.builder.position_at_end(head)
    remaining, result = e.builder.phi(i32), e.builder.phi(ir.VectorType(element, WARP))
    remaining.add_incoming(start, before)
    result.add_incoming(e.constant(element, 0), before)
    e.builder.cbranch(e.builder.icmp_unsigned("==", remaining, i32(0)), after, body)
    e.builder.position_at_end(body)
    leader = e.call("llvm.cttz.i32", i32, remaining, ir.IntType(1)(1))
    group, value = of_leader(leader)
    next_result = e.select(lane_mask(e, group), e.splat(value), result)
    self_and_group = e.builder.or_(group, e.builder.shl(i32(1), leader))
    remaining.add_incoming(e.builder.and_(remaining, e.builder.not_(self_and_group)), e.builder.block)
    result.add_incoming(next_result, e.builder.block)
    e.builder.branch(head)
    e.builder.position_at_end(after)
    return result


ROWS = (
    Row("shfl", "data-movement-and-conversion-instructions-shfl-sync", each("b32"), _shfl,
        ("sync", "up|down|bfly|idx"), _shfl_operands, warp_wide=True),
    Row("vote", "parallel-synchronization-and-communication-instructions-vote-sync", each("pred"), _vote,
        ("sync", "all|any|uni"), _vote_operands, warp_wide=True),
    Row("vote", "parallel-synchronization-and-communication-instructions-vote-sync", each("b32"), _vote,
        ("sync", "ballot"), _vote_operands, warp_wide=True),
    Row("match", "parallel-synchronization-and-communication-instructions-match-sync", each("b32 b64"), _match,
        ("any|all", "sync"), _match_operands, warp_wide=True),
    Row("redux", "parallel-synchronization-and-communication-instructions-redux-sync", each("u32 s32"), _redux,
        ("sync", "add|min|max"), _redux_operands, warp_wide=True),
    Row("redux", "parallel-synchronization-and-communication-instructions-redux-sync", each("b32"), _redux,
        ("sync", "and|or|xor"), _redux_operands, warp_wide=True),
    Row("activemask", "parallel-synchronization-and-communication-instructions-activemask", each("b32"), _activemask,
        operands=0, warp_wide=True),
    Row("elect", "parallel-synchronization-and-communication-instructions-elect-sync", ((),), _elect, ("sync",),
        lambda i: (("b32", "pred"), ("b32",)), warp_wide=True),
)  # fmt: skip
