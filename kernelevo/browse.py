"""An archive in a web browser: Datasette with our queries, facets and links between rows. It only reads.

    serve(Path("db/kernelevo.sqlite"), host="127.0.0.1", port=8001, tell=print)

Ids of candidates and runs link to what is known of them, CUDA is coloured, and `diff(old, new)` in SQL says what
changed. Anybody who can reach the port can read the archive, so that another host than this one asks for a token.

Not covered: archives on PostgreSQL, for which there are browsers of their own.
"""

from __future__ import annotations

import difflib
import os
import sqlite3
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from datasette import hookimpl
from datasette.app import Datasette
from datasette.plugins import pm
from markupsafe import Markup
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import CudaLexer, DiffLexer

from kernelevo.archive import open_archive
from kernelevo.archive.queries import QUERIES
from kernelevo.archive.views import VIEWS
from kernelevo.errors import UsageError

LOOPBACK = ("127.0.0.1", "localhost", "::1")
QUERY_MILLISECONDS = 10_000
# Columns whose values are ids -> the query that says what is known of them.
LINKS = {
    **dict.fromkeys(("candidate", "candidate_id", "parent", "parent_id", "second_parent", "ancestor"), "candidate"),
    **dict.fromkeys(("run", "run_id", "replay_of"), "run"),
}
FACETS = {
    "history": ["task", "operator", "model", "stage", "outcome", "run"],
    "leaderboard": ["task", "device", "target", "kind", "method"],
    "results": ["task", "device", "status", "promoted"],
    "ledger": ["run", "model", "outcome", "purpose"],
}
# Beside those that any SQLite browser can run.
OWN_QUERIES = {
    "candidate": (
        "One candidate: its evaluations, and where it came from",
        "SELECT h.*, :candidate AS source, h.parent AS changes FROM history h WHERE h.candidate = :candidate",
    ),
    "source": (
        "The CUDA source of a candidate",
        "SELECT s.text AS source FROM candidates c JOIN sources s ON s.id = c.source_id WHERE c.id = :candidate",
    ),
    "changes": (
        "What changed from one candidate to another",
        "SELECT diff(a.text, b.text) AS changes FROM candidates x JOIN sources a ON a.id = x.source_id,"
        " candidates y JOIN sources b ON b.id = y.source_id WHERE x.id = :from_candidate AND y.id = :to_candidate",
    ),
}


def serve(archive: Path, *, host: str, port: int, tell: Callable[[str], None]) -> None:
    """Serves until it is interrupted; `tell` is given the address.

    Raises ArchiveError for what is no archive of this version, UsageError for a port that cannot be used.
    """
    import uvicorn

    open_archive(archive, read_only=True).close()
    private = host not in LOOPBACK
    served = site(archive, private=private)
    way = f"/-/auth-token?token={served._root_token}" if private else f"/{archive.stem}"
    tell(f"http://{host}:{port}{way}")
    try:
        uvicorn.run(served.app(), host=host, port=port, log_level="warning", lifespan="on", workers=1)
    except SystemExit as error:
        raise UsageError(f"port {port} of {host} cannot be used", next_step="name another by --port") from error
    finally:
        for database in served.databases.values():
            database.close()
        tidy(archive)


def tidy(archive: Path) -> None:
    """Removes what SQLite keeps beside the file for its readers, and a reader cannot remove, if nobody else uses it."""
    log = archive.with_name(archive.name + "-wal")
    if not log.exists() or log.stat().st_size > 0 or not os.access(archive.absolute().parent, os.W_OK):
        return
    with suppress(sqlite3.Error):
        connection = sqlite3.connect(archive)
        try:
            connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()
        finally:
            connection.close()


def site(archive: Path, *, private: bool) -> Datasette:
    """The application. private: nothing is shown without the token that `serve` prints."""
    if not pm.is_registered(sys.modules[__name__]):
        pm.register(sys.modules[__name__])
    fixed = not os.access(archive.absolute().parent, os.W_OK)  # SQLite keeps its readers' locks beside the file
    return Datasette(
        [] if fixed else [str(archive)],
        immutables=[str(archive)] if fixed else [],
        settings={"sql_time_limit_ms": QUERY_MILLISECONDS, "default_page_size": 50, "allow_facet": True},
        metadata={
            "title": "kernelevo",
            "description": f"Everything that was tried: {archive.name}",
            **({"allow": {"id": "root"}} if private else {}),
            "databases": {
                archive.stem: {
                    "queries": {
                        name: {"title": title, "sql": query.strip()}
                        for name, (title, query) in {**OWN_QUERIES, **QUERIES}.items()
                    },
                    "tables": {
                        name: {"description": meaning, **({"facets": FACETS[name]} if name in FACETS else {})}
                        for name, (meaning, _) in VIEWS.items()
                    },
                }
            },
        },
    )


@hookimpl  # type: ignore[untyped-decorator]
def prepare_connection(conn: sqlite3.Connection) -> None:
    conn.create_function("diff", 2, diff, deterministic=True)


@hookimpl  # type: ignore[untyped-decorator]
def render_cell(row: Any, value: Any, column: str, table: str | None, database: str) -> Markup | None:
    """A cell as HTML; None: as Datasette shows it."""
    if not isinstance(value, str) or not value:
        return None
    base = f"/{database}"
    if table == "sources" and column == "text":
        return coloured(value, CudaLexer())
    if table is None and column == "source":
        is_id = value.startswith("c-")
        return link(f"{base}/source?candidate={value}", "source") if is_id else coloured(value, CudaLexer())
    if table is None and column == "changes":
        if not value.startswith("c-"):
            return coloured(value, DiffLexer())
        return link(f"{base}/changes?from_candidate={value}&to_candidate={row['candidate']}", "changes")
    if column in LINKS:
        return link(f"{base}/{LINKS[column]}?{LINKS[column]}={value}", value)
    return None


def link(address: str, text: str) -> Markup:
    return Markup('<a href="{}">{}</a>').format(address, text)


def coloured(text: str, lexer: Any) -> Markup:
    """Source as HTML with its colours written out, so that it needs no style sheet."""
    return Markup(highlight(text, lexer, HtmlFormatter(noclasses=True, nobackground=True, style="default")))


def diff(old: str | None, new: str | None) -> str:
    return "\n".join(
        difflib.unified_diff((old or "").splitlines(), (new or "").splitlines(), "before", "after", lineterm="")
    )
