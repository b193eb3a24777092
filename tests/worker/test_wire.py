"""Frames survive the trip; bytes that are no frame are refused before any size in them is believed."""

from __future__ import annotations

import json
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kernelevo.devices.wire import (
    ITEM_BYTES,
    MAGIC,
    MAX_HEADER_BYTES,
    PREFIX,
    CallReply,
    CallRequest,
    FrameError,
    FrameReader,
    TensorHeader,
    frame,
    header_of,
    parse,
    tensors_from,
)


def reply(outputs: tuple[TensorHeader, ...] = (), **changes: object) -> CallReply:
    values = {"nonce": "n", "outcome": "passed", "reason": None, "inputs_after": (), "findings": (), "launches": ()}
    return CallReply.model_validate(values | {"outputs": outputs} | changes)


def read(data: bytes, kind: type = CallReply, *, limit_bytes: int = 1 << 20, chunk: int = 1 << 20) -> FrameReader:
    """Feeds a reader as a socket would, `chunk` bytes at a time."""
    reader, offset = FrameReader(kind, limit_bytes=limit_bytes), 0
    while not reader.complete and offset < len(data):
        piece = data[offset : offset + min(chunk, len(reader.room()))]
        reader.room()[: len(piece)] = piece
        reader.took(len(piece))
        offset += len(piece)
    return reader


@pytest.mark.parametrize("dtype", ITEM_BYTES)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 3), (5, 7)])
@pytest.mark.parametrize("chunk", [1, 1 << 20])
def test_a_tensor_arrives_with_its_bits(dtype: str, shape: tuple[int, ...], chunk: int) -> None:
    count = math.prod(shape) * ITEM_BYTES[dtype]
    bits = torch.randint(0, 2 if dtype == "bool" else 256, (count,), dtype=torch.uint8)
    tensor = bits.view(getattr(torch, dtype)).reshape(shape)
    data = b"".join(frame(reply((header_of(tensor),)), [tensor]))
    reader = read(data, chunk=chunk)
    assert reader.complete
    (arrived,) = tensors_from(reader.message.tensors, reader.payload)
    assert (arrived.dtype, arrived.shape) == (tensor.dtype, tensor.shape)
    assert torch.equal(arrived.reshape(-1).view(torch.uint8), tensor.reshape(-1).view(torch.uint8))


def test_scalars_keep_their_type() -> None:
    sent = CallRequest(
        nonce="n", values=(True, 1, 1.0, -0.0, math.inf, 2**62), poison=0, sample_blocks=None, timeout_seconds=1.0
    )
    reader = read(b"".join(frame(sent)), CallRequest)
    values = reader.message.values
    assert [type(value) for value in values] == [bool, int, float, float, float, int]
    assert values == sent.values
    assert math.copysign(1, values[3]) == -1


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_refused_or_wait_for_more(data: bytes) -> None:
    try:
        reader = read(data)
    except FrameError:
        return
    assert not reader.complete


@given(st.binary(max_size=200), st.integers(0, 300))
def test_a_frame_that_was_tampered_with_is_refused_or_still_a_reply(noise: bytes, place: int) -> None:
    data = bytearray(b"".join(frame(reply((TensorHeader(dtype="uint8", shape=(4,), strides=(1,)),)))) + b"abcd")
    place = min(place, len(data))
    data[place : place + len(noise)] = noise
    try:
        reader = read(bytes(data))
    except FrameError as error:
        assert "\n" not in str(error)
        return
    assert not reader.complete or isinstance(reader.message, CallReply)


@pytest.mark.parametrize("size", [0, MAX_HEADER_BYTES + 1, 2**32 - 1])
def test_a_header_of_absurd_size_is_refused(size: int) -> None:
    with pytest.raises(FrameError, match=f"a header of {size} bytes"):
        read(PREFIX.pack(MAGIC, size))


def test_more_tensor_bytes_than_allowed_are_refused_before_any_is_read() -> None:
    header = TensorHeader(dtype="float32", shape=(1 << 40,), strides=(1,))
    with pytest.raises(FrameError, match="4398046511104 bytes of tensors, more than the 1048576 allowed"):
        read(b"".join(frame(reply((header,)))))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"dtype": "object"}, "dtype 'object' is not carried"),
        ({"shape": [-1]}, "greater than or equal to 0"),
        ({"shape": [1, 2]}, "2 sizes but 1 strides"),
        ({"strides": [1 << 60]}, "less than"),
        ({"shape": [1] * 65, "strides": [1] * 65}, "at most 64 items"),
        ({"extra": 1}, "not permitted"),
    ],
)
def test_a_tensor_header_that_cannot_be_is_refused(change: dict[str, object], reason: str) -> None:
    text = json.dumps({"dtype": "float32", "shape": [2], "strides": [1]} | change).encode()
    with pytest.raises(FrameError, match=reason):
        parse(TensorHeader, text)


def test_a_dtype_that_cannot_be_carried_is_named() -> None:
    with pytest.raises(FrameError, match="dtype float8_e4m3fn is not carried"):
        header_of(torch.zeros(2, dtype=torch.float8_e4m3fn))
