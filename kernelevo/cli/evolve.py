"""`kernelevo evolve TASK`: the loop with live progress, and what it came to."""

from __future__ import annotations

import sys
from textwrap import indent
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from kernelevo.budget import Budget
from kernelevo.cli.archive import JsonOption, print_json
from kernelevo.cli.completion import complete_run, complete_task
from kernelevo.cli.show import console, diff, duration, lineage_tree, rows, score, status
from kernelevo.config import Settings, read_settings
from kernelevo.models.prices import price_of, unknown_price
from kernelevo.records import Evaluation, Job, Rewrite, Run, Task
from kernelevo.selection import STRATEGIES
from kernelevo.site import Event, Step

if TYPE_CHECKING:
    from kernelevo.archive import Archive
    from kernelevo.archive.answers import Cost
    from kernelevo.evolve import Evolution


# For people, while a machine may read standard output. Lines of a file or pipe stay whole, as in show.console.
aside = (
    Console(highlight=False, stderr=True)
    if sys.stderr.isatty()
    else Console(highlight=False, stderr=True, width=1000, soft_wrap=True)
)
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="no progress: only what it came to")]


def register(app: typer.Typer) -> None:
    app.command()(evolve)


def evolve(
    task: Annotated[
        str | None, typer.Argument(help="a task's name, or the path of its folder", autocompletion=complete_task)
    ] = None,
    model: Annotated[list[str] | None, typer.Option(help="proposer; may be given several times [mutate]")] = None,
    judge: Annotated[
        list[str] | None, typer.Option(help="model that judges candidates before they cost an evaluation [none]")
    ] = None,
    device: Annotated[str, typer.Option(help="emulator or cuda")] = "emulator",
    strategy: Annotated[str, typer.Option(help=", ".join(STRATEGIES))] = "islands",
    generations: Annotated[int, typer.Option(min=1)] = 4,
    population: Annotated[int, typer.Option(min=1, help="proposals per generation")] = 4,
    lookahead: Annotated[
        int | None, typer.Option(min=0, help="generations proposed while earlier ones are under way [1; mutate: 0]")
    ] = None,
    seed: Annotated[int, typer.Option(help="same seed, same machine: same lineage")] = 0,
    archive: Annotated[str | None, typer.Option(help="SQLite file, or a URL [db/kernelevo.sqlite]")] = None,
    resume: Annotated[str | None, typer.Option(help="id of a run to go on with", autocompletion=complete_run)] = None,
    budget_usd: Annotated[float | None, typer.Option(help="ends the run before it costs more")] = None,
    budget_seconds: Annotated[float | None, typer.Option(help="nothing is begun after so long")] = None,
    max_evaluations: Annotated[int | None, typer.Option(help="nothing is begun after so many candidates")] = None,
    target_speedup: Annotated[float | None, typer.Option(help="over the task's own kernel: enough")] = None,
    roofline: Annotated[float | None, typer.Option(help="share of what DRAM bandwidth allows, 0 to 1: enough")] = None,
    stagnation: Annotated[int | None, typer.Option(help="ends after so many iterations without a new best")] = None,
    sandbox: Annotated[str | None, typer.Option(help="required or best-effort [best-effort]")] = None,
    quiet: QuietOption = False,
    json_: JsonOption = False,
) -> None:
    """Evolves faster kernels for a task.

    Exit code: 0 something passed, 1 nothing did, 130 interrupted: --resume goes on.
    """
    from kernelevo.archive import open_archive
    from kernelevo.errors import UsageError
    from kernelevo.evolve import evolve as run_evolution
    from kernelevo.tasks import load_task

    settings = read_settings(archive=archive, sandbox=sandbox)
    budget = Budget(
        usd=budget_usd,
        seconds=budget_seconds,
        evaluations=max_evaluations,
        speedup=target_speedup,
        roofline=roofline,
        stagnation=stagnation,
    )
    with open_archive(settings.archive) as opened:
        if task is None:
            if resume is None:
                raise UsageError("no task is given", next_step="name one of `kernelevo tasks list`, or --resume RUN")
            run = opened.get_run(resume)
            loaded = task_of_run(run, settings, f"kernelevo evolve PATH --resume {run.id}")
        else:
            loaded = load_task(task, root=settings.tasks)
        told = reporter(quiet=quiet, json_=json_)
        told.print(f"[bold]{loaded.title}[/bold], archive {settings.archive}")
        for name in dict.fromkeys([*(model or ()), *(judge or ())]):
            if price_of(name, settings.prices) is None:
                aside.print(f"warning: {unknown_price(name)}", style="yellow", markup=False)
        with Progress(told) as progress:
            result = run_evolution(
                loaded,
                opened,
                models=model or ["mutate"],
                judges=judge or [],
                device=device,
                strategy=strategy,
                generations=generations,
                population=population,
                lookahead=lookahead,
                seed=seed,
                budget=budget,
                resume=resume,
                settings=settings,
                watch=progress.watch,
            )
        if json_:
            print_json(result_document(opened, loaded, result))
        else:
            print_result(opened, loaded, result)
            told.print(
                f"\narchive: {settings.archive}\nnext: kernelevo archive show "
                f"{result.best.id if result.best else result.run.id}\n"
                f"      kernelevo report {result.run.id} -o report.html\n"
                f"      kernelevo evolve {task or loaded.name} --seed {result.run.seed + 1}"
            )
        if result.best is None:
            raise typer.Exit(1)


