"""Frames between the trusted parent and a worker: a small JSON header, then the raw bytes of tensors.

    frame = b"kevo" | header size (uint32, little endian) | header (JSON) | bytes of each tensor, dense, in order

Takes messages and CPU tensors, gives bytes, and back. Nothing is ever unpickled, no size is believed before it is
checked against a limit, and a header that does not validate is a FrameError. Sockets and deadlines belong to
session.py (the parent) and worker.py; torch is imported when the first tensor is, so that a parent can start its
workers before it pays for the import.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictFloat, StrictInt, ValidationError, model_validator

from kernelevo.devices.isolation import Protection

if TYPE_CHECKING:
    import torch

MAGIC = b"kevo"
PREFIX = struct.Struct("<4sI")
MAX_HEADER_BYTES = 16 << 20
MAX_LAUNCHES = 10_000  # of one call that are reported
MAX_FINDINGS = 1_000
MAX_TEXT = 4_000  # characters of a reason or a finding
UNANSWERED = 70  # exit status of a worker that could not send its reply

ITEM_BYTES = {
    "bool": 1, "uint8": 1, "int8": 1, "int16": 2, "int32": 4, "int64": 8,
    "float16": 2, "bfloat16": 2, "float32": 4, "float64": 8, "complex64": 8, "complex128": 16,
}  # fmt: skip


class FrameError(Exception):
    """Bytes that are not a frame, or a header that does not fit its message. One line."""


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="constants")


Extent = Annotated[int, Field(ge=0, lt=1 << 48)]
Text = Annotated[str, Field(max_length=MAX_TEXT)]


class TensorHeader(_Message):
    """A strided tensor whose elements follow the header densely, in row-major order of its shape."""

    dtype: str
    shape: Annotated[tuple[Extent, ...], Field(max_length=64)]
    strides: Annotated[tuple[Extent, ...], Field(max_length=64)]  # in elements, as the sender holds it

    @model_validator(mode="after")
    def _consistent(self) -> TensorHeader:
        if self.dtype not in ITEM_BYTES:
            raise ValueError(f"dtype {self.dtype!r} is not carried")
        if len(self.shape) != len(self.strides):
            raise ValueError(f"{len(self.shape)} sizes but {len(self.strides)} strides")
        return self

    @property
    def size_bytes(self) -> int:
        """Of the dense bytes."""
        return math.prod(self.shape) * ITEM_BYTES[self.dtype]

    @property
    def span_bytes(self) -> int:
        """From the first to the last element in the sender's memory."""
        if 0 in self.shape:
            return 0
        last = sum((size - 1) * stride for size, stride in zip(self.shape, self.strides, strict=True))
        return (last + 1) * ITEM_BYTES[self.dtype]


class Load(_Message):
    """What one worker is for. It goes with the request to fork."""

    artifact: str  # loadable extension
    ptx: str | None
    cubin: str | None = None  # the same kernels as machine code for the target
    entry: str  # exported function to call
    object_cache: str  # folder for what this candidate's kernels are compiled to; no other candidate uses it
    memory_bytes: int  # that the worker may use, the device's memory included
    registers: dict[str, int] = {}  # per thread, by kernel
    address_space_bytes: int | None = None  # that the worker may map; None: memory_bytes. CUDA reserves terabytes.


class Start(_Message):
    """Asks the fork server for a worker. Three file descriptors follow: channel, output, status and lifeline."""

    worker: int
    scratch: str  # the worker's working folder; removed when it has ended
    load: Load


class End(_Message):
    """Asks the fork server to kill the keeper of one worker."""

    end: int


class Ready(_Message):
    """The fork server's only message: it is warm, or why it cannot be."""

    isolation: tuple[Protection, ...]  # of its workers; empty when it is not warm
    error: Text | None


class Ending(_Message):
    """What the keeper says about a worker that has ended, after everything the worker started has ended too."""

    kind: Literal["exited", "signalled", "stopped", "memory", "processes", "asked"]
    value: int  # exit status, signal number, bytes or processes


