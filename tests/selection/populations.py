"""Populations for the tests of selection: single records, whole runs that are told in order, and any at all."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence

from hypothesis import strategies as st

from kernelevo.records import Behaviour, Operator, Population, Scored, Trial

STATUSES = ("passed", "wrong", "crashed", "timed out", "unsupported", "cheating", "build failed")
MEMORY, COMPUTE = (Behaviour(limited_by=limit, technique="plain") for limit in ("memory", "compute"))
WARPS = Behaviour(limited_by="memory", technique="warp shuffles")
CHI_SQUARE_999 = {1: 10.83, 2: 13.82, 3: 16.27, 4: 18.47, 5: 20.52, 6: 22.46}  # 99.9 % quantiles by degrees of freedom


def scored(
    iteration: int,
    score_ns: float | None,
    *,
    status: str | None = None,
    children: int = 0,
    island: int | None = None,
    behaviour: Behaviour | None = None,
    tunables: bool = False,
    source_bytes: int = 0,
) -> Scored:
    return Scored(
        candidate=f"c-{iteration}",
        iteration=iteration,
        generation=(iteration + 3) // 4,
        island=island,
        status=status or ("passed" if score_ns is not None else "wrong"),
        score_ns=score_ns,
        children=children,
        behaviour=behaviour,
        tunables=tunables,
        source_bytes=source_bytes,
    )


def trial(
    iteration: int,
    operator: Operator = Operator.OPTIMIZE,
    *,
    parents: Sequence[int] = (0,),
    model: str = "a",
    told: bool = True,
    score_ns: float | None = None,
    candidate: str | None = "",
    cost_usd: float | None = None,
) -> Trial:
    """candidate: that of its iteration, when nothing is said."""
    return Trial(
        iteration=iteration,
        generation=(iteration + 3) // 4,
        operator=operator,
        model=model,
        parents=tuple(f"c-{parent}" for parent in parents),
        told=told,
        candidate=(f"c-{iteration}" if candidate == "" else candidate) if told else None,
        score_ns=score_ns,
        cost_usd=cost_usd,
    )


def seeded(*scored: Scored, trials: Sequence[Trial] = (), models: Sequence[str] = ("a",)) -> Population:
    """With one trial for each candidate that has none: an optimization of the first, which is the seed."""
    told = {t.iteration for t in trials}
    made = [
        trial(s.iteration, Operator.OPTIMIZE if s.iteration else Operator.SEED, score_ns=s.score_ns)
        for s in scored
        if s.iteration not in told
    ]
    return Population(
        scored=scored, trials=tuple(sorted([*made, *trials], key=lambda t: t.iteration)), models=tuple(models)
    )


def chi_square(counts: Mapping[str, int], expected: Mapping[str, float]) -> float:
    """Of counts against expected shares, which need not add up to one."""
    drawn, total = sum(counts.values()), sum(expected.values())
    assert set(counts) <= set(expected)
    return sum((counts.get(k, 0) - drawn * e / total) ** 2 / (drawn * e / total) for k, e in expected.items())


def fits(counts: Mapping[str, int], expected: Mapping[str, float]) -> bool:
    return chi_square(counts, expected) < CHI_SQUARE_999[len(expected) - 1]


@st.composite
def populations(draw: st.DrawFn) -> Population:
    """Any: empty, all failed, all equal, with trials under way, repeated candidates, strange parents.

    Only what shapes a population as a whole is drawn by hypothesis, the rest by a generator: that is much faster.
    """
    rng = random.Random(draw(st.integers(0, 2**32)))
    statuses = draw(st.lists(st.sampled_from(STATUSES), min_size=1, max_size=4))
    times = draw(
        st.sampled_from([[2e3], [None], [None, 1e3, 1e3, 1.5e3], [1.0, 1e3, 1e12], [1e3, 1001.0, 1002.0, 7e3]])
    )
    behaviours = draw(st.sampled_from([[None], [MEMORY], [None, MEMORY, COMPUTE], [MEMORY, COMPUTE, WARPS]]))
    entries = []
    for iteration in range(draw(st.integers(0, 40))):
        if rng.random() < 0.8:
            status = rng.choice(statuses)
            entries.append(
                scored(
                    iteration,
                    rng.choice(times) if status == "passed" else None,
                    status=status,
                    children=rng.randrange(4),
                    island=rng.choice([None, 0, 1]),
                    behaviour=rng.choice(behaviours),
                    tunables=rng.random() < 0.5,
                    source_bytes=rng.randrange(4),
                )
            )
    by_iteration = {s.iteration: s for s in entries}
    operators = [o for o in Operator if o is not Operator.SEED]
    trials = []
    for iteration in range(draw(st.integers(0, 48))):
        found = by_iteration.get(iteration) or (rng.choice(entries) if entries else None)
        told = rng.random() < 0.7 or iteration in by_iteration
        trials.append(
            Trial(
                iteration=iteration,
                generation=(iteration + 3) // 4,
                operator=rng.choice(operators),
                model=rng.choice(["a", "b", "mutate"]),
                parents=tuple(rng.choice(entries).candidate for _ in range(rng.randrange(3)) if entries),
                told=told,
                candidate=found.candidate if told and found else None,
                score_ns=found.score_ns if told and found else None,
                cost_usd=rng.choice([None, 0.0, 0.01, 3.0]),
            )
        )
    models = draw(st.lists(st.sampled_from(["a", "b", "mutate"]), max_size=3))
    return Population(scored=tuple(entries), trials=tuple(trials), models=tuple(models))


def sigmoid(x: float) -> float:
    return 1.0 / (1.0 + math.exp(-x))
