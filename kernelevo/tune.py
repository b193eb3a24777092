"""Operator `tune`: the best values of a candidate's declared tunables, by building and timing. No model is called.

    tune(task, candidate, device, settings)   -> TuneResult; its best, if any, is then evaluated like any candidate

Few configurations are all timed on all BENCH cases. Many go through successive halving (Jamieson and Talwalkar,
"Non-stochastic Best Arm Identification and Hyperparameter Optimization", AISTATS 2016): all are timed on the smallest
case, the faster half of them on twice as many cases, and so on; the last few on all. A configuration that shines only
on the largest case can be lost on the way: that is the price of timing less.

Times taken here are of unverified code, and only rank. The fastest configuration that passes the TEST cases wins; what
it is worth is for the loop's own evaluation to say.

Not covered: tunables of other types than integers, and constraints between tunables (what does not compile is dropped).
"""

from __future__ import annotations

import math
import random
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING, Any

from kernelevo.config import Settings
from kernelevo.devices import Device
from kernelevo.records import Build, Candidate, Case, Outcome, Purpose, Rewrite, Task, Timing, TimingKind
from kernelevo.toolchain import find_toolchain

if TYPE_CHECKING:
    from kernelevo.archive.answers import Tuned

Configuration = Mapping[str, int]  # tunable -> value
Key = tuple[int, ...]  # the values of a configuration, in the order of its names
TimeMany = Callable[[Sequence[Configuration], int], Sequence[float | None]]  # configurations, rung -> times in ns

EXHAUSTIVE = 8  # so many configurations are all timed on all cases
MOST = 32  # configurations of one search; of more, a sample is tried


@dataclass(frozen=True, slots=True, kw_only=True)
class TuneResult:
    """What a search came to."""

    best: Candidate | None  # a child of the candidate; None: nothing is faster and right
    reason: str  # in one line, why there is no best or by how much it is faster
    tried: tuple[Tuned, ...]  # the candidate's own values first; () when there is nothing to tune
    seconds: float


def tune(
    task: Task, candidate: Candidate, device: Device, settings: Settings, *, limit: int = MOST, seed: int = 0
) -> TuneResult:
    """Searches the values of the candidate's tunables, `settings.parallel` builds at once.

    limit: configurations to try at most; of more, a sample drawn from `seed`.
    Where times are measured, the winner must be faster than the candidate by MARGIN, and one is timed at a time.

    Raises ToolchainError when nothing can be compiled here, TaskError and WorkerError as `evaluate` does.
    """
    from kernelevo.archive.answers import Tuned
    from kernelevo.measure.statistics import MARGIN

    started = time.monotonic()
    choices = configurations(candidate, limit=limit, seed=seed)
    bench = Bench(task, candidate, device, settings)
    if len(choices) == 1 or not bench.cases:
        reason = "no declared tunable has another value" if bench.cases else f"task {task.name} declares no bench cases"
        return TuneResult(best=None, reason=reason, tried=(), seconds=time.monotonic() - started)
    margin = MARGIN if device.timing_kind is TimingKind.MEASURED else 0.0
    winners, ends = search(choices, bench.time_many, rungs=len(bench.budgets), margin=margin)
    best = next((number for number in winners if bench.is_right(choices[number])), None)
    own_ns = ends[0].time_ns
    if best is None:
        reason = f"none of {len(choices) - 1} other configurations is right and faster"
    elif own_ns is None:
        reason = f"{words(choices[best])} has a time, the candidate's own values have none"
    else:
        reason = f"{words(choices[best])} is {own_ns / (ends[best].time_ns or own_ns):.3f} times as fast, unverified"
    return TuneResult(
        best=None if best is None else configure(candidate, choices[best]),
        reason=reason,
        tried=tuple(
            Tuned(
                configuration=words(choice),
                cases=bench.budgets[end.rung],
                score_ns=None if key(choice) in bench.reasons else end.time_ns,
                reason=bench.reasons.get(key(choice)),
            )
            for choice, end in zip(choices, ends, strict=True)
        ),
        seconds=time.monotonic() - started,
    )


