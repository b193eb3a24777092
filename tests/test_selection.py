"""Strategies: pure, seeded, and choosing what their formulas say."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import pytest

from kernelevo.errors import UsageError
from kernelevo.records import Operator, Scored
from kernelevo.selection import STRATEGIES, Islands, load_strategy, parent_weights, ranked, sample_parent


def scored(iteration: int, score_ns: float | None, *, children: int = 0, island: int | None = None) -> Scored:
    return Scored(
        candidate=f"c-{iteration}",
        iteration=iteration,
        generation=iteration // 4,
        island=island,
        status="passed" if score_ns is not None else "wrong",
        score_ns=score_ns,
        children=children,
    )


def test_ranked_is_fastest_first_and_leaves_out_what_has_no_time() -> None:
    assert [s.candidate for s in ranked([scored(0, 5.0), scored(1, None), scored(2, 3.0), scored(3, 3.0)])] == [
        "c-2",
        "c-3",
        "c-0",
    ]


def test_a_faster_parent_weighs_more_and_each_child_makes_it_weigh_less() -> None:
    weights = parent_weights([scored(0, 10.0), scored(1, 5.0), scored(2, 5.0, children=1), scored(3, 20.0)])
    assert weights[1] > weights[0] > weights[3]
    assert weights[2] == pytest.approx(weights[1] / 2)


def test_equal_parents_are_drawn_equally_often() -> None:
    pool = [scored(i, 7.0) for i in range(4)]
    rng = random.Random(1)
    counts = Counter(sample_parent(pool, rng).candidate for _ in range(4000))
    chi_square = sum((counts[s.candidate] - 1000) ** 2 / 1000 for s in pool)
    assert chi_square < 16.3  # 99.9 % quantile of chi-square with 3 degrees of freedom


def test_sampling_follows_the_weights() -> None:
    pool = [scored(0, 4.0, children=3), scored(1, 4.0), scored(2, 6.0)]
    weights = parent_weights(pool)
    rng = random.Random(2)
    counts = Counter(sample_parent(pool, rng).candidate for _ in range(6000))
    chi_square = sum(
        (counts[s.candidate] - 6000 * w / sum(weights)) ** 2 / (6000 * w / sum(weights))
        for s, w in zip(pool, weights, strict=True)
        if w / sum(weights) > 1e-3
    )
    assert chi_square < 13.8  # 99.9 % quantile, 2 degrees of freedom


@pytest.mark.parametrize("name", STRATEGIES)
def test_the_same_generator_gives_the_same_choice(name: str) -> None:
    population = [scored(i, 10.0 - i % 3, island=i % 2) for i in range(9)]
    choices = [
        load_strategy(name).choose(population, iteration=9, generation=3, rng=random.Random(5)) for _ in range(3)
    ]
    assert choices[0] == choices[1] == choices[2]


@pytest.mark.parametrize("name", STRATEGIES)
def test_without_a_correct_candidate_the_latest_failure_is_repaired(name: str) -> None:
    failed = [scored(0, None), scored(1, None)]
    choice = load_strategy(name).choose(failed, iteration=2, generation=1, rng=random.Random(0))
    assert (choice.operator, choice.parents) == (Operator.REPAIR, ("c-1",))
    nothing = load_strategy(name).choose([], iteration=0, generation=1, rng=random.Random(0))
    assert (nothing.operator, nothing.parents) == (Operator.TRANSLATE, ())


def test_a_correct_candidate_without_a_time_is_better_than_a_repair() -> None:
    untimed = replace(scored(0, 1.0), score_ns=None)
    choice = Islands().choose([untimed, scored(1, None)], iteration=2, generation=1, rng=random.Random(0))
    assert (choice.operator, choice.parents) == (Operator.OPTIMIZE, ("c-0",))


def test_islands_choose_native_parents_and_cross_with_any() -> None:
    population = [scored(i, 10.0 + i, island=i % 2) for i in range(8)]
    strategy = Islands(migration=0.0)
    rng = random.Random(3)
    operators = Counter()
    for iteration in range(400):
        choice = strategy.choose(population, iteration=iteration, generation=2, rng=rng)
        operators[choice.operator] += 1
        assert int(choice.parents[0].removeprefix("c-")) % 2 == iteration % 2
        assert len(set(choice.parents)) == len(choice.parents)
    assert operators[Operator.CROSSOVER] == pytest.approx(100, abs=40)


def test_an_unknown_strategy_is_refused_with_those_there_are() -> None:
    with pytest.raises(UsageError, match=r"annealing.*\n.*islands, best_of_n, random_parent"):
        load_strategy("annealing")
