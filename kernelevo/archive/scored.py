"""The scored candidates of one run, kept in memory and brought up to date by what was recorded since.

Takes a connection, gives a list for selection. Attempt numbers grow in the order of commits, whoever wrote them, so
one indexed query for numbers above the last one finds everything new. Generations do not decrease from one iteration
to the next, so that what earlier generations showed is the beginning of a list: the cost of an iteration does not
depend on the size of the run, but for copies of lists.

A candidate stands at the first iteration of the run that proposed it and was evaluated. Its score is of the kind,
target and method of the run's first time; a time of another is left out, because the two do not compare.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, bindparam, exists, func, select

from kernelevo.archive import tables as t
from kernelevo.records import Behaviour, Operator, Scored, Trial

# What was recorded in a run after an attempt.
NEWS = (
    select(
        t.Attempts.id,
        t.Attempts.iteration,
        t.Attempts.candidate_id,
        t.Attempts.evaluation_id,
        t.Jobs.generation,
        t.Jobs.operator,
        t.Jobs.model,
        t.Jobs.island,
        t.Evaluations.limited_by,
        t.Evaluations.technique,
        func.coalesce(t.Verdicts.outcome, "build failed").label("status"),
        t.Timings.kind,
        t.Timings.target,
        t.Timings.method,
        t.Timings.score_ns,
        select(func.length(t.Sources.text))
        .join(t.Candidates, t.Candidates.source_id == t.Sources.id)
        .where(t.Candidates.id == t.Attempts.candidate_id)
        .scalar_subquery()
        .label("length"),
        exists().where(t.Tunables.candidate_id == t.Attempts.candidate_id).label("tunables"),
        select(func.sum(t.Replies.cost_usd))
        .where(t.Replies.run_id == t.Attempts.run_id, t.Replies.iteration == t.Attempts.iteration)
        .scalar_subquery()
        .label("cost_usd"),
    )
    .join(t.Jobs, (t.Jobs.run_id == t.Attempts.run_id) & (t.Jobs.iteration == t.Attempts.iteration))
    .outerjoin(t.Evaluations, t.Evaluations.id == t.Attempts.evaluation_id)
    .outerjoin(t.Verdicts, t.Verdicts.evaluation_id == t.Attempts.evaluation_id)
    .outerjoin(t.Timings, t.Timings.evaluation_id == t.Attempts.evaluation_id)
    .where(t.Attempts.run_id == bindparam("run"), t.Attempts.id > bindparam("last"))
    .order_by(t.Attempts.id)
)
NEW_CHILDREN = (
    select(t.JobParents.parent_id, t.Jobs.generation, t.Jobs.iteration)
    .join(t.Attempts, (t.Attempts.run_id == t.JobParents.run_id) & (t.Attempts.iteration == t.JobParents.iteration))
    .join(t.Jobs, (t.Jobs.run_id == t.Attempts.run_id) & (t.Jobs.iteration == t.Attempts.iteration))
    .where(t.Attempts.run_id == bindparam("run"), t.Attempts.id > bindparam("last"))
    .order_by(t.Attempts.id, t.JobParents.position)
)


# Jobs of a run that nothing is told of yet, from an iteration on, one row per parent.
PENDING = (
    select(t.Jobs.iteration, t.Jobs.generation, t.Jobs.operator, t.Jobs.model, t.JobParents.parent_id)
    .outerjoin(t.JobParents, (t.JobParents.run_id == t.Jobs.run_id) & (t.JobParents.iteration == t.Jobs.iteration))
    .where(
        t.Jobs.run_id == bindparam("run"),
        t.Jobs.iteration >= bindparam("first"),
        t.Jobs.iteration < bindparam("before"),
        ~exists().where(t.Attempts.run_id == t.Jobs.run_id, t.Attempts.iteration == t.Jobs.iteration),
    )
    .order_by(t.Jobs.iteration, t.JobParents.position)
)
FIRST = select(func.min(t.Jobs.iteration)).where(t.Jobs.run_id == bindparam("run"))


class ScoredView:
    """The scored candidates of one run."""

    def __init__(self, run: str) -> None:
        self.run = run
        self.last = 0  # attempt up to which everything is known
        self.basis: tuple[str, str, str] | None = None  # kind, target and method of the run's scores
        self.iterations: list[int] = []  # of `entries`, ascending
        self.entries: list[Scored] = []
        self.iteration_of: dict[str, int] = {}
        self.children: Counter[str] = Counter()
        self.children_in: dict[int, Counter[str]] = {}  # by generation
        self.told: dict[int, Trial] = {}  # by iteration
        self.last_told = -1  # the largest iteration of them
        self.settled: list[Trial] = []  # of all iterations before `untold`, in order
        self.untold = 0  # the first iteration that is not told

    def refresh(self, connection: Connection) -> None:
        """Adds what was recorded since the last call."""
        since = {"run": self.run, "last": self.last}
        news = connection.execute(NEWS, since).all()
        if not news:
            return
        edges = connection.execute(NEW_CHILDREN, since).all()  # nothing below can fail half-way
        parents: dict[int, list[str]] = {}
        for parent, _, iteration in edges:
            parents.setdefault(iteration, []).append(parent)
        self.add_children(edges)
        for row in news:
            self.last = row.id
            score_ns = row.score_ns if self.basis in (None, (row.kind, row.target, row.method)) else None
            self.told[row.iteration] = Trial(
                iteration=row.iteration,
                generation=row.generation,
                operator=Operator(row.operator),
                model=row.model,
                parents=tuple(parents.get(row.iteration, ())),
                told=True,
                candidate=row.candidate_id,
                score_ns=score_ns,
                cost_usd=row.cost_usd,
            )
            self.last_told = max(self.last_told, row.iteration)
            if row.evaluation_id is not None:
                self.add(row)

    def add_children(self, edges: Iterable[Any]) -> None:
        for parent, generation, _ in edges:
            self.children[parent] += 1
            self.children_in.setdefault(generation, Counter())[parent] += 1
            if parent in self.iteration_of:
                position = bisect_left(self.iterations, self.iteration_of[parent])
                self.entries[position] = replace(self.entries[position], children=self.children[parent])

    def add(self, row: Any) -> None:
        known = self.iteration_of.get(row.candidate_id)
        if known is not None:
            if known < row.iteration:
                return
            position = bisect_left(self.iterations, known)
            del self.iterations[position], self.entries[position]
        if row.score_ns is not None and self.basis is None:
            self.basis = (row.kind, row.target, row.method)
        self.iteration_of[row.candidate_id] = row.iteration
        entry = Scored(
            candidate=row.candidate_id,
            iteration=row.iteration,
            generation=row.generation,
            island=row.island,
            status=row.status,
            score_ns=row.score_ns if (row.kind, row.target, row.method) == self.basis else None,
            children=self.children[row.candidate_id],
            behaviour=Behaviour(limited_by=row.limited_by, technique=row.technique) if row.technique else None,
            tunables=bool(row.tunables),
            source_bytes=row.length,
        )
        self.entries.insert(bisect_left(self.iterations, row.iteration), entry)
        insort(self.iterations, row.iteration)

    def before(self, generation: int) -> list[Scored]:
        """What the generations before this one showed: their candidates, and the children they were given."""
        end = bisect_left(self.entries, generation, key=lambda s: s.generation)
        entries = self.entries[:end]
        later: Counter[str] = Counter()
        for g, children in self.children_in.items():
            if g >= generation:
                later.update(children)
        for candidate, added in later.items():
            if candidate in self.iteration_of:
                position = bisect_left(self.iterations, self.iteration_of[candidate])
                if position < end:
                    entries[position] = replace(entries[position], children=entries[position].children - added)
        return entries

    def trials(self, connection: Connection, *, before_iteration: int, before_generation: int) -> list[Trial]:
        """The decisions before an iteration; what came of them only where their generation is early enough."""
        self.settle(connection)
        end = bisect_left(self.settled, before_iteration, key=lambda trial: trial.iteration)
        seen = bisect_left(self.settled, before_generation, hi=end, key=lambda trial: trial.generation)
        found = {trial.iteration: trial for trial in self.settled[seen:end]}
        for iteration in range(self.untold, min(before_iteration, self.last_told + 1)):
            if iteration in self.told:
                found[iteration] = self.told[iteration]
        since = {"run": self.run, "first": self.untold, "before": before_iteration}
        for row in connection.execute(PENDING, since):
            earlier = found[row.iteration].parents if row.iteration in found else ()
            found[row.iteration] = Trial(
                iteration=row.iteration,
                generation=row.generation,
                operator=Operator(row.operator),
                model=row.model,
                parents=(*earlier, row.parent_id) if row.parent_id else (),
                told=False,
                candidate=None,
                score_ns=None,
                cost_usd=None,
            )
        return self.settled[:seen] + [
            trial
            if trial.generation < before_generation
            else replace(trial, told=False, candidate=None, score_ns=None, cost_usd=None)
            for _, trial in sorted(found.items())
        ]

    def settle(self, connection: Connection) -> None:
        """Moves on to the first iteration that is not told. A task without a kernel of its own has no iteration 0."""
        first = connection.execute(FIRST, {"run": self.run}).scalar() or 0
        if not self.settled or first < self.settled[0].iteration:
            self.settled, self.untold = [], first
        while self.untold in self.told:
            self.settled.append(self.told[self.untold])
            self.untold += 1
