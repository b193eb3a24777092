"""`kernelevo replay RUN`, `stop RUN`, `hint RUN TEXT`: what can be done to a run besides starting it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kernelevo.cli.archive import ArchiveOption, JsonOption, print_json
from kernelevo.cli.completion import RunArgument
from kernelevo.cli.evolve import Progress, QuietOption, print_result, reporter, result_document, task_of_run
from kernelevo.cli.show import console
from kernelevo.config import read_settings


def register(app: typer.Typer) -> None:
    app.command()(replay)
    app.command()(stop)
    app.command()(hint)


def replay(
    run: RunArgument,
    task: Annotated[str | None, typer.Option(help="path of the task's folder, if it is not below the tasks")] = None,
    archive: ArchiveOption = None,
    output: Annotated[Path | None, typer.Option("-o", help="leave the archive alone, and write into a copy")] = None,
    quiet: QuietOption = False,
    json_: JsonOption = False,
) -> None:
    """Repeats a run from its recorded replies, without a key, and compares the two lineages.

    Candidates that the archive knows by the same method of timing are not evaluated again, unless they failed.

    Exit code 0: they are identical. 1: they differ, and the first difference is told.
    """
    from kernelevo.archive import open_archive
    from kernelevo.evolve import evolve
    from kernelevo.lineage import first_difference, lineage_hash
    from kernelevo.tasks import load_task

    settings = read_settings(archive=archive)
    if output is not None:
        with open_archive(settings.archive, read_only=True) as opened:
            opened.get_run(run)  # before anything is copied
        settings = settings.model_copy(update={"archive": copied(settings.archive, output)})
    with open_archive(settings.archive) as opened:
        before = opened.get_run(run)
        loaded = (
            load_task(task, root=settings.tasks)
            if task is not None
            else task_of_run(before, settings, f"kernelevo replay {before.id} --task PATH")
        )
        with Progress(reporter(quiet=quiet, json_=json_)) as progress:
            result = evolve(loaded, opened, replay=before.id, settings=settings, watch=progress.watch)
        hashes = {one: lineage_hash(opened, one) for one in (before.id, result.run.id)}
        difference = first_difference(opened, before.id, result.run.id)
        if json_:
            document = result_document(opened, loaded, result)
            print_json({**document, "lineages": hashes, "difference": difference})
            raise typer.Exit(0 if difference is None else 1)
        print_result(opened, loaded, result)
        for one, value in hashes.items():
            console.print(f"{one}: lineage {value}")
        if difference is not None:
            console.print(f"they differ: {difference}", style="red", markup=False)
            raise typer.Exit(1)
        console.print("the lineages are identical")


def copied(archive: str, output: Path) -> str:
    """A copy of an SQLite archive, made by SQLite so that nothing under way is torn."""
    import sqlite3

    from kernelevo.errors import UsageError

    if output.exists():
        raise UsageError(f"{output} exists", next_step="name another file, or remove it")
    if not Path(archive).exists():
        raise UsageError(f"{archive} is no file that could be copied", next_step="leave -o out")
    with sqlite3.connect(archive) as source, sqlite3.connect(output) as target:
        source.backup(target)
    return str(output)


def stop(run: RunArgument, archive: ArchiveOption = None) -> None:
    """Ends a run that is under way, here or elsewhere: what is begun is finished, nothing more is begun."""
    from kernelevo.archive import open_archive
    from kernelevo.site import stop_file

    settings = read_settings(archive=archive)
    with open_archive(settings.archive, read_only=True) as opened:
        path = stop_file(opened, opened.get_run(run).id)
    path.touch()
    console.print(f"{path} ends the run; `kernelevo evolve --resume` removes it and goes on", markup=False)


def hint(
    run: RunArgument,
    text: Annotated[str, typer.Argument(help="advice, in your words")],
    archive: ArchiveOption = None,
) -> None:
    """Gives advice to all prompts of a run that come after it; the run may be under way."""
    from kernelevo.archive import open_archive
    from kernelevo.errors import UsageError

    if not text.strip():
        raise UsageError("the hint is empty", next_step="say in a sentence what the prompts should know")
    with open_archive(read_settings(archive=archive).archive) as opened:
        opened.notes.write_hint(opened.get_run(run).id, text.strip())
