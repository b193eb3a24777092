"""How likely each candidate is to become a parent. Timed candidates in, weights out."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Callable, Sequence

from kernelevo.records import Scored
from kernelevo.selection.standing import rank_of

Weights = Callable[[Sequence[Scored]], list[float]]


def parent_weights(timed: Sequence[Scored]) -> list[float]:
    """sigmoid(10 (fitness - median) / MAD) / (1 + children), with fitness = -log(score).

    Weighted parent sampling after ShinkaEvolve (arXiv 2509.19349): good parents are preferred, and those with many
    children already less so. Where all are equally fast every weight is 0.5 / (1 + children). A speedup over a fixed
    baseline in place of the time moves fitness and median alike and changes nothing.
    """
    fitness = [-math.log(s.score_ns) for s in timed if s.score_ns is not None]
    centre = statistics.median(fitness)
    spread = statistics.median(abs(f - centre) for f in fitness) or 1.0
    return [
        1.0 / (1.0 + math.exp(-max(-50.0, min(50.0, 10.0 * (f - centre) / spread)))) / (1 + s.children)
        for f, s in zip(fitness, timed, strict=True)
    ]


def rank_weights(timed: Sequence[Scored], *, exponent: float = 1.0) -> list[float]:
    """rank ** -exponent, the best having rank 1: the power law of ShinkaEvolve, in which times count only by order."""
    order = sorted(range(len(timed)), key=lambda index: rank_of(timed[index]))
    weights = [0.0] * len(timed)
    for rank, index in enumerate(order, start=1):
        weights[index] = rank**-exponent
    return weights


def sample_parent(timed: Sequence[Scored], rng: random.Random, weights: Weights = parent_weights) -> Scored:
    return rng.choices(timed, weights=weights(timed))[0]
