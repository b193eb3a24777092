"""Reads the .cu files of this folder: which kernels they hold, and what must be reported where.

A row of a file's `table` names two kernels, bad_NAME and good_NAME; in place of a bad one there may be nullptr. The
honest twin differs in what repairs it. In a bad kernel a comment says what must be found on its line:

    // finds: KIND
    // finds: KIND in block 3, threads 8-31

Blocks and threads are numbers, x fastest, of those who make the mistake; a finding names one of them. Of several marked
lines one is enough (a race is seen at its second access, whichever that is), and nothing else may be found. What is
wrong with a launch is marked at the kernel's head, and the finding needs no line.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

HERE = Path(__file__).parent
FILES = tuple(sorted(path.stem for path in HERE.glob("*.cu")))

_ROW = re.compile(r'^    \{"(\w+)", (nullptr)?', re.MULTILINE)
_HEAD = re.compile(r"^__global__ void (?:__launch_bounds__\(\d+\) )?(\w+)\(")
_MARK = re.compile(r"// finds: ([a-z -]+?)(?: in block (\d+)(?:-(\d+))?, threads? (\d+)(?:-(\d+))?)?$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """What must be reported on a line."""

    line: int
    kind: str
    blocks: range | None  # None: not said
    threads: range | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """One side of a row."""

    file: str  # stem of the .cu
    row: int  # in its table
    name: str  # of the kernel: "bad_tail"
    good: bool
    marks: tuple[Mark, ...]
    body: tuple[str, ...]  # its lines without marks, its name as in the twin


def source(file: str) -> str:
    return (HERE / f"{file}.cu").read_text()


@cache
def kernels(file: str) -> tuple[Kernel, ...]:
    """All kernels of a file's table, bad before good."""
    lines = source(file).splitlines()
    found = []
    for row, match in enumerate(_ROW.finditer(source(file))):
        for side in ("bad", "good"):
            if side == "good" or match[2] is None:
                name = f"{side}_{match[1]}"
                first, last = _span(lines, name)
                marks = tuple(mark for number in range(first, last + 1) for mark in _marks(number, lines[number - 1]))
                body = tuple(
                    re.sub(r" *// finds: .*", "", line).replace(name, match[1]) for line in lines[first - 1 : last]
                )
                good = side == "good"
                found.append(Kernel(file=file, row=row, name=name, good=good, marks=marks, body=body))
    return tuple(found)


def defined(file: str) -> set[str]:
    """Names of the kernels that a file defines, bad_ and good_ ones."""
    heads = (_HEAD.match(line) for line in source(file).splitlines())
    return {head[1] for head in heads if head and head[1].startswith(("bad_", "good_"))}


def _span(lines: list[str], name: str) -> tuple[int, int]:
    """First and last line of a kernel's definition, from 1."""
    first = next(number for number, line in enumerate(lines, 1) if (head := _HEAD.match(line)) and head[1] == name)
    return first, next(number for number, line in enumerate(lines, 1) if number > first and line == "}")


def _marks(number: int, line: str) -> list[Mark]:
    if "// finds:" not in line:
        return []
    match = _MARK.search(line)
    assert match, f"line {number}: {line}"
    kind, *places = match.groups()
    blocks, threads = (range(int(low), int(high or low) + 1) if low else None for low, high in (places[:2], places[2:]))
    return [Mark(line=number, kind=kind, blocks=blocks, threads=threads)]
