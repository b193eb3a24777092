"""The gate, whether judging pays, and the report of how good judges were: against tables made by hand."""

from __future__ import annotations

import math
import random

import pytest
from judged_examples import judged, vote

from kernelevo.judges import JUDGES
from kernelevo.judges.combine import learn
from kernelevo.judges.gate import AUDIT_SHARE, decide, expected_usd, gate, worth_it
from kernelevo.judges.report import ALL_TOGETHER, Calibration, binomial_interval, calibration, savings
from kernelevo.records import Decision, Judged, Message, Operator, Price, Prompt


def test_what_is_probable_enough_or_unknown_is_evaluated() -> None:
    rng = random.Random(0)
    for probability in (0.2, 0.5, 1.0, None):
        assert {decide(probability, threshold=0.2, rng=rng) for _ in range(100)} == {Decision.EVALUATE}


def test_one_in_twenty_refusals_is_audited() -> None:
    """Within 3.3 standard deviations of the binomial: a chance of 1 in 1000 to be outside."""
    rng = random.Random(1)
    count = 20_000
    decisions = [decide(0.1, threshold=0.2, rng=rng) for _ in range(count)]
    assert set(decisions) == {Decision.DEFER, Decision.AUDIT}
    audits = decisions.count(Decision.AUDIT)
    assert abs(audits - count * AUDIT_SHARE) < 3.3 * math.sqrt(count * AUDIT_SHARE * (1 - AUDIT_SHARE))
    assert AUDIT_SHARE == 0.05


def test_a_decision_does_not_depend_on_what_was_decided_before() -> None:
    one, other = random.Random(2), random.Random(2)
    for i in range(500):
        first = decide(0.9 if i % 3 else None, threshold=0.5, rng=one)
        second = decide(0.1, threshold=0.5, rng=other)
        assert first is Decision.EVALUATE
        assert second is not Decision.EVALUATE
    assert one.random() == other.random()


def test_a_gate_says_what_it_rests_on() -> None:
    votes = [vote(judge, False) for judge in JUDGES]
    facts = {"spills": 2.0, "unknown": math.nan}
    found = gate("c-7", votes, facts, learn([]), threshold=0.3, rng=random.Random(3))
    assert (found.candidate, found.features, found.threshold) == ("c-7", {"spills": 2.0}, 0.3)
    assert found.probability == pytest.approx(1 / 65)
    assert found.decision in (Decision.DEFER, Decision.AUDIT)
    assert found.method == "label model 1"
    assert "0 candidates" in found.reason
    unread = gate("c-7", [vote("memory", None, None)], {}, learn([]), threshold=0.3, rng=random.Random(3))
    assert (unread.probability, unread.decision) == (None, Decision.EVALUATE)


@pytest.mark.parametrize(
    ("judging", "seconds", "rate", "share", "pays"),
    [
        (0.01, 30.0, 0.001, 1.0, True),  # three cents against one
        (0.03, 30.0, 0.001, 1.0, False),  # equal is not more
        (0.01, 30.0, 0.001, 0.3, False),  # a third of three cents
        (0.0, 1.0, 0.0, 1.0, False),  # an evaluation that costs nothing
        (None, 30.0, 0.001, 1.0, False),
        (0.01, None, 0.001, 1.0, False),
        (0.01, 30.0, None, 1.0, False),
    ],
)
def test_judging_pays_only_when_an_avoided_evaluation_costs_more(
    judging: float | None, seconds: float | None, rate: float | None, share: float, pays: bool
) -> None:
    assert worth_it(judging, seconds, rate, avoided_share=share) is pays


def test_a_first_idea_of_the_price_of_a_judge_is_its_prompt_and_an_answer() -> None:
    prompt = Prompt(
        operator=Operator.JUDGE,
        messages=(Message(role="system", text="a" * 3000), Message(role="user", text="b" * 1000)),
        parents=(),
        template="memory.j2",
        seed=0,
    )
    price = Price(input_usd=2.0, cached_usd=0.2, output_usd=10.0)
    assert expected_usd([prompt] * 3, price) == pytest.approx(3 * (1000 * 2.0 + 1000 * 10.0) / 1e6)
    assert expected_usd([prompt], None) is None


# --- calibration ----------------------------------------------------------------------------------------------------


def row(rows: tuple[Calibration, ...], judge: str, model: str | None = None) -> Calibration:
    return next(r for r in rows if (r.judge, r.model) == (judge, model))