def reporter(*, quiet: bool, json_: bool) -> Console:
    """Where progress goes: nowhere when it is not wanted, and not between what a machine reads."""
    return Console(quiet=True) if quiet else aside if json_ else console


def result_document(archive: Archive, task: Task, result: Evolution) -> dict[str, object]:
    """What a run came to; evaluations are None where there is none."""
    known = {c.id: archive.known(c.id, task, result.run.device) for c in (result.best, result.seed) if c}
    return {
        "run": result.run,
        "candidates": result.candidates,
        "seconds": result.seconds,
        "stop_reason": result.stop_reason,
        "cost": archive.ledger.cost(result.run.id),
        "best": result.best and result.best.id,
        "best_evaluation": result.best and known[result.best.id],
        "seed": result.seed and result.seed.id,
        "seed_evaluation": result.seed and known[result.seed.id],
    }


def print_result(archive: Archive, task: Task, result: Evolution) -> None:
    """What a run came to: why it ended, what it cost, the lineage of the best, and what it gained."""
    console.print(f"\n{result.candidates} candidates in {result.seconds:.0f} s, run {result.run.id}")
    if result.stop_reason is not None:
        console.print(f"ended early: {result.stop_reason}", markup=False)
    print_cost(archive.ledger.cost(result.run.id))
    if result.best is None:
        console.print("no candidate passed", style="red")
        return
    evaluations = {c.id: archive.known(c.id, task, result.run.device) for c in (result.best, result.seed) if c}
    console.print("\n[bold]lineage of the best[/bold]")
    console.print(lineage_tree(archive.lineage(result.best.id, run=result.run.id)))
    if result.seed is not None and result.best.id != result.seed.id:
        console.print(f"\n[bold]{result.best.id} against the seed kernel[/bold]")
        console.print(diff(result.seed, result.best))
    print_gain(evaluations[result.best.id], evaluations.get(result.seed.id) if result.seed else None)


def print_cost(cost: Cost) -> None:
    """One line where anything was asked that is not free."""
    paid = cost.calls - cost.free_calls
    if not paid:
        return
    asked = f"{paid} request{'s' * (paid != 1)}, {cost.failed_calls} of them failed"
    tokens = f"{cost.input_tokens} input tokens ({cost.cached_tokens} cached), {cost.output_tokens} output tokens"
    console.print(f"{asked}: {cost.cost_usd:.4f} US dollars, {tokens}")
    if cost.calls_of_unknown_cost:
        console.print(f"the cost of {cost.calls_of_unknown_cost} requests is not known", style="yellow")


