"""The nine stages that a candidate goes through, cheapest first; the first that it does not pass is the last.

    read -> duplicate -> static -> build -> smoke -> correctness -> integrity -> measure -> promotion

Takes a task, a candidate and an open device; gives an Evaluation, in which each stage that was reached has a Stage with
its outcome, its seconds and what it found. Nothing here loads candidate code: the device's sandboxed workers do.

    read          there is a module with the entry point
    duplicate     the same source but for comments and spaces, or the same kernels launched alike, passed before: what
                  was found then is taken over (`known`)
    static        what the source asks of the compiler, and what the artifact can reach
    build         compilers; registers, shared memory, spills
    smoke         smallest cases on the emulator with all checkers on
    correctness   TEST, HIDDEN and BENCH cases against the oracle
    integrity     whether it computed them itself, honestly, and every time
    measure       times of the BENCH cases
    promotion     who beats the champion is verified on new cases in a fresh process, and timed again: that time counts
"""

from __future__ import annotations

import contextlib
import math
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace

from kernelevo.config import Settings
from kernelevo.devices import Device
from kernelevo.mangled import kernel_name
from kernelevo.records import (
    STAGES,
    Behaviour,
    Build,
    Candidate,
    Case,
    CaseVerdict,
    Evaluation,
    Outcome,
    Purpose,
    Stage,
    StageOutcome,
    Task,
    Timing,
    Verdict,
)

Progress = Callable[[str, str], None]  # stage and what happens in it
Known = Callable[[str], Evaluation | None]  # source_key or kernel_key -> the evaluation of an equal candidate


@dataclass(slots=True)
class OpenStage:
    """A stage under way: what it will have found."""

    outcome: StageOutcome = StageOutcome.PASSED
    text: str = ""

    def fail(self, text: str) -> None:
        self.outcome, self.text = StageOutcome.FAILED, text

    def skip(self, text: str) -> None:
        self.outcome, self.text = StageOutcome.SKIPPED, text


class StageLog:
    """The stages of one evaluation as they are reached. One that is entered twice is one stage, with both times."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.stages: dict[str, Stage] = {}

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[OpenStage]:
        self.progress(name, "")
        before = self.stages.get(name)
        opened = OpenStage(text=before.text if before else "")
        started = time.monotonic()
        yield opened
        seconds = time.monotonic() - started + (before.seconds if before else 0.0)
        self.stages[name] = Stage(name=name, outcome=opened.outcome, seconds=seconds, text=opened.text)

    def move(self, seconds: float, source: str, target: str) -> None:
        """Counts seconds that one stage took as another's: both were done in one go."""
        for name, change in ((source, -seconds), (target, seconds)):
            self.stages[name] = replace(self.stages[name], seconds=self.stages[name].seconds + change)

    def failed(self) -> bool:
        """Whether the candidate did not get past a stage."""
        return any(stage.outcome is StageOutcome.FAILED for stage in self.stages.values())

    def all(self) -> tuple[Stage, ...]:
        return tuple(self.stages[name] for name in STAGES if name in self.stages)


@dataclass(frozen=True, slots=True, kw_only=True)
class Screened:
    """What was learned of a source before it was compiled."""

    log: StageLog
    candidate: Candidate
    source_key: str
    twin: Evaluation | None  # of an equal source


def screen(candidate: Candidate, known: Known | None, progress: Progress) -> Screened:
    """read, duplicate (of the source) and static. What fails here fails to build, with the same words."""
    from kernelevo.build.evidence import forbidden, source_key
    from kernelevo.build.read import read

    log = StageLog(progress)
    twin = None
    key = source_key(candidate.source)
    with log.stage("read") as stage:
        if errors := read(candidate):
            stage.fail(errors[0].text)
    if not log.failed():
        with log.stage("duplicate") as stage:
            if known is None:
                stage.skip("there is no archive to look in")
            elif twin := known(key):
                stage.outcome = StageOutcome.SHARED
                stage.text = f"{twin.candidate} has the same source but for comments and spaces"
    if not twin and not log.failed():
        with log.stage("static") as stage:
            if errors := forbidden(candidate.source):
                stage.fail(errors[0].text)
    return Screened(log=log, candidate=candidate, source_key=key, twin=twin)


