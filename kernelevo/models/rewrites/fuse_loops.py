"""Two neighbouring loops over the same range become one, so that what both read is read once.

Offered only where the loops have nothing to do with each other: neither touches a variable or an array that the other
writes, whichever pointer it goes through.
"""

from __future__ import annotations

from collections.abc import Iterator

from tree_sitter import Node

from kernelevo.models.rewrites.rule import Rule, Site
from kernelevo.models.rewrites.shapes import loop_label, partition, pointer_root
from kernelevo.models.rewrites.syntax import (
    Edit,
    Function,
    Loop,
    Unit,
    block_text,
    canonical,
    contents,
    counted_loop,
    declarations,
    dedented,
    following,
    header,
    identifiers,
    in_block,
    indentation,
    indented,
    leaves_early,
    pragma_of,
    text,
    written,
)


def sites(unit: Unit) -> Iterator[Site]:
    """One site per pair of loops; three loops in a row are fused by two rewrites."""
    for kernel in unit.kernels:
        for node in _for_statements(kernel.body):
            first = counted_loop(node)
            if first is None or not in_block(node) or partition(unit, kernel, first) is None:
                continue
            between: list[Node] = []
            for statement in following(node):
                second = counted_loop(statement)
                if second is not None:
                    if _same_range(unit, kernel, first, second) and _apart(unit, kernel, first, second, between):
                        yield Site(f"{kernel.name} {loop_label(first)}", tuple(_edits(first, second, between)))
                    break
                if statement.type != "declaration" or leaves_early(statement):
                    break
                between.append(statement)


def _for_statements(body: Node) -> Iterator[Node]:
    for child in body.named_children:
        if child.type == "for_statement":
            yield child
        elif child.type in ("compound_statement", "if_statement"):
            yield from _for_statements(child)


def _same_range(unit: Unit, kernel: Function, first: Loop, second: Loop) -> bool:
    def spelled(loop: Loop) -> tuple[str, ...]:
        parts = [loop.start, loop.bound, *([loop.step] if loop.step is not None else [])]
        return (loop.type, *(canonical(unit, kernel, part) for part in parts))

    return spelled(first) == spelled(second)


def _apart(unit: Unit, kernel: Function, first: Loop, second: Loop, between: list[Node]) -> bool:
    """Whether the order of the two loops' iterations, and of what stands between them, makes no difference."""
    if leaves_early(first.body) or leaves_early(second.body):
        return False

    def outer(names: frozenset[str], loop: Loop) -> set[str]:
        local = {name for name, _, _ in declarations(loop.body)} | {loop.variable}
        return {pointer_root(unit, kernel, name) for name in names - local} | (names - local)

    reads = [outer(identifiers(loop.body), loop) for loop in (first, second)]
    writes = [outer(written(loop.body), loop) for loop in (first, second)]
    if writes[0] & reads[1] or writes[1] & reads[0]:
        return False
    early = {name for s in between for name in identifiers(s)}
    return not early & writes[0] and not any(written(s) for s in between)


def _edits(first: Loop, second: Loop, between: list[Node]) -> Iterator[Edit]:
    margin = indentation(first.node)
    before = "".join(f"{dedented(s)}\n" for s in between)
    bodies = [block_text(contents(first.body)), block_text(contents(second.body), {second.variable: first.variable})]
    if {n for n, _, _ in declarations(first.body)} & {n for n, _, _ in declarations(second.body)}:
        bodies[1] = f"{{\n{indented(bodies[1], '    ')}\n}}"
    pragma = f"{text(kept).strip()}\n" if (kept := pragma_of(first.node)) is not None else ""
    merged = f"{header(first)} {{\n{indented(bodies[0], '    ')}\n{indented(bodies[1], '    ')}\n}}"
    start = (kept or first.node).start_byte
    code = f"{before}{pragma}{merged}"
    yield Edit(start, second.node.end_byte, indented(code, margin).lstrip())


RULE = Rule(name="fuse_loops", weight=4.0, sites=sites)
