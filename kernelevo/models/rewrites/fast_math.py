"""Approximate intrinsics in place of exact float functions: less precise, several times fewer instructions.

Whether the tolerance allows them is for the verifier to say. One site per kernel and function, so that the ones that
are precise enough can be kept without the others.
"""

from __future__ import annotations

from collections.abc import Iterator

from tree_sitter import Node

from kernelevo.models.rewrites.rule import Rule, Site
from kernelevo.models.rewrites.shapes import element_type
from kernelevo.models.rewrites.syntax import (
    Edit,
    Function,
    Unit,
    arguments,
    callee,
    declarations,
    declared_type,
    field,
    find,
    integer,
    operator,
    replace,
    strip,
    text,
)

FAST = {
    "expf": "__expf",
    "exp2f": "exp2f",
    "logf": "__logf",
    "log2f": "__log2f",
    "sinf": "__sinf",
    "cosf": "__cosf",
    "powf": "__powf",
    "exp10f": "__exp10f",
}
FLOAT_FUNCTIONS = set(FAST) | set(FAST.values()) | {
    "sqrtf", "rsqrtf", "fmaxf", "fminf", "fabsf", "erff", "tanhf", "fmaf", "__fdividef", "__frcp_rn", "__frsqrt_rn",
}  # fmt: skip


def sites(unit: Unit) -> Iterator[Site]:
    """ "kernel expf", "kernel rsqrtf" (1 / sqrtf(x)) and "kernel division" (a / b)."""
    for function in unit.functions:
        found: dict[str, list[Edit]] = {}
        for call in find(function.body, "call_expression"):
            name = callee(call)
            if FAST.get(name, name) != name and function.is_kernel:
                found.setdefault(name, []).append(replace(field(call, "function"), FAST[name]))
        if function.is_kernel:
            for division in find(function.body, "binary_expression"):
                if operator(division) != "/" or _inside_division(division):
                    continue
                root = _root_of(division)
                if root is not None:
                    found.setdefault("rsqrtf", []).append(replace(division, f"rsqrtf({root})"))
                elif is_float(unit, function, division) and not _is_literal_ratio(division):
                    found.setdefault("division", []).append(replace(division, _fast_division(division)))
        for name, edits in found.items():
            yield Site(f"{function.name} {name}", tuple(edits))


def drop_sites(unit: Unit) -> Iterator[Site]:
    """The opposite, for candidates that turned out too imprecise: one site per kernel and intrinsic."""
    exact = {fast: name for name, fast in FAST.items() if fast != name}
    for kernel in unit.kernels:
        found: dict[str, list[Edit]] = {}
        for call in find(kernel.body, "call_expression"):
            name, given = callee(call), arguments(call)
            if name in exact:
                found.setdefault(name, []).append(replace(field(call, "function"), exact[name]))
            elif name == "__fdividef" and len(given) == 2 and not any(callee(c) == name for a in given
                                                                      for c in find(a, "call_expression")):  # fmt: skip
                found.setdefault(name, []).append(replace(call, f"(({text(given[0])}) / ({text(given[1])}))"))
            elif name == "rsqrtf" and len(given) == 1:
                found.setdefault(name, []).append(replace(call, f"(1.0f / sqrtf({text(given[0])}))"))
        for name, edits in found.items():
            yield Site(f"{kernel.name} {name}", tuple(edits))


def _inside_division(node: Node) -> bool:
    """Whether another division of the same site encloses this one; it is then left for the next time."""
    parent = node.parent
    while parent is not None and parent.type in ("binary_expression", "parenthesized_expression", "argument_list",
                                                 "call_expression"):  # fmt: skip
        if parent.type == "binary_expression" and operator(parent) == "/":
            return True
        parent = parent.parent
    return False


def _root_of(division: Node) -> str | None:
    """x of 1.0f / sqrtf(x)."""
    one, root = strip(field(division, "left")), strip(field(division, "right"))
    if one.type == "number_literal" and text(one) in ("1.0f", "1.f", "1", "1.0F") and root.type == "call_expression":
        given = arguments(root)
        return text(given[0]) if callee(root) == "sqrtf" and len(given) == 1 else None
    return None


def _fast_division(division: Node) -> str:
    return f"__fdividef({text(strip(field(division, 'left')))}, {text(strip(field(division, 'right')))})"


def _is_literal_ratio(division: Node) -> bool:
    return all(strip(field(division, side)).type == "number_literal" for side in ("left", "right"))


def is_float(unit: Unit, function: Function, node: Node) -> bool:
    """Whether the source shows that an expression has type float (not double, not an integer)."""
    node = strip(node)
    if node.type == "number_literal":
        return text(node).lower().endswith("f") and not text(node).lower().startswith("0x")
    if node.type == "identifier":
        parameter = function.parameter(text(node))
        if parameter is not None:
            return parameter.type == "float" and not parameter.is_pointer
        found = list(declarations(function.body, text(node)))
        return bool(found) and all(declared_type(d) == "float" and not _is_pointer(d) for _, d, _ in found)
    if node.type == "subscript_expression":
        array = field(node, "argument")
        if array.type != "identifier":
            return False
        shared = [declared_type(d) for _, d, _ in declarations(function.body, text(array))]
        return element_type(function, text(array)) == "float" or shared == ["float"]
    if node.type == "call_expression":
        return callee(node) in FLOAT_FUNCTIONS
    if node.type == "binary_expression" and operator(node) in "+-*/":
        sides = [strip(field(node, side)) for side in ("left", "right")]
        floats = [is_float(unit, function, s) for s in sides]
        return all(floats) or (any(floats) and any(_is_integer(unit, function, s) for s in sides))
    if node.type == "unary_expression":
        return is_float(unit, function, field(node, "argument"))
    return False


def _is_pointer(declaration: Node) -> bool:
    return any(True for _ in find(declaration, "pointer_declarator"))


def _is_integer(unit: Unit, function: Function, node: Node) -> bool:
    if node.type == "number_literal":
        return integer(text(node)) is not None
    if node.type != "identifier":
        return False
    parameter = function.parameter(text(node))
    types = [parameter.type] if parameter is not None and not parameter.is_pointer else [
        declared_type(d) for _, d, _ in declarations(function.body, text(node))
    ]  # fmt: skip
    return types in (["int"], ["int64_t"], ["unsigned"])


RULE = Rule(name="fast_math", weight=2.0, sites=sites)
DROP = Rule(name="drop_fast_math", weight=2.0, sites=drop_sites)
