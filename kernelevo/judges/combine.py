"""Votes of the judges and plain facts in, one probability of passing out.

    weights = learn(judged)                               # from earlier candidates of the same task, or of an archive
    estimate = estimate_passing(judgements, features, weights)

Until LABELS_NEEDED candidates were both judged and measured, with LEAST_OF_EACH of either outcome, a label model weighs
the judges (Dawid and Skene 1979, two classes): each judge accepts candidates that pass with one probability and refuses
others with another, independently given the truth; EM finds both for all judges, and the share of candidates that pass,
from how the judges agree, with the priors below. The few outcomes that are known are used as what they are; facts
beside the votes have no part in it. After that, a logistic regression with an L2 penalty has the votes and the facts as
columns. In both a judge never counts backwards: a vote that accepts, or accepts more surely, never makes a candidate
less probable.

A candidate that was "unsupported" says nothing. What was measured are mostly candidates that the gate let through;
since it decides by the same columns, that does not bias the regression, but makes it less certain about the refused.

Not covered: that judges err together (they read the same source, so the label model is surer than it should be), and
models of one judge that differ in skill: a judge is weighed, whoever answers for it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kernelevo.records import Judged, Judgement, Outcome

LABELS_NEEDED = 50
LEAST_OF_EACH = 10
# Priors of the label model, as what was seen beforehand: 8 votes of a judge that were right and 2 that were wrong, on
# candidates of either outcome; one candidate that passed and one that did not.
PRIOR_JUDGE = (8.0, 2.0)
PRIOR_PASSING = (1.0, 1.0)
PENALTY = 1.0  # of a squared weight, in units of the log-likelihood of one candidate
MOST_SURE = 0.99  # no vote counts as surer than this
LEAST_SURE = math.log(0.8 / 0.2)  # log-odds from which a judge's votes are settled

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelModel:
    """What is believed of the judges while there are few outcomes."""

    passing: float  # share of candidates that pass
    accepts_right: Mapping[str, float]  # judge -> probability that it accepts one that passes
    refuses_wrong: Mapping[str, float]  # judge -> probability that it refuses one that does not
    reason: str  # one line: what it rests on


@dataclass(frozen=True, slots=True, kw_only=True)
class Regression:
    """What outcomes say about votes and facts."""

    intercept: float
    weights: Mapping[str, float]  # column -> change of the log-odds per unit
    scales: Mapping[str, tuple[float, float]]  # fact -> its mean and standard deviation
    reason: str  # one line: what it rests on


Weights = LabelModel | Regression
METHODS = {LabelModel: "label model 1", Regression: "logistic regression 1"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """How probable it is that a candidate passes."""

    probability: float | None  # None: no judge gave an answer that could be read
    method: str  # one of METHODS
    reason: str  # one line: what it rests on, or why there is none


def learn(judged: Sequence[Judged]) -> Weights:
    """Weights from earlier candidates, in any order."""
    judged = [entry for entry in judged if readable(entry.judgements)]
    labelled = [(entry, label) for entry in judged if (label := passed(entry.status)) is not None]
    passing = sum(label for _, label in labelled)
    if len(labelled) < LABELS_NEEDED or not LEAST_OF_EACH <= passing <= len(labelled) - LEAST_OF_EACH:
        return learn_label_model(judged)
    return learn_regression([entry for entry, _ in labelled], [label for _, label in labelled])


def estimate_passing(judgements: Sequence[Judgement], features: Mapping[str, float], weights: Weights) -> Estimate:
    """The probability that a candidate passes. Facts that `weights` has not seen have no part in it."""
    method = METHODS[type(weights)]
    if not readable(judgements):
        why = "no reply of a judge could be read" if judgements else "no judge was asked"
        return Estimate(probability=None, method=method, reason=why)
    if isinstance(weights, LabelModel):
        odds = logit(weights.passing)
        unseen = PRIOR_JUDGE[0] / sum(PRIOR_JUDGE)
        for judge in sorted({v.judge for v in judgements}):
            right, wrong = weights.accepts_right.get(judge, unseen), weights.refuses_wrong.get(judge, unseen)
            odds += vote_odds(opinion(judgements, judge), right, wrong)
    else:
        columns = columns_of(judgements, features, weights.scales)
        odds = weights.intercept + math.fsum(
            weight * columns.get(name, 0.0) for name, weight in weights.weights.items()
        )
    return Estimate(probability=sigmoid(odds), method=method, reason=weights.reason)


def passed(status: str | None) -> bool | None:
    """The label in Evaluation.status. None: it was not evaluated, or nothing was learned about it."""
    return None if status in (None, Outcome.UNSUPPORTED.value) else status == Outcome.PASSED.value


# --- votes ----------------------------------------------------------------------------------------------------------


def log_odds(judgement: Judgement) -> float:
    """How much a vote says for the candidate: the log-odds of its confidence, negative where it refuses.

    0: it could not be read, or does not say how sure it is.
    """
    if judgement.accepts is None or judgement.confidence is None:
        return 0.0
    confidence = min(max(judgement.confidence, 1 - MOST_SURE), MOST_SURE)
    return logit(confidence) if judgement.accepts else -logit(confidence)


def opinion(judgements: Sequence[Judgement], judge: str) -> int:
    """1: the judge accepts, -1: it refuses, 0: its votes cancel out or there are none.

    Its votes are one opinion, not several: a model asked twice is not two witnesses. Votes that do not say how sure
    they are decide where the others do not.
    """
    votes = [v for v in judgements if v.judge == judge and v.accepts is not None]
    balance = math.fsum(log_odds(v) for v in votes)
    if abs(balance) < 1e-9:  # they cancel out, but for rounding
        balance = sum(1 if v.accepts else -1 for v in votes if v.confidence is None)
    return (balance > 0) - (balance < 0)


def readable(judgements: Sequence[Judgement]) -> bool:
    return any(v.accepts is not None for v in judgements)


# --- few outcomes: the label model ----------------------------------------------------------------------------------


def learn_label_model(judged: Sequence[Judged], *, rounds: int = 500) -> LabelModel:
    """Dawid-Skene by EM, to the mode under the priors; a judge is held at chance where it would count backwards."""
    judges = sorted({v.judge for entry in judged for v in entry.judgements if v.accepts is not None})
    votes = np.array([[opinion(entry.judgements, judge) for judge in judges] for entry in judged], dtype=np.float64)
    votes = votes.reshape(len(judged), len(judges))
    known = [passed(entry.status) for entry in judged]
    is_known = np.array([label is not None for label in known], dtype=bool)
    truth = np.array([float(label or 0) for label in known])
    right, wrong = PRIOR_JUDGE
    passing = PRIOR_PASSING[0] / sum(PRIOR_PASSING)
    accepts_right = refuses_wrong = np.full(len(judges), right / (right + wrong))
    for _ in range(rounds):
        for_it = np.log(accepts_right / (1 - refuses_wrong))
        against_it = np.log((1 - accepts_right) / refuses_wrong)
        odds = logit(passing) + (votes > 0) @ for_it + (votes < 0) @ against_it
        belief = np.where(is_known, truth, 1 / (1 + np.exp(-odds)))
        before = np.concatenate([[passing], accepts_right, refuses_wrong])
        passing = float((belief.sum() + PRIOR_PASSING[0]) / (len(judged) + sum(PRIOR_PASSING)))
        accepts_right = (belief @ (votes > 0) + right) / (belief @ (votes != 0) + right + wrong)
        refuses_wrong = ((1 - belief) @ (votes < 0) + right) / ((1 - belief) @ (votes != 0) + right + wrong)
        backwards = np.maximum(1 - accepts_right - refuses_wrong, 0) / 2
        accepts_right, refuses_wrong = accepts_right + backwards, refuses_wrong + backwards
        if np.abs(np.concatenate([[passing], accepts_right, refuses_wrong]) - before).max() < 1e-9:
            break
    return LabelModel(
        passing=passing,
        accepts_right=dict(zip(judges, accepts_right.tolist(), strict=True)),
        refuses_wrong=dict(zip(judges, refuses_wrong.tolist(), strict=True)),
        reason=f"how the judges agree on {len(judged)} candidates, {int(is_known.sum())} of them measured",
    )


def vote_odds(vote: int, accepts_right: float, refuses_wrong: float) -> float:
    """What an opinion adds to the log-odds of passing."""
    if not vote:
        return 0.0
    return math.log(accepts_right / (1 - refuses_wrong)) if vote > 0 else math.log((1 - accepts_right) / refuses_wrong)


# --- many outcomes: logistic regression -----------------------------------------------------------------------------


def learn_regression(judged: Sequence[Judged], labels: Sequence[bool]) -> Regression:
    """Logistic regression on the columns of `columns_of`; weights of votes are not negative."""
    scales = scales_of([features_of(entry) for entry in judged])
    rows = [columns_of(entry.judgements, features_of(entry), scales) for entry in judged]
    names = sorted({name for row in rows for name in row})
    matrix = np.array([[row.get(name, 0.0) for name in names] for row in rows])
    intercept, weights = fit(
        matrix,
        np.array(labels, dtype=np.float64),
        not_negative=np.array([name.startswith("vote ") for name in names], dtype=bool),
    )
    return Regression(
        intercept=intercept,
        weights=dict(zip(names, weights.tolist(), strict=True)),
        scales=scales,
        reason=f"{len(judged)} measured candidates, {sum(labels)} of which passed",
    )


def columns_of(
    judgements: Sequence[Judgement], features: Mapping[str, float], scales: Mapping[str, tuple[float, float]]
) -> dict[str, float]:
    """What is known of a candidate, as named numbers; absent ones are 0.

    Of each judge its opinion and the sum of the log-odds of its votes. Of each fact its distance from the mean in
    standard deviations, or that it is missing.
    """
    columns = {}
    for judge in {v.judge for v in judgements if v.accepts is not None}:
        columns[f"vote {judge}: opinion"] = float(opinion(judgements, judge))
        columns[f"vote {judge}: log-odds"] = math.fsum(log_odds(v) for v in judgements if v.judge == judge)
    for name, (mean, deviation) in scales.items():
        value = features.get(name, math.nan)
        if math.isfinite(value):
            columns[f"fact {name}"] = (value - mean) / deviation
        else:
            columns[f"fact {name}: missing"] = 1.0
    return columns


def scales_of(facts: Sequence[Mapping[str, float]]) -> dict[str, tuple[float, float]]:
    """Mean and standard deviation of each fact that varies."""
    scales = {}
    for name in sorted({name for entry in facts for name in entry}):
        values = np.array([entry[name] for entry in facts if math.isfinite(entry.get(name, math.nan))])
        if values.size and values.min() < values.max():
            scales[name] = (float(values.mean()), float(values.std()))
    return scales


def features_of(entry: Judged) -> Mapping[str, float]:
    return entry.gate.features if entry.gate else {}


def fit(matrix: Array, labels: Array, *, not_negative: npt.NDArray[np.bool_], steps: int = 100) -> tuple[float, Array]:
    """Intercept and weights that maximise the likelihood less PENALTY/2 of the weights' squares; none on the intercept.

    Projected Newton (Bertsekas 1982): weights that are bound to be 0 or more and would fall below are held at 0 in this
    step, the others take a Newton step, shortened until the objective falls.
    """
    data = np.column_stack([np.ones(len(labels)), matrix])
    penalty = np.array([0.0] + [PENALTY] * matrix.shape[1])
    lowest = np.where(np.concatenate([[False], not_negative]), 0.0, -np.inf)
    weights = np.zeros(data.shape[1])

    def objective(weights: Array) -> float:
        odds = data @ weights
        return float(np.logaddexp(0, odds).sum() - labels @ odds + penalty @ weights**2 / 2)

    for _ in range(steps):
        belief = 1 / (1 + np.exp(-data @ weights))
        gradient = data.T @ (belief - labels) + penalty * weights
        free = (weights > lowest) | (gradient < 0)
        if not free.any() or np.abs(gradient[free]).max() < 1e-8:
            break
        curvature = (data[:, free].T * (belief * (1 - belief))) @ data[:, free] + np.diag(penalty[free])
        step = np.zeros_like(weights)
        step[free] = np.linalg.solve(curvature + 1e-12 * np.eye(int(free.sum())), -gradient[free])
        now, share = objective(weights), 1.0
        while share > 1e-10 and objective(np.maximum(weights + share * step, lowest)) >= now:
            share /= 2
        if share <= 1e-10:
            break
        weights = np.maximum(weights + share * step, lowest)
    return float(weights[0]), weights[1:]


def logit(probability: float) -> float:
    return math.log(probability / (1 - probability))


def sigmoid(odds: float) -> float:
    return 1 / (1 + math.exp(-odds)) if odds >= 0 else math.exp(odds) / (1 + math.exp(odds))
