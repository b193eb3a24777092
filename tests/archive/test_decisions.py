"""A decision rests on what must be told by then, and on nothing else."""

from __future__ import annotations

from dataclasses import replace

import archive_examples as examples
import pytest

from kernelevo.archive import Archive
from kernelevo.decide import decide, generation_of, iterations, visible
from kernelevo.records import Job, Operator
from kernelevo.selection import load_strategy

RUN = replace(examples.run(), models=("a", "b"), generations=3, population=2, strategy="greedy")
TASK = replace(examples.task(), seed_source="// seed")


def test_iterations_fall_into_generations_after_the_seed() -> None:
    assert list(iterations(RUN, TASK)) == [0, 1, 2, 3, 4, 5, 6]
    assert list(iterations(RUN, replace(TASK, seed_source=None))) == [1, 2, 3, 4, 5, 6]
    assert [generation_of(RUN, i) for i in range(7)] == [0, 1, 1, 2, 2, 3, 3]


@pytest.mark.parametrize(("lookahead", "horizons"), [(0, [0, 1, 2, 3]), (1, [0, 1, 1, 2]), (2, [0, 1, 1, 1])])
def test_with_lookahead_a_generation_sees_that_many_fewer(lookahead: int, horizons: list[int]) -> None:
    run = replace(RUN, lookahead=lookahead)
    assert [visible(run, generation) for generation in range(4)] == horizons


def tell(archive: Archive, run: str, iteration: int, *, median_ns: float) -> str:
    candidate = examples.candidate(iteration)
    job = Job(
        run=run,
        iteration=iteration,
        generation=generation_of(RUN, iteration),
        operator=Operator.OPTIMIZE if iteration else Operator.SEED,
        parents=(),
        model="a",
        island=None,
        seed=iteration,
    )
    archive.record(job, candidate, examples.passed(candidate.id, median_ns=median_ns))
    return candidate.id


@pytest.mark.parametrize(("lookahead", "parent"), [(0, 2), (1, 0)])
def test_what_is_told_too_late_to_be_waited_for_changes_no_decision(
    archive: Archive, lookahead: int, parent: int
) -> None:
    """Iteration 2 is the fastest; with lookahead 1 the decision about iteration 3 must not know it, told or not."""
    run = replace(RUN, lookahead=lookahead)
    archive.create_run(run, TASK)
    best = {0: tell(archive, run.id, 0, median_ns=100.0)}
    strategy = load_strategy(run.strategy)
    before = decide(run, archive, strategy, 3)
    best[2] = tell(archive, run.id, 2, median_ns=10.0)
    after = decide(run, archive, strategy, 3)
    assert after.parents == (best[parent],)
    assert (before == after) == (lookahead == 1)


def test_the_seed_is_decided_without_looking_and_every_iteration_has_its_own_seed(archive: Archive) -> None:
    archive.create_run(RUN, TASK)
    jobs = [decide(RUN, archive, load_strategy("greedy"), i) for i in range(7)]
    assert jobs[0].operator is Operator.SEED and jobs[0].parents == ()
    assert len({job.seed for job in jobs}) == 7
    assert decide(RUN, archive, load_strategy("greedy"), 4).seed == jobs[4].seed
