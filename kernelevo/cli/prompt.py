"""`kernelevo prompt TASK`: what a model would be sent, and where its tokens go."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kernelevo.cli.archive import JsonOption
from kernelevo.cli.show import console, rows
from kernelevo.config import Settings, read_settings
from kernelevo.errors import UsageError
from kernelevo.records import Candidate, Job, Operator, Task

if TYPE_CHECKING:
    from kernelevo.archive import Archive
    from kernelevo.devices import Device
    from kernelevo.prompt import Composition

PARENTS = {Operator.TRANSLATE: 0, Operator.CROSSOVER: 2}  # 1 for all others
LATER = 1 << 31  # a generation that sees all of a run


def register(app: typer.Typer) -> None:
    app.command()(prompt)


def prompt(
    task: Annotated[str, typer.Argument(help="a task's name, or the path of its folder or problem file")],
    operator: Annotated[
        str, typer.Option(help="translate, optimize, repair, crossover, explore or simplify")
    ] = "optimize",
    candidate: Annotated[
        list[str] | None, typer.Option(help="parent, or the beginning of its id; twice for crossover")
    ] = None,
    run: Annotated[str | None, typer.Option(help="whose history is shown; by default the task's newest")] = None,
    archive: Annotated[str | None, typer.Option(help="path or URL; by default that of the settings")] = None,
    device: Annotated[str, typer.Option(help="emulator or cuda")] = "emulator",
    budget_tokens: Annotated[int | None, typer.Option(help="estimated tokens that it may have", min=1)] = None,
    json_: JsonOption = False,
) -> None:
    """Shows the prompt of one proposal: system and user part, estimated tokens per part, and what was left out.

    Without --candidate, the parents are the fastest of the archive, or the task's own kernel. No model is asked, and
    nothing is written.
    """
    from kernelevo.evaluate import load_device
    from kernelevo.prompt import BUDGET_TOKENS
    from kernelevo.tasks import load_task

    settings = read_settings(archive=archive)
    budget = budget_tokens or BUDGET_TOKENS
    loaded = load_task(task, root=settings.tasks)
    chosen = operator_named(operator)
    with load_device(device, settings) as opened:
        made = composed(loaded, chosen, candidate or [], run, opened, settings, budget, named=archive is not None)
    if json_:
        print(json.dumps(document(made, budget), indent=2))
        return
    for message in made.prompt.messages:
        print(f"===== {message.role} =====\n{message.text}")
    table = [[p.name, str(p.tokens), str(p.items), str(p.left_out or "")] for p in made.parts]
    console.print(rows("", ["part", "tokens", "items", "left out"], table, right=[1, 2, 3]))
    console.print(f"about {made.tokens} of {budget} tokens, at four characters each; template {made.prompt.template}")


def operator_named(name: str) -> Operator:
    asking = [o.value for o in Operator if o not in (Operator.SEED, Operator.TUNE, Operator.JUDGE)]
    if name not in asking:
        raise UsageError(f"no prompt is written for operator {name!r}", next_step=f"choose one of {', '.join(asking)}")
    return Operator(name)


def composed(
    task: Task,
    operator: Operator,
    wanted: list[str],
    run: str | None,
    device: Device,
    settings: Settings,
    budget_tokens: int,
    *,
    named: bool,
) -> Composition:
    """named: whether the archive was asked for by name; the one from the settings need not exist."""
    from kernelevo.archive import open_archive
    from kernelevo.memory import describe_gpu, gather
    from kernelevo.prompt import Material, compose

    count = PARENTS.get(operator, 1)
    if wanted and len(wanted) != count:
        raise UsageError(
            f"{operator.value} takes {count} candidates, not {len(wanted)}",
            next_step="give --candidate as often, or leave it out",
        )
    if named or "://" in settings.archive or Path(settings.archive).exists():
        with open_archive(settings.archive, read_only=True) as opened:
            run_id = run_of(opened, task, run)
            parents = parents_for(opened, task, wanted, count, device, run_id if run else None)
            job = job_of(operator, parents, run_id, opened)
            material = gather(opened, task, job, device)
    elif wanted or run:
        raise UsageError(f"there is no archive at {settings.archive}", next_step="name one by --archive")
    else:
        parents = seeds(task, count)
        job = job_of(operator, parents, "", None)
        material = Material(gpu=describe_gpu(device))
    return compose(task, job, parents, target=device.target, material=material, budget_tokens=budget_tokens)


def run_of(archive: Archive, task: Task, wanted: str | None) -> str:
    """The id of the run whose history is shown; "" where there is none."""
    if wanted is not None:
        found = archive.get_run(wanted)
        if found.task != task.name:
            raise UsageError(f"run {found.id} is of task {found.task}", next_step=f"name a run of {task.name}")
        return found.id
    runs = archive.list_runs(task=task.name)
    return runs[-1].run.id if runs else ""


def parents_for(
    archive: Archive, task: Task, wanted: list[str], count: int, device: Device, run: str | None
) -> list[Candidate]:
    """Those that were named, or the fastest of the run or the archive for this device, or the task's own kernel."""
    if wanted:
        return [archive.candidate(candidate) for candidate in wanted]
    places = archive.leaderboard(
        task.name,
        device=device.name,
        kind=device.timing_kind,
        target=device.timing_target,
        method=device.timing_method,
        run=run,
        limit=max(count, 1),
    )
    best = [archive.candidate(place.candidate) for place in places[:count]]
    return best if len(best) == count else seeds(task, count)


def seeds(task: Task, count: int) -> list[Candidate]:
    if count == 0:
        return []
    if count > 1 or task.seed_source is None:
        raise UsageError(
            f"there are not enough correct candidates of {task.name} to show",
            next_step="run `kernelevo evolve` first, name candidates by --candidate, or use --operator translate",
        )
    return [Candidate(source=task.seed_source, entry=task.entry)]


def job_of(operator: Operator, parents: list[Candidate], run: str, archive: Archive | None) -> Job:
    """The job that would come next in the run."""
    return Job(
        run=run,
        iteration=archive.progress(run).next_iteration if archive and run else 0,
        generation=LATER,
        operator=operator,
        parents=tuple(parent.id for parent in parents),
        model="",
        island=None,
        seed=0,
    )


def document(made: Composition, budget_tokens: int) -> dict[str, object]:
    return {
        "operator": made.prompt.operator.value,
        "template": made.prompt.template,
        "parents": [parent.id for parent in made.prompt.parents],
        "tokens": made.tokens,
        "budget_tokens": budget_tokens,
        "parts": [{"name": p.name, "tokens": p.tokens, "items": p.items, "left_out": p.left_out} for p in made.parts],
        "messages": [{"role": message.role, "text": message.text} for message in made.prompt.messages],
    }
