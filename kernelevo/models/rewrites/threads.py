"""Another number of threads per block.

Changes the one literal that the launch's block size comes from, together with everything that repeats it: shared
arrays of that extent, `__launch_bounds__`, and grid expressions such as (n + 255) / 256. A kernel that holds the old
number anywhere else is left alone.
"""

from __future__ import annotations

from collections.abc import Iterator

from tree_sitter import Node

from kernelevo.models.rewrites.rule import STRUCTURE, Rule, Site
from kernelevo.models.rewrites.syntax import (
    Function,
    Launch,
    Unit,
    ancestors,
    declarations,
    definition,
    field,
    find,
    integer,
    replace,
    strip,
    text,
)

THREADS = (64, 128, 256, 512, 1024)
SHAPES = ((8, 32), (16, 8), (16, 16), (32, 4), (32, 8), (32, 16), (32, 32))  # x, y of two-dimensional blocks


def sites(unit: Unit) -> Iterator[Site]:
    """One site per block size that differs from the present one: "forward threads=512", "forward threads=32x8"."""
    seen: set[int] = set()
    for launch in unit.launches:
        literal = _literal(unit, launch)
        if literal is not None and literal.id not in seen:
            seen.add(literal.id)
            yield from _one_dimensional(unit, launch, literal)
        elif literal is None:
            yield from _two_dimensional(unit, launch)


def _literal(unit: Unit, launch: Launch) -> Node | None:
    """The number that the block size is written as, behind names."""
    node = strip(launch.configuration[1]) if len(launch.configuration) > 1 else None
    while node is not None and node.type == "identifier":
        found = definition(unit, launch.host, text(node))
        node = strip(found) if found is not None else None
    return node if node is not None and node.type == "number_literal" else None


def _one_dimensional(unit: Unit, launch: Launch, literal: Node) -> Iterator[Site]:
    old = integer(text(literal))
    launches = [other for other in unit.launches if _literal(unit, other) == literal]
    kernels = [k for k in unit.kernels if k.name in {other.kernel for other in launches}]
    if old is None or any(other.kernel == k.name and other not in launches for other in unit.launches for k in kernels):
        return
    repeats: list[tuple[Node, int]] = []
    for kernel in kernels:
        found = _repeats_in_kernel(kernel, old)
        if found is None:
            return
        repeats += [(node, 0) for node in found]
    for other in launches:
        repeats += _repeats_in_launch(unit, other, old, literal)
    unique = {node.start_byte: (node, offset) for node, offset in repeats}
    for new in THREADS:
        if new != old:
            edits = [replace(literal, str(new))]
            edits += [replace(node, str(new + offset)) for node, offset in unique.values()]
            yield Site(f"{launch.host.name} threads={new}" if len(kernels) > 1 else f"{kernels[0].name} threads={new}",
                       tuple(edits))  # fmt: skip


def _repeats_in_kernel(kernel: Function, old: int) -> list[Node] | None:
    """Where the kernel repeats its block size as a number; None when the number also means something else."""
    found: list[Node] = []
    for number in find(kernel.node, "number_literal"):
        if integer(text(number)) != old:
            continue
        parents = list(ancestors(number))
        if parents[0].type == "launch_bounds" or (parents[0].type == "array_declarator" and _is_shared(parents)):
            found.append(number)
        else:
            return None
    return found


def _is_shared(parents: list[Node]) -> bool:
    declaration = next((p for p in parents if p.type == "declaration"), None)
    return declaration is not None and any(text(c) == "__shared__" for c in declaration.children)


def _repeats_in_launch(unit: Unit, launch: Launch, old: int, literal: Node) -> list[tuple[Node, int]]:
    """(number, offset from the block size) in the launch's grid and shared bytes, looking through names."""
    found: list[tuple[Node, int]] = []
    pending = [c for i, c in enumerate(launch.configuration) if i in (0, 2)]
    for _ in range(16):
        if not pending:
            break
        node = pending.pop()
        for number in find(node, "number_literal"):
            value = integer(text(number))
            if number != literal and value in (old, old - 1) and value != 1:
                found.append((number, value - old))
        for name in find(node, "identifier"):
            inner = definition(unit, launch.host, text(name))
            if inner is not None and inner.id != node.id and inner != literal:
                pending.append(inner)
    return found


def _two_dimensional(unit: Unit, launch: Launch) -> Iterator[Site]:
    """dim3 threads(16, 16), where the grid is computed from threads.x and threads.y and the kernel from blockDim."""
    if len(launch.configuration) < 2:
        return
    block = strip(launch.configuration[1])
    found = list(declarations(launch.host.body, text(block))) if block.type == "identifier" else []
    if len(found) != 1 or found[0][2] is None or found[0][2].type != "argument_list":
        return
    sizes = [c for c in found[0][2].named_children if c.type != "comment"]
    present = [integer(text(s)) if s.type == "number_literal" else None for s in sizes]
    kernels = [k for k in unit.kernels if k.name == launch.kernel]
    uses = [n for n in find(launch.host.body, "identifier") if text(n) == text(block)]
    if len(present) != 2 or None in present or len(kernels) != 1:
        return
    if not any(_is_member(n, "x") for n in uses) or not any(_is_member(n, "y") for n in uses):
        return  # the grid is computed from something else
    numbers = {integer(text(n)) for n in find(kernels[0].node, "number_literal")}
    shared = any("__shared__" in [text(c) for c in d.children] for d in find(kernels[0].body, "declaration"))
    if shared or numbers & set(present) or any(other is not launch and other.kernel == launch.kernel
                                               for other in unit.launches):  # fmt: skip
        return
    for x, y in SHAPES:
        if [x, y] != present:
            yield Site(f"{launch.kernel} threads={x}x{y}", (replace(sizes[0], str(x)), replace(sizes[1], str(y))))


def _is_member(identifier: Node, name: str) -> bool:
    parent = identifier.parent
    return parent is not None and parent.type == "field_expression" and text(field(parent, "field")) == name


RULE = Rule(name="threads", weight=2.0, sites=sites, after=STRUCTURE)
