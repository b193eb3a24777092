"""Mutants: a correct kernel with one small mistake each, to measure whether verification notices (mutation testing).

Takes a CUDA source, gives sources. Pure. Each operator of mistakes.py is applied wherever it fits, inside `__global__`
and `__device__` functions, and in host code where a launch is sized or made; the rest of the host code, which checks
what it is given, is left alone. A mutant may happen to be equivalent to its original: selftest.py recognises those that
compile to the same code, the others have to be looked at.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import tree_sitter_cuda
from tree_sitter import Language, Node, Parser

from kernelevo.verify.mistakes import KERNEL, LAUNCH, text

OPERATORS = (*KERNEL, *LAUNCH)
HALF = "#include <cuda_fp16.h>\n"  # what a sum in half precision needs


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """One mistake in one place."""

    operator: str  # for example "drop barrier"
    line: int  # from 1
    before: str
    after: str
    source: str  # the whole mutated source

    def __str__(self) -> str:
        before, after = (" ".join(part.split()) for part in (self.before, self.after))
        return f"line {self.line}: {self.operator}: {before!r} -> {after!r}"

    def diff(self, original: str, name: str = "seed.cu") -> str:
        """The mistake as a unified diff against the source it was made from."""
        lines = difflib.unified_diff(
            original.splitlines(keepends=True),
            self.source.removeprefix(HALF).splitlines(keepends=True),
            fromfile=name,
            tofile=f"{name}: {self.operator}",
            n=1,
        )
        return "".join(lines)


def mutants(source: str) -> tuple[Mutant, ...]:
    """All mutants of a source, in the order of their places; no two have the same text."""
    data = source.encode()
    found: dict[str, Mutant] = {}
    for operator, node, after in _edits(_parser().parse(data).root_node, in_kernel=False):
        mutated = (data[: node.start_byte] + after.encode() + data[node.end_byte :]).decode()
        if mutated == source:
            continue
        if "__half" in after:
            mutated = HALF + mutated
        mutant = Mutant(operator=operator, line=node.start_point[0] + 1, before=text(node), after=after, source=mutated)
        found.setdefault(mutated, mutant)
    return tuple(found.values())


def _edits(node: Node, *, in_kernel: bool) -> Iterator[tuple[str, Node, str]]:
    """(operator, node to replace, its replacement) for every place at and below the node."""
    if node.type == "function_definition":
        in_kernel = any(text(child) in ("__global__", "__device__") for child in node.children)
    for name, operator in (KERNEL if in_kernel else LAUNCH).items():
        for place, after in operator(node):
            yield name, place, after
    for child in node.children:
        yield from _edits(child, in_kernel=in_kernel)


@cache
def _parser() -> Parser:
    return Parser(Language(tree_sitter_cuda.language()))
