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

import torch

from kernelevo.devices import Call, Device, Session
from kernelevo.errors import TaskError, UsageError
from kernelevo.records import Build, Case, CaseVerdict, Finding, Outcome, Purpose, Task, Verdict
from kernelevo.verify.library_calls import library_calls
from kernelevo.verify.oracle import Expected, Oracle, one_thread, oracle_of
from kernelevo.verify.rule import Comparison, compare

FIRST_POISON = 0xFF
REPEAT_POISON = 0x7B
REPEAT_SCHEDULE = 0x5EED  # any value but 0; see devices.Session.call
WARP = 32
OUTPUT_CHARACTERS = 16 << 10  # kept of what the candidate printed over all cases

# Findings of a device that fail a candidate, whatever its values. Other findings are told, not judged.
FATAL = {
    "aliases input": Outcome.CHEATING,
    "reuses output": Outcome.CHEATING,
    "earlier output changed": Outcome.CHEATING,
    "global state changed": Outcome.CHEATING,
    "outputs share memory": Outcome.WRONG,
    "overlapping output": Outcome.WRONG,
    "wrong device": Outcome.WRONG,
    "not a tensor": Outcome.WRONG,
    "requires grad": Outcome.WRONG,
    "out of bounds": Outcome.WRONG,  # it wrote beside a tensor
    "bad launch": Outcome.WRONG,  # the device refused a launch, and the candidate did not look
    "unjoined stream": Outcome.WRONG,  # the output may be used before it is finished
}


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

    entropy: chooses which case of each size is repeated; take it from the operating system.
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
    repeated = _repeated(cases, random.Random(entropy))
    operators = library_calls(build.artifact) if task.library_calls != "allow" else ()
    scheduled: set[Shape] = set()
    verdicts: list[CaseVerdict] = []
    printed = ""
    opened = device.open(build, entry=task.entry, timeout_seconds=timeout_seconds, memory_bytes=memory_bytes)
    with opened as session, one_thread():
        for case in cases:
            expected = expectations.expected(case)
            verdict, output = _judge(task, case, expected, session, case.name in repeated, scheduled, operators)
            printed = (printed + output)[-OUTPUT_CHARACTERS:]
            verdicts.append(verdict)
            if progress is not None:
                progress(verdict)
            if stop_at_first and verdict.outcome is not Outcome.PASSED:
                break
    failed = next((verdict for verdict in verdicts if verdict.outcome is not Outcome.PASSED), None)
    return Verdict(
        outcome=failed.outcome if failed else Outcome.PASSED,
        reason=f"{failed.reason} (case {failed.case.name})" if failed else None,
        cases=tuple(verdicts),
        output=printed,
        seconds=time.monotonic() - started,
    )


Shape = tuple[str, tuple[int, int, int]]  # kernel and threads of its blocks


def _judge(
    task: Task,
    case: Case,
    expected: Expected,
    session: Session,
    repeat: bool,
    scheduled: set[Shape],
    operators: tuple[str, ...],
) -> tuple[CaseVerdict, str]:
    """The verdict on one case, and what the candidate printed.

    repeat: whatever it launches. scheduled: what repeats have launched so far with several warps; grows here.
    """
    judgement = _Judgement(task, case, expected)
    first = session.call(expected.inputs, poison=FIRST_POISON)
    again = None
    if judgement.returned_right(first):
        shapes = {(x.kernel, x.block) for x in first.launches if x.block[0] * x.block[1] * x.block[2] > WARP}
        if repeat or not shapes <= scheduled:
            scheduled |= shapes
            again = session.call(expected.inputs, poison=REPEAT_POISON, schedule=REPEAT_SCHEDULE)
            judgement.repeats(first, again)
        judgement.own_kernel(first, operators)
    elif judgement.poisoned:
        again = session.call(expected.inputs, poison=REPEAT_POISON)
        judgement.unwritten(again)
    calls = [call for call in (first, again) if call is not None]
    return judgement.verdict(sum(call.seconds for call in calls)), "".join(call.output for call in calls)


