"""The bandit's formula, and what follows from it: it finds what makes progress, and follows when that changes."""

from __future__ import annotations

import math
import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernelevo.records import Operator, Population
from kernelevo.selection.bandit import WINDOW, Pull, credit, pick, read_pulls, values
from kernelevo.selection.standing import Standing

from .populations import fits, populations, scored, seeded, trial


def pull(arm: str, value: float | None, cost_usd: float | None = None) -> tuple[str, Pull]:
    return arm, Pull(operator=Operator.OPTIMIZE, model=arm, credit=value, gain=0.0, cost_usd=cost_usd)


def pulls_of(population: Population) -> list[Pull]:
    return read_pulls(population, Standing().update(population.scored))


def test_credit_is_half_over_the_parent_and_half_over_the_best() -> None:
    assert credit(2.0, parent_ns=2.0 * 2**0.5, best_ns=2.0 * 2**0.25) == pytest.approx((0.5 + 0.25) / 2)
    assert credit(1.0, parent_ns=8.0, best_ns=0.5) == 0.5  # more than twice as fast as its parent, not a new best
    assert credit(3.0, parent_ns=2.0, best_ns=1.0) == 0.0
    assert credit(1.0, parent_ns=None, best_ns=2.0) == 1.0  # of a repair
    assert credit(7.0, parent_ns=None, best_ns=None) == 1.0  # the first


def test_values_are_those_of_the_formula() -> None:
    found = values([pull("a", 0.5), pull("b", 0.2), pull("a", 0.0)], ["a", "b"])
    a, b = 1 + 0.95**2, 0.95
    mean_a, total = 0.95**2 * 0.5 / a, a + b
    assert found == {
        "a": pytest.approx(1.0 + 0.5 * math.sqrt(2 * math.log(1 + total) / a)),
        "b": pytest.approx(0.2 / mean_a + 0.5 * math.sqrt(2 * math.log(1 + total) / b)),
    }


def test_an_arm_that_was_never_pulled_comes_first() -> None:
    found = values([pull("a", 1.0)], ["a", "b"])
    assert found["b"] == math.inf
    assert pick(found, random.Random(0)) == "b"


def test_what_is_under_way_counts_as_if_it_had_failed() -> None:
    told = [pull("a", 0.5), pull("b", 0.5)]
    assert values([*told, pull("a", None)], ["a", "b"]) == values([*told, pull("a", 0.0)], ["a", "b"])
    rng = random.Random(3)
    chosen = []
    for _ in range(4):
        chosen.append(pick(values([*told, *(pull(arm, None) for arm in chosen)], ["a", "b"]), rng))
    assert Counter(chosen) == {"a": 2, "b": 2}


def test_of_equally_good_arms_the_cheaper_is_worth_more_and_the_unknown_lies_between() -> None:
    found = values(
        [pull(arm, 0.5, cost) for _ in range(5) for arm, cost in (("cheap", 0.0), ("?", None), ("dear", 0.4))],
        ["dear", "cheap", "?"],
    )
    same = values([pull(arm, 0.5) for _ in range(5) for arm in ("cheap", "?", "dear")], ["dear", "cheap", "?"])
    assert {arm: same[arm] - found[arm] for arm in same} == {
        "cheap": pytest.approx(0.0),
        "?": pytest.approx(0.1),
        "dear": pytest.approx(0.2),
    }


def test_equal_arms_are_drawn_equally_often() -> None:
    rng = random.Random(5)
    counts = Counter(pick({"a": 1.0, "b": 1.0, "c": 0.5, "d": 1.0}, rng) for _ in range(3000))
    assert fits(counts, {"a": 1.0, "b": 1.0, "d": 1.0})


def play(rates: list[dict[str, float]], seed: int) -> Counter[str]:
    """Pulls, of the second half of each phase, where each arm makes progress of 0.3 at a rate of its own."""
    rng = random.Random(seed)
    pulls: list[tuple[str, Pull]] = []
    counts: Counter[str] = Counter()
    for phase in rates:
        for step in range(200):
            arm = pick(values(pulls[-WINDOW:], list(phase)), rng)
            pulls.append(pull(arm, 0.3 if rng.random() < phase[arm] else 0.0))
            counts[arm] += step >= 100 and phase is rates[-1]
    return counts


