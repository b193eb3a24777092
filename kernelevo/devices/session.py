"""The parent's side of a worker: starts the fork server, sends calls, and reads replies that it does not trust.

Takes a Build and calls, gives Call records (see devices/__init__.py). Never loads candidate code. Every wait has a
deadline, every size a bound, and whatever the worker does ends as a Call; a WorkerError means that our own part
failed. Where the worker half runs, and on what, is the business of worker.py and of each device.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import secrets
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from kernelevo.devices import Call, Launch
from kernelevo.devices.isolation import Protection, Sandbox, missing
from kernelevo.devices.wire import (
    UNANSWERED,
    CallReply,
    CallRequest,
    End,
    Ending,
    FrameError,
    FrameReader,
    Hello,
    Load,
    Ready,
    Running,
    Start,
    TensorHeader,
    TimingRequest,
    frame,
    header_of,
    parse,
    tensors_from,
)
from kernelevo.errors import UsageError, WorkerError
from kernelevo.records import Finding, Outcome

if TYPE_CHECKING:
    import torch

    from kernelevo.devices import Value

OUTPUT_BYTES = 16 << 10  # kept of each end of what a candidate prints
START_SECONDS = 120.0  # for the fork server to import torch on a loaded machine
PROCESSES_LEFT = "processes left running"  # kind of finding
THREADS_LEFT = "threads left running"
PATIENCE = 3  # limits of time that a call may last longer, where its worker waited for a core that others had
_ANSWER_SECONDS = 10.0  # for a keeper to count; it takes less than a millisecond
_LATE_ANSWER_SECONDS = 0.5  # when its worker is over time already: the worker may have stopped it
_GONE_SECONDS = 1.0  # for a keeper to end everything when asked, before it is killed
# The only variables of the parent's environment that a worker inherits.
ENVIRONMENT = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "LD_LIBRARY_PATH", "PYTHONPATH", "SYSTEMROOT")


class ForkServer:
    """The warm process that forks workers; started by the constructor, in the background. Safe to share by threads."""

    def __init__(
        self, backend: str, settings: Mapping[str, object] | None = None, *, sandbox: Sandbox = "best-effort"
    ) -> None:
        """backend: the worker's half of the device, "module:Class". settings: its keyword arguments, for JSON.
        sandbox: "required" starts no worker where a protection is missing (isolation.py).
        """
        self._backend = backend
        self._sandbox = sandbox
        self._settings = json.dumps(dict(settings or {}))
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._ready: Ready | None = None
        self._launch()

    @property
    def pid(self) -> int:
        return self._process.pid

    def start(self, load: Load) -> _Worker:
        """Asks for a worker and returns at once; raises WorkerError when there is no server to ask.

        Where the sandbox is required, it waits until the server is warm, and raises UsageError when a protection is
        missing.
        """
        if self._sandbox == "required":
            _require(self.wait().isolation)
        if load.object_cache:
            with contextlib.suppress(OSError):  # a cache that cannot be had costs time, nothing else
                os.makedirs(load.object_cache, exist_ok=True)
        try:
            scratch = tempfile.mkdtemp(prefix="kernelevo-")
        except OSError as error:
            raise WorkerError(
                f"no folder for a worker: {error}",
                next_step="make room, or name a folder that can be written in TMPDIR",
            ) from error
        channel, worker_channel = socket.socketpair()
        output, worker_output = os.pipe()
        status, keeper_status = os.pipe()
        keeper_lifeline, lifeline = os.pipe()
        number = next(self._numbers)
        message = Start(worker=number, scratch=scratch, load=load).model_dump_json().encode()
        given = [worker_channel.fileno(), worker_output, keeper_status, keeper_lifeline]
        worker = _Worker(self, number, scratch, channel, output, status, lifeline)
        try:
            self._send(message, given)
        except BaseException:
            worker.discard()
            raise
        finally:
            worker_channel.close()
            for descriptor in given[1:]:
                os.close(descriptor)
        return worker

    def wait(self) -> Ready:
        """Waits until the server is warm; raises WorkerError when it cannot be."""
        with self._lock:
            return self._read_ready()

    def kill(self, number: int) -> None:
        """Kills the keeper of one worker, and with it the worker."""
        with contextlib.suppress(OSError, WorkerError):
            self._send(End(end=number).model_dump_json().encode(), [])

    def close(self) -> None:
        """Ends the server and every worker that it forked."""
        with self._lock:
            self._control.close()
            try:
                self._process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._errors.close()

    def _launch(self) -> None:
        self._control, control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process that writes to it
        environment = {name: os.environ[name] for name in ENVIRONMENT if name in os.environ}
        # One thread each, or importing them leaves threads behind, and a process with threads cannot be forked.
        environment |= {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        environment |= {"MALLOC_ARENA_MAX": "2"}
        # -P: the folder we are called from is not on the worker's path.
        command = [sys.executable, "-P", "-m", "kernelevo.worker", self._backend, str(control.fileno()), self._settings]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=self._errors,
            stderr=self._errors,
            env=environment,
            cwd="/",
            pass_fds=[control.fileno()],
            start_new_session=True,
        )
        control.close()

    def _send(self, message: bytes, descriptors: list[int]) -> None:
        with self._lock:
            try:
                self._control.settimeout(START_SECONDS)
                socket.send_fds(self._control, [message], descriptors)
            except OSError as error:
                self._read_ready()  # it may have said why
                raise self._failure(f"the fork server has ended ({error})") from error

    def _read_ready(self) -> Ready:
        if self._ready is None:
            try:
                self._control.settimeout(START_SECONDS)
                data = self._control.recv(1 << 16)
            except OSError:
                data = b""
            if not data:
                raise self._failure(f"the fork server ended, or did not start within {START_SECONDS:.0f} s")
            ready = parse(Ready, data)
            if ready.error is not None:
                raise self._failure(f"the worker cannot start: {ready.error}")
            self._ready = ready
        return self._ready

    def _failure(self, what: str) -> WorkerError:
        self._errors.seek(0)
        said = self._errors.read(1 << 16).decode(errors="replace").strip().splitlines()
        return WorkerError(
            f"{what}{': ' + said[-1] if said else ''}",
            next_step="run `kernelevo doctor`, which says what this machine lacks",
        )


class WorkerSession:
    """A Session over a forked worker; restarts the worker when a call has ended it."""

    def __init__(self, server: ForkServer, load: Load, *, timeout_seconds: float) -> None:
        self._server = server
        self._load = load
        self._timeout_seconds = timeout_seconds
        self._worker: _Worker | None = server.start(load)

    def call(
        self,
        inputs: Sequence[Value],
        *,
        poison: int = 0xA5,
        schedule: int = 0,
        sample_blocks: int | None = None,
        checked: bool = False,
        stubbed: bool = False,
        same_memory: bool = False,
        timing: TimingRequest | None = None,
    ) -> Call:
        import torch

        tensors = {i: value for i, value in enumerate(inputs) if isinstance(value, torch.Tensor)}
        headers = {i: header_of(tensor) for i, tensor in tensors.items()}
        request = CallRequest(
            nonce=secrets.token_hex(16),
            values=tuple(header_of(v) if isinstance(v, torch.Tensor) else v for v in inputs),
            poison=poison,
            schedule=schedule,
            sample_blocks=sample_blocks,
            checked=checked,
            stubbed=stubbed,
            same_memory=same_memory,
            timeout_seconds=self._timeout_seconds,
            timing=timing,
            layout=getattr(inputs, "layout", None),
        )
        pieces = frame(request, tensors.values())
        worker = self._ready_worker()
        started = time.monotonic()
        # Replies hold the inputs again, so those come on top of what the candidate may allocate.
        limit_bytes = self._load.memory_bytes + sum(header.size_bytes for header in headers.values())
        outcome, reason, reply, reader = Outcome.CRASHED, None, None, None
        try:
            deadline = started + self._timeout_seconds
            patience = PATIENCE * self._timeout_seconds
            reader = worker.exchange(
                pieces, CallReply, deadline=deadline, patience_seconds=patience, limit_bytes=limit_bytes
            )
            reply = _reply_to(request, headers, reader)
        except _DeadlineError:
            outcome, reason = Outcome.TIMED_OUT, f"did not return within {self._timeout_seconds:g} s"
        except _EndedError as ended:
            reason = ended.reason
        except FrameError as error:
            reason = f"broke the channel to its parent: {error}"
        seconds = time.monotonic() - started
        if reply is None or reader is None:
            self.close()
            printed = worker.output.text()
            if reason is not None and outcome is Outcome.CRASHED and (last := _last_line(printed)):
                reason = f"{reason}; it printed: {last}"
            return _failed(outcome, reason, len(inputs), printed, seconds)
        left, reason = _left_running(worker)
        if reason is not None:
            self.close()
            return _failed(Outcome.CRASHED, reason, len(inputs), worker.output.text(), seconds)
        if reply.outcome != "passed" or any(finding.kind == PROCESSES_LEFT for finding in left):
            self.close()  # what failed may have left memory, locks or errors behind
        call = _call(reply, reader.payload, worker.output.text(), seconds, self._load.memory_bytes)
        return replace(call, findings=(*call.findings, *left))

    def close(self) -> None:
        if self._worker is not None:
            self._worker.end()
            self._worker = None

    def __enter__(self) -> WorkerSession:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _ready_worker(self) -> _Worker:
        """A worker that has said hello; raises WorkerError when none can be had."""
        if self._worker is None:
            self._worker = self._server.start(self._load)
        worker = self._worker
        worker.output.clear()
        if not worker.greeted:
            self._server.wait()
            try:
                worker.exchange([], Hello, deadline=time.monotonic() + START_SECONDS, limit_bytes=0)
            except (_DeadlineError, _EndedError, FrameError) as error:
                self.close()
                said = _last_line(worker.output.text())
                raise WorkerError(
                    f"a worker ended before it had loaded the candidate: {error or 'no sign of life'} {said}".rstrip(),
                    next_step="run `kernelevo doctor`",
                ) from error
            worker.greeted = True
        return worker


@dataclass(slots=True)
class _BoundedOutput:
    """The first and last OUTPUT_BYTES of a stream."""

    head: bytearray = field(default_factory=bytearray)
    tail: bytearray = field(default_factory=bytearray)
    left_out: int = 0

    def add(self, data: bytes) -> None:
        room = OUTPUT_BYTES - len(self.head)
        self.head += data[:room]
        self.tail += data[room:] if room > 0 else data
        if (excess := len(self.tail) - OUTPUT_BYTES) > 0:
            del self.tail[:excess]
            self.left_out += excess

    def clear(self) -> None:
        self.head.clear()
        self.tail.clear()
        self.left_out = 0

    def text(self) -> str:
        gap = f"\n[... {self.left_out} bytes left out ...]\n".encode() if self.left_out else b""
        return bytes(self.head + gap + self.tail).decode(errors="replace")


class _DeadlineError(Exception):
    """The worker did not answer in time."""


class _EndedError(Exception):
    """The worker ended, or closed its channel, instead of answering."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class _Worker:
    """The parent's four ends of one worker. Used by one thread at a time."""

    def __init__(
        self,
        server: ForkServer,
        number: int,
        scratch: str,
        channel: socket.socket,
        output: int,
        status: int,
        lifeline: int,
    ) -> None:
        self._server = server
        self._number = number
        self._scratch = scratch
        self._channel = channel
        self._output = output
        self._status = status
        self._lifeline: int | None = lifeline
        self._ending: Ending | None = None
        self._running: Running | None = None
        self._gone = False  # the status pipe has ended: no process is left
        self.threads = 1  # that ran in it after the last call
        self.waited_seconds = 0.0  # for a core, until the end of the last call
        self.output = _BoundedOutput()
        self.greeted = False
        channel.setblocking(False)
        for descriptor in (output, status):
            os.set_blocking(descriptor, False)

    def exchange(
        self,
        pieces: list[memoryview],
        kind: type[CallReply] | type[Hello],
        *,
        deadline: float,
        limit_bytes: int,
        patience_seconds: float = 0.0,
    ) -> FrameReader:
        """Sends one frame and reads one, draining what is printed; raises _DeadlineError, _EndedError or FrameError.

        patience_seconds: up to which the deadline is put off by as much as the worker waited for a core, unless it
            may be threads or processes of its own that had it.
        """
        reader = FrameReader(kind, limit_bytes=limit_bytes)
        unsent = [piece for piece in pieces if len(piece)]
        poll = select.poll()
        sending = bool(unsent)
        poll.register(self._channel, select.POLLIN | (select.POLLOUT if sending else 0))
        poll.register(self._output, select.POLLIN)
        if not self._gone:
            poll.register(self._status, select.POLLIN)
        while not reader.complete:
            remaining = deadline - time.monotonic()
            if remaining <= 0 and patience_seconds > 0:
                running = self.running(answer_seconds=_LATE_ANSWER_SECONDS)
                alone = running is not None and not running.processes and running.threads <= self.threads
                waited = running.waited_seconds - self.waited_seconds if running and alone else 0.0
                put_off = min(waited, patience_seconds)
                deadline, patience_seconds = deadline + put_off, patience_seconds - put_off
                self.waited_seconds += waited
                remaining = deadline - time.monotonic()
            if remaining <= 0:
                raise _DeadlineError
            for descriptor, event in poll.poll(remaining * 1000):
                if descriptor == self._output:
                    if not self._drain_some():
                        poll.unregister(self._output)
                elif descriptor == self._status:
                    self._read_status()
                    if self._gone:
                        poll.unregister(self._status)
                elif not self._transfer(unsent, reader, event):
                    raise _EndedError(self._why_ended())
                elif sending and not unsent:
                    sending = False
                    poll.modify(self._channel, select.POLLIN)
        self._drain()
        return reader

    def running(self, *, answer_seconds: float) -> Running | None:
        """What its keeper sees of it now; None when both have ended. Raises _DeadlineError when the keeper is mute."""
        self._running = None
        if self._lifeline is None or self._gone:
            return None
        with contextlib.suppress(BrokenPipeError):
            os.write(self._lifeline, b"?")
        if not self._wait_until_gone(answer_seconds, or_answer=True):
            raise _DeadlineError
        return self._running

    def end(self) -> None:
        """Ends the worker and everything it started; returns when nothing is left, or after about two seconds."""
        self._close_lifeline()
        if not self._wait_until_gone(_GONE_SECONDS):
            self._server.kill(self._number)
            self._wait_until_gone(_GONE_SECONDS)
        self._drain()
        self.discard()

    def discard(self) -> None:
        """Closes our ends, and removes the scratch folder when no keeper lived to do it."""
        self._close_lifeline()
        self._channel.close()
        os.close(self._output)
        os.close(self._status)
        if self._ending is None:
            shutil.rmtree(self._scratch, ignore_errors=True)

    def _close_lifeline(self) -> None:
        if self._lifeline is not None:
            os.close(self._lifeline)
            self._lifeline = None

    def _transfer(self, unsent: list[memoryview], reader: FrameReader, event: int) -> bool:
        """Moves what can be moved without waiting; False when the worker's end is closed."""
        try:
            if event & select.POLLOUT and unsent:
                sent = self._channel.sendmsg(unsent[:16])
                while unsent and sent >= len(unsent[0]):
                    sent -= len(unsent.pop(0))
                if sent:
                    unsent[0] = unsent[0][sent:]
            if event & (select.POLLIN | select.POLLHUP | select.POLLERR):
                count = self._channel.recv_into(reader.room())
                if count == 0:
                    return False
                reader.took(count)
        except BlockingIOError:
            pass
        except OSError:
            return False
        return True

    def _why_ended(self) -> str:
        """After the channel has closed: how the worker ended, in words."""
        self._wait_until_gone(_GONE_SECONDS, or_ending=True)
        return "closed the channel to its parent" if self._ending is None else _in_words(self._ending)

    def _wait_until_gone(self, seconds: float, *, or_ending: bool = False, or_answer: bool = False) -> bool:
        deadline = time.monotonic() + seconds
        poll = select.poll()
        poll.register(self._status, select.POLLIN)
        poll.register(self._output, select.POLLIN)
        while not self._gone:
            if (or_ending and self._ending is not None) or (or_answer and self._running is not None):
                break
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                return False
            for descriptor, _ in poll.poll(remaining * 1000):
                if descriptor == self._status:
                    self._read_status()
                elif not self._drain_some():
                    poll.unregister(self._output)
        return True

    def _read_status(self) -> None:
        with contextlib.suppress(BlockingIOError):
            data = os.read(self._status, 1 << 12)
            if not data:
                self._gone = True
                return
            for line in data.splitlines():
                with contextlib.suppress(FrameError):
                    self._running = parse(Running, line)
                    continue
                with contextlib.suppress(FrameError):
                    self._ending = parse(Ending, line)

    def _drain(self) -> None:
        """Takes what was printed so far; at most about 4 MB, in case something prints for ever."""
        for _ in range(64):
            if not self._drain_some():
                return

    def _drain_some(self) -> bool:
        """False when there is nothing to read now, or ever."""
        try:
            data = os.read(self._output, 1 << 16)
        except BlockingIOError:
            return False
        self.output.add(data)
        return bool(data)


