"""Pure statistics of a measurement: samples of blocks in, intervals and verdicts out.

A block holds each arm (candidate, champion, baselines) once, in random order, so that drift of clocks and temperature
hits all arms alike; what is compared is the ratio inside each block. Intervals are percentile bootstraps over blocks.
A comparison that may be looked at again spends its error probability: 0.05 / 2^k in round k, less than 0.05 in all.

Knows no clock, no device and no file; random numbers come from the generator that is passed in. Sources of the rules:
shared/reference/emulation-notes.md, section 6 (nvbench-compare-robust, sequential testing by alpha spending).
"""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

MARGIN = 0.01  # a difference that counts, as a share of the time
CONFIDENCE = 0.95
RESAMPLES = 2000
STABLE_WINDOWS = 3
STABLE_SHARE = 0.01
SLOW_CLOCK_SHARE = 0.90  # of the run's median clock; blocks below it are dropped
MOST_DROPPED_SHARE = 0.20  # of the blocks; more and the run is invalid


class Result(enum.Enum):
    """What a comparison says of the first arm."""

    FASTER = "faster"
    SLOWER = "slower"
    AMBIGUOUS = "ambiguous"


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A median and the interval around it, of whatever the values were."""

    low: float
    median: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """Time of one arm over time of another, from the ratios inside blocks."""

    interval: Interval  # at CONFIDENCE; below 1: the first arm is faster
    result: Result
    equal: bool  # the whole interval lies within MARGIN: more blocks would not decide
    blocks: int  # that were compared
    round: int  # from 1; each doubles the blocks


def interval_of(values: Sequence[float], *, rng: np.random.Generator, confidence: float = CONFIDENCE) -> Interval:
    """Percentile bootstrap of the median of independent values; raises ValueError when there are none."""
    data = np.asarray(values, dtype=np.float64)
    if not data.size or not np.isfinite(data).all():
        raise ValueError(f"an interval needs finite values, got {data.size} of which {np.isfinite(data).sum()} finite")
    medians = np.median(rng.choice(data, size=(RESAMPLES, data.size)), axis=1)
    tail = 100 * (1 - confidence) / 2
    low, high = np.percentile(medians, [tail, 100 - tail])
    return Interval(low=float(low), median=float(np.median(data)), high=float(high))


def compare(
    first: Sequence[Sequence[float]],
    second: Sequence[Sequence[float]],
    *,
    rng: np.random.Generator,
    clocks: Sequence[tuple[float, float] | None] = (),
    round_number: int = 1,
) -> Ratio:
    """Compares two arms over blocks.

    first, second: samples of each block, in any unit of time, the same blocks in the same order.
    clocks: clock rate of each block while the first and the second arm ran, or None; where all are known a result must
        hold in cycles (time x clock) too, else an arm that met a faster clock would win by it.
    round_number: from 1; the result of round k is taken at an error probability of 0.05 / 2^k.

    Raises ValueError when the arms have not the same number of blocks, or none.
    """
    if len(first) != len(second) or not first:
        raise ValueError(f"{len(first)} blocks cannot be compared with {len(second)}")
    ratios = [math.log(np.median(a) / np.median(b)) for a, b in zip(first, second, strict=True)]
    strict = 1 - (1 - CONFIDENCE) / 2**round_number
    result = _result(interval_of(ratios, rng=rng, confidence=strict))
    if result is not Result.AMBIGUOUS and len(clocks) == len(ratios) and all(clocks):
        cycles = [r + math.log(c[0] / c[1]) for r, c in zip(ratios, clocks, strict=True) if c]
        if _result(interval_of(cycles, rng=rng, confidence=strict)) is not result:
            result = Result.AMBIGUOUS
    shown = interval_of(ratios, rng=rng)
    edge = math.log1p(MARGIN)
    return Ratio(
        interval=Interval(low=math.exp(shown.low), median=math.exp(shown.median), high=math.exp(shown.high)),
        result=result,
        equal=-edge < shown.low and shown.high < edge,
        blocks=len(ratios),
        round=round_number,
    )


def _result(log_ratio: Interval) -> Result:
    edge = math.log1p(MARGIN)
    if log_ratio.high < -edge:
        return Result.FASTER
    return Result.SLOWER if log_ratio.low > edge else Result.AMBIGUOUS


def geometric_mean(ratios: Sequence[Interval]) -> Interval:
    """Of ratios over cases, with an interval from the cases' own (their logarithms added in quadrature)."""
    if not ratios:
        raise ValueError("no cases to take a mean of")
    logs = [(math.log(r.low), math.log(r.median), math.log(r.high)) for r in ratios]
    centre = sum(m for _, m, _ in logs) / len(logs)
    below = math.sqrt(sum((m - low) ** 2 for low, m, _ in logs)) / len(logs)
    above = math.sqrt(sum((high - m) ** 2 for _, m, high in logs)) / len(logs)
    return Interval(low=math.exp(centre - below), median=math.exp(centre), high=math.exp(centre + above))


def stable(windows: Sequence[float]) -> bool:
    """Whether the last STABLE_WINDOWS windows' times differ by less than STABLE_SHARE of the smallest."""
    last = windows[-STABLE_WINDOWS:]
    return len(last) == STABLE_WINDOWS and max(last) - min(last) < STABLE_SHARE * min(last)


def slow_blocks(clocks: Sequence[float | None]) -> tuple[int, ...]:
    """Blocks whose clock is below SLOW_CLOCK_SHARE of the median of those that are known."""
    known = [clock for clock in clocks if clock is not None]
    if not known:
        return ()
    limit = SLOW_CLOCK_SHARE * float(np.median(known))
    return tuple(index for index, clock in enumerate(clocks) if clock is not None and clock < limit)
