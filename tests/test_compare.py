"""`kernelevo compare`: equal spending, intervals over seeds, and honesty where there is nothing to see."""

from __future__ import annotations

import itertools
import json
import math
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from kernelevo.archive import Archive, open_archive
from kernelevo.cli import compare as command
from kernelevo.compare import (
    EXACT_PAIRS,
    At,
    Basis,
    Comparison,
    Difference,
    Track,
    compare,
    compare_runs,
    holm,
    interval,
    sign_flip,
)
from kernelevo.errors import UsageError
from kernelevo.records import (
    Build,
    BuildMethod,
    Candidate,
    Case,
    CaseTiming,
    Evaluation,
    Job,
    Message,
    Operator,
    Outcome,
    Prompt,
    Purpose,
    Reply,
    Run,
    Task,
    Timing,
    TimingKind,
    Verdict,
)

H100 = Basis(device="emulator", kind="predicted", target="H100 SXM", method="prediction 1")


def track(group: str, seed: int, *speedups: float, task: str = "gelu", costs: Sequence[float] | None = ()) -> Track:
    """A run whose best so far was so much faster after 1, 2, ... evaluations."""
    if costs is not None and not costs:
        costs = [0.0] * len(speedups)
    upto = None if costs is None else (0.0, *itertools.accumulate(costs))
    return Track(
        run=f"r-{task}-{group}-{seed}",
        task=task,
        task_digest="t-1",
        basis=H100,
        group=group,
        seed=seed,
        population=4,
        status="finished",
        speedups=(1.0, *itertools.accumulate(speedups, max)),
        costs_usd=upto,
        total_cost_usd=None if upto is None else upto[-1],
        tuned=0,
    )


def only_difference(found: Comparison, section: int = 0) -> Difference:
    (difference,) = found.sections[section].differences
    return difference


# --- what is compared -----------------------------------------------------------------------------------------------


def test_runs_are_compared_at_as_many_evaluations_as_the_shortest_has() -> None:
    found = compare([track("a", 0, 1.5, 2.0, 9.0, 9.0), track("b", 0, 1.2, 1.8)])
    section = found.sections[0]
    assert section.spent == 2
    assert {s.group: s.speedups[-1] for s in section.standings} == pytest.approx({"a": 2.0, "b": 1.8})


def test_runs_are_compared_at_equal_cost_where_it_is_known() -> None:
    dear = track("dear", 0, 2.0, 4.0, costs=[1.0, 1.0])
    cheap = track("cheap", 0, 1.1, 1.2, 1.3, 9.0, costs=[0.25, 0.25, 0.5, 0.25])
    found = compare([dear, cheap], at=At.COST)
    assert found.sections[0].spent == 1.25
    assert {s.group: s.speedups[-1] for s in found.sections[0].standings} == pytest.approx({"dear": 2.0, "cheap": 9.0})
    assert {s.group: s.speedups[1] for s in found.sections[0].standings} == pytest.approx({"dear": 1.0, "cheap": 1.2})


def test_an_unknown_cost_or_none_is_told_and_never_taken_for_0() -> None:
    with pytest.raises(UsageError, match="unknown cost"):
        compare([track("a", 0, 2.0, costs=[1.0]), track("b", 0, 2.0, costs=None)], at=At.COST)
    with pytest.raises(UsageError, match="cost nothing"):
        compare([track("a", 0, 2.0, costs=[1.0]), track("b", 0, 2.0)], at=At.COST)
    assert compare([track("b", 0, 2.0, costs=None)]).sections[0].spent == 1


def test_means_over_seeds_are_geometric() -> None:
    found = compare([track("a", 0, 2.0), track("a", 1, 8.0)])
    assert found.sections[0].standings[0].speedups[-1] == pytest.approx(4.0)
    assert found.sections[0].notes == ("there is one group, and nothing to compare it with",)


@pytest.mark.parametrize(
    ("other", "why"),
    [
        (replace(track("b", 1, 2.0), task_digest="t-2"), "different versions of task gelu"),
        (replace(track("b", 1, 2.0), basis=replace(H100, kind="measured")), "do not compare"),
        (replace(track("b", 1, 2.0), basis=replace(H100, target="B200")), "do not compare"),
        (replace(track("b", 1, 2.0), basis=replace(H100, device="L4")), "do not compare"),
        (replace(track("b", 1, 2.0), basis=replace(H100, method="prediction 2")), "do not compare"),
        (replace(track("a", 0, 2.0), run="r-again"), "counted twice"),
        (track("b", 1), "nothing but the task's own kernel"),
    ],
)
def test_runs_that_do_not_compare_are_refused_by_name(other: Track, why: str) -> None:
    with pytest.raises(UsageError, match=why) as refused:
        compare([track("a", 0, 2.0), other])
    assert other.run in str(refused.value)


