"""Which candidate is meant: from an id of a run or candidate, or a task's name, to a candidate with its verdict.

Takes an archive; gives the candidate, its task and the evaluation of exactly that task's files. Only what was promoted
is chosen, unless what is merely correct was asked for.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kernelevo.errors import UsageError
from kernelevo.records import Candidate, Evaluation, Task, TimingKind
from kernelevo.tasks import load_task

if TYPE_CHECKING:
    from kernelevo.archive import Archive
    from kernelevo.archive.answers import Placing

PLACES = 1000  # of a leaderboard that are looked at


class Standard(enum.Enum):
    """What a candidate must have come through to be chosen."""

    PROMOTED = "promoted"  # verified and timed a second time, in a fresh process on new cases
    PASSED = "passed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """A candidate that passed."""

    task: Task
    candidate: Candidate
    evaluation: Evaluation


def choose(archive: Archive, wanted: str, *, standard: Standard, root: Path | None, task: str | None = None) -> Chosen:
    """wanted: a candidate's id (c-...) or a run's (r-...), whole or its beginning, or a task's name: the best of it.

    task: name or path, where the task is not below `root`. Raises UsageError when there is no such candidate or it
    falls short of the standard, TaskError when the task cannot be used.
    """
    if wanted.startswith("c-"):
        return _candidate(archive, archive.candidate(wanted), standard=standard, root=root, task=task)
    run = archive.get_run(wanted) if wanted.startswith("r-") else None
    loaded = load_task(task or (run.task if run else wanted), root=root)
    places = archive.leaderboard(loaded.name, run=run.id if run else None, limit=PLACES)
    of_these_files = [place for place in places if place.task_digest == loaded.digest]
    first: Chosen | None = None
    for chosen in _evaluated(archive, loaded, best_first(of_these_files)):
        if standard is Standard.PASSED or chosen.evaluation.promoted:
            return chosen
        first = first or chosen
    if first is not None:
        raise UsageError(
            f"none of the {len(of_these_files)} correct candidates of {wanted} was promoted",
            next_step=f"kernelevo evolve {loaded.name}, or take {first.candidate.id} with --unverified",
        )
    if places:
        raise UsageError(
            f"task {loaded.name} has changed since its candidates were judged (it is {loaded.digest} now)",
            next_step=f"kernelevo evolve {loaded.name}",
        )
    raise UsageError(f"no correct candidate of {wanted} in the archive", next_step=f"kernelevo evolve {loaded.name}")


def best_first(places: Iterable[Placing]) -> list[Placing]:
    """Boards do not compare: measured times before predicted ones, newer methods before older ones."""

    in_order = sorted(places, key=lambda place: place.place)
    newest_first = sorted(in_order, key=lambda place: place.version, reverse=True)
    return sorted(newest_first, key=lambda place: place.kind is not TimingKind.MEASURED)


def _evaluated(archive: Archive, task: Task, places: Iterable[Placing]) -> Iterator[Chosen]:
    for place in places:
        evaluation = archive.known(place.candidate, task, place.device)
        if evaluation is not None and evaluation.passed:
            yield Chosen(task=task, candidate=archive.candidate(place.candidate), evaluation=evaluation)


def _candidate(
    archive: Archive, candidate: Candidate, *, standard: Standard, root: Path | None, task: str | None
) -> Chosen:
    evaluations = archive.evaluations(candidate.id)
    if not evaluations:
        raise UsageError(
            f"{candidate.id} was never evaluated", next_step="kernelevo evaluate TASK KERNEL.cu --archive FILE"
        )
    loaded = load_task(task or evaluations[0].task, root=root)
    of_these_files = [
        known
        for device in ("cuda", *sorted({e.device for e in evaluations if e.task == loaded.name} - {"cuda"}))
        if (known := archive.known(candidate.id, loaded, device)) is not None
    ]
    if not of_these_files:
        raise UsageError(
            f"{candidate.id} was not evaluated for {loaded.name} as its files are now ({loaded.digest})",
            next_step=f"kernelevo archive show {candidate.id} --source > kernel.cu; "
            f"kernelevo evaluate {loaded.name} kernel.cu --archive FILE",
        )
    evaluation = next((e for e in of_these_files if e.promoted), of_these_files[0])
    if not evaluation.passed:
        raise UsageError(
            f"{candidate.id} did not pass: {evaluation.status}", next_step=f"kernelevo archive show {candidate.id}"
        )
    if standard is Standard.PROMOTED and not evaluation.promoted:
        raise UsageError(
            f"{candidate.id} passed and was not promoted: nobody verified and timed it a second time",
            next_step="choose a promoted one (kernelevo archive best), or take it as it is with --unverified",
        )
    return Chosen(task=loaded, candidate=candidate, evaluation=evaluation)
