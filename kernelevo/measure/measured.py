"""A verified build on a GPU that measures: its time, and how it compares with the fastest baseline of its task.

One lease, one run: baselines (eager, torch.compile) are timed in clean workers of their own before, the fastest of them
is an arm of every block beside the candidate, and it is timed alone again afterwards. When it drifted, something was
done to the machine, and nothing is concluded. All arms run under one declared TF32 policy.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import torch

from kernelevo.devices import TimedSession
from kernelevo.measure.clocks import Clocks
from kernelevo.measure.lease import lease
from kernelevo.measure.physics import Card
from kernelevo.measure.protocol import Arm, CaseMeasurement, Plan, StepError, measure_case, time_alone
from kernelevo.measure.statistics import Interval, Ratio, geometric_mean
from kernelevo.records import Build, Case, CaseTiming, Purpose, Task, Timing, TimingKind

if TYPE_CHECKING:
    from kernelevo.devices import Value
    from kernelevo.measure.protocol import Check

INPUT_SETS = 3
DRIFT = 0.05  # of the baseline between before and after that is still the same machine
BASELINES = ("eager", "compiled", "compiled, max-autotune-no-cudagraphs")

# (case, inputs of a timed call, its outputs) -> None, or one line that says what is wrong with them
Accepts = Callable[[Case, Sequence["Value"], Sequence[torch.Tensor]], str | None]


@runtime_checkable
class TimedDevice(Protocol):
    """What measuring needs of a device beyond devices.Device."""

    name: str
    timing_target: str
    timing_method: str
    uuid: str  # of the GPU, for the lease
    tf32: bool  # the declared policy of all arms

    def open_timed(
        self, build: Build, *, entry: str, timeout_seconds: float, memory_bytes: int
    ) -> AbstractContextManager[TimedSession]:
        """A worker that times a build."""

    def open_baseline(
        self, task: Task, *, baseline: str, timeout_seconds: float, memory_bytes: int
    ) -> AbstractContextManager[TimedSession]:
        """A clean worker that times the task's reference on the GPU; baseline: one of BASELINES."""

    def clocks(self) -> Clocks | None:
        """The card's state; None where nobody can read it."""

    def memory_bytes_per_second(self) -> float | None:
        """Theoretical; None when not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """One way in which PyTorch computes the task, on one case."""

    name: str  # one of BASELINES
    before_ns: float | None  # cold median before the candidate ran; None: it could not be timed
    after_ns: float | None  # afterwards; only of the fastest
    tf32: bool
    reason: str | None  # why it has no time


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One case of a candidate against the fastest baseline, in one run."""

    case: Case
    baselines: tuple[Baseline, ...]
    fastest: str
    ratio: Ratio  # candidate's time over the baseline's

    @property
    def speedup(self) -> Interval:
        """Baseline's time over the candidate's."""
        ratio = self.ratio.interval
        return Interval(low=1 / ratio.high, median=1 / ratio.median, high=1 / ratio.low)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """Everything that one run measured of a task's BENCH cases."""

    timing: Timing
    comparisons: tuple[Comparison, ...]
    cases: tuple[CaseMeasurement, ...]  # raw samples, clocks, findings

    @property
    def speedup(self) -> Interval:
        """Geometric mean over the cases, against the fastest baseline of each."""
        return geometric_mean([comparison.speedup for comparison in self.comparisons])


