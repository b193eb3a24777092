"""Divisions by a value that a loop does not change become one division before it and multiplications inside."""

from __future__ import annotations

from collections.abc import Iterator

from tree_sitter import Node

from kernelevo.models.rewrites.fast_math import is_float
from kernelevo.models.rewrites.rule import Rule, Site
from kernelevo.models.rewrites.syntax import (
    Edit,
    Function,
    Unit,
    ancestors,
    declarations,
    field,
    find,
    fresh,
    in_block,
    insert_before,
    operator,
    replace,
    strip,
    text,
    written,
)


def sites(unit: Unit) -> Iterator[Site]:
    """One site per kernel and divisor."""
    for kernel in unit.kernels:
        divisions: dict[str, list[Node]] = {}
        for division in find(kernel.body, "binary_expression", "call_expression"):
            divisor = _divisor(division)
            if divisor is not None and divisor.type == "identifier" and is_float(unit, kernel, divisor):
                divisions.setdefault(text(divisor), []).append(division)
        for name, found in divisions.items():
            edits = _edits(unit, kernel, name, found)
            if edits:
                yield Site(f"{kernel.name} {name}", tuple(edits))


def _divisor(node: Node) -> Node | None:
    if node.type == "binary_expression" and operator(node) == "/":
        return strip(field(node, "right"))
    return None


def _edits(unit: Unit, kernel: Function, name: str, divisions: list[Node]) -> list[Edit]:
    """Edits for the divisions in loops that leave the divisor alone, each before its outermost such loop."""
    edits: list[Edit] = []
    placed: dict[int, str] = {}
    for division in divisions:
        loop = _outermost_loop(kernel, division, name)
        if loop is None or not in_block(loop):
            continue
        if loop.id not in placed:
            placed[loop.id] = fresh(unit, f"inverse_{name}", *placed.values())
            edits.append(insert_before(loop, f"const float {placed[loop.id]} = 1.0f / {name};"))
        right = field(division, "right")
        op = division.child_by_field_name("operator")
        if op is not None:
            edits += [replace(op, "*"), replace(right, placed[loop.id])]
    return edits


def _outermost_loop(kernel: Function, division: Node, name: str) -> Node | None:
    found = None
    for node in ancestors(division):
        if node == kernel.body:
            break
        if node.type == "for_statement":
            if name in written(node) or any(True for _ in declarations(node, name)):
                break
            found = node
    return found


RULE = Rule(name="reciprocal", weight=2.0, sites=sites)
