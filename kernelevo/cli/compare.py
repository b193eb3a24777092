"""`kernelevo compare [RUN]...`: whether strategies or models differ at equal spending, with intervals over seeds."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from kernelevo.cli.archive import ArchiveOption, JsonOption, opened
from kernelevo.cli.json import as_json
from kernelevo.cli.show import console, rows

if TYPE_CHECKING:
    from kernelevo.compare import Comparison, Section


def register(app: typer.Typer) -> None:
    app.command()(compare)


def compare(
    runs: Annotated[
        list[str] | None, typer.Argument(help="run ids, or their beginnings; all finished ones when none is given")
    ] = None,
    at: Annotated[
        Literal["evaluations", "cost"], typer.Option(help="what is equal for all runs of a task")
    ] = "evaluations",
    seed: Annotated[int, typer.Option(help="of the bootstrap")] = 0,
    json_: JsonOption = False,
    archive: ArchiveOption = None,
) -> None:
    """How much faster than the seed kernel runs came, grouped by strategy and models: one table per task.

    Intervals (95 %) are over seeds; groups are compared where their seeds match. How: kernelevo/compare.py
    """
    from kernelevo.compare import At, compare_runs

    with opened(archive) as archived:
        found = compare_runs(archived, runs or [], at=At(at), seed=seed)
    if json_:
        print(json.dumps(as_json(found), indent=2))
        return
    basis = found.basis
    console.print(f"speedups over the seed kernel, {basis.kind.upper()} for {basis.target} by {basis.method}")
    for section in found.sections:
        print_section(section, found)


def print_section(section: Section, found: Comparison) -> None:
    from kernelevo.compare import SHARES, At

    unit = "evaluations" if found.at is At.EVALUATIONS else "USD"
    spent = f"each at its own {unit}" if section.spent is None else f"{section.spent:.4g} {unit}"
    console.print(f"\n[bold]{section.task or 'all tasks'}[/bold], {spent}")
    standings = [
        [s.group, str(s.seeds), *(f"{speedup:.3f}" for speedup in s.speedups), between(s.low, s.high)]
        for s in section.standings
    ]
    shares = [f"at {share:.0%}" for share in SHARES]
    columns = ["strategy (models)", "runs", *shares, "95 % interval"]
    console.print(rows("", columns, standings, right=[1, *range(2, 2 + len(shares))]))
    differences = [
        [
            f"{d.first} / {d.second}",
            str(d.pairs),
            "-" if d.ratio is None else f"{d.ratio:.3f}",
            between(d.low, d.high),
            "-" if d.p is None else f"{d.p:.3g}",
            d.finding,
        ]
        for d in section.differences
    ]
    if differences:
        columns = ["ratio of speedups", "pairs", "ratio", "95 % interval", "p", "finding"]
        console.print(rows("", columns, differences, right=[1, 2, 4]))
    for note in section.notes:
        console.print(note, markup=False)


def between(low: float | None, high: float | None) -> str:
    return "too few seeds" if low is None or high is None else f"{low:.3f} .. {high:.3f}"
