"""An evaluation in, everything that is known of it out: in plain values, in words, and what these usually mean.

    report_of(evaluation, candidate) -> Report
    explain(report)                  -> what its status and its findings usually mean, and what mends them

Not covered: the cases that passed. An evaluation has them all.
"""

from __future__ import annotations

from dataclasses import dataclass

from kernelevo.prompt.words import facts_about
from kernelevo.records import Candidate, Diagnostic, Evaluation, Finding, KernelResources, Outcome, Stage, Timing


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseTime:
    """The time of one timed case."""

    case: str
    median_ns: float
    low_ns: float
    high_ns: float
    bottleneck: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """An evaluation in plain values, for who has to act on it."""

    candidate: str  # candidate id
    task: str
    device: str
    status: str  # "passed", "build failed", "wrong", "crashed", "timed out", "unsupported" or "cheating"
    reason: str  # why it did not pass, or has no time; "" when it has one
    feedback: tuple[str, ...]  # everything that is known, in words, most useful first
    stages: tuple[Stage, ...]
    diagnostics: tuple[Diagnostic, ...]  # of compilers
    findings: tuple[Finding, ...]  # of checkers
    cases: tuple[CaseTime, ...]
    score_ns: float | None  # geometric mean of the cases' medians
    kind: str | None  # of these times: "predicted" or "measured"
    target: str | None  # GPU that the times are of
    method: str | None
    resources: tuple[KernelResources, ...]  # per kernel, as ptxas says
    shared_from: str | None  # id of an equal candidate whose evaluation this is


def report_of(evaluation: Evaluation, candidate: Candidate) -> Report:
    """What an evaluation says, in plain values."""
    verdict, timing = evaluation.verdict, evaluation.timing
    return Report(
        candidate=evaluation.candidate,
        task=evaluation.task,
        device=evaluation.device,
        status=evaluation.status,
        reason="" if timing is not None else evaluation.feedback,
        feedback=facts_about(evaluation, candidate),
        stages=evaluation.stages,
        diagnostics=evaluation.build.diagnostics,
        findings=tuple(dict.fromkeys(f for case in verdict.cases for f in case.findings)) if verdict else (),
        cases=case_times(timing),
        score_ns=timing.score_ns if timing else None,
        kind=timing.kind.value if timing else None,
        target=timing.target if timing else None,
        method=timing.method if timing else None,
        resources=evaluation.build.resources,
        shared_from=evaluation.shared_from,
    )


def case_times(timing: Timing | None) -> tuple[CaseTime, ...]:
    """Without raw samples and counters."""
    return tuple(
        CaseTime(
            case=timed.case.name,
            median_ns=timed.median_ns,
            low_ns=timed.low_ns,
            high_ns=timed.high_ns,
            bottleneck=timed.bottleneck,
        )
        for timed in (timing.cases if timing else ())
    )


def explain(report: Report) -> tuple[str, ...]:
    """What a status and findings usually mean, and what mends them. () for what passed without a finding."""
    kinds = dict.fromkeys(finding.kind for finding in report.findings)
    told = [FINDINGS[kind] for kind in kinds if kind in FINDINGS]
    return tuple(([STATUSES[report.status]] if report.status in STATUSES else []) + told)


STATUSES = {
    "build failed": "The compiler, or the reading before it, refused the source. The first error counts; those after it"
    " are often its consequences. Lines are of your own file.",
    Outcome.WRONG.value: "It ran, and a result differs. Wrong at the end only: a tail or a bound. Wrong beyond a power"
    " of two: a loop that runs once too few. Wrong everywhere: the formula, an index or a missing step of a reduction."
    " Wrong on a second call: memory that nothing initialised, or an order of threads that nothing guarantees.",
    Outcome.CRASHED.value: "An address, a launch or a TORCH_CHECK. The finding has the line and the thread. Think of"
    " sizes of 1, and of sizes that are no multiple of the block or of the vector width.",
    Outcome.TIMED_OUT.value: "A loop that does not end, a barrier that some threads never reach, or work that is"
    " quadratic where it should be linear.",
    Outcome.UNSUPPORTED.value: "The emulator lacks an instruction: a limit of ours, not a mistake of the kernel. Do the"
    " same by other instructions, or use --device cuda.",
    Outcome.CHEATING.value: "A rule of honesty was broken. Every call computes all outputs from its arguments with the"
    " candidate's own kernels, changes no input, and keeps nothing between calls.",
}
FINDINGS = {
    "out of bounds": "An index passes the end of its memory: guard the last block, and the last vector of a row.",
    "misaligned": "A vector access at an address that is no multiple of its size. A row starts aligned only where its"
    " length allows it: test pointer and length at run time, and keep a scalar path.",
    "uninitialised read": "Memory is read that nothing wrote: shared memory of idle threads, or torch::empty that is"
    " added to. Write the neutral element first.",
    "race": "Two threads touch one place, one of them writes, and nothing orders them. Usually __syncthreads is"
    " missing between writing and reading shared memory, or before it is used again.",
    "bad barrier": "Not all threads that a barrier waits for reach it: no return, break or condition before it.",
    "divergent barrier": "Threads of a block wait at different barriers: move __syncthreads out of the condition.",
    "wrong mask": "A lane takes part that its mask does not name, or is named and never comes: take the mask by a vote"
    " (__ballot_sync) before lanes part, or let all 32 take part.",
    "inactive lane": "A shuffle reads from a lane that does not take part: its value is undefined.",
    "null pointer": "A pointer was never set, or a tensor is empty.",
    "use after free": "A temporary tensor ended before the kernel that uses it: keep it in a variable.",
    "write to const": "An input or a constant is written to. Inputs stay as they are.",
    "bad launch": "The device refused the launch: more than 1024 threads, a grid of 0 blocks, or more shared memory"
    " than allowed (above 48 KiB, cudaFuncSetAttribute comes first).",
    "unjoined stream": "Work on another stream than at::cuda::getCurrentCUDAStream().",
    "not repeatable": "Right both times, but not equal in bits: float atomics, another order of summation. No failure.",
    "not checked": "A check could not be made. Nothing is known against the kernel.",
    "aliases input": "The output is an input or a view of it. Return a new tensor.",
    "outputs share memory": "Two outputs are views of one memory. Give each its own.",
}
