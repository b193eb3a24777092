"""What the tests of judges share: votes, judged candidates, judges that err at a known rate, and a model that answers
from a list.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from kernelevo.models import Failed, unwatched
from kernelevo.records import Decision, Gate, Judged, Judgement, Prompt, Reply


@dataclass
class ScriptedModel:
    """A local model: `answer` makes its words from the prompt. It remembers what it was asked."""

    name: str
    answer: Callable[[Prompt], str]
    free: bool = False
    asked: list[Prompt] = field(default_factory=list)

    def propose(self, prompt: Prompt, *, limit_usd: float | None = None, failed: Failed = unwatched) -> Reply:
        self.asked.append(prompt)
        return reply(text=self.answer(prompt), model=self.name)


def reply(*, text: str = "", model: str = "scripted", cost_usd: float | None = 0.01, seconds: float = 2.0) -> Reply:
    return Reply(model=model, text=text, cost_usd=cost_usd, seconds=seconds, finish_reason="stop")


def mark_in(prompt: Prompt) -> str:
    """The mark that a judge is told to repeat."""
    found = re.search(r"The mark is (\w+)\.", prompt.messages[-1].text)
    assert found
    return found[1]


def says(accepts: bool, confidence: float) -> Callable[[Prompt], str]:
    """Answers the same to every question."""
    word = "true" if accepts else "false"
    return lambda prompt: (
        f'{{"mark": "{mark_in(prompt)}", "accepts": {word}, "confidence": {confidence}, "reason": "because"}}'
    )


def vote(
    judge: str,
    accepts: bool | None,
    confidence: float | None = 0.9,
    *,
    number: int = 0,
    candidate: str = "c-1",
    model: str = "scripted",
    cost_usd: float | None = 0.01,
) -> Judgement:
    return Judgement(
        candidate=candidate,
        judge=judge,
        vote=number,
        reply=reply(model=model, cost_usd=cost_usd),
        accepts=accepts,
        confidence=confidence,
        reason="",
    )


def judged(
    votes: Sequence[Judgement],
    status: str | None,
    *,
    decision: Decision | None = None,
    probability: float | None = None,
    features: Mapping[str, float] | None = None,
    seconds: float | None = None,
) -> Judged:
    gate = (
        Gate(
            candidate="c-1",
            features=features or {},
            probability=probability,
            threshold=0.5,
            method="label model 1",
            reason="",
            decision=decision or Decision.EVALUATE,
        )
        if decision or features or probability is not None
        else None
    )
    return Judged(candidate="c-1", judgements=tuple(votes), gate=gate, status=status, evaluation_seconds=seconds)


def simulated(
    rng: random.Random,
    count: int,
    accuracy: Mapping[str, float],
    *,
    share: float = 0.5,
    measured: bool = True,
    confidence: Callable[[random.Random], float] = lambda rng: 0.9,
) -> list[Judged]:
    """Candidates of which a share passes, and judges each of which is right with its own probability, independently."""
    entries = []
    for _ in range(count):
        passes = rng.random() < share
        votes = [
            vote(judge, passes if rng.random() < rate else not passes, confidence(rng))
            for judge, rate in accuracy.items()
        ]
        entries.append(judged(votes, ("passed" if passes else "wrong") if measured else None))
    return entries
