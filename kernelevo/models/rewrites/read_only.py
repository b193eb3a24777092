"""`__ldg` around loads from pointers to const: the read-only data path, said out loud."""

from __future__ import annotations

from collections.abc import Iterator

from kernelevo.models.rewrites.rule import STRUCTURE, Rule, Site
from kernelevo.models.rewrites.shapes import element_type, is_constant_pointer, pointer_root
from kernelevo.models.rewrites.syntax import (
    Edit,
    Unit,
    arguments,
    callee,
    field,
    find,
    replace,
    strip,
    text,
    written,
)

SCALARS = {"float", "double", "int", "unsigned", "int64_t", "uint8_t", "long", "__half", "half", "__nv_bfloat16"}


def sites(unit: Unit) -> Iterator[Site]:
    """One site per kernel: all loads from arrays that it never writes."""
    for kernel in unit.kernels:
        stored = {pointer_root(unit, kernel, name) for name in written(kernel.body)}
        edits: list[Edit] = []
        for subscript in find(kernel.body, "subscript_expression"):
            array, parent = field(subscript, "argument"), subscript.parent
            name = text(array)
            if array.type != "identifier" or not is_constant_pointer(kernel, name) or parent is None:
                continue
            if element_type(kernel, name) not in SCALARS or pointer_root(unit, kernel, name) in stored:
                continue
            if find(field(subscript, "indices"), "subscript_expression"):
                continue  # the index is itself loaded: one of the two edits at a time
            if parent.type not in ("pointer_expression", "subscript_expression", "field_expression"):
                edits.append(replace(subscript, f"__ldg(&{text(subscript)})"))
        if edits:
            yield Site(kernel.name, tuple(edits))


def drop_sites(unit: Unit) -> Iterator[Site]:
    """The opposite: __ldg(&a[i]) back to a[i], all of a kernel's at once."""
    for kernel in unit.kernels:
        edits = []
        for call in find(kernel.body, "call_expression"):
            given = arguments(call)
            if callee(call) == "__ldg" and len(given) == 1 and strip(given[0]).type == "pointer_expression":
                edits.append(replace(call, text(strip(given[0]))[1:].strip()))
        if edits:
            yield Site(kernel.name, tuple(edits))


RULE = Rule(name="read_only", weight=0.5, sites=sites, after=STRUCTURE)
DROP = Rule(name="drop_read_only", weight=1.0, sites=drop_sites)
