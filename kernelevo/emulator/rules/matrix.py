"""Matrix instructions of a warp: mma, wmma, ldmatrix, stmatrix, movmatrix.

The fragments of mma, ldmatrix and stmatrix are laid out as the PTX ISA says. Those of wmma are not specified there;
here they are those of two mma instructions side by side, so that load, mma and store agree. Products are exact and are
added in float32 (int32 for bytes) in the order of k, with one rounding per addition; hardware may round differently.
Float16 accumulators round once at the end.

Lane 4 g + t of a fragment holds row g (and g + 8) of A, C and D, and column g of B. All lanes must take part.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from llvmlite import ir

from kernelevo.emulator.emit import WARP, Emitter, size_of, vector_constant
from kernelevo.emulator.instruction import Instruction
from kernelevo.emulator.rules.row import Result, Row, Signature

I1, I16, I32, I64, PTR = ir.IntType(1), ir.IntType(16), ir.IntType(32), ir.IntType(64), ir.PointerType()
GROUP = tuple(lane // 4 for lane in range(WARP))
THREAD = tuple(lane % 4 for lane in range(WARP))


# --- mma


def _shape(i: Instruction) -> tuple[int, int, int]:
    for modifier in i.modifiers:
        if found := re.fullmatch(r"m(\d+)n(\d+)k(\d+)", modifier):
            return int(found[1]), int(found[2]), int(found[3])
    raise ValueError(i.form)


def _per_register(kind: str) -> int:
    """Elements of A or B in one register."""
    return 1 if kind in ("tf32", "f64") else 32 // size_of(kind)


def _mma_operands(i: Instruction) -> Signature:
    d, a, _b, c = i.types
    k = _shape(i)[2]
    words = k // (4 * _per_register(a))  # registers of B; A has a second row
    count = {"f16": 2, "f32": 4, "s32": 4, "f64": 4}
    kind = {"f16": "b32", "f32": "f32", "s32": "b32", "f64": "f64"}
    word = "f64" if a == "f64" else "b32"
    return (kind[d],) * count[d], (word,) * (3 * words) + (kind[c],) * count[c]


def _mma(e: Emitter, i: Instruction, *args: ir.Value) -> Result:
    d, a, b, c = i.types
    words = _shape(i)[2] // (4 * _per_register(a))
    left, right, sums = args[: 2 * words], args[2 * words : 3 * words], list(args[3 * words :])
    return _multiply(e, d, a, b, c, left, right, sums)


def _multiply(
    e: Emitter, d: str, a: str, b: str, c: str, left: Sequence[ir.Value], right: Sequence[ir.Value],
    sums: Sequence[ir.Value],
) -> tuple[ir.Value, ...]:  # fmt: skip
    """d = a x b + c for 16 x 8 of d; fragments as registers."""
    per = _per_register(a)
    rows = [[_elements(e, word, a) for word in left[half::2]] for half in (0, 1)]  # [row half][word][element]
    columns = [_elements(e, word, b) for word in right]
    totals = [_unpacked(e, value, c) for value in sums] if c == "f16" else [[value] for value in sums]
    flat = [value for group in totals for value in group]
    for k in range(per * 4 * len(right)):
        word, thread, element = k // (4 * per), k % (4 * per) // per, k % per
        own = [4 * g + thread for g in GROUP]
        xs = [_from_lanes(e, rows[half][word][element], own) for half in (0, 1)]
        ys = [_from_lanes(e, columns[word][element], [4 * (2 * t + n) + thread for t in THREAD]) for n in (0, 1)]
        flat = [_add_product(e, xs[n // 2], ys[n % 2], total) for n, total in enumerate(flat)]
    if d == "f16":
        halves = [e.builder.fptrunc(value, e.type_of("f16")) for value in flat]
        return tuple(_packed(e, low, high) for low, high in zip(halves[::2], halves[1::2], strict=True))
    return tuple(flat)


def _add_product(e: Emitter, x: ir.Value, y: ir.Value, total: ir.Value) -> ir.Value:
    if isinstance(total.type.element, ir.IntType):
        return e.builder.add(e.builder.mul(x, y), total)
    return e.fma(x, y, total)


def _from_lanes(e: Emitter, value: ir.Value, lanes: Sequence[int]) -> ir.Value:
    return e.builder.shuffle_vector(value, ir.Constant(value.type, ir.Undefined), vector_constant(I32, lanes))


def _elements(e: Emitter, word: ir.Value, kind: str) -> list[ir.Value]:
    """The numbers in a register of A or B, as float32, float64 or int32."""
    if kind == "f64":
        return [word]
    if kind == "tf32":  # 10 bits of mantissa; the rest does not count
        return [e.bits(e.builder.and_(word, e.const("b32", 0xFFFFE000)), "f32")]
    width = size_of(kind)
    parts = []
    for position in range(32 // width):
        part = e.builder.lshr(word, e.const("b32", position * width)) if position else word
        part = e.builder.trunc(part, e.type_of(f"b{width}"))
        if kind in ("s8", "u8"):
            parts.append(e.resize(part, 32, signed=kind == "s8"))
        else:
            parts.append(e.to_f32(e.bits(part, kind), kind))
    return parts


def _unpacked(e: Emitter, word: ir.Value, kind: str) -> list[ir.Value]:
    return _elements(e, word, kind)


def _packed(e: Emitter, low: ir.Value, high: ir.Value) -> ir.Value:
    """Two halves as one register, the first in the low bits."""
    words = [e.builder.zext(e.bitcast(half, e.shape(I16)), e.type_of("b32")) for half in (low, high)]
    return e.builder.or_(words[0], e.builder.shl(words[1], e.const("b32", 16)))


# --- wmma: m16n16k16 (f16, bf16, s8, u8) and m16n16k8 (tf32) as two mma of 8 columns


def _wmma_words(kind: str, k: int, matrix: str) -> int:
    """Registers of an A or B fragment; f16 ones hold everything twice."""
    words = 16 * k // WARP // _per_register(kind)
    return 2 * words if kind == "f16" else words


def _wmma_mma_operands(i: Instruction) -> Signature:
    d, a, b, c = _wmma_types(i)
    k = _shape(i)[2]
    kind = {"f16": "b32", "f32": "f32", "s32": "b32"}
    counts = {"f16": 4, "f32": 8, "s32": 8}
    sources = ("b32",) * (_wmma_words(a, k, "a") + _wmma_words(b, k, "b"))
    return (kind[d],) * counts[d], sources + (kind[c],) * counts[c]


def _wmma_types(i: Instruction) -> tuple[str, str, str, str]:
    if len(i.types) == 2:  # of D and C; A and B are f16
        return i.types[0], "f16", "f16", i.types[1]
    d, a, b, c = i.types
    return d, a, b, c


def _wmma_mma(e: Emitter, i: Instruction, *args: ir.Value) -> Result:
    d, a, b, c = _wmma_types(i)
    k = _shape(i)[2]
    count_a, count_b = _wmma_words(a, k, "a"), _wmma_words(b, k, "b")
    left, right, sums = args[:count_a], args[count_a : count_a + count_b], args[count_a + count_b :]
    words = k // (4 * _per_register(a))
    half = len(sums) // 2
    results: list[ir.Value] = []
    for n in (0, 1):
        own = right[n * words : (n + 1) * words]
        results += _multiply(e, d, a, b, c, left[: 2 * words], own, sums[n * half : (n + 1) * half])
    return tuple(results)


def _wmma_load_operands(i: Instruction) -> Signature:
    (kind,), k = i.types, _shape(i)[2]
    matrix = i.modifiers[1]
    if matrix == "c":
        return (("b32",) * 4 if kind == "f16" else ("f32" if kind == "f32" else "b32",) * 8), ("b64", "b32")
    return ("b32",) * _wmma_words(kind, k, matrix), ("b64", "b32")


def _wmma_load(e: Emitter, i: Instruction, base: ir.Value, stride: ir.Value | None = None) -> Result:
    (kind,) = i.types
    matrix, k, by_row = i.modifiers[1], _shape(i)[2], "row" in i.modifiers
    step = stride if stride is not None else e.const("b32", 16 if matrix != "b" or by_row else k)
    if matrix == "c":
        places = _accumulator_places(kind)
        values = [_gather_elements(e, base, step, by_row, kind, place) for place in places]
        return tuple(e.bits(value, "f32") if kind == "f32" else value for value in values)
    per = _per_register(kind)
    words = k // (4 * per)
    values = []
    for word in range(2 * words if matrix == "a" else words * 2):
        elements = []
        for element in range(per):
            if matrix == "a":
                outer = [g + 8 * (word % 2) for g in GROUP]
                inner = [(word // 2) * 4 * per + t * per + element for t in THREAD]
                elements.append((outer, inner))
            else:
                outer = [(word % words) * 4 * per + t * per + element for t in THREAD]
                inner = [g + 8 * (word // words) for g in GROUP]
                elements.append((outer, inner))
        values.append(_gather_elements(e, base, step, by_row, kind, elements))
    return (*values, *values) if kind == "f16" else tuple(values)


def _accumulator_places(kind: str) -> list[list[tuple[list[int], list[int]]]]:
    """Per register of C or D, per element in it: every lane's row and column."""
    places = []
    for n in (0, 1):
        for half in (0, 1):
            pair = [([g + 8 * half for g in GROUP], [8 * n + 2 * t + j for t in THREAD]) for j in (0, 1)]
            places += [pair] if kind == "f16" else [[each] for each in pair]
    return places


