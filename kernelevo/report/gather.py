"""Archive to frozen records: everything that the report of one run shows.

    gather(archive, "r-80706f3de13e")    -> History

Takes an archive, which it only reads, in one transaction for all candidates. Times are of the kind, target and method
of the run's first one (Archive.timed_as): others do not compare, and stand only where their own kind stands beside
them. What is not known is None: a cost, a time and a plan are never made up.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from sqlalchemy import select, text

from kernelevo.archive import Archive, Cost, RunEntry, rows
from kernelevo.archive import tables as t
from kernelevo.archive.answers import ModelCost, StageTotal, Tuned
from kernelevo.archive.connection import reading
from kernelevo.memory import changes_of, plan_of
from kernelevo.records import Candidate, Evaluation, Job, Judged, Operator, Reply, TimingKind

NOT_EVALUATED = "not evaluated"


@dataclass(frozen=True, slots=True, kw_only=True)
class Basis:
    """Of what kind the run's times are. Times of another kind are never put beside them."""

    kind: TimingKind
    target: str
    method: str

    def __str__(self) -> str:
        return f"{self.kind.value.upper()} for {self.target} by {self.method}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One candidate of the run, at the first iteration that proposed it and had it evaluated."""

    candidate: Candidate
    job: Job
    iterations: tuple[int, ...]  # all that proposed it
    evaluation: Evaluation | None
    status: str  # Evaluation.status, or NOT_EVALUATED
    score_ns: float | None  # in the run's Basis; None: it did not pass, or has no time of that kind
    reason: str | None  # why it was not evaluated
    replies: tuple[Reply, ...]  # of its iteration
    changes: tuple[str, ...]  # what was done to its parents, in a few words: rewrites, or the plan
    plan: str  # of a model; "" without one

    @property
    def id(self) -> str:
        return self.candidate.id


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One iteration that was told, in the order in which that happened."""

    iteration: int
    generation: int
    operator: Operator
    model: str
    parents: tuple[str, ...]  # candidate ids
    candidate: str | None  # None: the replies held none
    stage: str  # that it ended in: one of records.STAGES, "propose", "evaluate" or "done"
    outcome: str  # "passed", Evaluation.status, "no candidate", "not evaluated" or "no time"
    reason: str | None
    score_ns: float | None  # in the run's Basis
    cost_usd: float | None  # of all its requests, judges' too; None: not known. Without requests it is 0
    requests: int
    waited_seconds: float  # for models, as far as it is known
    evaluation_seconds: float  # of the stages of its evaluation; 0 where an earlier iteration shares it

    @property
    def evaluated(self) -> bool:
        return self.candidate is not None and self.outcome != NOT_EVALUATED


@dataclass(frozen=True, kw_only=True)
class History:
    """A run, whole."""

    entry: RunEntry
    title: str  # of the task
    basis: Basis | None  # None: nothing has a time
    nodes: Mapping[str, Node]  # by candidate id, in the order of their iterations
    steps: tuple[Step, ...]
    untold: int  # iterations that were asked for, and of which nothing is told
    cost: Cost
    models: tuple[ModelCost, ...]
    stages: tuple[StageTotal, ...]
    judged: tuple[Judged, ...]
    tuned: Mapping[int, tuple[Tuned, ...]]  # by iteration
    hints: tuple[str, ...]
    limits: Mapping[str, float]  # by the names of kernelevo.budget.Budget

    @cached_property
    def seed(self) -> Node | None:
        """The task's own kernel."""
        return next((n for n in self.nodes.values() if n.job.operator is Operator.SEED), None)

    @cached_property
    def best(self) -> Node | None:
        """The fastest; of two that are equally fast the shorter source, then the older."""
        timed = [n for n in self.nodes.values() if n.score_ns is not None]
        return min(timed, key=lambda n: (n.score_ns, len(n.candidate.source), n.job.iteration), default=None)

    @cached_property
    def timed(self) -> tuple[Node, ...]:
        """Those with a time, fastest first."""
        return tuple(
            sorted((n for n in self.nodes.values() if n.score_ns), key=lambda n: (n.score_ns, n.job.iteration))
        )

    @cached_property
    def compilers(self) -> tuple[str, ...]:
        found = dict.fromkeys(n.evaluation.build.compiler for n in self.nodes.values() if n.evaluation)
        return tuple(compiler for compiler in found if compiler)

    def over_seed(self, node: Node) -> float | None:
        """How many times as fast as the task's own kernel; None where one of the two has no time."""
        if self.seed is None or self.seed.score_ns is None or node.score_ns is None:
            return None
        return self.seed.score_ns / node.score_ns


