"""`kernelevo evaluate TASK KERNEL.cu`."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from kernelevo.cli.archive import JsonOption
from kernelevo.cli.completion import complete_task
from kernelevo.cli.json import as_json
from kernelevo.cli.show import console, evaluation_lines
from kernelevo.config import read_settings
from kernelevo.errors import ArchiveError, KernelevoError, UsageError
from kernelevo.records import Candidate, Evaluation, Outcome

PACKAGE = Path(__file__).resolve().parent.parent


def register(app: typer.Typer) -> None:
    app.command()(evaluate)


def evaluate(
    task: Annotated[
        str,
        typer.Argument(help="a task's name, or the path of its folder or problem file", autocompletion=complete_task),
    ],
    kernel: Annotated[
        Path, typer.Argument(help="one CUDA source, a Python file with ModelNew, or - for standard input")
    ],
    device: Annotated[str, typer.Option(help="emulator or cuda")] = "emulator",
    json_: JsonOption = False,
    again: Annotated[bool, typer.Option("--again", help="judge anew a source that passed before")] = False,
    archive: Annotated[str | None, typer.Option(help="record the evaluation in this archive as well")] = None,
    sandbox: Annotated[str | None, typer.Option(help="required or best-effort [best-effort]")] = None,
) -> None:
    """Builds, verifies and times one kernel.

    A source that passed before, for the same task files, compilers and version of kernelevo, is not judged anew
    unless asked for. Exit code: 0 passed, 1 judged and not passed, 2 could not judge.
    """
    try:
        evaluation, kept = judge(task, kernel, device=device, again=again, archive=archive, sandbox=sandbox)
    except (KernelevoError, OSError) as error:
        if not json_:
            raise
        print(json.dumps({"error": type(error).__name__, "message": str(error)}))
        sys.exit(2)
    if json_:
        document = as_json(evaluation)
        assert isinstance(document, dict)
        print(json.dumps({"judged_before": kept, **document}, indent=2))
    else:
        for line in evaluation_lines(evaluation):
            console.print(line, markup=False)
        if kept:
            console.print("  this source passed before; --again judges it anew")
    sys.exit(exit_code(evaluation))


def judge(
    task: str, kernel: Path, *, device: str, again: bool, archive: str | None, sandbox: str | None = None
) -> tuple[Evaluation, bool]:
    """The evaluation, and whether it is one that was kept."""
    from kernelevo.evaluate import evaluate_file, read_kernel_file
    from kernelevo.tasks.load import entry_of, identity

    settings = read_settings(sandbox=sandbox)
    if str(kernel) == "-":
        if archive is not None:
            raise UsageError("--archive needs a file, not standard input", next_step="write the kernel to a file")
        return evaluate_file(task, kernel, device=device, settings=settings), False
    candidate = Candidate(source=read_kernel_file(kernel), entry=entry_of(task, root=settings.tasks))
    verdicts = settings.cache / f"verdicts-{version()}.sqlite"
    evaluation = None if again else recall(candidate, *identity(task, root=settings.tasks), device, verdicts)
    kept = evaluation is not None
    evaluation = evaluation or evaluate_file(task, kernel, device=device, settings=settings)
    places = [*([str(verdicts)] if evaluation.passed and not kept else []), *([archive] if archive else [])]
    if places:
        record(task, candidate, evaluation, places)
    return evaluation, kept


def recall(candidate: Candidate, task: str, task_digest: str, device: str, verdicts: Path) -> Evaluation | None:
    """The kept evaluation of a source that passed, or None."""
    from kernelevo.archive import open_archive

    if not verdicts.exists():
        return None
    try:
        with open_archive(verdicts, read_only=True) as opened:
            found = opened.known_for(candidate.id, task, task_digest, device)
    except ArchiveError:  # a damaged cache costs time, nothing else
        return None
    return found if found and found.passed else None


def record(task: str, candidate: Candidate, evaluation: Evaluation, places: Sequence[str]) -> None:
    """Stores an evaluation, outside any run, in archives."""
    from kernelevo.archive import open_archive
    from kernelevo.tasks import load_task

    loaded = load_task(task, root=read_settings().tasks)
    for place in places:
        with open_archive(place) as opened:
            opened.record_evaluation(loaded, candidate, evaluation)


def version() -> str:
    """Content hash of everything a verdict depends on besides task and source: kernelevo's files and the compilers."""
    from kernelevo.toolchain import find_toolchain

    state = hashlib.sha256(repr(find_toolchain(read_settings().host_compiler)).encode())
    for path in sorted(PACKAGE.rglob("*")):
        if path.suffix in (".py", ".so", ".toml", ".h") and path.is_file():
            state.update(f"{path.relative_to(PACKAGE)} {path.stat().st_size}:".encode())
            state.update(path.read_bytes())
    return state.hexdigest()[:16]


def exit_code(evaluation: Evaluation) -> int:
    """0 passed, 1 judged and not passed, 2 not judged: what the emulator lacks says nothing about the kernel."""
    if evaluation.passed:
        return 0
    return 2 if evaluation.status == Outcome.UNSUPPORTED.value else 1