def _require(protections: tuple[Protection, ...]) -> None:
    """Raises UsageError when one does not hold."""
    lacking = missing(protections)
    if lacking:
        reasons = "; ".join(f"{protection.name}: {protection.why_not}" for protection in lacking)
        raise UsageError(
            f"the sandbox is required, and this machine does not give all of it: {reasons}",
            next_step="`kernelevo doctor` lists each protection; --sandbox best-effort runs with what there is",
        )


def _left_running(worker: _Worker) -> tuple[list[Finding], str | None]:
    """After a call: what the candidate left running, by its keeper's count, or why that cannot be known."""
    try:
        running = worker.running(answer_seconds=_ANSWER_SECONDS)
    except _DeadlineError:
        return [], "stopped the process that watches it"
    if running is None:
        return [], None  # it has ended since, and everything with it
    found = []
    if running.processes:
        text = (
            f"{running.processes} process{'es' * (running.processes > 1)} that it started still ran after it returned"
        )
        found.append(Finding(kind=PROCESSES_LEFT, text=text))
    if (more := running.threads - worker.threads) > 0:
        text = f"{more} thread{'s' * (more > 1)} more than before still ran after it returned; thread pools count too"
        found.append(Finding(kind=THREADS_LEFT, text=text))
    worker.threads, worker.waited_seconds = running.threads, running.waited_seconds
    return found, None


