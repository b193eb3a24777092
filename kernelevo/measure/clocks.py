"""Which blocks of a measurement the card's own state spoils.

Takes what NVML said around each arm of each block, gives the blocks to leave out and whether enough are left. A block
that heat or hardware slowed down, that only some of its arms spent at the power cap, or whose clock is far below the
run's median, says nothing about a kernel. At the power cap all the time is how some kernels run on some cards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from kernelevo.measure.statistics import MOST_DROPPED_SHARE, slow_blocks

POWER_CAP = "power cap"  # as devices/nvml.py calls it


class Reading(Protocol):
    """The state of a GPU at one moment; None and () where the card does not say."""

    @property
    def sm_mhz(self) -> float | None: ...
    @property
    def temperature_c(self) -> float | None: ...
    @property
    def power_watts(self) -> float | None: ...
    @property
    def throttle(self) -> tuple[str, ...]: ...


class Clocks(Protocol):
    """Reads the state of one GPU."""

    def read(self) -> Reading: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Dropped:
    """Blocks that are left out."""

    blocks: tuple[int, ...]  # numbers, ascending
    reasons: tuple[str, ...]  # one per block, in words
    invalid: bool  # more than MOST_DROPPED_SHARE of all blocks: nothing can be said


def dropped(readings: Sequence[Sequence[Reading]]) -> Dropped:
    """Judges blocks by the readings that were taken during each."""
    slow = set(slow_blocks([lowest_clock(block) for block in readings]))
    reasons = {}
    for index, block in enumerate(readings):
        capped = [POWER_CAP in reading.throttle for reading in block]
        even = all(capped) or not any(capped)
        throttled = sorted({r for reading in block for r in reading.throttle if r != POWER_CAP or not even})
        if throttled:
            reasons[index] = f"throttled: {', '.join(throttled)}"
        elif index in slow:
            reasons[index] = f"clock fell to {lowest_clock(block):.0f} MHz"
    return Dropped(
        blocks=tuple(reasons),
        reasons=tuple(reasons.values()),
        invalid=len(reasons) > MOST_DROPPED_SHARE * len(readings),
    )


def lowest_clock(readings: Sequence[Reading]) -> float | None:
    """Of one block, in MHz."""
    return min((r.sm_mhz for r in readings if r.sm_mhz is not None), default=None)
