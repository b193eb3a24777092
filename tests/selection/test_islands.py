"""Islands choose as often as their formulas say. Each expectation is worked out here, not taken from the code."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import pytest

from kernelevo.records import Operator, Population, Scored, Trial
from kernelevo.selection import Choice, Strategy
from kernelevo.selection.islands import Islands, IslandsByRank, Kin
from kernelevo.selection.operators import PATIENCE
from kernelevo.selection.parents import parent_weights, rank_weights

from .populations import COMPUTE, MEMORY, WARPS, fits, scored, seeded, sigmoid, trial

DRAWS = 3000


def draws(strategy: Strategy, population: Population, *, island: int | None = None) -> Iterator[Choice]:
    rng = random.Random(11)
    for number in range(DRAWS):
        iteration = 100 + number if island is None else 2 * number + island
        yield strategy.choose(population, iteration=iteration, generation=25, rng=rng)


def unrelated(*candidates: Scored) -> Population:
    """Candidates of which none is the parent of another."""
    return seeded(*candidates, trials=[trial(s.iteration, parents=(99,), score_ns=s.score_ns) for s in candidates])


def with_fitness(*fitness: float, children: tuple[int, ...] = (), island: int | None = 0) -> list[Scored]:
    """Candidates of one behaviour; fitness is -log(score)."""
    return [
        scored(i, math.exp(-f), children=children[i] if children else 0, island=island, behaviour=MEMORY)
        for i, f in enumerate(fitness)
    ]


FITNESS = (-1.0, -1.0, -0.2, 0.0, 0.2, 1.0, 1.0)  # median 0, median of absolute deviations 1
CHILDREN = (0, 0, 0, 1, 3, 4, 9)
WEIGHTS = [sigmoid(10 * f) / (1 + c) for f, c in zip(FITNESS, CHILDREN, strict=True)]


def test_parent_weights_are_the_sigmoid_of_fitness_over_one_and_children() -> None:
    assert parent_weights(with_fitness(*FITNESS, children=CHILDREN)) == pytest.approx(WEIGHTS)
    assert parent_weights(with_fitness(3.0, 3.0, children=(0, 1))) == pytest.approx([0.5, 0.25])


def test_rank_weights_are_a_power_of_the_rank() -> None:
    assert rank_weights(with_fitness(0.0, 2.0, 1.0)) == pytest.approx([1 / 3, 1.0, 1 / 2])
    assert rank_weights(with_fitness(0.0, 2.0, 1.0), exponent=2.0) == pytest.approx([1 / 9, 1.0, 1 / 4])


def test_parents_are_drawn_by_the_sigmoid() -> None:
    population = seeded(*with_fitness(*FITNESS, children=CHILDREN))
    counts = Counter(c.parents[0] for c in draws(Islands(greed=0.0, simplify=10**9), population))
    rare = {f"c-{i}" for i in (0, 1)}  # too few are expected for a chi-square
    assert sum(counts[c] for c in rare) < 5
    common = {k: v for k, v in counts.items() if k not in rare}
    assert fits(common, {f"c-{i}": w for i, w in enumerate(WEIGHTS) if f"c-{i}" not in rare})


def test_parents_are_drawn_by_their_rank() -> None:
    population = seeded(*with_fitness(*reversed(range(5))))
    counts = Counter(c.parents[0] for c in draws(IslandsByRank(greed=0.0, simplify=10**9), population))
    assert fits(counts, {f"c-{i}": 1 / (i + 1) for i in range(5)})


def test_greed_is_how_often_the_best_is_taken_outright() -> None:
    population = seeded(*with_fitness(0.0, 0.0, 0.0, 0.0))  # equal: the oldest is the best
    counts = Counter(c.parents[0] for c in draws(Islands(greed=0.4, simplify=10**9), population))
    assert fits(counts, {"c-0": 0.4 + 0.6 / 4, "c-1": 0.15, "c-2": 0.15, "c-3": 0.15})


def test_a_parent_migrates_as_often_as_it_is_said_to() -> None:
    population = seeded(scored(0, 1.0, island=0, behaviour=MEMORY), scored(1, 2.0, island=1, behaviour=MEMORY))
    at_home = Counter(
        c.parents[0] for c in draws(Islands(greed=1.0, migration=0.3, simplify=10**9), population, island=0)
    )
    abroad = Counter(
        c.parents[0] for c in draws(Islands(greed=1.0, migration=0.3, simplify=10**9), population, island=1)
    )
    assert set(at_home) == {"c-0"}
    assert fits(abroad, {"c-0": 0.3, "c-1": 0.7})


def test_the_seed_is_at_home_on_every_island() -> None:
    population = seeded(scored(0, 1.0), scored(1, 2.0, island=0), scored(2, 3.0, island=1))
    for island in (0, 1):
        choices = draws(Islands(greed=1.0, migration=0.0, simplify=10**9), population, island=island)
        assert {c.parents[0] for c in choices} == {"c-0"}


def test_every_island_has_the_same_number_of_iterations() -> None:
    population = seeded(scored(0, 1.0))
    assert Counter(c.island for c in draws(Islands(islands=3), population)) == {i: DRAWS // 3 for i in range(3)}


def test_a_crossover_takes_its_second_parent_from_another_behaviour_by_weight() -> None:
    others = [
        scored(1, math.exp(-0.2), island=0, behaviour=COMPUTE),
        scored(2, math.exp(0.0), island=1, behaviour=COMPUTE, children=1),
        scored(3, math.exp(0.2), island=1, behaviour=WARPS),
    ]
    population = unrelated(scored(0, 1e-3, island=0, behaviour=MEMORY), *others)  # c-0 is the best
    strategy = Islands(greed=1.0, migration=0.0, simplify=10**9)
    choices = list(draws(strategy, population, island=0))
    assert {c.operator for c in choices} == {Operator.CROSSOVER}  # it was never pulled
    assert {c.parents[0] for c in choices} == {"c-0"}
    # Fitness 0.2, 0 and -0.2: median 0, median deviation 0.2.
    assert fits(Counter(c.parents[1] for c in choices if c.parents[1] != "c-3"), {"c-1": sigmoid(10.0), "c-2": 0.5 / 2})
    assert sum(c.parents[1] == "c-3" for c in choices) < 5


def test_candidates_of_one_behaviour_are_not_crossed() -> None:
    population = seeded(*with_fitness(0.0, 1.0, 2.0))
    assert {c.operator for c in draws(Islands(simplify=10**9), population)} == {Operator.OPTIMIZE}


def test_without_a_known_behaviour_another_time_is_what_makes_two_unlike() -> None:
    alike = seeded(scored(0, 5.0), scored(1, 5.0))
    assert {c.operator for c in draws(Islands(simplify=10**9), alike)} == {Operator.OPTIMIZE}
    other = unrelated(scored(0, 5.0), scored(1, 6.0))
    assert {c.operator for c in draws(Islands(simplify=10**9), other)} == {Operator.CROSSOVER}


def test_a_candidate_is_not_crossed_with_its_own_parents_and_children() -> None:
    """One has what the other has."""
    family = seeded(scored(0, 5.0, behaviour=MEMORY), scored(1, 6.0, behaviour=COMPUTE))
    assert {c.operator for c in draws(Islands(simplify=10**9), family)} == {Operator.OPTIMIZE}


def test_in_stagnation_every_behaviour_is_explored_alike_whatever_its_numbers() -> None:
    seed = [scored(0, 1.0, behaviour=MEMORY)]
    slower = [scored(i, 2.0 + i, behaviour=MEMORY) for i in range(1, PATIENCE)]
    others = [scored(90, 900.0, behaviour=COMPUTE), scored(91, 800.0, behaviour=WARPS)]
    tried = [trial(92 + i, Operator.CROSSOVER, score_ns=2.0) for i in range(2)]
    population = seeded(*seed, *slower, *others, trials=tried)
    choices = list(draws(Islands(simplify=10**9), population))
    assert {c.operator for c in choices} == {Operator.EXPLORE}  # it was never pulled
    assert fits(Counter(c.parents[0] for c in choices), {"c-0": 1.0, "c-90": 1.0, "c-91": 1.0})


def test_a_failure_worth_a_repair_is_repaired_as_often_as_it_is_said_to_be() -> None:
    population = seeded(*with_fitness(0.0, 0.0), scored(2, None, island=0))
    choices = list(draws(Islands(repair=0.3, simplify=10**9), population))
    repairs = [c for c in choices if c.operator is Operator.REPAIR]
    assert {(c.parents, c.inspirations) for c in repairs} == {(("c-2",), ("c-0",))}
    assert fits(Counter(c.operator.value for c in choices), {"repair": 0.3, "optimize": 0.7})
    mutated = seeded(*population.scored, models=("mutate",))
    assert Operator.REPAIR not in {c.operator for c in draws(Islands(repair=1.0), mutated)}


def test_every_seventeenth_iteration_shortens_a_fast_candidate_of_its_island() -> None:
    population = seeded(*with_fitness(0.0, 0.001, 1.0, 1.001))
    choices = dict(enumerate(draws(Islands(), population), start=100))
    simplified = [i for i, c in choices.items() if c.operator is Operator.SIMPLIFY]
    assert simplified == [i for i in choices if i % 17 == 16]
    assert {choices[i].parents for i in simplified} == {("c-3",)}
    assert {choices[i].island for i in simplified} == {0, 1}


def test_a_new_best_that_declares_tunables_is_tuned_before_anything_else() -> None:
    population = seeded(scored(0, 9.0), scored(1, 5.0, tunables=True))
    choice = next(draws(Islands(), population))
    assert (choice.operator, choice.parents, choice.model) == (Operator.TUNE, ("c-1",), None)


def test_prompts_are_shown_the_best_of_two_other_behaviours() -> None:
    entries = [scored(0, 1.0, behaviour=MEMORY), scored(1, 2.0, behaviour=MEMORY)]
    others = [scored(2, 3.0, behaviour=COMPUTE), scored(3, 4.0, behaviour=COMPUTE), scored(4, 5.0, behaviour=WARPS)]
    tried = [trial(5 + i, Operator.CROSSOVER, score_ns=9.0) for i in range(9)]
    population = seeded(*entries, *others, trials=[*tried, trial(14, score_ns=0.5)])
    choices = [c for c in draws(Islands(greed=1.0), population) if c.operator is Operator.OPTIMIZE]
    assert choices
    assert {frozenset(c.inspirations) for c in choices} == {frozenset({"c-2", "c-4"})}


def test_kin_that_is_kept_up_to_date_is_the_kin_of_its_trials() -> None:
    rng = random.Random(0)
    kept = Kin()
    for _ in range(30):
        trials: list[Trial] = []
        for _ in range(30):  # one more, one more told; sometimes another run begins
            if trials and rng.random() < 0.5:
                place = rng.randrange(len(trials))
                trials[place] = replace(trials[place], told=True, candidate=f"c-{place}")
            parents = [rng.randrange(8) for _ in range(rng.randrange(3))]
            trials.append(trial(len(trials), parents=parents, told=False))
            given = tuple(trials[: rng.randrange(len(trials) + 1)]) if rng.random() < 0.1 else tuple(trials)
            kept.update(given)
            for one in range(8):
                expected: set[str] = set()
                for made in given:
                    if made.candidate == f"c-{one}":
                        expected.update(made.parents)
                    if made.candidate is not None and f"c-{one}" in made.parents:
                        expected.add(made.candidate)
                assert kept.of(f"c-{one}") == expected
