"""One element per thread becomes a loop over elements a whole grid apart, with a grid that fits the GPU.

Each thread then pays for its start once for several elements, and the number of blocks no longer grows with the data.
"""

from __future__ import annotations

from collections.abc import Iterator

from kernelevo.models.rewrites.rule import Rule, Site
from kernelevo.models.rewrites.shapes import grid_node, guard
from kernelevo.models.rewrites.syntax import (
    Edit,
    Unit,
    atom,
    dedented,
    fresh,
    identifiers,
    indentation,
    indented,
    leaves_early,
    replace,
    statements,
    text,
    written,
)

BLOCKS = (528, 1056, 2112)  # 4, 8 and 16 blocks on each of 132 multiprocessors


def sites(unit: Unit) -> Iterator[Site]:
    for kernel in unit.kernels:
        found = guard(unit, kernel)
        launches = unit.launches_of(kernel)
        if found is None or not launches or found.index in identifiers(found.bound):
            continue
        if any(leaves_early(s) or found.index in written(s) for s in found.body):
            continue
        grids = [grid_node(unit, launch.host, launch.configuration[0]) for launch in launches]
        before = [s for s in statements(kernel.body) if s.start_byte < found.declaration.start_byte]
        if any(g is None for g in grids) or any(s.type != "declaration" for s in before):
            continue
        body = "\n".join(dedented(s) for s in found.body)
        stride = fresh(unit, "threads_of_grid")
        loop = (
            f"const {found.type} {stride} = gridDim.x * blockDim.x;\n"
            f"for ({found.type} {found.index} = {text(found.start)}; {found.index} < {text(found.bound)}; "
            f"{found.index} += {stride}) {{\n{indented(body, '    ')}\n}}"
        )
        margin = indentation(found.declaration)
        change = Edit(found.declaration.start_byte, found.end.end_byte, indented(loop, margin).lstrip())
        for blocks in BLOCKS:
            edits = [replace(g, f"{atom(g)} < {blocks} ? {atom(g)} : {blocks}") for g in grids if g is not None]
            yield Site(f"{kernel.name} blocks={blocks}", (change, *edits))


RULE = Rule(name="grid_stride", weight=0.5, sites=sites)
