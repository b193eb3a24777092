"""The Observer of checked kernels: fast tests in the generated code, and calls to a Checker where they do not pass.

Takes translations of a kernel as they are made; adds, to both halves, a test of every access (inside the memory that
the same instruction touched last, aligned) and of what it reads (its bytes were written). What a Checker makes of the
calls, and which findings there are, is csrc/emulator/check.h's matter. Shadows: the written bytes of shared and local
memory lie behind that memory, those of an allocation in memory of their own, one byte for each byte; 0 is unwritten.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llvmlite import ir

from . import layout as at
from .check import Kind, Operation, flatten
from .emit import vector_constant
from .flow import Block
from .instruction import Immediate, Operand, Register, Symbol
from .meeting import meeting_places
from .memory import I1, I32, I64, PTR, integer, load_known, load_unknown, splat, store_known, store_unknown
from .shapes import ZERO
from .translate import Code, Place, Touch

WARP = 32
ADDRESSES = ir.VectorType(I64, WARP)
ACCESS, UNWRITTEN, BARRIER_HOOK, MEETING, PASS, SHARE, FENCE_HOOK, TOGETHER = range(8)  # positions in Checker.hooks
PARTS = 2  # sites per operation: see Touch.part
CACHE_BYTES, CACHE_BEGIN, CACHE_LIMIT, CACHE_SHADOW = 32, 0, 8, 16  # struct SiteCache of check.h
REGIONS = {"global": 0, "shared": 1, "local": 2, "const": 3, "generic": 4}
NOTHING, MEMORY = range(2)  # CheckedSite::Kind; the others are those of meeting.py
MATRIX = frozenset(("mma", "wmma", "ldmatrix", "stmatrix", "movmatrix"))  # all lanes execute them together
MOST_LANE_BYTES = 32  # of one store
_RELEASES = frozenset(("release", "acq_rel"))
MOST_ALIGNMENT = {"local": 16}  # the depot of a thread is not aligned to more


class Checking:
    """Adds the tests. Afterwards `sites` has the facts of every operation that a Checker may be told of."""

    converged = True

    def __init__(self, *, races: bool) -> None:
        """races: look for those too, which takes a call for every access that others may see."""
        self.races = races
        self.name = "checked with races" if races else "checked"
        self.sites: list[dict[str, Any]] = []
        self.local_bytes = 0
        self.numbers: dict[int, int] = {}  # id of an operation -> number of its first site
        self.slots: dict[ir.Function, ir.Value] = {}

    def start(self, code: Code) -> None:
        operations = list(code.program.operations())
        self.numbers = {id(operation): PARTS * k for k, operation in enumerate(operations)}
        self.used = frozenset(name for operation in operations for name in operation.reads)
        self.sites = [_site(operation) for operation in operations for _ in range(PARTS)]
        local = [variable for variable in code.program.variables if variable.space == "local"]
        self.local_bytes = max((code.layout.local[each.name] + each.size for each in local), default=0)
        observer = code.load_from(code.block_state, PTR, at.BLOCK_OBSERVER, align=8)
        self.caches = code.load_from(observer, PTR, 0, align=8)
        self.shadows = {
            "shared": code.load_from(code.block_state, I64, at.BLOCK_SHARED_SHADOW, align=8),
            "local": code.load_from(code.block_state, I64, at.BLOCK_LOCAL_SHADOW, align=8),
        }
        self.shared_bytes = code.b.zext(code.load_from(code.block_state, I32, at.BLOCK_TOTAL_SHARED), I64)
        self.slot = code.b.alloca(ADDRESSES)
        self.operand_slots = [code.b.alloca(ir.VectorType(I32, WARP)) for _ in range(3)]
        values = code.b.alloca(ir.ArrayType(I64, WARP * MOST_LANE_BYTES // 8))
        self.values = code.b.inttoptr(code.b.ptrtoint(values, I64), PTR)  # without a type
        for operation, facts in meeting_places(code.program):
            self.sites[self.numbers[id(operation)]].update(facts)
        self.spinning = {
            block.index
            for source, target in code.spin_edges
            if _waits_for_memory(loop := code.program.blocks[target : source + 1])
            for block in loop
        }
        self.passes = {block for site in self.sites for block in site["behind"]}

    def learned(self) -> Any:
        return [self.sites, self.local_bytes]

    def recall(self, learned: Any) -> None:
        self.sites, self.local_bytes = learned

    def on_block(self, code: Code, block: Block, mask: ir.Value) -> None:
        if block.index in self.passes:
            code.call_hook(PASS, I32(block.index), code.b.bitcast(mask, I32))

    def on_wait(self, code: Code, operation: Operation, mask: ir.Value) -> None:
        """Who waits is seen when the operation executes."""

    def on_operation(self, code: Code, operation: Operation, mask: ir.Value) -> None:
        number = I32(self.numbers[id(operation)])
        bits = code.b.bitcast(mask, I32)
        if operation.kind in (Kind.BARRIER, Kind.ARRIVE):
            code.call_hook(BARRIER_HOOK, number, bits)
        elif operation.waits_for_lanes:
            members, shuffles = operation.members, operation.instruction.opcode == "shfl"
            if code.everyone() and _is_everyone(code, members):  # all lanes take part and may be read from
                if self.races:
                    code.call_hook(TOGETHER, bits)
                return
            b = code.b
            given = [members, *(operation.instruction.operands[2:4] if shuffles else ())]
            pointers = []
            for slot, operand in zip(self.operand_slots, given, strict=False):
                b.store(code.vector(operand, "b32"), slot)
                pointers.append(slot)
            pointers += [ir.Constant(PTR, None)] * (len(self.operand_slots) - len(pointers))
            here = b.bitcast(code.lanes_here(), I32)
            code.call_hook(MEETING, number, bits, here, code.next_blocks(), *pointers)
        elif self.races and operation.instruction.opcode in ("fence", "membar"):
            if "cta" not in operation.instruction.modifiers:
                code.call_hook(FENCE_HOOK)
        elif self.races and operation.instruction.opcode in MATRIX:
            code.call_hook(TOGETHER, bits)

    def on_branch(self, code: Code, block: Block, taken: ir.Value, mask: ir.Value) -> None:
        """Branches by themselves do nothing wrong."""

    # --- accesses

    def on_access(self, code: Code, touch: Touch) -> ir.Value:
        if touch.space not in REGIONS or touch.size == 0:
            return touch.mask
        b = code.b
        number = self.numbers[id(touch.operation)] + touch.part
        self.sites[number].update(self._facts(code, touch))
        bits = b.bitcast(touch.mask, I32)
        fine = self._inside(code, touch, number)
        if fine is None:
            self._fast(code, touch, number)
            self._share(code, touch, number, bits)
            return touch.mask
        fast, slow, done = (code.new_block(name) for name in ("inside", "perhaps_outside", "access_checked"))
        b.cbranch(fine, fast, slow)
        code.go_on_in(slow)
        b.store(code.addresses(touch.place), self.slot)
        allowed = code.call_hook(ACCESS, I32(number), bits, self.slot, result=I32)
        b.branch(done)
        code.go_on_in(fast)
        self._fast(code, touch, number)
        after_fast = b.block
        b.branch(done)
        code.go_on_in(done)
        lanes = b.phi(I32)
        lanes.add_incoming(allowed, slow)
        lanes.add_incoming(bits, after_fast)
        self._share(code, touch, number, lanes)
        return b.bitcast(lanes, ir.VectorType(I1, WARP))

    def _share(self, code: Code, touch: Touch, number: int, bits: ir.Value) -> None:
        """Tells of an access that other threads may see. What is read past the coherent caches nobody writes."""
        if not self.races or touch.space in ("local", "const") or "nc" in touch.operation.instruction.modifiers:
            return
        b = code.b
        b.store(code.addresses(touch.place), self.slot)
        values: ir.Value = ir.Constant(PTR, None)
        if touch.values:
            for k, value in enumerate(touch.values):
                b.store(value, code.pointer_to(self.values, k * WARP * touch.size), align=1)
            values = self.values
        code.call_hook(SHARE, I32(number), bits, self.slot, values)

    def _facts(self, code: Code, touch: Touch) -> dict[str, Any]:
        operation, used = touch.operation, (1 << touch.count) - 1
        instruction, access = operation.instruction, operation.access
        if operation.kind is Kind.LOAD and access is not None and access.type != "b128":
            targets = flatten(instruction.operands[0])
            read = [isinstance(target, Register) and target.name in self.used for target in targets]
            used = sum(1 << k for k, is_read in enumerate(read) if is_read)
        return {
            "kind": MEMORY,
            "region": REGIONS[touch.space],
            "reads": touch.reads,
            "writes": touch.writes,
            "strong": instruction.opcode in ("atom", "red") or (access is not None and access.volatile),
            "atomic": instruction.opcode in ("atom", "red"),
            "spins": code.block.index in self.spinning,
            "releases": bool(_RELEASES & set(instruction.modifiers)) and "cta" not in instruction.modifiers,
            "element": touch.size,
            "count": touch.count,
            "used": used if touch.reads else 0,
        }

    def _inside(self, code: Code, touch: Touch, number: int) -> ir.Value | None:
        """Whether all lanes are certainly inside and aligned; None: that is known already."""
        b, whole = code.b, touch.size * touch.count
        if _is_inside_variable(code, touch, whole):
            return None
        alignment = min(1 << (whole.bit_length() - 1), MOST_ALIGNMENT.get(touch.space, whole))
        if touch.operation.instruction.opcode in ("atom", "red") or touch.operation.instruction.opcode == "wmma":
            alignment = touch.size
        enough: ir.Value | None = None
        if touch.space == "shared":
            begin, limit = code.shared_base, b.sub(self.shared_bytes, I64(whole))
            if code.layout.shared_bytes < whole:
                enough = b.icmp_unsigned(">=", self.shared_bytes, I64(whole))
        elif touch.space == "local":
            if self.local_bytes < whole:
                return I1(0)
            begin, limit = code.local_base, I64(self.local_bytes - whole)
        else:
            cache = code.pointer_to(self.caches, CACHE_BYTES * number)
            begin = b.load(code.pointer_to(cache, CACHE_BEGIN), typ=I64, align=8)
            limit = b.load(code.pointer_to(cache, CACHE_LIMIT), typ=I64, align=8)
        offsets = _frame_offsets(code, touch)
        place = touch.place
        if touch.everyone and offsets is not None and all(each % alignment == 0 for each in offsets):
            assert place.base is not None
            low, high = min(offsets), max(offsets)
            fine = b.icmp_unsigned("<=", b.sub(b.add(place.base, I64(low)), begin), limit)
            if high != low:
                fine = b.and_(fine, b.icmp_unsigned("<=", b.sub(b.add(place.base, I64(high)), begin), limit))
            if alignment > 1:
                rest = b.and_(place.base, I64(alignment - 1))
                fine = b.and_(fine, b.icmp_unsigned("==", rest, I64(0)))
        else:
            addresses = code.addresses(place)
            distance = b.sub(addresses, splat(b, begin, WARP))
            if touch.space == "local":
                stride = code.layout.local_bytes
                distance = b.sub(distance, vector_constant(I64, [lane * stride for lane in range(WARP)]))
            inside = b.icmp_unsigned("<=", distance, splat(b, limit, WARP))
            if alignment > 1:
                rest = b.and_(addresses, vector_constant(I64, [alignment - 1] * WARP))
                inside = b.and_(inside, b.icmp_unsigned("==", rest, vector_constant(I64, [0] * WARP)))
            others = b.xor(b.bitcast(touch.mask, I32), I32(-1))
            fine = b.icmp_unsigned("==", b.or_(b.bitcast(inside, I32), others), I32(-1))
        return b.and_(fine, enough) if enough is not None else fine

    def _fast(self, code: Code, touch: Touch, number: int) -> None:
        """The shadow's part of an access that is inside."""
        b = code.b
        if touch.space == "const":
            return
        if touch.space in self.shadows:
            self._shadow(code, touch, number, self.shadows[touch.space])
            return
        cache = code.pointer_to(self.caches, CACHE_BYTES * number)
        distance = b.load(code.pointer_to(cache, CACHE_SHADOW), typ=I64, align=8)
        tracked, done = code.new_block("tracked"), code.new_block("shadow_done")
        b.cbranch(b.icmp_unsigned("!=", distance, I64(0)), tracked, done)
        code.go_on_in(tracked)
        self._shadow(code, touch, number, distance)
        b.branch(done)
        code.go_on_in(done)

    def _shadow(self, code: Code, touch: Touch, number: int, distance: ir.Value) -> None:
        b, size, count = code.b, touch.size, touch.count
        place = _moved(code, touch.place, distance)
        known = touch.everyone and place.base is not None and place.offsets is not None
        used = self.sites[number]["used"]
        if touch.reads and used:
            if known:
                assert place.base is not None and place.offsets is not None
                found = load_known(b, place.base, place.offsets, place.groups, size, count)
            else:
                found = load_unknown(b, code.addresses(place), touch.mask, size, count)
            bad: ir.Value | None = None
            for k, value in enumerate(found):
                if used >> k & 1:
                    zero = b.icmp_unsigned("==", value, ir.Constant(value.type, None if _is_vector(value) else 0))
                    bad = zero if bad is None else b.or_(bad, zero)
            assert bad is not None
            bits = b.bitcast(code.resized(bad, WARP) if _is_vector(bad) else code.wide.splat(bad), I32)
            bits = b.and_(bits, b.bitcast(touch.mask, I32))
            report, done = code.new_block("unwritten"), code.new_block("written")
            b.cbranch(b.icmp_unsigned("!=", bits, I32(0)), report, done)
            code.go_on_in(report)
            b.store(code.addresses(touch.place), self.slot)
            code.call_hook(UNWRITTEN, I32(number), bits, self.slot)
            b.branch(done)
            code.go_on_in(done)
        if touch.writes:
            ones = ir.Constant(integer(size), -1)
            if known and place.offsets == ZERO and place.groups == 1:
                store_known(b, place.base, ZERO, 1, [ones] * count, size)
            elif known:
                assert place.base is not None and place.offsets is not None
                store_known(b, place.base, place.offsets, place.groups, [splat(b, ones, WARP)] * count, size)
            else:
                store_unknown(b, code.addresses(place), touch.mask, [splat(b, ones, WARP)] * count, size)