def test_precision_recall_accuracy_and_brier_score_are_those_of_the_table() -> None:
    """compiles: 3 true accepts, 1 false accept, 2 true refusals, 1 false refusal, 1 unread, 1 unsupported."""
    table = [
        (True, 0.9, "passed"),
        (True, 0.8, "wrong"),  # it did compile
        (True, 0.6, "crashed"),
        (True, 0.7, "build failed"),
        (False, 0.9, "build failed"),
        (False, 0.6, "build failed"),
        (False, 0.8, "timed out"),
        (None, None, "passed"),
        (True, 0.9, "unsupported"),
        (True, 0.9, None),
    ]
    found = row(calibration([judged([vote("compiles", a, c)], status) for a, c, status in table]), "compiles")
    assert (found.votes, found.unread, found.measured) == (10, 1, 7)
    assert (found.true_accepts, found.false_accepts) == (3, 1)
    assert (found.true_refusals, found.false_refusals) == (2, 1)
    assert found.precision == pytest.approx(3 / 4)
    assert found.recall == pytest.approx(3 / 4)
    assert found.accuracy == pytest.approx(5 / 7)
    squares = [0.1**2, 0.2**2, 0.4**2, 0.7**2, 0.1**2, 0.4**2, 0.8**2]
    assert found.brier == pytest.approx(sum(squares) / 7)
    assert found.missing == {}


def test_each_judge_is_held_to_its_own_question() -> None:
    statuses = ["passed", "wrong", "crashed", "build failed", "timed out", "cheating", "unsupported", None]
    rows = calibration([judged([vote(judge, True) for judge in JUDGES], status) for status in statuses])
    counts = {r.judge: (r.true_accepts, r.false_accepts) for r in rows}
    assert counts == {"compiles": (5, 1), "memory": (1, 1), "numerics": (1, 1)}


def test_reliability_bins_hold_what_was_said_and_what_was() -> None:
    votes = [(True, 0.95, "passed"), (True, 0.91, "wrong"), (False, 0.95, "wrong"), (True, 1.0, "passed")]
    bins = row(calibration([judged([vote("numerics", a, c)], s) for a, c, s in votes]), "numerics").bins
    assert len(bins) == 10
    assert [b.count for b in bins] == [1, 0, 0, 0, 0, 0, 0, 0, 0, 3]
    assert (bins[0].said, bins[0].was) == (pytest.approx(0.05), 0.0)
    assert (bins[9].said, bins[9].was) == (pytest.approx((0.95 + 0.91 + 1.0) / 3), pytest.approx(2 / 3))
    assert (bins[5].said, bins[5].was) == (None, None)
    assert (bins[0].low, bins[9].high) == (0.0, 1.0)


def test_what_cannot_be_computed_is_none_and_says_why() -> None:
    rows = calibration(
        [
            judged([vote("compiles", True)], None),
            judged([vote("memory", False, None)], "crashed"),
        ]
    )
    unmeasured, refuser = row(rows, "compiles"), row(rows, "memory")
    assert (unmeasured.precision, unmeasured.recall, unmeasured.accuracy, unmeasured.brier) == (None,) * 4
    assert set(unmeasured.missing) == {"precision", "recall", "accuracy", "brier"}
    assert (refuser.precision, refuser.recall, refuser.accuracy, refuser.brier) == (None, None, 1.0, None)
    assert set(refuser.missing) == {"precision", "recall", "brier"}
    assert calibration([]) == ()


def test_models_that_answer_for_the_same_judge_are_told_apart() -> None:
    rows = calibration(
        [
            judged([vote("memory", True, model="a"), vote("memory", False, number=1, model="b")], "passed"),
            judged([vote("numerics", True, model="a")], "passed"),
        ]
    )
    assert [(r.judge, r.model, r.accuracy) for r in rows] == [
        ("memory", None, 0.5),
        ("memory", "a", 1.0),
        ("memory", "b", 0.0),
        ("numerics", None, 1.0),
    ]


