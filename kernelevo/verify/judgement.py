"""What is known about one case while it is judged. Takes calls, gives a CaseVerdict; runs nothing.

The rules and their order are those of verdict.py. The first failure stands.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from kernelevo.devices import Call
from kernelevo.errors import TaskError
from kernelevo.records import Case, CaseVerdict, Finding, Outcome, Task
from kernelevo.verify.library_calls import compute_operators
from kernelevo.verify.oracle import Expected
from kernelevo.verify.rule import Comparison, compare

FIRST_POISON = 0xFF
REPEAT_POISON = 0x7B
HOST_BYTES = 4096  # that a candidate may move between host and device in either direction, for sizes and flags

# Findings of a device that fail a candidate, whatever its values. Other findings are told, not judged.
FATAL = {
    "aliases input": Outcome.CHEATING,
    "reuses output": Outcome.CHEATING,
    "earlier output changed": Outcome.CHEATING,
    "late output": Outcome.CHEATING,
    "global state changed": Outcome.CHEATING,
    "reads the judge": Outcome.CHEATING,
    "processes left running": Outcome.CHEATING,
    "outputs share memory": Outcome.WRONG,
    "overlapping output": Outcome.WRONG,
    "wrong device": Outcome.WRONG,
    "not a tensor": Outcome.WRONG,
    "requires grad": Outcome.WRONG,
    "out of bounds": Outcome.WRONG,  # it wrote beside a tensor
    "bad launch": Outcome.WRONG,  # the device refused a launch, and the candidate did not look
    "unjoined stream": Outcome.WRONG,  # the output may be used before it is finished
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Imports:
    """What an artifact imports from PyTorch; see library_calls.py."""

    operators: tuple[str, ...]  # that compute
    hidden: tuple[str, ...]  # ways to call some unseen


class Judgement:
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

    def own_kernel(self, call: Call, imports: Imports) -> None:
        """The task's policy on who computes: the candidate's own kernels, or somebody else."""
        if self.outcome is not Outcome.PASSED or self.task.library_calls == "allow":
            return
        found = []
        ran = compute_operators(call.operators or ())
        if imports.operators:
            found.append(("library call", f"calls compute operators of PyTorch: {', '.join(imports.operators[:8])}"))
        elif ran:
            found.append(("library call", f"ran compute operators of PyTorch: {', '.join(ran[:8])}"))
        if imports.hidden:
            text = f"reaches operators of PyTorch in ways that hide them: {', '.join(imports.hidden)}"
            found.append(("library call", text))
        if self._on_host(call):
            moved = f"{call.copied_out_bytes} bytes from the device and {call.copied_in_bytes} bytes to it"
            found.append(("host computation", f"copied {moved}, as much as inputs and outputs have"))
        if not call.launches:
            found.append(("library call", "launched no kernel of its own"))
        self._held_against([Finding(kind=kind, text=text) for kind, text in found])
        if call.operators is None:
            text = "which operators it ran is not known: kernelevo.devices._operators was not built"
            self.findings.append(Finding(kind="not checked", text=text))

    def stubbed(self, call: Call) -> None:
        """After a call in which its kernels did not run: outputs that are right all the same are not their work."""
        if call.outcome is not Outcome.PASSED or self.task.library_calls == "allow":
            return
        right = [number for number in range(len(self.expected.reference)) if self._is_right(call, number)]
        if right:
            text = f"output {', '.join(map(str, right))} is right also when none of its kernels runs"
            self._held_against([Finding(kind="kernels for show", text=text)])

    def matches(self, call: Call) -> bool:
        """Whether the outputs of a call are those expected here; notes nothing in another judgement."""
        return call.outcome is Outcome.PASSED and self._shapes(call) and self._values(call)

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

    def _held_against(self, findings: list[Finding]) -> None:
        self.findings += findings
        if findings and self.task.library_calls == "forbid":
            whole = " and ".join(finding.text for finding in findings)
            text = f"{findings[0].kind}: {whole}; the task asks for the candidate's own kernels"
            self.fail(Outcome.CHEATING, text)

    def _on_host(self, call: Call) -> bool:
        """Whether a call moved an input to the host and an output back; numbers and flags are no inputs."""
        if call.copied_out_bytes is None or call.copied_in_bytes is None:
            return False
        inputs = [value.nbytes for value in self.expected.inputs if isinstance(value, torch.Tensor)]
        outputs = sum(output.nbytes for output in self.expected.reference)
        largest = max(inputs, default=0)
        return call.copied_out_bytes >= max(largest, HOST_BYTES) and call.copied_in_bytes >= outputs

    def _is_right(self, call: Call, number: int) -> bool:
        """Whether one output of a call is right; with the task's own comparison, whether all are."""
        if self.task.compare is not None:
            return Judgement(self.task, self.case, self.expected).matches(call)
        results, expected = self._results(call), self.expected
        if number >= len(results) or results[number].shape != expected.reference[number].shape:
            return False
        if results[number].dtype != expected.reference[number].dtype:
            return False
        oracle, reference, allowed = expected.oracle[number], expected.reference[number], expected.allowed[number]
        return compare(results[number], oracle, reference, allowed).accepted

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