def gather(archive: Archive, run: str) -> History:
    """Reads a run (its id, or a unique beginning). Raises UsageError for none or several."""
    found = archive.get_run(run)
    entry = next(e for e in archive.list_runs(task=found.task) if e.run.id == found.id)
    basis = archive.timed_as(found.id)
    jobs = archive.jobs(found.id)
    nodes, told = read_nodes(archive, found.id, jobs, basis)
    tunings = [job.iteration for job in jobs if job.operator is Operator.TUNE]
    return History(
        entry=entry,
        title=read_title(archive, found.task, found.task_digest),
        basis=Basis(kind=TimingKind(basis[0]), target=basis[1], method=basis[2]) if basis else None,
        nodes=nodes,
        steps=read_steps(archive, found.id),
        untold=len(jobs) - told,
        cost=archive.ledger.cost(found.id),
        models=tuple(archive.ledger.by_model(found.id)),
        stages=tuple(archive.stage_totals(found.id)),
        judged=archive.ledger.judged(None, None, run=found.id),
        tuned={n: archive.notes.tuning(found.id, n) for n in tunings},
        hints=archive.notes.hints(found.id),
        limits=archive.ledger.limits(found.id),
    )


def read_nodes(
    archive: Archive, run: str, decided: Sequence[Job], basis: tuple[str, str, str] | None
) -> tuple[dict[str, Node], int]:
    """The candidates, and how many iterations are told."""
    a = t.Attempts
    query = select(a.iteration, a.candidate_id, a.evaluation_id, a.reason).where(a.run_id == run).order_by(a.iteration)
    jobs = {job.iteration: job for job in decided}
    with reading(archive.engine) as connection:
        attempts = connection.execute(query).all()
        proposals = defaultdict(list)
        for attempt in attempts:
            if attempt.candidate_id is not None:
                proposals[attempt.candidate_id].append(attempt)
        nodes: dict[str, Node] = {}
        for identity, proposed in proposals.items():
            first = next((p for p in proposed if p.evaluation_id is not None), proposed[0])
            candidate = rows.read_candidate(connection, identity, run=run)
            assert candidate is not None
            evaluation = rows.read_evaluation(connection, first.evaluation_id) if first.evaluation_id else None
            timing = evaluation.timing if evaluation else None
            compares = timing is not None and (timing.kind.value, timing.target, timing.method) == basis
            job = jobs[first.iteration]
            replies = tuple(rows.read_replies(connection, run, first.iteration).values())
            before = nodes[job.parents[0]].candidate.rewrites if job.parents and job.parents[0] in nodes else ()
            tuned = tuple(str(r) for r in candidate.rewrites[len(before) :]) if job.operator is Operator.TUNE else ()
            nodes[identity] = Node(
                candidate=candidate,
                job=job,
                iterations=tuple(p.iteration for p in proposed),
                evaluation=evaluation,
                status=evaluation.status if evaluation else NOT_EVALUATED,
                score_ns=timing.score_ns if timing is not None and compares else None,
                reason=first.reason,
                replies=replies,
                changes=tuned or tuple(c for c in changes_of(replies, job.operator) if c != job.operator.value),
                plan=plan_of(replies[-1].text) if replies and not replies[-1].rewrites else "",
            )
    return dict(sorted(nodes.items(), key=lambda item: item[1].job.iteration)), len(attempts)


def read_steps(archive: Archive, run: str) -> tuple[Step, ...]:
    """What was told, in the order of telling. run: its whole id."""
    jobs = {job.iteration: job for job in archive.jobs(run)}
    basis = archive.timed_as(run)
    spending = archive.ledger.spending(run)
    with reading(archive.engine) as connection:
        told = connection.execute(text(TOLD), {"run": run}).all()
        requests = {row.iteration: row for row in connection.execute(text(REQUESTS), {"run": run})}
    steps = []
    seen: set[int] = set()
    for row in told:
        job = jobs[row.iteration]
        asked = requests.get(row.iteration)
        shares = row.evaluation_id in seen
        seen.update([row.evaluation_id] if row.evaluation_id is not None else [])
        steps.append(
            Step(
                iteration=row.iteration,
                generation=job.generation,
                operator=job.operator,
                model=job.model,
                parents=job.parents,
                candidate=row.candidate,
                stage=row.stage,
                outcome=row.outcome,
                reason=row.reason,
                score_ns=row.score_ns if (row.kind, row.target, row.method) == basis else None,
                cost_usd=spending.get(row.iteration, 0.0),
                requests=asked.requests if asked else 0,
                waited_seconds=float(asked.seconds or 0.0) if asked else 0.0,
                evaluation_seconds=0.0 if shares else float(row.evaluation_seconds or 0.0),
            )
        )
    return tuple(steps)


def read_title(archive: Archive, task: str, digest: str) -> str:
    query = select(t.Tasks.title).where(t.Tasks.name == task, t.Tasks.digest == digest)
    with reading(archive.engine) as connection:
        return connection.execute(query).scalar_one()


TOLD = """
SELECT h.*, a.evaluation_id FROM history h JOIN attempts a ON a.id = h.attempt_id
WHERE h.run = :run ORDER BY h.attempt_id
"""

REQUESTS = """
SELECT iteration, COUNT(*) AS requests, SUM(seconds) AS seconds FROM ledger WHERE run = :run GROUP BY iteration
"""