def judge(
    task: Task,
    screened: Screened,
    built: Future[Build],
    device: Device,
    *,
    settings: Settings,
    cases: Sequence[Case] | None = None,
    known: Known | None = None,
    champion_ns: float | None = None,
) -> Evaluation:
    """Everything from the build on, for a source without a twin.

    built: the build, perhaps still under way.
    cases: of correctness; by default the TEST cases, then HIDDEN ones drawn from the randomness of the operating
        system, then the BENCH cases.
    champion_ns: the score to beat, infinite for the first; None: nobody is promoted.

    Raises TaskError when the task's own functions fail, WorkerError when our worker does.
    """
    log, candidate = screened.log, screened.candidate
    chosen = draw_cases(task) if cases is None else tuple(cases)
    if log.failed():
        build = built.result()  # the words of `read` or `forbidden`: it was not compiled
    else:
        with log.stage("build") as stage:
            build = wait_for(built, task, chosen)
            errors = [d.text for d in build.diagnostics if d.severity == "error"]
            if build.succeeded:
                stage.text = build_text(build)
            else:
                stage.fail(errors[0] if errors else "it did not compile")
    evaluation = Evaluation(
        candidate=candidate.id,
        task=task.name,
        device=device.name,
        build=build,
        verdict=None,
        timing=None,
        timing_reason=None,
        stages=log.all(),
        source_key=screened.source_key,
        kernel_key=kernel_key_of(candidate, build),
    )
    if not build.succeeded:
        return evaluation
    if known is not None and evaluation.kernel_key and (twin := known(evaluation.kernel_key)):
        with log.stage("duplicate") as stage:
            stage.outcome = StageOutcome.SHARED
            stage.text = f"{twin.candidate} compiles to the same kernels and launches them alike"
        return share(twin, candidate, source_key=screened.source_key, stages=log.all(), build=build)
    with log.stage("static") as stage:
        stage.text = "; ".join(evidence_of(build))
    verdict = prove(task, build, device, settings, chosen, log)
    timing, reason = (None, None)
    if verdict.outcome is Outcome.PASSED:
        with log.stage("measure") as stage:
            timing, reason = timed(task, build, device, settings)
            if reason is not None:
                stage.fail(reason)
    if timing is not None and champion_ns is not None and timing.score_ns < champion_ns:
        verdict, timing, reason = promote(task, build, device, settings, verdict, timing, champion_ns, log)
    behaviour = None if timing is None else behaviour_of(build, timing)
    return replace(
        evaluation,
        verdict=verdict,
        timing=timing,
        timing_reason=reason,
        stages=log.all(),
        behaviour=behaviour,
    )


def behaviour_of(build: Build, timing: Timing) -> Behaviour | None:
    """Where it stands on the grid; None where what limits it cannot be told."""
    from kernelevo.build.technique import technique
    from kernelevo.measure.limits import limited_by

    limit = limited_by(timing)
    if limit is None or build.ptx is None:
        return None
    return Behaviour(limited_by=limit, technique=technique(build.ptx.read_text()))


def share(
    twin: Evaluation, candidate: Candidate, *, source_key: str, stages: Sequence[Stage], build: Build | None = None
) -> Evaluation:
    """The evaluation of an equal candidate as that of this one."""
    return replace(
        twin,
        candidate=candidate.id,
        build=replace(build or twin.build, candidate=candidate.id),
        stages=tuple(stages),
        source_key=source_key,
        shared_from=twin.shared_from or twin.candidate,
    )


def draw_cases(task: Task) -> tuple[Case, ...]:
    """TEST cases, HIDDEN ones that nobody knew before, BENCH cases."""
    from kernelevo.tasks import hidden_cases

    tests, bench = (tuple(c for c in task.cases if c.purpose is p) for p in (Purpose.TEST, Purpose.BENCH))
    return tests + hidden_cases(task, secrets.randbits(62)) + bench


def wait_for(built: Future[Build], task: Task, cases: Sequence[Case]) -> Build:
    """The build; expected outputs are computed while the compilers run, the others when their turn comes."""
    from kernelevo.verify import oracle_of

    oracle = oracle_of(task)
    for case in cases:
        if built.done():
            break
        oracle.expected(case)
    return built.result()


