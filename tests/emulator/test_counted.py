"""Counted launches of real kernels, against events known by arithmetic."""

from __future__ import annotations

import ctypes
from functools import cache

import numpy as np
import pytest

from kernelevo.emulator.counted import CountedKernel

from .core_harness import module_of, needs_nvcc, pack

pytestmark = needs_nvcc
THREADS = 128


@cache
def kernel(name: str, threads: int) -> CountedKernel:
    return CountedKernel(module_of("count_kernels"), name, (threads, 1, 1))


def aligned(count: int) -> np.ndarray:
    """Zeros whose first byte is a multiple of 128: what cudaMalloc promises at least."""
    memory = np.zeros(count + 32, np.float32)
    return memory[(-memory.ctypes.data % 128) // 4 :][:count]


def counters(
    name: str, threads: int, blocks: int, *arguments: np.ndarray | np.generic, most: int = 1000
) -> dict[str, float]:
    packed = ctypes.create_string_buffer(pack(*arguments) + bytes(64))
    status, message, _, found = kernel(name, threads).count((blocks, 1, 1), 0, ctypes.addressof(packed), most)
    assert (status, message) == (0, "")
    return found


@pytest.mark.parametrize(("stride", "sectors"), [(1, 4), (2, 8), (8, 32), (100, 32)])
def test_a_strided_read_touches_the_sectors_its_stride_says(stride: int, sectors: int) -> None:
    n, blocks = 1024, 8
    found = counters("gather", THREADS, blocks, aligned(n * stride), aligned(n), np.int32(n), np.int32(stride))
    warps = n // 32
    assert found["global_read_sectors"] == sectors * warps
    assert found["global_write_sectors"] == 4 * warps
    assert found["global_bytes"] == 2 * 4 * n
    assert found["unique_read_bytes"] == sectors * warps * 32


def test_lanes_behind_a_guard_are_not_counted() -> None:
    found = counters("gather", THREADS, 1, aligned(128), aligned(128), np.int32(40), np.int32(1))
    assert found["global_lanes"] == 2 * 40
    assert found["global_requests"] == 2 * 2  # two warps read and write, two do nothing


def test_sampled_blocks_stand_for_the_others() -> None:
    n, blocks = 128 * 64, 64
    arguments = (aligned(n), aligned(n), np.int32(n), np.int32(1))
    whole = counters("gather", THREADS, blocks, *arguments)
    part = counters("gather", THREADS, blocks, *arguments, most=8)
    assert part == whole


@pytest.mark.parametrize(("stride", "conflicts"), [(1, 1), (2, 2), (4, 4), (32, 32), (33, 1)])
def test_bank_conflicts_are_those_of_the_stride(stride: int, conflicts: int) -> None:
    found = counters("banks", 32, 2, aligned(64), np.int32(stride))
    assert found["shared_wavefronts"] == conflicts * found["shared_ideal_wavefronts"]
    assert found["barriers"] == 2


def test_atomics_on_one_address_queue() -> None:
    found = counters("pile", 64, 2, aligned(2))
    assert found["atomics"] == 4  # one per warp
    assert found["hottest_atomics"] == 4 * 16  # half of the lanes on each address
    assert found["shared_atomic_serial"] == 0


def test_atomics_on_shared_memory_queue_in_their_block() -> None:
    found = counters("shared_pile", 64, 3, aligned(4))
    assert found["shared_atomic_serial"] == 6 * 32
    assert found["hottest_atomics"] == 0


def test_generic_accesses_to_shared_memory_are_shared() -> None:
    found = counters("generic", 32, 1, aligned(64), np.int32(1))
    assert found["shared_requests"] >= 2  # the store, and the load through a pointer that may be either
    assert found["global_read_sectors"] == 0
    assert counters("generic", 32, 1, aligned(64), np.int32(0))["global_read_sectors"] == 4


def test_reuse_is_counted_by_its_distance() -> None:
    """Each of four warps reads its 32 of the 128 sectors of a row, then reads them again."""
    found = counters("twice", THREADS, 2, aligned(2048), aligned(2048), np.int32(1024))
    assert found["warp_read_sectors"] == found["block_read_sectors"] == 2 * 128
    assert found["reuse_within_16"] == 0
    assert found["reuse_within_64"] == 2 * 128


def test_the_same_launch_has_the_same_counters() -> None:
    arguments = (aligned(4096), aligned(512), np.int32(512), np.int32(8))
    assert counters("gather", THREADS, 4, *arguments) == counters("gather", THREADS, 4, *arguments)
