"""How one case is measured on a GPU: arms in randomly ordered blocks, each arm a worker of its own, led by the parent.

    measured = measure_case(arms, case, plan=Plan(), rng=..., ...)     -> CaseMeasurement, or one line why not

An arm is a TimedSession: the candidate, the champion or parent it must beat, a baseline. All of them run in this one
measurement, on one GPU under one lease; times of another run are never compared. Per block every arm makes one cold
sample in random order, until the comparison is decided or has been doubled MAX_ROUNDS - 1 times. Warm calls and graph
replays are sampled apart, for the record. Every raw sample is kept.

What is not believed (each a finding; a measurement with findings is not a time):

- outputs of a random timed call that the caller's check refuses ("wrong when timed");
- work that goes on after a window has ended ("work outside the window");
- events that add up to more than the parent's own clock, or to far less than the slope between N and 2N calls, where
  the slope with stubbed kernels says how much of it is host time ("clocks disagree");
- a time below the physical floor ("faster than the hardware").

Knows no statistics (statistics.py), no CUDA and no NVML: random numbers and clocks are passed in. Reasons and sources:
shared/design/verification.md and shared/reference/emulation-notes.md, section 6.
"""

from __future__ import annotations

import math
import statistics as plain
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from kernelevo.devices import Call, TimedSession
from kernelevo.measure.clocks import Clocks, Dropped, Reading, dropped, lowest_clock
from kernelevo.measure.physics import Card, floor_ns
from kernelevo.measure.statistics import Interval, Ratio, Result, compare, interval_of, stable
from kernelevo.records import Case, Finding, Outcome

if TYPE_CHECKING:
    import torch

    from kernelevo.devices import Value

VERSION = 1
MAX_ROUNDS = 3
_FIRST_CALLS = 1  # of each step, left out: the GPU has just switched to this worker
LATE_NS = 50_000.0  # that waiting for an idle device may take
LATE_SHARE = 0.2  # of the call's time that may go on behind a window
SLACK = 1.5  # times the larger of host and device time that a slope may be
SLACK_NS = 10_000.0
CLOCK_SHARE = 1.05  # of the parent's clock that events may add up to

