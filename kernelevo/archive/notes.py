"""What is written beside the candidates of a run: hints of people, lessons, and what tuning tried.

Takes and gives text; what to write is for kernelevo.memory and kernelevo.tune to say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from sqlalchemy import Engine, func, select

from kernelevo.archive import rows
from kernelevo.archive import tables as t
from kernelevo.archive.answers import Lesson, Tuned
from kernelevo.archive.connection import reading, writing
from kernelevo.records import Job


class Notes:
    """The part of an archive that holds advice. `archive.notes` is it."""

    def __init__(self, engine: Engine, now: Callable[[], str]) -> None:
        self.engine = engine
        self.now = now

    def write_hint(self, run: str, text: str) -> None:
        """Advice for all prompts of a run that come after it."""
        with writing(self.engine) as connection:
            number = rows.following(connection, select(func.max(t.Hints.id)))
            row = {"id": number, "run_id": run, "text": text, "written_at": self.now()}
            rows.insert(connection, {t.Hints: [row]})

    def hints(self, run: str) -> tuple[str, ...]:
        """Advice for a run, oldest first."""
        with reading(self.engine) as connection:
            return tuple(
                connection.execute(select(t.Hints.text).where(t.Hints.run_id == run).order_by(t.Hints.id)).scalars()
            )

    def write_lesson(self, run: str, *, after_iteration: int, text: str) -> None:
        """A summary of a run up to an iteration. One that is there already stays."""
        with writing(self.engine) as connection:
            here = (t.Lessons.run_id == run, t.Lessons.after_iteration == after_iteration)
            if connection.execute(select(t.Lessons.id).where(*here)).scalar() is not None:
                return
            number = rows.following(connection, select(func.max(t.Lessons.id)))
            row = {"id": number, "run_id": run, "after_iteration": after_iteration, "text": text}
            rows.insert(connection, {t.Lessons: [{**row, "written_at": self.now()}]})

    def lessons(self, *, run: str | None = None) -> tuple[Lesson, ...]:
        """The newest lesson of each run, oldest first; with `run`, all of that run."""
        query = (
            select(t.Lessons.run_id, t.Tasks.name, t.Lessons.after_iteration, t.Lessons.text)
            .join(t.Runs, t.Runs.id == t.Lessons.run_id)
            .join(t.Tasks, t.Tasks.id == t.Runs.task_id)
            .order_by(t.Lessons.id)
        )
        newest = select(func.max(t.Lessons.id)).group_by(t.Lessons.run_id)
        query = query.where(t.Lessons.id.in_(newest) if run is None else t.Lessons.run_id == run)
        with reading(self.engine) as connection:
            return tuple(
                Lesson(run=run, task=task, after_iteration=after, text=text)
                for run, task, after, text in connection.execute(query)
            )

    def write_tuning(self, job: Job, tried: Iterable[Tuned]) -> None:
        """What a tune job tried."""
        at = {"run_id": job.run, "iteration": job.iteration}
        values = [
            {
                **at,
                "position": i,
                "configuration": one.configuration,
                "cases": one.cases,
                "score_ns": one.score_ns,
                "reason": one.reason,
            }
            for i, one in enumerate(tried)
        ]
        with writing(self.engine) as connection:
            rows.insert(connection, {t.Tuning: values})

    def tuning(self, run: str, iteration: int) -> tuple[Tuned, ...]:
        """What a tune job tried, in order."""
        query = select(t.Tuning.__table__).where(t.Tuning.run_id == run, t.Tuning.iteration == iteration)
        with reading(self.engine) as connection:
            return tuple(
                Tuned(configuration=row.configuration, cases=row.cases, score_ns=row.score_ns, reason=row.reason)
                for row in connection.execute(query.order_by(t.Tuning.position))
            )
