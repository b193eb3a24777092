"""Evolution driven from outside: a coding agent asks for a job, writes the kernel itself, and tells it.

    ask(task, archive)                -> AgentJob: what to write, from which parents, until when
    tell(job, source, archive, task)  -> Told: what came of it, and what to do next

It is the loop of evolve.py with one iteration per job and no model: decisions, prompts, readings and evaluations are
made by the same functions, and recorded in the same tables, with "agent" where a model stands. Several agents, threads
and processes may work on one run: a job is handed out by a lease, and to somebody else when that has ended and it was
not told. What needs no agent (the task's own kernel, tuning, the evaluation of a reply whose evaluation was cut off)
is done by whoever asks next.

Not covered: what a job costs the agent. Its replies are in the archive without tokens and price. A replay repeats the
run's lineage only where each job was told before the next was asked for. Two processes that begin at the same moment on
PostgreSQL may begin two runs, or do the same work twice; it is recorded once.
"""

from __future__ import annotations

import contextlib
import re
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

from kernelevo.budget import Budget
from kernelevo.config import Settings, read_settings
from kernelevo.decide import AGENT, decide, iterations
from kernelevo.devices import Device
from kernelevo.errors import ArchiveError, UsageError
from kernelevo.evaluate import load_device
from kernelevo.evolve import champion_ns, evaluate_job, tuned
from kernelevo.explain import Report, report_of
from kernelevo.memory import gather, write_lesson
from kernelevo.prompt import PromptTooLargeError, fenced, write_prompt
from kernelevo.propose import read_candidate, words_of
from kernelevo.proposing import PAID_ATTEMPTS, Proposal, propose_candidate
from kernelevo.records import (
    Candidate,
    Diagnostic,
    Evaluation,
    Job,
    Operator,
    Prompt,
    Reply,
    Run,
    Task,
)
from kernelevo.runs import check_same_task, check_same_timing, new_run, same_timing
from kernelevo.selection import best_of, load_strategy
from kernelevo.site import Event, Site, Step, stop_file

if TYPE_CHECKING:
    from kernelevo.archive import Archive
    from kernelevo.archive.answers import Lease

GENERATIONS = 10_000  # of one run, one job each
LEASE_SECONDS = 1800.0
ATTEMPTS = PAID_ATTEMPTS  # replies without a usable kernel, after which a job is told as it is
OURS = (Operator.SEED, Operator.TUNE)  # done here, without an agent
WAIT_SECONDS = 0.2  # between two looks at what another process does

JOB = re.compile(r"(r-[0-9a-f]+)/([0-9]{1,9})(?:@([A-Za-z0-9_.-]{1,64}))?")
HOLDER = re.compile(r"[A-Za-z0-9_.-]{1,64}")

Watch = Callable[[Event], None]


def unwatched(event: Event) -> None:
    """Steps that nobody watches."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentJob:
    """One job, handed out."""

    job: str  # its id, RUN/ITERATION@HOLDER, for `tell`
    run: str  # run id
    task: str
    operator: Operator
    parents: tuple[str, ...]  # candidate ids; edits are applied to the first
    rules: str  # what holds for every job of the task: what is right, forbidden and timed, forms of source and reply
    request: str  # what this job wants, with the parents' sources and what is known of them
    attempts_left: int  # replies without a usable kernel, this one included, before the job is closed
    holder: str
    leased_until: str  # ISO 8601, UTC; afterwards somebody else may get the job
    next_step: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What came of a job."""

    job: str
    run: str
    status: str  # that of the report, or "no kernel"
    reason: str  # why it did not pass; "" when it passed
    closed: bool  # False: the reply was of no use, and the job waits for another
    attempts_left: int  # of a job that is not closed
    report: Report | None  # None: there was no kernel to evaluate
    repeats: int | None  # the earlier iteration of the run to which the same source was told
    speedup_over_seed: float | None  # over the task's own kernel; None: one of the two has no time that compares
    speedup_over_best: float | None  # over the best of the run before
    is_best: bool  # of the run, now
    best: str | None  # candidate id
    next_step: str


# --- ask ------------------------------------------------------------------------------------------------------------


