"""Mutants: a correct kernel with one small mistake each, to measure whether verification notices (mutation testing).

Takes a CUDA source, gives sources. Pure. Works on the syntax tree, inside `__global__` and `__device__` functions, and
in host code where a launch is sized. The operators are the mistakes that people and models make: a barrier forgotten, a
bound off by one, a tail skipped, a term dropped, an operator or index confused, a constant nearly right, a sum in half
precision. A mutant may happen to be equivalent to its original (a barrier that another one covers); nothing here can
tell, so who measures must look at the survivors.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import tree_sitter_cuda
from tree_sitter import Language, Node, Parser


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """One mistake in one place."""

    operator: str  # for example "drop barrier"
    line: int  # from 1
    before: str
    after: str
    source: str  # the whole mutated source

    def __str__(self) -> str:
        return f"line {self.line}: {self.operator}: {self.before!r} -> {self.after!r}"


def mutants(source: str) -> tuple[Mutant, ...]:
    """All mutants of a source, in the order of their places."""
    text = source.encode()
    found = []
    for operator, node, after in _edits(_parser().parse(text).root_node, in_kernel=False):
        before = _text(node)
        if before == after:
            continue
        mutated = (text[: node.start_byte] + after.encode() + text[node.end_byte :]).decode()
        if "__half" in after:
            mutated = "#include <cuda_fp16.h>\n" + mutated
        line = node.start_point[0] + 1
        found.append(Mutant(operator=operator, line=line, before=before, after=after, source=mutated))
    return tuple(found)


def _edits(node: Node, *, in_kernel: bool) -> Iterator[tuple[str, Node, str]]:
    """(operator, node to replace, its replacement) for every place below the node."""
    if node.type == "function_definition":
        in_kernel = any(_text(child) in ("__global__", "__device__") for child in node.children)
    if in_kernel:
        yield from _kernel_edits(node)
    elif node.type == "binary_expression" and _operator(node) == "/" and "threads" in _text(node):
        yield from _launch_edits(node)
    for child in node.children:
        yield from _edits(child, in_kernel=in_kernel)


def _kernel_edits(node: Node) -> Iterator[tuple[str, Node, str]]:
    match node.type:
        case "expression_statement" if _text(node).startswith("__syncthreads"):
            yield "drop barrier", node, ";"
        case "binary_expression":
            left, operator, right = _operand(node, "left"), _operator(node), _operand(node, "right")
            if operator == "<":
                yield "bound off by one", node, f"{left} < {right} - 1"
                if not _is_stride_test(right):
                    yield "bound off by one", node, f"{left} <= {right}"
            elif operator in ("+", "-") and not _is_index(node):
                yield "drop term", node, left
                yield "confuse operator", node, f"{left} {'-' if operator == '+' else '+'} {right}"
            elif operator in ("*", "/") and not _is_index(node):
                yield "drop factor", node, left
            elif operator == "*":
                yield "confuse index", node, f"{left} * ({right} + 1)"
        case "assignment_expression" if _operator(node) == "+=" and not _is_index(node):
            left, right = _operand(node, "left"), _operand(node, "right")
            if not _is_counter(node):
                yield "keep only the last", node, f"{left} = {right}"
                yield "half accumulator", node, f"{left} = __half2float(__float2half({left} + ({right})))"
        case "number_literal" if _text(node).endswith("f") and not _is_index(node):
            value = float(_text(node).rstrip("f"))
            yield "constant nearly right", node, f"{value * 1.01 if value else 0.01:.6g}f"
        case "call_expression":
            name = _text(node.child_by_field_name("function"))
            swaps = {"fmaxf": "fminf", "expf": "exp2f", "logf": "log2f", "sqrtf": "cbrtf", "erff": "tanhf"}
            if name in swaps:
                yield "confuse function", node, swaps[name] + _text(node)[len(name) :]


def _launch_edits(node: Node) -> Iterator[tuple[str, Node, str]]:
    """(n + threads - 1) / threads -> n / threads, at least one block."""
    numerator = _operand(node, "left").strip("()")
    if "+" in numerator:
        count, threads = numerator.split("+")[0].strip(), _operand(node, "right")
        yield "skip the tail", node, f"({count} < {threads} ? 1 : {count} / {threads})"


def _is_index(node: Node) -> bool:
    """True inside a subscript, an integer declaration or a pointer offset: another kind of mistake."""
    parent: Node | None = node
    while parent is not None and parent.type not in ("compound_statement", "function_definition"):
        if parent.type in ("subscript_argument_list", "for_statement"):
            return parent.type != "for_statement" or _in_header(parent, node)
        if parent.type == "declaration":
            kind = _text(parent.child_by_field_name("type"))
            return kind != "float" or "*" in _text(parent).split("=")[0]
        parent = parent.parent
    return False


def _in_header(loop: Node, node: Node) -> bool:
    body = loop.child_by_field_name("body")
    return body is None or not (body.start_byte <= node.start_byte and node.end_byte <= body.end_byte)


def _is_counter(node: Node) -> bool:
    return node.parent is not None and node.parent.type == "for_statement"


def _is_stride_test(right: str) -> bool:
    """`threadIdx.x <= stride` reads beyond the array or adds an element twice: its own kind, left to the checkers."""
    return right == "stride"


def _operator(node: Node) -> str:
    return _text(node.child_by_field_name("operator"))


def _operand(node: Node, side: str) -> str:
    return _text(node.child_by_field_name(side))


def _text(node: Node | None) -> str:
    return node.text.decode() if node is not None and node.text is not None else ""


@cache
def _parser() -> Parser:
    return Parser(Language(tree_sitter_cuda.language()))
