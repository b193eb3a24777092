"""One block per row becomes one warp per row, several rows per block.

The 32 threads of a warp reduce by shuffles alone: no shared memory, no barrier. Good for many short rows. Takes kernels
whose shared memory and barriers serve reductions only, in their tree form or as `warp_shuffle` left them.
"""

from __future__ import annotations

from collections.abc import Iterator

from tree_sitter import Node

from kernelevo.models.rewrites.device_code import COMBINE, block_reduce, warp_reduce
from kernelevo.models.rewrites.rule import Rule, Site
from kernelevo.models.rewrites.shapes import block_size, grid_node, tree_reductions, unused_after
from kernelevo.models.rewrites.syntax import (
    Edit,
    Function,
    Launch,
    Unit,
    arguments,
    callee,
    calls,
    declarations,
    field,
    find,
    fresh,
    has_qualifier,
    indentation,
    is_barrier,
    replace,
    statements,
    text,
)
from kernelevo.models.rewrites.warp_shuffle import reduced

ROWS = (4, 8)  # rows, and warps, per block


def sites(unit: Unit) -> Iterator[Site]:
    for kernel in unit.kernels:
        launches = unit.launches_of(kernel)
        if len(launches) != 1 or block_size(unit, kernel) is None or not _is_by_row(kernel):
            continue
        body = _body_edits(unit, kernel)
        grid = grid_node(unit, launches[0].host, launches[0].configuration[0])
        if body is None or grid is None:
            continue
        for rows in ROWS:
            yield Site(f"{kernel.name} rows={rows}", (*body, *_launch_edits(unit, kernel, launches[0], grid, rows)))


def _is_by_row(kernel: Function) -> bool:
    """Whether blocks differ by blockIdx.x alone, threads by threadIdx.x alone, and no number stands for the block."""
    members = {text(n) for n in find(kernel.body, "field_expression")}
    dimensions = {m for m in members if m.partition(".")[0] in ("blockIdx", "threadIdx", "blockDim", "gridDim")}
    bounds = any(True for _ in find(kernel.node, "launch_bounds"))
    return {"blockIdx.x", "threadIdx.x"} <= dimensions <= {"blockIdx.x", "threadIdx.x", "blockDim.x"} and not bounds


def _body_edits(unit: Unit, kernel: Function) -> list[Edit] | None:
    """Edits of the kernel's body; None when it shares anything but reductions."""
    edits: list[Edit] = []
    reductions = tree_reductions(unit, kernel)
    arrays = {r.array for r in reductions}
    for array in sorted(arrays):
        found = reduced(unit, kernel, [r for r in reductions if r.array == array], by="warp")
        if found is None:
            return None
        edits += found
    helpers = {block_reduce(unit, op).name: op for op in COMBINE if not block_reduce(unit, op).edits}
    for call in find(kernel.body, "call_expression"):
        given = arguments(call)
        if callee(call) in helpers and len(given) == 2:
            warp = warp_reduce(unit, helpers[callee(call)])
            type_ = text(field(call, "function")).removeprefix(callee(call))
            edits += [*warp.edits, replace(call, f"{warp.name}{type_}({text(given[0])})")]
            arrays.add(text(given[1]))
    if not arrays or calls(kernel.body) & {"__syncwarp", "atomicAdd"}:
        return None
    for name, declaration, _ in declarations(kernel.body):
        if has_qualifier(declaration, "__shared__"):
            if name not in arrays or len(declarations(declaration)) != 1:
                return None
            edits.append(_line(declaration))
    covered = [(e.start, e.end) for e in edits]
    row = fresh(unit, "row_of_warp")
    for barrier in find(kernel.body, "expression_statement"):
        if is_barrier(barrier) and not _covered(barrier, covered):
            if barrier.parent is None or barrier.parent.type != "compound_statement":
                return None
            edits.append(_line(barrier))
    for member in find(kernel.body, "field_expression"):
        if text(member) == "blockIdx.x":
            if _covered(member, covered):
                return None
            edits.append(replace(member, row))
    used = {text(n) for n in find(kernel.body, "subscript_expression")}
    if any(u.partition("[")[0] in arrays and u not in _reduced_uses(kernel, arrays, edits) for u in used):
        return None
    rows = fresh(unit, "rows_of_grid")
    first = statements(kernel.body)[0]
    margin = indentation(first)
    start = (
        f"const unsigned int {row} = blockIdx.x * blockDim.y + threadIdx.y;\n{margin}if ({row} >= {rows}) {{\n"
        f"{margin}    return;\n{margin}}}\n{margin}"
    )
    edits.append(Edit(kernel.body.start_byte + 1, kernel.body.start_byte + 1, f"\n{margin}{start.rstrip()}"))
    last = kernel.parameters[-1].node
    edits.append(Edit(last.end_byte, last.end_byte, f", unsigned int {rows}"))
    return list(dict.fromkeys(edits))


def _covered(node: Node, ranges: list[tuple[int, int]]) -> bool:
    return any(start <= node.start_byte and node.end_byte <= end for start, end in ranges)


def _reduced_uses(kernel: Function, arrays: set[str], edits: list[Edit]) -> set[str]:
    """Subscripts of the reductions' arrays that an edit already replaces."""
    ranges = [(e.start, e.end) for e in edits]
    found = [n for n in find(kernel.body, "subscript_expression") if text(n).partition("[")[0] in arrays]
    return {text(n) for n in found if _covered(n, ranges)} - {text(n) for n in found if not _covered(n, ranges)}


def _line(statement: Node) -> Edit:
    """Deletes a statement with its line."""
    start = statement.start_byte - len(indentation(statement).encode()) - 1
    return Edit(start, statement.end_byte, "")


def _launch_edits(unit: Unit, kernel: Function, launch: Launch, grid: Node, rows: int) -> list[Edit]:
    per_block = fresh(unit, "ROWS_PER_BLOCK")
    start = kernel.first.start_byte
    constant = (
        f"// Rows, and warps, per block of {kernel.name}.\n// tunable: {per_block} = 2, 4, 8, 16\n"
        f"constexpr int {per_block} = {rows};\n\n"
    )
    count = text(grid)
    last = launch.arguments[-1]
    given = f"({count} + {per_block} - 1) / {per_block}"
    return [
        Edit(start, start, constant),
        replace(launch.configuration[0], given),
        replace(launch.configuration[1], f"dim3(32, {per_block})"),
        Edit(last.end_byte, last.end_byte, f", static_cast<unsigned int>({count})"),
        *unused_after(launch.host, launch.configuration[1:2]),
    ]


RULE = Rule(name="warp_per_row", weight=3.0, sites=sites)
