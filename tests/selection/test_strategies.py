"""The contract of every strategy, how each of them begins, and what the simple ones choose."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernelevo.errors import UsageError
from kernelevo.records import Operator, Population
from kernelevo.selection import STRATEGIES, Choice, Strategy, best_of, load_strategy, ranked

from .populations import fits, populations, scored, seeded, trial

EVERY = pytest.mark.parametrize("name", STRATEGIES)
PARENTS = {Operator.TRANSLATE: 0, Operator.CROSSOVER: 2}  # all others have one


def choose(strategy: str | Strategy, population: Population, *, iteration: int = 9, seed: int = 0) -> Choice:
    chooser = load_strategy(strategy) if isinstance(strategy, str) else strategy
    return chooser.choose(population, iteration=iteration, generation=(iteration + 3) // 4, rng=random.Random(seed))


@EVERY
@settings(max_examples=60, deadline=None)
@given(population=populations(), iteration=st.integers(1, 200), seed=st.integers(0, 2**32))
def test_any_population_gives_a_choice_of_its_own_candidates_and_models(
    name: str, population: Population, iteration: int, seed: int
) -> None:
    choice = choose(name, population, iteration=iteration, seed=seed)
    known = {s.candidate: s for s in population.scored}
    assert set(choice.parents) | set(choice.inspirations) <= set(known)
    assert len(choice.parents) == PARENTS.get(choice.operator, 1)
    assert len(set(choice.parents)) == len(choice.parents)
    assert not set(choice.parents) & set(choice.inspirations)
    assert choice.operator is not Operator.SEED
    if choice.operator is Operator.TUNE:
        assert choice.model is None
    elif population.models and (set(population.models) != {"mutate"} or choice.operator is not Operator.TRANSLATE):
        assert choice.model in population.models
    if choice.operator in (Operator.TRANSLATE, Operator.REPAIR):
        assert choice.model != "mutate"
    if any(s.score_ns is not None for s in population.scored) and choice.operator is not Operator.REPAIR:
        assert all(known[parent].score_ns is not None for parent in choice.parents)
    assert all(known[parent].status != "cheating" for parent in choice.parents) or choice.operator is Operator.EXPLORE


@EVERY
@settings(max_examples=60, deadline=None)
@given(before=st.lists(populations(), max_size=3), population=populations(), seed=st.integers(0, 2**32))
def test_a_choice_depends_on_nothing_but_its_arguments(
    name: str, before: list[Population], population: Population, seed: int
) -> None:
    used = load_strategy(name)
    for other in before:
        choose(used, other)
    assert choose(used, population, seed=seed) == choose(name, population, seed=seed)


@EVERY
def test_where_nothing_is_the_reference_is_translated(name: str) -> None:
    nothing = Population(scored=(), trials=(), models=("mutate", "a"))
    choice = choose(name, nothing)
    assert (choice.operator, choice.parents, choice.model) == (Operator.TRANSLATE, (), "a")


@EVERY
def test_a_seed_that_failed_is_repaired_twice_and_then_the_reference_is_translated(name: str) -> None:
    failed = seeded(scored(0, None))
    assert choose(name, failed).operator is Operator.REPAIR
    again = seeded(
        scored(0, None), scored(1, None), trials=[trial(1, Operator.REPAIR), trial(2, Operator.REPAIR, candidate=None)]
    )
    assert choose(name, again).operator is Operator.TRANSLATE


@EVERY
def test_mutate_alone_never_repairs_but_rewrites_what_was_not_judged(name: str) -> None:
    failed = seeded(scored(0, None, status="unsupported"), scored(1, None), models=("mutate",))
    choice = choose(name, failed)
    assert (choice.operator, choice.parents, choice.model) == (Operator.EXPLORE, ("c-0",), "mutate")


@EVERY
def test_a_correct_candidate_without_a_time_is_better_than_a_repair(name: str) -> None:
    choice = choose(name, seeded(scored(0, None, status="passed"), scored(1, None)))
    assert (choice.operator, choice.parents) == (Operator.OPTIMIZE, ("c-0",))


def test_best_of_n_starts_from_the_first_that_was_correct() -> None:
    population = seeded(scored(0, None), scored(1, 5.0), scored(2, 3.0), models=("a", "b"))
    choices = [choose("best_of_n", population, iteration=i) for i in (3, 4, 5)]
    assert {c.parents for c in choices} == {("c-1",)}
    assert [c.model for c in choices] == ["b", "a", "b"]


def test_greedy_starts_from_the_best() -> None:
    population = seeded(scored(0, 5.0), scored(1, 3.0, source_bytes=9), scored(2, 3.0, source_bytes=8))
    assert choose("greedy", population).parents == ("c-2",)


def test_random_parent_draws_every_correct_candidate_equally_often() -> None:
    population = seeded(*(scored(i, None if i == 3 else 5.0 + i % 2, island=i % 2) for i in range(6)))
    strategy, rng = load_strategy("random_parent"), random.Random(4)
    counts: Counter[str] = Counter()
    for _ in range(3000):
        counts.update(strategy.choose(population, iteration=9, generation=3, rng=rng).parents)
    assert fits(counts, {f"c-{i}": 1.0 for i in (0, 1, 2, 4, 5)})


def test_ranked_is_fastest_first_then_shortest_then_oldest() -> None:
    entries = [
        scored(0, 5.0),
        scored(1, None),
        scored(2, 3.0, source_bytes=7),
        scored(3, 3.0, source_bytes=6),
        scored(4, 3.0, source_bytes=6),
    ]
    assert [s.candidate for s in ranked(entries)] == ["c-3", "c-4", "c-2", "c-0"]
    assert best_of(entries) == entries[3]
    assert best_of(entries[1:2]) is None


def test_an_unknown_strategy_is_refused_with_those_there_are() -> None:
    every = "islands, islands_by_rank, one_island, best_of_n, random_parent, greedy"
    with pytest.raises(UsageError, match=rf"annealing.*\n.*{every}"):
        load_strategy("annealing")
