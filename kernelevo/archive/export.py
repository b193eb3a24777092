"""Everything in an archive that is not derived, line by line, for programs that read no SQL.

    for line in lines(archive, run=None): ...

Takes an open archive, gives Lines: of what kind, the facts around, and the record that `kernelevo archive ... --json`
shows too. RECORDS says what each kind is; what a line refers to comes before it. One transaction and one row after the
other: what is held in memory does not grow with the archive, but for the entries of its runs.

Not covered: reading lines back. `kernelevo archive merge` copies between archives.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Select, select, union

from kernelevo.archive import rows
from kernelevo.archive import tables as t
from kernelevo.archive.connection import reading
from kernelevo.archive.ledger import read_gate
from kernelevo.archive.schema import REVISION
from kernelevo.archive.store import Archive

FORMAT = 1  # of the lines: grows when a key is renamed or removed, or changes its meaning
FETCHED = 500  # rows at a time

RECORDS = {
    "archive": "the first line: `format` of the lines, now 1, and `schema` of the archive",
    "task": "one version of a task's files, named by `name` and `digest`",
    "candidate": "`id`, CUDA `source`, `entry` and `tunables`; `parents` and `rewrites` as it first appeared",
    "evaluation": "`id`, and what was found of `candidate` for `task` and `task_digest` on `device`: `stages`, "
    "`build`, `verdict` and `timing`, case by case. `status`, `passed`, `feedback` and `score_ns` are derived",
    "run": "`run`, its settings, and how it ended; `prices` and `limits`",
    "hint": "advice of a person for a run",
    "lesson": "what a run tried and what won, up to `after_iteration`",
    "job": "a decision: `run`, `iteration`, `operator`, `parents`, `model`",
    "lease": "a job handed to an agent outside",
    "prompt": "what a model was given: `run`, `iteration`, `attempt`, `messages`",
    "call": "a request to a paid model; `end` is null where it gave the reply that names it, or is under way",
    "reply": "what a model answered to the prompt of the same `run`, `iteration`, `attempt`; `call` is its request",
    "judgement": "what a model said of a candidate before anything ran it; `call` is its request",
    "gate": "what was made of the judgements on a job's candidate",
    "tuning": "one configuration that a tune job timed, in the order of trying",
    "attempt": "what came of a job, or of one `kernelevo evaluate` (`run` is null): `candidate`, number of the "
    "`evaluation`, or the `reason` why there is none; `parents` and `rewrites` of the candidate as it appeared here",
}


@dataclass(frozen=True, slots=True)
class Line:
    """One line of an export."""

    kind: str  # a key of RECORDS
    facts: Mapping[str, Any]  # plain values, and records of kernelevo.records
    record: Any = field(default=None)  # a frozen record whose fields belong to the line; None: `facts` are all


def lines(archive: Archive, *, run: str | None = None) -> Iterator[Line]:
    """The lines of an archive, or of one run (id) and all that its decisions and attempts name.

    Candidates of other runs, which a run's candidates have as ancestors or share a verdict with, are named, not given.
    """
    entries = [entry for entry in archive.list_runs() if run in (None, entry.run.id)]
    with reading(archive.engine) as connection:
        yield Line("archive", {"format": FORMAT, "schema": REVISION})
        yield from tasks(connection, run)
        for (identity,) in streamed(connection, wanted_candidates(run)):
            yield Line("candidate", {"id": identity}, rows.read_candidate(connection, identity, run=None))
        for number, digest, recorded_at in streamed(connection, wanted_evaluations(run)):
            facts = {"id": number, "task_digest": digest, "recorded_at": recorded_at}
            yield Line("evaluation", facts, rows.read_evaluation(connection, number))
        for entry in entries:
            identity = entry.run.id
            agreed = {"prices": prices(connection, identity), "limits": limits(connection, identity)}
            yield Line("run", agreed, entry)
            yield from plain(connection, "hint", t.Hints, t.Hints.run_id == identity)
            yield from plain(connection, "lesson", t.Lessons, t.Lessons.run_id == identity)
            for (iteration,) in streamed(connection, iterations(identity)):
                yield from job_lines(connection, identity, iteration)
        if run is None:
            yield from attempts(connection, t.Attempts.run_id.is_(None))


def tasks(connection: Connection, run: str | None) -> Iterator[Line]:
    wanted = [] if run is None else [t.Tasks.id.in_(select(t.Runs.task_id).where(t.Runs.id == run))]
    for row in streamed(connection, select(t.Tasks.__table__).where(*wanted).order_by(t.Tasks.id)):
        yield Line("task", {name: value for name, value in row._mapping.items() if name != "id"})


def wanted_candidates(run: str | None) -> Select[Any]:
    """Ids of all candidates, or of those that a run names."""
    if run is None:
        return select(t.Candidates.id).order_by(t.Candidates.id)
    judged = select(t.Judgements.candidate_id).join(t.Calls, t.Calls.id == t.Judgements.call_id)
    named = [
        select(column).where(column.class_.run_id == run)
        for column in (
            t.Attempts.candidate_id,
            t.JobParents.parent_id,
            t.JobInspirations.candidate_id,
            t.PromptParents.parent_id,
            t.GateDecisions.candidate_id,
        )
    ]
    within = union(*named, judged.where(t.Calls.run_id == run)).subquery()
    return select(t.Candidates.id).where(t.Candidates.id.in_(select(within))).order_by(t.Candidates.id)


def wanted_evaluations(run: str | None) -> Select[int, str, str]:
    """Numbers of evaluations, with the digest of their task and when they were recorded."""
    query = select(t.Evaluations.id, t.Tasks.digest, t.Evaluations.recorded_at).join(t.Tasks)
    if run is not None:
        query = query.where(t.Evaluations.id.in_(select(t.Attempts.evaluation_id).where(t.Attempts.run_id == run)))
    return query.order_by(t.Evaluations.id)


def iterations(run: str) -> Select[Any]:
    return select(t.Jobs.iteration).where(t.Jobs.run_id == run).order_by(t.Jobs.iteration)


def job_lines(connection: Connection, run: str, iteration: int) -> Iterator[Line]:
    """A decision and everything that came of it, in the order in which it came."""

    def here(table: Any) -> tuple[Any, Any]:
        return table.run_id == run, table.iteration == iteration

    (job,) = rows.read_jobs(connection, *here(t.Jobs))
    asked_at = connection.execute(select(t.Jobs.asked_at).where(*here(t.Jobs))).scalar_one()
    yield Line("job", {"asked_at": asked_at}, job)
    yield from plain(connection, "lease", t.Leases, *here(t.Leases))
    yield from prompts(connection, run, iteration)
    yield from calls(connection, *here(t.Calls))
    replies = rows.read_replies(connection, run, iteration)
    r = t.Replies
    for attempt, call, received_at in connection.execute(
        select(r.attempt, r.call_id, r.received_at).where(*here(r)).order_by(r.attempt)
    ):
        place = {"run": run, "iteration": iteration, "attempt": attempt}
        yield Line("reply", {**place, "call": call, "received_at": received_at}, replies[attempt])
    judged = t.Judgements.call_id.in_(select(t.Calls.id).where(*here(t.Calls)))
    yield from plain(connection, "judgement", t.Judgements, judged)
    gate = read_gate(connection, run, iteration)
    if gate is not None:
        decided_at = connection.execute(select(t.GateDecisions.decided_at).where(*here(t.GateDecisions))).scalar_one()
        yield Line("gate", {"run": run, "iteration": iteration, "decided_at": decided_at}, gate)
    yield from plain(connection, "tuning", t.Tuning, *here(t.Tuning))
    yield from attempts(connection, *here(t.Attempts))


def prompts(connection: Connection, run: str, iteration: int) -> Iterator[Line]:
    """With the texts of their messages and the ids of the candidates that they show."""
    p, m = t.PromptParents, t.PromptMessages
    parents = rows.grouped(
        connection.execute(
            select(p.attempt, p.parent_id)
            .where(p.run_id == run, p.iteration == iteration)
            .order_by(p.attempt, p.position)
        )
    )
    messages = rows.grouped(
        connection.execute(
            select(m.attempt, t.Messages.role, t.Messages.text)
            .join(t.Messages)
            .where(m.run_id == run, m.iteration == iteration)
            .order_by(m.attempt, m.position)
        )
    )
    for line in plain(connection, "prompt", t.Prompts, t.Prompts.run_id == run, t.Prompts.iteration == iteration):
        shown = {
            "parents": [parent for (parent,) in parents.get(line.facts["attempt"], [])],
            "messages": [{"role": role, "text": text} for role, text in messages.get(line.facts["attempt"], [])],
        }
        yield Line("prompt", {**line.facts, **shown})


def calls(connection: Connection, *conditions: Any) -> Iterator[Line]:
    """Requests, each with how it ended, as `kernelevo archive` has it."""
    for line in plain(connection, "call", t.Calls, *conditions):
        ends = plain(connection, "call", t.CallEnds, t.CallEnds.call_id == line.facts["id"])
        end = [{name: value for name, value in one.facts.items() if name != "call"} for one in ends]
        yield Line("call", {**line.facts, "end": end[0] if end else None})


def attempts(connection: Connection, *conditions: Any) -> Iterator[Line]:
    """Each with where its candidate comes from."""
    for line in plain(connection, "attempt", t.Attempts, *conditions):
        at = {"candidate": line.facts["candidate"], "attempt": line.facts["id"]}
        origin = {
            "parents": list(connection.execute(rows.PARENTS, at).scalars()),
            "rewrites": [
                {"name": name, "argument": argument} for name, argument in connection.execute(rows.REWRITES, at)
            ],
        }
        yield Line("attempt", {**line.facts, **origin})


def prices(connection: Connection, run: str) -> dict[str, Any]:
    """By model, as Price has it."""
    found = plain(connection, "run", t.RunPrices, t.RunPrices.run_id == run)
    return {one.facts["model"]: {k: v for k, v in one.facts.items() if k not in ("run", "model")} for one in found}


def limits(connection: Connection, run: str) -> dict[str, float]:
    found = plain(connection, "run", t.RunLimits, t.RunLimits.run_id == run)
    return {one.facts["name"]: one.facts["value"] for one in found}


# Columns whose key in a line is the word that the records use. `position` is the order of the lines.
NAMES = {"run_id": "run", "candidate_id": "candidate", "call_id": "call", "evaluation_id": "evaluation"}


def plain(connection: Connection, kind: str, table: type[t.Base], *conditions: Any) -> Iterator[Line]:
    """Rows of a table that has no record, in the order of their key: all columns but their position."""
    columns = t.Base.metadata.tables[table.__tablename__]
    query = select(columns).where(*conditions).order_by(*columns.primary_key.columns)
    for row in streamed(connection, query):
        yield Line(kind, {NAMES.get(c, c): value for c, value in row._mapping.items() if c != "position"})


def streamed(connection: Connection, query: Any) -> Iterator[Any]:
    """Rows as they are wanted; a server of PostgreSQL sends some at a time."""
    return iter(connection.execute(query, execution_options={"yield_per": FETCHED}))
