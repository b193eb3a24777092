"""Does verification work? Mutation testing of a task's kernel through the real build, device and cascade.

    self_test(task, device, settings)   -> SelfTest: which mutants of the kernel were caught, how, and which were not

Takes a task and a right kernel for it, by default its seed; gives facts. The kernel itself is verified first, several
times, on fresh hidden cases: a rejection there is a false alarm. A mutant that compiles to the same code as the
kernel, host and device, is equivalent and counts nowhere. What survives then is a hole in the verifier or the task's
cases, or equivalent in its effect alone (another thread writes a value that all threads have): see its diff. Nothing
is timed or kept.
"""

from __future__ import annotations

import enum
import random
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kernelevo.build import build, warm
from kernelevo.build.canonical import kernel_key
from kernelevo.cascade import StageLog, draw_cases, prove
from kernelevo.config import Settings
from kernelevo.devices import Device
from kernelevo.errors import UsageError
from kernelevo.records import Build, Candidate, Outcome, Task
from kernelevo.toolchain import Toolchain, find_toolchain
from kernelevo.verify.mutants import HALF, Mutant, mutants

LEAST_SECONDS = 5.0  # that a call of a mutant may take: less would call a busy machine a mistake
SLOWER = 4.0  # times as long as the kernel itself: a mutant that takes longer is taken to run for ever


class Fate(enum.Enum):
    """What became of a mutant."""

    KILLED = "killed"  # built, and rejected
    SURVIVED = "survived"  # built, other code than the kernel's, and passed
    EQUIVALENT = "equivalent"  # compiles to the same code
    NOT_COMPILED = "does not compile"
    UNSUPPORTED = "unsupported"  # by the device: nothing was learned


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One mutant, or the kernel itself, and what was found."""

    mutant: Mutant | None  # None for the kernel itself
    fate: Fate
    outcome: Outcome | None  # of verification; None when there was none
    reason: str | None
    stage: str | None = None  # of the cascade, that rejected it
    longest_seconds: float = 0.0  # of its calls for one case


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorRate:
    """How the mutants of one operator fared."""

    operator: str
    killed: int
    survived: int
    equivalent: int
    rest: int  # did not compile, or not supported

    @property
    def kill_rate(self) -> float | None:
        judged = self.killed + self.survived
        return self.killed / judged if judged else None


@dataclass(frozen=True, slots=True, kw_only=True)
class SelfTest:
    """All trials of one kernel."""

    task: str
    kernel: str  # its source
    originals: tuple[Trial, ...]
    mutants: tuple[Trial, ...]

    @property
    def false_alarms(self) -> tuple[Trial, ...]:
        return tuple(trial for trial in self.originals if trial.outcome is not Outcome.PASSED)

    @property
    def judged(self) -> tuple[Trial, ...]:
        """Mutants of which something was learned: built, not equivalent, and the device can run them."""
        return tuple(trial for trial in self.mutants if trial.fate in (Fate.KILLED, Fate.SURVIVED))

    @property
    def survivors(self) -> tuple[Trial, ...]:
        return tuple(trial for trial in self.mutants if trial.fate is Fate.SURVIVED)

    @property
    def kill_rate(self) -> float | None:
        """Share of judged mutants that were rejected; None when there was none."""
        return 1.0 - len(self.survivors) / len(self.judged) if self.judged else None


def self_test(
    task: Task,
    device: Device,
    settings: Settings,
    *,
    kernel: str | None = None,
    operators: Collection[str] | None = None,
    limit: int | None = None,
    seed: int = 0,
    repeats: int = 3,
    toolchain: Toolchain | None = None,
    cache: Path | None = None,
    progress: Callable[[Trial], None] | None = None,
) -> SelfTest:
    """Verifies a kernel `repeats` times, then its mutants: all of them, or up to `limit` per operator drawn by `seed`.

    When the kernel itself is rejected, mutants are left out: they would be rejected for the same reason.

    kernel: source of a right kernel for the task; by default its seed.
    operators: names from mutants.OPERATORS; by default all.
    cache: folder for the mutants' builds; by default a folder that is removed afterwards.

    Raises UsageError when there is no kernel or it does not build, and what build and verify raise.
    """
    source = kernel or task.seed_source
    if source is None:
        raise UsageError(f"task {task.name} has no seed.cu to mutate", next_step="write one, or give --kernel")
    toolchain = toolchain or find_toolchain(settings.host_compiler)

    def tell(trial: Trial) -> Trial:
        if progress is not None:
            progress(trial)
        return trial

    with _builds_in(cache, toolchain, settings) as folder:

        def compiled(text: str) -> Build:
            candidate = Candidate(source=text, entry=task.entry)
            return build(candidate, target=device.target, toolchain=toolchain, cache=folder)

        original = compiled(source)
        if original.ptx is None:
            raise UsageError(f"the kernel of task {task.name} does not build: {_first_error(original)}")
        key = kernel_key(source, original.ptx.read_text())
        originals = [tell(_judged(task, None, original, device, settings)) for _ in range(repeats)]
        limited = settings.model_copy(update={"timeout_seconds": call_limit(originals, settings.timeout_seconds)})
        found = [mutant for mutant in mutants(source) if operators is None or mutant.operator in operators]
        right = all(trial.outcome is Outcome.PASSED for trial in originals)
        chosen = sample(found, limit, seed) if right else ()
        trials = []
        with ThreadPoolExecutor(settings.parallel, thread_name_prefix="build") as compilers:
            try:
                builds = compilers.map(compiled, [mutant.source for mutant in chosen])
                for mutant, built in zip(chosen, builds, strict=True):
                    trials.append(tell(_trial(task, mutant, built, key, device, limited)))
                    if cache is None and built.ptx is not None:
                        shutil.rmtree(built.ptx.parent, ignore_errors=True)
            finally:
                compilers.shutdown(wait=False, cancel_futures=True)
    return SelfTest(task=task.name, kernel=source, originals=tuple(originals), mutants=tuple(trials))


def rates(trials: Iterable[Trial]) -> tuple[OperatorRate, ...]:
    """Kill rate of each operator that made a mutant, the most used operators first."""
    fates: defaultdict[str, list[Fate]] = defaultdict(list)
    for trial in trials:
        if trial.mutant is not None:
            fates[trial.mutant.operator].append(trial.fate)
    rows = [
        OperatorRate(
            operator=operator,
            killed=found.count(Fate.KILLED),
            survived=found.count(Fate.SURVIVED),
            equivalent=found.count(Fate.EQUIVALENT),
            rest=found.count(Fate.NOT_COMPILED) + found.count(Fate.UNSUPPORTED),
        )
        for operator, found in fates.items()
    ]
    return tuple(sorted(rows, key=lambda row: (-row.killed - row.survived, row.operator)))


def sample(found: Sequence[Mutant], limit: int | None, seed: int) -> tuple[Mutant, ...]:
    """Up to `limit` mutants of each operator, in their order; all of them when there is no limit."""
    if limit is None:
        return tuple(found)
    rng = random.Random(seed)
    by_operator: defaultdict[str, list[int]] = defaultdict(list)
    for index, mutant in enumerate(found):
        by_operator[mutant.operator].append(index)
    kept = {index for places in by_operator.values() for index in rng.sample(places, min(limit, len(places)))}
    return tuple(mutant for index, mutant in enumerate(found) if index in kept)


def call_limit(originals: Iterable[Trial], timeout_seconds: float) -> float:
    """Seconds that one call of a mutant may take, from what the kernel itself took here and now."""
    longest = max((trial.longest_seconds for trial in originals), default=0.0)
    return min(timeout_seconds, max(LEAST_SECONDS, SLOWER * longest))


@contextmanager
def _builds_in(cache: Path | None, toolchain: Toolchain, settings: Settings) -> Iterator[Path]:
    """`cache`, or a folder of its own for what nobody builds again, with the precompiled headers of the user's."""
    if cache is not None:
        yield cache
        return
    warm(toolchain, settings.cache)
    with tempfile.TemporaryDirectory(prefix="kernelevo-mutants-") as folder:
        (Path(folder) / "host").symlink_to(settings.cache.expanduser().resolve() / "host")
        yield Path(folder)


