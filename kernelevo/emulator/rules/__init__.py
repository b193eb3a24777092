"""The rule table: one row per PTX instruction, its types and modifiers as parameters, beside its ISA section.

    row = rules.find(instruction)              # None: not emulated
    destinations, sources = row.signature(instruction)
    value = row.emit(emitter, instruction, arguments)

Not here: mov of special registers and symbols, ld/st/cvta/isspacep, control flow, barriers, cp.async.

NaN: where PTX promises the canonical NaN, any NaN may result here. Directed roundings, ftz, sat and conversions
are exact; `.approx` functions stay within the error the ISA documents (see approximate.py).
"""

from __future__ import annotations

from collections import defaultdict

from kernelevo.emulator.instruction import Instruction
from kernelevo.emulator.rules import (
    approximate,
    atomics,
    bits,
    compare,
    convert,
    floating,
    half,
    integer,
    matrix,
    ordering,
    warp,
)
from kernelevo.emulator.rules.row import Row

TABLE: tuple[Row, ...] = (
    *bits.ROWS,
    *integer.ROWS,
    *floating.ROWS,
    *half.ROWS,
    *approximate.ROWS,
    *compare.ROWS,
    *convert.ROWS,
    *warp.ROWS,
    *atomics.ROWS,
    *ordering.ROWS,
    *matrix.ROWS,
)

_BY_OPCODE: dict[str, list[Row]] = defaultdict(list)
for _row in TABLE:
    _BY_OPCODE[_row.opcode].append(_row)


def find(instruction: Instruction) -> Row | None:
    """The row that covers the instruction, or None when it is not emulated."""
    return next((row for row in _BY_OPCODE.get(instruction.opcode, ()) if row.matches(instruction)), None)


__all__ = ["TABLE", "Row", "find"]
