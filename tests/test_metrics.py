"""Metrics: what they are by brute force over small examples, and what is missing stays missing."""

import json
import math
import os
import subprocess
import sys
from dataclasses import replace
from itertools import combinations, pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernelevo import open_archive
from kernelevo.metrics import (
    Attempt,
    Attempts,
    MissingError,
    best_of_k,
    dps,
    eff_at_k,
    efficiency_score,
    efficient_at_k,
    fast_p,
    levels,
    pass_at_k,
    performance_score,
    report,
)
from kernelevo.records import TimingKind

sys.path.insert(0, str(Path(__file__).parent / "archive"))
import archive_examples as examples

WRONG = Attempt(correct=False, time_ns=None, instructions=None)
SCORES = st.lists(st.floats(0, 2), min_size=1, max_size=7)
TIMES = st.lists(st.floats(1, 1e6), min_size=1, max_size=30)


def right(time_ns, instructions=None):
    return Attempt(correct=True, time_ns=time_ns, instructions=instructions)


def attempts(*made, baseline=None, reason="no baseline", references=(), task="softmax"):
    return Attempts(task=task, attempts=made, baseline=baseline, baseline_reason=reason, references=references)


@given(SCORES, st.data())
def test_the_best_of_k_is_the_mean_of_the_maxima_of_all_subsets(scores, data):
    k = data.draw(st.integers(1, len(scores)))
    maxima = [max(subset) for subset in combinations(scores, k)]
    assert best_of_k(scores, k) == pytest.approx(math.fsum(maxima) / len(maxima), abs=1e-12)


@given(st.lists(st.booleans(), min_size=1, max_size=9), st.data())
def test_pass_at_k_is_the_share_of_subsets_that_hold_a_correct_attempt(correct, data):
    k = data.draw(st.integers(1, len(correct)))
    subsets = list(combinations(correct, k))
    assert pass_at_k(len(correct), sum(correct), k) == pytest.approx(sum(map(any, subsets)) / len(subsets))
    assert pass_at_k(len(correct), sum(correct), k) == pytest.approx(best_of_k([float(c) for c in correct], k))


@given(SCORES)
def test_more_attempts_never_make_the_best_worse(scores):
    values = [best_of_k(scores, k) for k in range(1, len(scores) + 1)]
    assert all(a <= b + 1e-12 for a, b in pairwise(values))
    assert values[0] == pytest.approx(math.fsum(scores) / len(scores))
    assert values[-1] == pytest.approx(max(scores))


@given(TIMES)
def test_levels_hold_every_time_once_in_order_with_gaps_between_them(times):
    found = levels(times)
    assert sorted(times) == [time for level in found for time in level]
    assert all(slow[0] > fast[-1] * 1.05 for fast, slow in pairwise(found))


@given(TIMES, st.floats(1, 1e6))
def test_a_performance_score_is_a_percentage_and_falls_with_the_time(times, time):
    score = performance_score(time, times)
    assert 0.0 <= score <= 100.0
    assert performance_score(time * 1.5, times) <= score
    assert performance_score(min(times), times) == 100.0
    assert performance_score(max(times) * 2, times) == 0.0


def test_a_score_of_one_is_the_baselines_and_none_is_left_at_the_time_limit():
    assert [efficiency_score(time, 10.0) for time in (0.0, 5.0, 10.0, 15.0, 20.0, 99.0)] == [2.0, 1.5, 1.0, 0.5, 0, 0]


def test_a_performance_score_counts_references_that_are_as_fast_or_slower():
    references = (10.0, 20.0, 20.4, 40.0)
    assert [performance_score(t, references) for t in (9.0, 10.0, 11.0, 20.2, 21.0, 41.0)] == [100, 100, 75, 75, 25, 0]


def test_fast_p_takes_the_fastest_correct_attempt_and_asks_for_more_than_p():
    task = attempts(WRONG, right(50.0), right(100.0), baseline=right(100.0))
    assert [fast_p(task, p) for p in (0, 1, 1.99, 2, 3)] == [1, 1, 1, 0, 0]
    assert fast_p(attempts(WRONG, WRONG), 1) == 0.0


def test_efficient_needs_fewer_instructions_than_the_baseline():
    task = attempts(right(9, 90), right(9, 100), WRONG, right(9, 110), baseline=right(9, 100))
    assert efficient_at_k(task, 1) == pytest.approx(1 / 4)
    assert efficient_at_k(task, 4) == 1.0


def test_a_wrong_attempt_scores_nothing():
    task = attempts(WRONG, right(10.0), baseline=right(10.0))
    assert (eff_at_k(task, 1), eff_at_k(task, 2)) == (0.5, 1.0)


def test_dps_is_the_mean_over_the_correct_attempts():
    task = attempts(right(10.0), WRONG, right(40.0), references=(10.0, 20.0, 40.0, 80.0))
    assert dps(task) == pytest.approx((100 + 50) / 2)


