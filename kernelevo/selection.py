"""Which parents come next: scored candidates and a random generator in, one choice out. Pure.

A strategy sees only candidates of earlier generations, so that a generation's choices do not depend on the order in
which its evaluations end: same seed, same machine, same lineage.

Not covered: the behaviour grid, novelty and the bandit over models (see shared/design/evolution.md).
"""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from kernelevo.errors import UsageError
from kernelevo.records import Operator, Outcome, Scored


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What to do next."""

    operator: Operator
    parents: tuple[str, ...]  # candidate ids
    island: int | None


class Strategy(Protocol):
    """Chooses parents. `scored` holds every candidate of earlier generations, in the order of their iterations."""

    name: str

    def choose(self, scored: Sequence[Scored], *, iteration: int, generation: int, rng: random.Random) -> Choice: ...


def ranked(scored: Sequence[Scored]) -> list[Scored]:
    """The candidates that passed and have a time, fastest first; ties go to the older."""
    timed = [s for s in scored if s.score_ns is not None]
    return sorted(timed, key=lambda s: (s.score_ns, s.iteration))


def parent_weights(timed: Sequence[Scored]) -> list[float]:
    """sigmoid(10 (fitness - median) / MAD) / (1 + children), with fitness = -log(score).

    Weighted parent sampling after ShinkaEvolve (arXiv 2509.19349): good parents are preferred, and those with many
    children already less so. Where all are equally fast every weight is 0.5 / (1 + children).
    """
    fitness = [-math.log(s.score_ns) for s in timed if s.score_ns is not None]
    centre = statistics.median(fitness)
    spread = statistics.median(abs(f - centre) for f in fitness) or 1.0
    return [
        1.0 / (1.0 + math.exp(-max(-50.0, min(50.0, 10.0 * (f - centre) / spread)))) / (1 + s.children)
        for f, s in zip(fitness, timed, strict=True)
    ]


def sample_parent(timed: Sequence[Scored], rng: random.Random) -> Scored:
    return rng.choices(timed, weights=parent_weights(timed))[0]


class Islands:
    """Populations that evolve apart: iterations go round the islands; migration and crossover join them.

    A parent comes from the iteration's own island, or with probability `migration` from any. With probability
    `crossover` a second parent is drawn from all islands. The island's best is taken outright with probability `greed`.
    """

    name = "islands"

    def __init__(
        self, *, islands: int = 2, migration: float = 0.1, crossover: float = 0.25, greed: float = 0.5
    ) -> None:
        self.islands = islands
        self.migration = migration
        self.crossover = crossover
        self.greed = greed

    def choose(self, scored: Sequence[Scored], *, iteration: int, generation: int, rng: random.Random) -> Choice:
        island = iteration % self.islands
        timed = ranked(scored)
        if not timed:
            return without_a_time(scored, island)
        native = [s for s in timed if s.island in (island, None)]
        pool = timed if not native or rng.random() < self.migration else native
        first = pool[0] if rng.random() < self.greed else sample_parent(pool, rng)
        others = [s for s in timed if s.candidate != first.candidate]
        if others and rng.random() < self.crossover:
            second = sample_parent(others, rng)
            return Choice(operator=Operator.CROSSOVER, parents=(first.candidate, second.candidate), island=island)
        return Choice(operator=Operator.OPTIMIZE, parents=(first.candidate,), island=island)


class BestOfN:
    """Every proposal starts from the first correct candidate: independent attempts, the fastest wins."""

    name = "best_of_n"

    def choose(self, scored: Sequence[Scored], *, iteration: int, generation: int, rng: random.Random) -> Choice:
        correct = [s for s in scored if s.score_ns is not None]
        if not correct:
            return without_a_time(scored, None)
        return Choice(operator=Operator.OPTIMIZE, parents=(correct[0].candidate,), island=None)


class RandomParent:
    """Every correct candidate is as likely a parent as any other: the control of every comparison."""

    name = "random_parent"

    def choose(self, scored: Sequence[Scored], *, iteration: int, generation: int, rng: random.Random) -> Choice:
        correct = [s for s in scored if s.score_ns is not None]
        if not correct:
            return without_a_time(scored, None)
        return Choice(operator=Operator.OPTIMIZE, parents=(rng.choice(correct).candidate,), island=None)


def without_a_time(scored: Sequence[Scored], island: int | None) -> Choice:
    """Go on from the latest correct candidate, else repair the latest failure, else translate the reference."""
    correct = [s for s in scored if s.status == Outcome.PASSED.value]
    if correct:
        return Choice(operator=Operator.OPTIMIZE, parents=(correct[-1].candidate,), island=island)
    if scored:
        return Choice(operator=Operator.REPAIR, parents=(scored[-1].candidate,), island=island)
    return Choice(operator=Operator.TRANSLATE, parents=(), island=island)


STRATEGIES: Mapping[str, Callable[[], Strategy]] = {s.name: s for s in (Islands, BestOfN, RandomParent)}


def load_strategy(name: str) -> Strategy:
    """The strategy of that name with its default settings; UsageError names those there are."""
    if name not in STRATEGIES:
        raise UsageError(f"unknown strategy {name!r}", next_step=f"choose one of {', '.join(STRATEGIES)}")
    return STRATEGIES[name]()
