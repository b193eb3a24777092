"""`kernelevo archive best|list|show|lineage`: reads the archive, never writes it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import fields
from itertools import groupby
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from kernelevo.cli.completion import complete_id, complete_task
from kernelevo.cli.json import as_json
from kernelevo.cli.show import console, duration, evaluation_lines, lineage_tree, progress_lines, rows, status
from kernelevo.config import read_settings
from kernelevo.errors import UsageError
from kernelevo.records import Candidate, Judged, Run

if TYPE_CHECKING:
    from kernelevo.archive import Ancestry, Archive

group = typer.Typer(help="Runs, candidates and their ancestry.", no_args_is_help=True)
ArchiveOption = Annotated[str | None, typer.Option("--archive", help="SQLite file, or a URL [db/kernelevo.sqlite]")]
JsonOption = Annotated[bool, typer.Option("--json", help="print one JSON document instead of text")]


def register(app: typer.Typer) -> None:
    app.add_typer(group, name="archive")


def opened(path: str | None) -> Archive:
    from kernelevo.archive import open_archive

    return open_archive(read_settings(archive=path).archive, read_only=True)


@group.command()
def best(
    task: Annotated[
        str | None, typer.Argument(help="a task's name; all tasks when left out", autocompletion=complete_task)
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="places of each board")] = 10,
    archive: ArchiveOption = None,
    json_: JsonOption = False,
) -> None:
    """Correct candidates by time: one board per task, device, target, kind and method of timing."""
    with opened(archive) as archived:
        placings = archived.leaderboard(task, limit=limit)
        if json_:
            return print_json(placings)
        if not placings:
            raise UsageError("the archive has no time yet", next_step=f"kernelevo evolve {task or 'rmsnorm'}")
        # Of one task, what compares with today's times comes last, where one looks.
        placings.sort(key=lambda p: (p.task, p.kind.value, p.device, p.target, p.version, p.place))
        for board, places in groupby(placings, key=lambda p: (p.task, p.device, p.target, p.kind.value, p.method)):
            cells = [[str(p.place), p.candidate, duration(p.score_ns)] for p in places]
            title = f"{board[0]} on {board[1]}, {board[3].upper()} for {board[2]} by {board[4]}"
            console.print(rows(title, ["place", "candidate", "time"], cells, right=[0, 2]))
        newest = [p for p in placings if p.place == 1][-1]
        console.print(f"next: kernelevo archive show {newest.candidate}")


@group.command("list")
def list_(
    task: Annotated[
        str | None, typer.Argument(help="a task's name; all tasks when left out", autocompletion=complete_task)
    ] = None,
    archive: ArchiveOption = None,
    json_: JsonOption = False,
) -> None:
    """Runs, oldest first."""
    with opened(archive) as archived:
        if json_:
            return print_json(archived.list_runs(task=task))
        cells = [
            [
                e.run.id,
                e.run.task,
                ", ".join(e.run.models),
                e.run.strategy,
                str(e.run.seed),
                e.status,
                str(e.candidates),
            ]
            for e in archived.list_runs(task=task)
        ]
    columns = ["run", "task", "models", "strategy", "seed", "status", "candidates"]
    console.print(rows("", columns, cells, right=[4, 6]))


@group.command()
def show(
    id_: Annotated[
        str,
        typer.Argument(
            metavar="ID", help="a run (r-...) or a candidate (c-...), or its beginning", autocompletion=complete_id
        ),
    ],
    source: Annotated[
        bool, typer.Option("--source", help="print the candidate's CUDA source and nothing else")
    ] = False,
    archive: ArchiveOption = None,
    json_: JsonOption = False,
) -> None:
    """Everything about one run or one candidate."""
    with opened(archive) as archived:
        if id_.startswith("r-"):
            run = archived.get_run(id_)
            print_json(run_document(archived, run)) if json_ else show_run(archived, run)
            return
        candidate = archived.candidate(id_)
        if json_:
            return print_json({"candidate": candidate, "evaluations": archived.evaluations(candidate.id)})
        show_candidate(archived, candidate, source=source)


@group.command()
def lineage(
    candidate: Annotated[str, typer.Argument(help="a candidate's id, or its beginning", autocompletion=complete_id)],
    archive: ArchiveOption = None,
    json_: JsonOption = False,
) -> None:
    """A candidate and everything it comes from."""
    with opened(archive) as archived:
        ancestry = archived.lineage(candidate)
    if json_:
        return print_json([flat(one) for one in ancestry.walk()])
    console.print(lineage_tree(ancestry))


def print_json(value: object) -> None:
    print(json.dumps(as_json(value), indent=2))


def flat(ancestry: Ancestry) -> dict[str, object]:
    """One node, with its parents' ids."""
    values = {field.name: getattr(ancestry, field.name) for field in fields(ancestry)}
    return {**values, "parents": [parent.candidate for parent in ancestry.parents]}


