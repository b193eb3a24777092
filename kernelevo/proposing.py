"""One job to one candidate: asks the job's model, and again with feedback where a reply is of no use.

Every request to a paid model is in the ledger before it is sent, and every reply in the archive before anything is made
of it: a run that was cut off reads what it paid for again. A replayed run reads the replies of the run that it
repeats and asks nobody.

Not covered: whether the candidate is any good.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from kernelevo.decide import AGENT, visible
from kernelevo.errors import ModelError
from kernelevo.memory import gather
from kernelevo.models import Failed, Model, unwatched
from kernelevo.novelty import Novelty
from kernelevo.paying import has_room, pay
from kernelevo.prompt import PromptTooLargeError, write_prompt
from kernelevo.propose import propose, read_candidate, words_of
from kernelevo.records import Candidate, Diagnostic, Job, Operator, Prompt, Reply, Run
from kernelevo.site import Site

if TYPE_CHECKING:
    from kernelevo.archive import Archive

FREE_ATTEMPTS = 8  # proposals of a free model per job before a duplicate is accepted
PAID_ATTEMPTS = 3  # replies of a paid model per job: the first, and two with feedback on what was wrong
TOO_LIKE = 0.98  # similarity of a paid model's source to one of the run, from which on it is asked for another
COMPARED = 500  # candidates of the run that a source is compared with, the newest


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """What came of asking: a candidate to be evaluated, or a reason why there is none, or why it is not."""

    candidate: Candidate | None
    reason: str | None = None  # None: it is to be evaluated


class Recorded:
    """Stands where a model stood when a run is replayed. It is never asked: `reply_of` reads what is recorded."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.free = name == "mutate"

    def propose(self, prompt: Prompt, *, limit_usd: float | None = None, failed: Failed = unwatched) -> Reply:
        raise ModelError(f"{self.name} is not asked while its replies are read again")


def propose_candidate(site: Site, job: Job, known: Set[str]) -> Proposal:
    """The candidate of a job: the task's own kernel, one from replies already paid for, or a new one.

    known: candidates that a free model should not repeat; it is asked again with the next seed.

    Raises ModelError when the model gives no reply.
    """
    if job.operator is Operator.SEED:
        return Proposal(candidate=Candidate(source=site.task.seed_source or "", entry=site.task.entry))
    model = site.models[job.model]
    parents = [site.archive.candidate(parent, run=job.run) for parent in job.parents]
    material = gather(site.archive, site.task, job, site.device)
    found: Candidate | Diagnostic | None = None
    for attempt in range(FREE_ATTEMPTS if model.free else PAID_ATTEMPTS):
        asked = replace(job, seed=(job.seed + attempt) % 2**32)
        if isinstance(found, Diagnostic):
            material = replace(material, retry=words_of(found))
        try:
            prompt = write_prompt(site.task, asked, parents, material=material, target=site.device.target)
        except PromptTooLargeError as error:
            return Proposal(candidate=None, reason=str(error))
        reply = reply_of(site, job, attempt, prompt, model)
        found = read_candidate(reply, prompt, entry=site.task.entry)
        if isinstance(found, Candidate) and job.operator not in EDITS and not (model.free or job.model == AGENT):
            found = too_like(site, job, found) or found
        again = isinstance(found, Diagnostic) or (model.free and found.id in known)
        if not again or site.stopping.is_set() or not (model.free or has_room(site)):
            break
    if isinstance(found, Candidate):
        return Proposal(candidate=found)
    assert found is not None
    return Proposal(candidate=None, reason=found.text)


# What these ask for may be a small change.
EDITS = (Operator.REPAIR, Operator.SIMPLIFY)


def too_like(site: Site, job: Job, candidate: Candidate) -> Diagnostic | None:
    """Why a candidate is not worth an evaluation: the run has nearly the same; None when it has not.

    Only what the decision could see counts, so that a repeated run refuses the same.
    """
    nearest = likest(site.novelty, site.archive, site.run, visible(site.run, job.generation), candidate)
    if nearest is None or nearest[1] < TOO_LIKE:
        return None
    text = f"it is nearly {nearest[0]}, which was evaluated before: similarity {nearest[1]:.2f}, {TOO_LIKE} is too much"
    return Diagnostic(severity="error", line=None, column=None, text=text, stage="read")


def likest(
    novelty: Novelty, archive: Archive, run: Run, before_generation: int, candidate: Candidate
) -> tuple[str, float] | None:
    """The likest of the run's newest candidates of the generations before, and how like it is; None: there is none.

    novelty: what is known of the run's sources; those that it lacks are read from the archive.
    """
    newest = archive.scored(run.id, before_generation=before_generation)[-COMPARED:]
    others = [scored.candidate for scored in newest if scored.candidate != candidate.id]
    for other in others:
        if other not in novelty:
            novelty.add(other, archive.candidate(other, run=run.id).source)
    return novelty.nearest(candidate.source, among=others)


def reply_of(site: Site, job: Job, attempt: int, prompt: Prompt, model: Model) -> Reply:
    """The stored reply of an attempt, or a new one, which is stored."""
    archive = site.archive
    reply = archive.reply(job, attempt)
    if reply is not None:
        return reply
    if site.run.replay_of is not None:
        reply = archive.reply(replace(job, run=site.run.replay_of), attempt)
        if reply is None:  # as it ended then
            raise ModelError(archive.reason(site.run.replay_of, job.iteration) or "no reply is recorded")
        archive.record_reply(job, attempt, prompt, reply)
    elif model.free:
        reply = propose(prompt, model)
        archive.record_reply(job, attempt, prompt, reply)
    else:
        call, reply = pay(site, job, model.name, partial(propose, prompt, model))
        archive.record_reply(job, attempt, prompt, reply, call=call)
    return reply
