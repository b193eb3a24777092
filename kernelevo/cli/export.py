"""`kernelevo export`."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from kernelevo.cli.archive import ArchiveOption, JsonOption, opened, print_json
from kernelevo.cli.completion import complete_id
from kernelevo.cli.show import console
from kernelevo.config import read_settings
from kernelevo.errors import UsageError


def register(app: typer.Typer) -> None:
    app.command()(export)


def export(
    wanted: Annotated[
        str,
        typer.Argument(
            metavar="RUN|CANDIDATE|TASK",
            help="an id or its beginning; the best of a run or a task",
            autocompletion=complete_id,
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="folder of the package: absent or empty")],
    name: Annotated[str | None, typer.Option(help="name to import [TASK_kernel]")] = None,
    backward: Annotated[
        str | None, typer.Option(help="candidate that computes the gradients, or none [best of TASK_backward]")
    ] = None,
    task: Annotated[str | None, typer.Option(help="folder of the task, where it is kept elsewhere")] = None,
    license_: Annotated[
        str | None, typer.Option("--license", help="MIT, BSD-3-Clause or Apache-2.0 [none is written]")
    ] = None,
    author: Annotated[str, typer.Option(help="named in the licence")] = "the authors",
    unverified: Annotated[
        bool, typer.Option("--unverified", help="take what passed and was not promoted; stamps the package")
    ] = False,
    wheel: Annotated[bool, typer.Option("--wheel", help="build a wheel as well, in dist/ of the folder")] = False,
    archive: ArchiveOption = None,
    json_: JsonOption = False,
) -> None:
    """Writes a pip-installable PyTorch extension: operator, fallback, gradients, tests, evidence."""
    from kernelevo.export import Standard
    from kernelevo.export import export as write

    with opened(archive) as archived:
        done = write(
            archived,
            wanted,
            output,
            standard=Standard.PASSED if unverified else Standard.PROMOTED,
            name=name,
            backward=backward,
            licence=license_,
            author=author,
            root=read_settings().tasks,
            task=task,
        )
    built = build_wheel(output) if wheel else None
    promoted = done.chosen.evaluation.promoted
    if json_:
        return print_json(
            {
                "folder": done.folder,
                "package": done.package,
                "operation": done.operation,
                "candidate": done.chosen.candidate.id,
                "backward": done.backward and done.backward.candidate.id,
                "promoted": promoted,
                "wheel": built,
            }
        )
    stamp = "" if promoted else ", UNVERIFIED: it was not promoted"
    console.print(f"{output}: {done.package}, {done.chosen.candidate.id}{stamp}", markup=False)
    console.print(f"gradients {done.gradients}", markup=False)
    if license_ is None:
        console.print("it has no licence: --license writes one", markup=False)
    if built:
        console.print(str(built), markup=False)
    console.print(f"next: pip install {built or f'--no-build-isolation {output}'}", markup=False)
    console.print(f"      from {done.package} import {done.operation}", markup=False)


def build_wheel(folder: Path) -> Path:
    """By pip, with the PyTorch that is installed here; where it is a CUDA build, the kernels are compiled."""
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    with tempfile.TemporaryDirectory() as work:  # setuptools leaves things beside the sources
        copy = shutil.copytree(folder, Path(work) / folder.name)
        done = subprocess.run(
            [*command, "--wheel-dir", str(folder / "dist"), str(copy)], capture_output=True, text=True, check=False
        )
    if done.returncode:
        raise UsageError(
            f"the package is written, its wheel could not be built: {(done.stderr or done.stdout).strip()[-2000:]}",
            next_step=f"pip wheel --no-deps {folder}",
        )
    return next((folder / "dist").glob("*.whl"))