def _offsets(e: Emitter, step: ir.Value, by_row: bool, size: int, place: tuple[list[int], list[int]]) -> ir.Value:
    """Byte offsets of an element in every lane, as i64."""
    row, column = place
    slow, fast = (row, column) if by_row else (column, row)
    lines = e.builder.mul(e.resize(step, 64, signed=False), vector_constant(I64, [size * each for each in slow]))
    return e.builder.add(lines, vector_constant(I64, [size * each for each in fast]))


def _gather_elements(
    e: Emitter, base: ir.Value, step: ir.Value, by_row: bool, kind: str, places: Sequence[tuple[list[int], list[int]]]
) -> ir.Value:
    """A register's elements from memory, packed; `base` is the tile's address in every lane."""
    size = max(8, size_of(kind)) // 8
    word: ir.Value | None = None
    for position, place in enumerate(places):
        address = e.builder.add(base, _offsets(e, step, by_row, size, place))
        value = e.resize(_gather(e, address, size), 32, signed=False)
        if position:
            value = e.builder.shl(value, e.const("b32", 8 * size * position))
        word = value if word is None else e.builder.or_(word, value)
    assert word is not None
    return word


def _gather(e: Emitter, addresses: ir.Value, size: int) -> ir.Value:
    element = ir.IntType(8 * size)
    vector, pointers = ir.VectorType(element, WARP), ir.VectorType(PTR, WARP)
    everyone = vector_constant(I1, [1] * WARP)
    where = e.builder.inttoptr(e.touch(addresses, size) if e.touch else addresses, pointers)
    name = f"llvm.masked.gather.v{WARP}i{8 * size}.v{WARP}p0"
    return e.call(name, vector, where, I32(size), everyone, ir.Constant(vector, None))


