"""`kernelevo bench build|emulator|archive`: ratios measured in one run, with the machine named."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import typer

from kernelevo.cli.show import console, rows
from kernelevo.config import read_settings

group = typer.Typer(help="Measures this machine: every number is of this run.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    app.add_typer(group, name="bench")


def machine() -> str:
    """The machine in one line: processor, cores that this process may use, memory, Python."""
    processor = platform.processor() or platform.machine()
    facts = Path("/proc/cpuinfo")
    if facts.exists():
        names = [line.split(":", 1)[1].strip() for line in facts.read_text().splitlines() if "model name" in line]
        processor = names[0] if names else processor
    cores = len(os.sched_getaffinity(0))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{processor}, {cores} cores, {memory:.0f} GiB, Python {platform.python_version()}"


@group.command()
def archive() -> None:
    """Bookkeeping per iteration with 1,000 and with 100,000 candidates in the archive."""
    from kernelevo.archive.bench import bench_archive

    console.print(machine())
    cells = [[row.name, f"{row.small_ms:.2f}", f"{row.large_ms:.2f}"] for row in bench_archive()]
    console.print(rows("", ["what", "ms at 1,000", "ms at 100,000"], cells, right=[1, 2]))
