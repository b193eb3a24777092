"""START HERE: the loop. A task, models, a device and an archive in; an archive with more in it out.

    decide -> prompt -> propose -> read -> evaluate -> tell, once per iteration

Proposals wait in threads, candidates are evaluated by others, and this thread decides and tells: nothing waits for
what it does not need. Everything random in an iteration derives from (run seed, iteration), and a decision rests on
generations that must be told by then (decide.py): the same seed on the same machine gives the same lineage, however
many candidates are under way at once, as long as replies and verdicts are the same. (Verdicts can differ for a
candidate on the edge of what is allowed: hidden cases are drawn anew for each evaluation.)

A run that was cut off goes on with `resume`: replies that were paid for are read again from the archive, and nothing
is evaluated or counted twice. `replay` repeats a run from its recorded replies and asks no model.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from kernelevo.budget import Budget, budget_of, why_stop
from kernelevo.config import Settings, provider_key, read_settings
from kernelevo.decide import decide, generation_of, iterations, visible
from kernelevo.devices import Device
from kernelevo.errors import ModelError
from kernelevo.evaluate import evaluate, load_device
from kernelevo.judging import refused
from kernelevo.memory import write_lesson
from kernelevo.models import Model
from kernelevo.models.load import load_model
from kernelevo.paying import has_room, spent
from kernelevo.proposing import Proposal, Recorded, propose_candidate
from kernelevo.records import Candidate, Evaluation, Job, Operator, Run, Task
from kernelevo.runs import (
    check_payable,
    check_same_task,
    check_same_timing,
    floor_ns,
    new_id,
    new_run,
    prices_of,
    sleeper,
)
from kernelevo.selection import best_of, load_strategy
from kernelevo.site import Event, Site, Step, stop_file
from kernelevo.tune import tune

if TYPE_CHECKING:
    from kernelevo.archive import Archive

HOPELESS = 3  # proposals in a row that ended in a ModelError, before the run gives up


@dataclass(frozen=True, slots=True, kw_only=True)
class Evolution:
    """What a run came to."""

    run: Run
    seed: Candidate | None  # the task's own kernel
    best: Candidate | None  # fastest that passed; None when nothing did
    candidates: int  # evaluated or shared, seed included
    seconds: float
    stop_reason: str | None  # why it ended before its last generation


def evolve(
    task: Task,
    archive: Archive,
    *,
    models: Sequence[str | Model] = ("mutate",),
    judges: Sequence[str | Model] = (),
    device: str | Device = "emulator",
    strategy: str = "islands",
    generations: int = 4,
    population: int = 4,
    lookahead: int | None = None,
    seed: int = 0,
    budget: Budget | None = None,
    resume: str | None = None,
    replay: str | None = None,
    settings: Settings | None = None,
    watch: Callable[[Event], None] = lambda event: None,
) -> Evolution:
    """Evolves kernels for a task and records everything in the archive.

    models: names like "mutate" or "anthropic:MODEL", or objects; the strategy chooses among them.
    judges: models that judge candidates before they are evaluated; none: all are evaluated.
    generations, population: after the task's seed kernel, generations x population proposals are made.
    lookahead: generations that may be proposed while earlier ones are under way; by default 1, and 0 where all models
        are free: waiting is what it saves.
    budget: what ends the run early. Of a run that goes on, it replaces what was agreed, where it says something.
    resume: id of a run to go on with; its own settings then replace those given here.
    replay: id of a run to repeat from its recorded replies, in a new run; its own settings replace those given here.
    watch: called in this thread at every step.

    Raises UsageError for unknown names, a task that fits none of the models, or a budget in dollars for a model whose
    price is not known; ModelError when no model can be asked; ToolchainError when nothing can be compiled here;
    ArchiveError when the archive cannot be written. Whatever was recorded before stays.
    """
    started = time.monotonic()
    settings = settings or read_settings()
    budget = budget or Budget()
    given = {model.name: model for model in (*models, *judges) if not isinstance(model, str)}
    proposing, judging = [[m if isinstance(m, str) else m.name for m in group] for group in (models, judges)]
    if resume is not None:
        run = archive.get_run(resume)
        check_same_task(run, task)
        budget = budget_of({**archive.ledger.limits(run.id), **budget.given()})
    elif replay is not None:
        before = archive.get_run(replay)
        check_same_task(before, task)
        run = replace(before, id=new_id(task), replay_of=before.id)
    else:
        run = new_run(task, proposing, judging, device, strategy, generations, population, lookahead, seed)
    events: SimpleQueue[Event] = SimpleQueue()
    stopping = threading.Event()
    judged_by = () if run.replay_of else run.judges  # what they said then is in the archive
    prices = {**prices_of((*run.models, *judged_by), settings), **archive.ledger.prices(run.id)}
    if run.replay_of is None:
        check_payable(prices, budget)
    proposers = {
        name: Recorded(name)
        if run.replay_of
        else given.get(name) or load_model(name, key=provider_key, price=prices[name], sleep=sleeper(stopping))
        for name in dict.fromkeys((*run.models, *judged_by))
    }
    chosen = run.device if isinstance(device, str) else device
    with archive.holding(run.id), load_device(chosen, settings) as opened:
        if resume is None:
            archive.create_run(run, task)
        else:
            check_same_timing(run, archive, opened)
            archive.reopen_run(run.id)
            stop_file(archive, run.id).unlink(missing_ok=True)
        archive.ledger.agree(run.id, prices=prices, limits=budget.limits())
        site = Site(
            run=run,
            task=task,
            archive=archive,
            device=opened,
            strategy=load_strategy(run.strategy),
            models=proposers,
            judges=tuple(proposers[name] for name in judged_by),
            budget=budget,
            settings=settings,
            watch=events.put,
            stopping=stopping,
            floor_ns=floor_ns(task, opened) if budget.roofline else None,
        )
        stop_reason = work(site, events, watch)
        archive.finish_run(run.id, status="finished", reason=stop_reason)
    scored = archive.scored(run.id)
    best = best_of(scored)
    return Evolution(
        run=site.run,
        seed=next((archive.candidate(s.candidate, run=run.id) for s in scored if s.iteration == 0), None),
        best=archive.candidate(best.candidate, run=run.id) if best else None,
        candidates=len(scored),
        seconds=time.monotonic() - started,
        stop_reason=stop_reason,
    )


@dataclass(slots=True)
class UnderWay:
    """What a run is doing: filled and emptied by `work` alone, in its thread."""

    left: list[int]  # iterations to begin, in order
    told: set[int]
    frontier: int  # no iteration before it is untold
    proposing: dict[Future[Proposal], Job] = field(default_factory=dict)
    evaluating: dict[Future[Evaluation], tuple[Job, Candidate]] = field(default_factory=dict)
    known: set[str] = field(default_factory=set)  # candidates of free models, which should not repeat them
    failures: int = 0  # proposals in a row that ended in a ModelError

    def requests(self) -> int:
        """Jobs for which a model is, or is about to be, asked."""
        return sum(job.operator is not Operator.TUNE for job in self.proposing.values())


def work(site: Site, events: SimpleQueue[Event], watch: Callable[[Event], None]) -> str | None:
    """Every iteration that is not told yet, until the last one or a reason to stop; gives the reason.

    An interruption lets replies under way arrive, because they are paid for, and gives up everything else.
    """
    told = set(site.archive.told(site.run.id))
    every = iterations(site.run, site.task)
    left = [i for i in every if i not in told]
    if site.run.replay_of is not None:  # what was never told cannot be repeated
        repeated = site.archive.told(site.run.replay_of)
        left = [i for i in left if i in repeated]
    state = UnderWay(left=left, told=told, frontier=every.start)
    proposals = ThreadPoolExecutor(site.settings.proposals, thread_name_prefix="propose")
    evaluations = ThreadPoolExecutor(site.settings.parallel, thread_name_prefix="evaluate")
    reason: str | None = None
    try:
        while True:
            drain(events, watch)
            if reason is None and (reason := begin_jobs(site, state, proposals, evaluations)) is not None:
                site.stopping.set()
                site.watch(Event(step=Step.STOPPING, text=reason))
            if not state.proposing and not state.evaluating:
                return reason
            under_way: list[Future[Any]] = [*state.proposing, *state.evaluating]
            done, _ = wait(under_way, timeout=0.1, return_when=FIRST_COMPLETED)
            for proposal in [future for future in state.proposing if future in done]:
                proposed(site, state, state.proposing.pop(proposal), proposal, evaluations)
            for evaluation in [future for future in state.evaluating if future in done]:
                tell(site, state, *state.evaluating.pop(evaluation), evaluation.result())
    except BaseException as error:
        site.stopping.set()
        if state.proposing:
            watch(Event(step=Step.STOPPING, text=f"waiting for {len(state.proposing)} replies that are paid for"))
        proposals.shutdown(wait=True, cancel_futures=True)
        status = "stopped" if isinstance(error, KeyboardInterrupt) else "failed"
        site.archive.finish_run(site.run.id, status=status, reason=str(error) or None)
        raise
    finally:
        for pool in (proposals, evaluations):
            pool.shutdown(wait=False, cancel_futures=True)
        for future, (job, candidate) in state.evaluating.items():
            if future.done() and not future.cancelled() and future.exception() is None:
                tell(site, state, job, candidate, future.result())
        drain(events, watch)


def begin_jobs(
    site: Site, state: UnderWay, proposals: ThreadPoolExecutor, evaluations: ThreadPoolExecutor
) -> str | None:
    """Decides and begins as many iterations as may be under way; gives the reason, if nothing more is to be begun."""
    while (reason := stop_now(site, state)) is None and state.left and is_open(site, state, state.left[0]):
        if len(state.proposing) >= site.settings.proposals or len(state.evaluating) >= 2 * site.settings.parallel:
            return None
        if state.requests() and not has_room(site, requests=state.requests()):
            return None  # those under way may turn out cheaper
        job = site.archive.record_job(decide(site.run, site.archive, site.strategy, state.left[0]))
        del state.left[0]
        site.watch(Event(step=Step.ASKED, job=job))
        if job.operator is Operator.TUNE:
            state.proposing[evaluations.submit(tuned, site, job)] = job
        elif job.operator is Operator.SEED or site.models[job.model].free:
            at_once: Future[Proposal] = Future()  # here and in order: what it may repeat depends on those before
            horizon = visible(site.run, job.generation)
            seen = {s.candidate for s in site.archive.scored(site.run.id, before_generation=horizon)}
            at_once.set_result(propose_candidate(site, job, seen | state.known))
            state.known |= {c.id for c in [at_once.result().candidate] if c}
            proposed(site, state, job, at_once, evaluations)
        else:
            state.proposing[proposals.submit(paid, site, job)] = job
    return reason


def paid(site: Site, job: Job) -> Proposal:
    """A paid model's proposal, and what judges say of it."""
    proposal = propose_candidate(site, job, frozenset())
    if proposal.candidate is None or proposal.reason is not None:
        return proposal
    return replace(proposal, reason=refused(site, job, proposal.candidate))