def test_without_a_run_there_is_nothing_to_compare() -> None:
    with pytest.raises(UsageError, match="no run"):
        compare([])


# --- honesty --------------------------------------------------------------------------------------------------------


def noisy(group: str, mean: float, seeds: int, *, task: str = "gelu", spread: float = 0.1) -> list[Track]:
    rng = random.Random(f"{group} {task}")
    return [track(group, seed, math.exp(rng.gauss(mean, spread)), task=task) for seed in range(seeds)]


def test_two_seeds_have_no_interval_and_no_finding() -> None:
    found = compare([*noisy("a", 2.0, 2), *noisy("b", 0.5, 2)])
    assert [(s.low, s.high) for s in found.sections[0].standings] == [(None, None)] * 2
    assert only_difference(found).finding == "too few seeds: fewer than 3 match"
    assert only_difference(found).low is None


def test_three_pairs_have_an_interval_and_still_show_nothing() -> None:
    found = compare([*noisy("a", 2.0, 3), *noisy("b", 0.5, 3)])
    difference = only_difference(found)
    assert difference.low is not None and difference.low > 1.0
    assert difference.p == pytest.approx(0.25)  # 2 of 8 choices of signs
    assert difference.finding == "no difference can be shown by 3 pairs"


def test_a_clear_difference_of_eight_seeds_is_found_whichever_comes_first() -> None:
    for one, other in (("a", "b"), ("b", "a")):
        found = compare([*noisy(one, 1.0, 8), *noisy(other, 0.5, 8)])
        difference = only_difference(found)
        assert (difference.first, difference.finding) == (one, f"{one} is faster")
        assert difference.p == pytest.approx(2 / 2**8)
        assert difference.ratio is not None and 1.4 < difference.ratio < 1.9


def test_equal_groups_differ_in_name_only() -> None:
    same = [track(group, seed, 1.0 + seed) for group in "ab" for seed in range(8)]
    difference = only_difference(compare(same))
    assert (difference.ratio, difference.p, difference.finding) == (1.0, 1.0, "no difference found")


def test_differences_are_rarely_found_where_there_are_none() -> None:
    """At 5 % per table of three groups, 80 tables show about 4 at most; 15 or more have a chance of about 1e-5."""
    rng = random.Random(1)
    wrong = 0
    for _ in range(80):
        tracks = [track(group, seed, math.exp(rng.gauss(1.0, 0.2))) for group in "abc" for seed in range(8)]
        wrong += any(d.finding.endswith("is faster") for d in compare(tracks).sections[0].differences)
    assert wrong < 15


def test_only_matching_seeds_are_paired() -> None:
    found = compare([track("a", 0, 2.0), track("a", 1, 2.0), track("b", 1, 1.0), track("b", 2, 1.0)])
    assert only_difference(found).pairs == 1
    assert only_difference(compare([track("a", 0, 2.0), track("b", 1, 1.0)])).finding == "no seed matches"


def test_what_tune_jobs_timed_besides_and_unfinished_runs_are_told() -> None:
    tracks = [replace(track("a", 0, 2.0), tuned=12), replace(track("b", 0, 1.5), status="stopped", population=8)]
    notes = compare([*tracks, track("b", 1, 1.5)]).sections[0].notes
    assert "a: 12 configurations timed by tune jobs are not counted as evaluations" in notes
    assert "b: populations of 4, 8" in notes
    assert f"not finished: {tracks[1].run}" in notes


# --- several tasks --------------------------------------------------------------------------------------------------


def test_all_tasks_count_the_same_in_the_last_table() -> None:
    tracks = [
        *(track("a", seed, 4.0, task="gelu") for seed in range(5)),
        track("a", 0, 1.0, task="softmax"),
        *(track("b", seed, 1.0, task=task) for task in ("gelu", "softmax") for seed in range(5)),
    ]
    found = compare(tracks)
    assert [s.task for s in found.sections] == ["gelu", "softmax", None]
    assert found.sections[-1].standings[0].speedups[-1] == pytest.approx(2.0)
    assert only_difference(found, -1).ratio == pytest.approx(2.0)
    assert only_difference(found, -1).pairs == 6
    assert only_difference(found, -1).finding == "too few seeds: fewer than 3 match"