@pytest.mark.parametrize("seed", range(3))
def test_the_arm_that_makes_progress_is_pulled_most_and_is_followed_when_it_changes(seed: int) -> None:
    before, after = {"a": 0.6, "b": 0.1, "c": 0.1}, {"a": 0.1, "b": 0.6, "c": 0.1}
    assert play([before], seed)["a"] > 60
    assert play([before, after], seed)["b"] > 60
    assert min(play([before], seed).values()) > 0  # none is given up


def test_arms_without_progress_are_pulled_equally_often() -> None:
    assert fits(play([{"a": 0.0, "b": 0.0, "c": 0.0}], 1), {"a": 1.0, "b": 1.0, "c": 1.0})


def test_pulls_are_rewarded_against_what_earlier_generations_had() -> None:
    population = seeded(
        scored(0, 8.0),
        scored(1, 4.0),
        scored(2, 4.0),  # of the same generation: neither knew of the other
        scored(5, 4.0 / 2**0.5),
        trials=[trial(1, score_ns=4.0), trial(2, score_ns=4.0), trial(5, parents=(1,), score_ns=4.0 / 2**0.5)],
    )
    assert [p.credit for p in pulls_of(population)] == [1.0, 1.0, pytest.approx(0.5)]
    assert [p.gain for p in pulls_of(population)] == [1.0, 1.0, pytest.approx(0.5)]


def test_what_the_run_had_before_earns_nothing() -> None:
    population = seeded(scored(0, 8.0), scored(1, 4.0), trials=[trial(6, score_ns=4.0, candidate="c-1")])
    assert [p.credit for p in pulls_of(population)] == [1.0, 0.0]


def test_what_we_cannot_judge_is_neither_rewarded_nor_punished() -> None:
    entries = [scored(0, 8.0), scored(1, 4.0)]
    limits = [scored(2, None, status="unsupported"), scored(3, None, status="passed")]
    assert pulls_of(seeded(*entries, *limits)) == pulls_of(seeded(*entries))
    assert len(pulls_of(seeded(*entries, scored(2, None)))) == 2


def test_tuning_is_nobodys_merit_and_an_empty_reply_is_a_failure() -> None:
    trials = [trial(1, Operator.TUNE, score_ns=4.0), trial(2, candidate=None, cost_usd=0.1)]
    (only,) = pulls_of(seeded(scored(0, 8.0), scored(1, 4.0), trials=trials))
    assert (only.credit, only.cost_usd) == (0.0, 0.1)


def test_the_cost_of_what_is_under_way_is_not_known_yet() -> None:
    (only,) = pulls_of(seeded(scored(0, 8.0), trials=[trial(1, told=False, cost_usd=0.1)]))
    assert (only.credit, only.cost_usd) == (None, None)


@settings(max_examples=60, deadline=None)
@given(population=populations())
def test_any_population_has_values_that_compare(population: Population) -> None:
    pulls = pulls_of(population)
    found = values([(p.model, p) for p in pulls], ["a", "b", "mutate"])
    assert not any(math.isnan(value) for value in found.values())
    assert all(p.credit is None or 0.0 <= p.credit <= 1.0 for p in pulls)


@settings(max_examples=60, deadline=None)
@given(costs=st.lists(st.none() | st.floats(0.0, 1e6), max_size=6))
def test_costs_move_a_value_by_at_most_their_weight(costs: list[float | None]) -> None:
    arms = [str(i) for i in range(len(costs))]
    with_costs = values([pull(arm, 0.5, cost) for arm, cost in zip(arms, costs, strict=True)], arms)
    without = values([pull(arm, 0.5) for arm in arms], arms)
    assert all(-1e-9 <= without[arm] - with_costs[arm] <= 0.2 + 1e-9 for arm in arms)