def test_the_gate_is_a_row_of_its_own_held_to_passing() -> None:
    entries = [
        judged([vote("memory", True)], "passed", decision=Decision.EVALUATE, probability=0.8),
        judged([vote("memory", True)], "build failed", decision=Decision.EVALUATE, probability=0.6),
        judged([vote("memory", False)], "passed", decision=Decision.AUDIT, probability=0.1),
        judged([vote("memory", False)], None, decision=Decision.DEFER, probability=0.1),
        judged([vote("memory", None, None)], "passed", decision=Decision.EVALUATE, probability=None),
    ]
    found = row(calibration(entries), ALL_TOGETHER)
    assert (found.votes, found.unread, found.measured) == (5, 1, 3)
    assert (found.true_accepts, found.false_accepts, found.true_refusals, found.false_refusals) == (1, 1, 0, 1)
    assert found.brier == pytest.approx((0.2**2 + 0.6**2 + 0.9**2) / 3)


# --- savings --------------------------------------------------------------------------------------------------------


def refused(decision: Decision, status: str | None, seconds: float | None = None) -> Judged:
    return judged([vote("memory", False)], status, decision=decision, probability=0.1, seconds=seconds)


def test_savings_count_what_was_avoided_what_was_wrongly_refused_and_what_it_cost() -> None:
    entries = [
        judged([vote("memory", True), vote("numerics", True)], "passed", decision=Decision.EVALUATE, seconds=40.0),
        judged([vote("memory", True)], "wrong", decision=Decision.EVALUATE, seconds=20.0),
        *[refused(Decision.DEFER, None) for _ in range(5)],
        refused(Decision.DEFER, "passed", 30.0),  # evaluated later, for want of anything better
        refused(Decision.AUDIT, "passed", 30.0),
        refused(Decision.AUDIT, "crashed", 10.0),
        refused(Decision.AUDIT, "unsupported", 20.0),
        judged([], "passed", seconds=1000.0),  # was never judged
    ]
    found = savings(entries)
    assert (found.judged, found.refused, found.avoided) == (11, 9, 5)
    assert found.avoided_share == pytest.approx(5 / 11)
    assert found.mean_evaluation_seconds == pytest.approx(150 / 6)
    assert found.avoided_seconds == pytest.approx(5 * 150 / 6)
    assert (found.audited, found.false_refusals) == (2, 1)
    low, high = binomial_interval(1, 2) or (None, None)
    assert (found.false_refusal_low, found.false_refusal_high) == (low, high)
    assert found.judging_usd == pytest.approx(12 * 0.01)
    assert found.mean_judgement_usd == pytest.approx(12 * 0.01 / 11)
    assert found.judging_seconds == pytest.approx(12 * 2.0)
    assert found.missing == {}


def test_unknown_prices_and_missing_audits_are_none_with_a_reason() -> None:
    entries = [judged([vote("memory", True), vote("numerics", True, cost_usd=None)], None)]
    found = savings(entries)
    assert (found.judging_usd, found.avoided_seconds, found.false_refusal_low) == (None, None, None)
    assert "1 of 2 votes have no known price; the others cost 0.01" in found.missing["judging_usd"]
    for name in (*found.missing, *savings([]).missing):
        assert getattr(found if name in found.missing else savings([]), name) is None
    assert set(found.missing) == {
        *("judging_usd", "mean_judgement_usd"),
        *("mean_evaluation_seconds", "avoided_seconds"),
        *("false_refusal_low", "false_refusal_high"),
    }
    assert savings([]).missing["avoided_share"] == "no candidate was judged"


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [(0, 10, 0.0, 0.27754), (5, 10, 0.23659, 0.76341), (10, 10, 0.72246, 1.0), (1, 20, 0.00888, 0.23613)],
)
def test_the_interval_is_wilsons(successes: int, trials: int, low: float, high: float) -> None:
    """Both ends solve (p - share)^2 = z^2 p (1 - p) / n."""
    found = binomial_interval(successes, trials)
    assert found == (pytest.approx(low, abs=2e-5), pytest.approx(high, abs=2e-5))
    for p in found or ():
        assert (p - successes / trials) ** 2 == pytest.approx(1.959964**2 * p * (1 - p) / trials, abs=1e-9)


@pytest.mark.parametrize("share", [0.05, 0.3])
def test_the_interval_covers_the_share_about_as_often_as_it_says(share: float) -> None:
    rng = random.Random(5)
    covered = 0
    for _ in range(2000):
        successes = sum(rng.random() < share for _ in range(60))
        low, high = binomial_interval(successes, 60) or (1.0, 0.0)
        covered += low <= share <= high
    assert covered / 2000 > 0.93