def is_open(site: Site, state: UnderWay, iteration: int) -> bool:
    """Whether everything is told that the decision of an iteration rests on."""
    while state.frontier in state.told:
        state.frontier += 1
    horizon = visible(site.run, generation_of(site.run, iteration))
    return state.frontier > (horizon - 1) * site.run.population


def proposed(site: Site, state: UnderWay, job: Job, future: Future[Proposal], evaluations: ThreadPoolExecutor) -> None:
    """A job's proposal to its evaluation; one that is not to be evaluated is told at once."""
    try:
        proposal = future.result()
        state.failures = 0
    except ModelError as error:
        state.failures += 1
        hopeless = state.failures >= HOPELESS or not site.archive.has_replies(site.run.id)
        if hopeless and site.run.replay_of is None:
            raise
        proposal = Proposal(candidate=None, reason=str(error))
    if proposal.candidate is None or proposal.reason is not None:
        tell(site, state, job, proposal.candidate, None, reason=proposal.reason)
        return
    candidate = proposal.candidate
    site.watch(Event(step=Step.PROPOSED, job=job, candidate=candidate))
    state.evaluating[evaluations.submit(evaluate_job, site, job, candidate, champion_ns(site))] = (job, candidate)


def champion_ns(site: Site) -> float:
    """The score to beat; infinite while nothing has one."""
    champion = best_of(site.archive.scored(site.run.id))
    return (champion.score_ns if champion else None) or math.inf


