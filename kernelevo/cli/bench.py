"""`kernelevo bench build|emulator|evaluate|stages|loop|archive`: ratios measured in one run, with the machine named."""

from __future__ import annotations

import math
import os
import platform
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kernelevo.cli.archive import JsonOption, print_json
from kernelevo.cli.completion import complete_task
from kernelevo.cli.show import console, rows
from kernelevo.config import Settings, read_settings
from kernelevo.errors import UsageError, WorkerError
from kernelevo.records import Candidate, Task

if TYPE_CHECKING:
    from kernelevo.archive.bench import Operation

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
def archive(json_: JsonOption = False) -> None:
    """One iteration's bookkeeping, selection, novelty, leaderboard and opening: with 1,000 candidates and 100,000.

    Takes some minutes and 1.3 GB below the temporary folder. A ratio of 1 means that it does not grow.
    """
    from kernelevo.archive.bench import bench_archive

    found = bench_archive(operations={"decide(): parents, operator, model": deciding, "novelty: nearest()": comparing})
    if json_:
        rows_ = [{**asdict(row), "ratio": row.ratio} for row in found]
        return print_json({"machine": machine(), "rows": rows_})
    console.print(machine())
    cells = [[row.name, f"{row.small_ms:.2f}", f"{row.large_ms:.2f}", f"{row.ratio:.1f}"] for row in found]
    console.print(rows("", ["what", "ms at 1,000", "ms at 100,000", "ratio"], cells, right=[1, 2, 3]))


def deciding() -> Operation:
    """The whole decision of the strategy that a run has unless told otherwise."""
    from kernelevo.archive.bench import RUN
    from kernelevo.decide import decide
    from kernelevo.selection import load_strategy

    strategy = load_strategy(RUN.strategy)
    return lambda archive, job, _: decide(RUN, archive, strategy, job.iteration)


def comparing() -> Operation:
    """How like the run's newest sources a new one is, as a paid model's is asked."""
    from kernelevo.archive.bench import RUN
    from kernelevo.build.canonical import code_tokens
    from kernelevo.novelty import Novelty
    from kernelevo.proposing import likest

    novelty = Novelty(code_tokens)
    return lambda archive, job, candidate: likest(novelty, archive, RUN, job.generation, candidate)


@group.command()
def evaluate(
    task: Annotated[str, typer.Argument(help="a task's name", autocompletion=complete_task)] = "rmsnorm",
    candidates: Annotated[int, typer.Option(min=1, help="different ones, for verdicts per minute")] = 12,
    json_: JsonOption = False,
) -> None:
    """Seconds of `kernelevo evaluate` for a new source and again, and full verdicts per minute inside one process."""
    from kernelevo.tasks import load_task

    settings = read_settings()
    loaded = load_task(task, root=settings.tasks)
    if loaded.seed_source is None:
        raise UsageError(f"task {task} has no seed kernel to evaluate", next_step="name another task")
    mark = secrets.token_hex(8)  # makes sources that no cache has seen
    with tempfile.TemporaryDirectory(prefix="kernelevo-bench-") as folder:
        kernel = Path(folder) / "kernel.cu"
        kernel.write_text(f"{loaded.seed_source}// {mark}\n")
        seconds = {
            what: command_seconds(task, kernel, *options)
            for what, options in (
                ("new source", ()),
                ("same source, verdict kept", ()),
                ("same source, build kept, judged anew", ("--again",)),
            )
        }
    sources = [f"{loaded.seed_source}// {mark} {number}\n" for number in range(candidates)]
    rate = verdicts_per_minute(loaded, sources, settings)
    if json_:
        return print_json({"machine": machine(), "task": task, "seconds": seconds, "verdicts_per_minute": rate})
    console.print(machine())
    cells = [[f"kernelevo evaluate {task}, {what}", f"{value:.2f} s"] for what, value in seconds.items()]
    cells.append([f"full verdicts per minute, {settings.parallel} at a time", f"{rate:.1f}"])
    console.print(rows("", ["what", "this run"], cells, right=[1]))


@group.command()
def stages(json_: JsonOption = False) -> None:
    """Seconds of each stage of an evaluation, for the seed kernel of every task, promotion included."""
    from kernelevo.evaluate import evaluate as evaluate_candidate
    from kernelevo.evaluate import load_device
    from kernelevo.records import STAGES
    from kernelevo.tasks import list_tasks, load_task

    settings = read_settings()
    found: dict[str, dict[str, float]] = {}
    with load_device("emulator", settings) as device:
        for summary in list_tasks(root=settings.tasks):
            task = load_task(summary.name, root=settings.tasks)
            if task.seed_source is None:
                continue
            source = f"{task.seed_source}// {secrets.token_hex(8)}\n"  # no cache has seen it
            candidate = Candidate(source=source, entry=task.entry)
            done = evaluate_candidate(task, candidate, device=device, settings=settings, champion_ns=math.inf)
            if not done.promoted:
                raise WorkerError(f"the seed of {task.name} was not promoted: {done.feedback}")
            found[task.name] = {stage.name: stage.seconds for stage in done.stages}
    if json_:
        return print_json({"machine": machine(), "seconds": found})
    console.print(machine())
    cells = [
        [name, *(f"{seconds[stage]:.2f}" for stage in STAGES), f"{sum(seconds.values()):.2f}"]
        for name, seconds in found.items()
    ]
    columns = ["seconds", *STAGES, "all"]
    console.print(rows("", columns, cells, right=range(1, len(columns))))


