"""What one archive has and another lacks, copied: runs whole, evaluations outside runs once.

    merge(source, target) -> Merged

Sources, candidates, messages and cases are named by their content, and runs by ids that no two share, so they keep
their names. What is numbered (tasks, attempts, evaluations, requests) gets the target's next numbers, in the source's
order: where both archives judged one candidate, the copied evaluation counts as the newer one. A run that the target
has is left as the target has it, and so is an evaluation of the same candidate, task, device and time of day.
One transaction: everything is copied, or nothing.

Not covered: two copies of one run that went on apart. The target's stays; the other's rows are not looked at.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Table, func, insert, select

from kernelevo.archive import tables as t
from kernelevo.archive.connection import reading, writing
from kernelevo.archive.rows import following, insert_statements
from kernelevo.archive.store import Archive

Numbers = Mapping[int, int]  # of the source, to those of the target

# Columns that hold a number of another table.
REFERENCES = {"task_id": "tasks", "evaluation_id": "evaluations", "attempt_id": "attempts", "call_id": "calls"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged:
    """What was copied."""

    runs: tuple[str, ...]
    known_runs: tuple[str, ...]  # that the target had already
    candidates: int
    evaluations: int


def merge(source: Archive, target: Archive) -> Merged:
    """Copies into `target` what only `source` has. Raises ArchiveError when one of them cannot be read or written."""
    with reading(source.engine) as old, writing(target.engine) as new:
        theirs = set(new.execute(select(t.Runs.id)).scalars())
        runs = list(old.execute(select(t.Runs.id).order_by(t.Runs.started_at, t.Runs.id)).scalars())
        missing = {run for run in runs if run not in theirs}
        tasks = numbers_of_tasks(old, new)
        known = known_evaluations(old, new, tasks)
        evaluations = renumbered(new, t.Evaluations, missing_evaluations(old, missing) - known.keys())
        numbers = {
            "tasks": tasks,
            "evaluations": evaluations,
            "attempts": renumbered(new, t.Attempts, missing_attempts(old, missing, evaluations)),
        }
        for model in (t.Calls, t.Hints, t.Lessons, t.Leases):
            rows = old.execute(select(model.id, model.run_id))
            numbers[model.__tablename__] = renumbered(new, model, {row.id for row in rows if row.run_id in missing})
        before = count(new, t.Candidates)
        for table in t.Base.metadata.sorted_tables:
            if table.name == "attempts":  # of a run that is copied, and may share an evaluation that is known
                copy(old, new, table, {**numbers, "evaluations": {**known, **evaluations}}, missing)
            elif table.name != "tasks":
                copy(old, new, table, numbers, missing)
        return Merged(
            runs=tuple(run for run in runs if run in missing),
            known_runs=tuple(run for run in runs if run not in missing),
            candidates=count(new, t.Candidates) - before,
            evaluations=len(evaluations),
        )


def numbers_of_tasks(old: Connection, new: Connection) -> Numbers:
    """Versions of tasks by name and digest; those that the target lacks are copied."""
    query = select(*t.Tasks.__table__.columns).order_by(t.Tasks.id)
    known = {(row.name, row.digest): row.id for row in new.execute(query)}
    found = {}
    for row in old.execute(query):
        if (row.name, row.digest) not in known:
            values = {name: value for name, value in row._mapping.items() if name != "id"}
            known[row.name, row.digest] = new.execute(insert(t.Tasks).returning(t.Tasks.id), values).scalar_one()
        found[row.id] = known[row.name, row.digest]
    return found


def known_evaluations(old: Connection, new: Connection, tasks: Numbers) -> Numbers:
    """The source's evaluations that the target has: of the same candidate, task, device and time of day."""
    columns = (t.Evaluations.candidate_id, t.Evaluations.task_id, t.Evaluations.device, t.Evaluations.recorded_at)
    query = select(t.Evaluations.id, *columns)
    theirs = {(e.candidate_id, e.task_id, e.device, e.recorded_at): e.id for e in new.execute(query)}
    ours = {e.id: (e.candidate_id, tasks[e.task_id], e.device, e.recorded_at) for e in old.execute(query)}
    return {number: theirs[key] for number, key in ours.items() if key in theirs}


def missing_evaluations(old: Connection, missing: Set[str]) -> set[int]:
    """Those of runs that the target lacks, and those outside runs."""
    attempts = old.execute(select(t.Attempts.run_id, t.Attempts.evaluation_id))
    return {a.evaluation_id for a in attempts if a.evaluation_id and (a.run_id is None or a.run_id in missing)}


def missing_attempts(old: Connection, missing: Set[str], evaluations: Numbers) -> set[int]:
    """Those of runs that the target lacks, and those outside runs that made a copied evaluation."""
    attempts = old.execute(select(t.Attempts.id, t.Attempts.run_id, t.Attempts.evaluation_id))
    return {a.id for a in attempts if (a.evaluation_id in evaluations if a.run_id is None else a.run_id in missing)}


def renumbered(new: Connection, model: Any, wanted: Iterable[int]) -> Numbers:
    first = following(new, select(func.max(model.id)))
    return {number: first + i for i, number in enumerate(sorted(wanted))}


def copy(old: Connection, new: Connection, table: Table, numbers: Mapping[str, Numbers], missing: Set[str]) -> None:
    """The rows of one table that belong to what is copied, with the target's numbers."""
    found = list(translated(old, table, numbers, missing))
    if found:
        model = next(mapper.class_ for mapper in t.Base.registry.mappers if mapper.local_table is table)
        new.execute(insert_statements(new.dialect.name)[model], found)


def translated(
    old: Connection, table: Table, numbers: Mapping[str, Numbers], missing: Set[str]
) -> Iterator[dict[str, Any]]:
    own = {"id": table.name} if table.name in numbers else {}
    of_run = "id" if table.name == "runs" else "run_id"
    for row in old.execute(select(*table.columns)).mappings():
        if row.get(of_run) is not None and row[of_run] not in missing:
            continue
        named = {c: row[c] for c in REFERENCES | own if row.get(c) is not None}
        if all(value in numbers[(REFERENCES | own)[c]] for c, value in named.items()):
            yield {**row, **{c: numbers[(REFERENCES | own)[c]][value] for c, value in named.items()}}


def count(connection: Connection, model: type[t.Base]) -> int:
    return connection.execute(select(func.count()).select_from(model)).scalar_one()
