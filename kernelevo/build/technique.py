"""The main technique of a candidate: PTX of its device pass in, one of TECHNIQUES out.

The technique is read from what the compiler made, not from names and comments: a kernel that says "tiled" and is not
counts as what it is. A module often uses several techniques; the first of TECHNIQUES that any of its kernels uses is
the main one. They are ordered by how much of a kernel's structure they decide, so that a matrix product on tensor
cores stays one when its tiles go through shared memory with vector loads.

    tensor cores             mma, wmma, wgmma or tcgen05 instructions
    shared-memory tiling     values from global memory are put into shared memory as they are (or copied there by
                             cp.async) and read back
    warp shuffles            shfl or redux
    shared-memory reduction  shared memory is written and read, but holds what threads computed
    vectorised access        loads or stores of global memory of several values at once (.v2, .v4, .v8)
    persistent               a loop whose step depends on the size of the grid
    multi-kernel             several kernels that write something; instances of one template are one kernel
    plain                    none of these

It does not know which kernels a call launches, how often, or what limits them. Two half-precision values that are
loaded as one 32-bit word look like one value. Blocks that draw their work from a counter are not seen as persistent.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from kernelevo.build.symbols import own_name

TECHNIQUES = (
    "tensor cores",
    "shared-memory tiling",
    "warp shuffles",
    "shared-memory reduction",
    "vectorised access",
    "persistent",
    "multi-kernel",
    "plain",
)

_NO_CODE = re.compile(r"//[^\n]*|/\*(?s:.*?)\*/|^[ \t]*\.(?:loc|file)\b[^\n]*", re.MULTILINE)  # comments, places
_KERNEL = re.compile(r"\.entry\s+([\w$]+)")
_FUNCTION = re.compile(r"\.(?:entry|func)\b")
_LABEL = re.compile(r"([$\w]+):(?!:)")
_PREDICATE = re.compile(r"@!?[%\w$]+\s+")
_NAME = re.compile(r"[%$A-Za-z_][\w$]*")
_MATRIX = re.compile(r"(?:mma|wmma\.mma|wgmma\.mma_async|tcgen05\.mma)\b")
_WIDE = re.compile(r"(?:ld|st)\.(?!\S*(?:param|shared|local|const))\S*\.v[248]\b")
_COPIES = ("mov", "cvt", "prmt")  # what a value passes through unchanged, its type apart
_COUNTS = ("mov", "cvt", "add", "sub", "mul", "mad", "shl", "min", "max")  # arithmetic of an index
_WRITES = ("st.", "red.", "atom.", "wmma.store", "cp.reduce", "cp.async.bulk")


class Statement(NamedTuple):
    """One instruction, or a label (then all else is empty)."""

    label: str
    opcode: str  # with its modifiers: "ld.global.nc.v4.f32"
    written: frozenset[str]  # registers of its first operand
    read: tuple[str, ...]  # names in all others


def technique(ptx: str) -> str:
    """The main technique of a module, one of TECHNIQUES."""
    plain = _NO_CODE.sub(" ", ptx)
    found: set[str] = set()
    writing: set[str] = set()
    starts = [match.start() for match in _FUNCTION.finditer(plain)]
    for start, end in pairwise([*starts, len(plain)]):
        statements = list(read_statements(plain[start:end]))
        found.update(techniques_of(statements))
        kernel = _KERNEL.match(plain, start)
        if kernel and any(s.opcode.startswith(_WRITES) for s in statements):
            writing.add(own_name(kernel[1]))
    if len(writing) > 1:
        found.add("multi-kernel")
    return next((name for name in TECHNIQUES if name in found), "plain")


def techniques_of(statements: Sequence[Statement]) -> Iterator[str]:
    """Those that one kernel or device function uses."""
    opcodes = [s.opcode for s in statements]
    if any(_MATRIX.match(opcode) for opcode in opcodes):
        yield "tensor cores"
    reads_shared = any(opcode.startswith(("ld.shared", "ldmatrix")) for opcode in opcodes)
    if reads_shared and stages(statements):
        yield "shared-memory tiling"
    if any(opcode.startswith(("shfl.", "redux.")) for opcode in opcodes):
        yield "warp shuffles"
    if reads_shared and any(opcode.startswith(("st.shared", "atom.shared", "red.shared")) for opcode in opcodes):
        yield "shared-memory reduction"
    if any(_WIDE.match(opcode) for opcode in opcodes):
        yield "vectorised access"
    if strides_over_the_grid(statements):
        yield "persistent"


def stages(statements: Sequence[Statement]) -> bool:
    """Whether values go from global to shared memory as they are."""
    if any(s.opcode.startswith("cp.async.") and ".shared" in s.opcode for s in statements):
        return True
    loaded = reached(statements, sources=lambda s: s.opcode.startswith("ld.global"), through=_COPIES)
    return any(s.opcode.startswith("st.shared") and loaded.intersection(s.read) for s in statements)


def strides_over_the_grid(statements: Sequence[Statement]) -> bool:
    """Whether a loop adds what was computed from the number of blocks."""
    steps = reached(statements, sources=lambda s: "%nctaid" in s.read, through=_COUNTS)
    places = {s.label: index for index, s in enumerate(statements) if s.label}
    for index, s in enumerate(statements):
        if s.opcode.startswith("bra"):
            begins = min((places[name] for name in s.written if name in places), default=index)
            body = statements[begins:index]
            if any(b.opcode.startswith("add") and steps.intersection(b.read) for b in body):
                return True
    return False


def reached(
    statements: Sequence[Statement], *, sources: Callable[[Statement], bool], through: tuple[str, ...]
) -> set[str]:
    """Registers that hold what the sources write, or what such opcodes made of it; twice round for loops."""
    registers: set[str] = set()
    for _ in range(2):
        for s in statements:
            if sources(s) or (s.opcode.startswith(through) and registers.intersection(s.read)):
                registers |= s.written
    return registers


def read_statements(function: str) -> Iterator[Statement]:
    """The instructions and labels of one function, in their order; directives are left out."""
    for part in function[function.find("{") + 1 :].split(";"):
        text = part.strip("{} \t\r\n")
        while match := _LABEL.match(text):
            yield Statement(match[1], "", frozenset(), ())
            text = text[match.end() :].strip("{} \t\r\n")
        words = _PREDICATE.sub("", text).split(maxsplit=1)
        if not words or words[0].startswith("."):
            continue
        opcode, operands = words[0], words[1] if len(words) > 1 else ""
        first, rest = split_operands(operands)
        stores = opcode.startswith(("st.", "red."))  # their first operand is an address, nothing is written to it
        written = frozenset() if stores else frozenset(_NAME.findall(first))
        yield Statement("", opcode, written, tuple(_NAME.findall(f"{first} {rest}" if stores else rest)))


def split_operands(operands: str) -> tuple[str, str]:
    """The first operand, which may be a vector in braces, and the others."""
    if operands.startswith("{"):
        first, _, rest = operands.partition("}")
        return first, rest
    first, _, rest = operands.partition(",")
    return first, rest
