"""`kernelevo report RUN -o report.html`."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from kernelevo.cli.archive import ArchiveOption, opened
from kernelevo.cli.completion import RunArgument
from kernelevo.cli.show import console
from kernelevo.config import read_settings
from kernelevo.errors import UsageError


def register(app: typer.Typer) -> None:
    app.command()(report)


def report(
    run: RunArgument,
    output: Annotated[Path, typer.Option("--output", "-o", help="file to write; one that exists is replaced")] = Path(
        "report.html"
    ),
    archive: ArchiveOption = None,
) -> None:
    """Writes a run as one HTML file that needs no network: lineage, progress, credit, failures, sources, changes.

    Times say whether they are MEASURED or PREDICTED; what is not known is missing, and says why.
    """
    from kernelevo.emulator.predict import load_gpu
    from kernelevo.report import report as page_of
    from kernelevo.report import roof_of

    if output.is_dir():
        raise UsageError(f"{output} is a folder", next_step=f"name a file, for example {output / 'report.html'}")
    if not output.absolute().parent.is_dir():
        raise UsageError(f"{output}: there is no folder {output.parent}", next_step=f"mkdir -p {output.parent}")
    gpu = load_gpu()
    with opened(archive) as archived:
        page = page_of(
            archived,
            run,
            roofs=(roof_of(gpu.title, gpu.constants),),
            place=read_settings(archive=archive).archive,
            now=datetime.now(UTC),
        )
    output.write_bytes(page.encode(errors="backslashreplace"))
    console.print(f"{output}: {output.stat().st_size / 1e6:.1f} MB; open it in a browser", markup=False)
