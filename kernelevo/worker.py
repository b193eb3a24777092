"""The worker: the only process that ever loads candidate code.

    python -m kernelevo.worker BACKEND CONTROL_FD SETTINGS     the fork server, started by devices/session.py

BACKEND names the worker's half of a device, "module:Class", and SETTINGS its keyword arguments as JSON. A worker
takes CallRequest frames on its channel and answers each with one CallReply: what the entry point returned, what its
inputs are afterwards, and what was noticed. It knows no expected output and decides nothing; the parent believes
only the bytes. How it is confined is devices/confinement.py; what happens when it dies is the parent's to see.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import re
import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast

from kernelevo.devices import forkserver
from kernelevo.devices.arguments import arranged
from kernelevo.devices.confinement import Needs
from kernelevo.devices.integrity import KEPT_BYTES, LateChanges, LiveOutputs, Watch, observe_operators, share_memory
from kernelevo.devices.wire import (
    MAX_FINDINGS,
    MAX_LAUNCHES,
    MAX_TEXT,
    CallReply,
    CallRequest,
    FindingMessage,
    FrameError,
    FrameReader,
    Hello,
    LaunchMessage,
    Load,
    TensorHeader,
    TimingRequest,
    frame,
    header_of,
    tensors_from,
)
from kernelevo.mangled import demangled

if TYPE_CHECKING:
    import torch

CallOutcome = Literal["passed", "crashed", "timed out", "unsupported"]


@dataclass(slots=True)
class Effects:
    """What the device saw of one call."""

    outcome: CallOutcome = "passed"  # "passed": nothing against it
    reason: str | None = None
    findings: list[FindingMessage] = field(default_factory=list)
    launches: list[LaunchMessage] = field(default_factory=list)
    copied_in_bytes: int | None = None  # by the candidate, from host to device; None: not known
    copied_out_bytes: int | None = None


class Backend(Protocol):
    """The worker's half of a device. `warm` runs in the fork server, the rest in a worker."""

    device_type: str  # of the tensors that a candidate is given and must return: "cuda"

    def warm(self) -> None:
        """Loads what every worker needs. Leaves no threads, and nothing that a fork would break."""

    def load(self, load: Load) -> ModuleType:
        """Imports the candidate's extension; may raise ImportError, or RefusedError."""

    def begin(
        self,
        *,
        poison: int,
        schedule: int,
        sample_blocks: int | None,
        checked: bool,
        stubbed: bool,
        timeout_seconds: float,
    ) -> None:
        """Before each call and its inputs: fills fresh memory with `poison`, forgets earlier launches.

        The arguments are those of devices.Session.call.
        """

    def empty_strided(self, shape: Sequence[int], strides: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
        """Fresh device memory."""

    def end(self, error: BaseException | None) -> Effects:
        """After each call: what the device saw of it. Joins no stream that the candidate left unjoined.

        error: what the entry point raised, or None.
        """


class TimingBackend(Backend, Protocol):
    """The worker's half of a device that measures."""

    def time(self, entry: Callable[..., Any], request: TimingRequest, values: Sequence[Any], *, stubbed: bool) -> Timed:
        """One step of a measurement, between `begin` and `end`.

        values: of a "prepare", dense CPU tensors with the strides of the request applied, and scalars.
        """


@dataclass(slots=True)
class Timed:
    """What one step of a measurement gives."""

    samples_ns: tuple[float, ...] = ()
    facts: dict[str, float] = field(default_factory=dict)
    outputs: Any = None  # of the checked call, as the entry point returned them


class RefusedError(Exception):
    """The backend cannot run this build; the message says why."""

    def __init__(self, outcome: CallOutcome, reason: str) -> None:
        super().__init__(reason)
        self.outcome: CallOutcome = outcome
        self.reason = reason


def main(arguments: Sequence[str]) -> None:
    """The fork server; returns when the parent has gone."""
    gc.disable()  # nothing that is imported will be garbage, and looking for it takes a tenth of a second
    name, descriptor, settings = arguments
    module, _, class_name = name.partition(":")
    backend: Backend = getattr(importlib.import_module(module), class_name)(**json.loads(settings))

    def warm() -> None:
        import torch

        observe_operators()
        torch.zeros(2, 2).add_(1).contiguous().view(torch.uint8).numpy()  # what the first call would load lazily
        backend.warm()

    control = socket.socket(fileno=int(descriptor))
    control.set_inheritable(False)
    needs = getattr(backend, "needs", Needs())  # paths, devices and system calls beyond what every worker has
    forkserver.serve(control, warm=warm, work=lambda channel, load: work(channel, load, backend), needs=needs)


def work(channel: socket.socket, load: Load, backend: Backend) -> None:
    """Answers calls until the parent closes the channel."""
    channel.setblocking(True)
    _send(channel, frame(Hello()))
    candidate = _Candidate(load, backend)
    while (request := _receive(channel)) is not None:
        _send(channel, candidate.call(*request))


class _Candidate:
    """One loaded extension and what must be remembered between its calls."""

    def __init__(self, load: Load, backend: Backend) -> None:
        self._load = load
        self._backend = backend
        self._function: Callable[..., Any] | None = None
        self._watch = Watch(backend.device_type)
        self._live = LiveOutputs()
        self._late = LateChanges()
        self._inputs: list[torch.Tensor] = []  # of the last call, when they are not large

    def call(self, request: CallRequest, values: Sequence[torch.Tensor]) -> list[memoryview]:
        """One call, from dense CPU tensors to the pieces of its reply."""
        import torch

        if request.timing is not None:
            return self._time(request, request.timing, values)
        inputs: list[Any] = []
        result: Any = None
        error: BaseException | None = None
        refusal: RefusedError | None = None
        self._backend.begin(
            poison=request.poison,
            schedule=request.schedule,
            sample_blocks=request.sample_blocks,
            checked=request.checked,
            stubbed=request.stubbed,
            timeout_seconds=request.timeout_seconds,
        )
        dense = iter(values)
        memory = iter(self._memory(request))
        for value in request.values:
            inputs.append(next(memory).copy_(next(dense)) if isinstance(value, TensorHeader) else value)
        self._watch.begin()
        try:
            result = self._entry(request.layout)(*inputs)
        except RefusedError as refused:
            refusal = refused
        except BaseException as raised:
            error = raised
        operators = self._watch.end()
        effects = self._backend.end(error)
        if request.same_memory:
            effects.copied_in_bytes = None  # the backend did not make this memory, so it counts our copies too
        if refusal is not None:
            effects.outcome, effects.reason = refusal.outcome, refusal.reason
        elif error is not None and effects.outcome == "passed":
            effects.outcome, effects.reason = "crashed", _in_words(error, self._load.entry)
        tensors = [value for value in inputs if isinstance(value, torch.Tensor)]
        counted = request.sample_blocks is not None  # then outputs mean nothing, and nothing but events goes back
        outputs = self._outputs(result, tensors, effects) if effects.outcome == "passed" and not counted else []
        effects.findings += self._watch.findings()
        self._inputs = tensors if sum(tensor.nbytes for tensor in tensors) <= KEPT_BYTES else []
        return self._reply(request, effects, outputs, tensors, operators)

    def _memory(self, request: CallRequest) -> list[torch.Tensor]:
        """Where the inputs go: fresh memory, or where those of the call before were."""
        import torch

        headers = request.tensors
        if request.same_memory and tuple(header_of(tensor) for tensor in self._inputs) == headers:
            return self._inputs
        return [self._backend.empty_strided(h.shape, h.strides, getattr(torch, h.dtype)) for h in headers]

    def _time(self, request: CallRequest, timing: TimingRequest, values: Sequence[torch.Tensor]) -> list[memoryview]:
        """One step of a measurement."""
        import torch

        backend: TimingBackend = cast("TimingBackend", self._backend)
        timed, error, refusal = Timed(), None, None
        dense = iter(values)
        given = [
            torch.empty_strided(v.shape, v.strides, dtype=getattr(torch, v.dtype)).copy_(next(dense))
            if isinstance(v, TensorHeader)
            else v
            for v in request.values
        ]
        backend.begin(
            poison=request.poison,
            schedule=0,
            sample_blocks=None,
            checked=False,
            stubbed=request.stubbed,
            timeout_seconds=request.timeout_seconds,
        )
        self._watch.begin()
        try:
            timed = backend.time(self._entry(request.layout), timing, given, stubbed=request.stubbed)
        except RefusedError as refused:
            refusal = refused
        except BaseException as raised:
            error = raised
        operators = self._watch.end()
        effects = backend.end(error)
        if refusal is not None:
            effects.outcome, effects.reason = refusal.outcome, refusal.reason
        elif error is not None and effects.outcome == "passed":
            effects.outcome, effects.reason = "crashed", _in_words(error, self._load.entry)
        self._live.forget()
        wanted = effects.outcome == "passed" and timed.outputs is not None
        outputs = self._outputs(timed.outputs, [], effects) if wanted else []
        self._live.forget()  # the timed call may reuse memory: nothing was promised to live
        effects.findings += self._watch.findings()
        reply = CallReply(
            nonce=request.nonce,
            outcome=effects.outcome,
            reason=None if effects.reason is None else effects.reason[:MAX_TEXT],
            outputs=tuple(header_of(output) for output in outputs),
            inputs_after=(None,) * len(request.values),
            findings=tuple(effects.findings[:MAX_FINDINGS]),
            launches=tuple(effects.launches[:MAX_LAUNCHES]),
            operators=operators,
            samples_ns=timed.samples_ns,
            facts=timed.facts,
        )
        return frame(reply, [tensor.detach().cpu() for tensor in outputs])

    def _entry(self, layout: str | None) -> Callable[..., Any]:
        """The entry point, loaded by the first call, as a function of a call's values."""
        if self._function is None:
            self._function = _entry_of(self._backend, self._load)
        return arranged(self._function, layout)

    def _outputs(self, result: Any, inputs: Sequence[torch.Tensor], effects: Effects) -> list[torch.Tensor]:
        """The returned tensors, when they all are tensors that can be carried; says what is wrong with them."""
        findings = effects.findings
        outputs = list(result) if isinstance(result, tuple | list) else [result]
        for index, output in enumerate(outputs):
            if (problem := self._problem(output)) is not None:
                findings.append(FindingMessage(kind="not a tensor", text=f"output {index} is {problem}"))
        if any(finding.kind == "not a tensor" for finding in findings):
            self._live.forget()
            return []
        for index, output in enumerate(outputs):
            if output.device.type != self._backend.device_type:
                text = f"output {index} is on {output.device}, not on {self._backend.device_type}"
                findings.append(FindingMessage(kind="wrong device", text=text))
            if output.requires_grad:
                findings.append(FindingMessage(kind="requires grad", text=f"output {index} requires grad"))
            for number, tensor in enumerate(inputs):
                if share_memory(output, tensor):
                    text = f"output {index} shares memory with tensor input {number}"
                    findings.append(FindingMessage(kind="aliases input", text=text))
            for other in range(index):
                if share_memory(output, outputs[other]):
                    text = f"outputs {other} and {index} share memory"
                    findings.append(FindingMessage(kind="outputs share memory", text=text))
            if self._live.shared_with(output):
                text = f"output {index} shares memory with an output of an earlier call"
                findings.append(FindingMessage(kind="reuses output", text=text))
        if self._live.changed():
            text = "an output of an earlier call was changed since it was returned"
            findings.append(FindingMessage(kind="earlier output changed", text=text))
        self._live.keep(outputs)
        findings += self._late.of(outputs, self._watch.strangers)
        return outputs

    def _problem(self, output: Any) -> str | None:
        import torch

        if type(output) is not torch.Tensor:
            return "None" if output is None else f"a {type(output).__module__}.{type(output).__qualname__}"
        if output.layout is not torch.strided or output.is_quantized or output.is_meta:
            return f"a {output.layout} tensor on {output.device}, which holds no plain memory"
        try:
            header_of(output)
        except FrameError as error:
            return f"a tensor whose {error}"
        return None

    def _reply(
        self,
        request: CallRequest,
        effects: Effects,
        outputs: Sequence[torch.Tensor],
        inputs: Sequence[torch.Tensor],
        operators: tuple[str, ...] | None,
    ) -> list[memoryview]:
        if effects.outcome != "passed" or request.sample_blocks is not None:
            outputs, inputs = [], []  # of no interest, and perhaps not to be had
        after = iter(inputs)
        reply = CallReply(
            nonce=request.nonce,
            outcome=effects.outcome,
            reason=None if effects.reason is None else effects.reason[:MAX_TEXT],
            outputs=tuple(header_of(output) for output in outputs),
            inputs_after=tuple(
                header_of(tensor)
                if isinstance(value, TensorHeader) and (tensor := next(after, None)) is not None
                else None
                for value in request.values
            ),
            findings=tuple(effects.findings[:MAX_FINDINGS]),
            launches=tuple(effects.launches[:MAX_LAUNCHES]),
            copied_in_bytes=effects.copied_in_bytes,
            copied_out_bytes=effects.copied_out_bytes,
            operators=operators,
        )
        return frame(reply, [tensor.detach().cpu() for tensor in (*outputs, *inputs)])


def _entry_of(backend: Backend, load: Load) -> Callable[..., Any]:
    """Loads the extension and gives its entry point; raises RefusedError with a reason for a person."""
    try:
        module = backend.load(load)
    except ImportError as error:
        raise RefusedError("crashed", _import_problem(str(error))) from None
    function = getattr(module, load.entry, None)
    if not callable(function):
        names = sorted(name for name in vars(module) if not name.startswith("__"))
        exported = f"it exports {', '.join(names)}" if names else "it exports nothing"
        raise RefusedError("crashed", f"the module has no function {load.entry!r}; {exported}")
    entry: Callable[..., Any] = function
    return entry


def _import_problem(text: str) -> str:
    if match := re.search(r"undefined symbol: (\w+)", text):
        return f"cannot be loaded: undefined symbol {demangled(match[1])}"
    if match := re.search(r"does not define module export function \(PyInit_(\w+)\)", text):
        return "cannot be loaded: the source has no PYBIND11_MODULE(TORCH_EXTENSION_NAME, m)"
    return f"cannot be loaded: {text}"


def _in_words(error: BaseException, entry: str) -> str:
    """What the entry point raised."""
    text = str(error)
    if isinstance(error, TypeError) and "incompatible function arguments" in text:
        signatures = re.findall(r"^\s+\d+\. (.*)$", text, re.MULTILINE)
        invoked = text.partition("Invoked with:")[2]
        given = "; it was called with " + _kinds(invoked) if invoked else ""
        return f"{entry} does not take these arguments: it is {' or '.join(signatures)}{given}"
    first = next((line for line in text.splitlines() if line.strip()), "")
    return f"raised {type(error).__name__}: {first}" if first else f"raised {type(error).__name__}"


def _kinds(invoked: str) -> str:
    """pybind11 prints whole tensors; the number of arguments is what a reader needs."""
    tensors = invoked.count("tensor(")
    rest = re.sub(r"tensor\((?:[^()]|\([^()]*\))*\)", "", invoked)
    scalars = [part.strip() for part in rest.split(",") if part.strip()]
    words = [f"{tensors} tensor{'s' * (tensors != 1)}", *scalars]
    return ", ".join(words)


def _receive(channel: socket.socket) -> tuple[CallRequest, list[torch.Tensor]] | None:
    """The next request and its tensors, or None when the parent has gone. The parent may be believed."""
    reader = FrameReader(CallRequest, limit_bytes=sys.maxsize)
    while not reader.complete:
        count = channel.recv_into(reader.room())
        if count == 0:
            return None
        reader.took(count)
    request = reader.message
    assert isinstance(request, CallRequest)
    return request, tensors_from(request.tensors, reader.payload)


def _send(channel: socket.socket, pieces: Sequence[memoryview]) -> None:
    for piece in pieces:
        channel.sendall(piece)


if __name__ == "__main__":
    sys.modules["kernelevo.worker"] = sys.modules["__main__"]  # one RefusedError, for us and for backends
    main(sys.argv[1:])
    sys.stderr.flush()
    os._exit(0)  # the parent waits: taking torch apart piece by piece takes a tenth of a second
