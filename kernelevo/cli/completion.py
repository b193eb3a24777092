"""What a shell completes: names of tasks, ids of runs and candidates. Whatever fails completes nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Annotated

import typer

from kernelevo.config import read_settings

MOST = 50  # ids that are offered


def complete_task(incomplete: str) -> Iterator[tuple[str, str]]:
    """Names and titles of tasks."""
    with contextlib.suppress(Exception):
        from kernelevo.tasks import list_tasks

        yield from ((t.name, t.title) for t in list_tasks(read_settings().tasks) if t.name.startswith(incomplete))


def complete_run(incomplete: str) -> Iterator[tuple[str, str]]:
    """Ids of the newest runs of the configured archive."""
    with contextlib.suppress(Exception):
        from kernelevo.archive import open_archive

        with open_archive(read_settings().archive, read_only=True) as archive:
            fitting = [entry for entry in archive.list_runs()[::-1] if entry.run.id.startswith(incomplete)]
            yield from ((entry.run.id, f"{entry.run.task}, {entry.status}") for entry in fitting[:MOST])


def complete_id(incomplete: str) -> Iterator[tuple[str, str]]:
    """Ids of runs, and of the fastest candidates of each task."""
    yield from complete_run(incomplete)
    with contextlib.suppress(Exception):
        from kernelevo.archive import open_archive

        with open_archive(read_settings().archive, read_only=True) as archive:
            fitting = [place for place in archive.leaderboard() if place.candidate.startswith(incomplete)]
            yield from ((place.candidate, f"{place.task}, place {place.place}") for place in fitting[:MOST])


TaskArgument = Annotated[
    str, typer.Argument(help="a task's name, or the path of its folder", autocompletion=complete_task)
]
RunArgument = Annotated[str, typer.Argument(help="id of the run, or its beginning", autocompletion=complete_run)]