def _wmma_store_operands(i: Instruction) -> Signature:
    (kind,) = i.types
    values = ("b32",) * 4 if kind == "f16" else ("f32" if kind == "f32" else "b32",) * 8
    return (), ("b64", *values, "b32")


def _wmma_store(e: Emitter, i: Instruction, base: ir.Value, *args: ir.Value) -> Result:
    (kind,) = i.types
    by_row = "row" in i.modifiers
    places = _accumulator_places(kind)
    values, rest = args[: len(places)], args[len(places) :]
    step = rest[0] if rest else e.const("b32", 16)
    size = size_of(kind) // 8
    for value, elements in zip(values, places, strict=True):
        word = e.bitcast(value, e.type_of("b32"))
        for position, place in enumerate(elements):
            part = e.builder.lshr(word, e.const("b32", 16 * position)) if position else word
            part = e.resize(part, 8 * size, signed=False)
            address = e.builder.add(base, _offsets(e, step, by_row, size, place))
            where = e.builder.inttoptr(e.touch(address, size) if e.touch else address, ir.VectorType(PTR, WARP))
            name = f"llvm.masked.scatter.v{WARP}i{8 * size}.v{WARP}p0"
            e.call(name, ir.VoidType(), part, where, I32(size), vector_constant(I1, [1] * WARP))
    return None