def ask(
    task: Task,
    archive: Archive,
    *,
    run: str | None = None,
    new: bool = False,
    holder: str | None = None,
    lease_seconds: float = LEASE_SECONDS,
    device: str | Device = "emulator",
    strategy: str | None = None,
    seed: int = 0,
    settings: Settings | None = None,
    watch: Watch = unwatched,
) -> AgentJob:
    """The next job of a run, leased to `holder`. What needs no agent is done before, and may take minutes.

    run: id of an agent's run, which is opened again if it has ended; by default the newest of this task's files on this
        device that has not ended, or a new one.
    new: begin a new run.
    holder: who works on the job; by default a name that nobody else has.
    strategy, seed: of a new run; the strategy is one_island by default: jobs are few and dear.

    Raises UsageError for a run that is no agent's, or has ended, and what evaluating raises.
    """
    settings = settings or read_settings()
    holder = holder or f"{AGENT}-{secrets.token_hex(4)}"
    if not HOLDER.fullmatch(holder):
        raise UsageError(f"holder {holder!r}", next_step="use up to 64 letters, digits, dots, - and _")
    if not 0 < lease_seconds < 1e8:
        raise UsageError(f"a lease of {lease_seconds} seconds", next_step="give a number above 0")
    if new and run is not None:
        raise UsageError(f"a new run, and run {run}", next_step="ask for one of the two")
    found = archive.get_run(run) if run is not None else None
    with load_device(found.device if found and isinstance(device, str) else device, settings) as opened:
        if found is not None:
            check_device(found, opened)
            check_same_timing(found, archive, opened)
        chosen = reopened(archive, task, found) if found else current(archive, task, opened, new, strategy, seed)
        site = site_of(chosen, task, archive, opened, settings, watch)
        while True:
            job, lease = next_job(site, holder, lease_seconds)
            handed = handed_out(site, job, lease)
            if handed is not None:
                return handed


def reopened(archive: Archive, task: Task, run: Run) -> Run:
    """A run that was named. Asking for it by name is a wish to go on with it."""
    check_agents(run)
    check_same_task(run, task)
    check_open(archive, run)
    archive.reopen_run(run.id)
    return run


def check_agents(run: Run) -> None:
    if run.replay_of is not None:
        raise UsageError(
            f"run {run.id} repeats {run.replay_of}", next_step=f"kernelevo ask {run.task} --run {run.replay_of}"
        )
    if run.models != (AGENT,):
        raise UsageError(
            f"run {run.id} is not an agent's: it asks {', '.join(run.models)}",
            next_step=f"kernelevo evolve --resume {run.id} goes on with it; kernelevo ask {run.task} without a run",
        )


def check_device(run: Run, device: Device) -> None:
    if run.device != device.name:
        raise UsageError(
            f"run {run.id} is of device {run.device}, not {device.name}",
            next_step=f"use --device {run.device}, or begin a new run (--new)",
        )


def current(archive: Archive, task: Task, device: Device, new: bool, strategy: str | None, seed: int) -> Run:
    """The newest run that agents have not ended, or a new one. One process at a time looks and begins."""
    with waiting_for(archive, f"ask-{task.name}"):
        open_runs = [
            entry.run
            for entry in archive.list_runs(task=task.name)
            if entry.status == "running"
            and entry.run.replay_of is None
            and (entry.run.models, entry.run.task_digest, entry.run.device) == ((AGENT,), task.digest, device.name)
            and same_timing(entry.run, archive, device)
        ]
        if open_runs and not new:
            run = open_runs[-1]
            if strategy not in (None, run.strategy):
                raise UsageError(
                    f"run {run.id} has strategy {run.strategy}, not {strategy}",
                    next_step="leave the strategy out, or begin a new run (--new)",
                )
            return run
        run = new_run(task, (AGENT,), (), device, strategy or "one_island", GENERATIONS, 1, 0, seed)
        load_strategy(run.strategy)  # before anything is written
        archive.create_run(run, task)
        return run


