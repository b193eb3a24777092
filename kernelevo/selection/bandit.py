"""Which model is asked, and what it is asked to do: a bandit over the trials of a run. Pure, nothing is stored.

The arms are models, or operators. Discounted UCB (Garivier and Moulines 2008, arXiv 0805.3415) for rewards that change
while a run goes on, as in ShinkaEvolve (arXiv 2509.19349), with three additions: rewards are credits of progress,
decisions under way count as if they had failed (a virtual loss, so that several in flight do not all pull one arm),
and dear arms are worth less. With w(s) = decay ** (number of pulls after s):

    pulls_i   = sum of w over the pulls of arm i
    mean_i    = sum of w * credit over them / pulls_i
    value_i   = mean_i / (largest mean)  -  cost_weight * cost_i / (largest cost)
                + exploration * sqrt(2 log(1 + sum of all pulls_j) / pulls_i)

An arm that was never pulled comes first. The means are divided by the largest because late in a run all credits are
small. cost_i is the mean of what is known of the arm's costs; an arm of which nothing is known is taken to cost the
mean of the others, and where nothing is known of any, costs do not count.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kernelevo.records import Operator, Outcome, Population, Scored, Trial
from kernelevo.selection.standing import Standing

WINDOW = 128  # trials that are looked at: 0.95 ** 128 is 0.0014
FREE_OF_MODELS = (Operator.SEED, Operator.TUNE)  # nobody's merit
PASSED, UNSUPPORTED = Outcome.PASSED.value, Outcome.UNSUPPORTED.value


@dataclass(frozen=True, slots=True, kw_only=True)
class Pull:
    """One decision that a bandit learns from."""

    operator: Operator
    model: str
    credit: float | None  # from 0 to 1; None: under way
    gain: float  # log2 of the best time before over its own; 0 where it was no better, or has no time
    cost_usd: float | None  # None: unknown


def read_pulls(population: Population, standing: Standing) -> list[Pull]:
    """The latest trials, oldest first, without those that say nothing: unsupported, or without a time by our limits.

    "The best before" is that of earlier generations, which is all that a decision can know.
    """
    trials = population.trials[-WINDOW:]
    pulls: list[Pull] = []
    if not trials:
        return pulls
    generation = trials[0].generation
    best_ns = standing.best_before(generation)
    fastest_ns = best_ns  # with the generation that is being read
    for trial in trials:
        if trial.generation != generation:
            generation, best_ns = trial.generation, fastest_ns
        if trial.score_ns is not None:
            fastest_ns = min(trial.score_ns, fastest_ns or math.inf)
        if trial.operator not in FREE_OF_MODELS:
            found = standing.entries.get(trial.candidate or "") if trial.told else None
            if found is None or not says_nothing(found):
                pulls.append(read_pull(trial, found, standing, best_ns))
    return pulls


def says_nothing(found: Scored) -> bool:
    """Whether what came of it is our limit, not the candidate's merit or fault."""
    return found.status == UNSUPPORTED or (found.status == PASSED and found.score_ns is None)


def read_pull(trial: Trial, found: Scored | None, standing: Standing, best_ns: float | None) -> Pull:
    """found: its candidate, where it made one."""
    credited, gain = 0.0, 0.0
    repeated = found is not None and found.iteration < trial.iteration  # the run had it before
    if trial.score_ns is not None and not repeated:
        parents = [standing.entries[p].score_ns for p in trial.parents if p in standing.entries]
        parent_ns = min((ns for ns in parents if ns is not None), default=None)
        credited = credit(trial.score_ns, parent_ns=parent_ns, best_ns=best_ns)
        gain = max(0.0, math.log2(best_ns / trial.score_ns)) if best_ns is not None else math.inf
    return Pull(
        operator=trial.operator,
        model=trial.model,
        credit=credited if trial.told else None,
        gain=gain,
        cost_usd=trial.cost_usd if trial.told else None,  # what is under way may not have cost all yet
    )


def credit(score_ns: float, *, parent_ns: float | None, best_ns: float | None) -> float:
    """Progress, from 0 to 1: half of it over the parent, half over the best before, each 1 for twice as fast or more.

    [log2(parent / score)] / 2 + [log2(best / score)] / 2, brackets meaning: cut to 0..1. Without a timed parent the
    best stands in for it; the first of all to have a time has full credit.
    """
    if best_ns is None:
        return 1.0
    halves = (math.log2((parent_ns or best_ns) / score_ns), math.log2(best_ns / score_ns))
    return sum(min(max(half, 0.0), 1.0) for half in halves) / 2


def values(
    pulls: Sequence[tuple[str, Pull]],
    arms: Sequence[str],
    *,
    decay: float = 0.95,
    exploration: float = 0.5,
    cost_weight: float = 0.2,
) -> dict[str, float]:
    """The value of each arm by the formula above. pulls: with their arms, oldest first."""
    counts, credits = dict.fromkeys(arms, 0.0), dict.fromkeys(arms, 0.0)
    costs, costed = dict.fromkeys(arms, 0.0), dict.fromkeys(arms, 0.0)
    for age, (arm, pull) in enumerate(reversed([(a, p) for a, p in pulls if a in counts])):
        weight = decay**age
        counts[arm] += weight
        credits[arm] += weight * (pull.credit or 0.0)
        if pull.cost_usd is not None:
            costs[arm] += weight * pull.cost_usd
            costed[arm] += weight
    means = {arm: credits[arm] / counts[arm] if counts[arm] else 0.0 for arm in counts}
    shares = cost_shares({arm: costs[arm] / costed[arm] if costed[arm] else None for arm in counts})
    largest = max(means.values(), default=0.0) or 1.0
    total = sum(counts.values())
    return {
        arm: means[arm] / largest
        - cost_weight * shares[arm]
        + exploration * math.sqrt(2.0 * math.log1p(total) / counts[arm])
        if counts[arm]
        else math.inf
        for arm in counts
    }


def cost_shares(costs: Mapping[str, float | None]) -> dict[str, float]:
    """Each arm's cost over the largest; what is not known is taken to be the mean of what is."""
    known = [cost for cost in costs.values() if cost is not None]
    largest = max(known, default=0.0)
    if largest <= 0.0:
        return dict.fromkeys(costs, 0.0)
    middle = sum(known) / len(known)
    return {arm: (middle if cost is None else cost) / largest for arm, cost in costs.items()}


def pick(valued: Mapping[str, float], rng: random.Random) -> str:
    """The arm of the largest value; equal ones are drawn from."""
    largest = max(valued.values())
    return rng.choice([arm for arm, value in valued.items() if value == largest])