# --- ldmatrix, stmatrix, movmatrix: 8 x 8 matrices of 16-bit elements, one row per address


def _count(i: Instruction) -> int:
    return int(next(m for m in i.modifiers if re.fullmatch(r"x[124]", m))[1])


def _row_pointers(e: Emitter, addresses: ir.Value, matrix: int) -> list[ir.Value]:
    lanes = range(8 * matrix, 8 * matrix + 8)
    return [e.builder.inttoptr(e.builder.extract_element(addresses, I32(lane)), PTR) for lane in lanes]


def _concatenated(e: Emitter, parts: list[ir.Value]) -> ir.Value:
    while len(parts) > 1:
        lanes = vector_constant(I32, range(2 * parts[0].type.count))
        parts = [e.builder.shuffle_vector(x, y, lanes) for x, y in zip(parts[::2], parts[1::2], strict=True)]
    return parts[0]


def _transposed(e: Emitter, word: ir.Value) -> ir.Value:
    halves = e.builder.bitcast(word, ir.VectorType(I16, 2 * WARP))
    order = [(2 * t + j) * 8 + g for g, t in zip(GROUP, THREAD, strict=True) for j in (0, 1)]
    return e.builder.bitcast(_from_lanes(e, halves, order), word.type)


def _ldmatrix(e: Emitter, i: Instruction, addresses: ir.Value) -> Result:
    row = ir.VectorType(I32, 4)
    found = []
    for matrix in range(_count(i)):
        rows = [e.builder.load(pointer, typ=row, align=4) for pointer in _row_pointers(e, addresses, matrix)]
        word = _concatenated(e, rows)
        found.append(_transposed(e, word) if "trans" in i.modifiers else word)
    return tuple(found)


def _stmatrix(e: Emitter, i: Instruction, addresses: ir.Value, *words: ir.Value) -> Result:
    for matrix, word in enumerate(words):
        whole = _transposed(e, word) if "trans" in i.modifiers else word
        for number, pointer in enumerate(_row_pointers(e, addresses, matrix)):
            e.builder.store(_from_lanes(e, whole, range(4 * number, 4 * number + 4)), pointer, align=4)
    return None


def _movmatrix(e: Emitter, i: Instruction, word: ir.Value) -> Result:
    return _transposed(e, word)