@contextlib.contextmanager
def waiting_for(archive: Archive, name: str) -> Iterator[None]:
    """Archive.holding, for as long as another process has it."""
    with contextlib.ExitStack() as stack:
        while not entered(stack, archive, name):
            time.sleep(WAIT_SECONDS)
        yield


def entered(stack: contextlib.ExitStack, archive: Archive, name: str) -> bool:
    """Whether nobody else holds it; then the stack does."""
    try:
        stack.enter_context(archive.holding(name))
    except UsageError:
        return False
    return True


def site_of(run: Run, task: Task, archive: Archive, device: Device, settings: Settings, watch: Watch) -> Site:
    return Site(
        run=run,
        task=task,
        archive=archive,
        device=device,
        strategy=load_strategy(run.strategy),
        models={},
        budget=Budget(),
        settings=settings,
        watch=watch,
    )


def next_job(site: Site, holder: str, lease_seconds: float) -> tuple[Job, Lease]:
    """A job for an agent, leased. Jobs that were handed out and came to nothing go first."""
    archive, run = site.archive, site.run
    every = iterations(run, site.task)
    while True:
        check_open(archive, run)
        free = archive.leases.free(run.id)
        jobs = {job.iteration: job for job in archive.jobs(run.id)}  # after `free`: others decide meanwhile
        done = False
        for job in [jobs[i] for i in free]:
            if job.operator in OURS:
                done = do(site, job) or done
            elif lease := archive.leases.take(job, holder=holder, seconds=lease_seconds):
                return job, lease
        if done:
            continue  # what was found changes what is decided
        if every.start == 0 in jobs and 0 not in archive.told(run.id):
            time.sleep(WAIT_SECONDS)  # another process evaluates it
            continue
        iteration = max(every.start, max(jobs, default=-1) + 1)
        if iteration not in every:
            archive.finish_run(run.id, reason=f"all {len(every)} jobs are handed out")
            raise UsageError(
                f"run {run.id} has no more jobs: all {len(every)} are handed out",
                next_step="tell those that are open, or begin a new run (--new)",
            )
        job = archive.record_job(decide(run, archive, site.strategy, iteration))
        if job.operator not in OURS and (lease := archive.leases.take(job, holder=holder, seconds=lease_seconds)):
            return job, lease


def check_open(archive: Archive, run: Run) -> None:
    """Raises UsageError when a person has stopped the run (`kernelevo stop`), until that is taken back."""
    if (stopped := stop_file(archive, run.id)).exists():
        archive.finish_run(run.id, status="stopped", reason=f"stop file: {stopped}")
        raise UsageError(
            f"run {run.id} was stopped by a person",
            next_step=f"remove {stopped} to go on with it, or begin another (--new)",
        )


def do(site: Site, job: Job) -> bool:
    """A job that needs no agent, unless another process is at it. Gives whether it was done here."""
    with contextlib.ExitStack() as stack:
        if not entered(stack, site.archive, f"{job.run}-{job.iteration}"):
            return False
        if job.iteration not in site.archive.told(job.run):
            site.watch(Event(step=Step.ASKED, job=job))
            seeding = job.operator is Operator.SEED
            proposal = propose_candidate(site, job, frozenset()) if seeding else tuned(site, job)
            settle(site, job, proposal)
        return True


def settle(site: Site, job: Job, proposal: Proposal) -> tuple[Evaluation | None, bool]:
    """Evaluates what a job came to, unless there is a reason not to, and records it; False: another did before."""
    evaluation = None
    if proposal.candidate is not None and proposal.reason is None:
        evaluation = evaluate_job(site, job, proposal.candidate, champion_ns(site))
    try:
        site.archive.record(job, proposal.candidate, evaluation, reason=proposal.reason)
    except ArchiveError:
        if job.iteration in site.archive.told(job.run):
            return evaluation, False
        raise
    write_lesson(site.archive, site.task, site.run, site.archive.told(job.run))
    return evaluation, True