def configurations(candidate: Candidate, *, limit: int = MOST, seed: int = 0) -> list[Configuration]:
    """All combinations of declared values, the candidate's own first, even when it is not a declared one.

    A tunable whose definition is not found in the source is left out. Of more than `limit` combinations this gives the
    candidate's own and a sample of the others, the same for the same seed.
    """
    from kernelevo.models.rewrites.syntax import parse
    from kernelevo.models.rewrites.tunables import declared_values, present_values

    present = present_values(parse(candidate.source))
    declared = {name: values for name, values in declared_values(candidate.source).items() if name in present}
    own = tuple(present[name] for name in declared)
    chosen = dict.fromkeys([own])  # in place of a set: it keeps the order
    if math.prod(len(values) for values in declared.values()) + 1 <= limit:
        chosen |= dict.fromkeys(product(*declared.values()))
    else:
        rng = random.Random(f"tune {seed}")
        while len(chosen) < limit:
            chosen[tuple(rng.choice(values) for values in declared.values())] = None
    return [dict(zip(declared, values, strict=True)) for values in chosen]


def configure(candidate: Candidate, configuration: Configuration) -> Candidate:
    """The candidate with these values: a child of it, or itself where nothing changes.

    Each change is a Rewrite named "tunable", which `mutate` can replay on another source. Raises ValueError for a value
    that is not declared.
    """
    from kernelevo.models.mutate import apply_rewrite
    from kernelevo.models.rewrites.syntax import parse
    from kernelevo.models.rewrites.tunables import declared_values, present_values

    source, rewrites = candidate.source, list[Rewrite]()
    present = present_values(parse(source))
    for name, value in configuration.items():
        if present.get(name) == value:
            continue
        rewrite = Rewrite(name="tunable", argument=f"{name}={value}")
        changed = apply_rewrite(source, rewrite)
        if changed is None:
            raise ValueError(f"candidate {candidate.id} declares no tunable {name} with the value {value}")
        source = changed
        rewrites.append(rewrite)
    if not rewrites:
        return candidate
    return replace(
        candidate,
        source=source,
        parents=(candidate.id,),
        rewrites=(*candidate.rewrites, *rewrites),
        tunables=declared_values(source),
    )


# --- the search -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """The last rung on which a configuration was timed."""

    rung: int
    time_ns: float | None


def search(
    choices: Sequence[Configuration], time_many: TimeMany, *, rungs: int, margin: float = 0.0
) -> tuple[list[int], list[End]]:
    """The numbers of the choices that beat the first one, fastest first, and where each choice ended.

    choices: the first is the default: it stays in to the end, and wins ties. Other ties go to the earlier choice.
    time_many: times of some choices on a rung, None for one that has none and is out. Rung r is of 2^r cases, the last
        rung of all of them.
    margin: share of the default's time by which a winner must be faster.
    """
    ends = [End(rung=0, time_ns=None)] * len(choices)
    alive = list(range(len(choices)))
    rung = 0
    last = rungs - 1
    while True:
        rung = last if len(alive) <= EXHAUSTIVE else rung
        times = time_many([choices[number] for number in alive], rung)
        for number, time_ns in zip(alive, times, strict=True):
            ends[number] = End(rung=rung, time_ns=time_ns)
        ranked = sorted((t, number) for number, t in zip(alive, times, strict=True) if t is not None)
        if rung == last or not ranked:
            break
        half = [number for _, number in ranked[: math.ceil(len(ranked) / 2)]]
        alive = sorted({*half, *(number for _, number in ranked if number == 0)})
        rung += 1
    default_ns = ends[0].time_ns
    beaten = math.inf if default_ns is None else default_ns * (1.0 - margin)
    return [number for time_ns, number in ranked if number and time_ns < beaten], ends


# --- building and timing --------------------------------------------------------------------------------------------