def _trial(task: Task, mutant: Mutant, built: Build, key: str | None, device: Device, settings: Settings) -> Trial:
    if built.ptx is None or not built.succeeded:
        return Trial(mutant=mutant, fate=Fate.NOT_COMPILED, outcome=None, reason=_first_error(built))
    if key is not None and kernel_key(mutant.source.removeprefix(HALF), built.ptx.read_text()) == key:
        return Trial(mutant=mutant, fate=Fate.EQUIVALENT, outcome=None, reason=None)
    return _judged(task, mutant, built, device, settings)


def _judged(task: Task, mutant: Mutant | None, built: Build, device: Device, settings: Settings) -> Trial:
    """As every candidate is judged: smoke, then TEST, HIDDEN and BENCH cases."""
    verdict = prove(task, built, device, settings, draw_cases(task), StageLog(lambda stage, text: None))
    fates = {Outcome.PASSED: Fate.SURVIVED, Outcome.UNSUPPORTED: Fate.UNSUPPORTED}
    fate = fates.get(verdict.outcome, Fate.KILLED)
    return Trial(
        mutant=mutant,
        fate=fate,
        outcome=verdict.outcome,
        reason=verdict.reason,
        stage=verdict.failed_in,
        longest_seconds=max((case.seconds for case in verdict.cases), default=0.0),
    )


def _first_error(built: Build) -> str:
    errors = [d.text for d in built.diagnostics if d.severity == "error"] or [d.text for d in built.diagnostics]
    return errors[0] if errors else "the build failed"
