"""A sum that one thread runs alone is shared out over the threads of a block in y.

For kernels with one output per thread and a long serial loop, such as sums over the rows of a matrix for each column:
there are then too few threads to fill the GPU. The block becomes 32 x N; each of the N threads of a column sums every
N-th term, and the partial sums meet in shared memory.
"""

from __future__ import annotations

from collections.abc import Iterator

from kernelevo.models.rewrites.rule import Rule, Site
from kernelevo.models.rewrites.shapes import Guard, Partition, grid_node, guard, partition, unused_after
from kernelevo.models.rewrites.syntax import (
    Edit,
    Function,
    Launch,
    Loop,
    Unit,
    atom,
    calls,
    constant,
    counted_loop,
    declarations,
    declared_type,
    dedented,
    field,
    find,
    fresh,
    identifiers,
    indentation,
    indented,
    leaves_early,
    operator,
    replace,
    statements,
    strip,
    substitute,
    text,
    written,
)

SPLITS = (8, 16, 32)  # threads that share one sum


def sites(unit: Unit) -> Iterator[Site]:
    for kernel in unit.kernels:
        found, launches = guard(unit, kernel), unit.launches_of(kernel)
        if found is None or len(launches) != 1 or len(launches[0].configuration) < 2:
            continue
        if any("launch_bounds" in n.type for n in kernel.node.children) or not _is_one_dimensional(kernel):
            continue
        if grid_node(unit, launches[0].host, launches[0].configuration[0]) is None:
            continue
        for split in SPLITS:
            edits = _edits(unit, kernel, found, launches[0], split)
            if edits is not None:
                yield Site(f"{kernel.name} threads={split}", edits)


def _is_one_dimensional(kernel: Function) -> bool:
    """Whether threads and blocks differ in x alone."""
    members = {text(n) for n in find(kernel.body, "field_expression")}
    return not members & {f"{name}.{axis}" for name in ("threadIdx", "blockIdx", "gridDim") for axis in "yz"}


def _edits(unit: Unit, kernel: Function, found: Guard, launch: Launch, split: int) -> tuple[Edit, ...] | None:
    loops = [(i, loop) for i, s in enumerate(found.body) if (loop := counted_loop(s)) is not None]
    before_guard = [s for s in statements(kernel.body) if s.start_byte < found.declaration.start_byte]
    if len(loops) != 1 or before_guard or any(leaves_early(s) for s in found.body):
        return None
    place, loop = loops[0]
    total = _total(loop)
    before, after = found.body[:place], found.body[place + 1 :]
    if total is None or partition(unit, kernel, loop) is not Partition.NONE or constant(unit, kernel, loop.bound):
        return None
    declared = [(d, value) for s in before for name, d, value in declarations(s) if name == total]
    if any(s.type != "declaration" for s in before) or len(declared) != 1:
        return None
    declaration, start = declared[0]
    if start is None:
        return None
    if len(declarations(declaration)) != 1 or len(launch.arguments) != len(kernel.parameters):
        return None
    given = {p.name: atom(a) for p, a in zip(kernel.parameters, launch.arguments, strict=True)}
    if identifiers(found.bound) - set(given) or identifiers(start):
        return None
    type_ = declared_type(declaration)
    parts, part = fresh(unit, f"{total}_parts"), fresh(unit, "part")
    setup = "\n".join(dedented(s) for s in before if s != declaration)
    setup = f"{setup}\n" if setup else ""
    summing = f"for ({loop.type} {loop.variable} = threadIdx.y; {loop.variable} < {text(loop.bound)}; " + (
        f"{loop.variable} += {split}) {dedented(loop.body)}"
    )
    rest = "\n".join(dedented(s) for s in after)
    bound = text(found.bound)
    new = (
        f"__shared__ {type_} {parts}[{split}][32];\n"
        f"{dedented(found.declaration)}\n"
        f"{type_} {total} = threadIdx.y == 0 ? {text(start)} : {type_}(0);\n"
        f"if ({found.index} < {bound}) {{\n{indented(setup + summing, '    ')}\n}}\n"
        f"{parts}[threadIdx.y][threadIdx.x] = {total};\n"
        f"__syncthreads();\n"
        f"if (threadIdx.y == 0 && {found.index} < {bound}) {{\n"
        f"    for (int {part} = 1; {part} < {split}; ++{part}) {{\n"
        f"        {total} += {parts}[{part}][threadIdx.x];\n"
        f"    }}\n{indented(setup + rest, '    ')}\n}}"
    )
    grid = f"({substitute(found.bound, given)} + 31) / 32"
    return (
        Edit(found.declaration.start_byte, found.end.end_byte, indented(new, indentation(found.declaration)).lstrip()),
        replace(launch.configuration[0], grid),
        replace(launch.configuration[1], f"dim3(32, {split})"),
        *unused_after(launch.host, launch.configuration[:2]),
    )


def _total(loop: Loop) -> str | None:
    """The variable of a loop whose body declares values and adds one of them up: total += value."""
    *before, last = loop.statements or (loop.body,)
    if any(s.type != "declaration" for s in before) or last.type != "expression_statement":
        return None
    addition = last.named_children[0]
    if addition.type != "assignment_expression" or operator(addition) != "+=":
        return None
    target = strip(field(addition, "left"))
    if target.type != "identifier" or written(loop.body) != {text(target)}:
        return None
    mentions = [n for n in find(loop.body, "identifier") if text(n) == text(target)]
    return text(target) if len(mentions) == 1 and not calls(loop.body) & {"atomicAdd", "__syncthreads"} else None


RULE = Rule(name="split_rows", weight=8.0, sites=sites)
