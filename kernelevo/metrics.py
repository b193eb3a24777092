"""How good were the attempts at a set of tasks? Takes plain records of attempts, gives metrics; reads and runs nothing.

    report(tasks, ks=..., ps=...)   -> pass@k, fast_p, eff@k, DPS and efficient@k, each a value or why there is none

Attempts of one report have times of one kind for one target: who collects them (cli/metrics.py) keeps MEASURED and
PREDICTED apart. Nothing is assumed: without a baseline there is no speedup, and a metric over several tasks has no
value when one of them lacks what it needs.

The "@k" metrics are expectations over k attempts drawn at random from the n that were made. When attempts are
independent, that estimates without bias what k fresh ones would give. In a run of evolve later attempts learn from
earlier ones; there the same number describes the attempts that were made, not the next run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

LEVEL_GAP = 0.05  # two times that differ by less are one level of performance (DPS)
TIME_LIMIT = 2.0  # of eff@k, as a multiple of the baseline's time


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One attempt at a task."""

    correct: bool  # it passed verification
    time_ns: float | None  # geometric mean over the BENCH cases; None when it did not pass or has no time
    instructions: float | None  # executed by warps, geometric mean over the BENCH cases; None when not counted


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempts:
    """All attempts at one task, and what they are compared with."""

    task: str
    attempts: tuple[Attempt, ...]
    baseline: Attempt | None  # a right kernel, or PyTorch, timed in the same way
    baseline_reason: str | None  # why there is none
    references: tuple[float, ...] = ()  # times in ns of other right kernels for the task, of the same kind (DPS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One number, or why there is none."""

    name: str  # for example "fast_1" or "pass@4"
    value: float | None
    reason: str | None  # of a missing value
    tasks: int  # how many it is the mean of


class MissingError(Exception):
    """A metric cannot be had for a task; says why."""


def report(
    tasks: Sequence[Attempts], *, ks: Sequence[int] = (1,), ps: Sequence[float] = (0, 1, 2)
) -> tuple[Metric, ...]:
    """Every metric over the tasks. A metric that one task does not have is missing, with the reasons."""
    metrics = [_mean(f"fast_{p:g}", tasks, lambda task, p=p: fast_p(task, p)) for p in ps]  # type: ignore[misc]
    for k in ks:
        metrics += [
            _mean(f"pass@{k}", tasks, lambda task, k=k: task_pass_at_k(task, k)),  # type: ignore[misc]
            _mean(f"eff@{k}", tasks, lambda task, k=k: eff_at_k(task, k)),  # type: ignore[misc]
            _mean(f"efficient@{k}", tasks, lambda task, k=k: efficient_at_k(task, k)),  # type: ignore[misc]
        ]
    return (*metrics, _mean("DPS", [task for task in tasks if _correct(task)] or tasks, dps))


def fast_p(task: Attempts, p: float) -> float:
    """1 when the task's best attempt is correct and more than p times as fast as the baseline, otherwise 0. The mean
    over tasks is fast_p; fast_0 is the share of tasks that were solved, and needs no baseline.

    Source: Ouyang et al., "KernelBench: Can LLMs Write Efficient GPU Kernels?", 2025, arXiv:2502.10517. There one
    attempt a task is made; here the fastest of all attempts stands for the task.

    Raises MissingError without a baseline, or without the time of any correct attempt.
    """
    if not task.attempts:
        raise MissingError("no attempt was made")
    if not _correct(task):
        return 0.0
    if p == 0:
        return 1.0
    times = [attempt.time_ns for attempt in _correct(task) if attempt.time_ns is not None]
    if not times:
        raise MissingError("no correct attempt has a time")
    return float(_baseline_ns(task) / min(times) > p)


def task_pass_at_k(task: Attempts, k: int) -> float:
    """Whether at least one of k attempts is correct, in expectation."""
    return pass_at_k(len(task.attempts), len(_correct(task)), k)


def pass_at_k(attempts: int, correct: int, k: int) -> float:
    """1 - C(n - c, k) / C(n, k): chance that k of n attempts, c of them correct, hold a correct one.

    Source: Chen et al., "Evaluating Large Language Models Trained on Code", 2021, arXiv:2107.03374, equation 1.

    Raises MissingError when fewer than k attempts were made.
    """
    if attempts < k:
        raise MissingError(f"{attempts} attempts were made, {k} are needed")
    return 1.0 - math.comb(attempts - correct, k) / math.comb(attempts, k)


def eff_at_k(task: Attempts, k: int) -> float:
    """Expected efficiency score of the best of k attempts (see efficiency_score, best_of_k).

    Source: Qiu et al., "How Efficient is LLM-Generated Code? A Rigorous & High-Standard Benchmark" (ENAMEL), ICLR 2025,
    arXiv:2406.06647. There the expert's solution sets the scale; here the baseline does. The score of an attempt is its
    own, without the paper's levels: the BENCH cases are one level.

    Raises MissingError without a baseline, with fewer than k attempts, or when a correct attempt has no time.
    """
    scores = []
    for attempt in task.attempts:
        if not attempt.correct:
            scores.append(0.0)
        elif attempt.time_ns is None:
            raise MissingError("a correct attempt has no time")
        else:
            scores.append(efficiency_score(attempt.time_ns, _baseline_ns(task)))
    return best_of_k(scores, k)


