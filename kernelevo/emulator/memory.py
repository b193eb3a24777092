"""Loads and stores of a warp as LLVM IR: the cheapest form for the addresses at hand.

Known offsets between lanes (shapes.py) give scalar loads, whole-vector loads, 8- or 16-lane pieces, or a gather with
constant indices. Otherwise one helper function per element size tests the addresses as it runs: one address for all,
one row, two rows, and a gather or scatter as the last resort. Values are integers of the element size; addresses are
host addresses as i64. All functions build code at the position of the given builder.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from llvmlite import ir

from .emit import WARP, Emitter, mangle, vector_constant
from .shapes import ZERO, Offsets

I1, I8, I32, I64, PTR = ir.IntType(1), ir.IntType(8), ir.IntType(32), ir.IntType(64), ir.PointerType()
ADDRESSES = ir.VectorType(I64, WARP)


def integer(size: int) -> ir.IntType:
    return ir.IntType(8 * size)


def lanes_of(element: ir.Type, lanes: int = WARP) -> ir.VectorType:
    return ir.VectorType(element, lanes)


# --- addresses known relative to lane 0


def load_known(b: ir.IRBuilder, base: ir.Value, offsets: Offsets, groups: int, size: int, count: int) -> list[ir.Value]:
    """`count` values of `size` bytes from base + offsets[lane]. base: of one leader, or a vector of `groups` leaders'.

    Gives a value per leader where each group reads one address, else a value per lane.
    """
    element = integer(size)
    if groups > 1:
        return _load_groups(b, base, offsets, groups, size, count)
    if offsets == ZERO:
        return [b.load(_pointer(b, base, k * size), typ=element, align=size) for k in range(count)]
    pieces = _pieces(offsets, size * count)
    if pieces is None:
        return [_gather_known(b, base, offsets, k * size, size) for k in range(count)]
    width, kinds = pieces
    parts = {
        piece: _load_piece(
            b, b.add(base, ir.Constant(I64, piece[0])) if piece[0] else base, piece[1], width, size, count
        )
        for piece in dict.fromkeys(kinds)
    }
    return [concatenate(b, [parts[piece][k] for piece in kinds]) for k in range(count)]


def _load_piece(b: ir.IRBuilder, base: ir.Value, contiguous: bool, width: int, size: int, count: int) -> list[ir.Value]:
    """`count` vectors for `width` lanes that read a row or one address."""
    element = integer(size)
    if contiguous:
        whole = b.load(_pointer(b, base, 0), typ=lanes_of(element, width * count), align=size)
        return [pick(b, whole, range(k, width * count, count)) for k in range(count)]
    return [splat(b, b.load(_pointer(b, base, k * size), typ=element, align=size), width) for k in range(count)]


def _load_groups(
    b: ir.IRBuilder, leaders: ir.Value, offsets: Offsets, groups: int, size: int, count: int
) -> list[ir.Value]:
    element, width = integer(size), WARP // groups
    bases = [b.extract_element(leaders, I32(k)) for k in range(groups)]
    if offsets == ZERO:
        values = []
        for k in range(count):
            vector: ir.Value = ir.Constant(lanes_of(element, groups), ir.Undefined)
            for number, base in enumerate(bases):
                one = b.load(_pointer(b, base, k * size), typ=element, align=size)
                vector = b.insert_element(vector, one, I32(number))
            values.append(vector)
        return values
    kinds = _group_kinds(offsets, groups, size * count)
    if kinds is None:
        pointers = _group_pointers(b, leaders, offsets, groups)
        return [gather(b, pointers(k * size), all_lanes(), size) for k in range(count)]
    parts = [_load_piece(b, base, row, width, size, count) for base, row in zip(bases, kinds, strict=True)]
    return [concatenate(b, [part[k] for part in parts]) for k in range(count)]


def _group_kinds(offsets: Offsets, groups: int, stride: int) -> list[bool] | None:
    """Per group whether its lanes form a row (True) or share one address (False); None: neither."""
    width, kinds = WARP // groups, []
    for first in range(0, WARP, width):
        own = offsets[first : first + width]
        if own == tuple(range(0, width * stride, stride)):
            kinds.append(True)
        elif not any(own):
            kinds.append(False)
        else:
            return None
    return kinds


def _group_pointers(b: ir.IRBuilder, leaders: ir.Value, offsets: Offsets, groups: int) -> Callable[[int], ir.Value]:
    """Pointers of all lanes, some bytes further on."""
    spread = pick_many(b, leaders, [lane * groups // WARP for lane in range(WARP)])

    def pointers(extra: int) -> ir.Value:
        wide = b.add(spread, vector_constant(I64, [offset + extra for offset in offsets]))
        return b.inttoptr(wide, ir.VectorType(PTR, WARP))

    return pointers


def store_known(
    b: ir.IRBuilder, base: ir.Value, offsets: Offsets, groups: int, values: Sequence[ir.Value], size: int
) -> None:
    """Stores vectors, or scalars where all lanes write one address, to base + offsets[lane]. The last lane wins."""
    count = len(values)
    if groups > 1:
        _store_groups(b, base, offsets, groups, values, size)
        return
    if offsets == ZERO:
        for k, value in enumerate(values):
            b.store(value, _pointer(b, base, k * size), align=size)
        return
    pieces = _pieces(offsets, size * count)
    if pieces is None or not all(contiguous for _start, contiguous in pieces[1]):
        for k, value in enumerate(values):
            _scatter_known(b, base, offsets, k * size, value, size)
        return
    width, kinds = pieces
    for number, (start, _contiguous) in enumerate(kinds):
        parts = [pick(b, value, range(number * width, (number + 1) * width)) for value in values]
        b.store(interleave(b, parts), _pointer(b, base, start), align=size)


def _store_groups(
    b: ir.IRBuilder, leaders: ir.Value, offsets: Offsets, groups: int, values: Sequence[ir.Value], size: int
) -> None:
    width = WARP // groups
    kinds = _group_kinds(offsets, groups, size * len(values))
    if kinds is None:
        pointers = _group_pointers(b, leaders, offsets, groups)
        for k, value in enumerate(values):
            scatter(b, value, pointers(k * size), all_lanes(), size)
        return
    for number, row in enumerate(kinds):
        base = b.extract_element(leaders, I32(number))
        lanes = range(number * width, (number + 1) * width)
        if row:
            b.store(interleave(b, [pick(b, value, lanes) for value in values]), _pointer(b, base, 0), align=size)
        else:
            for k, value in enumerate(values):
                b.store(b.extract_element(value, I32(lanes[-1])), _pointer(b, base, k * size), align=size)


def _pieces(offsets: Offsets, stride: int) -> tuple[int, list[tuple[int, bool]]] | None:
    """(lanes per piece, [(offset, contiguous or one address)]) with pieces of 32, 16 or 8 lanes; None: irregular."""
    for width in (32, 16, 8):
        found = []
        for first in range(0, WARP, width):
            start = offsets[first]
            steps = {offsets[first + k] - start - k * stride for k in range(width)}
            if steps == {0}:
                found.append((start, True))
            elif all(offsets[first + k] == start for k in range(width)):
                found.append((start, False))
            else:
                break
        else:
            return width, found
    return None


def _pointer(b: ir.IRBuilder, base: ir.Value, offset: int) -> ir.Value:
    pointer = b.inttoptr(base, PTR)
    return b.gep(pointer, [ir.Constant(I32, offset)], source_etype=I8) if offset else pointer


class _Pointers(ir.instructions.Instruction):  # type: ignore[misc]
    """getelementptr of one pointer by a vector of byte offsets; llvmlite has no such form."""

    def __init__(self, parent: ir.Block, base: ir.Value, offsets: ir.Value) -> None:
        super().__init__(parent, ir.VectorType(PTR, WARP), "getelementptr", [base, offsets])

    def descr(self, buf: list[str]) -> None:
        base, offsets = self.operands
        buf.append(f"getelementptr i8, {base.type} {base.get_reference()}, {offsets.type} {offsets.get_reference()}\n")


def _pointers(b: ir.IRBuilder, base: ir.Value, offsets: Offsets, extra: int) -> ir.Value:
    indices = vector_constant(I32, [offset + extra for offset in offsets])
    instruction = _Pointers(b.block, b.inttoptr(base, PTR), indices)
    b._insert(instruction)
    return instruction


def _gather_known(b: ir.IRBuilder, base: ir.Value, offsets: Offsets, extra: int, size: int) -> ir.Value:
    if not all(-(1 << 31) <= offset + extra < 1 << 31 for offset in offsets):
        wide = b.add(splat(b, base, WARP), vector_constant(I64, [offset + extra for offset in offsets]))
        return gather(b, b.inttoptr(wide, ir.VectorType(PTR, WARP)), all_lanes(), size)
    return gather(b, _pointers(b, base, offsets, extra), all_lanes(), size)


def _scatter_known(b: ir.IRBuilder, base: ir.Value, offsets: Offsets, extra: int, value: ir.Value, size: int) -> None:
    if not all(-(1 << 31) <= offset + extra < 1 << 31 for offset in offsets):
        wide = b.add(splat(b, base, WARP), vector_constant(I64, [offset + extra for offset in offsets]))
        scatter(b, value, b.inttoptr(wide, ir.VectorType(PTR, WARP)), all_lanes(), size)
    else:
        scatter(b, value, _pointers(b, base, offsets, extra), all_lanes(), size)


def all_lanes() -> ir.Constant:
    return vector_constant(I1, [1] * WARP)


# --- pieces of vectors


def splat(b: ir.IRBuilder, scalar: ir.Value, lanes: int) -> ir.Value:
    return Emitter(b, lanes).splat(scalar)


def pick(b: ir.IRBuilder, vector: ir.Value, lanes: range) -> ir.Value:
    """The given lanes of a vector as a vector."""
    if lanes == range(vector.type.count):
        return vector
    indices = vector_constant(I32, lanes)
    return b.shuffle_vector(vector, ir.Constant(vector.type, ir.Undefined), indices)


def concatenate(b: ir.IRBuilder, parts: list[ir.Value]) -> ir.Value:
    """Vectors of one size end to end; their number is a power of two."""
    while len(parts) > 1:
        both = vector_constant(I32, range(2 * parts[0].type.count))
        parts = [b.shuffle_vector(x, y, both) for x, y in zip(parts[::2], parts[1::2], strict=True)]
    return parts[0]


def interleave(b: ir.IRBuilder, values: list[ir.Value]) -> ir.Value:
    """Lane 0 of every vector, then lane 1 of every vector, ..."""
    if len(values) == 1:
        return values[0]
    lanes = values[0].type.count
    order = [k * lanes + lane for lane in range(lanes) for k in range(len(values))]
    return pick_many(b, concatenate(b, list(values)), order)


def pick_many(b: ir.IRBuilder, vector: ir.Value, order: list[int]) -> ir.Value:
    indices = vector_constant(I32, order)
    return b.shuffle_vector(vector, ir.Constant(vector.type, ir.Undefined), indices)


def gather(b: ir.IRBuilder, pointers: ir.Value, mask: ir.Value, size: int) -> ir.Value:
    vector = lanes_of(integer(size))
    name = f"llvm.masked.gather.{mangle(vector)}.v{WARP}p0"
    function = declare(b, name, ir.FunctionType(vector, [pointers.type, I32, mask.type, vector]))
    return b.call(function, [pointers, I32(size), mask, ir.Constant(vector, None)])


def scatter(b: ir.IRBuilder, value: ir.Value, pointers: ir.Value, mask: ir.Value, size: int) -> None:
    name = f"llvm.masked.scatter.{mangle(value.type)}.v{WARP}p0"
    function = declare(b, name, ir.FunctionType(ir.VoidType(), [value.type, pointers.type, I32, mask.type]))
    b.call(function, [value, pointers, I32(size), mask])


def masked_load(b: ir.IRBuilder, pointer: ir.Value, mask: ir.Value, vector: ir.VectorType, align: int) -> ir.Value:
    function = declare(
        b, f"llvm.masked.load.{mangle(vector)}.p0", ir.FunctionType(vector, [PTR, I32, mask.type, vector])
    )
    return b.call(function, [pointer, I32(align), mask, ir.Constant(vector, None)])


def masked_store(b: ir.IRBuilder, value: ir.Value, pointer: ir.Value, mask: ir.Value, align: int) -> None:
    function = declare(
        b, f"llvm.masked.store.{mangle(value.type)}.p0",
        ir.FunctionType(ir.VoidType(), [value.type, PTR, I32, mask.type]),
    )  # fmt: skip
    b.call(function, [value, pointer, I32(align), mask])


def declare(b: ir.IRBuilder, name: str, kind: ir.FunctionType) -> ir.Function:
    return b.module.globals.get(name) or ir.Function(b.module, kind, name)


# --- addresses known only as the kernel runs


def load_unknown(b: ir.IRBuilder, addresses: ir.Value, mask: ir.Value, size: int, count: int) -> list[ir.Value]:
    """`count` vectors from one address per lane; lanes outside `mask` (<32 x i1>) read nothing and get 0."""
    function = b.module.globals.get(f"load.{size}x{count}") or _make_load(b.module, size, count)
    result = b.call(function, [addresses, b.bitcast(mask, I32)])
    return [result] if count == 1 else [b.extract_value(result, k) for k in range(count)]


def store_unknown(b: ir.IRBuilder, addresses: ir.Value, mask: ir.Value, values: Sequence[ir.Value], size: int) -> None:
    """Stores one vector per element to one address per lane. Where lanes collide the last one wins."""
    function = b.module.globals.get(f"store.{size}x{len(values)}") or _make_store(b.module, size, len(values))
    b.call(function, [addresses, b.bitcast(mask, I32), *values])


class _Helper:
    """A helper function under construction: tests and paths shared by loads and stores."""

    def __init__(self, module: ir.Module, name: str, kind: ir.FunctionType, stride: int) -> None:
        self.function = ir.Function(module, kind, name)
        self.function.linkage = "internal"
        self.function.attributes.add("noinline")
        self.function.attributes.add("nounwind")
        self.b = ir.IRBuilder(self.function.append_basic_block())
        self.addresses, self.bits = self.function.args[:2]
        b = self.b
        self.mask = b.bitcast(self.bits, ir.VectorType(I1, WARP))
        some = declare(b, "llvm.cttz.i32", ir.FunctionType(I32, [I32, I1]))
        self.first = b.and_(b.call(some, [self.bits, I1(0)]), I32(WARP - 1))
        self.lead = b.extract_element(self.addresses, self.first)
        self.inactive = b.xor(self.bits, I32(-1))
        self.steps = vector_constant(I64, [lane * stride for lane in range(WARP)])
        self.row = b.sub(self.lead, b.mul(b.zext(self.first, I64), I64(stride)))  # lane 0's address if all form a row

    def holds(self, equal: ir.Value) -> ir.Value:
        """Whether a <32 x i1> is true in all active lanes."""
        b = self.b
        return b.icmp_unsigned("==", b.or_(b.bitcast(equal, I32), self.inactive), I32(-1))

    def is_row(self) -> ir.Value:
        b = self.b
        expected = b.add(splat(b, self.row, WARP), self.steps)
        return self.holds(b.icmp_unsigned("==", self.addresses, expected))

    def is_one(self) -> ir.Value:
        b = self.b
        return self.holds(b.icmp_unsigned("==", self.addresses, splat(b, self.lead, WARP)))

    def full(self) -> ir.Value:
        return self.b.icmp_unsigned("==", self.bits, I32(-1))

    def branch(self, condition: ir.Value, name: str) -> ir.Block:
        """The block for a true condition; goes on in the other."""
        yes = self.function.append_basic_block(name)
        no = self.function.append_basic_block(f"not_{name}")
        self.b.cbranch(condition, yes, no)
        self.b.position_at_end(no)
        return yes


def _make_load(module: ir.Module, size: int, count: int) -> ir.Function:
    element, stride = integer(size), size * count
    vector = lanes_of(element)
    result = vector if count == 1 else ir.LiteralStructType([vector] * count)
    helper = _Helper(module, f"load.{size}x{count}", ir.FunctionType(result, [ADDRESSES, I32]), stride)
    b = helper.b

    def give(b: ir.IRBuilder, values: list[ir.Value]) -> None:
        if count == 1:
            b.ret(values[0])
            return
        whole = ir.Constant(result, ir.Undefined)
        for k, value in enumerate(values):
            whole = b.insert_value(whole, value, k)
        b.ret(whole)

    row = ir.IRBuilder(helper.branch(b.and_(helper.is_row(), helper.full()), "row"))
    whole = row.load(_pointer(row, helper.row, 0), typ=lanes_of(element, WARP * count), align=size)
    give(row, [pick(row, whole, range(k, WARP * count, count)) for k in range(count)])
    if count == 1 and size >= 4:
        part = ir.IRBuilder(helper.branch(helper.is_row(), "part_of_row"))
        give(part, [masked_load(part, _pointer(part, helper.row, 0), helper.mask, vector, size)])
    one = ir.IRBuilder(helper.branch(b.and_(helper.is_one(), b.icmp_unsigned("!=", helper.bits, I32(0))), "one"))
    give(one, [splat(one, one.load(_pointer(one, helper.lead, k * size), typ=element, align=size), WARP)
               for k in range(count)])  # fmt: skip
    if count == 1:
        half = WARP // 2
        starts = [b.extract_element(helper.addresses, I32(k)) for k in (0, half)]
        spread = concatenate(b, [splat(b, start, half) for start in starts])
        steps = vector_constant(I64, [lane % half * stride for lane in range(WARP)])
        same = b.icmp_unsigned("==", helper.addresses, b.add(spread, steps))
        two = ir.IRBuilder(helper.branch(b.and_(helper.holds(same), helper.full()), "two_rows"))
        rows = [two.load(_pointer(two, start, 0), typ=lanes_of(element, half), align=size) for start in starts]
        give(two, [concatenate(two, rows)])
        flat = b.icmp_unsigned("==", helper.addresses, spread)
        pair = ir.IRBuilder(helper.branch(b.and_(helper.holds(flat), helper.full()), "two_values"))
        give(pair, [concatenate(pair, [
            splat(pair, pair.load(_pointer(pair, start, 0), typ=element, align=size), half) for start in starts
        ])])  # fmt: skip
    values = []
    for k in range(count):
        addresses = b.add(helper.addresses, splat(b, I64(k * size), WARP)) if k else helper.addresses
        values.append(gather(b, b.inttoptr(addresses, ir.VectorType(PTR, WARP)), helper.mask, size))
    give(b, values)
    return helper.function


def _make_store(module: ir.Module, size: int, count: int) -> ir.Function:
    element, stride = integer(size), size * count
    vector = lanes_of(element)
    kind = ir.FunctionType(ir.VoidType(), [ADDRESSES, I32, *[vector] * count])
    helper = _Helper(module, f"store.{size}x{count}", kind, stride)
    b, values = helper.b, list(helper.function.args[2:])
    row = ir.IRBuilder(helper.branch(b.and_(helper.is_row(), helper.full()), "row"))
    row.store(interleave(row, values), _pointer(row, helper.row, 0), align=size)
    row.ret_void()
    if count == 1 and size >= 4:
        part = ir.IRBuilder(helper.branch(helper.is_row(), "part_of_row"))
        masked_store(part, values[0], _pointer(part, helper.row, 0), helper.mask, size)
        part.ret_void()
    for k, value in enumerate(values):
        addresses = b.add(helper.addresses, splat(b, I64(k * size), WARP)) if k else helper.addresses
        scatter(b, value, b.inttoptr(addresses, ir.VectorType(PTR, WARP)), helper.mask, size)
    b.ret_void()
    return helper.function
