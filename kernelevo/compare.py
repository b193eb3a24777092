"""Do strategies, or models, differ? Runs in; how much faster than the seed kernel they came, at equal spending, out.

    compare_runs(archive, ["r-1", "r-2", ...])    -> Comparison
    compare(tracks)                               -> Comparison, without an archive

Runs are grouped by strategy and models. Spending is counted in evaluations (candidates evaluated or shared; the seed
kernel is number 0) or in dollars, and is equal for all runs of a task: as much as the run that has least. Speedups are
over the task's own kernel, on a log scale: means are geometric.

Intervals are percentile bootstraps (95 %) over seeds. Groups are compared where their seeds match, by an exact
sign-flip test of the paired differences (Fisher 1935), corrected for the number of pairs of groups in a table (Holm
1979). A difference is named only where the interval excludes none and the test agrees; of few seeds, the interval alone
is too narrow. Over several tasks, each counts the same, and seeds are drawn again inside each: what is concluded is
about these tasks.

Runs of different versions of a task, devices, targets, kinds or methods of timing are never compared.
Not covered: times that a tune job took besides (they are told, not counted), and waiting.
"""

from __future__ import annotations

import enum
import math
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, combinations
from typing import TYPE_CHECKING

import numpy as np

from kernelevo.errors import UsageError
from kernelevo.records import Operator, Timing

if TYPE_CHECKING:
    from kernelevo.archive import Archive
    from kernelevo.archive.answers import RunEntry

ERROR = 0.05  # probability of naming a difference where there is none
RESAMPLES = 10_000
LEAST_SEEDS = 3  # for an interval
SHARES = (0.25, 0.5, 1.0)  # of the spending, at which speedups are told
EXACT_PAIRS = 40  # of more pairs, as many sign flips as this are drawn instead: 2 ** (EXACT_PAIRS // 2)


class At(enum.Enum):
    """What is equal for the runs of a task."""

    EVALUATIONS = "evaluations"
    COST = "cost"  # US dollars


