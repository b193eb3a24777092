"""What the archive answers beyond the records that were put in. Frozen, standard library only."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from kernelevo.records import Job, Operator, Reply, Rewrite, Run, TimingKind


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEntry:
    """One run as it stands."""

    run: Run
    status: str  # "running" (or killed), "finished", "stopped" or "failed"
    started_at: str  # ISO 8601, UTC
    ended_at: str | None
    stop_reason: str | None  # why it ended before its last generation
    attempts: int  # iterations told
    candidates: int  # different ones among them


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """A job that was asked for, of which nothing was told."""

    job: Job
    replies: tuple[Reply, ...]  # paid for, by attempt


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a run has come."""

    told: frozenset[int]  # iterations whose outcome is recorded
    pending: tuple[Pending, ...]  # asked and not told, by iteration
    next_iteration: int  # after the last one that was asked for


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What a run's requests to models cost. Tokens and dollars are of the requests for which they are known."""

    calls: int  # failed ones and those under way included
    free_calls: int  # of free models
    failed_calls: int
    calls_under_way: int
    calls_of_unknown_cost: int  # those under way apart
    cost_usd: float
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    reasoning_tokens: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCost:
    """What one model was asked for in a run, for one purpose. Dollars are of the requests whose cost is known."""

    model: str
    purpose: str  # "propose" or "judge"
    calls: int
    failed_calls: int
    calls_of_unknown_cost: int
    cost_usd: float
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    seconds: float  # waited for


@dataclass(frozen=True, slots=True, kw_only=True)
class StageTotal:
    """One stage over all evaluations of a run."""

    name: str  # one of records.STAGES
    reached: int  # evaluations
    failed: int
    seconds: float  # wall-clock time, added up


@dataclass(frozen=True, slots=True, kw_only=True)
class Placing:
    """One line of a leaderboard. Places compare only inside one task version, device, target, kind and method."""

    place: int  # from 1
    task: str
    task_digest: str
    device: str
    target: str
    kind: TimingKind
    method: str  # Timing.method
    candidate: str  # candidate id
    score_ns: float

    @property
    def version(self) -> tuple[int, ...]:
        """The numbers in the method: of "prediction 2" and "prediction 10" the second is newer."""
        return tuple(int(number) for number in re.findall(r"\d+", self.method))


@dataclass(frozen=True, slots=True, kw_only=True)
class Ancestry:
    """A candidate and, through `parents`, everything it comes from. Shared ancestors are shared objects."""

    candidate: str  # candidate id
    parents: tuple[Ancestry, ...]  # none for a seed
    run: str | None  # where it first appeared; None outside runs
    iteration: int | None
    generation: int | None
    operator: Operator | None
    model: str | None
    rewrites: tuple[Rewrite, ...]  # what `mutate` did to the parents
    status: str | None  # Evaluation.status; None when it was not evaluated
    kind: TimingKind | None
    target: str | None
    score_ns: float | None

    def walk(self) -> Iterator[Ancestry]:
        """Itself and all ancestors, each once, itself first."""
        seen: set[str] = set()
        waiting = [self]
        while waiting:
            here = waiting.pop(0)
            if here.candidate not in seen:
                seen.add(here.candidate)
                yield here
                waiting.extend(here.parents)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """Who works on a job, and until when."""

    run: str
    iteration: int
    holder: str
    leased_at: str  # ISO 8601, UTC
    leased_until: str  # ISO 8601, UTC
    expired: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesson:
    """A summary of what a run tried and what won."""

    run: str
    task: str
    after_iteration: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuned:
    """One configuration that a tune job tried. Its time is unverified: it ranks configurations and nothing else."""

    configuration: str  # for example "BLOCK=128 UNROLL=4"
    cases: int  # bench cases that were timed
    score_ns: float | None  # None: it did not build or run
    reason: str | None  # why there is no time