@group.command()
def loop(
    task: Annotated[str, typer.Argument(help="a task's name", autocompletion=complete_task)] = "gelu",
    candidates: Annotated[int, typer.Option(min=1, help="proposals of each run")] = 12,
    latency: Annotated[float, typer.Option(min=0, help="seconds that the model takes for a reply")] = 10.0,
    json_: JsonOption = False,
) -> None:
    """Candidates per hour and idle time of the device, with one request under way and with several."""
    from kernelevo.loop_bench import bench_loop
    from kernelevo.tasks import load_task

    settings = read_settings()
    serial, overlapped = bench_loop(
        load_task(task, root=settings.tasks), settings, candidates=candidates, latency_seconds=latency
    )
    if json_:
        loops = [{**asdict(r), "per_hour": r.per_hour} for r in (serial, overlapped)]
        return print_json({"machine": machine(), "loops": loops, "ratio": overlapped.per_hour / serial.per_hour})
    console.print(machine())
    cells = [
        [r.name, str(r.candidates), f"{r.seconds:.1f}", f"{r.per_hour:.0f}", f"{r.idle:.0%}"]
        for r in (serial, overlapped)
    ]
    columns = ["loop", "candidates", "seconds", "per hour", "device idle"]
    console.print(rows("", columns, cells, right=[1, 2, 3, 4]))
    console.print(f"{overlapped.per_hour / serial.per_hour:.2f} times as many candidates per hour")


def command_seconds(task: str, kernel: Path, *options: str) -> float:
    """Wall-clock seconds of the command, from the start of its process. Raises WorkerError when it does not pass."""
    command = [sys.executable, "-c", "from kernelevo.cli import main; main()", "evaluate", task, str(kernel)]
    command += options
    started = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise WorkerError(f"the benchmark's kernel did not pass: {done.stdout}{done.stderr}")
    return time.monotonic() - started


def verdicts_per_minute(task: Task, sources: Sequence[str], settings: Settings) -> float:
    """Of builds, verdicts and times of different sources, `settings.parallel` at a time, on one device."""
    from kernelevo.evaluate import evaluate as evaluate_candidate
    from kernelevo.evaluate import load_device

    candidates = [Candidate(source=source, entry=task.entry) for source in sources]
    with load_device("emulator", settings) as device, ThreadPoolExecutor(settings.parallel) as pool:
        started = time.monotonic()
        done = list(pool.map(lambda c: evaluate_candidate(task, c, device=device, settings=settings), candidates))
        minutes = (time.monotonic() - started) / 60
    if not all(evaluation.passed for evaluation in done):
        raise WorkerError(f"the benchmark's kernels did not all pass: {[evaluation.status for evaluation in done]}")
    return len(done) / minutes


@group.command()
def emulator(threads: Annotated[int, typer.Option(min=1, help="of this CPU")] = 1, json_: JsonOption = False) -> None:
    """The emulator's speed on kernels of its own, and how long it takes to translate them, cold and cached."""
    from kernelevo.emulator.bench import bench
    from kernelevo.toolchain import find_toolchain

    found = bench(threads=threads, nvcc=str(find_toolchain().nvcc.path))
    if json_:
        return print_json({"machine": machine(), "kernels": found})
    console.print(machine())
    cells = [
        [
            speed.name,
            f"{speed.rate:.1f} {speed.unit}",
            f"{speed.seconds * 1e3:.2f}",
            f"{speed.compile_cold_seconds * 1e3:.0f}",
            f"{speed.compile_cached_seconds * 1e3:.1f}",
            f"{speed.checked_ratio:.1f}x",
            f"{speed.raced_ratio:.0f}x",
        ]
        for speed in found
    ]
    columns = ["kernel", f"rate on {threads} threads", "ms", "compile ms, cold", "from cache", "checked", "races too"]
    console.print(rows("", columns, cells, right=[1, 2, 3, 4, 5, 6]))


@group.command()
def build(json_: JsonOption = False) -> None:
    """Cold builds of one kernel with each host compiler, beside the standard torch build of it (about two minutes)."""
    from kernelevo.build.bench import bench_build
    from kernelevo.toolchain import find_toolchain

    found = bench_build(find_toolchain(), read_settings().cache)
    if json_:
        return print_json({"machine": machine(), "builds": found})
    console.print(machine())
    cells = [
        [
            row.name,
            f"{row.seconds:.2f}",
            f"{row.ratio:.0f}x" if row.ratio else "",
            f"{row.precompile_seconds:.0f}" if row.precompile_seconds else "",
        ]
        for row in found
    ]
    console.print(rows("", ["build", "seconds", "faster", "precompiling, once"], cells, right=[1, 2, 3]))
