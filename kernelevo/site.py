"""What all iterations of one run share: a record of open things, passed down instead of a dozen arguments."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

from kernelevo.budget import Budget
from kernelevo.build.canonical import code_tokens
from kernelevo.config import Settings
from kernelevo.devices import Device
from kernelevo.models import Model
from kernelevo.novelty import Novelty
from kernelevo.records import Candidate, Evaluation, Job, Run, Task
from kernelevo.selection import Strategy

if TYPE_CHECKING:
    from kernelevo.archive import Archive


class Step(Enum):
    """What an Event reports."""

    ASKED = "asked"  # job
    CALL_FAILED = "call failed"  # job; text is the provider's words; it is asked again if that may help
    PROPOSED = "proposed"  # job, candidate (None: the replies held none, and text says why)
    STAGE = "stage"  # job, candidate; text is the stage reached
    TOLD = "told"  # job, candidate, evaluation (None: it was not evaluated, and text says why)
    STOPPING = "stopping"  # text says why nothing more is begun


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One step of a run, for whoever watches."""

    step: Step
    job: Job | None = None  # None: it is about the whole run
    candidate: Candidate | None = None
    evaluation: Evaluation | None = None
    text: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """One run with everything it works with."""

    run: Run
    task: Task
    archive: Archive
    device: Device
    strategy: Strategy
    models: Mapping[str, Model]
    budget: Budget
    settings: Settings
    watch: Callable[[Event], None]  # may be called from any thread
    judges: tuple[Model, ...] = ()  # none: candidates are not judged before they are evaluated
    novelty: Novelty = field(default_factory=lambda: Novelty(code_tokens))  # of the run's sources
    stopping: threading.Event = field(default_factory=threading.Event)  # set: nothing more is to be begun
    started: float = field(default_factory=time.monotonic)
    floor_ns: float | None = None  # what DRAM bandwidth alone takes; None: not known, or nobody asked

    @property
    def stop_file(self) -> Path:
        """A file that ends the run when it appears. `kernelevo stop RUN` writes it."""
        return stop_file(self.archive, self.run.id)


def stop_file(archive: Archive, run: str) -> Path:
    """Beside an SQLite archive; in the working directory for others."""
    return Path(f"{archive.file or 'kernelevo'}.{run}.stop")