def print_gain(best: Evaluation | None, seed: Evaluation | None) -> None:
    """The ratio of two times of one kind, target and method, and the stated reason of each."""
    if best is None or best.timing is None:
        return
    new = best.timing
    console.print(f"\nbest: {duration(new.score_ns)}, {new.kind.value.upper()} for {new.target} by {new.method}")
    console.print(indent(best.feedback, "  "), markup=False)
    if seed is None or seed.timing is None or seed.candidate == best.candidate:
        return
    old = seed.timing
    console.print(f"seed: {duration(old.score_ns)}, {old.kind.value.upper()} for {old.target} by {old.method}")
    console.print(indent(seed.feedback, "  "), markup=False)
    if (old.kind, old.target, old.method) == (new.kind, new.target, new.method):
        ratio = old.score_ns / new.score_ns
        console.print(f"[bold]{ratio:.2f} times faster than the seed, {new.kind.value.upper()}[/bold]")


def task_of_run(run: Run, settings: Settings, command: str) -> Task:
    """The task of a run that is named alone; `command` is how to name a task that is kept elsewhere, too."""
    from kernelevo.errors import UsageError
    from kernelevo.tasks import load_task

    try:
        return load_task(run.task, root=settings.tasks)
    except UsageError as error:
        raise UsageError(
            f"run {run.id} is of task {run.task}, and {error.args[0]}", next_step=f"name its folder: {command}"
        ) from error


class Progress:
    """Watches a run: a live table on a terminal, one line per told candidate elsewhere."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.cells: dict[int, list[str | Text]] = {}
        self.rewrites: dict[str, int] = {}  # of each candidate seen, how many it has
        self.best: float | None = None
        self.live = Live(console=console, refresh_per_second=8) if console.is_terminal and not console.quiet else None

    def __enter__(self) -> Progress:
        if self.live:
            self.live.start()
        else:
            self.console.print(
                "iteration  candidate: operator, rewrites <- parents: verdict, time, best so far", markup=False
            )
        return self

    def __exit__(self, *exc: object) -> None:
        if self.live:
            self.live.stop()

    def watch(self, event: Event) -> None:
        if event.job is None:
            self.say(f"stopping: {event.text}")
            return
        job = event.job
        parents = " + ".join(job.parents) or "-"
        candidate = event.candidate.id if event.candidate else "-"
        reached: str | Text = event.text or event.step.value
        time, best = "-", "-"
        if event.step is Step.TOLD and event.evaluation:
            new = score(event.evaluation)
            if new is not None and (self.best is None or new < self.best):
                self.best = new
            reached = status(event.evaluation.status)
            time = duration(new)
            best = duration(self.best)
        what = ", ".join([job.operator.value, *(rewrite.name for rewrite in self.made(event, job))])
        self.cells[job.iteration] = [str(job.iteration), what, parents, candidate, reached, time, best]
        if event.step is Step.CALL_FAILED:
            self.say(f"{job.iteration:>9}  {job.model}: {event.text}")
        elif self.live:
            self.live.update(self.table())
        elif event.step is Step.TOLD:
            self.say(f"{job.iteration:>9}  {candidate}: {what} <- {parents}: {reached}, {time}, {best}")

    def say(self, line: str) -> None:
        """A line of its own, above the table where there is one."""
        (self.live.console if self.live else self.console).print(line, markup=False)

    def made(self, event: Event, job: Job) -> tuple[Rewrite, ...]:
        """The rewrites of this proposal: those that its first parent lacks."""
        if event.candidate is None:
            return ()
        self.rewrites[event.candidate.id] = len(event.candidate.rewrites)
        before = self.rewrites.get(job.parents[0], 0) if job.parents else 0
        return event.candidate.rewrites[before:]

    def table(self) -> Table:
        cells = [self.cells[key] for key in sorted(self.cells)]
        return rows(
            "",
            ["#", "operator", "parents", "candidate", "stage or verdict", "time", "best so far"],
            cells,
            right=[0, 5, 6],
        )
