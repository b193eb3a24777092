"""A run that kills itself at a point: `python child.py TASK ARCHIVE URL POINT`; with POINT "none" it ends in order.

The points are boundaries of the loop, reached through what the loop calls anyway: the archive's methods and `watch`.
SIGKILL leaves no time for anything.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from kernelevo import evolve, load_task, open_archive
from kernelevo.archive import Archive
from kernelevo.config import read_settings
from kernelevo.site import Event, Step

ITERATION = 2  # the last one

Then = Callable[[], None]


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def before(owner: Any, method: str, *, when: Callable[..., bool]) -> None:
    """Dies instead of the call."""
    real = getattr(owner, method)
    setattr(owner, method, lambda *a, **k: die() if when(*a, **k) else real(*a, **k))


def after(owner: Any, method: str, *, when: Callable[..., bool]) -> None:
    """Dies when the call has returned."""
    real = getattr(owner, method)

    def call(*a: Any, **k: Any) -> Any:
        result = real(*a, **k)
        if when(*a, **k):
            die()
        return result

    setattr(owner, method, call)


def of_job(job: Any, *_: Any, **__: Any) -> bool:
    return bool(job.iteration == ITERATION)


def always(*_: Any, **__: Any) -> bool:
    return True


ARCHIVE_POINTS: dict[str, Callable[[Archive], None]] = {
    "before the job is stored": lambda a: before(a, "record_job", when=of_job),
    "after the job is stored": lambda a: after(a, "record_job", when=of_job),
    "before the request is written down": lambda a: before(a.ledger, "begin", when=of_job),
    "after the request is written down": lambda a: after(a.ledger, "begin", when=of_job),
    "when the reply has come and is not stored": lambda a: before(a, "record_reply", when=of_job),
    "after the reply is stored": lambda a: after(a, "record_reply", when=of_job),
    "before the evaluation is recorded": lambda a: before(a, "record", when=of_job),
    "after the evaluation is recorded": lambda a: after(a, "record", when=of_job),
    "before the run is finished": lambda a: before(a, "finish_run", when=always),
    "after the run is finished": lambda a: after(a, "finish_run", when=always),
}
STAGES = ("read", "static", "build", "smoke", "correctness", "measure")


def main() -> None:
    task, path, url, point = sys.argv[1:]
    stage = point.removeprefix("in stage ")

    def watch(event: Event) -> None:
        if event.job is None or event.job.iteration != ITERATION:
            return
        if point == "when the candidate is read" and event.step is Step.PROPOSED:
            die()
        if event.step is Step.STAGE and event.text.partition(":")[0] == stage:
            die()

    settings = read_settings(parallel=1, proposals=1)
    with open_archive(path) as archive:
        runs = archive.list_runs()
        if point in ARCHIVE_POINTS:
            ARCHIVE_POINTS[point](archive)
        evolve(
            load_task(task),
            archive,
            models=[f"openai:m@{url}/v1"],
            strategy="greedy",
            generations=2,
            population=1,
            lookahead=0,
            resume=runs[0].run.id if runs else None,
            settings=settings,
            watch=watch,
        )


if __name__ == "__main__":
    main()
