"""Counted work against what a GPU can do: timings and constants of the GPU in, points below two roofs out.

    roof_of(gpu.title, gpu.constants)    -> Roof, from the names of emulator/gpus.toml
    points(history, roof)                -> a Point for each candidate and case, or in words why there are none

After Williams, Waterman and Patterson, "Roofline: an insightful visual performance model", 2009. Work is the counter
`flops` (of float operations; matrix instructions are not in it), traffic the distinct bytes that each launch reads and
writes: what DRAM must move at least. A measured run has neither counter: then there is no roofline.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kernelevo.records import CaseTiming, TimingKind
from kernelevo.report.gather import History, Node

WORK = "flops"
TRAFFIC = ("unique_read_bytes", "unique_write_bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class Roof:
    """What one GPU can do at most."""

    title: str  # as times name their target
    dram_bytes_per_second: float
    flops_per_second: float  # float32, on CUDA cores, an FMA counting two

    def flops_at(self, intensity: float) -> float:
        """FLOP/s at so many FLOP per byte."""
        return min(self.flops_per_second, intensity * self.dram_bytes_per_second)

    @property
    def ridge(self) -> float:
        """FLOP per byte from which on arithmetic is the bound."""
        return self.flops_per_second / self.dram_bytes_per_second


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One candidate on one case."""

    node: Node
    case: str
    flops: float
    bytes: float
    seconds: float

    @property
    def intensity(self) -> float:
        return self.flops / self.bytes

    @property
    def flops_per_second(self) -> float:
        return self.flops / self.seconds

    def share_of(self, roof: Roof) -> float:
        """Of what the roof allows at this intensity."""
        return self.flops_per_second / roof.flops_at(self.intensity)


def roof_of(title: str, constants: Mapping[str, Any]) -> Roof:
    lanes = float(constants["lanes_per_cycle"]["fp32"])
    return Roof(
        title=title,
        dram_bytes_per_second=float(constants["dram_bytes_per_second"]),
        flops_per_second=2 * float(constants["multiprocessors"]) * float(constants["clock_hz"]) * lanes,
    )


def points(history: History, roof: Roof | None) -> list[Point] | str:
    """Points of the candidates that have a time, fastest first; or why there are none."""
    if history.basis is None:
        return "No candidate has a time."
    if history.basis.kind is not TimingKind.PREDICTED:
        return (
            "These times were measured, and a measured run counts no operations and no bytes: nothing is known "
            "to place its candidates by."
        )
    if roof is None:
        return f"The peaks of {history.basis.target} are not in emulator/gpus.toml."
    found = [
        point
        for node in history.timed
        if node.evaluation and node.evaluation.timing
        for point in (point_of(node, case) for case in node.evaluation.timing.cases)
        if point is not None
    ]
    if not found:
        return f"No time comes with the counters {WORK}, {' and '.join(TRAFFIC)} above 0."
    return found


def point_of(node: Node, timed: CaseTiming) -> Point | None:
    flops, moved = timed.counters.get(WORK, 0.0), sum(timed.counters.get(name, 0.0) for name in TRAFFIC)
    if not (flops > 0 and moved > 0 and timed.median_ns > 0):
        return None
    return Point(node=node, case=timed.case.name, flops=flops, bytes=moved, seconds=timed.median_ns / 1e9)