def _in_words(ending: Ending) -> str:
    if ending.kind == "signalled":
        name = signal.Signals(ending.value).name if ending.value in set(signal.Signals) else f"signal {ending.value}"
        return f"killed by {name} ({signal.strsignal(ending.value) or 'unknown signal'})"
    if ending.kind == "stopped":
        return f"stopped itself ({signal.Signals(ending.value).name})"
    if ending.kind == "memory":
        return f"used more memory than allowed ({ending.value >> 20} MiB)"
    if ending.kind == "processes":
        return f"started {ending.value} processes and threads, more than allowed"
    if ending.kind == "asked":
        return "was ended by its parent"
    if ending.value == UNANSWERED:
        return "ended without an answer: it lost its channel, or could not send its result"
    return f"exited with status {ending.value} before it returned"


def _reply_to(request: CallRequest, headers: Mapping[int, TensorHeader], reader: FrameReader) -> CallReply:
    """The reply, when it answers this request with tensors where it must; raises FrameError."""
    reply = reader.message
    if not isinstance(reply, CallReply) or not secrets.compare_digest(reply.nonce, request.nonce):
        raise FrameError("a reply to something else")
    if len(reply.inputs_after) != len(request.values):
        raise FrameError(f"{len(reply.inputs_after)} inputs came back, not {len(request.values)}")
    for index, after in enumerate(reply.inputs_after):
        before = headers.get(index)
        if after is not None and (before is None or (after.dtype, after.shape) != (before.dtype, before.shape)):
            raise FrameError(f"input {index} came back as something else")
        judged = reply.outcome == "passed" and request.sample_blocks is None and request.timing is None
        if after is None and before is not None and judged:
            raise FrameError(f"input {index} did not come back")
    return reply


