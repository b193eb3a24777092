"""`kernelevo metrics [RUN]...`: how good the attempts of runs were, in the measures that papers report."""

from __future__ import annotations

import json
import math
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from kernelevo.cli.archive import ArchiveOption, JsonOption, opened
from kernelevo.cli.json import as_json
from kernelevo.cli.show import console, rows
from kernelevo.errors import UsageError
from kernelevo.records import Evaluation, Operator, Run, Timing, TimingKind

if TYPE_CHECKING:
    from kernelevo.archive import Archive
    from kernelevo.metrics import Attempt, Attempts, Metric

INSTRUCTIONS = "warp_instructions"  # counter of the emulator
NO_BASELINE = "no baseline is named, and the archive holds no times of PyTorch; give --baseline"


def register(app: typer.Typer) -> None:
    app.command()(metrics)


def metrics(
    runs: Annotated[
        list[str] | None, typer.Argument(help="run ids, or their beginnings; all when none is given")
    ] = None,
    baseline: Annotated[
        str | None, typer.Option(help="what to compare with: seed (the run's own), or a candidate's id")
    ] = None,
    k: Annotated[
        list[int] | None, typer.Option("-k", min=1, help="attempts of the @k metrics; 1 and 4 by default")
    ] = None,
    p: Annotated[
        list[float] | None, typer.Option("-p", min=0, help="speedups of fast_p; 0, 1 and 2 by default")
    ] = None,
    json_: JsonOption = False,
    archive: ArchiveOption = None,
) -> None:
    """fast_p, pass@k, eff@k, efficient@k and DPS of the attempts of runs, one table per device and kind of time.

    MEASURED and PREDICTED times never meet. A metric that cannot be had says why. Where the definitions come from:
    kernelevo/metrics.py
    """
    from kernelevo.metrics import report

    with opened(archive) as archived:
        groups = collect(archived, runs or [], baseline)
    found = {
        group: report(attempts, ks=tuple(k or (1, 4)), ps=tuple(p or (0, 1, 2))) for group, attempts in groups.items()
    }
    if json_:
        print(json.dumps([document(group, groups[group], metrics) for group, metrics in found.items()], indent=2))
        sys.exit(0)
    for group, values in found.items():
        console.print(table(group, groups[group], values))
        for reason in dict.fromkeys(value.reason for value in values if value.reason):
            console.print(f"  - missing: {reason}", markup=False, highlight=False)


@dataclass(frozen=True, slots=True)
class Group:
    """What may stand in one table."""

    device: str
    kind: TimingKind | None  # None when nothing was timed
    target: str | None
    method: str | None

    def __str__(self) -> str:
        if self.kind is None:
            return f"on {self.device}, nothing timed"
        return f"on {self.device}, {self.kind.value.upper()} for {self.target} by {self.method}"


@dataclass(frozen=True, slots=True)
class OneRun:
    """A run's attempts, as evaluations; None for those that gave no candidate or were not evaluated."""

    run: Run
    evaluations: tuple[Evaluation | None, ...]
    seed: Evaluation | None
    group: Group


def collect(archive: Archive, names: Sequence[str], baseline: str | None) -> dict[Group, list[Attempts]]:
    """The attempts of runs by group and task, each with its baseline and references."""
    from kernelevo.metrics import Attempts

    wanted = [archive.get_run(name) for name in names] or [entry.run for entry in archive.list_runs()]
    if not wanted:
        raise UsageError("the archive holds no run", next_step="kernelevo evolve rmsnorm")
    read = [read_run(archive, run) for run in dict.fromkeys(wanted)]
    timed = defaultdict(set)
    for one in read:
        if one.group.kind is not None:
            timed[one.group.device].add(one.group)
    tasks: defaultdict[tuple[Group, str, str], list[OneRun]] = defaultdict(list)
    for one in read:
        alone = timed[one.group.device]
        group = next(iter(alone)) if one.group.kind is None and len(alone) == 1 else one.group
        tasks[group, one.run.task, one.run.task_digest].append(one)
    groups: defaultdict[Group, list[Attempts]] = defaultdict(list)
    for (group, task, digest), members in tasks.items():
        found, reason = find_baseline(archive, members, baseline, group)
        groups[group].append(
            Attempts(
                task=task,
                attempts=tuple(attempt(evaluation, group) for one in members for evaluation in one.evaluations),
                baseline=found,
                baseline_reason=reason,
                references=references(archive, group, task, digest),
            )
        )
    return dict(groups)


