"""Does verification work? Mutation testing of a task's seed through the real build, device and verifier.

    self_test(task, device, settings)   -> SelfTest: which mutants of the seed were caught, how, and which were not

Takes a task with a seed kernel; gives facts. The seed itself is verified first, several times, on fresh hidden cases:
a rejection there is a false alarm. What survives is either equivalent to the seed or a hole in the verifier or the
task's cases: see the survivors. Nothing is timed and nothing is archived.
"""

from __future__ import annotations

import random
import secrets
from collections.abc import Callable
from dataclasses import dataclass

from kernelevo.build import build
from kernelevo.config import Settings
from kernelevo.devices import Device
from kernelevo.errors import UsageError
from kernelevo.records import Candidate, Outcome, Purpose, Task
from kernelevo.tasks import hidden_cases
from kernelevo.toolchain import Toolchain, find_toolchain
from kernelevo.verify import verify
from kernelevo.verify.mutants import Mutant, mutants


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One mutant, or the seed, and what was found."""

    mutant: Mutant | None  # None for the seed
    outcome: Outcome | None  # None when it does not compile
    reason: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SelfTest:
    """All trials of one task."""

    task: str
    seeds: tuple[Trial, ...]
    mutants: tuple[Trial, ...]

    @property
    def false_alarms(self) -> tuple[Trial, ...]:
        return tuple(trial for trial in self.seeds if trial.outcome is not Outcome.PASSED)

    @property
    def judged(self) -> tuple[Trial, ...]:
        """Mutants that compile and that the device can run."""
        return tuple(trial for trial in self.mutants if trial.outcome not in (None, Outcome.UNSUPPORTED))

    @property
    def survivors(self) -> tuple[Trial, ...]:
        return tuple(trial for trial in self.mutants if trial.outcome is Outcome.PASSED)

    @property
    def kill_rate(self) -> float | None:
        """Share of judged mutants that were rejected; None when there was none."""
        return 1.0 - len(self.survivors) / len(self.judged) if self.judged else None


def self_test(
    task: Task,
    device: Device,
    settings: Settings,
    *,
    limit: int | None = None,
    seed: int = 0,
    repeats: int = 3,
    toolchain: Toolchain | None = None,
    progress: Callable[[Trial], None] | None = None,
) -> SelfTest:
    """Verifies the task's seed `repeats` times, then its mutants: all of them, or `limit` drawn by `seed`.

    Raises UsageError when the task has no seed or the seed does not build, and what build and verify raise.
    """
    if task.seed_source is None:
        raise UsageError(f"task {task.name} has no seed.cu to mutate", next_step="write one, or choose another task")
    toolchain = toolchain or find_toolchain(settings.host_compiler)

    def judge(source: str, mutant: Mutant | None) -> Trial:
        trial = _judge(task, source, mutant, device, settings, toolchain)
        if progress is not None:
            progress(trial)
        return trial

    chosen = list(mutants(task.seed_source))
    if limit is not None and limit < len(chosen):
        picked = random.Random(seed).sample(range(len(chosen)), limit)
        chosen = [chosen[index] for index in sorted(picked)]
    seeds = tuple(judge(task.seed_source, None) for _ in range(repeats))
    if any(trial.outcome is None for trial in seeds):
        raise UsageError(f"the seed of task {task.name} does not build: {seeds[0].reason}", next_step="repair seed.cu")
    return SelfTest(task=task.name, seeds=seeds, mutants=tuple(judge(mutant.source, mutant) for mutant in chosen))


def _judge(
    task: Task, source: str, mutant: Mutant | None, device: Device, settings: Settings, toolchain: Toolchain
) -> Trial:
    candidate = Candidate(source=source, entry=task.entry)
    built = build(candidate, target=device.target, toolchain=toolchain, cache=settings.cache)
    if not built.succeeded:
        errors = [d.text for d in built.diagnostics if d.severity == "error"] or [d.text for d in built.diagnostics]
        return Trial(mutant=mutant, outcome=None, reason=errors[0] if errors else "the build failed")
    tests = tuple(case for case in task.cases if case.purpose is Purpose.TEST)
    verdict = verify(
        task,
        built,
        device,
        cases=tests + hidden_cases(task, secrets.randbits(62)),
        entropy=secrets.randbits(62),
        timeout_seconds=settings.timeout_seconds,
        memory_bytes=settings.memory_bytes,
    )
    return Trial(mutant=mutant, outcome=verdict.outcome, reason=verdict.reason)