def test_three_seeds_on_eight_tasks_are_enough_together() -> None:
    tasks = [f"task{i}" for i in range(8)]
    found = compare(
        [t for task in tasks for group, mean in (("a", 1.0), ("b", 0.5)) for t in noisy(group, mean, 3, task=task)]
    )
    assert all(s.differences[0].finding == "no difference can be shown by 3 pairs" for s in found.sections[:-1])
    last = only_difference(found, -1)
    assert (last.pairs, last.finding) == (24, "a is faster")
    assert last.low is not None and last.low > 1.0


def test_a_task_that_a_group_lacks_is_left_out_of_the_last_table() -> None:
    found = compare([track("a", 0, 4.0), track("b", 0, 2.0), track("a", 0, 9.0, task="softmax")])
    assert found.sections[-1].notes == ("left out, because not every group ran it: softmax",)
    assert [s.speedups[-1] for s in found.sections[-1].standings] == pytest.approx([4.0, 2.0])


# --- statistics -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
def test_the_sign_flip_test_counts_what_all_sign_flips_give(seed: int) -> None:
    rng = random.Random(seed)
    strata = [[rng.choice([rng.gauss(0.3, 1.0), 0.0, 1.0]) for _ in range(rng.randint(1, 4))] for _ in range(3)]
    terms = [value / len(s) / len(strata) for s in strata for value in s]
    sums = [
        abs(sum(t * sign for t, sign in zip(terms, signs, strict=True)))
        for signs in itertools.product((1, -1), repeat=len(terms))
    ]
    expected = sum(s >= abs(sum(terms)) - 1e-9 for s in sums) / len(sums)
    assert sign_flip(strata, np.random.default_rng(0)) == pytest.approx(expected)


def test_of_very_many_pairs_flips_are_drawn() -> None:
    values = [0.2 + math.sin(i) for i in range(EXACT_PAIRS + 20)]
    mean = math.fsum(values) / len(values)
    spread = math.sqrt(math.fsum(v * v for v in values)) / len(values)  # of the mean, under flips
    normal = math.erfc(mean / spread / math.sqrt(2))
    drawn = sign_flip([values], np.random.default_rng(0))
    assert 0.001 < normal < 0.5
    assert drawn == pytest.approx(normal, rel=0.1)
    assert sign_flip([[1.0] * 60], np.random.default_rng(0)) > 0.0