@pytest.mark.parametrize(
    ("metric", "task", "reason"),
    [
        (lambda t: fast_p(t, 1), attempts(right(1.0)), "no baseline"),
        (lambda t: fast_p(t, 1), attempts(right(None), baseline=right(1.0)), "no correct attempt has a time"),
        (lambda t: fast_p(t, 1), attempts(right(1.0), baseline=right(None), reason=None), "the baseline has no time"),
        (lambda t: fast_p(t, 1), attempts(), "no attempt was made"),
        (lambda t: eff_at_k(t, 1), attempts(right(None), baseline=right(1.0)), "a correct attempt has no time"),
        (lambda t: eff_at_k(t, 2), attempts(right(1.0), baseline=right(1.0)), "1 attempts were made, 2 are needed"),
        (lambda t: efficient_at_k(t, 1), attempts(right(1.0, 5), baseline=right(1.0), reason=None), "of the baseline"),
        (
            lambda t: efficient_at_k(t, 1),
            attempts(right(1.0), baseline=right(1, 9)),
            "correct attempt were not counted",
        ),
        (dps, attempts(right(1.0), references=(1.0,)), "1 reference solutions are known"),
    ],
)
def test_what_is_missing_is_said_and_never_replaced(metric, task, reason):
    with pytest.raises(MissingError, match=reason):
        metric(task)


def test_a_report_over_tasks_is_missing_when_one_of_them_lacks_a_baseline():
    solved = attempts(right(5.0), baseline=right(10.0), references=(5.0, 10.0))
    unsolved = attempts(WRONG, task="gelu")
    without = attempts(right(5.0), task="rmsnorm", reason="nobody timed PyTorch", references=(5.0, 9.0))
    found = {metric.name: metric for metric in report([solved, unsolved], ks=(1,), ps=(0, 1, 4))}
    assert {name: metric.value for name, metric in found.items() if name != "efficient@1"} == {
        "fast_0": 0.5,
        "fast_1": 0.5,
        "fast_4": 0.0,
        "pass@1": 0.5,
        "eff@1": 0.75,
        "DPS": 100.0,
    }
    found = {metric.name: metric for metric in report([solved, without], ks=(1,), ps=(0, 1))}
    assert (found["fast_1"].value, found["fast_1"].reason) == (None, "rmsnorm: nobody timed PyTorch")
    assert found["fast_0"].value == 1.0
    assert report([], ks=(), ps=(1,))[0].reason == "there are no tasks"


# The command, on an archive


@pytest.fixture
def archive(tmp_path):
    """Two runs of one task on the emulator, one of them with nothing timed, and a measured run of another device."""
    path = tmp_path / "archive.sqlite"
    task = examples.task()
    with open_archive(path) as opened:
        for name, device in (
            ("r-000000000001", "emulator"),
            ("r-000000000002", "emulator"),
            ("r-000000000003", "cuda"),
        ):
            run = replace(examples.run(name), device=device)
            opened.create_run(run, task)
            for iteration in range(3):
                number = iteration + (10 if device == "cuda" else 0)
                made = examples.candidate(number)
                parents = () if iteration == 0 else (examples.candidate(number - iteration).id,)
                job = examples.job(iteration, *parents, of=name)
                opened.record_job(job)
                kind = TimingKind.MEASURED if device == "cuda" else TimingKind.PREDICTED
                evaluation = evaluated(made, kind, 1000.0 / (1 + iteration), device)
                if name == "r-000000000002" or iteration == 2:
                    opened.record(job, None, None, reason="the reply held no candidate")
                else:
                    opened.record(job, made, evaluation)
    return path


def evaluated(made, kind, score_ns, device):
    found = examples.passed(made.id)
    counters = {"warp_instructions": score_ns * 2}
    case = replace(found.timing.cases[0], median_ns=score_ns, low_ns=score_ns, high_ns=score_ns, counters=counters)
    return replace(found, device=device, timing=replace(found.timing, kind=kind, cases=(case,)))


def run(archive, *arguments):
    command = [sys.executable, "-c", "from kernelevo.cli import main; main()", "metrics", "--archive", str(archive)]
    done = subprocess.run([*command, *arguments], env=os.environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_command_keeps_measured_and_predicted_apart_and_counts_attempts_without_candidates(archive):
    groups = json.loads(run(archive, "--baseline", "seed", "--json", "-k", "1"))
    assert [(g["device"], g["kind"], g["tasks"]) for g in groups] == [
        ("emulator", "predicted", {"rmsnorm": 4}),
        ("cuda", "measured", {"rmsnorm": 2}),
    ]
    predicted, measured = ({name: m["value"] for name, m in g["metrics"].items()} for g in groups)
    assert predicted["pass@1"] == pytest.approx(1 / 4)
    assert measured["pass@1"] == pytest.approx(1 / 2)
    assert (predicted["fast_1"], predicted["fast_2"]) == (1.0, 0.0)
    assert predicted["efficient@1"] == pytest.approx(1 / 4)
    assert predicted["eff@1"] == pytest.approx(1.5 / 4)
    assert predicted["DPS"] == 100.0


def test_without_a_baseline_the_command_says_so(archive):
    text = run(archive, "r-000000000001")
    assert "PREDICTED for" in text
    assert "missing: rmsnorm: no baseline is named, and the archive holds no times of PyTorch; give --baseline" in text
    (group,) = json.loads(run(archive, "r-000000000001", "--json"))
    assert group["metrics"]["fast_0"]["value"] == 1.0
    assert group["metrics"]["fast_1"]["value"] is None
    assert "2 attempts were made, 4 are needed" in group["metrics"]["pass@4"]["reason"]
