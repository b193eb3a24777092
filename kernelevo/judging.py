"""Whether a candidate is worth an evaluation, by what models say of it: the judges, the ledger and the gate together.

Takes a proposal, gives a reason to refuse it, or None. It only saves evaluations: what is refused is recorded as not
evaluated, one refusal in twenty is evaluated all the same, and nothing that was measured is ever overridden. Votes and
decisions are in the archive before they are acted on, so a run that goes on, or is replayed, decides the same.

Off without judges; and where the user says what an hour of the device costs (`device_usd_per_hour`), off while the
votes on a candidate cost more than the evaluation that they may save.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import partial

from kernelevo.errors import ModelError
from kernelevo.judges import consult
from kernelevo.judges.combine import learn
from kernelevo.judges.facts import source_facts
from kernelevo.judges.gate import gate, worth_it
from kernelevo.judges.report import savings
from kernelevo.models import Model
from kernelevo.paying import has_room, pay
from kernelevo.records import Candidate, Decision, Gate, Job, Judged, Operator, Prompt, Reply
from kernelevo.site import Event, Site, Step

THRESHOLD = 0.2  # a candidate that is less likely to pass is refused
ENOUGH = 50  # judged candidates from which on the share of evaluations that judging avoids is taken from them


def refused(site: Site, job: Job, candidate: Candidate) -> str | None:
    """Why a candidate is not to be evaluated, or None."""
    ledger = site.archive.ledger
    decided = ledger.gate(job.run, job.iteration)
    if decided is None and site.run.replay_of is not None:
        decided = ledger.gate(site.run.replay_of, job.iteration)
        if decided is not None:
            ledger.decide(job, candidate, decided)
    if decided is None and site.judges and is_paid(site, job):
        earlier = ledger.judged(site.task, site.device.name)
        if pays(site, earlier):
            decided = judge(site, job, candidate, earlier)
    if decided is None or decided.decision is not Decision.DEFER:
        return None
    return f"judges: it passes with probability {decided.probability or 0:.2f}, below {decided.threshold:.2f}"


def is_paid(site: Site, job: Job) -> bool:
    """Whether a paid model proposed it: evaluating a rewrite of `mutate` costs less than an opinion on it."""
    return job.operator not in (Operator.SEED, Operator.TUNE) and not site.models[job.model].free


def judge(site: Site, job: Job, candidate: Candidate, earlier: Sequence[Judged]) -> Gate | None:
    """Asks the judges and decides; both are recorded. None: the run stops, or has no money for votes."""
    ledger = site.archive.ledger
    learned = learn(earlier)
    votes = list(ledger.judgements(job.run, job.iteration))
    call = 0

    def ask(model: Model, prompt: Prompt) -> Reply:
        nonlocal call
        call, reply = pay(site, job, model.name, partial(model.propose, prompt), purpose="judge")
        return reply

    target = site.device.timing_target
    try:
        for vote in consult(
            site.task, candidate, site.judges, target=target, seed=job.seed, previous=tuple(votes), ask=ask
        ):
            ledger.judged_by(call, candidate, vote)
            votes.append(vote)
            if site.stopping.is_set() or not has_room(site):
                return None
    except ModelError as error:  # what was said stays; who cannot be asked has no vote
        site.watch(Event(step=Step.CALL_FAILED, job=job, text=f"judge: {error}"))
    rng = random.Random(f"{site.run.seed}:{job.iteration}:gate")
    decided = gate(candidate.id, votes, source_facts(candidate.source), learned, threshold=THRESHOLD, rng=rng)
    ledger.decide(job, candidate, decided)
    return decided


def pays(site: Site, earlier: Sequence[Judged]) -> bool:
    """Whether an evaluation costs more than what judges say of it, as far as the archive knows both."""
    per_hour = site.settings.device_usd_per_hour
    if per_hour is None:
        return True
    saved = savings(earlier)
    if saved.mean_evaluation_seconds is None:
        return True  # nothing is known yet: the first candidates tell
    share = saved.avoided_share if saved.judged >= ENOUGH else None
    return worth_it(
        saved.mean_judgement_usd,
        saved.mean_evaluation_seconds,
        per_hour / 3600,
        avoided_share=1.0 if share is None else share,
    )