def measure_task(
    task: Task,
    build: Build,
    device: TimedDevice,
    *,
    timeout_seconds: float,
    memory_bytes: int,
    output_bytes: Callable[[Case], int],
    accepts: Accepts,
    plan: Plan | None = None,
    rng: np.random.Generator | None = None,
    baselines: Sequence[str] = BASELINES,
    champion: Build | None = None,
) -> Measurement | str:
    """Measures all BENCH cases, or says in one line why there is no time.

    champion: a build that the candidate is to beat, timed in the same blocks; its ratio is in `cases`.

    Raises WorkerError when the GPU stays leased.
    """
    if (why := _cannot_vary(task)) is not None:
        return why
    started = time.monotonic()
    run = _Run(
        task=task,
        build=build,
        champion=champion,
        device=device,
        limits={"timeout_seconds": timeout_seconds, "memory_bytes": memory_bytes},
        accepts=accepts,
        plan=plan or Plan(),
        rng=rng or np.random.default_rng(),
        baselines=baselines,
    )
    measured: list[tuple[CaseMeasurement, Comparison]] = []
    with lease(device.uuid):
        for case in [case for case in task.cases if case.purpose is Purpose.BENCH]:
            try:
                result = run.measure(case, output_bytes(case))
            except StepError as error:
                result = str(error)
            if isinstance(result, str):
                return f"{case.name}: {result}"
            measured.append(result)
    timing = Timing(
        kind=TimingKind.MEASURED,
        device=device.name,
        target=device.timing_target,
        method=device.timing_method,
        cases=tuple(case_timing(found) for found, _ in measured),
        seconds=time.monotonic() - started,
    )
    return Measurement(
        timing=timing, comparisons=tuple(c for _, c in measured), cases=tuple(found for found, _ in measured)
    )


def same_twice(
    task: Task,
    build: Build,
    device: TimedDevice,
    case: Case,
    *,
    timeout_seconds: float,
    memory_bytes: int,
    output_bytes: int,
    accepts: Accepts,
    plan: Plan | None = None,
    rng: np.random.Generator | None = None,
) -> CaseMeasurement | str:
    """An A/A pair: one build as two arms. A machine whose ratio is not `equal` is not fit to judge, for now."""
    rng = rng or np.random.default_rng()
    generator = torch.Generator().manual_seed(int(rng.integers(1 << 62)))
    sets = [task.inputs(case, generator) for _ in range(INPUT_SETS)]
    with lease(device.uuid), ExitStack() as workers:
        arms = [
            Arm(
                name=name,
                session=workers.enter_context(
                    device.open_timed(
                        build, entry=task.entry, timeout_seconds=timeout_seconds, memory_bytes=memory_bytes
                    )
                ),
                check=lambda inputs, outputs: accepts(case, inputs, outputs),
                own_kernels=True,
            )
            for name in ("once", "again")
        ]
        return measure_case(
            arms,
            case,
            sets,
            plan=plan or Plan(),
            rng=rng,
            clocks=device.clocks(),
            card=Card(l2_bytes=None, memory_bytes_per_second=device.memory_bytes_per_second()),
            output_bytes=output_bytes,
        )


