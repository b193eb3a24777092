"""Online softmax: the sum of exponentials is found in the loop that finds the maximum.

    for (i...) largest = max(largest, e(i));  ...  for (i...) sum += expf(e(i) - final);

The first loop also keeps the sum of expf(e(i) - largest) of the elements it has seen, scaled down whenever `largest`
grows; the second loop becomes one multiplication by expf(largest - final). Source of the method: Milakov and
Gimelshein, "Online normalizer calculation for softmax", arXiv 1805.02867.
"""

from __future__ import annotations

from collections.abc import Iterator

from tree_sitter import Node

from kernelevo.models.rewrites.rule import Rule, Site
from kernelevo.models.rewrites.shapes import outermost_loops, partition
from kernelevo.models.rewrites.syntax import (
    Edit,
    Function,
    Loop,
    Unit,
    arguments,
    callee,
    canonical,
    declarations,
    declared_type,
    field,
    fresh,
    header,
    in_block,
    indentation,
    indented,
    insert_before,
    operator,
    pragma_of,
    strip,
    text,
)

MAXIMUM = ("fmaxf", "max", "fmax")
EXPONENTIAL = ("expf", "__expf", "exp")


def sites(unit: Unit) -> Iterator[Site]:
    for kernel in unit.kernels:
        loops = [loop for loop in outermost_loops(kernel) if partition(unit, kernel, loop) and in_block(loop.node)]
        for first in loops:
            found = _maximum(unit, kernel, first)
            for second in loops:
                if found is None or second.node.start_byte < first.node.end_byte:
                    continue
                if not _same(unit, kernel, first, second):
                    continue
                edits = _edits(unit, kernel, first, second, *found)
                if edits is not None:
                    yield Site(f"{kernel.name} {found[0]}", edits)
                    break


def _same(unit: Unit, kernel: Function, first: Loop, second: Loop) -> bool:
    """Whether a thread runs the same iterations of both loops, in one block."""
    return first.node.parent == second.node.parent and first.variable == second.variable and all(
        canonical(unit, kernel, a) == canonical(unit, kernel, b)
        for a, b in ((first.start, second.start), (first.bound, second.bound))
    ) and (first.step and canonical(unit, kernel, first.step)) == (
        second.step and canonical(unit, kernel, second.step)
    )  # fmt: skip


def _assignment(loop: Loop) -> Node | None:
    """The assignment that is the loop's whole body."""
    body = loop.statements
    if len(body) != 1 or body[0].type != "expression_statement":
        return None
    found = body[0].named_children[0]
    return found if found.type == "assignment_expression" and field(found, "left").type == "identifier" else None


def _maximum(unit: Unit, kernel: Function, loop: Loop) -> tuple[str, str, Node] | None:
    """(largest, its type, e) of largest = fmaxf(largest, e)."""
    assignment = _assignment(loop)
    if assignment is None or operator(assignment) != "=":
        return None
    name, call = text(field(assignment, "left")), strip(field(assignment, "right"))
    if call.type != "call_expression" or callee(call) not in MAXIMUM or len(arguments(call)) != 2:
        return None
    values = [a for a in arguments(call) if text(a) != name]
    declared = [declared_type(d) for n, d, _ in declarations(kernel.body, name)]
    return (name, declared[0], values[0]) if len(values) == 1 and len(declared) == 1 else None


def _edits(
    unit: Unit, kernel: Function, first: Loop, second: Loop, largest: str, type_: str, value: Node
) -> tuple[Edit, ...] | None:
    assignment = _assignment(second)
    if assignment is None or operator(assignment) != "+=":
        return None
    total, call = text(field(assignment, "left")), strip(field(assignment, "right"))
    if call.type != "call_expression" or callee(call) not in EXPONENTIAL or len(arguments(call)) != 1:
        return None
    difference = strip(arguments(call)[0])
    if difference.type != "binary_expression" or operator(difference) != "-":
        return None
    element, final = strip(field(difference, "left")), strip(field(difference, "right"))
    if canonical(unit, kernel, element) != canonical(unit, kernel, value) or second.variable in text(final).split():
        return None
    if final.type not in ("identifier", "subscript_expression"):
        return None
    exponential = callee(call)
    seen, sum_, next_ = (fresh(unit, f"{largest}_{n}") for n in ("seen", "sum", "next"))
    body = (
        f"const {type_} {next_} = {text(value)};\n"
        f"if ({next_} > {largest}) {{\n"
        f"    {sum_} *= {exponential}({largest} - {next_});\n"
        f"    {largest} = {next_};\n"
        f"}}\n"
        f"{sum_} += {next_} == {largest} ? {type_}(1) : {exponential}({next_} - {largest});"
    )
    margin = indentation(first.node)
    loop = f"{header(first)} {{\n{indented(body, '    ')}\n}}\nconst {type_} {seen} = {largest};"
    begin = pragma_of(second.node) or second.node
    return (
        insert_before(first.node, f"{type_} {sum_} = 0;"),
        Edit(first.node.start_byte, first.node.end_byte, indented(loop, margin).lstrip()),
        Edit(begin.start_byte, second.node.end_byte, f"{total} += {sum_} * {exponential}({seen} - {text(final)});"),
    )


RULE = Rule(name="online_softmax", weight=2.5, sites=sites)
