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
from kernelevo.errors import KernelevoError, UsageError
from kernelevo.records import Candidate, Evaluation, Outcome


def register(app: typer.Typer) -> None:
    app.command()(evaluate)


def evaluate(
    task: Annotated[str, typer.Argument(help="a task's name, or the path of its folder")],
    kernel: Annotated[Path, typer.Argument(help="one CUDA source, or - for standard input")],
    device: Annotated[str, typer.Option(help="emulator or cuda")] = "emulator",
    json_: Annotated[bool, typer.Option("--json", help="print one JSON document instead of text")] = False,
    archive: Annotated[
        str | None, typer.Option(help="record the evaluation in this archive; otherwise nowhere")
    ] = None,
) -> None:
    """Builds, verifies and times one kernel.

    Exit code: 0 passed, 1 judged and not passed, 2 could not judge.
    """
    from kernelevo.evaluate import evaluate_file

    try:
        if archive is not None and str(kernel) == "-":
            raise UsageError("--archive needs a file, not standard input", next_step="write the kernel to a file")
        evaluation = evaluate_file(task, kernel, device=device, settings=read_settings())
        if archive is not None:
            record(task, kernel, evaluation, archive)
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


def record(task: str, kernel: Path, evaluation: Evaluation, archive: str) -> None:
    """Stores an evaluation outside any run."""
    from kernelevo.archive import open_archive
    from kernelevo.tasks import load_task

    loaded = load_task(task, root=read_settings().tasks)
    candidate = Candidate(source=kernel.read_text(encoding="utf-8"), entry=loaded.entry)
    with open_archive(archive) as opened:
        opened.record_evaluation(loaded, candidate, evaluation)


def exit_code(evaluation: Evaluation) -> int:
    """0 passed, 1 judged and not passed, 2 not judged: what the emulator lacks says nothing about the kernel."""
    if evaluation.passed:
        return 0
    return 2 if evaluation.status == Outcome.UNSUPPORTED.value else 1
