"""The strategy of this project: islands over a grid of behaviour, a bandit over models, another over operators.

One decision, in this order:

    nothing has a time yet        begin (baselines.py)
    the best is to be tuned       tune (operators.py says when, here and below)
    a failure is worth a repair   repair, with probability `repair`, where a model can
    every `simplify`-th iteration simplify
    otherwise                     the operators' bandit: optimize; crossover where there are unlike parents; explore in
                                  stagnation

Iterations go round the islands. A parent comes from the elites of the iteration's island, the best ELITES of each cell
of its grid and the seed, or with probability `migration` from those of all islands. With probability `greed` it is the
best of them outright; otherwise it is drawn by weight. The second parent of a crossover comes from the elites of all
islands, drawn by weight among those of another behaviour. An exploration starts from the best of a behaviour, each
being as likely as any other (as in MAP-Elites, arXiv 1504.04909), so that what few candidates do is tried as often as
what many do. Prompts are shown the best of up to two other behaviours beside the parents.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from kernelevo.records import Behaviour, Operator, Population, Scored, Trial
from kernelevo.selection.bandit import Pull, pick, read_pulls, values
from kernelevo.selection.baselines import begin
from kernelevo.selection.choice import Choice
from kernelevo.selection.operators import able, pick_model, stagnant, to_repair, to_simplify, to_tune
from kernelevo.selection.parents import Weights, parent_weights, rank_weights, sample_parent
from kernelevo.selection.standing import Standing, differences

INSPIRATIONS = 2


class Islands:
    """Parents are drawn by `parent_weights`."""

    name = "islands"
    weights: Weights = staticmethod(parent_weights)

    def __init__(
        self,
        *,
        islands: int = 2,
        migration: float = 0.1,
        greed: float = 0.5,
        repair: float = 0.25,
        simplify: int = 17,
    ) -> None:
        """simplify: a number that `islands` does not divide, so that each island has its turn."""
        self.islands = islands
        self.migration = migration
        self.greed = greed
        self.repair = repair
        self.simplify = simplify
        self._standing = Standing()
        self._kin = Kin()

    def choose(self, population: Population, *, iteration: int, generation: int, rng: random.Random) -> Choice:
        standing = self._standing.update(population.scored)
        island = iteration % self.islands
        everywhere = standing.elites()
        if not everywhere:
            return begin(population, standing, iteration=iteration, island=island)
        if best := to_tune(population, standing):
            return Choice(operator=Operator.TUNE, parents=(best.candidate,), island=island)
        pulls = read_pulls(population, standing)
        native = [s for s in everywhere if s.island in (island, None)]
        pool = everywhere if not native or rng.random() < self.migration else native
        operator, parents = self._parents(population, standing, pulls, pool, everywhere, iteration, rng)
        return Choice(
            operator=operator,
            parents=tuple(parent.candidate for parent in parents),
            island=island,
            inspirations=inspirations(operator, parents, everywhere, rng),
            model=pick_model(pulls, population.models, operator, rng),
        )

    def _parents(
        self,
        population: Population,
        standing: Standing,
        pulls: Sequence[Pull],
        pool: Sequence[Scored],
        everywhere: Sequence[Scored],
        iteration: int,
        rng: random.Random,
    ) -> tuple[Operator, tuple[Scored, ...]]:
        """What to do, and with whom. pool, everywhere: elites of the island and of all, best first."""
        if able(population.models, Operator.REPAIR) and rng.random() < self.repair:
            failure = to_repair(population, standing)
            if failure is not None:
                return Operator.REPAIR, (failure,)
        if iteration % self.simplify == self.simplify - 1:
            shortened = to_simplify(population, pool)
            if shortened is not None:
                return Operator.SIMPLIFY, (shortened,)
        first = pool[0] if rng.random() < self.greed else sample_parent(pool, rng, self.weights)
        others = [s for s in everywhere if unlike(first, s)]
        if others:
            near = self._kin.update(population.trials).of(first.candidate)
            others = [s for s in others if s.candidate not in near]
        arms = [Operator.OPTIMIZE]
        if others:
            arms.append(Operator.CROSSOVER)
        if stagnant(pulls):
            arms.append(Operator.EXPLORE)
        match pick_operator(pulls, arms, rng):
            case Operator.CROSSOVER:
                return Operator.CROSSOVER, (first, sample_parent(others, rng, self.weights))
            case Operator.EXPLORE:
                return Operator.EXPLORE, (rng.choice(best_of_each_behaviour(pool)),)
            case operator:
                return operator, (first,)


class IslandsByRank(Islands):
    """The same with `rank_weights`: an elite's order counts, not by how much it is faster."""

    name = "islands_by_rank"
    weights: Weights = staticmethod(rank_weights)


class OneIsland(Islands):
    """The same with one population: for runs in which a proposal is dear, and few are made."""

    name = "one_island"

    def __init__(self) -> None:
        super().__init__(islands=1)


def pick_operator(pulls: Sequence[Pull], arms: Sequence[Operator], rng: random.Random) -> Operator:
    if len(arms) < 2:
        return arms[0]
    valued = values([(pull.operator.value, pull) for pull in pulls], [arm.value for arm in arms])
    return Operator(pick(valued, rng))


class Kin:
    """Parents and children of each candidate: one has what the other has, and joining them brings nothing.

    Brought up to date rather than made anew, as Standing is.
    """

    def __init__(self) -> None:
        self._trials: tuple[Trial, ...] = ()
        self._near: dict[str, set[str]] = {}

    def update(self, trials: tuple[Trial, ...]) -> Kin:
        """This kin, of those trials."""
        removed, added = differences(self._trials, trials)
        if any(trial.candidate is not None for trial in removed):  # another run, or an earlier decision
            self._near, added = {}, list(trials)
        for trial in added:
            if trial.candidate is not None:
                for parent in trial.parents:
                    self._near.setdefault(trial.candidate, set()).add(parent)
                    self._near.setdefault(parent, set()).add(trial.candidate)
        self._trials = trials
        return self

    def of(self, candidate: str) -> set[str]:
        return self._near.get(candidate, set())


def unlike(a: Scored, b: Scored) -> bool:
    """Whether they behave differently. Where that is not known of both, another time is the evidence."""
    if a.behaviour is not None and b.behaviour is not None:
        return a.behaviour != b.behaviour
    return a.score_ns != b.score_ns


def best_of_each_behaviour(elites: Sequence[Scored]) -> list[Scored]:
    """elites: best first."""
    found: dict[Behaviour | None, Scored] = {}
    for s in elites:
        found.setdefault(s.behaviour, s)
    return list(found.values())


def inspirations(
    operator: Operator, parents: Sequence[Scored], everywhere: Sequence[Scored], rng: random.Random
) -> tuple[str, ...]:
    """What a prompt shows beside the parents: the best for a repair, other behaviours where something new is asked."""
    if operator is Operator.REPAIR:
        return (everywhere[0].candidate,)
    if operator not in (Operator.OPTIMIZE, Operator.EXPLORE):
        return ()
    others = [s for s in best_of_each_behaviour(everywhere) if all(s.behaviour != p.behaviour for p in parents)]
    return tuple(s.candidate for s in rng.sample(others, min(INSPIRATIONS, len(others))))
