"""START HERE: the loop. A task, models, a device and an archive in; an archive with more in it out.

    ask -> prompt -> propose -> read -> evaluate -> tell, once per iteration

`ask` decides what to propose next and from which parents; `tell` records what came of it. The loop below, tests and
external agents use the same two. Everything random in an iteration derives from (run seed, iteration), and a
generation is asked for from earlier generations only: the same seed on the same machine gives the same lineage,
however many candidates are evaluated at once, as long as the verdicts are the same. (They can differ for a candidate
on the edge of what is allowed: hidden cases are drawn anew for each evaluation.) A run that was cut off goes on with
`resume`: replies that were paid for are read again from the archive, and nothing is evaluated or counted twice.

Not covered: budgets in money or time, and evaluation of one generation while the next is being proposed.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from enum import Enum
from queue import SimpleQueue
from typing import TYPE_CHECKING

from kernelevo.config import Settings, read_settings
from kernelevo.devices import Device
from kernelevo.errors import UsageError
from kernelevo.evaluate import evaluate, load_device
from kernelevo.models import Model
from kernelevo.models.load import load_model
from kernelevo.prompt import write_prompt
from kernelevo.propose import propose, read_candidate
from kernelevo.records import Candidate, Diagnostic, Evaluation, Job, Operator, Run, Scored, Task, digest
from kernelevo.selection import Choice, Strategy, load_strategy, ranked

if TYPE_CHECKING:
    from kernelevo.archive import Archive

ATTEMPTS = 8  # proposals of a free model per job before a duplicate is accepted


class Step(Enum):
    """What an Event reports."""

    ASKED = "asked"  # job
    PROPOSED = "proposed"  # job, candidate (None: the reply held none, and text says why)
    STAGE = "stage"  # job, candidate; text is the stage reached
    TOLD = "told"  # job, candidate, evaluation


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One step of a run, for whoever watches."""

    step: Step
    job: Job
    candidate: Candidate | None = None
    evaluation: Evaluation | None = None
    text: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evolution:
    """What a run came to."""

    run: Run
    seed: Candidate | None  # the task's own kernel
    best: Candidate | None  # fastest that passed; None when nothing did
    candidates: int  # evaluated or shared, seed included
    seconds: float


def evolve(
    task: Task,
    archive: Archive,
    *,
    models: Sequence[str | Model] = ("mutate",),
    device: str | Device = "emulator",
    strategy: str = "islands",
    generations: int = 4,
    population: int = 4,
    seed: int = 0,
    resume: str | None = None,
    settings: Settings | None = None,
    watch: Callable[[Event], None] = lambda event: None,
) -> Evolution:
    """Evolves kernels for a task and records everything in the archive.

    models: names like "mutate", or objects; iterations take them in turn.
    generations, population: after the task's seed kernel, generations x population proposals are made.
    resume: id of a run to go on with; its own settings then replace those given here.
    watch: called in this thread at every step.

    Raises UsageError for unknown names or a task that fits none of the models, ToolchainError when nothing can be
    compiled here, ArchiveError when the archive cannot be written. Whatever was recorded before stays.
    """
    started = time.monotonic()
    settings = settings or read_settings()
    given = {model.name: model for model in models if not isinstance(model, str)}
    names = [model if isinstance(model, str) else model.name for model in models]
    if resume is None:
        run = new_run(task, names, device, strategy, generations, population, seed)
    else:
        run = archive.get_run(resume)
        check_resumable(run, task)
    chooser = load_strategy(run.strategy)
    proposers = {name: given.get(name) or load_model(name) for name in run.models}
    chosen = run.device if isinstance(device, str) else device
    with archive.holding(run.id), load_device(chosen, settings) as opened:
        if resume is None:
            archive.create_run(run, task)
        else:
            archive.reopen_run(run.id)
        try:
            for generation in range(run.generations + 1):
                jobs = list(ask_generation(run, task, archive, chooser, generation))
                evolve_generation(run, task, jobs, archive, proposers, opened, settings, watch)
        except BaseException as error:
            archive.finish_run(run.id, status="stopped" if isinstance(error, KeyboardInterrupt) else "failed")
            raise
    archive.finish_run(run.id, status="finished")
    scored = archive.scored(run.id)
    best = ranked(scored)
    return Evolution(
        run=run,
        seed=next((archive.candidate(s.candidate, run=run.id) for s in scored if s.iteration == 0), None),
        best=archive.candidate(best[0].candidate, run=run.id) if best else None,
        candidates=len(scored),
        seconds=time.monotonic() - started,
    )


