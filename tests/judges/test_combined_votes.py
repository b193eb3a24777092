"""One probability from votes and facts: bounds, monotony, and what is learned from judges whose errors are known."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from judged_examples import judged, simulated, vote

from kernelevo.judges import JUDGES
from kernelevo.judges.combine import (
    LABELS_NEEDED,
    LEAST_OF_EACH,
    PENALTY,
    LabelModel,
    Regression,
    Weights,
    estimate_passing,
    fit,
    learn,
    learn_label_model,
    opinion,
    passed,
)
from kernelevo.records import Judged, Judgement

ACCURACY = {"compiles": 0.9, "memory": 0.75, "numerics": 0.6}


def passes(votes: list[Judgement], weights: Weights, **features: float) -> float:
    probability = estimate_passing(votes, features, weights).probability
    assert probability is not None
    return probability


def unlabelled() -> list[Judged]:
    return simulated(random.Random(1), 60, ACCURACY, measured=False)


def with_facts(count: int, seed: int) -> list[Judged]:
    """Candidates whose passing shows in a fact, too; it is missing for every tenth."""
    rng = random.Random(seed)
    entries = simulated(rng, count, ACCURACY, confidence=lambda rng: rng.uniform(0.5, 1))
    return [
        judged(
            entry.judgements,
            entry.status,
            features={"spills": rng.gauss(-1.0 if entry.status == "passed" else 1.0, 2.0)} if i % 10 else {},
            probability=0.5,
        )
        for i, entry in enumerate(entries)
    ]


WEIGHTS = [
    learn([]),
    learn(unlabelled()),
    learn(simulated(random.Random(2), 200, ACCURACY)),
    learn(with_facts(300, 3)),
    learn(simulated(random.Random(4), 200, {"compiles": 0.1, "memory": 0.5, "numerics": 0.8})),
    learn_label_model(simulated(random.Random(4), 200, {"compiles": 0.1, "memory": 0.5, "numerics": 0.8})),
]


def test_the_method_follows_the_number_of_outcomes() -> None:
    rng = random.Random(5)
    few = simulated(rng, LABELS_NEEDED - 1, ACCURACY)
    assert isinstance(learn(few), LabelModel)
    assert isinstance(learn([*few, *simulated(rng, 1, ACCURACY)]), Regression)
    of_one_kind = [entry for entry in simulated(rng, 400, ACCURACY) if entry.status == "passed"]
    assert len(of_one_kind) > LABELS_NEEDED
    assert isinstance(learn(of_one_kind), LabelModel)
    others = [replace(entry, status="crashed") for entry in of_one_kind[:LEAST_OF_EACH]]
    assert isinstance(learn([*of_one_kind, *others]), Regression)


def test_what_is_unsupported_or_has_no_readable_vote_is_no_label() -> None:
    entries = simulated(random.Random(6), LABELS_NEEDED, ACCURACY)
    assert isinstance(learn(entries), Regression)
    assert isinstance(learn([replace(entries[0], status="unsupported"), *entries[1:]]), LabelModel)
    assert isinstance(learn([judged([vote("memory", None, None)], "passed"), *entries[1:]]), LabelModel)
    assert [passed(s) for s in ("passed", "wrong", "build failed", "cheating", "unsupported", None)] == [
        True,
        False,
        False,
        False,
        None,
        None,
    ]


def test_without_a_vote_there_is_no_probability_but_a_reason() -> None:
    for weights in WEIGHTS:
        for votes, reason in (([], "no judge was asked"), ([vote("memory", None, None)], "no reply of a judge")):
            estimate = estimate_passing(votes, {"spills": 1.0}, weights)
            assert estimate.probability is None
            assert reason in estimate.reason


def test_before_anything_is_known_judges_are_believed_as_far_as_the_prior_says() -> None:
    weights = learn([])
    assert passes([vote("memory", True)], weights) == pytest.approx(0.8)
    assert passes([vote("memory", False)], weights) == pytest.approx(0.2)
    assert passes([vote(judge, True) for judge in JUDGES], weights) == pytest.approx(64 / 65)
    assert passes([vote("memory", True), vote("numerics", False)], weights) == pytest.approx(0.5)


# --- properties, over all weights -----------------------------------------------------------------------------------

votes_of_a_candidate = st.lists(
    st.builds(
        vote,
        st.sampled_from(JUDGES),
        st.sampled_from([True, False, None]),
        st.one_of(st.none(), st.floats(0, 1), st.sampled_from([0.0, 0.5, 0.9, 1.0])),
    ),
    max_size=9,
)
some_weights = st.sampled_from(WEIGHTS)
some_facts = st.dictionaries(st.sampled_from(["spills", "unknown"]), st.floats(), max_size=2)


@given(votes_of_a_candidate, some_facts, some_weights)
def test_a_probability_lies_between_0_and_1(votes: list[Judgement], facts: dict[str, float], weights: Weights) -> None:
    probability = estimate_passing(votes, facts, weights).probability
    assert probability is None or 0 <= probability <= 1


@given(votes_of_a_candidate, some_facts, some_weights, st.randoms())
def test_the_order_of_votes_does_not_matter(
    votes: list[Judgement], facts: dict[str, float], weights: Weights, rng: random.Random
) -> None:
    shuffled = rng.sample(votes, len(votes))
    assert estimate_passing(shuffled, facts, weights) == estimate_passing(votes, facts, weights)


@settings(max_examples=300)
@given(votes_of_a_candidate, st.sampled_from(JUDGES), st.none() | st.floats(0, 1), st.floats(0, 1), some_weights)
def test_a_vote_that_says_more_for_a_candidate_never_makes_it_less_probable(
    others: list[Judgement], judge: str, confidence: float | None, more: float, weights: Weights
) -> None:
    if confidence is None:
        better, worse = vote(judge, True, None), vote(judge, False, None)
    else:
        better = vote(judge, True, max(confidence, more))
        worse = vote(judge, True, min(confidence, more))
        assert passes([*others, vote(judge, False, 1 - confidence)], weights) == pytest.approx(
            passes([*others, vote(judge, True, confidence)], weights), abs=1e-9
        )
    assert passes([*others, better], weights) >= passes([*others, worse], weights) - 1e-12


@pytest.mark.parametrize("seed", range(3))
def test_the_order_of_earlier_candidates_does_not_matter(seed: int) -> None:
    for entries in (unlabelled(), with_facts(200, seed)):
        votes = [vote("compiles", True), vote("memory", False, 0.7)]
        shuffled = random.Random(seed).sample(entries, len(entries))
        assert passes(votes, learn(shuffled), spills=1.0) == pytest.approx(
            passes(votes, learn(entries), spills=1.0), 1e-6
        )


# --- the label model ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "least"), [(100, 10), (500, 16), (2000, 18)])
def test_the_label_model_finds_without_labels_which_judge_is_better(count: int, least: int) -> None:
    """In most of 20 archives; guessing the order of three judges succeeds in a sixth of them. Three judges just suffice
    to know each, and the worst one here is right 6 times in 10: it takes many candidates to be sure.
    """

    def ranking(seed: int) -> list[str]:
        model = learn(simulated(random.Random(seed), count, ACCURACY, measured=False))
        assert isinstance(model, LabelModel)
        return sorted(JUDGES, key=lambda judge: -model.accepts_right[judge] - model.refuses_wrong[judge])

    assert sum(ranking(seed) == ["compiles", "memory", "numerics"] for seed in range(20)) >= least


def test_the_label_model_finds_the_rates_of_the_judges_and_the_share_that_passes() -> None:
    accuracy = {"compiles": 0.9, "memory": 0.85, "numerics": 0.7}
    model = learn(simulated(random.Random(8), 5000, accuracy, share=0.3, measured=False))
    assert isinstance(model, LabelModel)
    for judge, rate in accuracy.items():
        assert model.accepts_right[judge] == pytest.approx(rate, abs=0.05)
        assert model.refuses_wrong[judge] == pytest.approx(rate, abs=0.05)
    assert model.passing == pytest.approx(0.3, abs=0.05)


def test_a_judge_that_always_accepts_says_nothing() -> None:
    entries = simulated(random.Random(9), 300, {"compiles": 0.9, "memory": 0.8}, measured=False)
    entries = [judged([*entry.judgements, vote("numerics", True)], None) for entry in entries]
    model = learn(entries)
    with_it = [vote("compiles", True), vote("memory", False), vote("numerics", True)]
    assert passes(with_it, model) == pytest.approx(passes(with_it[:2], model), abs=0.03)


def test_a_judge_that_is_mostly_wrong_is_ignored_and_not_believed_backwards() -> None:
    """Outcomes show that it is: with 49 labels and 1000 candidates without."""
    accuracy = {"compiles": 0.95, "memory": 0.9, "numerics": 0.2}
    rng = random.Random(10)
    entries = simulated(rng, LABELS_NEEDED - 1, accuracy) + simulated(rng, 1000, accuracy, measured=False)
    model = learn(entries)
    assert isinstance(model, LabelModel)
    assert model.accepts_right["numerics"] + model.refuses_wrong["numerics"] == pytest.approx(1, abs=1e-6)
    votes = [vote("compiles", True)]
    assert passes([*votes, vote("numerics", True)], model) == pytest.approx(passes(votes, model), abs=1e-6)


def test_known_outcomes_correct_what_the_agreement_of_judges_suggests() -> None:
    """Three judges that all accept are believed until what they accepted is measured."""
    accepted = [vote(judge, True) for judge in JUDGES]
    alone = learn([judged(accepted, None) for _ in range(40)])
    measured = learn([judged(accepted, "wrong") for _ in range(40)])
    assert passes(accepted, alone) > 0.9
    assert passes(accepted, measured) < 0.2


def test_several_votes_of_a_judge_are_one_opinion() -> None:
    votes = [vote("memory", True, 0.9), vote("memory", True, 0.6, number=1), vote("memory", False, 0.7, number=2)]
    assert opinion(votes, "memory") == 1
    assert opinion(votes[1:], "memory") == -1
    assert opinion([vote("memory", True, 0.7), vote("memory", False, 0.7)], "memory") == 0
    assert opinion([vote("memory", True, 0.7), vote("memory", False, 0.7), vote("memory", False, None)], "memory") == -1
    assert opinion([vote("memory", True, 0.3), vote("memory", False, 1 - 0.7)], "memory") == 0
    assert opinion(votes, "numerics") == 0
    model = learn([])
    assert passes(votes[:1], model) == passes(votes[:2], model)


# --- logistic regression --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_the_regression_is_calibrated(seed: int) -> None:
    """Judges that overstate: what is said with 0.9 or 0.99 is right at the rates of ACCURACY. Over ten bins, the mean
    difference between probability and share is below 0.03, and the Brier score within 0.01 of the best there can be.
    """
    overstated = {"confidence": lambda rng: rng.choice([0.9, 0.99])}
    weights = learn(simulated(random.Random(seed), 2000, ACCURACY, share=0.3, **overstated))
    assert isinstance(weights, Regression)
    fresh = simulated(random.Random(seed + 100), 6000, ACCURACY, share=0.3, **overstated)
    said = np.array([passes(list(entry.judgements), weights) for entry in fresh])
    truth = np.array([entry.status == "passed" for entry in fresh], dtype=float)
    index = np.minimum((said * 10).astype(int), 9)
    error = sum(abs((said - truth)[index == i].sum()) for i in range(10)) / len(fresh)
    assert error < 0.03

    def best(entry: Judged) -> float:
        odds = math.log(0.3 / 0.7)
        for v in entry.judgements:
            rate = ACCURACY[v.judge]
            odds += math.log(rate / (1 - rate)) * (1 if v.accepts else -1)
        return 1 / (1 + math.exp(-odds))

    ideal = np.array([best(entry) for entry in fresh])
    assert ((said - truth) ** 2).mean() < ((ideal - truth) ** 2).mean() + 0.01


def test_facts_are_used_in_the_direction_that_outcomes_show() -> None:
    weights = learn(with_facts(1000, 11))
    votes = [vote("compiles", True, 0.8), vote("memory", False, 0.8)]
    assert passes(votes, weights, spills=-3.0) > passes(votes, weights) > passes(votes, weights, spills=3.0)
    assert passes(votes, weights, spills=math.nan) == passes(votes, weights)
    assert passes(votes, weights, unheard_of=7.0) == passes(votes, weights)


def test_a_fact_that_is_the_same_for_all_is_no_column() -> None:
    same = [
        judged(entry.judgements, entry.status, features={"lines": 0.1, "spills": float(i % 2)}, probability=0.5)
        for i, entry in enumerate(simulated(random.Random(14), 63, ACCURACY))
    ]
    weights = learn(same)
    assert isinstance(weights, Regression)
    assert set(weights.scales) == {"spills"}
    assert not any("lines" in name for name in weights.weights)


def test_a_judge_that_is_mostly_wrong_has_no_weight_in_the_regression() -> None:
    weights = learn(simulated(random.Random(12), 500, {"compiles": 0.9, "memory": 0.8, "numerics": 0.1}))
    assert isinstance(weights, Regression)
    assert all(weight == 0 for name, weight in weights.weights.items() if "numerics" in name)
    assert all(weight >= 0 for name, weight in weights.weights.items() if name.startswith("vote "))


@pytest.mark.parametrize("seed", range(10))
def test_the_fit_is_the_optimum_under_its_bounds(seed: int) -> None:
    """Karush-Kuhn-Tucker: no gradient along a weight that is free, none that would raise a weight held at 0."""
    rng = np.random.default_rng(seed)
    matrix = rng.normal(size=(150, 6)) @ rng.normal(size=(6, 6))
    labels = (rng.random(150) < 1 / (1 + np.exp(-matrix @ rng.normal(size=6)))).astype(float)
    bounded = np.array([True, True, True, True, False, False])
    intercept, weights = fit(matrix, labels, not_negative=bounded)
    residual = 1 / (1 + np.exp(-(intercept + matrix @ weights))) - labels
    gradient = matrix.T @ residual + PENALTY * weights
    assert abs(residual.sum()) < 1e-6
    assert (weights[bounded] >= 0).all()
    held = bounded & (weights == 0)
    assert np.abs(gradient[~held]).max() < 1e-6
    assert (gradient[held] >= 0).all()


def test_outcomes_that_votes_separate_perfectly_leave_the_weights_finite() -> None:
    weights = learn(simulated(random.Random(13), 200, dict.fromkeys(JUDGES, 1.0)))
    assert isinstance(weights, Regression)
    assert all(math.isfinite(weight) for weight in (weights.intercept, *weights.weights.values()))
    assert passes([vote(judge, True) for judge in JUDGES], weights) > 0.95
