"""`#pragma unroll` before an innermost loop whose trip count the compiler does not know."""

from __future__ import annotations

from collections.abc import Iterator

from kernelevo.models.rewrites.rule import STRUCTURE, Rule, Site
from kernelevo.models.rewrites.shapes import loop_label, partition
from kernelevo.models.rewrites.syntax import (
    Edit,
    Loop,
    Unit,
    constant,
    find,
    in_block,
    indentation,
    insert_before,
    is_barrier,
    loops,
    pragma_of,
)

FACTORS = (2, 4, 8)


def sites(unit: Unit) -> Iterator[Site]:
    """One site per kernel, loop header and factor; loops with the same header in one kernel change together."""
    for kernel in unit.kernels:
        groups: dict[str, list[Loop]] = {}
        for loop in loops(kernel):
            innermost = not any(
                pragma_of(inner) is None
                for inner in find(loop.body, "for_statement", "while_statement", "do_statement")
            )
            waits = any(is_barrier(statement) for statement in find(loop.body, "expression_statement"))
            known = constant(unit, kernel, loop.bound) is not None
            if partition(unit, kernel, loop) is None:
                continue  # the few elements that another rewrite left over
            if innermost and not waits and not known and in_block(loop.node) and pragma_of(loop.node) is None:
                groups.setdefault(loop_label(loop), []).append(loop)
        for label, group in groups.items():
            for factor in FACTORS:
                edits = tuple(insert_before(loop.node, f"#pragma unroll {factor}") for loop in group)
                yield Site(f"{kernel.name} {label} {factor}", edits)


def drop_sites(unit: Unit) -> Iterator[Site]:
    """The opposite: one site per kernel with `#pragma unroll N`, all of which go."""
    for kernel in unit.kernels:
        edits = []
        for pragma in find(kernel.body, "preproc_call"):
            words = (pragma.text or b"").decode().split()
            if words[:2] == ["#pragma", "unroll"] and len(words) == 3:
                edits.append(Edit(pragma.start_byte, pragma.end_byte + len(indentation(pragma)), ""))
        if edits:
            yield Site(kernel.name, tuple(edits))


RULE = Rule(name="unroll", weight=1.0, sites=sites, after=STRUCTURE)
DROP = Rule(name="drop_unroll", weight=1.0, sites=drop_sites)
