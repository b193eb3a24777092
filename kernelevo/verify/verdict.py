"""The verdict. Takes a build, a device and cases; gives whether every case is computed right, and honestly.

Runs in the trusted parent: the candidate only ever gets private copies of the inputs, in the device's worker, and
everything is decided here, on bytes. Per case, in this order; the first rule broken is the reason:

    returned            the call came back (else: crashed, timed out, unsupported)
    findings            the device noticed nothing that fails a candidate (FATAL below): an output that is an input, ...
    inputs unchanged    every byte of every input as it was                                    -> cheating
    outputs             as many as the reference has, of the exact shape, dtype and strides    -> wrong
    values              within the error rule (rule.py), unless the task brings `compare`      -> wrong
    presence            elements that still hold the poison were not written  -> wrong; cheating if nothing was launched
    repeat              again from other poison, in another order of warps and blocks: within the rule again -> wrong
    own kernel          by the task's policy: launched a kernel, called no compute operator    -> cheating, or a finding

Poison: fresh device memory first holds 0xFF bytes, which are NaN in every float format and -1 in every integer, so what
was not written cannot look like a small value. The repeat uses 0x7B, a finite 1.3e36 in float32, because fmaxf and
comparisons drop NaN. Its warps and blocks take their turns in another order, nearly reversed,
because a GPU promises none. One TEST case of each size is repeated, all HIDDEN cases are, and so is every case that
launches a kernel in blocks of several warps whose shape no repeat has seen before. Two results that both pass but
differ in bits are a finding, not a failure: the order of float atomics is free.

Not covered: what a candidate does only when it is timed; that is for measure and for promotion.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from kernelevo.devices import Device, Session
from kernelevo.errors import UsageError
from kernelevo.records import Build, Case, CaseVerdict, Outcome, Purpose, Task, Verdict
from kernelevo.verify.judgement import FATAL, FIRST_POISON, REPEAT_POISON, Imports, Judgement
from kernelevo.verify.library_calls import hidden_calls, library_calls
from kernelevo.verify.oracle import Expected, Oracle, one_thread, oracle_of
from kernelevo.verify.trials import further_trials

__all__ = ["FATAL", "verify"]

REPEAT_SCHEDULE = 0x5EED  # any value but 0; see devices.Session.call
WARP = 32
OUTPUT_CHARACTERS = 16 << 10  # kept of what the candidate printed over all cases


def verify(
    task: Task,
    build: Build,
    device: Device,
    *,
    cases: Sequence[Case],
    entropy: int,
    timeout_seconds: float = 10.0,
    memory_bytes: int = 2 << 30,
    stop_at_first: bool = True,
    progress: Callable[[CaseVerdict], None] | None = None,
    oracle: Oracle | None = None,
) -> Verdict:
    """Judges a successful build on the cases, in their order. End with the task's BENCH cases: only a kernel that is
    right at the sizes that are timed has a time worth knowing.

    entropy: chooses which case of each size is repeated, and the further calls; take it from the operating system.
    timeout_seconds: of each call. memory_bytes: of the worker. progress: told each case's verdict as it is known.
    oracle: where expected outputs are kept; by default one per task in this process.

    Raises UsageError when there is nothing to judge, TaskError when the reference fails on a case, WorkerError when our
    worker does.
    """
    started = time.monotonic()
    if not cases:
        raise UsageError(f"there is no case to verify {task.name} on", next_step="give cases of the task")
    if build.artifact is None:
        raise UsageError(f"candidate {build.candidate} has no artifact to verify", next_step="build it first")
    expectations = oracle or oracle_of(task)
    rng = random.Random(entropy)
    repeated = _repeated(cases, rng)
    imports = Imports(operators=(), hidden=())
    if task.library_calls != "allow":
        imports = Imports(operators=library_calls(build.artifact), hidden=hidden_calls(build.artifact))
    scheduled: set[Shape] = set()
    verdicts: list[CaseVerdict] = []
    printed = ""
    failed_trial = False
    integrity_seconds: float | None = None
    opened = device.open(build, entry=task.entry, timeout_seconds=timeout_seconds, memory_bytes=memory_bytes)
    with opened as session, one_thread():
        small = [case for case in cases if case.purpose is not Purpose.BENCH]
        for number, case in enumerate(cases):
            expected = expectations.expected(case)
            verdict, output = _judge(task, case, expected, session, case.name in repeated, scheduled, imports)
            printed = (printed + output)[-OUTPUT_CHARACTERS:]
            verdicts.append(verdict)
            if progress is not None:
                progress(verdict)
            if stop_at_first and verdict.outcome is not Outcome.PASSED:
                break
            # Before the large cases, which take longer than all of this.
            last_small = case.purpose is not Purpose.BENCH and number + 1 == len(small)
            if last_small and all(v.outcome is Outcome.PASSED for v in verdicts):
                begun = time.monotonic()
                for trial in further_trials(task, small, session, expectations, imports, rng):
                    place = next(i for i, v in enumerate(verdicts) if v.case is trial.case)
                    verdicts[place] = _with_trial(verdicts[place], trial)
                    if trial.outcome is not Outcome.PASSED:
                        if progress is not None:
                            progress(trial)
                        break
                integrity_seconds = time.monotonic() - begun
                failed_trial = any(v.outcome is not Outcome.PASSED for v in verdicts)
                if failed_trial:
                    break
    failed = next((verdict for verdict in verdicts if verdict.outcome is not Outcome.PASSED), None)
    dishonest = failed_trial or (failed is not None and failed.outcome is Outcome.CHEATING)
    return Verdict(
        outcome=failed.outcome if failed else Outcome.PASSED,
        reason=f"{failed.reason} (case {failed.case.name})" if failed else None,
        cases=tuple(verdicts),
        output=printed,
        seconds=time.monotonic() - started,
        integrity_seconds=integrity_seconds,
        failed_in=None if failed is None else "integrity" if dishonest else "correctness",
    )


Shape = tuple[str, tuple[int, int, int]]  # kernel and threads of its blocks


def _judge(
    task: Task,
    case: Case,
    expected: Expected,
    session: Session,
    repeat: bool,
    scheduled: set[Shape],
    imports: Imports,
) -> tuple[CaseVerdict, str]:
    """The verdict on one case, and what the candidate printed.

    repeat: whatever it launches. scheduled: what repeats have launched so far with several warps; grows here.
    """
    judgement = Judgement(task, case, expected)
    first = session.call(expected.inputs, poison=FIRST_POISON)
    again = None
    if judgement.returned_right(first):
        shapes = {(x.kernel, x.block) for x in first.launches if x.block[0] * x.block[1] * x.block[2] > WARP}
        if repeat or not shapes <= scheduled:
            scheduled |= shapes
            again = session.call(expected.inputs, poison=REPEAT_POISON, schedule=REPEAT_SCHEDULE)
            judgement.repeats(first, again)
        judgement.own_kernel(first, imports)
    elif judgement.poisoned:
        again = session.call(expected.inputs, poison=REPEAT_POISON)
        judgement.unwritten(again)
    calls = [call for call in (first, again) if call is not None]
    return judgement.verdict(sum(call.seconds for call in calls)), "".join(call.output for call in calls)


def _with_trial(verdict: CaseVerdict, trial: CaseVerdict) -> CaseVerdict:
    """The verdict on a case after a further call on it."""
    if trial.outcome is not Outcome.PASSED:
        return trial
    new = tuple(finding for finding in trial.findings if finding not in verdict.findings)
    return replace(verdict, findings=verdict.findings + new) if new else verdict


def _repeated(cases: Sequence[Case], rng: random.Random) -> set[str]:
    """Names of the cases to run twice: every HIDDEN one, and one of each size of the TEST cases."""
    sizes: dict[tuple[tuple[str, int], ...], list[str]] = {}
    for case in cases:
        if case.purpose is Purpose.TEST:
            sizes.setdefault(tuple(case.sizes.items()), []).append(case.name)
    hidden = {case.name for case in cases if case.purpose is Purpose.HIDDEN}
    return hidden | {rng.choice(names) for names in sizes.values()}
