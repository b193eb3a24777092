"""`kernelevo tasks list|show|import|lint|new`."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from kernelevo.cli.archive import JsonOption, print_json
from kernelevo.cli.completion import TaskArgument, complete_task
from kernelevo.cli.show import console, rows
from kernelevo.config import provider_key, read_settings
from kernelevo.errors import ToolchainError
from kernelevo.records import Purpose, Task

group = typer.Typer(help="The operations to make faster.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    app.add_typer(group, name="tasks")


@group.command("list")
def list_(json_: JsonOption = False) -> None:
    """One line per task."""
    from kernelevo.tasks import list_tasks

    tasks = list_tasks(read_settings().tasks)
    if json_:
        return print_json(tasks)
    table = [[t.name, escape(t.problem or t.title), str(t.test_sizes), escape(t.signature)] for t in tasks]
    console.print(rows("", ["task", "what", "sizes", "called as"], table, right=[2]))


@group.command()
def show(
    name: TaskArgument,
    errors: Annotated[bool, typer.Option("--errors", help="only the error allowed on each test case, and why")] = False,
    json_: JsonOption = False,
) -> None:
    """Everything a task says, and its seed kernel."""
    from kernelevo.tasks import load_task
    from kernelevo.verify.allowances import allowances

    task = load_task(name, root=read_settings().tasks)
    if json_:
        return print_json(allowances(task) if errors else task_document(task))
    if errors:
        return console.print(error_table(task))
    console.print(f"[bold]{task.name}[/bold]: {escape(task.title)}\n{escape(task.description)}\n")
    console.print(f"called as {escape(task.signature)}")
    console.print(f"dtypes {', '.join(task.dtypes)}; tolerance factor {task.tolerance_factor:g}")
    console.print(f"library calls: {task.library_calls}; digest {task.digest}")
    for purpose in (Purpose.TEST, Purpose.BENCH):
        sizes = dict.fromkeys(
            " ".join(f"{k}={v}" for k, v in case.sizes.items()) for case in task.cases if case.purpose is purpose
        )
        console.print(f"{purpose.value} sizes: {'; '.join(sizes)}")
    hidden = " ".join(f"{name}={low}..{high}" for name, (low, high) in task.hidden_sizes.items())
    console.print(f"hidden sizes: {hidden}\ndistributions: {', '.join(task.distributions)}")
    for hint in task.hints:
        console.print(f"hint: {escape(hint)}")
    if task.seed_source:
        console.print()
        console.print(task.seed_source, markup=False, highlight=False, soft_wrap=True)
    console.print(f"next: kernelevo evolve {name}")


@group.command("import")
def import_(
    path: Annotated[Path, typer.Argument(help="a KernelBench problem (.py), or a folder of robust-kbench")],
    output: Annotated[Path | None, typer.Option("-o", "--output", help="the folder to write [tasks/NAME]")] = None,
) -> None:
    """Writes a task of another format as one of ours, to be edited. To evaluate or evolve it, its path will do."""
    from kernelevo.tasks import load_task, tasks_root
    from kernelevo.tasks.native import write_native

    root = read_settings().tasks or tasks_root()
    folder = write_native(path, output or root / load_task(path).name)
    console.print(f"made {folder}\nnext: kernelevo tasks show {folder}/")


def task_document(task: Task) -> dict[str, object]:
    """All of a task but its functions, whose text is there."""
    return {f.name: value for f in fields(task) if not callable(value := getattr(task, f.name))}


def error_table(task: Task) -> Table:
    """The error rule in numbers, all relative to the largest value of the float64 oracle."""
    from kernelevo.verify.allowances import allowances

    cells = [
        [
            row.case.name,
            str(row.output),
            "-" if row.reference is None else f"{row.reference:.1e}",
            f"{row.floor:.1e}",
            f"{row.allowed:.1e}",
            "floor" if row.is_floor else f"{task.tolerance_factor:g} e_ref",
        ]
        for row in allowances(task)
    ]
    heads = ["test case", "output", "error of the reference", "floor", "allowed", "decided by"]
    return rows(f"{task.name}: relative errors", heads, cells, right=[1, 2, 3, 4])


@group.command()
def lint(
    names: Annotated[
        list[str] | None,
        typer.Argument(help="names or folders of tasks; all when none is given", autocompletion=complete_task),
    ] = None,
    judge: Annotated[str | None, typer.Option(help="ask this model, too, whether the reference is redundant")] = None,
    json_: JsonOption = False,
) -> None:
    """Finds tasks that cannot tell wrong from right, or that are not worth solving, and says how to repair them.

    Exit code: 0 no flaw, 1 flaws, 2 could not do it.
    """
    from kernelevo.evaluate import load_device
    from kernelevo.lint import ask, lint, lint_seed
    from kernelevo.models.load import load_model
    from kernelevo.tasks import list_tasks, load_task

    settings = read_settings()
    model = load_model(judge, key=provider_key) if judge is not None else None
    flawed = unjudged = 0
    found = []
    with load_device("emulator", settings) as device:
        for name in names or [task.name for task in list_tasks(settings.tasks)]:
            task = load_task(name, root=settings.tasks)
            flaws = list(lint(task))
            seed = "its seed passes" if task.seed_source else "it has no seed"
            try:
                flaws += lint_seed(task, device, settings)
            except ToolchainError as error:
                seed, unjudged = f"its seed was not judged: {error}", unjudged + 1
            opinions = ask(task, model) if model is not None else ()
            flawed += bool(flaws)
            found.append({"task": task.name, "flaws": flaws, "opinions": opinions, "seed": seed})
            if json_:
                continue
            for flaw in (*flaws, *opinions):
                line = f"{task.name}: {flaw.kind}: {flaw.text}\n  repair: {flaw.repair}"
                console.print(line, markup=False, highlight=False)
            if not flaws:
                console.print(f"{task.name}: no flaw; {seed}", markup=False, highlight=False)
    if json_:
        print_json(found)
    raise typer.Exit(1 if flawed else 2 if unjudged else 0)


@group.command()
def new(name: Annotated[str, typer.Argument(help="name of the folder to make")]) -> None:
    """Makes a task folder with commented templates to fill in."""
    from kernelevo.tasks import new_task

    folder: Path = new_task(name, read_settings().tasks)
    console.print(f"made {folder}\nnext: edit task.toml and reference.py there, then kernelevo tasks show {name}")