def tell(
    site: Site,
    state: UnderWay,
    job: Job,
    candidate: Candidate | None,
    evaluation: Evaluation | None,
    *,
    reason: str | None = None,
) -> None:
    """Records what came of a job, in one transaction."""
    site.archive.record(job, candidate, evaluation, reason=reason)
    state.told.add(job.iteration)
    site.watch(Event(step=Step.TOLD, job=job, candidate=candidate, evaluation=evaluation, text=reason or ""))
    write_lesson(site.archive, site.task, site.run, state.told)


def tuned(site: Site, job: Job) -> Proposal:
    """The best configuration of the parent's tunables, or why there is none that is faster."""
    parent = site.archive.candidate(job.parents[0], run=job.run)
    result = tune(site.task, parent, site.device, site.settings, seed=job.seed)
    site.archive.notes.write_tuning(job, result.tried)
    return Proposal(candidate=result.best, reason=None if result.best else result.reason)


def evaluate_job(site: Site, job: Job, candidate: Candidate, champion_ns: float) -> Evaluation:
    """`evaluate` in a thread of its own, unless the archive knows what it would say."""
    archive, device = site.archive, site.device
    earlier = archive.known(candidate.id, site.task, device.name)
    if earlier is not None and holds(earlier, device, champion_ns):
        return earlier

    def reached(stage: str, text: str) -> None:
        words = f"{stage}: {text}" if text else stage
        site.watch(Event(step=Step.STAGE, job=job, candidate=candidate, text=words))

    def known(key: str) -> Evaluation | None:
        twin = archive.known_kernel(key, site.task, device.name)
        return twin if twin and holds(twin, device, champion_ns) else None

    return evaluate(
        site.task,
        candidate,
        device=device,
        settings=site.settings,
        known=known,
        champion_ns=champion_ns,
        progress=reached,
    )


