"""The archive: everything that was asked, answered, built, proven and timed, and where each candidate comes from.

Takes records, gives records. Each method is one transaction; nothing is ever changed or deleted, except a run's
status. Callers may be several threads and several processes.

Not covered: deciding anything. What to propose next is for selection.py, what a time means for records.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from threading import RLock
from types import TracebackType
from typing import Any

from sqlalchemy import Connection, Engine, RowMapping, Select, bindparam, case, exists, func, select, text, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import InstrumentedAttribute

from kernelevo.archive import rows
from kernelevo.archive import tables as t
from kernelevo.archive.answers import Ancestry, Pending, Placing, Progress, RunEntry, StageTotal
from kernelevo.archive.connection import connect, describe, lock, reading, writing
from kernelevo.archive.leases import Leases
from kernelevo.archive.ledger import Ledger
from kernelevo.archive.notes import Notes
from kernelevo.archive.schema import check, prepare
from kernelevo.archive.scored import ScoredView
from kernelevo.archive.times import utc_now, written
from kernelevo.errors import ArchiveError, UsageError
from kernelevo.records import (
    STAGES,
    Candidate,
    Evaluation,
    Job,
    Operator,
    Prompt,
    Reply,
    Rewrite,
    Run,
    Scored,
    Task,
    TimingKind,
    Trial,
)

STATUSES = ("running", "finished", "stopped", "failed")


def open_archive(
    path: Path | str,
    *,
    read_only: bool = False,
    busy_timeout_seconds: float = 30.0,
    clock: Callable[[], datetime] = utc_now,
) -> Archive:
    """Opens an archive; creates or upgrades it first unless `read_only`.

    path: of an SQLite file, or a SQLAlchemy URL (sqlite:///... or postgresql+psycopg://...).
    busy_timeout_seconds: how long to wait for another process that is writing.
    clock: gives the times of day that are recorded.

    Raises SchemaError when the archive was written by a newer version, ArchiveError when it is something else,
    missing, damaged, locked or not writable, UsageError for a URL of another kind. A read-only archive never writes.
    """
    engine = connect(path, read_only=read_only, busy_timeout_seconds=busy_timeout_seconds)
    try:
        if read_only:
            if engine.dialect.name == "sqlite" and not Path(str(engine.url.database)).exists():
                raise ArchiveError(
                    f"there is no archive at {engine.url.database}",
                    next_step="`kernelevo evolve` makes one; or name another path",
                )
            check(engine)
        else:
            prepare(engine, busy_timeout_seconds=busy_timeout_seconds)
    except BaseException:
        engine.dispose()
        raise
    return Archive(engine, read_only=read_only, clock=clock)


class Archive:
    """An open archive. Use open_archive to get one and `close`, or `with`, to end it.

    `ledger` knows what was paid for, `notes` holds advice, `leases` who works on what.

    Every method may raise ArchiveError; after one, the archive holds what it held before.
    """

    def __init__(self, engine: Engine, *, read_only: bool, clock: Callable[[], datetime]) -> None:
        self.engine = engine
        self.read_only = read_only
        self.clock = clock
        self.lock = RLock()  # of the three caches below
        self.boards = Boards()
        self.views: dict[str, ScoredView] = {}
        self.task_ids: dict[str, int] = {}  # of runs
        self.ledger = Ledger(engine, self.now)
        self.notes = Notes(engine, self.now)
        self.leases = Leases(engine, clock)

    @property
    def file(self) -> Path | None:
        """The file it is, or None where it is a server's."""
        return Path(str(self.engine.url.database)) if self.engine.dialect.name == "sqlite" else None

    # --- runs -------------------------------------------------------------------------------------------------------

    def create_run(self, run: Run, task: Task) -> None:
        """Records that a run begins. Raises UsageError when its id is taken."""
        with writing(self.engine) as connection:
            if connection.execute(select(t.Runs.id).where(t.Runs.id == run.id)).scalar() is not None:
                raise UsageError(f"run {run.id} exists", next_step=f"go on with it by --resume {run.id}")
            task_id = self.task_id(connection, task)
            rows.insert(connection, rows.run_rows(run, task_id=task_id, status="running", now=self.now()))

    def finish_run(self, run: str, *, status: str = "finished", reason: str | None = None) -> None:
        """Records that a run ended: "finished", "stopped" (by a person) or "failed" (by an error).

        reason: why it ended before its last generation.
        """
        self.set_status(run, status, ended_at=None if status == "running" else self.now(), reason=reason)

    def reopen_run(self, run: str) -> None:
        """Records that a run goes on. Only for whoever holds it: requests that its death cut off are ended."""
        self.set_status(run, "running", ended_at=None, reason=None)
        self.ledger.close_cut_off(run)

    @contextmanager
    def holding(self, run: str) -> Iterator[None]:
        """While in it, no other process goes on with the same run. Raises UsageError when one does already."""
        with lock(self.engine, run) as taken:
            if not taken:
                raise UsageError(f"run {run} is under way in another process", next_step="wait for it, or end it first")
            yield

    def get_run(self, run: str) -> Run:
        """The run of that id or unique beginning of an id. Raises UsageError for none or several."""
        with reading(self.engine) as connection:
            found = resolve(connection, t.Runs.id, run, noun="run", tag="r")
            return rows.read_runs(connection, t.Runs.id == found)[0][0]

    def list_runs(self, *, task: str | None = None) -> list[RunEntry]:
        """All runs, or those of a task, oldest first."""
        with reading(self.engine) as connection:
            runs = rows.read_runs(connection, *([t.Tasks.name == task] if task is not None else []))
            counts = {
                run: (attempts, candidates)
                for run, attempts, candidates in connection.execute(
                    select(t.Attempts.run_id, func.count(), func.count(t.Attempts.candidate_id.distinct()))
                    .where(t.Attempts.run_id.is_not(None))
                    .group_by(t.Attempts.run_id)
                )
            }
        return [
            RunEntry(
                run=run,
                status=row.status,
                started_at=row.started_at,
                ended_at=row.ended_at,
                stop_reason=row.stop_reason,
                attempts=counts.get(run.id, (0, 0))[0],
                candidates=counts.get(run.id, (0, 0))[1],
            )
            for run, row in runs
        ]

    def progress(self, run: str) -> Progress:
        """What was told and what is pending, so that a run goes on without paying or counting twice."""
        with reading(self.engine) as connection:
            told = told_iterations(connection, run)
            jobs = rows.read_jobs(connection, t.Jobs.run_id == run)
            pending = tuple(
                Pending(job=job, replies=tuple(rows.read_replies(connection, run, job.iteration).values()))
                for job in jobs
                if job.iteration not in told
            )
        return Progress(told=told, pending=pending, next_iteration=jobs[-1].iteration + 1 if jobs else 0)

    def told(self, run: str) -> frozenset[int]:
        """Iterations of a run whose outcome is recorded."""
        with reading(self.engine) as connection:
            return told_iterations(connection, run)

    def stage_totals(self, run: str) -> list[StageTotal]:
        """What each stage took over the evaluations of a run, in the order of the stages that any of them reached.

        An evaluation that several iterations share counts once.
        """
        s, a = t.EvaluationStages, t.Attempts
        evaluations = select(a.evaluation_id).where(a.run_id == run)
        failed = func.sum(case((s.outcome == "failed", 1), else_=0))
        query = (
            select(s.stage, func.count(), failed, func.sum(s.seconds))
            .where(s.evaluation_id.in_(evaluations))
            .group_by(s.stage)
        )
        with reading(self.engine) as connection:
            found = [
                StageTotal(name=name, reached=reached, failed=failed, seconds=seconds)
                for name, reached, failed, seconds in connection.execute(query)
            ]
        return sorted(found, key=lambda total: STAGES.index(total.name) if total.name in STAGES else len(STAGES))

    # --- one iteration ----------------------------------------------------------------------------------------------

    def record_job(self, job: Job) -> Job:
        """Stores a decision before it is acted on; gives back the one stored before, if this iteration has one.

        A resumed run must act on what it gets back: the decision whose replies may have been paid for already.
        """
        with writing(self.engine) as connection:
            if connection.execute(ASKED, {"run": job.run, "iteration": job.iteration}).scalar() is not None:
                return rows.read_jobs(connection, t.Jobs.run_id == job.run, t.Jobs.iteration == job.iteration)[0]
            self.known_task_id(connection, job.run)
            self.insert(connection, rows.job_rows(job, now=self.now()))
            return job

    def record_reply(self, job: Job, attempt: int, prompt: Prompt, reply: Reply, *, call: int | None = None) -> None:
        """Stores a prompt and what came back, before anything is made of it.

        attempt: from 0, counts the job's replies. The job is stored with it if it is not yet.
        call: the request that gave it (see Ledger.begin); None for a free model.
        """
        with writing(self.engine) as connection:
            self.ensure_job(connection, job)
            now = self.now()
            self.insert(
                connection,
                {**rows.prompt_rows(job, attempt, prompt), **rows.reply_rows(job, attempt, reply, call=call, now=now)},
            )

    def reply(self, job: Job, attempt: int) -> Reply | None:
        """The stored reply of that attempt, or None when it has to be asked for."""
        with reading(self.engine) as connection:
            return rows.read_replies(connection, job.run, job.iteration).get(attempt)

    def has_replies(self, run: str) -> bool:
        """Whether any model answered in a run."""
        with reading(self.engine) as connection:
            return connection.execute(select(exists().where(t.Replies.run_id == run))).scalar_one()

    def reason(self, run: str, iteration: int) -> str | None:
        """Why an iteration has no candidate, or none that was evaluated."""
        query = select(t.Attempts.reason).where(t.Attempts.run_id == run, t.Attempts.iteration == iteration)
        with reading(self.engine) as connection:
            return connection.execute(query).scalar()

    def replies(self, run: str, iteration: int) -> tuple[Reply, ...]:
        """All replies of a job, by attempt."""
        with reading(self.engine) as connection:
            return tuple(rows.read_replies(connection, run, iteration).values())

    def prompts(self, run: str, iteration: int) -> tuple[Prompt, ...]:
        """All prompts of a job, by attempt."""
        with reading(self.engine) as connection:
            return tuple(rows.read_prompts(connection, run, iteration).values())

    def jobs(self, run: str) -> list[Job]:
        """All decisions of a run, by iteration."""
        with reading(self.engine) as connection:
            return rows.read_jobs(connection, t.Jobs.run_id == run)

    def record(
        self, job: Job, candidate: Candidate | None, evaluation: Evaluation | None, *, reason: str | None = None
    ) -> None:
        """Records what came of a job, whole or not at all. An iteration is told once.

        candidate: None when the replies held none; `reason` then says why.
        evaluation: None when it could not be evaluated; `reason` then says why. One that came from this archive
            (see `known`) is shared, not stored again.
        """
        with writing(self.engine) as connection:
            self.ensure_job(connection, job)
            if connection.execute(TOLD, {"run": job.run, "iteration": job.iteration}).scalar() is not None:
                raise ArchiveError(
                    f"iteration {job.iteration} of run {job.run} is told already",
                    next_step="let one process at a time go on with a run",
                )
            task_id = self.known_task_id(connection, job.run)
            self.insert_attempt(connection, task_id, candidate, evaluation, reason, job=job)

    def record_evaluation(self, task: Task, candidate: Candidate, evaluation: Evaluation) -> None:
        """Records an evaluation outside any run, as `kernelevo evaluate` makes it."""
        with writing(self.engine) as connection:
            self.insert_attempt(connection, self.task_id(connection, task), candidate, evaluation, None, job=None)

    # --- questions --------------------------------------------------------------------------------------------------

    def scored(self, run: str, *, before_generation: int | None = None) -> list[Scored]:
        """The evaluated candidates of a run, in the order of their iterations.

        before_generation: only what earlier generations showed, children included, so that a resumed run decides
            as it would have decided without the interruption.
        Costs one indexed query for what is new since the last call, whatever the size of the archive.
        """
        with self.lock, reading(self.engine) as connection:
            view = self.views.setdefault(run, ScoredView(run))
            view.refresh(connection)
            return list(view.entries) if before_generation is None else view.before(before_generation)

    def timed_as(self, run: str) -> tuple[str, str, str] | None:
        """Kind, target and method of a run's scores; None while it has none."""
        with self.lock, reading(self.engine) as connection:
            view = self.views.setdefault(run, ScoredView(run))
            view.refresh(connection)
            return view.basis

    def trials(self, run: str, *, before_iteration: int, before_generation: int) -> list[Trial]:
        """The decisions of a run before an iteration, in order.

        before_generation: of later generations only what was decided is given, not what came of it.
        """
        with self.lock, reading(self.engine) as connection:
            view = self.views.setdefault(run, ScoredView(run))
            view.refresh(connection)
            return view.trials(connection, before_iteration=before_iteration, before_generation=before_generation)

    def candidate(self, candidate: str, *, run: str | None = None) -> Candidate:
        """The candidate of that id or unique beginning of an id. Raises UsageError for none or several.

        run: parents and rewrites are those of its first appearance in this run; without it, in the archive.
        """
        with reading(self.engine) as connection:
            found = resolve(connection, t.Candidates.id, candidate, noun="candidate", tag="c")
            result = rows.read_candidate(connection, found, run=run)
            assert result is not None
            return result

    def known(self, candidate: str, task: Task, device: str) -> Evaluation | None:
        """The newest evaluation of a candidate for exactly these task files on a device, or None."""
        return self.known_for(candidate, task.name, task.digest, device)

    def known_for(self, candidate: str, task: str, task_digest: str, device: str) -> Evaluation | None:
        """The same by the task's name and digest, for who has not loaded the task."""
        wanted = {"candidate": candidate, "device": device, "name": task, "digest": task_digest}
        with reading(self.engine) as connection:
            newest = connection.execute(KNOWN, wanted).scalar()
            return None if newest is None else rows.read_evaluation(connection, newest)

    def known_kernel(self, key: str, task: Task, device: str) -> Evaluation | None:
        """The newest evaluation that passed and has this source_key or kernel_key, for exactly these task files."""
        wanted = {"key": key, "device": device, "name": task.name, "digest": task.digest}
        with reading(self.engine) as connection:
            found = [connection.execute(query, wanted).scalar() for query in (KNOWN_SOURCE, KNOWN_KERNEL)]
            newest = max((number for number in found if number is not None), default=None)
            return None if newest is None else rows.read_evaluation(connection, newest)

    def evaluation(self, candidate: str, *, task: str | None = None, device: str | None = None) -> Evaluation | None:
        """The newest evaluation of a candidate id, for any version of the task, or None."""
        wanted = [t.Evaluations.candidate_id == candidate]
        wanted += [t.Tasks.name == task] if task is not None else []
        wanted += [t.Evaluations.device == device] if device is not None else []
        query = select(func.max(t.Evaluations.id)).join(t.Tasks).where(*wanted)
        with reading(self.engine) as connection:
            newest = connection.execute(query).scalar()
            return None if newest is None else rows.read_evaluation(connection, newest)

    def evaluations(self, candidate: str) -> list[Evaluation]:
        """All evaluations of a candidate id, newest first."""
        e = t.Evaluations
        with reading(self.engine) as connection:
            ids = connection.execute(select(e.id).where(e.candidate_id == candidate).order_by(e.id.desc())).scalars()
            return [rows.read_evaluation(connection, number) for number in ids.all()]

    def feedback(self, candidate: str, task: Task, device: str) -> str:
        """Evaluation.feedback of the newest evaluation; "" when there is none."""
        evaluation = self.known(candidate, task, device)
        return evaluation.feedback if evaluation else ""

    def lineage(self, candidate: str, *, run: str | None = None) -> Ancestry:
        """Where a candidate (id or unique beginning) comes from, back to the seeds.

        run: each ancestor as it first appeared in this run, where it did; without it, in the archive.
        """
        with reading(self.engine) as connection:
            return read_ancestry(
                connection, resolve(connection, t.Candidates.id, candidate, noun="candidate", tag="c"), run=run
            )

    def best(
        self, task: str, *, device: str, kind: TimingKind, target: str, method: str, run: str | None = None
    ) -> Placing | None:
        """The fastest correct candidate for the task's newest version, or None. With `run`: of that run."""
        found = self.leaderboard(task, device=device, kind=kind, target=target, method=method, run=run, limit=1)
        return found[0] if found else None

    def leaderboard(
        self,
        task: str | None = None,
        *,
        device: str | None = None,
        kind: TimingKind | None = None,
        target: str | None = None,
        method: str | None = None,
        run: str | None = None,
        limit: int = 10,
    ) -> list[Placing]:
        """Correct candidates by time, at most `limit` for each task version, device, target, kind and method.

        task: the newest version of its files only; None: all versions of all tasks.
        """
        with self.lock, reading(self.engine) as connection:
            groups = self.boards.matching(connection, task=task, device=device, kind=kind, target=target, method=method)
            return [placing for group in groups for placing in placings(connection, group, run=run, limit=limit)]

    # --- end --------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Folds the write-ahead log into the file, so that one file holds everything, and lets go of it.

        Where another process has the archive open, its last one to close does the folding.
        """
        try:
            if self.engine.dialect.name == "sqlite" and not self.read_only:
                connection = self.engine.raw_connection()
                try:
                    connection.cursor().execute("PRAGMA busy_timeout = 1000")
                    connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")
                except Exception:  # busy or full: the log stays beside the file, and nothing is lost
                    pass
                finally:
                    connection.close()
        finally:
            self.engine.dispose()

    def __enter__(self) -> Archive:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- inside -----------------------------------------------------------------------------------------------------

    def now(self) -> str:
        return written(self.clock())

    def set_status(self, run: str, status: str, *, ended_at: str | None, reason: str | None) -> None:
        if status not in STATUSES:
            raise UsageError(f"unknown status {status!r}", next_step=f"use one of {', '.join(STATUSES)}")
        with writing(self.engine) as connection:
            changed = connection.execute(
                update(t.Runs).where(t.Runs.id == run).values(status=status, ended_at=ended_at, stop_reason=reason)
            )
            if changed.rowcount != 1:
                raise unknown(run, noun="run")

    def task_id(self, connection: Connection, task: Task) -> int:
        """The number of a task version, which is stored if it is new."""
        query = select(t.Tasks.id).where(t.Tasks.name == task.name, t.Tasks.digest == task.digest)
        found = connection.execute(query).scalar()
        if found is None:
            rows.insert(connection, {t.Tasks: [rows.task_row(task)]})
            found = connection.execute(query).scalar_one()
        return found

    def known_task_id(self, connection: Connection, run: str) -> int:
        """The task of a run. Raises UsageError for a run that was never created."""
        found = self.task_ids.get(run)
        if found is None:
            found = connection.execute(select(t.Runs.task_id).where(t.Runs.id == run)).scalar()
            if found is None:
                raise unknown(run, noun="run")
            self.task_ids[run] = found
        return found

    def ensure_job(self, connection: Connection, job: Job) -> None:
        if connection.execute(ASKED, {"run": job.run, "iteration": job.iteration}).scalar() is None:
            self.known_task_id(connection, job.run)
            self.insert(connection, rows.job_rows(job, now=self.now()))

    def insert_attempt(
        self,
        connection: Connection,
        task_id: int,
        candidate: Candidate | None,
        evaluation: Evaluation | None,
        reason: str | None,
        *,
        job: Job | None,
    ) -> None:
        now = self.now()
        evaluation_id = None
        if candidate is not None:
            self.insert(connection, rows.candidate_rows(candidate))
        if evaluation is not None:
            if candidate is None or evaluation.candidate != candidate.id:
                raise ValueError(f"evaluation of {evaluation.candidate} for candidate {candidate and candidate.id}")
            evaluation_id = same_evaluation(connection, evaluation, task_id)
            if evaluation_id is None:
                evaluation_id = rows.following(connection, LAST_EVALUATION)
                self.insert(connection, rows.evaluation_rows(evaluation_id, evaluation, task_id=task_id, now=now))
        attempt_id = rows.following(connection, LAST_ATTEMPT)
        attempt = {
            "id": attempt_id,
            "run_id": job and job.run,
            "iteration": job and job.iteration,
            "candidate_id": candidate and candidate.id,
            "evaluation_id": evaluation_id,
            "reason": reason,
            "recorded_at": now,
        }
        self.insert(connection, {t.Attempts: [attempt]})
        if candidate is not None:
            self.insert(connection, rows.origin_rows(attempt_id, candidate))

    def insert(self, connection: Connection, values: rows.Rows) -> None:
        try:
            rows.insert(connection, values)
        except IntegrityError as error:
            parents = {row["parent_id"] for table in values.values() for row in table if "parent_id" in row}
            with reading(self.engine) as other:  # this transaction may not be asked anything any more
                query = select(t.Candidates.id).where(t.Candidates.id.in_(parents))
                missing = parents - set(other.execute(query).scalars())
            if not missing:
                raise
            raise ArchiveError(
                f"archive {describe(self.engine.url)} does not hold the parent {', '.join(sorted(missing))}",
                next_step="record a parent before its children",
            ) from error


LAST_EVALUATION = select(func.max(t.Evaluations.id))
LAST_ATTEMPT = select(func.max(t.Attempts.id))
ASKED = select(t.Jobs.iteration).where(t.Jobs.run_id == bindparam("run"), t.Jobs.iteration == bindparam("iteration"))
TOLD = select(t.Attempts.id).where(
    t.Attempts.run_id == bindparam("run"), t.Attempts.iteration == bindparam("iteration")
)


def told_iterations(connection: Connection, run: str) -> frozenset[int]:
    query = select(t.Attempts.iteration).where(t.Attempts.run_id == run)
    return frozenset(i for i in connection.execute(query).scalars() if i is not None)


def same_evaluation(connection: Connection, evaluation: Evaluation, task_id: int) -> int | None:
    """The number of the stored evaluation with exactly these facts, if it is the newest of its kind."""
    wanted = {"candidate": evaluation.candidate, "device": evaluation.device, "task": task_id}
    newest = connection.execute(NEWEST, wanted).scalar()
    if newest is None or rows.read_evaluation(connection, newest) != evaluation:
        return None
    return int(newest)


NEWEST = select(func.max(t.Evaluations.id)).where(
    t.Evaluations.candidate_id == bindparam("candidate"),
    t.Evaluations.device == bindparam("device"),
    t.Evaluations.task_id == bindparam("task"),
)
KNOWN = (
    select(func.max(t.Evaluations.id))
    .join(t.Tasks)
    .where(
        t.Evaluations.candidate_id == bindparam("candidate"),
        t.Evaluations.device == bindparam("device"),
        t.Tasks.name == bindparam("name"),
        t.Tasks.digest == bindparam("digest"),
    )
)


def known_by(column: InstrumentedAttribute[str | None]) -> Select[int]:
    """The newest evaluation that passed and has a key in `column`. Its own, not one that was shared.

    Found by the index of that column: what is asked of other tables is asked of each row that has the key.
    """
    e = t.Evaluations
    return select(func.max(e.id)).where(
        column == bindparam("key"),
        e.device == bindparam("device"),
        e.shared_from.is_(None),
        exists().where(
            t.Tasks.id == e.task_id, t.Tasks.name == bindparam("name"), t.Tasks.digest == bindparam("digest")
        ),
        exists().where(t.Verdicts.evaluation_id == e.id, t.Verdicts.outcome == "passed"),
    )


KNOWN_SOURCE = known_by(t.Evaluations.source_key)
KNOWN_KERNEL = known_by(t.Evaluations.kernel_key)


def resolve(connection: Connection, column: InstrumentedAttribute[str], wanted: str, *, noun: str, tag: str) -> str:
    """The one id that begins with `wanted`, which may lack its tag. Raises UsageError for none or several."""
    beginning = wanted if wanted.startswith(f"{tag}-") else f"{tag}-{wanted}"
    if not re.fullmatch(rf"{tag}-[0-9a-f]+", beginning):
        raise UsageError(
            f"{wanted!r} is not the id of a {noun}", next_step=f"give {tag}- and hexadecimal digits, or their beginning"
        )
    within = (column >= beginning, column < beginning + "g")
    found = list(connection.execute(select(column).where(*within).order_by(column).limit(5)).scalars())
    if not found:
        raise unknown(wanted, noun=noun)
    if beginning in found:
        return beginning
    if len(found) > 1:
        raise UsageError(
            f"{wanted} is the beginning of several {noun}s: {', '.join(found[:4])}{', ...' if len(found) > 4 else ''}",
            next_step="give more digits",
        )
    return found[0]


def unknown(wanted: str, *, noun: str) -> UsageError:
    return UsageError(f"the archive has no {noun} {wanted}", next_step="`kernelevo archive list` shows what it has")


def read_ancestry(connection: Connection, candidate: str, *, run: str | None) -> Ancestry:
    """Walks the edges of first appearances. They lead to earlier attempts only, so the walk ends."""
    found: dict[str, RowMapping] = {}
    parents: dict[str, list[str]] = {}
    waiting = [candidate]
    while waiting:
        here = waiting.pop()
        if here in found:
            continue
        first = rows.first_attempt(connection, here, run=run)
        found[here] = connection.execute(APPEARANCE, {"attempt": first}).mappings().one()
        edges = connection.execute(rows.PARENTS, {"candidate": here, "attempt": first}).scalars()
        parents[here] = [parent for parent in edges if parent != here]
        waiting += parents[here]
    made: dict[str, Ancestry] = {}
    for here in parents_first(candidate, parents):
        row = found[here]
        made[here] = Ancestry(
            candidate=here,
            parents=tuple(made[parent] for parent in parents[here] if parent in made),
            run=row["run_id"],
            iteration=row["iteration"],
            generation=row["generation"],
            operator=Operator(row["operator"]) if row["operator"] else None,
            model=row["model"],
            rewrites=read_last_rewrites(connection, row["run_id"], row["iteration"]),
            status=row["status"],
            kind=TimingKind(row["kind"]) if row["kind"] else None,
            target=row["target"],
            score_ns=row["score_ns"],
        )
    return made[candidate]


def parents_first(candidate: str, parents: dict[str, list[str]]) -> Iterable[str]:
    """All ancestors in an order in which parents come before their children."""
    done: set[str] = set()
    path: set[str] = set()
    stack = [(candidate, False)]
    while stack:
        here, ready = stack.pop()
        if ready:
            done.add(here)
            yield here
        elif here not in done and here not in path:  # on the path: two candidates that came from each other in a run
            path.add(here)
            stack.append((here, True))
            stack += [(parent, False) for parent in parents[here]]


def read_last_rewrites(connection: Connection, run: str | None, iteration: int | None) -> tuple[Rewrite, ...]:
    """What the job's last reply did to its parents."""
    if run is None or iteration is None:
        return ()
    replies = rows.read_replies(connection, run, iteration)
    return replies[max(replies)].rewrites if replies else ()


APPEARANCE = text(
    """
SELECT a.run_id, a.iteration, j.generation, j.operator, j.model, m.kind, m.target, m.score_ns,
       CASE WHEN a.evaluation_id IS NULL THEN NULL ELSE COALESCE(v.outcome, 'build failed') END AS status
FROM attempts a
LEFT JOIN jobs j ON j.run_id = a.run_id AND j.iteration = a.iteration
LEFT JOIN verdicts v ON v.evaluation_id = a.evaluation_id
LEFT JOIN timings m ON m.evaluation_id = a.evaluation_id
WHERE a.id = :attempt
"""
)


class Boards:
    """Task version, device, target, kind and method of all times; brought up to date by what was recorded since."""

    def __init__(self) -> None:
        self.last = 0  # evaluation up to which all are known: numbers grow in the order of commits
        self.known: set[tuple[int, str, str, str, str]] = set()

    def matching(
        self,
        connection: Connection,
        *,
        task: str | None,
        device: str | None,
        kind: TimingKind | None,
        target: str | None,
        method: str | None,
    ) -> list[dict[str, Any]]:
        """Those that fit, by the task's name and version; with `task` only those of its newest version."""
        last = connection.execute(select(func.max(t.Timings.evaluation_id))).scalar() or 0
        if last > self.last:
            self.known.update(tuple(row) for row in connection.execute(text(NEW_BOARDS), {"last": self.last}))
            self.last = last
        tasks = {row.id: row for row in connection.execute(select(t.Tasks.id, t.Tasks.name, t.Tasks.digest))}
        newest = {row.name: row.id for row in sorted(tasks.values(), key=lambda row: row.id)}
        wanted = {"task": task, "device": device, "target": target, "kind": kind and kind.value, "method": method}
        found = []
        for number, *rest in self.known:
            board = dict(zip(wanted, (tasks[number].name, *rest), strict=True))
            fits = all(value in (None, board[name]) for name, value in wanted.items())
            if fits and (task is None or number == newest[task]):
                found.append({**board, "task_id": number, "task_digest": tasks[number].digest})
        return sorted(found, key=lambda board: [board[name] for name in ("task", "task_id", *list(wanted)[1:])])


NEW_BOARDS = """
SELECT DISTINCT e.task_id, e.device, m.target, m.kind, m.method
FROM timings m JOIN evaluations e ON e.id = m.evaluation_id
WHERE m.evaluation_id > :last
"""


def placings(connection: Connection, group: Mapping[str, Any], *, run: str | None, limit: int) -> list[Placing]:
    """The first places of one group: a walk along the index of scores that stops after `limit`."""
    query = f"""
SELECT e.candidate_id, m.score_ns
FROM timings m
JOIN evaluations e ON e.id = m.evaluation_id
JOIN verdicts v ON v.evaluation_id = e.id
WHERE m.kind = :kind AND m.target = :target AND m.method = :method AND e.task_id = :task_id AND e.device = :device
  AND v.outcome = 'passed'
  AND NOT EXISTS (SELECT 1 FROM evaluations n WHERE n.candidate_id = e.candidate_id AND n.task_id = e.task_id
                  AND n.device = e.device AND n.id > e.id)
  {"AND EXISTS (SELECT 1 FROM attempts a WHERE a.candidate_id = e.candidate_id AND a.run_id = :run)" if run else ""}
ORDER BY m.score_ns, m.evaluation_id LIMIT :limit
"""
    names = ("kind", "target", "method", "task_id", "device")
    values = {name: group[name] for name in names} | {"limit": limit} | ({"run": run} if run else {})
    return [
        Placing(
            place=place,
            task=group["task"],
            task_digest=group["task_digest"],
            device=group["device"],
            target=group["target"],
            kind=TimingKind(group["kind"]),
            method=group["method"],
            candidate=candidate,
            score_ns=score,
        )
        for place, (candidate, score) in enumerate(connection.execute(text(query), values), start=1)
    ]