def read_run(archive: Archive, run: Run) -> OneRun:
    """Every iteration that was told, whether it gave a candidate or not. Seeds are not attempts."""
    from sqlalchemy import text

    query = text("SELECT operator, candidate FROM history WHERE run = :run ORDER BY iteration")
    with archive.engine.connect() as connection:
        told = connection.execute(query, {"run": run.id}).all()
    evaluations = {
        candidate: archive.evaluation(candidate, task=run.task, device=run.device)
        for candidate in dict.fromkeys(row.candidate for row in told if row.candidate is not None)
    }
    seeds = [row.candidate for row in told if row.operator == Operator.SEED.value and row.candidate is not None]
    timings = [e.timing for e in evaluations.values() if e is not None and e.timing is not None]
    return OneRun(
        run=run,
        evaluations=tuple(evaluations.get(row.candidate) for row in told if row.operator != Operator.SEED.value),
        seed=evaluations[seeds[0]] if seeds else None,
        group=group_of(run.device, timings[0] if timings else None),
    )


def group_of(device: str, timing: Timing | None) -> Group:
    return Group(device, timing.kind, timing.target, timing.method) if timing else Group(device, None, None, None)


def attempt(evaluation: Evaluation | None, group: Group) -> Attempt:
    """One attempt with a time of the group, if it has one."""
    from kernelevo.metrics import Attempt

    timing = evaluation.timing if evaluation is not None and evaluation.passed else None
    if timing is None or group_of(group.device, timing) != group:
        return Attempt(correct=evaluation is not None and evaluation.passed, time_ns=None, instructions=None)
    counts = [case.counters.get(INSTRUCTIONS) for case in timing.cases]
    known = [count for count in counts if count is not None and count > 0]
    whole = bool(known) and len(known) == len(counts)
    mean = math.exp(math.fsum(map(math.log, known)) / len(known)) if whole else None
    return Attempt(correct=True, time_ns=timing.score_ns, instructions=mean)


def find_baseline(
    archive: Archive, members: Sequence[OneRun], wanted: str | None, group: Group
) -> tuple[Attempt | None, str | None]:
    """The baseline of a task, or why there is none."""
    if wanted is None:
        return None, NO_BASELINE
    run = members[0].run
    if wanted == "seed":
        evaluation = next((one.seed for one in members if one.seed is not None), None)
    else:
        evaluation = archive.evaluation(wanted, task=run.task, device=run.device)
    if evaluation is None:
        return None, f"{wanted} was not evaluated for {run.task} on {run.device}"
    found = attempt(evaluation, group)
    if not found.correct:
        return None, f"the baseline {wanted} did not pass"
    return found, None if found.time_ns is not None else f"the baseline {wanted} has no time of this kind"


def references(archive: Archive, group: Group, task: str, digest: str) -> tuple[float, ...]:
    """Times of every right kernel for this version of the task, from all runs."""
    if group.kind is None:
        return ()
    placings = archive.leaderboard(
        device=group.device, kind=group.kind, target=group.target, method=group.method, limit=10**6
    )
    return tuple(place.score_ns for place in placings if (place.task, place.task_digest) == (task, digest))


def table(group: Group, tasks: Sequence[Attempts], found: Sequence[Metric]) -> Table:
    attempts = sum(len(task.attempts) for task in tasks)
    title = f"{len(tasks)} task{'s' * (len(tasks) != 1)} {group}, {attempts} attempts"
    cells = [[value.name, "-" if value.value is None else f"{value.value:.3g}", str(value.tasks)] for value in found]
    return rows(title, ["metric", "value", "tasks"], cells, right=[1, 2])


def document(group: Group, tasks: Sequence[Attempts], found: Sequence[Metric]) -> dict[str, object]:
    return {
        "device": group.device,
        "kind": as_json(group.kind),
        "target": group.target,
        "method": group.method,
        "tasks": {task.task: len(task.attempts) for task in tasks},
        "metrics": {
            value.name: {"value": value.value, "reason": value.reason, "tasks": value.tasks} for value in found
        },
    }
