"""`kernelevo archive best|show|lineage|list`: reads the archive, never writes it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from kernelevo.cli.show import console, duration, evaluation_lines, lineage_tree, rows
from kernelevo.config import read_settings

if TYPE_CHECKING:
    from kernelevo.archive import Archive
    from kernelevo.records import Run

group = typer.Typer(help="Runs, candidates and their ancestry.", no_args_is_help=True)
ArchiveOption = Annotated[Path | None, typer.Option("--archive", help="SQLite file [db/kernelevo.sqlite]")]


def register(app: typer.Typer) -> None:
    app.add_typer(group, name="archive")


def opened(path: Path | None) -> Archive:
    from kernelevo.archive import open_archive

    return open_archive(read_settings(archive=path).archive, read_only=True)