Inputs = Sequence["Value"]
Check = Callable[["Inputs", Sequence["torch.Tensor"]], str | None]  # None accepts; a line says what is wrong


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much is measured. The defaults are the protocol; smaller numbers are for tests."""

    blocks: int = 20  # of the first round; doubled in each further one
    calls: int = 5  # timed, per arm and block
    other_blocks: int = 5  # of warm calls, and of graph replays
    window_ns: float = 20e6  # of the warm-up
    warm_up_windows: int = 25  # at most: half a second
    rotate_l2: float = 2.0  # times the L2 that the copies of the inputs take
    checked_share: float = 0.25  # of the blocks in which one timed call is checked; the first block always is
    slope_ns: float = 20e6  # that N calls of the slope take, about
    slope_calls: int = 2000  # at most
    slope_repeats: int = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """One thing that is timed."""

    name: str  # "candidate", "champion", "eager", ...
    session: TimedSession
    check: Check
    own_kernels: bool  # whether `stubbed` can take its kernels away


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Each arm once, in the order in which they ran."""

    order: tuple[str, ...]
    samples_ns: Mapping[str, tuple[float, ...]]  # by arm
    readings: Mapping[str, Reading | None]  # by arm, right after its samples


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmTimes:
    """What is known of one arm. None: not measured, with the reason in `notes`."""

    cold: Interval  # ns, over the medians of the blocks that count
    warm: Interval | None  # ns
    graph: Interval | None  # ns per call, in graphs of several calls
    slope_ns: float | None  # per call, by the parent's clock
    host_ns: float | None  # per call with its kernels stubbed, by the parent's clock
    floor_ns: float  # no call of this case can take less
    warm_samples_ns: tuple[float, ...] = ()
    graph_samples_ns: tuple[float, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseMeasurement:
    """Everything that was measured of one case."""

    case: Case
    blocks: tuple[Block, ...]  # cold samples, all of them
    dropped: Dropped
    arms: Mapping[str, ArmTimes]
    ratios: Mapping[str, Ratio]  # time of the first arm over that of each other one
    findings: tuple[Finding, ...]  # about the first arm
    warm_up_windows: int
    steady: bool  # whether the warm-up ended because times were steady


class StepError(Exception):
    """A step did not end well, so there is no time; the message says why."""


def measure_case(
    arms: Sequence[Arm],
    case: Case,
    sets: Sequence[Inputs],
    *,
    plan: Plan,
    rng: np.random.Generator,
    clocks: Clocks | None,
    card: Card,
    output_bytes: int,
) -> CaseMeasurement | str:
    """Measures the first arm against the others, or says in one line why it cannot.

    sets: inputs of the case with different values, for calls to rotate through. card: its l2_bytes may be None, the
    workers know. output_bytes: of one call.
    """
    run = _Run(arms, plan, rng, clocks)
    try:
        l2_bytes = run.prepare(sets)
        card = replace(card, l2_bytes=card.l2_bytes or l2_bytes)
        windows, steady = run.warm_up()
        ratios: dict[str, Ratio] = {}
        for round_number in range(1, MAX_ROUNDS + 1):
            run.add_blocks(plan.blocks * 2 ** (round_number - 1) - len(run.blocks))
            spoiled = run.spoiled()
            if spoiled.invalid:
                return (
                    f"invalid: {len(spoiled.blocks)} of {len(run.blocks)} blocks are spoiled by the card's state "
                    f"({spoiled.reasons[0]})"
                )
            ratios = {
                arm.name: run.compared(arms[0].name, arm.name, spoiled, round_number=round_number) for arm in arms[1:]
            }
            if run.findings or all(r.result is not Result.AMBIGUOUS or r.equal for r in ratios.values()):
                break
        read_bytes = _bytes_of(sets[0])
        floors = {
            cold: floor_ns(card, read_bytes=read_bytes, written_bytes=output_bytes, cold=cold) for cold in (True, False)
        }
        times = {arm.name: run.finish(arm, spoiled, floors) for arm in arms}
    except StepError as error:
        return str(error)
    return CaseMeasurement(
        case=case,
        blocks=tuple(run.blocks),
        dropped=spoiled,
        arms=times,
        ratios=ratios,
        findings=tuple(run.findings),
        warm_up_windows=windows,
        steady=steady,
    )


def time_alone(arm: Arm, sets: Sequence[Inputs], *, plan: Plan, rng: np.random.Generator) -> float:
    """Cold median of one arm with nothing beside it, in ns; raises StepError. To choose a baseline, and for drift."""
    run = _Run([arm], plan, rng, None)
    run.prepare(sets)
    run.warm_up()
    run.add_blocks(plan.other_blocks)
    return plain.median(plain.median(block.samples_ns[arm.name]) for block in run.blocks)


@dataclass(slots=True)
class _Run:
    """One case in the making."""

    arms: Sequence[Arm]
    plan: Plan
    rng: np.random.Generator
    clocks: Clocks | None
    blocks: list[Block] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    _late: dict[str, list[float]] = field(default_factory=dict)

    def prepare(self, sets: Sequence[Inputs]) -> int:
        """Returns the size of the L2 in bytes, as the workers' driver gives it."""
        size = _bytes_of(sets[0])
        l2_bytes = 0
        for arm in self.arms:
            call = _passed(arm, "prepare", arm.session.prepare(sets, rotate_bytes=0))
            l2_bytes = int(call.facts.get("l2_bytes", 0))
            wanted = int(self.plan.rotate_l2 * l2_bytes)
            if call.facts.get("copies", 0) * size < wanted:
                _passed(arm, "prepare", arm.session.prepare(sets, rotate_bytes=wanted))
        return l2_bytes

    def warm_up(self) -> tuple[int, bool]:
        """Until all arms' times are steady: (windows, whether they became so)."""
        windows: dict[str, list[float]] = {arm.name: [] for arm in self.arms}
        calls = dict.fromkeys(windows, 4)
        for number in range(1, self.plan.warm_up_windows + 1):
            for arm in self.arms:
                call = self._sample(arm, "warm", calls[arm.name], checked_call=None)
                windows[arm.name].append(plain.median(call.samples_ns))
                calls[arm.name] = _calls_in(self.plan.window_ns, windows[arm.name][-1], self.plan.slope_calls)
            if all(stable(window) for window in windows.values()):
                return number, True
        return self.plan.warm_up_windows, False

    def add_blocks(self, count: int) -> None:
        for _ in range(count):
            order = [self.arms[i] for i in self.rng.permutation(len(self.arms))]
            samples: dict[str, tuple[float, ...]] = {}
            readings: dict[str, Reading | None] = {}
            checked = not self.blocks or self.rng.random() < self.plan.checked_share
            for arm in order:
                which = _FIRST_CALLS + int(self.rng.integers(self.plan.calls)) if checked else None
                call = self._sample(arm, "cold", _FIRST_CALLS + self.plan.calls, checked_call=which)
                samples[arm.name] = call.samples_ns[_FIRST_CALLS:]
                readings[arm.name] = self.clocks.read() if self.clocks else None
            self.blocks.append(Block(order=tuple(arm.name for arm in order), samples_ns=samples, readings=readings))

    def spoiled(self) -> Dropped:
        return dropped([[r for r in block.readings.values() if r is not None] for block in self.blocks])

    def kept(self, spoiled: Dropped) -> list[Block]:
        return [block for index, block in enumerate(self.blocks) if index not in spoiled.blocks]

    def compared(self, first: str, second: str, spoiled: Dropped, *, round_number: int) -> Ratio:
        blocks = self.kept(spoiled)
        pairs = [(_clock(block, first), _clock(block, second)) for block in blocks]
        return compare(
            [block.samples_ns[first] for block in blocks],
            [block.samples_ns[second] for block in blocks],
            rng=self.rng,
            clocks=[(a, b) if a and b else None for a, b in pairs],
            round_number=round_number,
        )

    def finish(self, arm: Arm, spoiled: Dropped, floors: Mapping[bool, float]) -> ArmTimes:
        """The other kinds of time, the witnesses, and what they say of the first arm."""
        cold = interval_of([plain.median(b.samples_ns[arm.name]) for b in self.kept(spoiled)], rng=self.rng)
        warm_samples = self._other(arm, "warm")
        warm = interval_of(warm_samples, rng=self.rng)
        notes = []
        slopes = self._slopes(arm, warm.median, stubbed=False)
        host = self._slopes(arm, warm.median, stubbed=True) if arm.own_kernels else None
        graph_samples: tuple[float, ...] = ()
        try:
            graph_samples = self._other(arm, "graph")
        except StepError as error:  # it synchronises, allocates by itself, ...: no fault
            notes.append(f"no graph: {error}")
        graph = interval_of(graph_samples, rng=self.rng) if graph_samples else None
        if arm is self.arms[0]:
            self._judge(arm, cold, warm, graph, slopes, host, floors)
        return ArmTimes(
            cold=cold,
            warm=warm,
            graph=graph,
            slope_ns=plain.median(slopes),
            host_ns=None if host is None else plain.median(host),
            floor_ns=floors[True],
            warm_samples_ns=warm_samples,
            graph_samples_ns=graph_samples,
            notes=tuple(notes),
        )

    def _other(self, arm: Arm, mode: str) -> tuple[float, ...]:
        samples: list[float] = []
        for number in range(self.plan.other_blocks):
            # A graph holds at least three calls, and any of them can be checked.
            which = int(self.rng.integers(3 if mode == "graph" else self.plan.calls)) if number == 0 else None
            call = self._sample(arm, mode, _FIRST_CALLS + self.plan.calls, checked_call=which)
            samples += call.samples_ns[_FIRST_CALLS:]
        return tuple(samples)

    def _slopes(self, arm: Arm, about_ns: float, *, stubbed: bool) -> list[float]:
        """Time per call by the parent's clock: what twice as many calls take longer, some times over."""
        calls = _calls_in(self.plan.slope_ns, about_ns, self.plan.slope_calls)
        slopes = []
        for _ in range(self.plan.slope_repeats):
            seconds = [
                _passed(
                    arm, "run", arm.session.run(mode="warm", calls=count, seed=self._seed(), stubbed=stubbed)
                ).seconds
                for count in (calls, 2 * calls)
            ]
            slopes.append(max(0.0, (seconds[1] - seconds[0]) * 1e9 / calls))
        return slopes

    def _judge(
        self,
        arm: Arm,
        cold: Interval,
        warm: Interval,
        graph: Interval | None,
        slopes: Sequence[float],
        host: Sequence[float] | None,
        floors: Mapping[bool, float],
    ) -> None:
        # A busy machine makes a slope too steep, never all of them. Inputs of these calls are cold or warm.
        seen_ns = max(cold.median, warm.median)
        if host is not None and min(slopes) > SLACK * max(seen_ns, *host) + SLACK_NS:
            self._note(
                "clocks disagree",
                f"{min(slopes):.0f} ns per call by the parent's clock, but {seen_ns:.0f} ns by events and "
                f"{max(host):.0f} ns of host time: work is hidden from the events",
            )
        if warm.median > CLOCK_SHARE * max(slopes) + SLACK_NS:
            self._note(
                "clocks disagree",
                f"{warm.median:.0f} ns per call by events, but only {max(slopes):.0f} ns by the parent's clock",
            )
        for name, found, floor in (
            ("cold", cold, floors[True]),
            ("warm", warm, floors[False]),
            ("graph", graph, floors[False]),
        ):
            if found is not None and found.median < floor:
                self._note(
                    "faster than the hardware",
                    f"{found.median:.0f} ns ({name}); memory and launch alone take {floor:.0f} ns",
                )
        late = self._late.get(arm.name, [])
        if late and plain.median(late) > max(LATE_NS, LATE_SHARE * cold.median):
            self._note(
                "work outside the window",
                f"the device works on for {plain.median(late):.0f} ns after calls that took {cold.median:.0f} ns",
            )

    def _sample(self, arm: Arm, mode: str, calls: int, *, checked_call: int | None) -> Call:
        seed = self._seed()
        call = arm.session.sample(mode=mode, calls=calls, seed=seed, checked_call=checked_call)
        _passed(arm, mode, call)
        samples = call.samples_ns
        if len(samples) != calls or not all(math.isfinite(s) and s > 0 for s in samples):
            raise StepError(f"{arm.name}: {calls} {mode} calls gave times {samples[:3]}...")
        first = arm is self.arms[0]
        if first:
            self._late.setdefault(arm.name, []).append(call.facts.get("late_ns", 0.0))
        if first and sum(samples) > CLOCK_SHARE * call.seconds * 1e9 + SLACK_NS:
            self._note(
                "clocks disagree",
                f"events of {calls} {mode} calls add up to {sum(samples):.0f} ns, "
                f"and the step took {call.seconds * 1e9:.0f} ns",
            )
        if checked_call is not None:
            inputs = arm.session.inputs_of(seed=seed, call=checked_call)
            wrong = arm.check(inputs, call.outputs)
            if wrong is not None and first:
                self._note("wrong when timed", f"{mode} call {checked_call} of {calls}: {wrong}")
            elif wrong is not None:
                raise StepError(f"{arm.name} is wrong in {mode} call {checked_call} of {calls}: {wrong}")
        return call

    def _note(self, kind: str, text: str) -> None:
        if not any(finding.kind == kind for finding in self.findings):
            self.findings.append(Finding(kind=kind, text=text))

    def _seed(self) -> int:
        return int(self.rng.integers(1 << 31))


def _passed(arm: Arm, step: str, call: Call) -> Call:
    if call.outcome is not Outcome.PASSED:
        raise StepError(f"{arm.name} {call.outcome.value} in {step} calls: {call.reason or 'no reason given'}")
    return call


def _bytes_of(values: Inputs) -> int:
    return sum(0 if isinstance(v, int | float) else v.numel() * v.element_size() for v in values)


def _clock(block: Block, arm: str) -> float | None:
    reading = block.readings[arm]
    return None if reading is None else lowest_clock([reading])


def _calls_in(window_ns: float, call_ns: float, most: int) -> int:
    return max(4, min(most, int(window_ns / max(call_ns, 1.0))))
