"""What two repetitions of a run must agree on: its decisions and what came of them, as one hash.

    lineage_hash(archive, run)              -> "l-" and 16 hexadecimal digits
    first_difference(archive, one, other)   -> None, or where two runs part, in words

Ids of runs, times of day, durations, costs and scores are no part of it: a repetition has its own. Of a reply that held
no candidate it knows that, not the words of the reason.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, fields
from itertools import zip_longest
from typing import TYPE_CHECKING

from kernelevo.records import digest

if TYPE_CHECKING:
    from kernelevo.archive import Archive

EVER = sys.maxsize  # later than any iteration or generation


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """One iteration, as far as a repetition has to be the same."""

    iteration: int
    operator: str
    parents: tuple[str, ...]  # candidate ids
    inspirations: tuple[str, ...]  # candidate ids
    model: str
    candidate: str  # its id, or "none"
    status: str  # Evaluation.status, or "not evaluated"


def lineage_hash(archive: Archive, run: str) -> str:
    """The digest over all decisions of a run, by iteration. Raises UsageError for an unknown run."""
    parts = [hash_of(decision) for decision in lineage(archive, archive.get_run(run).id)]
    return digest(*parts, tag="l")


def first_difference(archive: Archive, one: str, other: str) -> str | None:
    """The first iteration, and the first thing in it, in which two runs differ; None when they do not."""
    both = (lineage(archive, archive.get_run(run).id) for run in (one, other))
    for ours, theirs in zip_longest(*both):
        if ours is None or theirs is None:
            return f"iteration {(ours or theirs).iteration} is in one of them only"
        for field in fields(Decision):
            mine, yours = getattr(ours, field.name), getattr(theirs, field.name)
            if mine != yours:
                return f"iteration {ours.iteration}: {field.name}: {in_words(mine)} and {in_words(yours)}"
    return None


def lineage(archive: Archive, run: str) -> list[Decision]:
    """The decisions of a run that something came of, by iteration."""
    statuses = {scored.candidate: scored.status for scored in archive.scored(run)}
    trials = {t.iteration: t for t in archive.trials(run, before_iteration=EVER, before_generation=EVER)}
    found = []
    for job in archive.jobs(run):
        trial = trials[job.iteration]
        if not trial.told:
            continue
        evaluated = trial.candidate is not None and archive.reason(run, job.iteration) is None
        found.append(
            Decision(
                iteration=job.iteration,
                operator=job.operator.value,
                parents=job.parents,
                inspirations=job.inspirations,
                model=job.model,
                candidate=trial.candidate or "none",
                status=statuses[trial.candidate] if trial.candidate and evaluated else "not evaluated",
            )
        )
    return found


def hash_of(decision: Decision) -> str:
    """Each field on its own, so that what stands at the end of one never reads as the beginning of the next."""
    values = (getattr(decision, field.name) for field in fields(Decision))
    return digest(*(digest(*v, tag="ids") if isinstance(v, tuple) else str(v) for v in values), tag="decision")


def in_words(value: object) -> str:
    return (", ".join(value) or "none") if isinstance(value, tuple) else str(value)