def _call(reply: CallReply, payload: memoryview, output: str, seconds: float, memory_bytes: int) -> Call:
    tensors = tensors_from(reply.tensors, payload)
    findings = [
        Finding(
            kind=f.kind,
            text=_one_line(f.text),
            kernel=f.kernel,
            line=f.line,
            block=f.block,
            thread=f.thread,
            address=f.address,
            allocation=f.allocation,
            access_bytes=f.access_bytes,
        )
        for f in reply.findings
    ]
    outputs = []
    for index, (header, tensor) in enumerate(zip(reply.outputs, tensors, strict=False)):
        strided = _with_strides(tensor, header, memory_bytes)
        if strided is None:
            text = f"output {index} has shape {header.shape} with strides {header.strides}: elements share memory"
            findings.append(Finding(kind="overlapping output", text=text))
        outputs.append(tensor if strided is None else strided)
    after = iter(tensors[len(outputs) :])
    return Call(
        outcome=Outcome(reply.outcome),
        reason=None if reply.reason is None else _one_line(reply.reason),
        outputs=tuple(outputs),
        inputs_after=tuple(None if header is None else next(after) for header in reply.inputs_after),
        findings=tuple(findings),
        launches=tuple(
            Launch(kernel=x.kernel, grid=x.grid, block=x.block, shared_bytes=x.shared_bytes, counters=x.counters)
            for x in reply.launches
        ),
        output=output,
        seconds=seconds,
        copied_in_bytes=reply.copied_in_bytes,
        copied_out_bytes=reply.copied_out_bytes,
        operators=reply.operators,
        samples_ns=reply.samples_ns,
        facts=reply.facts,
    )


