"""The smoke test: the smallest cases with every checker on. Takes a build and a device that can check; gives a Verdict.

A kernel that reads beside an array, leaves a barrier out or uses what nothing wrote may still compute the right values
today. The checkers see what it does, not what comes out, and say where: so this stage also explains best to whoever has
to mend the kernel. Values are not compared here; that is for verdict.py.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

from kernelevo.devices import Device
from kernelevo.records import Build, Case, CaseVerdict, Finding, Outcome, Purpose, Task, Verdict
from kernelevo.verify.oracle import Oracle, oracle_of

CASES = 3

# Findings of the checkers that fail a candidate: each is undefined behaviour, or a launch that never ran.
CHECKED = (
    *("out of bounds", "use after free", "misaligned", "null pointer", "write to const"),
    "uninitialised read",
    "race",
    *("divergent barrier", "exited before barrier", "wrong mask", "inactive lane"),
    "bad launch",
)


def smoke(
    task: Task,
    build: Build,
    device: Device,
    *,
    timeout_seconds: float,
    memory_bytes: int,
    oracle: Oracle | None = None,
) -> Verdict:
    """Runs the smallest TEST cases checked, up to the first that fails, or that cannot be run in this way: whether that
    is the candidate's fault shows when it runs unchecked.

    Raises TaskError when the reference fails on a case, WorkerError when our worker does.
    """
    started = time.monotonic()
    expectations = oracle or oracle_of(task)
    verdicts: list[CaseVerdict] = []
    printed = ""
    with device.open(build, entry=task.entry, timeout_seconds=timeout_seconds, memory_bytes=memory_bytes) as session:
        for case in smallest(task)[:CASES]:
            call = session.call(expectations.expected(case).inputs, checked=True)
            printed += call.output
            found = next((finding for finding in call.findings if finding.kind in CHECKED), None)
            outcome, reason = call.outcome, call.reason
            if found is not None:
                outcome = Outcome.CRASHED if outcome is Outcome.CRASHED else Outcome.WRONG
                reason = in_words(found)
            verdicts.append(
                CaseVerdict(
                    case=case,
                    outcome=outcome,
                    error=None,
                    error_l2=None,
                    allowed=None,
                    worst=None,
                    reason=reason,
                    findings=call.findings,
                    seconds=call.seconds,
                )
            )
            if outcome is not Outcome.PASSED:
                break
    last = verdicts[-1]
    return Verdict(
        outcome=last.outcome,
        reason=None if last.outcome is Outcome.PASSED else f"{last.reason} (case {last.case.name})",
        cases=tuple(verdicts),
        output=printed,
        seconds=time.monotonic() - started,
        failed_in=None if last.outcome is Outcome.PASSED else "smoke",
    )


def smallest(task: Task) -> Sequence[Case]:
    """One TEST case of each size and dtype, by the product of the sizes; of all cases where none is for tests."""
    chosen: dict[tuple[object, ...], Case] = {}
    tests = [case for case in task.cases if case.purpose is Purpose.TEST]
    for case in sorted(tests or task.cases, key=lambda case: math.prod(case.sizes.values())):
        chosen.setdefault((*case.sizes.items(), case.dtype), case)
    return list(chosen.values())


def in_words(finding: Finding) -> str:
    """Kind, place and text of a finding, each once."""
    place = f" at line {finding.line}" if finding.line and f"line {finding.line}" not in finding.text else ""
    return f"{finding.kind}{place}: {finding.text}"