# --- facts


def _site(operation: Operation) -> dict[str, Any]:
    """A place in the kernel at which nothing is looked at; see struct CheckedSite of check.h."""
    instruction = operation.instruction
    return {
        "kind": NOTHING, "region": 0, "reads": False, "writes": False, "strong": False, "atomic": False,
        "releases": False, "spins": False, "element": 0, "count": 0,
        "used": 0, "line": instruction.source_line or 0, "position": str(instruction.position),
        "barrier": -1, "counted": False, "arrives": False, "family": 0, "starts": -1, "shuffle": 0,
        "behind": [],
    }  # fmt: skip


def _is_everyone(code: Code, members: Operand) -> bool:
    """Whether a membermask is known to name all lanes."""
    if isinstance(members, Immediate):
        return int(members.value) & 0xFFFFFFFF == 0xFFFFFFFF
    shape = code.shape_of(members)
    return shape is not None and shape.constant is not None and shape.constant & 0xFFFFFFFF == 0xFFFFFFFF


def _waits_for_memory(loop: Sequence[Block]) -> bool:
    """Whether a branch in the loop depends on what the loop reads and others may write meanwhile."""
    depends: set[str] = set()
    changed = True
    while changed:
        changed = False
        for block in loop:
            for operation in block.operations:
                reads_flag = operation.instruction.opcode == "atom" or (
                    operation.kind is Kind.LOAD and operation.access is not None and operation.access.volatile
                )
                if (reads_flag or depends & set(operation.reads)) and not depends >= set(operation.writes):
                    depends.update(operation.writes)
                    changed = True
    return any(block.control is not None and depends & set(block.control.reads) for block in loop)


