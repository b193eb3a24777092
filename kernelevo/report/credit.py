"""Who found what: the steps of a run grouped by operator or by model.

    by_operator(history), by_model(history)    -> one Credit for each, in the order of their first appearance
    failures(steps)                            -> (stage, outcome) -> how many iterations ended so
    best_so_far(steps)                         -> the steps that have a time, with the best until then

Gains are of a time over the fastest of its parents' times, all of one kind; a step without both is not compared.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from kernelevo.records import STAGES, Operator
from kernelevo.report.gather import History, Step

ORDER = ("propose", *STAGES[:-1], "evaluate", STAGES[-1])  # of stages that iterations can end in


@dataclass(frozen=True, slots=True, kw_only=True)
class Credit:
    """What one operator or model came to."""

    name: str
    tries: int  # iterations told
    candidates: int  # of them with a candidate
    passed: int
    compared: int  # of them with a time, beside parents with a time
    faster: int  # of the compared: than the fastest parent
    improved_best: int  # that were faster than everything before them
    mean_gain: float | None  # geometric mean of parent's time over own time, of the compared
    best_gain: float | None
    cost_usd: float  # of the iterations whose cost is known
    unknown_costs: int  # iterations whose cost is not known
    requests: int
    waited_seconds: float
    evaluation_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """One step beside the best of all steps until then, itself included."""

    step: Step
    evaluations: int  # told until then, this one included
    best_ns: float | None
    improves: bool


def by_operator(history: History) -> tuple[Credit, ...]:
    return credits_by(history, lambda step: step.operator.value)


def by_model(history: History) -> tuple[Credit, ...]:
    """The task's own kernel and tuning ask no model, and are left out."""
    asked = [s for s in history.steps if s.operator not in (Operator.SEED, Operator.TUNE)]
    return credits_by(history, lambda step: step.model, steps=asked)


def credits_by(
    history: History, named: Callable[[Step], str], *, steps: Iterable[Step] | None = None
) -> tuple[Credit, ...]:
    improving = {p.step.iteration for p in best_so_far(history.steps) if p.improves}
    groups: dict[str, list[Step]] = defaultdict(list)
    for step in history.steps if steps is None else steps:
        groups[named(step)].append(step)
    return tuple(credit_of(history, name, group, improving) for name, group in groups.items())


def credit_of(history: History, name: str, steps: list[Step], improving: set[int]) -> Credit:
    gains = [gain for gain in (gain_of(history, step) for step in steps) if gain is not None]
    known = [step.cost_usd for step in steps if step.cost_usd is not None]
    return Credit(
        name=name,
        tries=len(steps),
        candidates=sum(s.candidate is not None for s in steps),
        passed=sum(s.outcome in ("passed", "no time") for s in steps),
        compared=len(gains),
        faster=sum(gain > 1.0 for gain in gains),
        improved_best=sum(s.iteration in improving for s in steps),
        mean_gain=math.exp(math.fsum(map(math.log, gains)) / len(gains)) if gains else None,
        best_gain=max(gains, default=None),
        cost_usd=math.fsum(known),
        unknown_costs=len(steps) - len(known),
        requests=sum(s.requests for s in steps),
        waited_seconds=math.fsum(s.waited_seconds for s in steps),
        evaluation_seconds=math.fsum(s.evaluation_seconds for s in steps),
    )


def gain_of(history: History, step: Step) -> float | None:
    """How many times as fast as its fastest parent."""
    times = [history.nodes[p].score_ns for p in step.parents if p in history.nodes]
    parents = [ns for ns in times if ns is not None]
    return min(parents) / step.score_ns if parents and step.score_ns else None


def best_so_far(steps: Iterable[Step]) -> list[Progress]:
    """Every step that was evaluated, in the order of telling."""
    best: float | None = None
    found: list[Progress] = []
    for step in steps:
        if not step.evaluated:
            continue
        improves = step.score_ns is not None and (best is None or step.score_ns < best)
        best = step.score_ns if improves else best
        found.append(
            Progress(
                step=step,
                evaluations=len(found) + 1,
                best_ns=best,
                improves=improves and step.operator is not Operator.SEED,
            )
        )
    return found


def failures(steps: Iterable[Step]) -> dict[tuple[str, str], int]:
    """Iterations that did not end with a time, in the order of the stages."""
    counted = Counter((s.stage, s.outcome) for s in steps if s.stage != "done")
    order = {stage: position for position, stage in enumerate(ORDER)}
    return dict(sorted(counted.items(), key=lambda item: (order.get(item[0][0], len(order)), item[0][1])))