def test_holm_corrects_for_the_tests_that_were_made() -> None:
    assert holm([0.01, None, 0.04, 0.03]) == pytest.approx([0.03, None, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]


def test_intervals_hold_what_they_should_as_often_as_a_bootstrap_can() -> None:
    """Coverage of 20 seeds: a percentile bootstrap of 95 % holds a normal mean in about 93 % of samples."""
    rng = np.random.default_rng(5)
    inside = 0
    for _ in range(300):
        low, high = interval([rng.normal(0.5, 1.0, size=20).tolist()], rng)
        assert low is not None and high is not None
        inside += low <= math.exp(0.5) <= high
    assert 0.88 < inside / 300 < 0.97


def test_the_same_runs_give_the_same_intervals() -> None:
    tracks = [*noisy("a", 1.0, 5), *noisy("b", 0.9, 5)]
    assert compare(tracks) == compare(tracks)
    assert compare(tracks) != compare(tracks, seed=1)


# --- from an archive ------------------------------------------------------------------------------------------------


def unused(*_: object) -> None:
    raise NotImplementedError


TASK = Task(
    name="gelu", title="", description="", signature="", entry="forward", dtypes=(), cases=(), hidden_sizes={},
    distributions=(), initialisations=(), tolerance_factor=1.0, library_calls="forbid", reference=unused, inputs=unused,
    compare=None, seed_source=None, hints=(), folder=Path(), digest="t-1",
)  # fmt: skip
CASE = Case(name="n=1", sizes={}, dtype="float32", distribution="", initialisation="", seed=0, purpose=Purpose.BENCH)


def evaluation(candidate: Candidate, time_ns: float | None) -> Evaluation:
    """An evaluation with that time; None: it was wrong."""
    timing = Timing(
        kind=TimingKind.PREDICTED, device="emulator", target="H100 SXM", method="prediction 1", seconds=0.0,
        cases=(CaseTiming(case=CASE, samples_ns=(time_ns or 1.0,), median_ns=time_ns or 1.0, low_ns=1.0, high_ns=1.0,
                          bottleneck=None, counters={}),),
    )  # fmt: skip
    build = Build(
        candidate=candidate.id, target="sm_90", method=BuildMethod.SPLIT, fallback_reason=None, flags=(), compiler="",
        artifact=Path("/x"), ptx=None, resources=(), diagnostics=(), cached=False, seconds=0.0,
    )  # fmt: skip
    outcome = Outcome.WRONG if time_ns is None else Outcome.PASSED
    return Evaluation(
        candidate=candidate.id, task="gelu", device="emulator", build=build, stages=(), timing_reason=None,
        verdict=Verdict(outcome=outcome, reason=None, cases=(), output="", seconds=0.0),
        timing=None if time_ns is None else timing,
    )  # fmt: skip


def record(archive: Archive, name: str, strategy: str, seed: int, times: Sequence[float | None], usd: float) -> None:
    """A finished run: the seed kernel takes 100 ns, the others as given, each for so many dollars."""
    run = Run(
        id=f"r-{name}", task="gelu", task_digest="t-1", models=("mutate",), device="emulator", strategy=strategy,
        generations=1, population=len(times), seed=seed,
    )  # fmt: skip
    archive.create_run(run, TASK)
    for iteration, time_ns in enumerate([100.0, *times]):
        seeding = iteration == 0
        candidate = Candidate(source="seed" if seeding else f"{name} {iteration}", entry="forward")
        operator = Operator.SEED if seeding else Operator.OPTIMIZE
        job = Job(
            run=run.id, iteration=iteration, generation=int(not seeding), operator=operator, parents=(), model="mutate",
            island=None, seed=0,
        )  # fmt: skip
        archive.record_job(job)
        if not seeding:
            prompt = Prompt(
                operator=operator, messages=(Message(role="user", text="?"),), parents=(), template="t", seed=0
            )
            reply = Reply(model="mutate", text="!", cost_usd=usd, seconds=0.0, finish_reason="stop")
            archive.record_reply(job, 0, prompt, reply)
        archive.record(job, candidate, evaluation(candidate, time_ns))
    archive.finish_run(run.id)


def filled(path: Path) -> Path:
    with open_archive(path) as archive:
        for seed in range(3):
            record(archive, f"a{seed}", "greedy", seed, [50.0, None, 25.0, 12.5], 1.0)
            record(archive, f"b{seed}", "best_of_n", seed, [80.0, 40.0, 90.0], 2.0)
    return path


def test_runs_of_an_archive_are_grouped_and_counted_from_the_seed_kernel(tmp_path: Path) -> None:
    with open_archive(filled(tmp_path / "a.sqlite"), read_only=True) as archive:
        found = compare_runs(archive)
        assert found.basis == H100
        section = found.sections[0]
        assert section.spent == 3  # evaluations after the seed kernel, one that was wrong included
        assert [(s.group, s.seeds) for s in section.standings] == [("greedy (mutate)", 3), ("best_of_n (mutate)", 3)]
        assert [s.speedups[-1] for s in section.standings] == pytest.approx([4.0, 2.5])
        assert found.tracks[0].speedups == (1.0, 2.0, 2.0, 4.0, 8.0)
        some = compare_runs(archive, ["r-a0", "r-b0", "r-a0"])
        assert [t.run for t in some.tracks] == ["r-a0", "r-b0"]
        by_cost = compare_runs(archive, at=At.COST).sections[0]
        assert by_cost.spent == 4.0
        assert [s.speedups[-1] for s in by_cost.standings] == pytest.approx([8.0, 2.5])


def test_a_run_without_a_time_of_its_seed_kernel_is_refused(tmp_path: Path) -> None:
    with open_archive(tmp_path / "a.sqlite") as archive:
        record(archive, "a", "greedy", 0, [50.0], 0.0)
        empty = archive.get_run("r-a")
        archive.create_run(replace(empty, id="r-b"), TASK)
        with pytest.raises(UsageError, match=r"r-b has no time of its task's own kernel"):
            compare_runs(archive, ["r-a", "r-b"])


def test_the_command_prints_tables_or_one_json_document(tmp_path: Path) -> None:
    import typer

    app = typer.Typer()
    command.register(app)
    path = str(filled(tmp_path / "a.sqlite"))
    text = CliRunner().invoke(app, ["--archive", path])
    assert text.exit_code == 0, text.output
    assert "PREDICTED for H100 SXM by prediction 1" in text.output
    assert "gelu, 3 evaluations" in text.output
    assert "no difference can be shown by 3 pairs" in text.output
    document = json.loads(CliRunner().invoke(app, ["--archive", path, "--json", "--at", "cost"]).output)
    assert document["at"] == "cost"
    assert document["sections"][0]["differences"][0]["pairs"] == 3
