"""Loads and stores of neighbouring elements become one wide load or store.

Takes loops that the threads share out (block, grid or warp stride), loops that one thread runs alone, and kernels
with one element per thread. All loops of a block over the same range change together, so that a thread owns the same
elements in each. Rows whose addresses are not a multiple of the vector's size, and the last elements of a row, take
the scalar loop: the first at run time by a branch that is uniform over the row, the second as a tail.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tree_sitter import Node

from kernelevo.models.rewrites.device_code import vector_type
from kernelevo.models.rewrites.rule import Rule, Site
from kernelevo.models.rewrites.shapes import (
    Access,
    Partition,
    Use,
    accesses,
    element_type,
    grid_node,
    guard,
    is_constant_pointer,
    loop_label,
    outermost_loops,
    partition,
)
from kernelevo.models.rewrites.syntax import (
    Edit,
    Function,
    Loop,
    Unit,
    atom,
    block_text,
    canonical,
    constant,
    contains,
    declarations,
    dedented,
    find,
    fresh,
    header,
    identifiers,
    in_block,
    indentation,
    indented,
    leaves_early,
    pragma_of,
    replace,
    statements,
    text,
    written,
)

WIDTHS = (4, 2)  # elements


@dataclass(frozen=True, slots=True)
class Vectors:
    """Names that one group of loops shares."""

    type: str  # the vector template
    width: int
    count: str  # variable with the number of vectors
    pointers: dict[str, str]  # base -> pointer to vectors


def sites(unit: Unit) -> Iterator[Site]:
    for kernel in unit.kernels:
        for group in _groups(unit, kernel):
            for width in WIDTHS:
                found = _vectorize_loops(unit, kernel, group, width)
                if found is not None:
                    alone = partition(unit, kernel, group[0]) is Partition.NONE
                    weight = width * (0.25 if alone else 1.0)  # a thread's own loop gains least: lanes stay apart
                    yield Site(f"{kernel.name} {loop_label(group[0])} width={width}", found, weight)
        for width in WIDTHS:
            found = _vectorize_guard(unit, kernel, width)
            if found is not None:
                yield Site(f"{kernel.name} element width={width}", found, width)


def _groups(unit: Unit, kernel: Function) -> list[list[Loop]]:
    """Loops over the same range in the same block that can be widened together."""
    groups: dict[tuple[object, ...], list[Loop]] = {}
    loops = list(outermost_loops(kernel))
    for loop in loops:
        kind = partition(unit, kernel, loop)
        if kind is None or not in_block(loop.node) or leaves_early(loop.body):
            continue
        if constant(unit, kernel, loop.bound) is not None:
            continue
        if not accesses(unit, kernel, loop.statements, loop.variable):
            continue
        step = canonical(unit, kernel, loop.step) if loop.step is not None else "1"
        parent = loop.node.parent.id if loop.node.parent is not None else 0
        key = (canonical(unit, kernel, loop.start), step, canonical(unit, kernel, loop.bound), parent, loop.type)
        groups.setdefault(key, []).append(loop)
    return [group for group in groups.values() if not _shares_with_others(unit, kernel, group, loops)]


def _shares_with_others(unit: Unit, kernel: Function, group: list[Loop], loops: list[Loop]) -> bool:
    """Whether a loop outside the group reads or writes what the group stores, or the other way round."""
    if partition(unit, kernel, group[0]) is Partition.NONE:
        return False
    local = {name for loop in group for name, _, _ in declarations(loop.body)}
    stored = _arrays_stored(kernel, group) - local
    others = [loop for loop in loops if loop not in group]
    used_elsewhere = {n for loop in others for n in identifiers(loop.body)}
    stored_elsewhere = _arrays_stored(kernel, others)
    used = {n for loop in group for n in identifiers(loop.body)}
    return bool(stored & used_elsewhere) or bool(stored_elsewhere & used)


def _arrays_stored(kernel: Function, loops: Sequence[Loop]) -> set[str]:
    subscripted = {
        text(n.named_children[0]) for loop in loops for n in find(loop.body, "subscript_expression") if n.named_children
    }
    return {name for loop in loops for name in written(loop.body)} & subscripted


def _vectorize_loops(unit: Unit, kernel: Function, group: list[Loop], width: int) -> tuple[Edit, ...] | None:
    first = group[0]
    found = [accesses(unit, kernel, loop.statements, loop.variable) or [] for loop in group]
    vectors = _name(unit, [a for accesses_ in found for a in accesses_], width)
    setup = _setup(unit, kernel, vectors, found, f"{text(first.bound)}", first.type, [loop.node for loop in group])
    if setup is None:
        return None
    edits = list(vector_type(unit).edits)
    for position, (loop, accesses_) in enumerate(zip(group, found, strict=True)):
        index = fresh(unit, "v")
        start, step = text(loop.start), text(loop.step) if loop.step is not None else "1"
        advance = f"{index} += {step}" if loop.step is not None else f"++{index}"
        wide = _wide_body(unit, kernel, loop.statements, accesses_, vectors, loop.variable, index, loop.type)
        tail_start = f"{vectors.count} * {width}" + ("" if start == "0" else f" + {start}")
        tail = header(loop).replace(f"= {start};", f"= {tail_start};", 1)
        wide_header = f"for ({loop.type} {index} = {start}; {index} < {vectors.count}; {advance})"
        new = f"{wide_header} {{\n{indented(wide, '    ')}\n}}\n{tail} {dedented(loop.body)}"
        if position == 0:
            new = f"{setup}\n{new}"
        margin = indentation(loop.node)
        pragma = pragma_of(loop.node)
        begin = pragma.start_byte if pragma is not None else loop.node.start_byte
        edits.append(Edit(begin, loop.node.end_byte, indented(new, margin).lstrip()))
    return tuple(edits)


def _vectorize_guard(unit: Unit, kernel: Function, width: int) -> tuple[Edit, ...] | None:
    """One element per thread becomes one vector per thread, in grid-stride loops that any grid size suits."""
    found = guard(unit, kernel)
    launches = unit.launches_of(kernel)
    if found is None or not launches or found.index in identifiers(found.bound):
        return None
    if any(leaves_early(s) or found.index in written(s) for s in found.body):
        return None
    accesses_ = accesses(unit, kernel, found.body, found.index)
    if accesses_ is None or all(access.use is Use.WRITE for access in accesses_):
        return None  # with no load to widen, threads would only become fewer
    before = [s for s in statements(kernel.body) if s.start_byte < found.declaration.start_byte]
    if any(s.type != "declaration" for s in before):
        return None
    vectors = _name(unit, accesses_, width)
    setup = _setup(unit, kernel, vectors, [accesses_], text(found.bound), found.type, [found.statement])
    if setup is None:
        return None
    edits = list(vector_type(unit).edits)
    grid_threads = fresh(unit, "threads_of_grid")
    index = fresh(unit, "v")
    start, margin = text(found.start), indentation(found.declaration)
    wide = _wide_body(unit, kernel, found.body, accesses_, vectors, found.index, index, found.type)
    tail = block_text(_with_comments(found.body))
    new = (
        f"{setup}\n"
        f"const {found.type} {grid_threads} = gridDim.x * blockDim.x;\n"
        f"for ({found.type} {index} = {start}; {index} < {vectors.count}; {index} += {grid_threads}) {{\n"
        f"{indented(wide, '    ')}\n}}\n"
        f"for ({found.type} {found.index} = {vectors.count} * {width} + {start}; {found.index} < {text(found.bound)}; "
        f"{found.index} += {grid_threads}) {{\n{indented(tail, '    ')}\n}}"
    )
    edits.append(Edit(found.declaration.start_byte, found.end.end_byte, indented(new, margin).lstrip()))
    for launch in launches:
        grid = grid_node(unit, launch.host, launch.configuration[0])
        if grid is None:
            return None
        edits.append(replace(grid, f"({atom(grid)} + {width - 1}) / {width}"))
    return tuple(edits)


def _with_comments(body: tuple[Node, ...]) -> list[Node]:
    parent = body[0].parent
    if parent is None or len(body) == 1:
        return list(body)
    return [c for c in parent.named_children if body[0].start_byte <= c.start_byte and c.end_byte <= body[-1].end_byte]


def _name(unit: Unit, found: list[Access], width: int) -> Vectors:
    pointers: dict[str, str] = {}
    for access in found:
        if access.base not in pointers:
            pointers[access.base] = fresh(unit, f"{access.array}_vectors", *pointers.values())
    return Vectors(vector_type(unit).name, width, fresh(unit, "vectors", *pointers.values()), pointers)


def _setup(
    unit: Unit,
    kernel: Function,
    vectors: Vectors,
    found: list[list[Access]],
    bound: str,
    type_: str,
    places: list[Node],
) -> str | None:
    """Declarations before the first loop; None when an address or the bound is not known there yet."""
    unique = {access.base: access for accesses_ in found for access in accesses_}
    place = places[0].start_byte
    known = {name for name, declaration, _ in declarations(kernel.body) if declaration.end_byte <= place}
    late = {name for name, declaration, _ in declarations(kernel.body) if declaration.start_byte >= place}
    changed = written(kernel.body) - {access.array for access in unique.values()}
    terms, lines = [], []
    for base, access in unique.items():
        names = _words(base)
        if not (element_type(kernel, access.array) or "").replace("::", "").isidentifier():
            return None  # already a vector, or some other template
        if names & (late - known) or names & changed or _reassigned(kernel, access.array):
            return None
        element = element_type(kernel, access.array)
        vector = f"{vectors.type}<{element}, {vectors.width}>"
        is_constant = is_constant_pointer(kernel, access.array)
        vector = f"const {vector}" if is_constant else vector
        terms.append(f"reinterpret_cast<uintptr_t>({base}) % sizeof({vector.removeprefix('const ')}) == 0")
        lines.append(f"{vector}* {vectors.pointers[base]} = reinterpret_cast<{vector}*>({base});")
    if _words(bound) & (changed | (late - known)):
        return None
    value = f"{bound} / {vectors.width}" if bound.isidentifier() else f"({bound}) / {vectors.width}"
    aligned = fresh(unit, "aligned")
    test = "\n    && ".join(terms)
    type_ = type_.removeprefix("const ")
    count = f"const {type_} {vectors.count} = {aligned} ? {value} : 0;"
    return "\n".join([f"const bool {aligned} = {test};", count, *lines])


def _words(code: str) -> set[str]:
    word = "".join(c if c.isalnum() or c == "_" else " " for c in code)
    return set(word.split())


def _reassigned(kernel: Function, array: str) -> bool:
    """Whether the pointer itself, not what it points to, changes."""
    for node in find(kernel.body, "assignment_expression", "update_expression"):
        target = node.child_by_field_name("left" if node.type == "assignment_expression" else "argument")
        if target is not None and target.type == "identifier" and text(target) == array:
            return True
    return False


def _wide_body(
    unit: Unit,
    kernel: Function,
    body: tuple[Node, ...],
    found: list[Access],
    vectors: Vectors,
    variable: str,
    index: str,
    type_: str,
) -> str:
    """Loads, a loop over the vector's lanes that runs the original body, stores."""
    lane = fresh(unit, "lane")
    loads, stores = [], []
    replacing: dict[int, str] = {}
    taken: list[str] = []
    for base in dict.fromkeys(access.base for access in found):
        of_base = [access for access in found if access.base == base]
        values = fresh(unit, f"{of_base[0].array}_values", *taken)
        taken.append(values)
        vector = f"{vectors.type}<{element_type(kernel, of_base[0].array)}, {vectors.width}>"
        is_stored = any(access.use is not Use.READ for access in of_base)
        whole = f"{vectors.pointers[base]}[{index}]"
        if not is_stored:
            loads.append(f"const {vector} {values} = {whole};")
        elif _written_first(of_base, body):
            loads.append(f"{vector} {values};")
        else:
            loads.append(f"{vector} {values} = {whole};")
        if is_stored:
            stores.append(f"{whole} = {values};")
        replacing |= {access.node.id: f"{values}.lane[{lane}]" for access in of_base}
    code = block_text(_with_comments(body), replacing=replacing)
    if variable in _words(code):
        code = f"const {type_.removeprefix('const ')} {variable} = {index} * {vectors.width} + {lane};\n{code}"
    inner = f"#pragma unroll\nfor (int {lane} = 0; {lane} < {vectors.width}; ++{lane}) {{\n{indented(code, '    ')}\n}}"
    return "\n".join([*loads, inner, *stores])


def _written_first(of_base: list[Access], body: tuple[Node, ...]) -> bool:
    """Whether every iteration stores the element before it reads it: its first use is a plain, unconditional store."""

    def moment(access: Access) -> int:
        """Where in the text the access happens: an assignment stores after its right side was read."""
        parent = access.node.parent
        return parent.end_byte if access.use is Use.WRITE and parent is not None else access.node.end_byte

    first = min(of_base, key=moment)
    if first.use is not Use.WRITE:
        return False
    return any(
        s.type == "expression_statement" and contains(s, first.node) and s.named_children[0] == first.node.parent
        for s in body
    )


RULE = Rule(name="vectorize", weight=6.0, sites=sites, after=("tile", "online_softmax", "fuse_loops"))