SECTION = "warp-level-matrix-instructions-"
_HALF = (("f16", "f16", "f16", "f16"), ("f32", "f16", "f16", "f32"), ("f32", "f16", "f16", "f16"))
_BRAIN = (("f32", "bf16", "bf16", "f32"),)
_BYTES = tuple(("s32", a, b, "s32") for a in ("s8", "u8") for b in ("s8", "u8"))
_TF32 = (("f32", "tf32", "tf32", "f32"),)
ROWS = (
    Row("mma", SECTION + "mma", _HALF + _BRAIN, _mma, ("sync", "aligned", "m16n8k8|m16n8k16", "row", "col"),
        _mma_operands, warp_wide=True),
    Row("mma", SECTION + "mma", _TF32, _mma, ("sync", "aligned", "m16n8k4|m16n8k8", "row", "col"),
        _mma_operands, warp_wide=True),
    Row("mma", SECTION + "mma", _BYTES, _mma, ("sync", "aligned", "m16n8k16|m16n8k32", "row", "col"),
        _mma_operands, warp_wide=True),
    Row("wmma", SECTION + "wmma-mma", (("f16", "f16"), ("f32", "f32"), ("f32", "f16"), ("f16", "f32")), _wmma_mma,
        ("mma", "sync", "aligned", "row|col", "row|col", "m16n16k16"), _wmma_mma_operands, warp_wide=True),
    Row("wmma", SECTION + "wmma-mma", _BRAIN, _wmma_mma,
        ("mma", "sync", "aligned", "row|col", "row|col", "m16n16k16"), _wmma_mma_operands, warp_wide=True),
    Row("wmma", SECTION + "wmma-mma", _TF32, _wmma_mma,
        ("mma", "sync", "aligned", "row|col", "row|col", "m16n16k8"), _wmma_mma_operands, warp_wide=True),
    Row("wmma", SECTION + "wmma-load", (("f16",), ("bf16",)), _wmma_load,
        ("load", "a|b", "sync", "aligned", "row|col", "m16n16k16", "global|shared|shared::cta?"), _wmma_load_operands,
        warp_wide=True),
    Row("wmma", SECTION + "wmma-load", (("tf32",),), _wmma_load,
        ("load", "a|b", "sync", "aligned", "row|col", "m16n16k8", "global|shared|shared::cta?"), _wmma_load_operands,
        warp_wide=True),
    Row("wmma", SECTION + "wmma-load", (("f16",), ("f32",)), _wmma_load,
        ("load", "c", "sync", "aligned", "row|col", "m16n16k16|m16n16k8", "global|shared|shared::cta?"),
        _wmma_load_operands, warp_wide=True),
    Row("wmma", SECTION + "wmma-store", (("f16",), ("f32",)), _wmma_store,
        ("store", "d", "sync", "aligned", "row|col", "m16n16k16|m16n16k8", "global|shared|shared::cta?"),
        _wmma_store_operands, warp_wide=True),
    Row("ldmatrix", SECTION + "ldmatrix", (("b16",),), _ldmatrix,
        ("sync", "aligned", "x1|x2|x4", "trans?", "shared|shared::cta?"),
        lambda i: (("b32",) * _count(i), ("b64",)), warp_wide=True),
    Row("ldmatrix", SECTION + "ldmatrix", (("b16",),), _ldmatrix,
        ("sync", "aligned", "m8n8", "x1|x2|x4", "trans?", "shared|shared::cta?"),
        lambda i: (("b32",) * _count(i), ("b64",)), warp_wide=True),
    Row("ldmatrix", SECTION + "ldmatrix", (("b16",),), _ldmatrix,
        ("sync", "aligned", "x1|x2|x4", "trans?", "m8n8", "shared|shared::cta?"),
        lambda i: (("b32",) * _count(i), ("b64",)), warp_wide=True),
    Row("stmatrix", SECTION + "stmatrix", (("b16",),), _stmatrix,
        ("sync", "aligned", "m8n8", "x1|x2|x4", "trans?", "shared|shared::cta?"),
        lambda i: ((), ("b64", *("b32",) * _count(i))), warp_wide=True),
    Row("movmatrix", SECTION + "movmatrix", (("b16",),), _movmatrix, ("sync", "aligned", "m8n8", "trans"),
        lambda i: (("b32",), ("b32",)), warp_wide=True),
)  # fmt: skip
