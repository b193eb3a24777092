"""`const` for pointers that a kernel only reads, and `__restrict__` for pointers that never overlap.

With both, the compiler keeps values across stores and loads through the read-only path. Offered only where the host
code shows that what the kernel writes was allocated for it (`torch::empty_like(...)`), so that nothing can overlap.
"""

from __future__ import annotations

from collections.abc import Iterator

from tree_sitter import Node

from kernelevo.models.rewrites.rule import Rule, Site
from kernelevo.models.rewrites.shapes import pointer_root
from kernelevo.models.rewrites.syntax import (
    Edit,
    Function,
    Launch,
    Unit,
    arguments,
    definition,
    field,
    find,
    replace,
    text,
    written,
)

ALLOCATES = {"empty", "empty_like", "zeros", "zeros_like", "ones", "ones_like", "full", "full_like", "empty_strided"}


def sites(unit: Unit) -> Iterator[Site]:
    """One site per kernel: all of its pointer parameters at once."""
    for kernel in unit.kernels:
        pointers = [p for p in kernel.parameters if p.is_pointer]
        stored = {pointer_root(unit, kernel, name) for name in written(kernel.body)}
        launches = unit.launches_of(kernel)
        if not launches or not all(_separate(unit, kernel, stored, launch) for launch in launches):
            continue
        edits: list[Edit] = []
        for p in pointers:
            if not p.is_restrict:
                name = next(n for n in find(p.node, "identifier") if text(n) == p.name)
                edits.append(replace(name, f"__restrict__ {p.name}"))
            if not p.is_const and p.name not in stored and _only_subscripted(kernel, p.name):
                edits.append(Edit(p.node.start_byte, p.node.start_byte, "const "))
        if edits:
            yield Site(kernel.name, tuple(edits))


def _separate(unit: Unit, kernel: Function, stored: set[str], launch: Launch) -> bool:
    """Whether each array that the kernel writes was allocated in the host function and is passed once."""
    if len(launch.arguments) != len(kernel.parameters):
        return False
    tensors = [_tensor(a) for a in launch.arguments]
    for parameter, tensor in zip(kernel.parameters, tensors, strict=True):
        if parameter.is_pointer and parameter.name in stored:
            made = definition(unit, launch.host, tensor) if tensor is not None else None
            if made is None or made.type != "call_expression" or tensors.count(tensor) != 1:
                return False
            if text(field(made, "function")).split("::")[-1] not in ALLOCATES:
                return False
    return True


def _tensor(argument: Node) -> str | None:
    """The variable t of t.data_ptr<T>() or t.mutable_data_ptr<T>()."""
    if argument.type != "call_expression" or arguments(argument):
        return None
    function = field(argument, "function")
    if function.type != "field_expression" or "data_ptr" not in text(field(function, "field")):
        return None
    return text(field(function, "argument"))


def _only_subscripted(kernel: Function, name: str) -> bool:
    for node in find(kernel.body, "identifier"):
        parent = node.parent
        if text(node) == name and (parent is None or parent.type != "subscript_expression"):
            return False
    return True


RULE = Rule(name="restrict", weight=0.7, sites=sites)
