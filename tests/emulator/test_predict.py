"""Occupancy against the published calculator's rules, and a prediction that moves the way hardware does."""

from __future__ import annotations

from collections import defaultdict

import pytest

from kernelevo.emulator.predict import Resources, load_gpu, occupancy, predict

GPU = load_gpu("h100_sxm")
COPY = {
    "warps": 65536 * 8,
    "warp_instructions": 65536 * 8 * 20,
    "thread_instructions": 65536 * 8 * 20 * 32,
    "global_requests": 65536 * 8 * 2,
    "global_sectors": 65536 * 8 * 8,
    "global_read_sectors": 65536 * 8 * 4,
    "global_write_sectors": 65536 * 8 * 4,
    "global_lanes": 65536 * 256 * 2,
    "global_bytes": 65536 * 256 * 8,
    "block_read_sectors": 65536 * 8 * 4,
    "warp_read_sectors": 65536 * 8 * 4,
    "unique_read_bytes": 65536 * 256 * 4,
    "unique_write_bytes": 65536 * 256 * 4,
    "path_load": 65536 * 8,
    "path_arithmetic": 65536 * 8 * 8,
}  # y[i] = x[i], one float per thread, 16.8 million of them


def copy_with(**changes: float) -> float:
    counters = defaultdict(float, COPY)
    for name, factor in changes.items():
        counters[name] *= factor
    return predict(
        GPU, counters, grid=(65536, 1, 1), block=(256, 1, 1), resources=Resources(registers=16, shared_bytes=0)
    ).seconds


@pytest.mark.parametrize(
    ("threads", "registers", "shared_bytes", "blocks", "limit"),
    [
        (256, 32, 0, 8, "threads"),  # 2048 / 256
        (256, 64, 0, 4, "registers"),  # 65536 / (64 x 256)
        (256, 65, 0, 3, "registers"),  # 65 registers round to 72 x 32 = 2304 per warp: 7 in each of 4 partitions
        (1024, 32, 0, 2, "threads"),  # registers allow 2 as well; a full multiprocessor is limited by threads
        (32, 16, 0, 32, "blocks"),
        (128, 32, 100 * 1024, 2, "shared memory"),  # 228 / (100 + 1)
        (96, 16, 0, 21, "threads"),  # 2048 / 96
        (224, 96, 0, 2, "registers"),  # 20 warps in the whole register file, 5 in each partition: 20 / 7
        (96, 40, 0, 16, "registers"),  # 12 warps in each partition: 48 / 3
    ],
)
def test_occupancy_follows_the_rules_of_the_calculator(
    threads: int, registers: int, shared_bytes: int, blocks: int, limit: str
) -> None:
    held = occupancy(GPU, threads=threads, resources=Resources(registers=registers, shared_bytes=shared_bytes))
    assert (held.blocks, held.limit) == (blocks, limit)


def test_a_copy_is_bound_by_dram_and_takes_no_less_than_its_bytes() -> None:
    prediction = predict(
        GPU, COPY, grid=(65536, 1, 1), block=(256, 1, 1), resources=Resources(registers=16, shared_bytes=0)
    )
    assert prediction.binding == "dram"
    assert prediction.seconds > 65536 * 256 * 8 / 3.35e12
    assert prediction.seconds < 2 * 65536 * 256 * 8 / 3.35e12
    assert prediction.low_seconds < prediction.seconds < prediction.high_seconds


def test_more_of_anything_never_takes_less_time() -> None:
    base = copy_with()
    for name in COPY:
        if name in ("warps", "thread_instructions", "global_lanes", "global_bytes", "warp_read_sectors"):
            continue
        changed = {name: 2.0}
        if name == "global_read_sectors":  # alone it would mean more hits, and a shorter wait
            changed |= {"block_read_sectors": 2.0, "warp_read_sectors": 2.0}
        assert copy_with(**changed) >= base, name


def test_unused_bytes_of_sectors_are_named() -> None:
    counters = {name: value * (8 if "sectors" in name else 1) for name, value in COPY.items()}
    counters["unique_read_bytes"] *= 8
    assert counters["warp_read_sectors"] == counters["block_read_sectors"]
    words = predict(
        GPU, counters, grid=(65536, 1, 1), block=(256, 1, 1), resources=Resources(registers=16, shared_bytes=0)
    ).words
    assert "88% of the bytes in its global sectors are unused" in words


def test_a_grid_smaller_than_the_machine_is_named() -> None:
    counters = {name: value / 65536 * 4 for name, value in COPY.items()}
    prediction = predict(
        GPU, counters, grid=(4, 1, 1), block=(256, 1, 1), resources=Resources(registers=16, shared_bytes=0)
    )
    assert "only 4 blocks for 132 multiprocessors" in prediction.words
