"""`kernelevo verify --self-test [TASK]...`: whether verification itself works."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from kernelevo.cli.archive import JsonOption
from kernelevo.cli.json import as_json
from kernelevo.cli.show import console, rows
from kernelevo.config import read_settings
from kernelevo.errors import UsageError
from kernelevo.records import Outcome

if TYPE_CHECKING:
    from kernelevo.records import Task
    from kernelevo.selftest import SelfTest, Trial

TARGET = 0.99  # kill rate below which verification is not good enough


def register(app: typer.Typer) -> None:
    app.command()(verify)


def verify(
    tasks: Annotated[list[str] | None, typer.Argument(help="names or folders of tasks; all when none is given")] = None,
    self_test: Annotated[
        bool, typer.Option("--self-test", help="mutate right kernels: are the mutants caught?")
    ] = False,
    kernel: Annotated[Path | None, typer.Option(help="mutate this right kernel of one task, not its seed")] = None,
    operator: Annotated[list[str] | None, typer.Option(help="only these mistakes, by name; all by default")] = None,
    limit: Annotated[int, typer.Option(help="mutants of each operator and task, drawn at random; 0 for all")] = 2,
    seed: Annotated[int, typer.Option(help="of that draw")] = 0,
    json_: JsonOption = False,
) -> None:
    """Measures whether verification notices mistakes: right kernels must pass, their mutants must not.

    A mutant takes one to three seconds. Exit code: 0 no false alarm and at least 99 % of the mutants that differ from
    their kernel caught, 1 otherwise, 2 could not do it. To verify one kernel: kernelevo evaluate TASK KERNEL.cu
    """
    if not self_test:
        raise UsageError("nothing to verify", next_step="verify --self-test [TASK]..., or evaluate TASK KERNEL.cu")
    if kernel is not None and len(tasks or []) != 1:
        raise UsageError("--kernel needs the one task that it is a kernel for", next_step="name it")
    results = run(tasks or [], kernel, operator or None, limit or None, seed, quiet=json_)
    if json_:
        print(
            json.dumps({"kill_rate": kill_rate(results), "tasks": [document(result) for result in results]}, indent=2)
        )
    else:
        for line in report(results):
            console.print(line, markup=False, highlight=False)
        console.print(rates_table(results))
        console.print(tasks_table(results))
    rate = kill_rate(results)
    sys.exit(0 if rate is not None and rate >= TARGET and not any(r.false_alarms for r in results) else 1)


def run(
    names: Sequence[str],
    kernel: Path | None,
    operators: Sequence[str] | None,
    limit: int | None,
    seed: int,
    *,
    quiet: bool,
) -> list[SelfTest]:
    from kernelevo.evaluate import load_device, read_kernel_file
    from kernelevo.selftest import self_test
    from kernelevo.verify.mutants import OPERATORS

    for name in operators or ():
        if name not in OPERATORS:
            raise UsageError(f"unknown operator {name!r}", next_step=f"operators are {', '.join(OPERATORS)}")
    settings = read_settings()
    source = read_kernel_file(kernel) if kernel is not None else None
    results = []
    with load_device("emulator", settings) as device:
        for task in chosen_tasks(names):
            if not quiet:
                console.print(f"{task.name}:", markup=False)
            tell = None if quiet else show
            results.append(
                self_test(
                    task, device, settings, kernel=source, operators=operators, limit=limit, seed=seed, progress=tell
                )
            )
    return results


def chosen_tasks(names: Sequence[str]) -> list[Task]:
    """The named tasks, or all that come with a seed."""
    from kernelevo.tasks import list_tasks, load_task

    root = read_settings().tasks
    return [load_task(name, root=root) for name in names or [t.name for t in list_tasks(root) if t.has_seed]]


def show(trial: Trial) -> None:
    if trial.mutant is not None:
        fate = trial.fate.value + (f" in {trial.stage}" if trial.stage else "")
    else:
        fate = "passed" if trial.outcome is Outcome.PASSED else f"false alarm: {trial.reason}:"
    console.print(f"{fate:>21}  {trial.mutant or 'the kernel itself'}", markup=False, highlight=False)


def kill_rate(results: Sequence[SelfTest]) -> float | None:
    """Over all tasks together; None when no mutant was judged."""
    judged = sum(len(result.judged) for result in results)
    return 1.0 - sum(len(result.survivors) for result in results) / judged if judged else None


def report(results: Sequence[SelfTest]) -> list[str]:
    """Every false alarm, and every survivor as a diff."""
    lines = []
    for result in results:
        lines += [f"{result.task}: false alarm: {trial.reason}" for trial in result.false_alarms]
        for trial in result.survivors:
            if trial.mutant is not None:
                lines += [f"survived: {trial.mutant}", trial.mutant.diff(result.kernel, f"{result.task}.cu")]
    return lines


def rates_table(results: Sequence[SelfTest]) -> Table:
    from kernelevo.selftest import rates

    found = rates(trial for result in results for trial in result.mutants)
    table = [
        [row.operator, *(str(n) for n in (row.killed, row.survived, row.equivalent, row.rest)), percent(row.kill_rate)]
        for row in found
    ]
    heads = ["operator", "killed", "survived", "equivalent", "not judged", "kill rate"]
    return rows("", heads, table, right=[1, 2, 3, 4, 5])


def tasks_table(results: Sequence[SelfTest]) -> Table:
    table = [
        [
            result.task,
            str(len(result.judged)),
            str(len(result.survivors)),
            f"{len(result.false_alarms)} of {len(result.originals)}",
            percent(result.kill_rate),
        ]
        for result in results
    ]
    judged, survived = sum(len(r.judged) for r in results), sum(len(r.survivors) for r in results)
    alarms, runs = sum(len(r.false_alarms) for r in results), sum(len(r.originals) for r in results)
    table.append(["all", str(judged), str(survived), f"{alarms} of {runs}", percent(kill_rate(results))])
    return rows("", ["task", "judged", "survived", "false alarms", "kill rate"], table, right=[1, 2, 3, 4])


def percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"


def document(result: SelfTest) -> dict[str, object]:
    """One task's result in plain JSON values: sources of survivors as diffs."""
    from kernelevo.selftest import rates

    return {
        "task": result.task,
        "kill_rate": result.kill_rate,
        "judged": len(result.judged),
        "false_alarms": [trial.reason for trial in result.false_alarms],
        "operators": [{"kill_rate": row.kill_rate, **_fields(row)} for row in rates(result.mutants)],
        "survivors": [
            {"mutant": str(trial.mutant), "diff": trial.mutant.diff(result.kernel, f"{result.task}.cu")}
            for trial in result.survivors
            if trial.mutant is not None
        ],
        "trials": [
            {
                "mutant": str(trial.mutant),
                "fate": trial.fate.value,
                "outcome": as_json(trial.outcome),
                "stage": trial.stage,
                "reason": trial.reason,
            }
            for trial in result.mutants
        ],
    }


def _fields(row: object) -> dict[str, object]:
    fields = as_json(row)
    assert isinstance(fields, dict)
    return fields
