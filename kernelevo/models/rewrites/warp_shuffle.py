"""A tree reduction in shared memory becomes two warp-shuffle reductions with one barrier between them.

For 256 threads that saves eight of nine barriers. Where the number of threads is not known to be a multiple of 32,
the choice is made at run time and the tree stays for the other sizes.
"""

from __future__ import annotations

from collections.abc import Iterator

from tree_sitter import Node

from kernelevo.models.rewrites.device_code import block_reduce, warp_reduce
from kernelevo.models.rewrites.rule import Rule, Site
from kernelevo.models.rewrites.shapes import Reduction, block_size, tree_reductions
from kernelevo.models.rewrites.syntax import (
    Edit,
    Function,
    Unit,
    ancestors,
    canonical,
    constant,
    contains,
    declarations,
    dedented,
    field,
    find,
    following,
    fresh,
    indentation,
    indented,
    is_barrier,
    replace,
    text,
)


def sites(unit: Unit) -> Iterator[Site]:
    """One site per kernel or device function: all its tree reductions at once."""
    for function in unit.functions:
        reductions = tree_reductions(unit, function)
        if not reductions:
            continue
        known = function.is_kernel and (block_size(unit, function) or 0) % 32 == 0 and bool(block_size(unit, function))
        edits: list[Edit] = []
        for array in dict.fromkeys(r.array for r in reductions):
            of_array = [r for r in reductions if r.array == array]
            found = reduced(unit, function, of_array, by="block" if known else "block, checked")
            if found is None:
                break
            edits += found
        else:
            yield Site(function.name, tuple(dict.fromkeys(edits)))


def reduced(unit: Unit, function: Function, reductions: list[Reduction], *, by: str) -> list[Edit] | None:
    """Edits for all reductions over one array; None when the array is used for anything else.

    by: "block" when blocks are known to be a multiple of 32 threads, "block, checked" when that is for run time to
    say, "warp" when 32 threads in x are all there are.
    """
    array = reductions[0].array
    edits: list[Edit] = []
    names: list[str] = []
    for reduction in reductions:
        names.append(fresh(unit, f"block_{reduction.operation}_of_{array}", *names))
    for subscript in find(function.body, "subscript_expression", "identifier"):
        named = field(subscript, "argument") if subscript.type == "subscript_expression" else subscript
        if text(named) != array or (subscript.type == "identifier" and _is_subscripted(subscript)):
            continue
        if any(contains(r.first, subscript) or contains(r.last, subscript) for r in reductions):
            continue
        if _declares(function, subscript):
            continue
        result = _result(reductions, subscript)
        if subscript.type == "identifier" or result is None or canonical(unit, function, subscript) != f"{array}[0]":
            return None
        if _is_target(subscript):
            return None
        edits.append(replace(subscript, names[result]))
    for position, (reduction, name) in enumerate(zip(reductions, names, strict=True)):
        helper = (warp_reduce if by == "warp" else block_reduce)(unit, reduction.operation)
        edits += helper.edits
        if by == "warp":
            new = f"const {reduction.type} {name} = {helper.name}<{reduction.type}>({text(reduction.value)});"
            edits.append(Edit(reduction.first.start_byte, reduction.last.end_byte, new))
            continue
        met = function.is_kernel and _barrier_before_reuse(reduction, reductions[position + 1 :])
        barrier = "" if met else "\n__syncthreads();"
        call = f"{helper.name}<{reduction.type}>({text(reduction.value)}, {array})"
        if by == "block":
            new = f"const {reduction.type} {name} = {call};{barrier}"
        else:
            tree = "\n".join(dedented(s) for s in _between(reduction))
            new = (
                f"{reduction.type} {name};\nif (blockDim.x % 32 == 0) {{\n    {name} = {call};\n}} else {{\n"
                f"{indented(tree, '    ')}\n    {name} = {array}[0];\n}}{barrier}"
            )
        margin = indentation(reduction.first)
        edits.append(Edit(reduction.first.start_byte, reduction.last.end_byte, indented(new, margin).lstrip()))
    return edits + (_shrink(unit, function, array) if by == "block" else [])


def _is_subscripted(identifier: Node) -> bool:
    parent = identifier.parent
    return parent is not None and parent.type == "subscript_expression" and field(parent, "argument") == identifier


def _is_target(subscript: Node) -> bool:
    parent = subscript.parent
    assert parent is not None
    if parent.type == "assignment_expression":
        return field(parent, "left") == subscript
    return parent.type in ("update_expression", "pointer_expression")


def _declares(function: Function, node: Node) -> bool:
    return any(a.type in ("array_declarator", "parameter_declaration") for a in ancestors(node)) or node.type == (
        "array_declarator"
    )


def _result(reductions: list[Reduction], subscript: Node) -> int | None:
    """Which reduction's result a later S[0] reads: the last one before it, in a block that encloses it."""
    before = [i for i, r in enumerate(reductions) if r.last.end_byte <= subscript.start_byte]
    if not before:
        return None
    block = reductions[before[-1]].last.parent
    return before[-1] if block is not None and contains(block, subscript) else None


def _between(reduction: Reduction) -> list[Node]:
    block = reduction.last.parent
    assert block is not None
    return [
        child
        for child in block.named_children
        if reduction.first.start_byte <= child.start_byte and child.end_byte <= reduction.last.end_byte
    ]


def _barrier_before_reuse(reduction: Reduction, later: list[Reduction]) -> bool:
    """Whether all threads meet after this reduction's reads and before the array's next writes.

    In the tree, thread 0 alone writes what the others read. With shuffles every warp reads what every warp writes.
    """
    if any(a.type in ("for_statement", "while_statement", "do_statement") for a in ancestors(reduction.last)):
        return False
    if not later:
        return True
    end = later[0].first.start_byte
    return any(is_barrier(s) and s.end_byte <= end for s in following(reduction.last))


def _shrink(unit: Unit, function: Function, array: str) -> list[Edit]:
    """The array then holds one value per warp: at most 32."""
    for _, declaration, _ in declarations(function.body, array):
        for declarator in find(declaration, "array_declarator"):
            size = declarator.child_by_field_name("size")
            if size is not None and (constant(unit, function, size) or 0) > 32:
                return [replace(size, "32")]
    return []


RULE = Rule(name="warp_shuffle", weight=6.0, sites=sites)