class Bench:
    """Builds and times configurations of one candidate, and does neither twice."""

    def __init__(self, task: Task, candidate: Candidate, device: Device, settings: Settings) -> None:
        self.task, self.candidate, self.device, self.settings = task, candidate, device, settings
        bench = [case for case in task.cases if case.purpose is Purpose.BENCH]
        self.cases: Sequence[Case] = sorted(bench, key=lambda case: math.prod(case.sizes.values()))
        self.budgets = budgets(len(bench))  # cases of each rung
        self.toolchain = find_toolchain(settings.host_compiler)
        self.builds: dict[Key, Build] = {}
        self.times: dict[tuple[Key, str], float] = {}  # of a configuration and a case's name, in ns
        self.reasons: dict[Key, str] = {}  # why there is no time

    def time_many(self, choices: Sequence[Configuration], rung: int) -> list[float | None]:
        """Geometric means over the rung's cases; `settings.parallel` choices at once, but measurements one by one."""
        measured = self.device.timing_kind is TimingKind.MEASURED
        with ThreadPoolExecutor(self.settings.parallel, thread_name_prefix="tune") as pool:
            list(pool.map(self.build, choices))
            if not measured:
                return list(pool.map(lambda choice: self.time(choice, rung), choices))
        return [self.time(choice, rung) for choice in choices]

    def build(self, choice: Configuration) -> None:
        from kernelevo.build import build

        if key(choice) in self.builds:
            return
        made = configure(self.candidate, choice)
        built = build(made, target=self.device.target, toolchain=self.toolchain, cache=self.settings.cache)
        self.builds[key(choice)] = built
        if not built.succeeded:
            errors = [d.text for d in built.diagnostics if d.severity == "error"]
            self.reasons[key(choice)] = errors[0] if errors else "it did not compile"

    def time(self, choice: Configuration, rung: int) -> float | None:
        """The geometric mean over the rung's cases, of which those that have no time yet are timed now."""
        here = key(choice)
        cases = self.cases[: self.budgets[rung]]
        missing = tuple(case for case in cases if (here, case.name) not in self.times)
        if missing and here not in self.reasons:
            fewer = replace(self.task, cases=missing)  # its digest is the same, so its expected outputs are kept
            timing = timed(fewer, self.builds[here], self.device, self.settings)
            if isinstance(timing, str):
                self.reasons[here] = timing
            else:
                self.times |= {(here, case.case.name): case.median_ns for case in timing.cases}
        if here in self.reasons:
            return None
        return math.exp(sum(math.log(self.times[here, case.name]) for case in cases) / len(cases))

    def is_right(self, choice: Configuration) -> bool:
        """Whether it passes the TEST cases: what computes less is often faster."""
        from kernelevo.verify import verify

        verdict = verify(
            self.task,
            self.builds[key(choice)],
            self.device,
            cases=[case for case in self.task.cases if case.purpose is Purpose.TEST],
            entropy=secrets.randbits(62),
            timeout_seconds=self.settings.timeout_seconds,
            memory_bytes=self.settings.memory_bytes,
        )
        if verdict.outcome is not Outcome.PASSED:
            self.reasons[key(choice)] = verdict.reason or verdict.outcome.value
        return verdict.outcome is Outcome.PASSED


def timed(task: Task, build: Build, device: Device, settings: Settings) -> Timing | str:
    """The times of the BENCH cases, or why there are none.

    Where they are measured, the baseline is eager PyTorch alone: compiling the reference for each would take longer
    than the search.
    """
    from kernelevo.measure import measure
    from kernelevo.measure.measured import TimedDevice, measure_task
    from kernelevo.verify import oracle_of
    from kernelevo.verify.timed import accepts_outputs

    oracle = oracle_of(task)

    def output_bytes(case: Case) -> int:
        return sum(output.nbytes for output in oracle.expected(case).reference)

    limits: dict[str, Any] = {"timeout_seconds": settings.timeout_seconds, "memory_bytes": settings.memory_bytes}
    accepts = accepts_outputs(task)
    if device.timing_kind is TimingKind.MEASURED and isinstance(device, TimedDevice):
        found = measure_task(
            task, build, device, output_bytes=output_bytes, accepts=accepts, baselines=("eager",), **limits
        )
        return found if isinstance(found, str) else found.timing
    return measure(task, build, device, output_bytes=output_bytes, accepts=accepts, **limits)


def words(choice: Configuration) -> str:
    return " ".join(f"{name}={value}" for name, value in choice.items())


def key(choice: Configuration) -> Key:
    return tuple(choice.values())


def budgets(cases: int) -> list[int]:
    """Cases of each rung: 1, 2, 4, ... and all of them."""
    return [*(2**rung for rung in range(cases.bit_length()) if 2**rung < cases), cases]
