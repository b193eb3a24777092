"""An archive in a web browser: Datasette with our queries, facets and links between rows. It only reads.

    serve(Path("db/kernelevo.sqlite"), host="127.0.0.1", port=8001, tell=print)

Ids of candidates and runs link to what is known of them, CUDA is coloured, and `diff(old, new)` in SQL says what
changed. Anybody who can reach the port can read the archive, so that another host than this one asks for a token.

Not covered: archives on PostgreSQL, for which there are browsers of their own.
"""

from __future__ import annotations

import difflib
import os
import signal
import sqlite3
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from datasette import hookimpl
from datasette.app import Datasette
from datasette.plugins import pm
from datasette.utils.asgi import Response
from jinja2 import ChoiceLoader, DictLoader, Environment
from markupsafe import Markup
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import CudaLexer, DiffLexer

from kernelevo.archive import open_archive
from kernelevo.archive.queries import QUERIES
from kernelevo.archive.tables import Base
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
        """
SELECT h.candidate, h.task, h.device, h.outcome, h.stage, h.score_ns / 1000 AS score_us, h.kind, h.target, h.method,
       h.candidate AS source, h.parent AS changes, h.candidate AS lineage, h.operator, h.model, h.parent,
       h.second_parent, h.run, h.iteration, h.reason, h.recorded_at
FROM history h WHERE h.candidate = :candidate
""",
    ),
    "source": (
        "The CUDA source of a candidate",
        "SELECT s.text AS source FROM candidates c JOIN sources s ON s.id = c.source_id WHERE c.id = :candidate",
    ),
    "changes": (
        "What changed from one candidate to another",
        """
SELECT diff(a.text, b.text) AS changes
FROM candidates x JOIN sources a ON a.id = x.source_id, candidates y JOIN sources b ON b.id = y.source_id
WHERE x.id = :from_candidate AND y.id = :to_candidate
""",
    ),
}
# What the page of an archive begins with: addresses below it, and what is there.
START = {
    "top_ten": "Leaderboard: the ten fastest of each task",
    "best": "Best of each task, with its source",
    "history?_sort_desc=attempt_id&_nocol=generation&_nocol=island&_nocol=second_parent&_nocol=device": (
        "History: every attempt, newest first"
    ),
    "failures": "Failures by stage",
    "costs": "Cost by model",
    "operators": "Which operators make things faster",
    "runs?_sort_desc=started_at": "Runs",
}
HIDDEN = ("alembic_version",)

DATABASE_PAGE = """
{% extends "default:database.html" %}
{% block content %}
<h1>{{ metadata.title or database }}{% if private %} 🔒{% endif %}</h1>
{% block description_source_license %}{{ super() }}{% endblock %}
<h2>Start here</h2>
<ul class="bullets start">
{% for address, title in start.items() %}<li><a href="{{ urls.database(database) }}/{{ address }}">{{ title }}</a></li>
{% endfor %}
</ul>
<h2 id="queries">Questions</h2>
<ul class="bullets">
{% for query in queries %}{% if query.name not in start %}
<li><a href="{{ urls.query(database, query.name) }}">{{ query.title or query.name }}</a></li>
{% endif %}{% endfor %}
</ul>
<h2 id="views">Views</h2>
<ul class="bullets">
{% for view in views %}
<li><a href="{{ urls.table(database, view.name) }}">{{ view.name }}</a>: {{ meanings[view.name] }}</li>
{% endfor %}
</ul>
<details id="tables"><summary>All {{ tables|rejectattr("hidden")|list|length }} tables</summary>
<ul class="bullets">
{% for table in tables if not table.hidden %}
<li><a href="{{ urls.table(database, table.name) }}">{{ table.name }}</a>
({{ "many" if table.count is none else "{:,}".format(table.count) }}): {{ meanings[table.name] }}</li>
{% endfor %}
</ul>
</details>
{% if allow_execute_sql %}
<form class="sql" action="{{ urls.database(database) }}" method="get">
    <h2>Your own query</h2>
    <p><textarea id="sql-editor" name="sql">SELECT * FROM leaderboard WHERE place = 1</textarea></p>
    <p><button id="sql-format" type="button" hidden>Format SQL</button> <input type="submit" value="Run SQL"></p>
</form>
{% include "_codemirror_foot.html" %}
{% endif %}
{% if allow_download %}
<p class="download-sqlite">All of it as one file: <a href="{{ urls.database(database) }}.db">{{ database }}.db</a>
<em>{{ format_bytes(size) }}</em></p>
{% endif %}
{% endblock %}
"""