def ask_generation(run: Run, task: Task, archive: Archive, strategy: Strategy, generation: int) -> Iterator[Job]:
    """The jobs of a generation that have not been told yet. Generation 0 is the task's own kernel."""
    told = archive.told(run.id)
    scored = archive.scored(run.id, before_generation=generation)
    first = 1 + (generation - 1) * run.population
    iterations = range(first, first + run.population) if generation else range(1 if task.seed_source else 0)
    for iteration in iterations:
        if iteration in told:
            continue
        yield archive.record_job(ask(run, strategy, scored, iteration=iteration, generation=generation))


def ask(run: Run, strategy: Strategy, scored: Sequence[Scored], *, iteration: int, generation: int) -> Job:
    """What to propose next: one decision, made from the run's seed and what earlier generations showed."""
    rng = random.Random(f"{run.seed}:{iteration}")
    seed = rng.getrandbits(32)
    model = run.models[iteration % len(run.models)]
    choice = (
        strategy.choose(scored, iteration=iteration, generation=generation, rng=rng)
        if generation
        else Choice(operator=Operator.SEED, parents=(), island=None)
    )
    return Job(
        run=run.id,
        iteration=iteration,
        generation=generation,
        operator=choice.operator,
        parents=choice.parents,
        model=model,
        island=choice.island,
        seed=seed,
    )


def evolve_generation(
    run: Run,
    task: Task,
    jobs: Sequence[Job],
    archive: Archive,
    models: Mapping[str, Model],
    device: Device,
    settings: Settings,
    watch: Callable[[Event], None],
) -> None:
    """Proposes in order, evaluates up to `settings.parallel` candidates at once, tells in order of completion.

    When something fails that is not a candidate's fault, what has not begun is given up, what is done is told first.
    """
    scored = archive.scored(run.id)
    known = {s.candidate for s in scored}
    best = ranked(scored)
    champion_ns = (best[0].score_ns if best else None) or math.inf
    stages: SimpleQueue[Event] = SimpleQueue()
    pool = ThreadPoolExecutor(settings.parallel, thread_name_prefix="evaluate")
    waiting: dict[Future[Evaluation], tuple[Job, Candidate]] = {}
    try:
        for job in jobs:
            watch(Event(step=Step.ASKED, job=job))
            candidate = propose_candidate(task, job, archive, models[job.model], device, known)
            if isinstance(candidate, Diagnostic):
                archive.record(job, None, None, reason=candidate.text)
                watch(Event(step=Step.PROPOSED, job=job, text=candidate.text))
                continue
            watch(Event(step=Step.PROPOSED, job=job, candidate=candidate))
            known.add(candidate.id)
            earlier = archive.known(candidate.id, task, device.name)
            if earlier is not None and holds(earlier, device, champion_ns):
                tell(archive, job, candidate, earlier, watch)
                continue
            future = pool.submit(evaluate_job, task, job, candidate, archive, device, settings, champion_ns, stages)
            waiting[future] = (job, candidate)
        while waiting:
            done, _ = wait(waiting, timeout=0.1, return_when=FIRST_COMPLETED)
            while not stages.empty():
                watch(stages.get())
            for future in done:
                evaluation = future.result()
                tell(archive, *waiting.pop(future), evaluation, watch)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for future, (job, candidate) in waiting.items():
            if future.done() and not future.cancelled() and future.exception() is None:
                tell(archive, job, candidate, future.result(), watch)