def handed_out(site: Site, job: Job, lease: Lease) -> AgentJob | None:
    """A leased job as its agent sees it. None: it was settled, by what was told before and not evaluated to its end."""
    replies = site.archive.replies(job.run, job.iteration)
    try:
        prompt, found = read_replies(site, job, replies)
    except PromptTooLargeError as error:
        settle(site, job, Proposal(candidate=None, reason=str(error)))
        return None
    if isinstance(found, Candidate):
        settle(site, job, Proposal(candidate=found))
        return None
    if found is not None and len(replies) >= ATTEMPTS:
        settle(site, job, Proposal(candidate=None, reason=found.text))
        return None
    text = {message.role: message.text for message in prompt.messages}
    name = f"{job.run}/{job.iteration}@{lease.holder}"
    return AgentJob(
        job=name,
        run=job.run,
        task=site.task.name,
        operator=job.operator,
        parents=job.parents,
        rules=text["system"],
        request=text["user"],
        attempts_left=ATTEMPTS - len(replies),
        holder=lease.holder,
        leased_until=lease.leased_until,
        next_step=f"write the kernel as rules and request say, and tell it to this job before {lease.leased_until}",
    )


def read_replies(site: Site, job: Job, replies: tuple[Reply, ...]) -> tuple[Prompt, Candidate | Diagnostic | None]:
    """The prompt of a job's next attempt, and what its last reply holds; None: there is none.

    As propose_candidate: a reply after one that was of no use is asked for with the reason.
    """
    parents = [site.archive.candidate(parent, run=job.run) for parent in job.parents]
    material = gather(site.archive, site.task, job, site.device)
    asked = replace(job, seed=(job.seed + len(replies)) % 2**32)
    prompt = write_prompt(site.task, asked, parents, material=material, target=site.device.target)
    if not replies:
        return prompt, None
    found = read_candidate(replies[-1], prompt, entry=site.task.entry)
    if isinstance(found, Diagnostic):
        material = replace(material, retry=words_of(found))
        prompt = write_prompt(site.task, asked, parents, material=material, target=site.device.target)
    return prompt, found


# --- tell -----------------------------------------------------------------------------------------------------------


def tell(
    job: str,
    text: str,
    archive: Archive,
    task: Task,
    *,
    plan: str = "",
    device: str | Device | None = None,
    settings: Settings | None = None,
    watch: Watch = unwatched,
) -> Told:
    """Records and evaluates what an agent wrote for a job.

    job: its id as `ask` gave it. Without @HOLDER, whoever had it last is meant.
    text: a whole .cu file, or a reply in another form that `propose.read_candidate` reads.
    plan: one line on what was done and why; later jobs are shown what came of it.
    device: the run's by default.

    A reply without a usable kernel leaves the job open, until it is the last that the job may have. Where a kernel was
    told before and its evaluation was cut off, that one counts, and is evaluated now.

    Raises UsageError for a job that does not exist, was told or is somebody else's now, and what evaluating raises.
    """
    settings = settings or read_settings()
    if not text.strip():
        raise UsageError(f"job {job}: the kernel is empty", next_step="tell one CUDA source with a PYBIND11_MODULE")
    run, found, lease = job_of(job, archive)
    check_same_task(run, task)
    with load_device(device or run.device, settings) as opened:
        check_device(run, opened)
        site = site_of(run, task, archive, opened, settings, watch)
        replies = archive.replies(run.id, found.iteration)
        prompt, before = read_replies(site, found, replies)
        if isinstance(before, Candidate):
            return outcome(site, job, found, Proposal(candidate=before))
        reply = Reply(
            model=AGENT,
            text=with_plan(text, plan),
            seconds=max(0.0, (archive.clock() - datetime.fromisoformat(lease.leased_at)).total_seconds()),
            finish_reason="stop",
        )
        attempt = len(replies)
        try:
            archive.record_reply(found, attempt, prompt, reply)
        except ArchiveError as error:
            if archive.reply(found, attempt) is None:
                raise
            raise UsageError(
                f"job {job} is being told by another call", next_step="wait for what comes of that one"
            ) from error
        read = read_candidate(reply, prompt, entry=task.entry)
        if isinstance(read, Candidate):
            return outcome(site, job, found, Proposal(candidate=read))
        if attempt + 1 >= ATTEMPTS:
            return outcome(site, job, found, Proposal(candidate=None, reason=read.text))
        return Told(
            job=job,
            run=run.id,
            status="no kernel",
            reason=words_of(read),
            closed=False,
            attempts_left=ATTEMPTS - attempt - 1,
            report=None,
            repeats=None,
            speedup_over_seed=None,
            speedup_over_best=None,
            is_best=False,
            best=best_id(site),
            next_step="mend that, and tell the same job again",
        )


