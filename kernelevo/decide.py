"""What to propose next: a run so far in, one Job out.

A decision is made from the run's seed, the iteration, and what generations showed that must be told by then: with
`lookahead` 0 all earlier ones, with 1 all but the one before. So it does not depend on the order in which candidates
are told, and a run that is repeated decides the same.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING

from kernelevo.records import Job, Operator, Population, Run, Task
from kernelevo.selection import Choice, Strategy

if TYPE_CHECKING:
    from kernelevo.archive import Archive

# What stands where a job names its model, when none is asked:
TUNER = "tune"  # the search over tunables does it
AGENT = "agent"  # who asked for the job does it (kernelevo/agents.py)


def generation_of(run: Run, iteration: int) -> int:
    """Generation 0 is the task's own kernel, iteration 0."""
    return 0 if iteration == 0 else 1 + (iteration - 1) // run.population


def iterations(run: Run, task: Task) -> range:
    """All of a run. Without a kernel of its own, a task has no iteration 0."""
    return range(0 if task.seed_source else 1, 1 + run.generations * run.population)


def visible(run: Run, generation: int) -> int:
    """The first generation whose outcome a decision of `generation` does not see."""
    return max(generation - run.lookahead, 1 if generation else 0)


def decide(run: Run, archive: Archive, strategy: Strategy, iteration: int) -> Job:
    """The job of an iteration. Raises what the archive raises."""
    generation = generation_of(run, iteration)
    rng = random.Random(f"{run.seed}:{iteration}")
    seed = rng.getrandbits(32)
    if generation == 0:
        choice = Choice(operator=Operator.SEED, parents=(), island=None)
    else:
        horizon = visible(run, generation)
        population = Population(
            scored=tuple(archive.scored(run.id, before_generation=horizon)),
            trials=tuple(archive.trials(run.id, before_iteration=iteration, before_generation=horizon)),
            models=run.models,
        )
        choice = strategy.choose(population, iteration=iteration, generation=generation, rng=rng)
    return Job(
        run=run.id,
        iteration=iteration,
        generation=generation,
        operator=choice.operator,
        parents=choice.parents,
        model=choice.model or (TUNER if choice.operator is Operator.TUNE else turn(run.models, iteration)),
        island=choice.island,
        seed=seed,
        inspirations=choice.inspirations,
        temperature=choice.temperature,
    )


def turn(models: Sequence[str], iteration: int) -> str:
    return models[iteration % len(models)]
