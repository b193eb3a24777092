"""What no kernel can beat: the time that memory alone takes, and that of a launch.

A measured time below it is a finding, not a record: the work was not done, not waited for, or not timed.
The bounds are loose on purpose. Written bytes count only as far as the L2 cannot hold them, since a kernel has ended
when its stores are there; floating-point operations count only where the caller knows them.
"""

from __future__ import annotations

from dataclasses import dataclass

LAUNCH_NS = 800.0  # ours, not measured: below what is reported for empty kernels in graphs
TOLERANCE = 0.95  # clocks and counters are a few percent off


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """Facts of one GPU. None: not known, and then nothing is concluded from it."""

    l2_bytes: int | None
    memory_bytes_per_second: float | None  # theoretical: bus width x highest memory clock x 2
    flops_per_second: float | None = None  # theoretical, of the arithmetic that the task allows


def floor_ns(card: Card, *, read_bytes: int, written_bytes: int, flops: float | None = None, cold: bool) -> float:
    """The shortest possible time of one call.

    read_bytes: of inputs that every correct kernel must read. cold: whether the L2 held none of them.
    """
    bounds = [LAUNCH_NS]
    if card.memory_bytes_per_second is not None and card.l2_bytes is not None:
        read = read_bytes if cold else max(0, read_bytes - card.l2_bytes)
        moved = read + max(0, written_bytes - card.l2_bytes)
        bounds.append(moved / card.memory_bytes_per_second * 1e9)
    if flops is not None and card.flops_per_second is not None:
        bounds.append(flops / card.flops_per_second * 1e9)
    return TOLERANCE * max(bounds)
