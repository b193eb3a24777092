"""`kernelevo ask`, `kernelevo tell` and `kernelevo mcp`: evolution driven by a coding agent."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kernelevo.cli.archive import ArchiveOption, JsonOption
from kernelevo.cli.json import as_json
from kernelevo.cli.show import console
from kernelevo.config import Settings, default_archive, read_settings
from kernelevo.errors import KernelevoError
from kernelevo.records import Outcome
from kernelevo.selection import STRATEGIES
from kernelevo.site import Event, Step

if TYPE_CHECKING:
    from kernelevo.agents import AgentJob, Told


def register(app: typer.Typer) -> None:
    app.command()(ask)
    app.command()(tell)
    app.command()(mcp)


def ask(
    task: Annotated[str, typer.Argument(help="a task's name, or the path of its folder or problem file")],
    run: Annotated[str | None, typer.Option(help="go on with this run [the newest that agents have not ended]")] = None,
    new: Annotated[bool, typer.Option("--new", help="begin a new run")] = False,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="write the first parent's source there, to be edited")
    ] = None,
    holder: Annotated[str | None, typer.Option(help="name of who works on the job [one that nobody else has]")] = None,
    lease_minutes: Annotated[float, typer.Option(help="afterwards the job may be given to somebody else")] = 30.0,
    device: Annotated[str, typer.Option(help="emulator or cuda")] = "emulator",
    strategy: Annotated[str | None, typer.Option(help=f"of a new run: {', '.join(STRATEGIES)} [one_island]")] = None,
    archive: ArchiveOption = None,
    json_: JsonOption = False,
) -> None:
    """Gives a coding agent its next job: what to write, and everything that is known about the kernels before it.

    The first job of a run comes after the task's own kernel was evaluated, which takes some seconds. Whoever asks also
    does what needs no agent, such as trying the values of declared tunables.
    """
    from kernelevo.agents import ask as ask_for
    from kernelevo.archive import open_archive
    from kernelevo.tasks import load_task

    settings = read_settings(archive=archive)
    with errors_as_json(json_), open_archive(settings.archive) as opened:
        loaded = load_task(task, root=settings.tasks)
        job = ask_for(
            loaded,
            opened,
            run=run,
            new=new,
            holder=holder,
            lease_seconds=60 * lease_minutes,
            device=device,
            strategy=strategy,
            settings=settings,
            watch=say,
        )
        if output is not None:
            parent = opened.candidate(job.parents[0], run=job.run).source if job.parents else ""
            output.write_text(parent)
    elsewhere = None if loaded.name == task else task
    file = str(output) if output is not None else "kernel.cu"
    command = command_line("tell", job.job, file, settings=settings, task=elsewhere, json=json_)
    if json_:
        print(json.dumps({**document(job), "command": command}, indent=2))
        return
    print(job.rules)
    print(f"\n----- {job.operator.value} -----\n{job.request}\n----- job -----")
    for line in job_lines(job):
        console.print(line, markup=False)
    console.print(f"next: {command}", markup=False)


def say(event: Event) -> None:
    """On standard error, what is done before a job is handed out: it may take minutes."""
    if event.step is Step.ASKED and event.job is not None:
        print(f"kernelevo: {event.job.operator.value}, which needs no agent, is done first", file=sys.stderr)


def job_lines(job: AgentJob) -> list[str]:
    return [
        f"job {job.job}: {job.operator.value} {' and '.join(job.parents)}".rstrip(),
        f"leased until {job.leased_until}; {job.attempts_left} replies without a usable kernel close it",
    ]


def tell(
    job: Annotated[str, typer.Argument(help="the job's id, as ask gave it")],
    kernel: Annotated[
        Path, typer.Argument(help="a whole .cu file, edits of the first parent, or - for standard input")
    ],
    plan: Annotated[
        str, typer.Option(help="one line on what was done, and why: later jobs are shown what came of it")
    ] = "",
    task: Annotated[str | None, typer.Option(help="path of the task's folder, if it is not below the tasks")] = None,
    archive: ArchiveOption = None,
    json_: JsonOption = False,
) -> None:
    """Takes what a coding agent wrote for a job, evaluates it, and says what came of it.

    Exit code: 0 passed, 1 judged and not passed, or no usable kernel, 2 could not judge.
    """
    from kernelevo.agents import job_of
    from kernelevo.agents import tell as tell_of
    from kernelevo.archive import open_archive
    from kernelevo.evaluate import read_kernel_file
    from kernelevo.tasks import load_task

    settings = read_settings(archive=archive)
    with errors_as_json(json_), open_archive(settings.archive) as opened:
        text = read_kernel_file(kernel)
        loaded = load_task(task or job_of(job, opened)[0].task, root=settings.tasks)
        told = tell_of(job, text, opened, loaded, plan=plan, settings=settings)
    if told.closed:
        command = command_line("ask", task or loaded.name, "--run", told.run, settings=settings, json=json_)
    else:
        command = command_line("tell", job, str(kernel), settings=settings, task=task, json=json_)
    if json_:
        print(json.dumps({**document(told), "command": command}, indent=2))
    else:
        for line in told_lines(told):
            console.print(line, markup=False)
        console.print(f"next: {command}", markup=False)
    sys.exit(exit_code(told))


def exit_code(told: Told) -> int:
    """0 passed, 1 judged and not passed or not usable, 2 not judged: what the emulator lacks says nothing about it."""
    if told.status == Outcome.PASSED.value:
        return 0
    return 2 if told.status == Outcome.UNSUPPORTED.value else 1


def told_lines(told: Told) -> list[str]:
    """What came of a job, line by line."""
    report = told.report
    lines = [f"job {told.job}: {told.status}" + (f", {report.candidate}" if report else "")]
    if report is None:
        lines.append(f"  {told.reason}")
        return [*lines, *([] if told.closed else [f"  the job is open: {told.attempts_left} replies are left"])]
    lines += [f"  {line}" for fact in report.feedback for line in fact.splitlines()]
    if told.repeats is not None:
        lines.append(f"  the source that was told to iteration {told.repeats} of this run: nothing new was learned")
    if report.shared_from:
        lines.append(f"  the same kernel as {report.shared_from}, and not evaluated again")
    named = ((told.speedup_over_seed, "the task's own kernel"), (told.speedup_over_best, "the best before"))
    lines += [f"  {ratio:.3f} times as fast as {what}" for ratio, what in named if ratio is not None]
    return [*lines, "  the new best of the run" if told.is_best else f"  best of the run: {told.best or 'none yet'}"]


def document(value: AgentJob | Told) -> dict[str, object]:
    """Plain JSON values."""
    made = as_json(value)
    assert isinstance(made, dict)
    return made


def command_line(command: str, *arguments: str, settings: Settings, task: str | None = None, json: bool = False) -> str:
    """What to type next, wherever: the options that say where things are go with it, given or from the environment."""
    archive = settings.archive if settings.archive != default_archive() else None
    if archive is not None and "://" not in archive:
        archive = str(Path(archive).absolute())
    words = ["kernelevo", command, *arguments]
    for option, value in (("--task", task), ("--archive", archive)):
        words += [option, value] if value is not None else []
    return shlex.join([*words, *(["--json"] if json else [])])


@contextmanager
def errors_as_json(wanted: bool) -> Iterator[None]:
    """An error of ours is a JSON document too, and ends with exit code 2."""
    try:
        yield
    except (KernelevoError, OSError) as error:
        if not wanted:
            raise
        print(json.dumps({"error": type(error).__name__, "message": str(error)}))
        sys.exit(2)


def mcp(
    archive: ArchiveOption = None,
    device: Annotated[str, typer.Option(help="emulator or cuda")] = "emulator",
    http: Annotated[int | None, typer.Option(help="serve HTTP on this port of 127.0.0.1, not standard input")] = None,
) -> None:
    """Serves tools for coding agents by the Model Context Protocol: over standard input and output, or HTTP."""
    from kernelevo.mcp import serve

    serve(read_settings(archive=archive), device=device, port=http)
