"""Soft verifiers: models say whether a candidate is correct before it costs an evaluation.

    for judgement in consult(task, candidate, models, ...):    # asks as little as it must; each vote has been paid for
        archive it
    weights = learn(judged)                                    # from what was measured of earlier candidates
    decision = gate(candidate.id, judgements, features, weights, threshold=..., rng=...)

Three judges look at one thing each: whether it compiles, whether its memory accesses are safe and free of races,
whether its results are right. Any model can be any judge. What they say orders and defers; it never overrides a
measurement.

    source.py     the candidate as data: without comments, in a block that it cannot close
    answer.py     a reply -> accepts, confidence, reason
    facts.py      what a source shows without being asked about, as numbers
    combine.py    votes and facts -> one probability of passing
    gate.py       probability -> evaluate, defer or audit; whether judging pays at all
    report.py     how good the judges were, and what they saved

After shared/design/evolution.md. Not covered: asking several judges at once, and candidates of `mutate`, which are not
judged: what it costs to evaluate one is less than a model's opinion.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from kernelevo.judges.answer import read_answer
from kernelevo.judges.combine import LEAST_SURE, log_odds
from kernelevo.judges.source import mark_of, shown_source
from kernelevo.models import Model
from kernelevo.records import Candidate, Judgement, Message, Operator, Prompt, Purpose, Reply, Task, digest

if TYPE_CHECKING:
    import jinja2

JUDGES = ("compiles", "memory", "numerics")
MOST_VOTES = 3  # of one judge on one candidate

Ask = Callable[[Model, Prompt], Reply]


def ask_once(model: Model, prompt: Prompt) -> Reply:
    """Asks and keeps no books."""
    return model.propose(prompt)


def consult(
    task: Task,
    candidate: Candidate,
    models: Sequence[Model],
    *,
    target: str,
    seed: int,
    previous: Sequence[Judgement] = (),
    most: int = MOST_VOTES,
    ask: Ask = ask_once,
) -> Iterator[Judgement]:
    """Asks the judges, one question at a time, until each has made up its mind or has had `most` votes.

    models: vote v of any judge is asked of models[v % len(models)]: put the cheapest first, the others are asked where
        it is unsure.
    target: the GPU, in words.
    previous: votes on this candidate that are already paid for; they are not asked again.
    ask: puts one question; it keeps the books and may end the asking by raising ModelError, which passes through here.

    The next question is put when the next vote is taken, so what is recorded in between is safe. Each vote has a seed
    of its own: a model that can be seeded does not just repeat itself.
    """
    votes = list(previous)
    while (judge := next_question(votes, most=most)) is not None:
        vote = 1 + max((v.vote for v in votes if v.judge == judge), default=-1)
        model = models[vote % len(models)]
        reply = ask(model, write_question(task, candidate, judge, target=target, seed=seed, vote=vote))
        answer = read_answer(reply.text, mark_of(candidate.source))
        votes.append(
            Judgement(
                candidate=candidate.id,
                judge=judge,
                vote=vote,
                reply=reply,
                accepts=answer.accepts,
                confidence=answer.confidence,
                reason=answer.reason,
            )
        )
        yield votes[-1]


def next_question(judgements: Sequence[Judgement], *, most: int = MOST_VOTES) -> str | None:
    """The judge to ask next about a candidate; None: enough is known.

    Each judge is asked once. Then the one with the fewest votes is asked again, of those that are not settled and have
    fewer than `most`. Settled is a judge whose votes, each weighed by the log-odds of its confidence, add up to being
    LEAST_SURE of either answer: one sure vote settles it, two that contradict each other equally do not.
    """
    counts = {judge: sum(v.judge == judge for v in judgements) for judge in JUDGES}
    open_judges = [
        judge
        for judge in JUDGES
        if counts[judge] < most
        and (not counts[judge] or abs(math.fsum(log_odds(v) for v in judgements if v.judge == judge)) < LEAST_SURE)
    ]
    return min(open_judges, key=lambda judge: counts[judge], default=None)


def write_question(task: Task, candidate: Candidate, judge: str, *, target: str, seed: int, vote: int) -> Prompt:
    """What a judge is asked. The system message is one for the task, the source comes first in the other: providers
    can cache what the three questions have in common.
    """
    facts = {
        "task": task,
        "timed": [dict(case.sizes) for case in task.cases if case.purpose is Purpose.BENCH],
        "target": target,
        "entry": candidate.entry,
        "source": shown_source(candidate.source),
        "mark": mark_of(candidate.source),
    }
    template = f"{judge}.j2"
    return Prompt(
        operator=Operator.JUDGE,
        messages=(
            Message(role="system", text=read_template("system.j2").render(facts)),
            Message(role="user", text=read_template(template).render(facts)),
        ),
        parents=(candidate,),
        template=template,
        seed=int(digest(str(seed), candidate.id, judge, str(vote), tag="q", length=8)[2:], 16),
    )


@cache
def read_template(name: str) -> jinja2.Template:
    """A file of templates/. A name in it that no fact has is an error."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name)