@dataclass(frozen=True, slots=True, kw_only=True)
class Basis:
    """What the times of a run are. Runs compare only where all of it is equal."""

    device: str
    kind: str
    target: str
    method: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Track:
    """One run: what it had spent, and how fast its best was, after each evaluation."""

    run: str
    task: str
    task_digest: str
    basis: Basis
    group: str  # strategy and models
    seed: int
    population: int
    status: str  # of the run: "finished", ...
    speedups: tuple[float, ...]  # best so far over the seed kernel; [0] is the seed kernel: 1.0
    costs_usd: tuple[float, ...] | None  # spent up to each evaluation; None: some cost is unknown
    total_cost_usd: float | None  # spent after the last evaluation included
    tuned: int  # configurations that tune jobs timed besides

    def spent(self, at: At) -> float:
        """All that the run spent. For COST, it must be known."""
        return len(self.speedups) - 1 if at is At.EVALUATIONS else self.total_cost_usd or 0.0

    def speedup(self, at: At, spent: float) -> float:
        """Of the best candidate that so much had paid for."""
        if at is At.EVALUATIONS:
            return self.speedups[math.floor(spent + 1e-9)]
        assert self.costs_usd is not None
        return self.speedups[bisect_right(self.costs_usd, spent * (1 + 1e-12)) - 1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """One group in one table."""

    group: str
    seeds: int  # runs; over several tasks, of all of them
    speedups: tuple[float, ...]  # geometric means at SHARES of the spending
    low: float | None  # interval of the last of them; None: too few seeds
    high: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Two groups in one table, where their seeds match."""

    first: str
    second: str
    pairs: int
    ratio: float | None  # geometric mean of the first's speedup over the second's; None: no seed matches
    low: float | None  # interval; None: too few seeds
    high: float | None
    p: float | None  # two-sided, corrected for the number of differences in the table
    finding: str  # in words


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One table: a task, or all of them."""

    task: str | None  # None: the geometric mean over all tasks
    spent: float | None  # evaluations or dollars, the same for all runs; None: of each task its own
    standings: tuple[Standing, ...]  # fastest first
    differences: tuple[Difference, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What was found."""

    at: At
    basis: Basis
    sections: tuple[Section, ...]  # one per task; the last one over all, if there are several
    tracks: tuple[Track, ...]


def compare_runs(archive: Archive, runs: Sequence[str] = (), *, at: At = At.EVALUATIONS, seed: int = 0) -> Comparison:
    """Compares runs of an archive.

    runs: ids, or their unique beginnings; none: all that are finished.
    seed: of the bootstrap.

    Raises UsageError for runs that do not exist, do not compare, or have nothing to compare.
    """
    entries = {entry.run.id: entry for entry in archive.list_runs()}
    chosen = [archive.get_run(run).id for run in runs] or [id_ for id_, e in entries.items() if e.status == "finished"]
    bases: dict[tuple[str, float], Basis] = {}
    return compare([track_of(archive, entries[id_], bases) for id_ in dict.fromkeys(chosen)], at=at, seed=seed)


def track_of(archive: Archive, entry: RunEntry, bases: dict[tuple[str, float], Basis]) -> Track:
    """What compare() needs of one run. Raises UsageError for one whose seed kernel has no time."""
    run = entry.run
    scored = archive.scored(run.id)
    first = scored[0] if scored and scored[0].iteration == 0 else None
    if first is None or first.score_ns is None:
        raise UsageError(
            f"run {run.id} has no time of its task's own kernel, and speedups are over it", next_step="leave it out"
        )
    basis = bases.get((first.candidate, first.score_ns))
    if basis is None:
        timings = [e.timing for e in archive.evaluations(first.candidate) if e.timing and e.device == run.device]
        basis = next(basis_of(t) for t in timings if math.isclose(t.score_ns, first.score_ns, rel_tol=1e-12))
        bases[first.candidate, first.score_ns] = basis
    times = [s.score_ns if s.score_ns is not None else math.inf for s in scored]
    spending = archive.ledger.spending(run.id)
    known = None not in spending.values()
    costs = [math.fsum(usd or 0.0 for i, usd in spending.items() if i <= s.iteration) for s in scored]
    tunes = [job.iteration for job in archive.jobs(run.id) if job.operator is Operator.TUNE]
    return Track(
        run=run.id,
        task=run.task,
        task_digest=run.task_digest,
        basis=basis,
        group=f"{run.strategy} ({', '.join(run.models)}{'; judged by ' if run.judges else ''}{', '.join(run.judges)})",
        seed=run.seed,
        population=run.population,
        status=entry.status,
        speedups=tuple(first.score_ns / best for best in accumulate(times, min)),
        costs_usd=tuple(costs) if known else None,
        total_cost_usd=math.fsum(usd or 0.0 for usd in spending.values()) if known else None,
        tuned=sum(len(archive.notes.tuning(run.id, iteration)) for iteration in tunes),
    )


def basis_of(timing: Timing) -> Basis:
    return Basis(device=timing.device, kind=timing.kind.value, target=timing.target, method=timing.method)


def compare(tracks: Sequence[Track], *, at: At = At.EVALUATIONS, seed: int = 0) -> Comparison:
    """Compares runs. Raises UsageError for runs that do not compare, or have nothing to compare."""
    check_comparable(tracks, at)
    rng = np.random.default_rng(seed)
    by_task: dict[str, list[Track]] = defaultdict(list)
    for track in tracks:
        by_task[track.task].append(track)
    spent = {task: min(track.spent(at) for track in same) for task, same in by_task.items()}
    sections = [section(task, {task: same}, spent, at, rng) for task, same in sorted(by_task.items())]
    if len(by_task) > 1:
        sections.append(section(None, dict(sorted(by_task.items())), spent, at, rng))
    return Comparison(at=at, basis=tracks[0].basis, sections=tuple(sections), tracks=tuple(tracks))


def check_comparable(tracks: Sequence[Track], at: At) -> None:
    """Raises UsageError that names what does not compare, and why."""
    if not tracks:
        raise UsageError("there is no run to compare", next_step="`kernelevo archive list` shows runs; evolve some")
    digests: dict[str, Track] = {}
    taken: dict[tuple[str, str, int], Track] = {}
    for track in tracks:
        other = digests.setdefault(track.task, track)
        if other.task_digest != track.task_digest:
            raise UsageError(
                f"runs {other.run} and {track.run} are of different versions of task {track.task} "
                f"({other.task_digest} and {track.task_digest})",
                next_step="name runs of one version",
            )
        if track.basis != tracks[0].basis:
            raise UsageError(
                f"times of run {tracks[0].run} ({in_words(tracks[0].basis)}) and of run {track.run} "
                f"({in_words(track.basis)}) do not compare",
                next_step="name runs of one device, target, kind and method",
            )
        twin = taken.setdefault((track.task, track.group, track.seed), track)
        if twin is not track:
            raise UsageError(
                f"runs {twin.run} and {track.run} are both {track.group} on {track.task} with seed {track.seed}: "
                "counted twice, they would make the interval too narrow",
                next_step="leave one of them out",
            )
        if at is At.COST and track.total_cost_usd is None:
            raise UsageError(
                f"run {track.run} has requests of unknown cost", next_step="compare at evaluations, or leave it out"
            )
        if track.spent(at) <= 0:
            what = "evaluated nothing but the task's own kernel" if at is At.EVALUATIONS else "cost nothing"
            raise UsageError(
                f"run {track.run} {what}",
                next_step="leave it out" if at is At.EVALUATIONS else "compare at evaluations",
            )


def in_words(basis: Basis) -> str:
    return f"{basis.kind.upper()} for {basis.target} on {basis.device} by {basis.method}"


def section(
    task: str | None,
    by_task: Mapping[str, Sequence[Track]],
    spent: Mapping[str, float],
    at: At,
    rng: np.random.Generator,
) -> Section:
    """The table of one task, or of several, of which only those count that every group ran."""
    names = {task: {track.group for track in same} for task, same in by_task.items()}
    groups = sorted(set.union(*names.values()))
    complete = {task: same for task, same in by_task.items() if len(names[task]) == len(groups)}
    notes = notes_of(by_task, complete, groups)
    if not complete:
        return Section(task=task, spent=None, standings=(), differences=(), notes=notes)
    logs = {  # of each group and task: logarithm of the speedup by seed
        group: {
            name: {t.seed: math.log(t.speedup(at, spent[name])) for t in same if t.group == group}
            for name, same in complete.items()
        }
        for group in groups
    }
    standings = []
    for group in groups:
        strata = [list(values.values()) for values in logs[group].values()]
        low, high = interval(strata, rng)
        early = [
            [
                math.fsum(math.log(t.speedup(at, share * spent[name])) for t in of) / len(of)
                for name, same in complete.items()
                if (of := [t for t in same if t.group == group])
            ]
            for share in SHARES
        ]
        standings.append(
            Standing(
                group=group,
                seeds=sum(map(len, strata)),
                speedups=tuple(math.exp(math.fsum(means) / len(means)) for means in early),
                low=low,
                high=high,
            )
        )
    standings.sort(key=lambda s: (-s.speedups[-1], s.group))
    ranked = [standing.group for standing in standings]
    pairs = [(a, b, paired(logs[a], logs[b])) for a, b in combinations(ranked, 2)]
    raw = [sign_flip(strata, rng) if strata else None for _, _, strata in pairs]
    return Section(
        task=task,
        spent=spent[task] if task is not None else None,
        standings=tuple(standings),
        differences=tuple(
            difference(a, b, strata, p, rng, tests=len(pairs))
            for (a, b, strata), p in zip(pairs, holm(raw), strict=True)
        ),
        notes=notes,
    )


def notes_of(
    by_task: Mapping[str, Sequence[Track]], complete: Mapping[str, Sequence[Track]], groups: Sequence[str]
) -> tuple[str, ...]:
    """What a reader must know to judge the table."""
    tracks = [track for same in by_task.values() for track in same]
    notes = []
    if missing := sorted(set(by_task) - set(complete)):
        notes.append(f"left out, because not every group ran it: {', '.join(missing)}")
    for group in groups:
        mine = [track for track in tracks if track.group == group]
        if len(sizes := sorted({track.population for track in mine})) > 1:
            notes.append(f"{group}: populations of {', '.join(map(str, sizes))}")
        if tuned := sum(track.tuned for track in mine):
            notes.append(f"{group}: {tuned} configurations timed by tune jobs are not counted as evaluations")
    if unfinished := [track.run for track in tracks if track.status != "finished"]:
        notes.append(f"not finished: {', '.join(unfinished)}")
    if len(groups) == 1:
        notes.append("there is one group, and nothing to compare it with")
    return tuple(notes)


def difference(
    first: str, second: str, strata: Sequence[Sequence[float]], p: float | None, rng: np.random.Generator, *, tests: int
) -> Difference:
    """Two groups from the differences of their logarithms, by task."""
    low, high = interval(strata, rng)
    pairs = sum(map(len, strata))
    mean = math.fsum(math.fsum(s) / len(s) for s in strata) / len(strata) if strata else None
    if p is None or mean is None:
        finding = "no seed matches"
    elif low is None or high is None:
        finding = f"too few seeds: fewer than {LEAST_SEEDS} match"
    elif 2.0 ** (1 - pairs) * tests > ERROR:
        finding = f"no difference can be shown by {pairs} pairs"
    elif low <= 1.0 <= high or p > ERROR:
        finding = "no difference found"
    else:
        finding = f"{first if mean > 0 else second} is faster"
    return Difference(
        first=first,
        second=second,
        pairs=pairs,
        ratio=None if mean is None else math.exp(mean),
        low=low,
        high=high,
        p=p,
        finding=finding,
    )


# --- statistics -----------------------------------------------------------------------------------------------------


def paired(first: Mapping[str, Mapping[int, float]], second: Mapping[str, Mapping[int, float]]) -> list[list[float]]:
    """Differences by task, where seeds match; none at all unless some match in every task."""
    strata = [
        [values[seed] - second[task][seed] for seed in sorted(values.keys() & second[task].keys())]
        for task, values in first.items()
    ]
    return strata if all(strata) else []


def interval(strata: Sequence[Sequence[float]], rng: np.random.Generator) -> tuple[float, float] | tuple[None, None]:
    """exp of the 95 % percentile bootstrap of the mean over strata of their means; None of too few seeds."""
    if not strata or min(map(len, strata)) < LEAST_SEEDS:
        return None, None
    means = np.zeros(RESAMPLES)
    for values in strata:
        means += rng.choice(np.asarray(values), size=(RESAMPLES, len(values))).mean(axis=1) / len(strata)
    low, high = np.percentile(means, [100 * ERROR / 2, 100 * (1 - ERROR / 2)])
    return math.exp(low), math.exp(high)


def sign_flip(strata: Sequence[Sequence[float]], rng: np.random.Generator) -> float:
    """Two-sided p of the mean over strata of their means, if each difference were as likely of either sign.

    Exact up to EXACT_PAIRS pairs (all sums of one half of them meet all sums of the other); of more, flips are drawn.
    """
    terms = [value / len(values) / len(strata) for values in strata for value in values]
    scale = math.fsum(map(abs, terms))
    limit = abs(math.fsum(terms)) - 1e-9 * scale  # sums that are equal but for rounding are equal
    if limit <= 0:
        return 1.0
    if len(terms) > EXACT_PAIRS:
        draws = 1 << EXACT_PAIRS // 2
        extreme = 1  # the signs as they are
        for _ in range(draws >> 12):
            signs = rng.integers(0, 2, size=(1 << 12, len(terms))) * 2 - 1
            extreme += int((np.abs(signs @ np.asarray(terms)) >= limit).sum())
        return extreme / (draws + 1)
    half = len(terms) // 2
    one, other = all_flips(terms[:half]), np.sort(all_flips(terms[half:]))
    above = len(other) - np.searchsorted(other, limit - one, side="left")
    below = np.searchsorted(other, -limit - one, side="right")
    return float((above + below).sum() / 2 ** len(terms))


def all_flips(terms: Sequence[float]) -> np.ndarray:
    """The sums of the terms with every choice of signs."""
    sums = np.zeros(1)
    for term in terms:
        sums = np.concatenate([sums + term, sums - term])
    return sums


def holm(raw: Sequence[float | None]) -> list[float | None]:
    """Each p corrected for the number of tests that were made (Holm 1979), in the order given."""
    made = sorted((p, index) for index, p in enumerate(raw) if p is not None)
    corrected: list[float | None] = [None] * len(raw)
    largest = 0.0
    for rank, (p, index) in enumerate(made):
        largest = max(largest, min(1.0, p * (len(made) - rank)))
        corrected[index] = largest
    return corrected
