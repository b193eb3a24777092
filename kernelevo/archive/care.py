"""Care of an archive: whether it is whole, how it gets smaller, how an older one is brought up to date.

    find_flaws(archive)      -> what in it contradicts itself; () for an archive that can be relied on
    vacuum(place)            -> its size in bytes before and after
    upgrade(place)           -> the revision of its schema before and after

What is named by its content (sources, candidates, messages, cases) is hashed again, scores are computed again from the
times that they are the mean of, and SQLite checks its file and that no row names another that does not exist.

Not covered: whether what was recorded is true. `kernelevo evaluate --again` finds that out, one candidate at a time.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from sqlalchemy import Connection, select

from kernelevo.archive import schema
from kernelevo.archive import tables as t
from kernelevo.archive.connection import connect, describe, explain, reading
from kernelevo.archive.rows import case_id
from kernelevo.archive.store import Archive, open_archive
from kernelevo.errors import UsageError
from kernelevo.records import Candidate, Case, Purpose, digest

BUSY_SECONDS = 10.0
ROUNDING = 1e-9  # relative: a geometric mean of the same numbers


@dataclass(frozen=True, slots=True)
class Flaw:
    """One contradiction."""

    table: str  # "" when it is in the file as a whole
    row: str  # its key; "" when it is in the file as a whole
    text: str


def find_flaws(archive: Archive) -> tuple[Flaw, ...]:
    """Everything that contradicts itself. Reads every row once; writes nothing.

    Raises ArchiveError when the file is too damaged to be read.
    """
    with reading(archive.engine) as connection:
        return tuple(flaw for look in LOOKS for flaw in look(connection))


def damage(connection: Connection) -> Iterator[Flaw]:
    """What SQLite finds in its own file. A server of PostgreSQL keeps its references itself."""
    if connection.dialect.name != "sqlite":
        return
    for (text,) in connection.exec_driver_sql("PRAGMA integrity_check"):
        if text != "ok":
            yield Flaw("", "", text)
    for table, row, parent, _ in connection.exec_driver_sql("PRAGMA foreign_key_check"):
        yield Flaw(table, "" if row is None else str(row), f"names a row of {parent} that does not exist")


def changed_sources(connection: Connection) -> Iterator[Flaw]:
    for row in connection.execute(select(t.Sources.id, t.Sources.text)):
        if digest("source", row.text, tag="s") != row.id:
            yield Flaw("sources", row.id, "the text is not the one that the id is the hash of")
    query = select(t.Candidates.id, t.Candidates.entry, t.Sources.text).join(t.Sources)
    for identity, entry, text in connection.execute(query):
        if Candidate(source=text, entry=entry).id != identity:
            yield Flaw("candidates", identity, "entry and source are not those that the id is the hash of")


def changed_messages(connection: Connection) -> Iterator[Flaw]:
    for row in connection.execute(select(t.Messages.id, t.Messages.role, t.Messages.text)):
        if digest("message", row.role, row.text, tag="m") != row.id:
            yield Flaw("messages", row.id, "role and text are not those that the id is the hash of")


def changed_cases(connection: Connection) -> Iterator[Flaw]:
    sizes: dict[str, dict[str, int]] = {}
    for row in connection.execute(select(t.CaseSizes.case_id, t.CaseSizes.name, t.CaseSizes.value)):
        sizes.setdefault(row.case_id, {})[row.name] = row.value
    for row in connection.execute(select(*t.Cases.__table__.columns)):
        case = Case(
            name=row.name,
            sizes=sizes.get(row.id, {}),
            dtype=row.dtype,
            distribution=row.distribution,
            initialisation=row.initialisation,
            seed=row.seed,
            purpose=Purpose(row.purpose),
        )
        if case_id(case) != row.id:
            yield Flaw("cases", row.id, "the case is not the one that the id is the hash of")


def wrong_times(connection: Connection) -> Iterator[Flaw]:
    """Scores that are not the mean of their cases, and times of what did not pass."""
    query = (
        select(t.Timings.evaluation_id, t.Timings.score_ns, t.CaseTimings.median_ns, t.Verdicts.outcome)
        .join(t.CaseTimings, t.CaseTimings.evaluation_id == t.Timings.evaluation_id)
        .outerjoin(t.Verdicts, t.Verdicts.evaluation_id == t.Timings.evaluation_id)
        .order_by(t.Timings.evaluation_id)
    )
    for evaluation, group in groupby(connection.execute(query), key=lambda row: row.evaluation_id):
        rows = list(group)
        mean = math.exp(math.fsum(math.log(row.median_ns) for row in rows) / len(rows))
        if not math.isclose(mean, rows[0].score_ns, rel_tol=ROUNDING):
            yield Flaw("timings", str(evaluation), f"the score is {rows[0].score_ns} ns, its cases' mean {mean} ns")
        if rows[0].outcome != "passed":
            yield Flaw("timings", str(evaluation), f"has a time, and its verdict is {rows[0].outcome or 'missing'}")


LOOKS = (damage, changed_sources, changed_messages, changed_cases, wrong_times)


def vacuum(place: Path | str) -> tuple[int, int]:
    """Gives back what deleted rows and old pages take: bytes before and after.

    Raises ArchiveError when another process has the archive open for writing, or the disk is full: SQLite writes a
    second copy on the way. Raises UsageError for PostgreSQL, whose server does this by itself.
    """
    with open_archive(place) as archive:
        if archive.file is None:
            raise UsageError("a PostgreSQL server vacuums its databases itself", next_step="leave it to the server")
        path = archive.file
        before = path.stat().st_size
        connection = archive.engine.raw_connection()
        try:
            connection.cursor().execute("VACUUM")
        except sqlite3.Error as error:
            raise explain(error, archive.engine) from error
        finally:
            connection.close()
    return before, path.stat().st_size  # closing the archive has folded its log into the file


def upgrade(place: Path | str) -> tuple[str, str]:
    """Brings an older archive up to this version's schema, all or nothing: its revision before and after.

    Raises what open_archive raises; UsageError when there is no archive, which is not made here.
    """
    engine = connect(place, read_only=True, busy_timeout_seconds=BUSY_SECONDS)
    try:
        if engine.dialect.name == "sqlite" and not Path(str(engine.url.database)).exists():
            raise UsageError(f"there is no archive at {engine.url.database}", next_step="name another path")
        with reading(engine) as connection:
            before = schema.revision(connection)
    finally:
        engine.dispose()
    if before is None:
        raise UsageError(f"archive {describe(engine.url)} is empty", next_step="`kernelevo evolve` fills it")
    open_archive(place).close()
    return before, schema.REVISION
