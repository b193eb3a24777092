"""Judged candidates in, tables out: how good the judges were, and what they saved.

Truth is what was measured. A judge is held to its own question only: "compiles" to whether it compiled, "memory" to
whether it passed or crashed, "numerics" to whether it passed or was wrong; ALL_TOGETHER, the gate, to whether it
passed. Other outcomes, and "unsupported", say nothing about the judge. Candidates that the gate refused are mostly not
measured: recall is therefore of what was measured, and higher than of all candidates. The audited ones are an unbiased
sample of the refused: in them `savings` counts false refusals.

What cannot be computed is None, and `missing` says why.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kernelevo.judges.combine import passed
from kernelevo.records import Decision, Judged, Judgement

ALL_TOGETHER = "all together"
BINS = 10
CONFIDENCE_Z = 1.959964  # of 95 %

# Evaluation.status -> the answer to a judge's question; what is not listed does not answer it.
TRUTHS: Mapping[str, Mapping[str, bool]] = {
    "compiles": {
        "build failed": False,
        "passed": True,
        "wrong": True,
        "crashed": True,
        "timed out": True,
        "cheating": True,
    },
    "memory": {"passed": True, "crashed": False},
    "numerics": {"passed": True, "wrong": False},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Bin:
    """Votes that gave about the same probability. They are calibrated where `said` and `was` agree."""

    low: float  # inclusive
    high: float  # exclusive, but for the last
    count: int
    said: float | None  # mean probability that the answer is yes; None: no votes
    was: float | None  # share for which it was yes; None: no votes


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """How good one judge was."""

    judge: str  # a judge, or ALL_TOGETHER: the gate's probability and decision
    model: str | None  # that answered; None: whichever did
    votes: int
    unread: int  # votes that could not be read
    measured: int  # votes that could be read, on candidates whose outcome answers the question
    true_accepts: int
    false_accepts: int
    true_refusals: int
    false_refusals: int
    precision: float | None  # true among accepted
    recall: float | None  # accepted among true
    accuracy: float | None  # right answers among all
    brier: float | None  # mean squared difference between the probability said and the truth, 0 or 1; lower is better
    bins: tuple[Bin, ...]  # of the probability said, BINS equal ones
    missing: Mapping[str, str]  # field that is None -> why


@dataclass(frozen=True, slots=True, kw_only=True)
class Savings:
    """What judging cost and what it saved."""

    judged: int  # candidates with at least one vote
    refused: int  # deferred or audited
    avoided: int  # deferred and not evaluated since
    avoided_share: float | None  # of the judged
    mean_evaluation_seconds: float | None  # of judged candidates that were evaluated
    avoided_seconds: float | None  # as many evaluations as were avoided, at that mean
    audited: int  # refused, evaluated all the same, and with an outcome
    false_refusals: int  # of the audited, those that passed
    false_refusal_low: float | None  # 95 % interval of the share of refused candidates that would have passed
    false_refusal_high: float | None
    judging_usd: float | None  # all votes
    mean_judgement_usd: float | None  # per judged candidate
    judging_seconds: float  # all votes, waiting for models
    missing: Mapping[str, str]  # field that is None -> why


def calibration(judged: Sequence[Judged]) -> tuple[Calibration, ...]:
    """A row per judge; where several models answered, one for each of them too; and one for all together."""
    rows = []
    for judge in dict.fromkeys(v.judge for entry in judged for v in entry.judgements):
        votes = [
            (v.reply.model, Vote(said=said(v), accepts=v.accepts, truth=TRUTHS.get(judge, {}).get(entry.status or "")))
            for entry in judged
            for v in entry.judgements
            if v.judge == judge
        ]
        models = sorted({model for model, _ in votes})
        rows.append(calibration_of(judge, None, [vote for _, vote in votes]))
        if len(models) > 1:
            rows += [calibration_of(judge, model, [vote for name, vote in votes if name == model]) for model in models]
    gates = [(entry.gate, entry.status) for entry in judged if entry.gate]
    if gates:
        votes_of_gate = [
            Vote(
                said=gate.probability,
                accepts=None if gate.probability is None else gate.decision is Decision.EVALUATE,
                truth=passed(status),
            )
            for gate, status in gates
        ]
        rows.append(calibration_of(ALL_TOGETHER, None, votes_of_gate))
    return tuple(rows)


def savings(judged: Sequence[Judged]) -> Savings:
    """What judging cost and what it saved, over all judged candidates."""
    judged = [entry for entry in judged if entry.judgements]
    refused = [entry for entry in judged if entry.gate and entry.gate.decision is not Decision.EVALUATE]
    avoided = sum(entry.status is None for entry in refused)
    audits = [passed(entry.status) for entry in refused if entry.gate and entry.gate.decision is Decision.AUDIT]
    outcomes = [outcome for outcome in audits if outcome is not None]
    seconds = [entry.evaluation_seconds for entry in judged if entry.evaluation_seconds is not None]
    costs = [v.reply.cost_usd for entry in judged for v in entry.judgements]
    known = [cost for cost in costs if cost is not None]
    mean_seconds = math.fsum(seconds) / len(seconds) if seconds else None
    judging_usd = math.fsum(known) if len(known) == len(costs) else None
    interval = binomial_interval(sum(outcomes), len(outcomes))
    missing = {}
    if not judged:
        missing["avoided_share"] = missing["mean_judgement_usd"] = "no candidate was judged"
    if not seconds:
        missing["mean_evaluation_seconds"] = missing["avoided_seconds"] = "no judged candidate was evaluated"
    if interval is None:
        missing["false_refusal_low"] = missing["false_refusal_high"] = "no refused candidate was audited"
    if len(known) < len(costs):
        missing["judging_usd"] = missing["mean_judgement_usd"] = (
            f"{len(costs) - len(known)} of {len(costs)} votes have no known price; the others cost {math.fsum(known):g}"
        )
    return Savings(
        judged=len(judged),
        refused=len(refused),
        avoided=avoided,
        avoided_share=avoided / len(judged) if judged else None,
        mean_evaluation_seconds=mean_seconds,
        avoided_seconds=None if mean_seconds is None else avoided * mean_seconds,
        audited=len(outcomes),
        false_refusals=sum(outcomes),
        false_refusal_low=interval[0] if interval else None,
        false_refusal_high=interval[1] if interval else None,
        judging_usd=judging_usd,
        mean_judgement_usd=None if judging_usd is None or not judged else judging_usd / len(judged),
        judging_seconds=math.fsum(v.reply.seconds for entry in judged for v in entry.judgements),
        missing=missing,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Vote:
    """One answer beside the truth."""

    said: float | None  # probability that the answer is yes; None: it was not said
    accepts: bool | None  # None: it could not be read
    truth: bool | None  # None: not measured, or it answers another question


def said(judgement: Judgement) -> float | None:
    """The probability of yes that a vote states."""
    if judgement.accepts is None or judgement.confidence is None:
        return None
    return judgement.confidence if judgement.accepts else 1 - judgement.confidence


def calibration_of(judge: str, model: str | None, votes: Sequence[Vote]) -> Calibration:
    """One row of the table."""
    measured = [(vote.accepts, vote.truth) for vote in votes if vote.accepts is not None and vote.truth is not None]
    counts = Counter(measured)
    accepted = counts[True, True] + counts[True, False]
    true = counts[True, True] + counts[False, True]
    sure = [(vote.said, float(vote.truth)) for vote in votes if vote.said is not None and vote.truth is not None]
    missing = {}
    if not accepted:
        missing["precision"] = "it accepted no candidate whose outcome is known"
    if not true:
        missing["recall"] = "no candidate with a known outcome deserved to be accepted"
    if not measured:
        missing["accuracy"] = "none of its candidates has a known outcome"
    if not sure:
        missing["brier"] = "none of its votes on a candidate with a known outcome says how sure it is"
    return Calibration(
        judge=judge,
        model=model,
        votes=len(votes),
        unread=sum(vote.accepts is None for vote in votes),
        measured=len(measured),
        true_accepts=counts[True, True],
        false_accepts=counts[True, False],
        true_refusals=counts[False, False],
        false_refusals=counts[False, True],
        precision=counts[True, True] / accepted if accepted else None,
        recall=counts[True, True] / true if true else None,
        accuracy=(counts[True, True] + counts[False, False]) / len(measured) if measured else None,
        brier=math.fsum((p - truth) ** 2 for p, truth in sure) / len(sure) if sure else None,
        bins=tuple(bin_of(index, sure) for index in range(BINS)),
        missing=missing,
    )


def bin_of(index: int, sure: Sequence[tuple[float, float]]) -> Bin:
    """The votes whose probability lies in one of BINS equal parts of 0 to 1."""
    inside = [(p, truth) for p, truth in sure if min(int(p * BINS), BINS - 1) == index]
    return Bin(
        low=index / BINS,
        high=(index + 1) / BINS,
        count=len(inside),
        said=math.fsum(p for p, _ in inside) / len(inside) if inside else None,
        was=math.fsum(truth for _, truth in inside) / len(inside) if inside else None,
    )


def binomial_interval(successes: int, trials: int) -> tuple[float, float] | None:
    """95 % interval of a share (Wilson 1927); None without trials."""
    if not trials:
        return None
    share, z2 = successes / trials, CONFIDENCE_Z**2
    centre = (share + z2 / (2 * trials)) / (1 + z2 / trials)
    half = CONFIDENCE_Z / (1 + z2 / trials) * math.sqrt(share * (1 - share) / trials + z2 / (4 * trials**2))
    return max(0.0, centre - half), min(1.0, centre + half)