def run_document(archive: Archive, run: Run) -> dict[str, object]:
    """A run, its cost, and each of its decisions with what came of it. Evaluations in full: show CANDIDATE."""
    told = {s.iteration: s for s in archive.scored(run.id)}
    return {
        "run": next(entry for entry in archive.list_runs(task=run.task) if entry.run.id == run.id),
        "cost": archive.ledger.cost(run.id),
        "stages": archive.stage_totals(run.id),
        "iterations": [
            {
                "job": job,
                "replies": archive.replies(run.id, job.iteration),
                "scored": told.get(job.iteration),
                "reason": archive.reason(run.id, job.iteration),
            }
            for job in archive.jobs(run.id)
        ],
    }


def show_run(archive: Archive, run: Run) -> None:
    """Its settings, and one line per iteration."""
    entry = next(e for e in archive.list_runs(task=run.task) if e.run.id == run.id)
    console.print(
        f"[bold]{run.id}[/bold] {run.task} on {run.device}: {entry.status}; {', '.join(run.models)}, {run.strategy}, "
        f"{run.generations} generations of {run.population}, seed {run.seed}; started {entry.started_at}"
    )
    if entry.stop_reason:
        console.print(f"ended early: {entry.stop_reason}", markup=False)
    if run.judges:
        console.print(f"judged by {', '.join(run.judges)}", markup=False)
    if run.replay_of:
        console.print(f"repeats {run.replay_of} from its recorded replies")
    cells = []
    told = {s.iteration: s for s in archive.scored(run.id)}
    for job in archive.jobs(run.id):
        scored = told.get(job.iteration)
        rewrites = [str(r) for reply in archive.replies(run.id, job.iteration)[-1:] for r in reply.rewrites]
        cells.append(
            [
                str(job.iteration),
                str(job.generation),
                job.operator.value,
                *([job.model] if len(run.models) > 1 else []),
                scored.candidate if scored else "-",
                status(scored.status) if scored else Text(why_none(archive, run, job.iteration), style="dim"),
                duration(scored.score_ns) if scored else "-",
                " + ".join(job.parents),
                ", ".join(rewrites),
            ]
        )
    models = ["model"] if len(run.models) > 1 else []
    columns = ["#", "generation", "operator", *models, "candidate", "status", "time", "parents", "rewrites"]
    console.print(rows("", columns, cells, right=[0, 1, columns.index("time")]))
    totals = archive.stage_totals(run.id)
    stages = [[total.name, str(total.reached), str(total.failed), f"{total.seconds:.2f}"] for total in totals]
    console.print(rows("", ["stage", "reached", "failed", "seconds"], stages, right=[1, 2, 3]))
    costs = [
        [
            c.model,
            c.purpose,
            str(c.calls),
            str(c.failed_calls),
            f"{c.cost_usd:.4f}" + f" + {c.calls_of_unknown_cost} unknown" * bool(c.calls_of_unknown_cost),
            str(c.input_tokens),
            str(c.cached_tokens),
            str(c.output_tokens),
            f"{c.seconds:.1f}",
        ]
        for c in archive.ledger.by_model(run.id)
    ]
    columns = ["model", "purpose", "requests", "failed", "US dollars", "input tokens", "cached", "output", "seconds"]
    console.print(rows("", columns, costs, right=[2, 3, 4, 5, 6, 7, 8]))
    show_judges(archive.ledger.judged(None, None, run=run.id))
    show_progress(archive, run)
    console.print(f"next: kernelevo report {run.id} -o report.html")


def show_progress(archive: Archive, run: Run) -> None:
    """How far it came, and where its iterations ended."""
    from kernelevo.report.gather import read_steps

    basis = archive.timed_as(run.id)
    words = f"{basis[0].upper()} for {basis[1]} by {basis[2]}" if basis else ""
    for line in progress_lines(read_steps(archive, run.id), words):
        console.print(line, markup=False)


def why_none(archive: Archive, run: Run, iteration: int) -> str:
    """The first line of the reason why an iteration has no evaluated candidate."""
    return (archive.reason(run.id, iteration) or "not told yet").partition("\n")[0][:60]


def show_judges(judged: Sequence[Judged]) -> None:
    """How good the judges of a run were, by what was measured afterwards, and what they saved."""
    from kernelevo.judges.report import calibration, savings

    if not judged:
        return

    def share(value: float | None) -> str:
        return "-" if value is None else f"{value:.2f}"

    cells = [
        [c.judge, c.model or "all", str(c.votes), str(c.measured), share(c.precision), share(c.recall), share(c.brier)]
        for c in calibration(judged)
    ]
    columns = ["judge", "model", "votes", "measured", "precision", "recall", "Brier score"]
    console.print(rows("", columns, cells, right=[2, 3, 4, 5, 6]))
    saved = savings(judged)
    console.print(
        f"{saved.judged} candidates judged, {saved.refused} refused, {saved.avoided} evaluations avoided; of "
        f"{saved.audited} refused ones that were evaluated all the same {saved.false_refusals} passed"
    )


def show_candidate(archive: Archive, candidate: Candidate, *, source: bool) -> None:
    """Its evaluations, newest first, and its ancestry."""
    if source:
        print(candidate.source, end="")
        return
    for evaluation in archive.evaluations(candidate.id):
        for line in evaluation_lines(evaluation):
            console.print(line, markup=False)
    console.print(lineage_tree(archive.lineage(candidate.id)))
    console.print(f"next: kernelevo archive show {candidate.id} --source > kernel.cu")
