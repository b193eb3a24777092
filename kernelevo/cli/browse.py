"""`kernelevo browse`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kernelevo.cli.archive import ArchiveOption
from kernelevo.config import read_settings
from kernelevo.errors import UsageError


def register(app: typer.Typer) -> None:
    app.command()(browse)


def browse(
    archive: ArchiveOption = None,
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8001,
    host: Annotated[str, typer.Option(help="address to listen on; any but this machine's own asks for a token")] = (
        "127.0.0.1"
    ),
) -> None:
    """Opens the archive to a web browser, by Datasette: leaderboard, lineage, failures, costs, sources, changes."""
    place = read_settings(archive=archive).archive
    if "://" in place:
        raise UsageError(f"archive {place} is not a file", next_step="use a browser for PostgreSQL, or name a file")
    try:
        from kernelevo.browse import serve
    except ModuleNotFoundError as error:
        raise UsageError(
            f"the browser needs the Python package {error.name}", next_step="pip install 'kernelevo[browse]'"
        ) from error
    serve(Path(place), host=host, port=port, tell=lambda address: typer.echo(f"{address}\nCtrl-C ends it", err=True))
