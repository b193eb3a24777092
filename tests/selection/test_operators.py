"""When to tune, repair, simplify and explore."""

from __future__ import annotations

import pytest

from kernelevo.records import Operator, Population
from kernelevo.selection.bandit import read_pulls
from kernelevo.selection.operators import (
    PATIENCE,
    RECENT,
    able,
    in_turn,
    stagnant,
    to_repair,
    to_simplify,
    to_tune,
)
from kernelevo.selection.standing import Standing

from .populations import scored, seeded, trial

SEED = scored(0, 9.0)


def tuned(population: Population) -> str | None:
    found = to_tune(population, Standing().update(population.scored))
    return found and found.candidate


def repaired(population: Population) -> str | None:
    found = to_repair(population, Standing().update(population.scored))
    return found and found.candidate


# --- tune


def test_a_best_is_tuned_once_whether_told_or_not() -> None:
    best = scored(1, 5.0, tunables=True)
    assert tuned(seeded(SEED, best)) == "c-1"
    for told in (True, False):
        assert tuned(seeded(SEED, best, trials=[trial(2, Operator.TUNE, parents=(1,), told=told)])) is None


def test_what_tuning_made_is_not_tuned_but_what_was_made_of_it_is() -> None:
    entries = [SEED, scored(1, 5.0, tunables=True), scored(2, 4.0, tunables=True)]
    tuning = trial(2, Operator.TUNE, parents=(1,), score_ns=4.0)
    assert tuned(seeded(*entries, trials=[tuning])) is None
    assert tuned(seeded(*entries, scored(3, 3.0, tunables=True), trials=[tuning])) == "c-3"


def test_only_the_best_is_tuned_and_only_what_declares_tunables() -> None:
    assert tuned(seeded(SEED, scored(1, 5.0, tunables=True), scored(2, 4.0))) is None


# --- repair


def test_the_nearest_miss_is_repaired_first_and_of_these_the_latest() -> None:
    statuses = ["build failed", "wrong", "crashed", "wrong", "timed out", "cheating", "unsupported"]
    entries = [scored(i, None, status=status) for i, status in enumerate(statuses, start=1)]
    assert repaired(seeded(SEED, *entries)) == "c-4"
    assert repaired(seeded(SEED, *entries[4:])) == "c-5"
    assert repaired(seeded(SEED, *entries[5:])) is None  # a cheat, and our own limit


def test_a_failure_is_repaired_twice_its_failed_repairs_included() -> None:
    first = scored(1, None)
    repair = trial(2, Operator.REPAIR, parents=(1,))
    again = trial(3, Operator.REPAIR, parents=(2,))
    assert repaired(seeded(SEED, first, scored(2, None), trials=[repair])) == "c-2"
    assert repaired(seeded(SEED, first, scored(2, None), scored(3, None), trials=[repair, again])) is None


def test_a_failure_whose_repair_is_under_way_or_passed_is_left_alone() -> None:
    first = scored(1, None)
    assert repaired(seeded(SEED, first, trials=[trial(2, Operator.REPAIR, parents=(1,), told=False)])) is None
    passed = trial(2, Operator.REPAIR, parents=(1,), score_ns=8.0)
    assert repaired(seeded(SEED, first, scored(2, 8.0), trials=[passed])) is None


def test_an_old_failure_is_not_repaired() -> None:
    later = [scored(i, 9.0) for i in range(2, 2 + RECENT)]
    assert repaired(seeded(SEED, scored(1, None), *later[:-1])) == "c-1"
    assert repaired(seeded(SEED, scored(1, None), *later)) is None


def test_a_repair_that_returns_its_parent_is_a_repair_of_it() -> None:
    trials = [trial(i, Operator.REPAIR, parents=(1,), candidate="c-1") for i in (2, 3)]
    assert repaired(seeded(SEED, scored(1, None), trials=trials[:1])) == "c-1"
    assert repaired(seeded(SEED, scored(1, None), trials=trials)) is None


# --- simplify


def test_the_best_that_was_not_simplified_lately_is_unless_it_is_slow() -> None:
    fast = [scored(1, 5.0), scored(2, 5.05), scored(3, 6.0)]
    found = [
        to_simplify(
            seeded(*fast, trials=[trial(4 + n, Operator.SIMPLIFY, parents=(p,)) for n, p in enumerate(done)]), fast
        )
        for done in ((), (1,), (1, 2))
    ]
    assert found == [fast[0], fast[1], None]


# --- explore


@pytest.mark.parametrize(("last", "expected"), [(9.0, True), (8.99, True), (8.8, False)])
def test_stagnation_is_that_nothing_lately_was_faster_by_much(last: float, expected: bool) -> None:
    entries = [scored(i, 9.0) for i in range(PATIENCE)]
    population = seeded(*entries, scored(PATIENCE + 40, last))
    assert stagnant(read_pulls(population, Standing().update(population.scored))) is expected


def test_a_young_run_does_not_stagnate_and_what_is_under_way_does_not_count() -> None:
    entries = [scored(i, 9.0) for i in range(PATIENCE)]  # one of them is the seed
    population = seeded(*entries, trials=[trial(PATIENCE + i, told=False) for i in range(9)])
    assert not stagnant(read_pulls(population, Standing().update(population.scored)))


# --- models


def test_mutate_neither_translates_nor_repairs() -> None:
    models = ("mutate", "a", "a", "mutate:other", "b")
    assert able(models, Operator.REPAIR) == able(models, Operator.TRANSLATE) == ["a", "b"]
    assert able(models, Operator.EXPLORE) == ["mutate", "a", "mutate:other", "b"]
    assert [in_turn(models, Operator.REPAIR, i) for i in range(3)] == ["a", "b", "a"]
    assert in_turn(("mutate",), Operator.REPAIR, 0) is None
