"""Leases: which job is whose among agents that work from outside, and until when.

A lease is a row that is never changed: of several of one job, the newest counts. A job that was not told when its
lease ended may be handed to another.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from sqlalchemy import Engine, func, select, text

from kernelevo.archive import rows
from kernelevo.archive import tables as t
from kernelevo.archive.answers import Lease
from kernelevo.archive.connection import reading, writing
from kernelevo.archive.times import written
from kernelevo.records import Job


class Leases:
    """The part of an archive that knows who works on what. `archive.leases` is it."""

    def __init__(self, engine: Engine, clock: Callable[[], datetime]) -> None:
        self.engine = engine
        self.clock = clock

    def take(self, job: Job, *, holder: str, seconds: float) -> Lease | None:
        """Hands a job out, or None when somebody else has it or it was told meanwhile."""
        now = self.clock()
        with writing(self.engine) as connection:
            at = {"run": job.run, "iteration": job.iteration, "now": written(now)}
            if connection.execute(text(TAKEN), at).scalar() is not None:
                return None
            number = rows.following(connection, select(func.max(t.Leases.id)))
            until = written(now + timedelta(seconds=seconds))
            row = {
                "id": number,
                "run_id": job.run,
                "iteration": job.iteration,
                "holder": holder,
                "leased_at": written(now),
                "leased_until": until,
            }
            rows.insert(connection, {t.Leases: [row]})
        return Lease(
            run=job.run,
            iteration=job.iteration,
            holder=holder,
            leased_at=written(now),
            leased_until=until,
            expired=False,
        )

    def newest(self, run: str, iteration: int) -> Lease | None:
        """Who has, or had, a job; None: it was never handed out."""
        query = select(t.Leases.__table__).where(t.Leases.run_id == run, t.Leases.iteration == iteration)
        with reading(self.engine) as connection:
            row = connection.execute(query.order_by(t.Leases.id.desc()).limit(1)).one_or_none()
        if row is None:
            return None
        return Lease(
            run=run,
            iteration=iteration,
            holder=row.holder,
            leased_at=row.leased_at,
            leased_until=row.leased_until,
            expired=row.leased_until <= written(self.clock()),
        )

    def free(self, run: str) -> list[int]:
        """Iterations of a run that were asked for, not told, and are nobody's now."""
        with reading(self.engine) as connection:
            found = connection.execute(text(FREE), {"run": run, "now": written(self.clock())})
            return list(found.scalars())


TAKEN = """
SELECT 1 FROM leases l
WHERE l.run_id = :run AND l.iteration = :iteration AND l.leased_until > :now
UNION ALL
SELECT 1 FROM attempts a WHERE a.run_id = :run AND a.iteration = :iteration
"""

FREE = """
SELECT j.iteration FROM jobs j
WHERE j.run_id = :run
  AND NOT EXISTS (SELECT 1 FROM attempts a WHERE a.run_id = j.run_id AND a.iteration = j.iteration)
  AND NOT EXISTS (SELECT 1 FROM leases l WHERE l.run_id = j.run_id AND l.iteration = j.iteration
                  AND l.leased_until > :now)
ORDER BY j.iteration
"""