def prove(
    task: Task, build: Build, device: Device, settings: Settings, cases: Sequence[Case], log: StageLog
) -> Verdict:
    """smoke, correctness and integrity: the verdict of the first that fails, otherwise that of the last."""
    from kernelevo.verify import smoke, verify

    timeout_seconds, memory_bytes = settings.timeout_seconds, settings.memory_bytes
    with log.stage("smoke") as stage:
        if not device.checks:
            stage.skip(f"device {device.name} has no checkers: `kernelevo emulator check` has them")
        else:
            checked = smoke(task, build, device, timeout_seconds=timeout_seconds, memory_bytes=memory_bytes)
            if checked.outcome in (Outcome.WRONG, Outcome.CRASHED):
                stage.fail(checked.reason or "")
                return checked
            if checked.reason is not None:  # too slow with checkers on, or not emulated
                stage.skip(f"undecided: {checked.reason}")
            else:
                stage.text = "; ".join(f.text for c in checked.cases for f in c.findings)
    number = 0

    def judged(case: CaseVerdict) -> None:
        nonlocal number
        number += 1
        log.progress("correctness", f"{number} of {len(cases)}: {case.case.name}: {case.outcome.value}")

    with log.stage("correctness") as stage:
        verdict = verify(
            task,
            build,
            device,
            cases=cases,
            entropy=secrets.randbits(62),
            timeout_seconds=timeout_seconds,
            memory_bytes=memory_bytes,
            progress=judged,
        )
        if verdict.failed_in == "correctness":
            stage.fail(verdict.reason or "")
            return verdict
    with log.stage("integrity") as stage:
        if verdict.failed_in == "integrity":
            stage.fail(verdict.reason or "")
    log.move(verdict.integrity_seconds or 0.0, "correctness", "integrity")
    return verdict


def timed(task: Task, build: Build, device: Device, settings: Settings) -> tuple[Timing | None, str | None]:
    """The times of the BENCH cases, or why there are none."""
    from kernelevo.measure import measure
    from kernelevo.verify import oracle_of
    from kernelevo.verify.timed import accepts_outputs

    oracle = oracle_of(task)
    result = measure(
        task,
        build,
        device,
        timeout_seconds=settings.timeout_seconds,
        memory_bytes=settings.memory_bytes,
        output_bytes=lambda case: sum(output.nbytes for output in oracle.expected(case).reference),
        accepts=accepts_outputs(task),
    )
    return (None, result) if isinstance(result, str) else (result, None)


def promote(
    task: Task,
    build: Build,
    device: Device,
    settings: Settings,
    verdict: Verdict,
    timing: Timing,
    champion_ns: float,
    log: StageLog,
) -> tuple[Verdict, Timing | None, str | None]:
    """The verdict with the new cases in it, and the second time, or why there is none."""
    from kernelevo.tasks import hidden_cases
    from kernelevo.verify import verify

    with log.stage("promotion") as stage:
        again = verify(
            task,
            build,
            device,
            cases=hidden_cases(task, secrets.randbits(62)),
            entropy=secrets.randbits(62),
            timeout_seconds=settings.timeout_seconds,
            memory_bytes=settings.memory_bytes,
        )
        both = replace(
            again,
            cases=verdict.cases + again.cases,
            seconds=verdict.seconds + again.seconds,
            integrity_seconds=(verdict.integrity_seconds or 0.0) + (again.integrity_seconds or 0.0),
            failed_in=again.failed_in and "promotion",
        )
        if again.outcome is not Outcome.PASSED:
            stage.fail(again.reason or "")
            return both, None, None
        second, reason = timed(task, build, device, settings)
        if second is None:
            stage.fail(reason or "")
        elif second.score_ns >= champion_ns:
            stage.fail(f"timed again it takes {second.score_ns:.4g} ns, the champion {champion_ns:.4g} ns")
        else:
            gain = champion_ns / second.score_ns
            stage.text = f"{gain:.3f} times as fast as the champion before" if gain < math.inf else "the first to pass"
        return both, second, reason


def build_text(build: Build) -> str:
    """Registers, shared memory and spills of each kernel."""
    parts = []
    for kernel in build.resources:
        spills = f", {kernel.spill_store_bytes + kernel.spill_load_bytes} bytes spilled" * bool(
            kernel.spill_store_bytes
        )
        parts.append(
            f"{kernel_name(kernel.kernel)}: {kernel.registers} registers, {kernel.shared_bytes} bytes shared{spills}"
        )
    return "; ".join(parts)


def kernel_key_of(candidate: Candidate, build: Build) -> str | None:
    from kernelevo.build.canonical import kernel_key

    return None if build.ptx is None else kernel_key(candidate.source, build.ptx.read_text())


def evidence_of(build: Build) -> tuple[str, ...]:
    from kernelevo.build.evidence import evidence

    return evidence(build)
