"""`kernelevo evolve TASK`: the loop with live progress, and what it came to."""

from __future__ import annotations

from textwrap import indent
from typing import Annotated

import typer
from rich.live import Live
from rich.table import Table
from rich.text import Text

from kernelevo.cli.show import console, diff, duration, lineage_tree, rows, score, status
from kernelevo.config import read_settings
from kernelevo.evolve import Event, Step
from kernelevo.records import Evaluation, Rewrite


def register(app: typer.Typer) -> None:
    app.command()(evolve)


def evolve(
    task: Annotated[str | None, typer.Argument(help="a task's name, or the path of its folder")] = None,
    model: Annotated[list[str] | None, typer.Option(help="proposer; may be given several times [mutate]")] = None,
    device: Annotated[str, typer.Option(help="emulator or cuda")] = "emulator",
    strategy: Annotated[str, typer.Option(help="islands, best_of_n or random_parent")] = "islands",
    generations: Annotated[int, typer.Option(min=1)] = 4,
    population: Annotated[int, typer.Option(min=1, help="proposals per generation")] = 4,
    seed: Annotated[int, typer.Option(help="same seed, same machine: same lineage")] = 0,
    archive: Annotated[str | None, typer.Option(help="SQLite file, or a URL [db/kernelevo.sqlite]")] = None,
    resume: Annotated[str | None, typer.Option(help="id of a run to go on with")] = None,
    sandbox: Annotated[str | None, typer.Option(help="required or best-effort [best-effort]")] = None,
) -> None:
    """Evolves faster kernels for a task."""
    from kernelevo.archive import open_archive
    from kernelevo.errors import UsageError
    from kernelevo.evolve import evolve as run_evolution
    from kernelevo.tasks import load_task

    settings = read_settings(archive=archive, sandbox=sandbox)
    with open_archive(settings.archive) as opened:
        if task is None:
            if resume is None:
                raise UsageError("no task is given", next_step="name one of `kernelevo tasks list`, or --resume RUN")
            task = opened.get_run(resume).task  # below the tasks folder; a task elsewhere is named with --resume
        loaded = load_task(task, root=settings.tasks)
        console.print(f"[bold]{loaded.title}[/bold], archive {settings.archive}")
        with Progress() as progress:
            result = run_evolution(
                loaded,
                opened,
                models=model or ["mutate"],
                device=device,
                strategy=strategy,
                generations=generations,
                population=population,
                seed=seed,
                resume=resume,
                settings=settings,
                watch=progress.watch,
            )
        console.print(f"\n{result.candidates} candidates in {result.seconds:.0f} s, run {result.run.id}")
        if result.best is None:
            console.print("no candidate passed", style="red")
            console.print(f"next: kernelevo archive show {result.run.id}")
            raise typer.Exit(1)
        evaluations = {c.id: opened.known(c.id, loaded, result.run.device) for c in (result.best, result.seed) if c}
        console.print("\n[bold]lineage of the best[/bold]")
        console.print(lineage_tree(opened.lineage(result.best.id, run=result.run.id)))
        if result.seed is not None and result.best.id != result.seed.id:
            console.print(f"\n[bold]{result.best.id} against the seed kernel[/bold]")
            console.print(diff(result.seed, result.best))
        print_gain(evaluations[result.best.id], evaluations.get(result.seed.id) if result.seed else None)
        console.print(
            f"\narchive: {settings.archive}\nnext: kernelevo archive show {result.best.id}\n"
            f"      kernelevo archive list\n      kernelevo evolve {task} --seed {result.run.seed + 1}"
        )


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


class Progress:
    """Watches a run: a live table on a terminal, one line per told candidate elsewhere."""

    def __init__(self) -> None:
        self.cells: dict[int, list[str | Text]] = {}
        self.rewrites: dict[str, int] = {}  # of each candidate seen, how many it has
        self.best: float | None = None
        self.live = Live(console=console, refresh_per_second=8) if console.is_terminal else None

    def __enter__(self) -> Progress:
        if self.live:
            self.live.start()
        else:
            console.print(
                "iteration  candidate: operator, rewrites <- parents: verdict, time, best so far", markup=False
            )
        return self

    def __exit__(self, *exc: object) -> None:
        if self.live:
            self.live.stop()

    def watch(self, event: Event) -> None:
        job = event.job
        parents = " + ".join(job.parents) or "-"
        candidate = event.candidate.id if event.candidate else "-"
        reached: str | Text = event.step.value
        time, best = "-", "-"
        if event.step is Step.TOLD and event.evaluation:
            new = score(event.evaluation)
            if new is not None and (self.best is None or new < self.best):
                self.best = new
            reached = status(event.evaluation.status)
            time = duration(new)
            best = duration(self.best)
        elif event.text:
            reached = event.text
        what = ", ".join([job.operator.value, *(rewrite.name for rewrite in self.made(event))])
        self.cells[job.iteration] = [str(job.iteration), what, parents, candidate, reached, time, best]
        if self.live:
            self.live.update(self.table())
        elif event.step is Step.TOLD or (event.step is Step.PROPOSED and event.candidate is None):
            console.print(
                f"{job.iteration:>9}  {candidate}: {what} <- {parents}: {reached}, {time}, {best}", markup=False
            )

    def made(self, event: Event) -> tuple[Rewrite, ...]:
        """The rewrites of this proposal: those that its first parent lacks."""
        if event.candidate is None:
            return ()
        self.rewrites[event.candidate.id] = len(event.candidate.rewrites)
        before = self.rewrites.get(event.job.parents[0], 0) if event.job.parents else 0
        return event.candidate.rewrites[before:]

    def table(self) -> Table:
        cells = [self.cells[key] for key in sorted(self.cells)]
        return rows(
            "",
            ["#", "operator", "parents", "candidate", "stage or verdict", "time", "best so far"],
            cells,
            right=[0, 5, 6],
        )
