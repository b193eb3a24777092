"""Measuring itself, on a GPU: a known kernel takes the time that physics says, equal kernels are equal, cheats show."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

import numpy as np
import pytest
import torch
from results import Built, Record

from kernelevo.devices import TimedSession
from kernelevo.devices.cuda import CudaDevice
from kernelevo.measure.lease import lease
from kernelevo.measure.physics import Card
from kernelevo.measure.protocol import Arm, CaseMeasurement, Plan, measure_case
from kernelevo.measure.statistics import Result
from kernelevo.records import Case, Purpose

pytestmark = [pytest.mark.gpu, pytest.mark.nvcc, pytest.mark.timeout(200)]

ELEMENTS = 32 << 20  # 128 MiB in, as much out: more than any L2
PLAN = Plan(blocks=12, calls=4, slope_calls=200)


def case(elements: int) -> Case:
    return Case(
        name=f"n={elements}", sizes={"n": elements}, dtype="float32", distribution="normal", initialisation="normal",
        seed=0, purpose=Purpose.BENCH,
    )  # fmt: skip


def is_a_copy(inputs: Sequence[torch.Tensor], outputs: Sequence[torch.Tensor]) -> str | None:
    return None if torch.equal(inputs[0], outputs[0]) else "not a copy of its input"


def arm(name: str, session: TimedSession) -> Arm:
    return Arm(name=name, session=session, check=is_a_copy, own_kernels=True)


def measured(cuda: CudaDevice, built: Built, kernels: Sequence[str], elements: int) -> CaseMeasurement | str:
    """The first kernel against the others, each in a worker of its own."""
    sets = [[torch.randn(elements)] for _ in range(3)]
    with ExitStack() as stack:
        stack.enter_context(lease(cuda.uuid))
        arms = []
        for number, kernel in enumerate(kernels):
            session = cuda.open_timed(built(kernel), entry="forward", timeout_seconds=60, memory_bytes=8 << 30)
            arms.append(arm(f"{number} {kernel}", stack.enter_context(session)))
        return measure_case(
            arms, case(elements), sets, plan=PLAN, rng=np.random.default_rng(1), clocks=cuda.clocks(),
            card=Card(l2_bytes=None, memory_bytes_per_second=cuda.memory_bytes_per_second()),
            output_bytes=4 * elements,
        )  # fmt: skip


def test_a_copy_takes_the_time_of_its_bytes(cuda: CudaDevice, built: Built, record: Record) -> None:
    found = measured(cuda, built, ["copy", "copy_twice"], ELEMENTS)
    assert isinstance(found, CaseMeasurement), found
    times = found.arms["0 copy"]
    peak = cuda.memory_bytes_per_second()
    bandwidth = 2 * 4 * ELEMENTS / times.cold.median * 1e9
    record("copy of 128 MiB: cold, ns", times.cold.median)
    record("copy of 128 MiB: interval, ns", [times.cold.low, times.cold.high])
    record("copy of 128 MiB: warm, ns", times.warm.median if times.warm else None)
    record("copy of 128 MiB: graph, ns", times.graph.median if times.graph else times.notes)
    record("copy of 128 MiB: slope by the parent's clock, ns", times.slope_ns)
    record("copy of 128 MiB: host, ns", times.host_ns)
    record("copy of 128 MiB: bytes per second", bandwidth)
    record("copy of 128 MiB: findings", [f"{f.kind}: {f.text}" for f in found.findings])
    record("copy of 128 MiB: samples, ns", [list(block.samples_ns["0 copy"]) for block in found.blocks])
    record("theoretical bytes per second", peak)
    assert found.findings == ()
    assert peak is None or 0.5 * peak < bandwidth < peak
    ratio = found.ratios["1 copy_twice"]
    record("copy over copy_twice", [ratio.interval.low, ratio.interval.median, ratio.interval.high])
    assert ratio.result is Result.FASTER
    assert 0.35 < ratio.interval.median < 0.75


@pytest.mark.parametrize("elements", [1 << 20, ELEMENTS])
def test_a_pair_of_the_same_kernel_is_not_told_apart(
    cuda: CudaDevice, built: Built, record: Record, elements: int
) -> None:
    found = measured(cuda, built, ["copy", "copy"], elements)
    assert isinstance(found, CaseMeasurement), found
    ratio = found.ratios["1 copy"]
    record(f"A/A pair, {elements} elements", [ratio.interval.low, ratio.interval.median, ratio.interval.high])
    record(f"A/A pair, {elements} elements: blocks and rounds", [ratio.blocks, ratio.round])
    assert ratio.result is Result.AMBIGUOUS
    assert abs(ratio.interval.median - 1) < 0.01


def test_work_that_nothing_waits_for_is_inside_the_window_all_the_same(
    cuda: CudaDevice, built: Built, record: Record
) -> None:
    """Its outputs are late, so it is no kernel to keep; but its time is that of its work."""
    found = measured(cuda, built, ["unjoined_work", "copy_twice"], ELEMENTS)
    assert isinstance(found, CaseMeasurement), found
    ratio = found.ratios["1 copy_twice"].interval.median
    record("unjoined copy over copy_twice", ratio)
    record("unjoined copy: findings", [f"{f.kind}: {f.text}" for f in found.findings])
    assert 0.3 < ratio < 0.9


def test_the_state_of_the_card_is_read_in_every_block(cuda: CudaDevice, record: Record) -> None:
    clocks = cuda.clocks()
    assert clocks is not None
    reading = clocks.read()
    record("reading of the card", str(reading))
    assert reading.sm_mhz is not None
    assert reading.temperature_c is not None
