"""`kernelevo archive verify|export`, which only read, and `merge|upgrade|vacuum`, which write."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, TextIO

import typer

from kernelevo.cli.archive import ArchiveOption, JsonOption, group, opened, print_json
from kernelevo.cli.json import as_json
from kernelevo.cli.show import console
from kernelevo.config import read_settings
from kernelevo.errors import UsageError


def register(_: typer.Typer) -> None:
    """The commands join the group of `kernelevo archive`."""
    for command in (verify, export, merge, upgrade, vacuum):
        group.command()(command)


def verify(
    archive: ArchiveOption = None,
    json_: JsonOption = False,
) -> None:
    """Whether the archive is whole: its file, its references, every content hash and every score, computed again.

    Exit code 0: it is. 1: it is not, and each flaw is told.
    """
    from kernelevo.archive.care import find_flaws

    with opened(archive) as archived:
        flaws = find_flaws(archived)
    if json_:
        print_json({"whole": not flaws, "flaws": flaws})
    else:
        for flaw in flaws:
            console.print(f"{flaw.table or 'the file'} {flaw.row}: {flaw.text}".replace(" :", ":"), markup=False)
        console.print(f"{len(flaws)} flaws" if flaws else "the archive is whole")
        if flaws:
            console.print("next: go back to a copy that is whole; what names a flawed row cannot be relied on")
    sys.exit(1 if flaws else 0)


def export(
    run: Annotated[str | None, typer.Argument(help="id of a run, or its beginning; everything when left out")] = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", help="file to write; one that exists is replaced. Standard output when left out"),
    ] = None,
    archive: ArchiveOption = None,
    json_: Annotated[bool, typer.Option("--json", help="JSON Lines, which is the only form")] = True,
) -> None:
    """Everything that the archive holds and that is not derived, as JSON Lines: db/README.md has the format."""
    from kernelevo.archive.export import lines

    with opened(archive) as archived, opened_output(output) as file:
        wanted = None if run is None else archived.get_run(run).id
        for line in lines(archived, run=wanted):
            record = as_json(line.record)
            values = {"record": line.kind, **line.facts, **(record if isinstance(record, dict) else {})}
            file.write(json.dumps(as_json(values)) + "\n")


@contextmanager
def opened_output(output: Path | None) -> Iterator[TextIO]:
    """A file that is replaced when it is whole, or standard output, whose reader may leave early."""
    if output is None:
        try:
            yield sys.stdout
            sys.stdout.flush()
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return
    if output.is_dir() or not output.absolute().parent.is_dir():
        raise UsageError(f"{output} is no file that could be written", next_step="name a file in a folder that exists")
    part = output.with_name(output.name + ".part")
    try:
        with part.open("w") as file:
            yield file
        part.replace(output)
    finally:
        part.unlink(missing_ok=True)


def merge(
    source: Annotated[str, typer.Argument(help="another archive, which is only read")], archive: ArchiveOption = None
) -> None:
    """Copies into the archive what only another one has: its runs, and what it knows of candidates."""
    from kernelevo.archive import open_archive
    from kernelevo.archive.merge import merge as merged_into

    place = read_settings(archive=archive).archive
    with open_archive(source, read_only=True) as theirs, open_archive(place) as ours:
        merged = merged_into(theirs, ours)
    known = f"; {len(merged.known_runs)} runs were here already" if merged.known_runs else ""
    console.print(
        f"{len(merged.runs)} runs, {merged.candidates} candidates and {merged.evaluations} evaluations copied{known}"
    )


def upgrade(archive: ArchiveOption = None) -> None:
    """Brings an archive of an older version up to date. Opening it for writing does the same."""
    from kernelevo.archive.care import upgrade as upgraded

    place = read_settings(archive=archive).archive
    before, after = upgraded(place)
    console.print(f"schema {before}: nothing to do" if before == after else f"schema {before} -> {after}")


def vacuum(archive: ArchiveOption = None) -> None:
    """Makes the file as small as it can be. Needs as much free disk again, and nobody else who writes."""
    from kernelevo.archive.care import vacuum as vacuumed

    before, after = vacuumed(read_settings(archive=archive).archive)
    console.print(f"{before / 1e6:.2f} MB -> {after / 1e6:.2f} MB")