def _is_vector(value: ir.Value) -> bool:
    return isinstance(value.type, ir.VectorType)


def _moved(code: Code, place: Place, distance: ir.Value) -> Place:
    """The same addresses, `distance` further on."""
    if place.vector is not None:
        return Place(None, None, 1, code.b.add(place.vector, splat(code.b, distance, WARP)))
    assert place.base is not None
    step = distance if place.groups == 1 else splat(code.b, distance, place.groups)
    return Place(code.b.add(place.base, step), place.offsets, place.groups, None)


def _frame_offsets(code: Code, touch: Touch) -> tuple[int, ...] | None:
    """Known offsets of the lanes from one base, in local memory from where each lane's frame would have it."""
    place = touch.place
    if place.base is None or place.offsets is None or place.groups > 1:
        return None
    stride = code.layout.local_bytes if touch.space == "local" else 0
    return tuple(offset - lane * stride for lane, offset in enumerate(place.offsets))


def _is_inside_variable(code: Code, touch: Touch, size: int) -> bool:
    """Whether the address is a constant offset in a variable of shared or local memory."""
    address = touch.address
    if address is None or not isinstance(address.base, Symbol):
        return False
    name, layout = address.base.name, code.layout
    if touch.space == "shared" and name in layout.shared:
        at_byte, end = layout.shared[name], layout.shared_bytes
    elif touch.space == "local" and name in layout.local:
        at_byte, end = layout.local[name], layout.local_bytes
    else:
        return False
    at_byte += address.base.offset + address.offset
    return at_byte >= 0 and at_byte + size <= end and at_byte % size == 0
