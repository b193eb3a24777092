"""A row that several loops read is read once and kept in registers.

The first iterations of each loop, as many as there are registers, run unrolled with a known count; the rest of a long
row is read again as before. Worth most after `vectorize`, when one register variable is a whole vector.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from kernelevo.models.rewrites.rule import Rule, Site
from kernelevo.models.rewrites.shapes import (
    Access,
    Partition,
    Use,
    accesses,
    element_type,
    outermost_loops,
    partition,
    pointer_root,
)
from kernelevo.models.rewrites.syntax import (
    Edit,
    Function,
    Loop,
    Unit,
    block_text,
    canonical,
    constant,
    contents,
    dedented,
    fresh,
    header,
    in_block,
    indentation,
    indented,
    leaves_early,
    pragma_of,
    text,
    written,
)

COUNTS = {"vector": (2, 4, 8), "scalar": (4, 8, 16)}  # elements that one thread keeps


@dataclass(frozen=True, slots=True)
class Row:
    """Loops over one range that read the same array."""

    base: str
    array: str
    loops: tuple[tuple[Loop, tuple[Access, ...]], ...]


def rows_read_again(unit: Unit, kernel: Function) -> list[Row]:
    """Every array that two or more block- or warp-stride loops over one range read and the kernel never writes."""
    stored = {pointer_root(unit, kernel, name) for name in written(kernel.body)}
    groups: dict[tuple[object, ...], list[tuple[Loop, Access]]] = {}
    for loop in outermost_loops(kernel):
        if partition(unit, kernel, loop) not in (Partition.BLOCK, Partition.WARP) or not in_block(loop.node):
            continue
        if leaves_early(loop.body) or constant(unit, kernel, loop.bound) is not None or loop.step is None:
            continue
        for access in accesses(unit, kernel, loop.statements, loop.variable) or []:
            parent = loop.node.parent.id if loop.node.parent is not None else 0
            bound = canonical(unit, kernel, loop.bound)
            key = (access.base, access.array, bound, text(loop.start), text(loop.step), parent)
            groups.setdefault(key, []).append((loop, access))
    found = []
    for (base, array, *_), pairs in groups.items():
        loops = {loop.node.id: loop for loop, _ in pairs}
        if len(loops) < 2 or pointer_root(unit, kernel, str(array)) in stored:
            continue
        if any(access.use is not Use.READ for _, access in pairs) or _changes_between(kernel, str(array), pairs):
            continue
        by_loop = tuple(
            (loop, tuple(access for other, access in pairs if other.node.id == id_)) for id_, loop in loops.items()
        )
        found.append(Row(str(base), str(array), by_loop))
    return found


def _changes_between(kernel: Function, array: str, pairs: list[tuple[Loop, Access]]) -> bool:
    """Whether the bound or the address may be different in a later loop."""
    names = {array} | {text(loop.bound) for loop, _ in pairs}
    return bool(names & written(kernel.body))


def sites(unit: Unit) -> Iterator[Site]:
    """Per range of loops and number of registers: one site for all arrays together and one for each alone."""
    for kernel in unit.kernels:
        ranges: dict[tuple[str, ...], list[Row]] = {}
        for row in rows_read_again(unit, kernel):
            loop = row.loops[0][0]
            ranges.setdefault((text(loop.start), text(loop.bound)), []).append(row)
        for rows in ranges.values():
            for chosen in [rows, *([row] for row in rows if len(rows) > 1)]:
                types = [element_type(kernel, row.array) or "" for row in chosen]
                arrays = "+".join(row.array for row in chosen)
                for count in COUNTS["vector" if any("<" in t for t in types) else "scalar"]:
                    edits = tuple(_edits(unit, chosen, types, count))
                    yield Site(f"{kernel.name} {arrays} registers={count}", edits, 2.0 if chosen is rows else 1.0)


def _edits(unit: Unit, rows: list[Row], types: list[str], count: int) -> Iterator[Edit]:
    slot = fresh(unit, "slot")
    kept = [fresh(unit, f"{row.array}_kept") for row in rows]
    loops = {loop.node.start_byte: loop for row in rows for loop, _ in row.loops}
    declared = "".join(f"{type_} {name}[{count}];\n" for name, type_ in zip(kept, types, strict=True))
    for place, loop in sorted(loops.items()):
        start, step = text(loop.start), text(loop.step) if loop.step is not None else "1"
        replacing: dict[int, str] = {}
        fill = ""
        for name, row in zip(kept, rows, strict=True):
            for position, (other, found) in enumerate(row.loops):
                if other.node.start_byte == place:
                    replacing |= {access.node.id: f"{name}[{slot}]" for access in found}
                    fill += f"{name}[{slot}] = {text(found[0].node)};\n" if position == 0 else ""
        body = block_text(contents(loop.body), replacing=replacing)
        rest = header(loop).replace(f"= {start};", f"= {start} + {count} * {step};", 1)
        new = (
            f"#pragma unroll\nfor (int {slot} = 0; {slot} < {count}; ++{slot}) {{\n"
            f"    const {loop.type} {loop.variable} = {start} + {slot} * {step};\n"
            f"    if ({loop.variable} < {text(loop.bound)}) {{\n{indented(fill + body, ' ' * 8)}\n    }}\n}}\n"
            f"{rest} {dedented(loop.body)}"
        )
        new, declared = declared + new, ""
        pragma = pragma_of(loop.node)
        begin = pragma.start_byte if pragma is not None else loop.node.start_byte
        yield Edit(begin, loop.node.end_byte, indented(new, indentation(loop.node)).lstrip())


RULE = Rule(name="keep_row", weight=3.0, sites=sites, after=("vectorize", "online_softmax", "fuse_loops"))