class Running(_Message):
    """What the keeper sees of its worker when it is asked."""

    processes: Annotated[int, Field(ge=0)]  # that the worker started and that still run
    threads: Annotated[int, Field(ge=0)]  # of the worker
    waited_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)]  # for a core: the thread that waited longest


class Hello(_Message):
    """First frame of a worker: from here on time is the candidate's."""

    hello: Literal[True] = True


class TimingRequest(_Message):
    """One step of a measurement, instead of one judged call; see devices.TimedSession."""

    step: Literal["prepare", "sample", "run"]
    mode: Literal["cold", "warm", "graph"] = "warm"
    calls: Annotated[int, Field(ge=1, le=1_000_000)] = 1
    input_sets: Annotated[int, Field(ge=1, le=64)] = 1  # prepare: `values` holds this many, one after the other
    rotate_bytes: Annotated[int, Field(ge=0)] = 0  # prepare: the inputs are copied until they take this much
    checked_call: int | None = None  # sample: the call whose outputs come back
    seed: Annotated[int, Field(ge=0, lt=1 << 31)] = 0  # of the elements that are swapped in the inputs


class CallRequest(_Message):
    """One call. The tensors of `values` follow the header."""

    nonce: str
    values: tuple[TensorHeader | StrictBool | StrictInt | StrictFloat, ...]
    poison: Annotated[int, Field(ge=0, le=255)]
    schedule: Annotated[int, Field(ge=0, lt=1 << 63)] = 0
    sample_blocks: int | None
    checked: bool = False
    stubbed: bool = False
    same_memory: bool = False
    timeout_seconds: float
    timing: TimingRequest | None = None
    layout: Annotated[str, Field(max_length=MAX_HEADER_BYTES // 16)] | None = None  # see arguments.py

    @property
    def tensors(self) -> tuple[TensorHeader, ...]:
        return tuple(value for value in self.values if isinstance(value, TensorHeader))


class FindingMessage(_Message):
    kind: Text
    text: Text
    kernel: Text | None = None
    line: int | None = None
    block: tuple[int, int, int] | None = None
    thread: tuple[int, int, int] | None = None
    address: int | None = None
    allocation: Text | None = None
    access_bytes: int | None = None


class LaunchMessage(_Message):
    kernel: Text
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    shared_bytes: int
    counters: dict[str, float]


class CallReply(_Message):
    """What one call did. The tensors of `outputs`, then those of `inputs_after`, follow the header."""

    nonce: str
    outcome: Literal["passed", "crashed", "timed out", "unsupported"]
    reason: Text | None
    outputs: Annotated[tuple[TensorHeader, ...], Field(max_length=256)]
    inputs_after: Annotated[tuple[TensorHeader | None, ...], Field(max_length=256)]
    findings: Annotated[tuple[FindingMessage, ...], Field(max_length=MAX_FINDINGS)]
    launches: Annotated[tuple[LaunchMessage, ...], Field(max_length=MAX_LAUNCHES)]
    copied_in_bytes: Annotated[int, Field(ge=0)] | None = None
    copied_out_bytes: Annotated[int, Field(ge=0)] | None = None
    operators: Annotated[tuple[Text, ...], Field(max_length=256)] | None = None
    samples_ns: Annotated[tuple[float, ...], Field(max_length=1_000_000)] = ()
    facts: dict[str, float] = {}

    @property
    def tensors(self) -> tuple[TensorHeader, ...]:
        return self.outputs + tuple(header for header in self.inputs_after if header is not None)


Message = TypeVar("Message", bound=BaseModel)


def parse(kind: type[Message], text: bytes | bytearray | memoryview) -> Message:
    """A message from its JSON; raises FrameError."""
    try:
        return kind.model_validate_json(bytes(text))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "message"
        words = f"{kind.__name__}: {where}: {first['msg']}".split()  # names of fields come from outside too
        raise FrameError(" ".join(words)) from None


def frame(message: BaseModel, tensors: Iterable[torch.Tensor] = ()) -> list[memoryview]:
    """The pieces of one frame, ready to be sent; tensors are copied only when they are not dense."""
    header = message.model_dump_json().encode()
    pieces = [memoryview(PREFIX.pack(MAGIC, len(header)) + header)]
    pieces += [_dense_bytes(tensor) for tensor in tensors if tensor.numel()]
    return pieces


def header_of(tensor: torch.Tensor) -> TensorHeader:
    """Header of a strided tensor of a carried dtype; raises FrameError for another dtype."""
    name = str(tensor.dtype).removeprefix("torch.")
    if name not in ITEM_BYTES:
        raise FrameError(f"dtype {name} is not carried")
    return TensorHeader(dtype=name, shape=tuple(tensor.shape), strides=tuple(tensor.stride()))


def tensors_from(headers: Sequence[TensorHeader], payload: bytearray | memoryview) -> list[torch.Tensor]:
    """Dense CPU tensors that share `payload`; the headers' strides are the caller's business."""
    import torch

    tensors, offset = [], 0
    for header in headers:
        dtype, count = getattr(torch, header.dtype), math.prod(header.shape)
        if count:
            tensors.append(torch.frombuffer(payload, dtype=dtype, count=count, offset=offset).reshape(header.shape))
        else:
            tensors.append(torch.empty(header.shape, dtype=dtype))
        offset += header.size_bytes
    return tensors


class FrameReader:
    """Collects one frame from a stream: receive into `room()`, then `took(n)`, until `complete`.

    `kind` is the message expected; a frame with more than `limit_bytes` of tensors is refused before it is read.
    """

    def __init__(self, kind: type[Message], *, limit_bytes: int) -> None:
        self._kind = kind
        self._limit_bytes = limit_bytes
        self._part = "prefix"
        self._buffer = memoryview(bytearray(PREFIX.size))
        self._filled = 0
        self.message: BaseModel | None = None
        self.payload: memoryview = memoryview(b"")
        self.complete = False

    def room(self) -> memoryview:
        """Where the next bytes belong; never empty before the frame is complete."""
        return self._buffer[self._filled :]

    def took(self, count: int) -> None:
        """Notes that `count` bytes were written into `room()`; raises FrameError when they cannot be a frame."""
        self._filled += count
        if self._filled < len(self._buffer):
            return
        if self._part == "prefix":
            magic, size = PREFIX.unpack(self._buffer)
            if magic != MAGIC:
                raise FrameError("bytes that are not a frame")
            if not 0 < size <= MAX_HEADER_BYTES:
                raise FrameError(f"a header of {size} bytes")
            self._expect("header", size)
        elif self._part == "header":
            self.message = parse(self._kind, self._buffer)
            headers: Sequence[TensorHeader] = getattr(self.message, "tensors", ())
            size = sum(header.size_bytes for header in headers)
            if size > self._limit_bytes:
                raise FrameError(f"{size} bytes of tensors, more than the {self._limit_bytes} allowed")
            if size:
                self._expect("payload", size)
            else:
                self.complete = True
        else:
            self.payload = self._buffer
            self.complete = True

    def _expect(self, part: str, size: int) -> None:
        # A bytearray would be filled with zeros first, which for large tensors costs as much as receiving them.
        buffer = bytearray(size) if part == "header" else _uninitialised(size)
        self._part, self._buffer, self._filled = part, memoryview(buffer), 0


def _uninitialised(size: int) -> memoryview:
    import numpy

    return memoryview(numpy.empty(size, dtype=numpy.uint8))  # type: ignore[arg-type]


def _dense_bytes(tensor: torch.Tensor) -> memoryview:
    import torch

    return memoryview(tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy())  # type: ignore[arg-type]