def evaluate_job(
    task: Task,
    job: Job,
    candidate: Candidate,
    archive: Archive,
    device: Device,
    settings: Settings,
    champion_ns: float,
    stages: SimpleQueue[Event],
) -> Evaluation:
    """`evaluate` in a thread of its own; the stages it reaches go into the queue."""

    def reached(stage: str, text: str) -> None:
        stages.put(Event(step=Step.STAGE, job=job, candidate=candidate, text=f"{stage}: {text}" if text else stage))

    def known(key: str) -> Evaluation | None:
        earlier = archive.known_kernel(key, task, device.name)
        return earlier if earlier and holds(earlier, device, champion_ns) else None

    return evaluate(
        task,
        candidate,
        device=device,
        settings=settings,
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


def tell(
    archive: Archive, job: Job, candidate: Candidate, evaluation: Evaluation, watch: Callable[[Event], None]
) -> None:
    """Records what came of a job, in one transaction."""
    archive.record(job, candidate, evaluation)
    watch(Event(step=Step.TOLD, job=job, candidate=candidate, evaluation=evaluation))


def propose_candidate(
    task: Task, job: Job, archive: Archive, model: Model, device: Device, known: set[str]
) -> Candidate | Diagnostic:
    """The candidate of a job: the task's own kernel, a reply already paid for, or a new one.

    A model that costs nothing is asked again, with the next seed, for as long as it repeats what the run has.
    """
    if job.operator is Operator.SEED:
        return Candidate(source=task.seed_source or "", entry=task.entry)
    parents = [archive.candidate(parent, run=job.run) for parent in job.parents]
    feedback = {parent: archive.feedback(parent, task, device.name) for parent in job.parents}
    for attempt in range(ATTEMPTS):
        seeded = replace(job, seed=(job.seed + attempt) % 2**32)
        prompt = write_prompt(task, seeded, parents, feedback=feedback, target=device.target)
        reply = archive.reply(job, attempt)
        if reply is None:
            reply = propose(prompt, model)
            archive.record_reply(job, attempt, prompt, reply)
        candidate = read_candidate(reply, prompt, entry=task.entry)
        if isinstance(candidate, Candidate) and candidate.id in known and reply.cost_usd == 0:
            continue
        return candidate
    return candidate


def new_run(
    task: Task,
    models: Sequence[str],
    device: str | Device,
    strategy: str,
    generations: int,
    population: int,
    seed: int,
) -> Run:
    """The record of a run about to start. Two runs with equal settings differ in id: it holds the time."""
    for name, value in (("generations", generations), ("population", population)):
        if value < 1:
            raise UsageError(f"{name} is {value}", next_step=f"give {name} of at least 1")
    if not 0 <= seed < 2**63:
        raise UsageError(f"seed is {seed}", next_step="give a seed from 0 to 2**63 - 1")
    if not models:
        raise UsageError("no model is given", next_step="name at least one, for example mutate")
    if task.seed_source is None and set(models) == {"mutate"}:
        raise UsageError(
            f"task {task.name} has no seed.cu, and mutate starts from one", next_step="write one or name another model"
        )
    name = device if isinstance(device, str) else device.name
    return Run(
        id=digest(task.digest, *models, name, strategy, str(seed), str(time.time_ns()), tag="r", length=12),
        task=task.name,
        task_digest=task.digest,
        models=tuple(models),
        device=name,
        strategy=strategy,
        generations=generations,
        population=population,
        seed=seed,
    )


def check_resumable(run: Run, task: Task) -> None:
    if (run.task, run.task_digest) != (task.name, task.digest):
        raise UsageError(
            f"run {run.id} is of task {run.task} ({run.task_digest}), which is now {task.name} ({task.digest})",
            next_step="start a new run: times of a changed task do not compare",
        )