def job_of(name: str, archive: Archive) -> tuple[Run, Job, Lease]:
    """The run, the job and its newest lease. Raises UsageError where it cannot be told."""
    parts = JOB.fullmatch(name.strip())
    if parts is None:
        raise UsageError(
            f"{name!r} is not the id of a job", next_step="give it as kernelevo ask did: RUN/ITERATION@HOLDER"
        )
    run_id, iteration, holder = parts[1], int(parts[2]), parts[3]
    run = archive.get_run(run_id)
    check_agents(run)
    again = f"ask for another: kernelevo ask {run.task} --run {run.id}"
    job = next((job for job in archive.jobs(run.id) if job.iteration == iteration), None)
    lease = archive.leases.newest(run.id, iteration)
    if job is None or lease is None:
        raise UsageError(f"job {name} was never handed out", next_step=again)
    if iteration in archive.told(run.id):
        raise UsageError(f"job {name} was told already; nothing is changed", next_step=again)
    if holder is not None and holder != lease.holder:
        raise UsageError(
            f"job {name} is not {holder}'s any more: it was handed to {lease.holder} at {lease.leased_at}, after the "
            "lease had ended",
            next_step=f"{again}; a longer lease is asked for by --lease-minutes",
        )
    return run, job, lease


def with_plan(text: str, plan: str) -> str:
    """The reply that a model would have given: a plan before a file stands outside its fence."""
    if not plan.strip():
        return text
    told = f"PLAN: {' '.join(plan.split())}"
    is_file = "```" not in text and not re.search(r"^<{5,} ?SEARCH", text, re.MULTILINE)
    return f"{told}\n\n{fenced(text, 'cuda') if is_file else text}"


def outcome(site: Site, name: str, job: Job, proposal: Proposal) -> Told:
    """Settles a job and says what came of it. Raises UsageError when it was told meanwhile."""
    archive = site.archive
    before = best_id(site)
    evaluation, recorded = settle(site, job, proposal)
    if not recorded:
        raise UsageError(
            f"job {name} was told meanwhile; nothing is changed",
            next_step=f"ask for another: kernelevo ask {site.task.name} --run {job.run}",
        )
    scored = archive.scored(job.run)
    best = best_of(scored)
    seed = next((s.candidate for s in scored if s.iteration == 0), None)
    report = report_of(evaluation, proposal.candidate) if evaluation and proposal.candidate else None
    is_best = best is not None and best.iteration == job.iteration
    first = next((s.iteration for s in scored if report and s.candidate == report.candidate), job.iteration)
    repeats = first if first < job.iteration else None
    return Told(
        job=name,
        run=job.run,
        status=report.status if report else "no kernel",
        reason=report.reason if report else proposal.reason or "",
        closed=True,
        attempts_left=0,
        report=report,
        repeats=repeats,
        speedup_over_seed=speedup(evaluation, known(site, seed)),
        speedup_over_best=speedup(evaluation, known(site, before)),
        is_best=is_best,
        best=best.candidate if best else None,
        next_step="ask for the run's next job, or stop when gains have become too small for what they cost",
    )


def best_id(site: Site) -> str | None:
    best = best_of(site.archive.scored(site.run.id))
    return best.candidate if best else None


def known(site: Site, candidate: str | None) -> Evaluation | None:
    return site.archive.known(candidate, site.task, site.device.name) if candidate else None


def speedup(new: Evaluation | None, old: Evaluation | None) -> float | None:
    """How many times as fast, where the two times compare."""
    one, two = new and new.timing, old and old.timing
    if not one or not two or (one.kind, one.target, one.method) != (two.kind, two.target, two.method):
        return None
    return two.score_ns / one.score_ns
