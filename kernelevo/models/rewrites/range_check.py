"""`i >= 0 && i < n` becomes one unsigned comparison.

A negative i is a huge unsigned number, so that one comparison serves both ends. Right wherever n is not negative,
which holds for sizes; offered only where n is an integer parameter or a variable of the kernel that nothing changes.
"""

from __future__ import annotations

from collections.abc import Iterator

from tree_sitter import Node

from kernelevo.models.rewrites.rule import Rule, Site
from kernelevo.models.rewrites.syntax import (
    Edit,
    Function,
    Unit,
    declarations,
    declared_type,
    field,
    find,
    operator,
    replace,
    strip,
    text,
    written,
)

SIGNED = ("int", "int32_t")


def sites(unit: Unit) -> Iterator[Site]:
    """One site per kernel: all such pairs of comparisons."""
    for kernel in unit.kernels:
        edits: list[Edit] = []
        for condition in find(kernel.body, "binary_expression"):
            parent = condition.parent
            if operator(condition) != "&&" or (parent is not None and operator(parent) == "&&"):
                continue
            tests = _conjuncts(condition)
            kept: list[str] = []
            for test in tests:
                merged = _merged(kernel, test, tests)
                if merged is not None and merged not in kept:
                    kept.append(merged)
            if len(kept) < len(tests):
                edits.append(replace(condition, " && ".join(kept)))
        if edits:
            yield Site(kernel.name, tuple(edits))


def _conjuncts(node: Node) -> list[Node]:
    """a && b && c as [a, b, c]."""
    if node.type == "binary_expression" and operator(node) == "&&":
        return _conjuncts(field(node, "left")) + _conjuncts(field(node, "right"))
    return [node]


def _merged(kernel: Function, test: Node, tests: list[Node]) -> str | None:
    """The test as it stays: merged with its other half, or dropped (None) when its other half says both."""
    low, high = _lower(kernel, test), _upper(kernel, test)
    if high is not None and any(_lower(kernel, other) == high[0] for other in tests):
        return f"static_cast<unsigned int>({high[0]}) < static_cast<unsigned int>({high[1]})"
    if low is not None and any((found := _upper(kernel, other)) is not None and found[0] == low for other in tests):
        return None
    return text(test)


def _lower(kernel: Function, test: Node) -> str | None:
    """i of i >= 0."""
    test = strip(test)
    if test.type != "binary_expression" or operator(test) != ">=" or text(strip(field(test, "right"))) != "0":
        return None
    name = strip(field(test, "left"))
    return text(name) if _is_signed(kernel, name) else None


def _upper(kernel: Function, test: Node) -> tuple[str, str] | None:
    """(i, n) of i < n."""
    test = strip(test)
    if test.type != "binary_expression" or operator(test) != "<":
        return None
    name, bound = strip(field(test, "left")), strip(field(test, "right"))
    if not _is_signed(kernel, name) or not _is_signed(kernel, bound) or text(bound) in written(kernel.body):
        return None
    return text(name), text(bound)


def _is_signed(kernel: Function, node: Node) -> bool:
    if node.type != "identifier":
        return False
    parameter = kernel.parameter(text(node))
    if parameter is not None:
        return parameter.type in SIGNED and not parameter.is_pointer
    found = declarations(kernel.body, text(node))
    return bool(found) and all(declared_type(declaration) in SIGNED for _, declaration, _ in found)


RULE = Rule(name="range_check", weight=2.0, sites=sites)
