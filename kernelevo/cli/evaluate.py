"""`kernelevo evaluate TASK KERNEL.cu`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from kernelevo.cli.json import as_json
from kernelevo.cli.show import console, evaluation_lines
from kernelevo.config import read_settings
from kernelevo.errors import KernelevoError
from kernelevo.records import Evaluation, Outcome


def register(app: typer.Typer) -> None:
    app.command()(evaluate)


def evaluate(
    task: Annotated[str, typer.Argument(help="a task's name, or the path of its folder")],
    kernel: Annotated[Path, typer.Argument(help="one CUDA source, or - for standard input")],
    device: Annotated[str, typer.Option(help="emulator or cuda")] = "emulator",
    json_: Annotated[bool, typer.Option("--json", help="print one JSON document instead of text")] = False,
) -> None:
    """Builds, verifies and times one kernel.

    Exit code: 0 passed, 1 judged and not passed, 2 could not judge.
    """
    from kernelevo.evaluate import evaluate_file

    try:
        evaluation = evaluate_file(task, kernel, device=device, settings=read_settings())
    except (KernelevoError, OSError) as error:
        if not json_:
            raise
        print(json.dumps({"error": type(error).__name__, "message": str(error)}))
        sys.exit(2)
    if json_:
        print(json.dumps(as_json(evaluation), indent=2))
    else:
        for line in evaluation_lines(evaluation):
            console.print(line, markup=False)
    sys.exit(exit_code(evaluation))


def exit_code(evaluation: Evaluation) -> int:
    """0 passed, 1 judged and not passed, 2 not judged: what the emulator lacks says nothing about the kernel."""
    if evaluation.passed:
        return 0
    return 2 if evaluation.status == Outcome.UNSUPPORTED.value else 1