def _with_strides(tensor: torch.Tensor, header: TensorHeader, memory_bytes: int) -> torch.Tensor | None:
    """The tensor laid out as the candidate had it; None when its elements overlap or lie absurdly far apart."""
    import torch

    if tuple(tensor.stride()) == header.strides:
        return tensor
    if not tensor.numel():
        return torch.empty_strided(header.shape, header.strides, dtype=tensor.dtype)
    reach = 0  # of the dimensions so far, from the smallest stride up: each must step over all before it
    for stride, size in sorted(zip(header.strides, header.shape, strict=True)):
        if size > 1:
            if stride <= reach:
                return None
            reach += stride * (size - 1)
    if header.span_bytes > memory_bytes:
        return None
    return torch.empty_strided(header.shape, header.strides, dtype=tensor.dtype).copy_(tensor)


def _failed(outcome: Outcome, reason: str | None, inputs: int, output: str, seconds: float) -> Call:
    return Call(
        outcome=outcome,
        reason=None if reason is None else _one_line(reason),
        outputs=(),
        inputs_after=(None,) * inputs,
        findings=(),
        launches=(),
        output=output,
        seconds=seconds,
    )


def _one_line(text: str, limit: int = 600) -> str:
    words = " ".join(text.split())
    return words if len(words) <= limit else words[: limit - 4] + " ..."


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:200] if lines else ""