class _Judgement:
    """What is known so far about one case. The first failure stands."""

    def __init__(self, task: Task, case: Case, expected: Expected) -> None:
        self.task = task
        self.case = case
        self.expected = expected
        self.outcome = Outcome.PASSED
        self.reason: str | None = None
        self.findings: list[Finding] = []
        self.worst: tuple[int, Comparison] | None = None  # output number and its comparison
        self.poisoned: tuple[int, torch.Tensor] | None = None  # output number and the elements that still look poisoned

    def fail(self, outcome: Outcome, reason: str) -> bool:
        self.outcome, self.reason = outcome, reason
        return False

    def returned_right(self, call: Call) -> bool:
        """Everything but repeat and own kernel."""
        for finding in call.findings:
            if finding not in self.findings:
                self.findings.append(finding)
        if call.outcome is not Outcome.PASSED:
            return self.fail(call.outcome, call.reason or call.outcome.value)
        for finding in call.findings:
            if finding.kind == "not a tensor" and self._returns_nothing(finding):
                continue
            if finding.kind in FATAL:
                return self.fail(FATAL[finding.kind], f"{finding.kind}: {finding.text}")
        return self._inputs_unchanged(call) and self._shapes(call) and self._values(call)

    def unwritten(self, again: Call) -> None:
        """After wrong values where the poison shows: was it not written, or computed as NaN?"""
        assert self.poisoned is not None
        number, mask = self.poisoned
        if again.outcome is not Outcome.PASSED or number >= len(again.outputs):
            return
        output = again.outputs[number]
        if output.shape != mask.shape:
            return
        mask = mask & _holds(output, REPEAT_POISON)
        if bool(mask.all()):
            outcome = Outcome.WRONG if again.launches else Outcome.CHEATING
            self.fail(outcome, f"output {number} not written: it holds what its memory held before")
        elif bool(mask.any()):
            places = mask.nonzero()
            text = f"output {number} not written at {places[0].tolist()}, {len(places)} of {mask.numel()} elements"
            self.fail(Outcome.WRONG, text)

    def repeats(self, first: Call, again: Call) -> None:
        """The call again from other poison. Equal bits, or within the rule both times."""
        poison = f"on a second call, with memory of 0x{REPEAT_POISON:02X} bytes and warps in another order"
        if not self.returned_right(again):
            if self.outcome in (Outcome.WRONG, Outcome.CRASHED):
                why = "it depends on uninitialised memory, or on the order of its threads"
                self.reason = f"{self.reason}; {poison}: {why}"
            return
        for number, (one, two) in enumerate(zip(self._results(first), self._results(again), strict=True)):
            if not _same_bytes(one, two):
                differs = ~_equal_bits(one, two)
                place = differs.nonzero()[0].tolist()
                text = f"output {number} {place} differs in its last bits {poison}"
                self.findings.append(Finding(kind="not repeatable", text=text))

    def own_kernel(self, call: Call, operators: tuple[str, ...]) -> None:
        """The task's policy on library compute calls."""
        if self.outcome is not Outcome.PASSED or self.task.library_calls == "allow":
            return
        texts = []
        if operators:
            texts.append(f"calls compute operators of PyTorch: {', '.join(f'at::{name}' for name in operators[:8])}")
        if not call.launches:
            texts.append("launched no kernel of its own")
        self.findings += [Finding(kind="library call", text=text) for text in texts]
        if texts and self.task.library_calls == "forbid":
            whole = " and ".join(texts)
            self.fail(Outcome.CHEATING, f"library call: {whole}; the task asks for the candidate's own kernels")

    def verdict(self, seconds: float) -> CaseVerdict:
        number, comparison = self.worst or (0, None)
        finite = comparison is not None and comparison.error != float("inf")
        allowed = self.expected.allowed[number].error if comparison is not None else None
        return CaseVerdict(
            case=self.case,
            outcome=self.outcome,
            error=comparison.error if comparison is not None and finite else None,
            error_l2=comparison.error_l2 if comparison is not None and finite else None,
            allowed=allowed,
            worst=f"output {number} {comparison.worst}" if comparison is not None and comparison.worst else None,
            reason=self.reason,
            findings=tuple(self.findings),
            seconds=seconds,
        )

    def _returns_nothing(self, finding: Finding) -> bool:
        """Whether the operation only writes in place, and the candidate returned None, as it should."""
        return len(self.expected.mutated) == len(self.expected.reference) and finding.text == "output 0 is None"

    def _results(self, call: Call) -> tuple[torch.Tensor, ...]:
        """Outputs, then the inputs that the operation writes in place."""
        written = [call.inputs_after[number] for number in self.expected.mutated]
        return (*call.outputs, *(value for value in written if value is not None))

    def _inputs_unchanged(self, call: Call) -> bool:
        for number, (before, after) in enumerate(zip(self.expected.inputs, call.inputs_after, strict=True)):
            if not isinstance(before, torch.Tensor) or number in self.expected.mutated:
                continue
            if after is None or after.shape != before.shape or after.dtype != before.dtype:
                return self.fail(Outcome.CHEATING, f"input {number} changed: it came back as something else")
            if not _same_bytes(before, after):
                changed = ~_equal_bits(before, after)
                place = tuple(changed.nonzero()[0].tolist())
                text = f"input {number} changed at {list(place)}: was {before[place].item():.9g}, is now "
                return self.fail(Outcome.CHEATING, f"{text}{after[place].item():.9g}")
        return True

    def _shapes(self, call: Call) -> bool:
        reference = self.expected.reference
        wanted = len(reference) - len(self.expected.mutated)
        if len(call.outputs) != wanted:
            text = f"wrong number of outputs: expected {wanted}, got {len(call.outputs)}"
            return self.fail(Outcome.WRONG, text)
        for number, (output, model) in enumerate(zip(self._results(call), reference, strict=True)):
            if output.shape != model.shape:
                text = f"wrong shape: output {number} is {list(output.shape)}, expected {list(model.shape)}"
            elif output.dtype != model.dtype:
                text = f"wrong dtype: output {number} is {_name(output.dtype)}, expected {_name(model.dtype)}"
            elif _strides(output) != _strides(model):
                text = f"wrong strides: output {number} has {list(output.stride())}, expected {list(model.stride())}"
            else:
                continue
            return self.fail(Outcome.WRONG, text)
        return True

    def _values(self, call: Call) -> bool:
        expected = self.expected
        if self.task.compare is not None:
            try:
                objection = self.task.compare(self._results(call), expected.oracle)
            except Exception as error:
                raise TaskError(f"task {self.task.name}: compare failed on {self.case.name!r}: {error}") from error
            return objection is None or self.fail(Outcome.WRONG, f"wrong value: {objection}")
        rows = zip(self._results(call), expected.oracle, expected.reference, expected.allowed, strict=True)
        for number, (output, oracle, reference, allowed) in enumerate(rows):
            comparison = compare(output, oracle, reference, allowed)
            if self.worst is None or not comparison.accepted or comparison.error > self.worst[1].error:
                self.worst = (number, comparison)
            if not comparison.accepted:
                poisoned = _holds(output, FIRST_POISON)
                if comparison.wrong is not None and bool((poisoned & comparison.wrong).any()):
                    self.poisoned = (number, poisoned & comparison.wrong)
                return self.fail(Outcome.WRONG, f"wrong value: output {number} {comparison.reason}")
        return True