STYLE = """
.page-header, h1 { border-color: #276890 !important; }
td { vertical-align: top; }
td[class^="col-"] > a { white-space: nowrap; }
td .number { display: block; text-align: right; font-variant-numeric: tabular-nums; }
td pre { margin: 0; max-height: 16em; overflow: auto; line-height: 1.35; }
.query-source td pre, .query-changes td pre, .row td pre { max-height: none; }
td.col-text, td.col-reason, td.col-description { max-width: 60ch; overflow-wrap: anywhere; }
td.col-text { white-space: pre-wrap; }
td.col-line { font-family: monospace; white-space: pre-wrap; }
pre#sql-query { white-space: pre-wrap; overflow-wrap: anywhere; }
ul.start li { font-size: 1.15em; }
@media (max-width: 576px) {
    .rows-and-columns td { overflow-x: auto; overflow-wrap: anywhere; }
    td .number { text-align: left; }
    .facet-info ul { max-height: 7.5em; overflow-y: auto; }
    form.sql label { width: auto; display: block; }
    form.sql input[type=text] { width: 100%; box-sizing: border-box; }
}
"""


MEANINGS = {
    **{name: meaning for name, (meaning, _) in VIEWS.items()},
    **{table.__tablename__: (table.__doc__ or "").strip() for table in Base.__subclasses__()},
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
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # uvicorn raises it again when it has ended
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
                        name: {"title": title, "sql": query.strip(), "hide_sql": True}
                        for name, (title, query) in {**OWN_QUERIES, **QUERIES}.items()
                    },
                    "tables": {
                        **{name: {"hidden": True} for name in HIDDEN},
                        **{
                            name: {"description": meaning, **({"facets": FACETS[name]} if name in FACETS else {})}
                            for name, meaning in MEANINGS.items()
                        },
                    },
                }
            },
        },
    )


@hookimpl  # type: ignore[untyped-decorator]
def prepare_connection(conn: sqlite3.Connection) -> None:
    conn.create_function("diff", 2, diff, deterministic=True)


@hookimpl  # type: ignore[untyped-decorator]
def prepare_jinja2_environment(env: Environment) -> None:
    env.globals |= {"start": START, "meanings": MEANINGS}
    assert env.loader is not None
    env.loader = ChoiceLoader([DictLoader({"database.html": DATABASE_PAGE}), env.loader])


@hookimpl  # type: ignore[untyped-decorator]
def register_routes() -> list[tuple[str, Callable[[], Response]]]:
    return [(r"^/-/kernelevo\.css$", lambda: Response(STYLE, content_type="text/css; charset=utf-8"))]


@hookimpl  # type: ignore[untyped-decorator]
def extra_css_urls() -> list[str]:
    return ["/-/kernelevo.css"]


@hookimpl  # type: ignore[untyped-decorator]
def render_cell(row: Any, value: Any, column: str, table: str | None, database: str) -> Markup | None:
    """A cell as HTML; None: as Datasette shows it."""
    if isinstance(value, float):
        return number(value)
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
    if table is None and column == "lineage":
        return link(f"{base}/ancestors?candidate={value}", "lineage")
    if column in LINKS:
        return link(f"{base}/{LINKS[column]}?{LINKS[column]}={value}", value)
    return None


def number(value: float) -> Markup:
    """To be compared at a glance; all its digits are in its title, and in JSON and CSV."""
    shown = f"{value:,.0f}" if 1000 <= abs(value) < 1e15 else f"{value:.4g}"
    return Markup('<span class="number" title="{}">{}</span>').format(value, shown)


def link(address: str, text: str) -> Markup:
    return Markup('<a href="{}">{}</a>').format(address, text)


def coloured(text: str, lexer: Any) -> Markup:
    """Source as HTML with its colours written out, so that it needs no style sheet."""
    return Markup(highlight(text, lexer, HtmlFormatter(noclasses=True, nobackground=True, style="default")))


def diff(old: str | None, new: str | None) -> str:
    return "\n".join(
        difflib.unified_diff((old or "").splitlines(), (new or "").splitlines(), "before", "after", lineterm="")
    )