def efficiency_score(time_ns: float, baseline_ns: float, *, limit: float = TIME_LIMIT) -> float:
    """max(0, (T - t) / (T - t0)) with the time limit T = limit * t0: 1 as fast as the baseline t0, 0 beyond T."""
    longest = limit * baseline_ns
    return max(0.0, (longest - time_ns) / (longest - baseline_ns))


def best_of_k(scores: Sequence[float], k: int) -> float:
    """Expected largest of k scores drawn without replacement: sum over r of C(r - 1, k - 1) / C(n, k) * e_(r), where
    e_(r) is the r-th smallest (arXiv:2406.06647, theorem 1).

    Raises MissingError when there are fewer than k scores.
    """
    if len(scores) < k:
        raise MissingError(f"{len(scores)} attempts were made, {k} are needed")
    weighted = (math.comb(rank - 1, k - 1) * score for rank, score in enumerate(sorted(scores), start=1))
    return math.fsum(weighted) / math.comb(len(scores), k)


def efficient_at_k(task: Attempts, k: int) -> float:
    """Chance that k attempts hold one that is correct and executes fewer instructions than the baseline.

    Source: Peng et al., "COFFE: A Code Efficiency Benchmark for Code Generation", 2025, arXiv:2502.02827: pass@k with
    "efficient" for "correct", and instruction counts for times, since they do not vary from run to run. There the CPU
    counts; here the emulator counts what warps execute.

    Raises MissingError without counts, or with fewer than k attempts.
    """
    if task.baseline is None or task.baseline.instructions is None:
        raise MissingError(task.baseline_reason or "the instructions of the baseline were not counted")
    if any(attempt.instructions is None for attempt in _correct(task)):
        raise MissingError("the instructions of a correct attempt were not counted")
    fewer = [a for a in _correct(task) if a.instructions is not None and a.instructions < task.baseline.instructions]
    return pass_at_k(len(task.attempts), len(fewer), k)


def dps(task: Attempts) -> float:
    """Differential performance score: percent of the reference solutions that an attempt is as fast as or faster than,
    as the mean over the correct attempts. References within LEVEL_GAP of each other are one level, and an attempt
    reaches a level when it is no slower than the slowest of it.

    Source: Liu et al., "Evaluating Language Models for Efficient Code Generation" (EvalPerf), COLM 2024,
    arXiv:2408.06450. There the references are sampled from language models; here they are the right kernels that the
    archive holds for the task, the attempts themselves among them.

    Raises MissingError with fewer than two references, or when no correct attempt has a time.
    """
    if len(task.references) < 2:
        raise MissingError(f"{len(task.references)} reference solutions are known, 2 are needed")
    times = [attempt.time_ns for attempt in _correct(task) if attempt.time_ns is not None]
    if not times:
        raise MissingError("no correct attempt has a time")
    return math.fsum(performance_score(time, task.references) for time in times) / len(times)


def performance_score(time_ns: float, references: Sequence[float], *, gap: float = LEVEL_GAP) -> float:
    """DPS of one time: 100 times the share of references in the levels that it reaches."""
    reached = sum(len(level) for level in levels(references, gap=gap) if time_ns <= level[-1])
    return 100.0 * reached / len(references)


def levels(times: Sequence[float], *, gap: float = LEVEL_GAP) -> tuple[tuple[float, ...], ...]:
    """Times from fast to slow in groups: a time more than `gap` above the one before begins a new group."""
    found: list[list[float]] = []
    for time in sorted(times):
        if not found or time > found[-1][-1] * (1.0 + gap):
            found.append([])
        found[-1].append(time)
    return tuple(tuple(level) for level in found)


def _correct(task: Attempts) -> list[Attempt]:
    return [attempt for attempt in task.attempts if attempt.correct]


def _baseline_ns(task: Attempts) -> float:
    if task.baseline is None or task.baseline.time_ns is None:
        raise MissingError(task.baseline_reason or "the baseline has no time")
    return task.baseline.time_ns


def _mean(name: str, tasks: Sequence[Attempts], metric: Callable[[Attempts], float]) -> Metric:
    values, reasons = [], []
    for task in tasks:
        try:
            values.append(metric(task))
        except MissingError as reason:
            reasons.append(f"{task.task}: {reason}")
    if reasons or not values:
        return Metric(name=name, value=None, reason="; ".join(reasons) or "there are no tasks", tasks=len(values))
    return Metric(name=name, value=math.fsum(values) / len(values), reason=None, tasks=len(values))
