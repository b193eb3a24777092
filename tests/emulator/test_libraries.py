"""CUB, libcu++ atomics, cooperative groups, fp8 and packed-integer intrinsics, as CUDA's own headers write them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from .core_harness import Kernels, needs_nvcc
from .test_math import from_brain, to_brain
from .test_rules_convert import fp8_values

pytestmark = [pytest.mark.nvcc, pytest.mark.slow, needs_nvcc]
RNG = np.random.default_rng(11)


@pytest.fixture(scope="module")
def kernels() -> Kernels:
    return Kernels("library_kernels")


def test_cub_reduces_scans_and_sorts(kernels: Kernels) -> None:
    floats, ints = RNG.standard_normal(128).astype(np.float32), RNG.integers(-1000, 1000, 128).astype(np.int32)
    keys = RNG.integers(0, 1 << 32, 512, dtype=np.uint32)
    total, scanned, ordered, highest = np.zeros(1, "f4"), np.zeros(128, "i4"), np.zeros(512, "u4"), np.zeros(128, "f4")
    kernels.run("block_reduce", 1, 128, floats, total)
    kernels.run("block_scan", 1, 128, ints, scanned)
    kernels.run("block_sort", 1, 128, keys, ordered)
    kernels.run("warp_scan", 1, 128, floats, highest)
    assert abs(total[0] - floats.sum()) < 1e-4
    assert np.array_equal(scanned, np.cumsum(ints))
    assert np.array_equal(ordered, np.sort(keys))
    assert np.array_equal(highest.reshape(4, 32), np.maximum.accumulate(floats.reshape(4, 32), axis=1))


def test_standard_atomics(kernels: Kernels) -> None:
    ints, floats = np.array([0, 0, 3, 0, 0], np.int32), np.zeros(1, np.float32)
    kernels.run("standard_atomics", 2, 128, ints, floats)
    assert ints.tolist() == [1256, 99, 4, 11, 11] and floats[0] == 128


def test_cooperative_groups_partition_a_warp(kernels: Kernels) -> None:
    a = RNG.integers(-50, 50, 128).astype(np.int32)
    out = np.zeros((4, 128), np.int32)
    kernels.run("groups", 1, 128, a, out)
    for start in range(0, 128, 32):
        x, lanes = a[start : start + 32], slice(start, start + 32)
        assert np.array_equal(out[0, lanes], np.cumsum(x))
        assert out[1, lanes].tolist() == [int(x[x & 3 == each & 3].min()) for each in x]
        assert out[2, lanes].tolist() == [int(((x > 0) == (each > 0)).sum()) for each in x]
        assert out[3, lanes].tolist() == [int(x[x & 3 == each & 3][0]) for each in x]


def test_fp8_types_round_to_nearest_and_saturate(kernels: Kernels) -> None:
    a = np.concatenate(
        [RNG.standard_normal(20) * 100, [0, 1e6, -1e6, 448, 460, 1e-4, 2**-9, 0.3, 7, -0.0, 3e-6, 57344]]
    )
    a = a.astype(np.float32)
    bits, values = np.zeros((32, 2), np.uint8), np.zeros((32, 2), np.float32)
    kernels.run("fp8", 1, 32, a, bits, values, np.int32(32))
    for column, kind in enumerate(("e4m3", "e5m2")):
        table = [float(v) if not isinstance(v, str) else {"-0": -0.0}.get(v, np.nan) for v in fp8_values(kind)]
        finite = np.array([v for v in table if np.isfinite(v)])
        assert values[:, column].tolist() == [table[k] for k in bits[:, column]]
        error = np.abs(values[:, column] - np.clip(a, finite.min(), finite.max()))
        nearest = np.abs(np.clip(a, finite.min(), finite.max())[:, None] - finite[None]).min(1)
        assert np.array_equal(error, nearest.astype(np.float32))


def signed(kind: Any, values: Any) -> Any:
    return values.view(kind).reshape(32, -1).astype(np.int64)


def test_packed_integer_intrinsics(kernels: Kernels) -> None:
    a, b = (
        RNG.integers(-(2**31), 2**31, 32).astype(np.int32) >> RNG.integers(0, 28, 32).astype(np.int32) for _ in "ab"
    )
    out = np.zeros((13, 32), np.int32)
    kernels.run("packed", 1, 32, a, b, out)
    words = [signed(np.int32, each)[:, 0] for each in (a, b)]
    shorts, bytes_ = ([signed(kind, each) for each in (a, b)] for kind in (np.int16, np.int8))
    unsigned_shorts, unsigned_bytes = ([signed(kind, each) for each in (a, b)] for kind in (np.uint16, np.uint8))

    def joined(kind: Any, values: Any) -> Any:
        return np.ascontiguousarray(values.astype(kind)).view(np.int32)[:, 0]

    top: Callable[..., Any] = np.maximum
    wrapped = (words[0] + words[1]).astype(np.int32)
    expected = [
        top(wrapped, 5),
        top(top(words[0], 3), words[1]),
        joined(np.uint16, np.minimum(np.minimum(*unsigned_shorts), 9)),
        top(top(words[0], -3), 0),
        joined(np.int16, top(top(top(*shorts), np.array([5, 0])), 0)),
        joined(np.int16, np.minimum((shorts[0] + shorts[1]).astype(np.int16), np.array([3, 0]))),
        joined(np.int8, top(*bytes_)),
        np.abs(bytes_[0] - bytes_[1]).sum(1),
        joined(np.uint8, np.where(unsigned_bytes[0] > unsigned_bytes[1], 255, 0)),
        joined(np.uint8, (unsigned_bytes[0] + unsigned_bytes[1] + 1) >> 1),
        joined(np.int16, np.clip(shorts[0] + shorts[1], -32768, 32767)),
        joined(np.int16, (unsigned_shorts[0] == unsigned_shorts[0] * np.array([1, 0])).astype(int)),
        2 + (shorts[0] * bytes_[1][:, :2]).sum(1),
    ]
    for place, want in enumerate(expected):
        assert np.array_equal(out[place], want.astype(np.int32)), place


def test_half_types_become_integers_and_back(kernels: Kernels) -> None:
    a = (RNG.standard_normal(32) * 100).astype(np.float16)
    b = to_brain(RNG.standard_normal(32) * 100)
    out = np.zeros((9, 32), np.int32)
    kernels.run("half_integers", 1, 32, a, b, out)
    wide, brain, index = a.astype(np.float64), from_brain(b), np.arange(32)
    assert out[0].tolist() == np.floor(wide).astype(int).tolist()
    assert out[1].tolist() == out[2].tolist() == np.trunc(wide).astype(int).tolist()
    assert out[3].tolist() == np.trunc(brain).astype(int).tolist()
    assert out[4].tolist() == np.rint(np.abs(brain)).astype(int).tolist()
    with np.errstate(over="ignore"):
        assert np.array_equal(out[5].astype(np.uint16), (index * 4099).astype(np.float16).view(np.uint16))
    assert np.array_equal(out[6].astype(np.uint16), to_brain(index * 4099))
    assert np.array_equal(out[7].astype(np.uint16), (index * 0.1).astype(np.float16).view(np.uint16))
    assert np.array_equal(
        out[8].astype(np.uint16), np.clip(wide * wide + wide, 0, 1).astype(np.float16).view(np.uint16)
    )