def _repeated(cases: Sequence[Case], rng: random.Random) -> set[str]:
    """Names of the cases to run twice: every HIDDEN one, and one of each size of the TEST cases."""
    sizes: dict[tuple[tuple[str, int], ...], list[str]] = {}
    for case in cases:
        if case.purpose is Purpose.TEST:
            sizes.setdefault(tuple(case.sizes.items()), []).append(case.name)
    hidden = {case.name for case in cases if case.purpose is Purpose.HIDDEN}
    return hidden | {rng.choice(names) for names in sizes.values()}


def _bits(values: torch.Tensor) -> torch.Tensor:
    """[..., bytes of one element] as uint8."""
    return values.contiguous().unsqueeze(-1).view(torch.uint8)


def _same_bytes(one: torch.Tensor, two: torch.Tensor) -> bool:
    return torch.equal(one.contiguous().view(-1).view(torch.uint8), two.contiguous().view(-1).view(torch.uint8))


def _equal_bits(one: torch.Tensor, two: torch.Tensor) -> torch.Tensor:
    return (_bits(one) == _bits(two)).all(dim=-1)


def _holds(values: torch.Tensor, poison: int) -> torch.Tensor:
    """Which elements are made of the poison byte."""
    return (_bits(values) == poison).all(dim=-1)


def _strides(values: torch.Tensor) -> list[int]:
    """Strides where they mean something: of dimensions longer than one, of tensors that hold elements."""
    if not values.numel():
        return []
    return [stride for stride, size in zip(values.stride(), values.shape, strict=True) if size > 1]


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