def holds(earlier: Evaluation, device: Device, champion_ns: float) -> bool:
    """Whether an evaluation of the archive still says what a new one would: it passed, and its time is of this method.

    A failure is looked at again: what was unsupported, or wrong by a fault of ours, may not be so any more. And so is
    what would become the best of the run without having been promoted.
    """
    timing = earlier.timing
    if timing is None or timing.method != device.timing_method:
        return False
    return earlier.promoted or timing.score_ns >= champion_ns


def stop_now(site: Site, state: UnderWay) -> str | None:
    """Why nothing more is to be begun, or None."""
    if site.stop_file.exists():
        return f"stop file: {site.stop_file}"
    budget = replace(site.budget, usd=None) if state.requests() else site.budget  # money is looked at when they ended
    if budget == Budget():
        return None
    scored = site.archive.scored(site.run.id)
    best = best_of(scored)
    seed_ns = next((s.score_ns for s in scored if s.iteration == 0), None)
    best_ns = best.score_ns if best else None
    told = site.archive.told(site.run.id)
    return why_stop(
        budget,
        replace(
            spent(site),
            seconds=time.monotonic() - site.started,
            evaluations=len(scored),
            speedup=seed_ns / best_ns if seed_ns and best_ns else None,
            roofline=site.floor_ns / best_ns if site.floor_ns and best_ns else None,
            since_best=sum(i > best.iteration for i in told) if best else None,
        ),
    )


def drain(events: SimpleQueue[Event], watch: Callable[[Event], None]) -> None:
    while not events.empty():
        watch(events.get())
