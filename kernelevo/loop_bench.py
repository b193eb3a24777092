"""What it brings that proposals, builds and verifications overlap: for `kernelevo bench loop`.

Takes a task, gives two runs of the same length with a model that answers after a fixed time: one that does one thing
after the other, and one that does what it can at once. The model's answers are real rewrites of real kernels, so every
candidate is built, judged and timed. Evaluations are of new kernels; compilers' and translators' caches start empty.

Not covered: what the provider of a real model makes of several requests at once.
"""

from __future__ import annotations

import math
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from kernelevo.config import Settings
from kernelevo.evolve import evolve
from kernelevo.models import Failed, unwatched
from kernelevo.models.mutate import Mutate
from kernelevo.records import Prompt, Reply, Task
from kernelevo.site import Event, Step


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopTime:
    """One run."""

    name: str
    candidates: int  # told, the task's own kernel apart
    seconds: float  # from the first request to the last candidate told
    idle: float  # share of these seconds in which no candidate was being evaluated

    @property
    def per_hour(self) -> float:
        return self.candidates / self.seconds * 3600


class Slow:
    """`mutate` as a paid model that thinks for a fixed time."""

    free = False

    def __init__(self, latency_seconds: float) -> None:
        self.name = f"slow mutate, {latency_seconds:g} s"
        self._latency_seconds = latency_seconds
        self._mutate = Mutate()

    def propose(self, prompt: Prompt, *, limit_usd: float | None = None, failed: Failed = unwatched) -> Reply:
        time.sleep(self._latency_seconds)
        return self._mutate.propose(prompt)


def bench_loop(task: Task, settings: Settings, *, candidates: int, latency_seconds: float) -> tuple[LoopTime, LoopTime]:
    """A run in which nothing overlaps, and one with `settings.proposals` requests under way.

    candidates: proposals of each, rounded up to whole generations of `settings.proposals`.
    """
    at_once = settings.proposals
    generations = -(-candidates // at_once)
    serial = settings.model_copy(update={"proposals": 1, "parallel": 1})
    return (
        timed_run("one after the other", task, serial, generations * at_once, 1, 0, latency_seconds),
        timed_run(f"{at_once} requests under way", task, settings, generations, at_once, 1, latency_seconds),
    )


def timed_run(
    name: str,
    task: Task,
    settings: Settings,
    generations: int,
    population: int,
    lookahead: int,
    latency_seconds: float,
) -> LoopTime:
    from kernelevo.archive import open_archive

    started: dict[int, float] = {}  # iteration -> when its evaluation began
    busy: list[tuple[float, float]] = []
    asked: list[float] = []

    def watch(event: Event) -> None:
        now = time.monotonic()
        if event.job is None or event.job.generation == 0:
            return
        if event.step is Step.ASKED:
            asked.append(now)
        elif event.step is Step.PROPOSED:
            started[event.job.iteration] = now
        elif event.step is Step.TOLD:
            busy.append((started.get(event.job.iteration, now), now))

    with tempfile.TemporaryDirectory(prefix="kernelevo-bench-") as folder:
        cache = Path(folder) / "cache"
        cache.mkdir()
        (settings.cache / "host").mkdir(parents=True, exist_ok=True)
        (cache / "host").symlink_to((settings.cache / "host").resolve())  # precompiled headers are shared
        with open_archive(Path(folder) / "a.sqlite") as archive:
            evolve(
                task,
                archive,
                models=[Slow(latency_seconds)],
                generations=generations,
                population=population,
                lookahead=lookahead,
                settings=settings.model_copy(update={"cache": cache}),
                watch=watch,
            )
    first, last = min(asked), max(end for _, end in busy)
    return LoopTime(name=name, candidates=len(busy), seconds=last - first, idle=1 - covered(busy) / (last - first))


def covered(intervals: list[tuple[float, float]]) -> float:
    """The length of their union."""
    total, reached = 0.0, -math.inf
    for start, end in sorted(intervals):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total
