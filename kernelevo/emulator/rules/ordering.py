"""Fences, and the hints that have no effect here: nanosleep, prefetch, griddepcontrol and cache control.

A fence is a sequentially consistent fence of the host. One warp executes it once, whatever its width.
"""

from __future__ import annotations

from llvmlite import ir

from kernelevo.emulator.emit import Emitter
from kernelevo.emulator.instruction import Address, Instruction
from kernelevo.emulator.rules.row import Row, Signature, Types, each


def _fence(e: Emitter, i: Instruction, *_: ir.Value) -> None:
    e.builder.fence("seq_cst")


def _nothing(e: Emitter, i: Instruction, *_: ir.Value) -> None:
    """No effect on results."""


def _no_destination(*sources: str) -> Signature:
    return (), sources


def _hint_operands(i: Instruction) -> Signature:
    sources: Types = tuple("b64" if isinstance(operand, Address) else "b32" for operand in i.operands)
    return (), sources


PARALLEL = "parallel-synchronization-and-communication-instructions-"
MISCELLANEOUS = "miscellaneous-instructions-"
MOVEMENT = "data-movement-and-conversion-instructions-"
NO_TYPE: tuple[Types, ...] = ((),)
ROWS = (
    Row("membar", PARALLEL + "membar", NO_TYPE, _fence, ("cta|gl|sys",), lambda i: _no_destination(), warp_wide=True),
    Row("fence", PARALLEL + "membar", NO_TYPE, _fence, ("sc|acq_rel|acquire|release?", "cta|cluster|gpu|sys"),
        lambda i: _no_destination(), warp_wide=True),
    Row("nanosleep", MISCELLANEOUS + "nanosleep", each("u32"), _nothing, (), lambda i: _no_destination("u32")),
    Row("griddepcontrol", PARALLEL + "griddepcontrol", NO_TYPE, _nothing, ("launch_dependents|wait",),
        lambda i: _no_destination()),
    Row("prefetch", MOVEMENT + "prefetch", NO_TYPE, _nothing,
        ("global|local?", "L1|L2|L2::evict_last|L2::evict_normal"), _hint_operands),
    Row("prefetchu", MOVEMENT + "prefetch", NO_TYPE, _nothing, ("L1",), _hint_operands),
    Row("applypriority", MOVEMENT + "applypriority", NO_TYPE, _nothing, ("global?", "L2::evict_normal"),
        _hint_operands),
    Row("discard", MOVEMENT + "discard", NO_TYPE, _nothing, ("global?", "L2"), _hint_operands),
    Row("pmevent", MISCELLANEOUS + "pmevent", NO_TYPE, _nothing, (), _hint_operands),
)  # fmt: skip
