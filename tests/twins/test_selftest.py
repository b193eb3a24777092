"""Mutants of right kernels are caught, and the kernels never are. Real builds, real emulator."""

import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from kernelevo.config import read_settings
from kernelevo.errors import UsageError
from kernelevo.records import Outcome
from kernelevo.selftest import Fate, OperatorRate, SelfTest, Trial, call_limit, rates, sample, self_test
from kernelevo.tasks import load_task
from kernelevo.verify.mutants import Mutant, mutants

HONEST = Path(__file__).parent / "honest"


@pytest.mark.nvcc
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "kernel", "operators"),
    [
        ("rmsnorm", None, {"drop barrier", "bound too large", "half accumulator", "wrong constant", "confuse axis"}),
        ("softmax", "warp_per_row.cu", {"wrong shuffle", "drop argument", "drop guard", "keep only the last"}),
    ],
)
def test_mutants_of_a_right_kernel_are_caught_and_the_kernel_never(name, kernel, operators, emulator, cache_folder):
    result = self_test(
        load_task(name),
        emulator,
        read_settings(),
        kernel=(HONEST / kernel).read_text() if kernel else None,
        operators=operators,
        limit=1,
        repeats=1,
        cache=cache_folder,
    )
    assert result.false_alarms == ()
    assert {trial.mutant.operator for trial in result.judged} == operators
    assert [str(trial.mutant) for trial in result.survivors] == []
    assert result.kill_rate == 1.0
    assert all(trial.reason for trial in result.judged)
    assert {trial.stage for trial in result.judged} <= {"smoke", "correctness", "integrity"}


@pytest.mark.nvcc
@pytest.mark.slow
def test_a_mutant_that_compiles_to_the_same_code_counts_nowhere(emulator, cache_folder):
    source = load_task("gelu").seed_source.replace("y[i] = ", "value *= 1.0f; y[i] = ")
    result = self_test(
        load_task("gelu"),
        emulator,
        read_settings(),
        kernel=source,
        operators={"drop statement"},
        repeats=1,
        cache=cache_folder,
    )
    assert {trial.mutant.before: trial.fate for trial in result.mutants} == {
        "value *= 1.0f;": Fate.EQUIVALENT,
        "y[i] = 0.5f * value * (1.0f + erff(value * 0.70710678f));": Fate.KILLED,
    }
    assert (len(result.judged), result.kill_rate) == (1, 1.0)


@pytest.mark.nvcc
@pytest.mark.slow
def test_mutants_of_a_kernel_that_is_rejected_itself_say_nothing_and_are_left_out(emulator, cache_folder):
    wrong = load_task("gelu").seed_source.replace("0.5f", "0.6f")
    result = self_test(load_task("gelu"), emulator, read_settings(), kernel=wrong, repeats=1, cache=cache_folder)
    assert [trial.outcome for trial in result.false_alarms] == [Outcome.WRONG]
    assert (result.mutants, result.kill_rate) == ((), None)


@pytest.mark.parametrize(("longest", "limit"), [(0.0, 5.0), (1.0, 5.0), (3.0, 12.0), (30.0, 20.0)])
def test_a_mutant_may_take_some_times_as_long_as_its_kernel_and_never_longer_than_a_candidate(longest, limit):
    original = Trial(mutant=None, fate=Fate.SURVIVED, outcome=Outcome.PASSED, reason=None, longest_seconds=longest)
    assert call_limit([original], 20.0) == limit


def test_a_task_without_a_kernel_is_refused():
    with pytest.raises(UsageError, match=r"no seed\.cu to mutate"):
        self_test(replace(load_task("gelu"), seed_source=None), None, read_settings())  # type: ignore[arg-type]


def trial(operator: str, fate: Fate) -> Trial:
    mutant = Mutant(operator=operator, line=1, before="a", after="b", source="b")
    outcome = Outcome.PASSED if fate is Fate.SURVIVED else Outcome.WRONG if fate is Fate.KILLED else None
    return Trial(mutant=mutant, fate=fate, outcome=outcome, reason=None)


def test_rates_count_only_what_was_judged():
    trials = [
        *(trial("drop term", fate) for fate in (Fate.KILLED, Fate.KILLED, Fate.KILLED, Fate.SURVIVED)),
        *(trial("drop barrier", fate) for fate in (Fate.EQUIVALENT, Fate.NOT_COMPILED, Fate.UNSUPPORTED)),
    ]
    assert rates(trials) == (
        OperatorRate(operator="drop term", killed=3, survived=1, equivalent=0, rest=0),
        OperatorRate(operator="drop barrier", killed=0, survived=0, equivalent=1, rest=2),
    )
    assert [row.kill_rate for row in rates(trials)] == [0.75, None]
    result = SelfTest(task="t", kernel="a", originals=(), mutants=tuple(trials))
    assert (result.kill_rate, len(result.judged), len(result.survivors)) == (0.75, 4, 1)
    assert SelfTest(task="t", kernel="a", originals=(), mutants=()).kill_rate is None


def test_a_sample_has_every_operator_and_is_the_same_for_the_same_seed():
    found = mutants(load_task("softmax").seed_source)
    some = sample(found, 2, 7)
    assert max(Counter(mutant.operator for mutant in some).values()) == 2
    assert {mutant.operator for mutant in some} == {mutant.operator for mutant in found}
    assert some == sample(found, 2, 7) != sample(found, 2, 8)
    assert [m.line for m in some] == sorted(m.line for m in some)
    assert sample(found, None, 0) == found


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from kernelevo.cli import main; main()", "verify", *arguments]
    return subprocess.run(command, env=os.environ, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.nvcc
@pytest.mark.slow
def test_the_command_prints_rates_of_operators_and_tasks_as_json():
    wanted = ["drop term", "skip the tail", "wrong constant"]
    options = [part for name in wanted for part in ("--operator", name)]
    done = run("--self-test", "gelu", "--limit", "1", "--json", *options)
    document = json.loads(done.stdout)
    assert done.returncode == 0, done.stderr
    (task,) = document["tasks"]
    assert (document["kill_rate"], task["task"], task["survivors"], task["false_alarms"]) == (1.0, "gelu", [], [])
    assert sum(row["killed"] for row in task["operators"]) == task["judged"]
    assert sorted(row["operator"] for row in task["operators"]) == wanted


def test_the_command_says_what_it_needs():
    assert "nothing to verify" in run("gelu").stderr
    assert "--kernel needs the one task" in run("--self-test", "--kernel", "a.cu").stderr
    assert "unknown operator 'drop'" in run("--self-test", "gelu", "--operator", "drop").stderr
