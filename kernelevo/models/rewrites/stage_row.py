"""A row that several loops read is read once and kept in shared memory.

Each thread reads back only what it wrote, so no barrier is needed. Elements beyond the array's size are read again.
"""

from __future__ import annotations

from collections.abc import Iterator

from kernelevo.models.rewrites.keep_row import Row, rows_read_again
from kernelevo.models.rewrites.rule import Rule, Site
from kernelevo.models.rewrites.shapes import Partition, element_type, partition
from kernelevo.models.rewrites.syntax import (
    Edit,
    Unit,
    fresh,
    insert_before,
    replace,
    text,
)

SIZES = {"vector": (512, 1024), "scalar": (2048, 4096)}  # elements of the shared array


def sites(unit: Unit) -> Iterator[Site]:
    for kernel in unit.kernels:
        for row in rows_read_again(unit, kernel):
            type_ = element_type(kernel, row.array)
            if type_ is None or any(partition(unit, kernel, loop) is not Partition.BLOCK for loop, _ in row.loops):
                continue
            if any(loop.body.type != "compound_statement" for loop, _ in row.loops):
                continue
            for size in SIZES["vector" if "<" in type_ else "scalar"]:
                yield Site(f"{kernel.name} {row.array} shared={size}", tuple(_edits(unit, row, type_, size)))


def _edits(unit: Unit, row: Row, type_: str, size: int) -> Iterator[Edit]:
    staged, value = fresh(unit, f"{row.array}_staged"), fresh(unit, f"{row.array}_value")
    for position, (loop, found) in enumerate(row.loops):
        first, i = loop.statements[0], loop.variable
        load = text(found[0].node)
        if position == 0:
            yield insert_before(loop.node, f"__shared__ {type_} {staged}[{size}];")
            lines = f"const {type_} {value} = {load};\nif ({i} < {size}) {{\n    {staged}[{i}] = {value};\n}}"
        else:
            lines = f"const {type_} {value} = {i} < {size} ? {staged}[{i}] : {load};"
        yield insert_before(first, lines)
        for access in found:
            yield replace(access.node, value)


RULE = Rule(name="stage_row", weight=1.0, sites=sites, after=("vectorize", "online_softmax", "keep_row"))