def _cannot_vary(task: Task) -> str | None:
    """Why inputs of this task cannot be changed between timed calls, as they must be."""
    if getattr(task.reference, "mutates", ()):
        return "not measured yet: the task writes in place, so calls would feed on each other"
    if getattr(getattr(task.inputs, "__self__", None), "refreshed", None) is not None:
        return "not measured yet: some inputs are computed from others, so elements cannot be changed alone"
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """What all cases of one run share."""

    task: Task
    build: Build
    champion: Build | None
    device: TimedDevice
    limits: Mapping[str, Any]
    accepts: Accepts
    plan: Plan
    rng: np.random.Generator
    baselines: Sequence[str]

    def measure(self, case: Case, output_bytes: int) -> tuple[CaseMeasurement, Comparison] | str:
        sets = [self._inputs(case) for _ in range(INPUT_SETS)]
        with ExitStack() as workers:
            timed, fastest = self._fastest_baseline(case, sets, workers)
            if fastest is None:
                return f"no baseline could be timed: {'; '.join(f'{b.name}: {b.reason}' for b in timed)}"
            arms = [self._arm("candidate", self.build, case, workers)]
            if self.champion is not None:
                arms.append(self._arm("champion", self.champion, case, workers))
            found = measure_case(
                [*arms, fastest],
                case,
                sets,
                plan=self.plan,
                rng=self.rng,
                clocks=self.device.clocks(),
                card=Card(l2_bytes=None, memory_bytes_per_second=self.device.memory_bytes_per_second()),
                output_bytes=output_bytes,
            )
            if isinstance(found, str):
                return found
            if found.findings:
                return "no time: " + "; ".join(f"{f.kind}: {f.text}" for f in found.findings)
            after_ns = time_alone(fastest, sets, plan=self.plan, rng=self.rng)
        before_ns = next(b.before_ns for b in timed if b.name == fastest.name)
        assert before_ns is not None
        if abs(math.log(after_ns / before_ns)) > DRIFT:
            return (
                f"invalid: the baseline {fastest.name} took {before_ns:.0f} ns before the candidate ran and "
                f"{after_ns:.0f} ns afterwards"
            )
        comparison = Comparison(
            case=case,
            baselines=tuple(replace(b, after_ns=after_ns) if b.name == fastest.name else b for b in timed),
            fastest=fastest.name,
            ratio=found.ratios[fastest.name],
        )
        return found, comparison

    def _fastest_baseline(
        self, case: Case, sets: Sequence[Sequence[Value]], workers: ExitStack
    ) -> tuple[list[Baseline], Arm | None]:
        """Times each baseline alone; the fastest stays open, in `workers`."""
        timed: list[Baseline] = []
        fastest: tuple[float, Arm, ExitStack] | None = None
        for name in self.baselines:
            with ExitStack() as own:
                session = own.enter_context(self.device.open_baseline(self.task, baseline=name, **self.limits))
                arm = Arm(name=name, session=session, check=self._check(case), own_kernels=False)
                nanoseconds, reason = None, None
                try:
                    nanoseconds = time_alone(arm, sets, plan=self.plan, rng=self.rng)
                except StepError as error:
                    reason = str(error)
                if nanoseconds is not None and (fastest is None or nanoseconds < fastest[0]):
                    if fastest is not None:
                        fastest[2].close()
                    fastest = nanoseconds, arm, own.pop_all()
            timed.append(
                Baseline(name=name, before_ns=nanoseconds, after_ns=None, tf32=self.device.tf32, reason=reason)
            )
        if fastest is None:
            return timed, None
        workers.enter_context(fastest[2])
        return timed, fastest[1]

    def _arm(self, name: str, build: Build, case: Case, workers: ExitStack) -> Arm:
        session = workers.enter_context(self.device.open_timed(build, entry=self.task.entry, **self.limits))
        return Arm(name=name, session=session, check=self._check(case), own_kernels=True)

    def _check(self, case: Case) -> Check:
        return lambda inputs, outputs: self.accepts(case, inputs, outputs)

    def _inputs(self, case: Case) -> Sequence[Value]:
        seed = int(self.rng.integers(1 << 62))
        made: Sequence[Value] = self.task.inputs(case, torch.Generator().manual_seed(seed))
        return made


def case_timing(found: CaseMeasurement) -> CaseTiming:
    """The record of the first arm: cold times decide; what else is known is under `counters`."""
    name, arm = next(iter(found.arms.items()))
    kept = [block for index, block in enumerate(found.blocks) if index not in found.dropped.blocks]
    clocks = [r.sm_mhz for block in kept if (r := block.readings[name]) is not None and r.sm_mhz is not None]
    heat = [r.temperature_c for b in kept if (r := b.readings[name]) is not None and r.temperature_c is not None]
    counters: dict[str, float | None] = {
        "warm_ns": arm.warm.median if arm.warm else None,
        "graph_ns": arm.graph.median if arm.graph else None,
        "slope_ns": arm.slope_ns,
        "host_ns": arm.host_ns,
        "floor_ns": arm.floor_ns,
        "sm_mhz": float(np.median(clocks)) if clocks else None,
        "temperature_c": float(np.median(heat)) if heat else None,
        "blocks": float(len(found.blocks)),
        "blocks_dropped": float(len(found.dropped.blocks)),
    }
    return CaseTiming(
        case=found.case,
        samples_ns=tuple(sample for block in kept for sample in block.samples_ns[name]),
        median_ns=arm.cold.median,
        low_ns=arm.cold.low,
        high_ns=arm.cold.high,
        bottleneck=None,
        counters={key: value for key, value in counters.items() if value is not None},
    )
