"""A probability of passing in, a decision out: evaluate, defer, or evaluate to see whether the refusal was right.

The gate orders and defers. It is not asked about what has been measured, and what it refused may be evaluated later.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence

from kernelevo.judges.combine import Weights, estimate_passing
from kernelevo.records import Decision, Gate, Judgement, Price, Prompt

AUDIT_SHARE = 0.05  # of the refused candidates, evaluated all the same
# Assumed, for a first idea of the price of a judge: a short thought and an answer; and what a token of CUDA is.
OUTPUT_TOKENS = 1000
CHARACTERS_PER_TOKEN = 4


def gate(
    candidate: str,
    judgements: Sequence[Judgement],
    features: Mapping[str, float],
    weights: Weights,
    *,
    threshold: float,
    rng: random.Random,
) -> Gate:
    """The decision about a candidate, with everything it rests on.

    features: plain facts known before evaluation, name -> number; what is not known, or no finite number, is left out.
    """
    estimate = estimate_passing(judgements, features, weights)
    return Gate(
        candidate=candidate,
        features={name: float(value) for name, value in features.items() if math.isfinite(value)},
        probability=estimate.probability,
        threshold=threshold,
        method=estimate.method,
        reason=estimate.reason,
        decision=decide(estimate.probability, threshold=threshold, rng=rng),
    )


def decide(probability: float | None, *, threshold: float, rng: random.Random) -> Decision:
    """Refuses what is less probable than `threshold`; one refusal in twenty is evaluated all the same.

    A candidate of which nothing is known (None) is evaluated. One number is drawn from `rng` in every case, so later
    decisions do not depend on this one.
    """
    audited = rng.random() < AUDIT_SHARE
    if probability is None or probability >= threshold:
        return Decision.EVALUATE
    return Decision.AUDIT if audited else Decision.DEFER


def worth_it(
    mean_judgement_usd: float | None,
    mean_evaluation_seconds: float | None,
    usd_per_evaluation_second: float | None,
    *,
    avoided_share: float = 1.0,
) -> bool:
    """Whether judging pays: an avoided evaluation must cost more than the judgements that avoid it.

    mean_judgement_usd: of all votes on one candidate, as Savings has it; before there are any, `expected_usd`.
    mean_evaluation_seconds: as Savings has it, or of evaluations of this task without judges.
    avoided_share: of the judged candidates, those whose evaluation is avoided; 1 is the most that judging can save, and
        what is believed before there are some dozens of decisions. Savings has it.

    False where a number is not known: what cannot be shown to pay is left off.
    """
    if mean_judgement_usd is None or mean_evaluation_seconds is None or usd_per_evaluation_second is None:
        return False
    return mean_judgement_usd < avoided_share * mean_evaluation_seconds * usd_per_evaluation_second


def expected_usd(prompts: Sequence[Prompt], price: Price | None) -> float | None:
    """What asking will cost, before anything has been asked; None where the price is not known."""
    if price is None:
        return None
    characters = sum(len(message.text) for prompt in prompts for message in prompt.messages)
    input_usd = characters / CHARACTERS_PER_TOKEN * price.input_usd
    return (input_usd + len(prompts) * OUTPUT_TOKENS * price.output_usd) / 1e6
