"""Strategies that a better one must beat at equal cost, and how every strategy begins.

Their models take turns. None of them tunes, simplifies or repairs once something passed.
"""

from __future__ import annotations

import random

from kernelevo.records import Operator, Outcome, Population, Scored
from kernelevo.selection.choice import Choice
from kernelevo.selection.operators import able, in_turn, to_repair
from kernelevo.selection.standing import Standing


class BestOfN:
    """Every proposal starts from the first correct candidate: independent attempts, the fastest wins."""

    name = "best_of_n"

    def __init__(self) -> None:
        self._standing = Standing()

    def choose(self, population: Population, *, iteration: int, generation: int, rng: random.Random) -> Choice:
        first = next((s for s in population.scored if s.score_ns is not None), None)
        return optimize(first, population, self._standing, iteration)


class RandomParent:
    """Every correct candidate is as likely a parent as any other: the control of every comparison."""

    name = "random_parent"

    def __init__(self) -> None:
        self._standing = Standing()

    def choose(self, population: Population, *, iteration: int, generation: int, rng: random.Random) -> Choice:
        return optimize(self._standing.update(population.scored).any(rng), population, self._standing, iteration)


class Greedy:
    """Every proposal starts from the best so far."""

    name = "greedy"

    def __init__(self) -> None:
        self._standing = Standing()

    def choose(self, population: Population, *, iteration: int, generation: int, rng: random.Random) -> Choice:
        return optimize(self._standing.update(population.scored).best(), population, self._standing, iteration)


def optimize(parent: Scored | None, population: Population, standing: Standing, iteration: int) -> Choice:
    if parent is None:
        return begin(population, standing, iteration=iteration)
    return Choice(
        operator=Operator.OPTIMIZE,
        parents=(parent.candidate,),
        island=None,
        model=in_turn(population.models, Operator.OPTIMIZE, iteration),
    )


def begin(population: Population, standing: Standing, *, iteration: int, island: int | None = None) -> Choice:
    """What comes next while nothing has a time: a correct candidate without one, a repair, a translation.

    `mutate` alone can only rewrite what there is: best what our limits kept from being judged, else the first.
    """
    standing.update(population.scored)
    models = population.models

    def chosen(operator: Operator, *parents: str) -> Choice:
        return Choice(operator=operator, parents=parents, island=island, model=in_turn(models, operator, iteration))

    if untimed := latest(population, Outcome.PASSED.value):
        return chosen(Operator.OPTIMIZE, untimed.candidate)
    writes = not models or able(models, Operator.TRANSLATE)
    if writes and (failure := to_repair(population, standing)):
        return chosen(Operator.REPAIR, failure.candidate)
    if writes or not population.scored:
        return chosen(Operator.TRANSLATE)
    unjudged = latest(population, Outcome.UNSUPPORTED.value)
    return chosen(Operator.EXPLORE, (unjudged or population.scored[0]).candidate)


def latest(population: Population, status: str) -> Scored | None:
    return next((s for s in reversed(population.scored) if s.status == status), None)
