"""When which operator is due, and which model can do it. A population's trials and standing in, candidates out.

    tune       the best so far declares tunables, is new, and neither it nor what it was tuned from was tuned before
    repair     a recent failure is worth it: the nearer it came the sooner; at most twice for one failure, its repairs
               that failed included, and never twice at once
    simplify   a candidate nearly as fast as the best, that was not simplified lately
    explore    stagnation: the last PATIENCE proposals that came to anything did not make the best faster by GAIN

`mutate` rewrites kernels on their syntax tree: it can neither write a first one nor repair.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

from kernelevo.records import Operator, Outcome, Population, Scored, Trial
from kernelevo.selection.bandit import WINDOW, Pull, pick, values
from kernelevo.selection.standing import Standing

PATIENCE = 24  # proposals without progress that are stagnation
GAIN = 0.01  # of the best so far, in log2: what counts as progress, about 0.7 %
RECENT = 32  # trials back from now in which a failure is still worth a repair
REPAIRS = 2  # of one failure
NEARLY = 1.02  # times the best: fast enough to be worth shortening
NEAREST_FIRST = (  # failures that a repair may mend, by how far they came; a cheat is not repaired
    Outcome.WRONG.value,
    Outcome.TIMED_OUT.value,
    Outcome.CRASHED.value,
    "build failed",
)
BEYOND_MUTATE = frozenset((Operator.TRANSLATE, Operator.REPAIR))


def to_tune(population: Population, standing: Standing) -> Scored | None:
    """The best so far, when its tunables are to be tried now."""
    best = standing.best()
    if best is None or not best.tunables:
        return None
    trials = population.trials[-WINDOW:]
    maker = next((t for t in trials if t.iteration == best.iteration), None)
    if maker is None or maker.operator is Operator.TUNE:  # an old best had its turn when it was new
        return None
    tuned = any(t.operator is Operator.TUNE and best.candidate in t.parents for t in trials)
    return None if tuned else best


def to_repair(population: Population, standing: Standing) -> Scored | None:
    """The failure that is most worth a repair. Failures of one family, a failure and its repairs, are one."""
    trials = population.trials[-(REPAIRS + 1) * RECENT :]  # no family of a recent failure is older
    made_at: dict[str, int] = {}
    for index, trial in enumerate(trials):
        if trial.candidate is not None:
            made_at.setdefault(trial.candidate, index)
    repairs = [t for t in trials if t.operator is Operator.REPAIR and t.parents]
    family = {t.parents[0]: first_failure(t.parents[0], trials, made_at) for t in repairs}
    spent = Counter(family[t.parents[0]] for t in repairs)
    closed = {family[t.parents[0]] for t in repairs if not t.told or passed(t.candidate, standing)}
    worth: list[Scored] = []
    for trial in trials[-RECENT:]:
        failure = standing.entries.get(trial.candidate or "")
        if trial.told and failure is not None and failure.status in NEAREST_FIRST:
            first = first_failure(failure.candidate, trials, made_at)
            if spent[first] < REPAIRS and first not in closed:
                worth.append(failure)
    return min(worth, key=lambda s: (NEAREST_FIRST.index(s.status), -s.iteration), default=None)


def first_failure(candidate: str, trials: Sequence[Trial], made_at: dict[str, int]) -> str:
    """The failure whose repair, or repair's repair, this is; itself when it is none."""
    index = made_at.get(candidate)
    while index is not None and trials[index].operator is Operator.REPAIR and trials[index].parents:
        candidate = trials[index].parents[0]
        earlier = made_at.get(candidate)
        index = earlier if earlier is not None and earlier < index else None
    return candidate


def passed(candidate: str | None, standing: Standing) -> bool:
    found = standing.entries.get(candidate or "")
    return found is not None and found.status == Outcome.PASSED.value


def to_simplify(population: Population, elites: Sequence[Scored]) -> Scored | None:
    """The best of these that was not simplified lately; None when only slow ones are left. elites: best first."""
    lately = {p for t in population.trials[-WINDOW:] if t.operator is Operator.SIMPLIFY for p in t.parents}
    fast = [s for s in elites if (s.score_ns or 0.0) <= NEARLY * (elites[0].score_ns or 0.0)]
    return next((s for s in fast if s.candidate not in lately), None)


def stagnant(pulls: Sequence[Pull]) -> bool:
    """Whether nothing that came back lately made the best faster by GAIN."""
    told = [pull for pull in pulls if pull.credit is not None][-PATIENCE:]
    return len(told) == PATIENCE and all(pull.gain < GAIN for pull in told)


def able(models: Sequence[str], operator: Operator) -> list[str]:
    """Those of the models that can do it, each once."""
    distinct = list(dict.fromkeys(models))
    return [m for m in distinct if operator not in BEYOND_MUTATE or m.partition(":")[0] != "mutate"]


def pick_model(pulls: Sequence[Pull], models: Sequence[str], operator: Operator, rng: random.Random) -> str | None:
    """By the bandit, among those that can do it; None when none can."""
    arms = able(models, operator)
    if len(arms) < 2:
        return arms[0] if arms else None
    return pick(values([(pull.model, pull) for pull in pulls], arms), rng)


def in_turn(models: Sequence[str], operator: Operator, iteration: int) -> str | None:
    """Of those that can do it, the one whose turn it is."""
    arms = able(models, operator)
    return arms[iteration % len(arms)] if arms else None
