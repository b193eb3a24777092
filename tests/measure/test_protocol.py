"""The measuring protocol over a simulated GPU: honest kernels get their time, everything else gets a finding."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from kernelevo.measure.physics import Card
from kernelevo.measure.protocol import Arm, CaseMeasurement, Plan, measure_case, time_alone
from kernelevo.measure.statistics import Result
from kernelevo.records import Case, Purpose

from .simulated_gpu import L2_BYTES, SimulatedGpu, SimulatedKernel, SimulatedSession

CASE = Case(
    name="n=4096", sizes={"n": 4096}, dtype="float32", distribution="normal", initialisation="normal", seed=0,
    purpose=Purpose.BENCH,
)  # fmt: skip
N = 4096
OUTPUT_BYTES = 4 * N
PLAN = Plan(blocks=20, calls=2, other_blocks=2, window_ns=1e6, slope_ns=2e6, slope_calls=40, slope_repeats=1)
CARD = Card(l2_bytes=None, memory_bytes_per_second=6e9)


def gpu(**settings: object) -> SimulatedGpu:
    return SimulatedGpu(np.random.default_rng(5), **{"noise": 0.005, **settings})


def check(inputs: Sequence[torch.Tensor], outputs: Sequence[torch.Tensor]) -> str | None:
    return None if torch.equal(outputs[0], 2 * inputs[0]) else "not twice its input"


def arm(device: SimulatedGpu, name: str, entry: Callable[..., torch.Tensor]) -> Arm:
    return Arm(name=name, session=SimulatedSession(device, entry), check=check, own_kernels=name != "eager")


def sets() -> list[list[torch.Tensor]]:
    generator = torch.Generator().manual_seed(3)
    return [[torch.randn(N, generator=generator)] for _ in range(3)]


def measure(
    device: SimulatedGpu, candidate: Callable[..., torch.Tensor], *, baseline_ns: float = 100_000, plan: Plan = PLAN
) -> CaseMeasurement | str:
    arms = [arm(device, "candidate", candidate), arm(device, "eager", SimulatedKernel(device, baseline_ns))]
    return measure_case(
        arms, CASE, sets(), plan=plan, rng=np.random.default_rng(11), clocks=device, card=CARD,
        output_bytes=OUTPUT_BYTES,
    )  # fmt: skip


def measured(result: CaseMeasurement | str) -> CaseMeasurement:
    assert isinstance(result, CaseMeasurement), result
    return result


def kinds(result: CaseMeasurement | str) -> list[str]:
    return [finding.kind for finding in measured(result).findings]


def test_an_honest_kernel_gets_its_time_cold_warm_and_in_graphs() -> None:
    device = gpu()
    found = measured(measure(device, SimulatedKernel(device, 50_000)))
    times = found.arms["candidate"]
    assert found.findings == ()
    assert times.cold.median == pytest.approx(50_000, rel=0.03)
    assert times.warm is not None
    assert times.warm.median == pytest.approx(0.6 * 50_000, rel=0.1)
    assert times.graph is not None
    assert times.graph.median == pytest.approx(0.6 * 50_000, rel=0.1)
    assert times.slope_ns == pytest.approx(0.6 * 50_000, rel=0.1)
    assert times.host_ns == pytest.approx(device.call_ns, rel=0.1)
    assert found.ratios["eager"].result is Result.FASTER
    assert found.ratios["eager"].interval.median == pytest.approx(0.5, rel=0.02)


def test_blocks_hold_every_arm_once_in_changing_order_and_all_samples_are_kept() -> None:
    device = gpu()
    found = measured(measure(device, SimulatedKernel(device, 50_000)))
    assert len(found.blocks) == PLAN.blocks
    assert {block.order for block in found.blocks} == {("candidate", "eager"), ("eager", "candidate")}
    assert all(len(samples) == PLAN.calls for block in found.blocks for samples in block.samples_ns.values())
    assert all(reading is not None for block in found.blocks for reading in block.readings.values())


def test_drift_over_the_run_does_not_change_the_verdict() -> None:
    device = gpu(drift=10.0)
    found = measured(measure(device, SimulatedKernel(device, 96_000)))
    assert found.ratios["eager"].result is Result.FASTER
    assert found.ratios["eager"].interval.median == pytest.approx(0.96, rel=0.01)


def test_a_pair_of_the_same_kernel_is_equal() -> None:
    device = gpu()
    found = measured(measure(device, SimulatedKernel(device, 100_000)))
    assert (found.ratios["eager"].result, found.ratios["eager"].equal) == (Result.AMBIGUOUS, True)
    assert len(found.blocks) == PLAN.blocks  # what is equal is not looked at again


def test_what_stays_ambiguous_is_doubled_at_most_twice() -> None:
    device = gpu(noise=0.2)
    found = measured(measure(device, SimulatedKernel(device, 101_000)))
    assert found.ratios["eager"].result is Result.AMBIGUOUS
    assert (found.ratios["eager"].round, len(found.blocks)) == (3, 4 * PLAN.blocks)


def test_the_warm_up_goes_on_until_the_clock_has_risen() -> None:
    cold, warm = gpu(cold_start_ns=3e6), gpu()
    slow = measured(measure(cold, SimulatedKernel(cold, 50_000)))
    fast = measured(measure(warm, SimulatedKernel(warm, 50_000)))
    assert slow.steady
    assert slow.warm_up_windows > fast.warm_up_windows >= 3
    assert slow.arms["candidate"].cold.median == pytest.approx(50_000, rel=0.03)


def test_throttled_blocks_are_dropped() -> None:
    device = gpu()
    device.throttled = lambda now: 20e6 < now < 22e6
    found = measured(measure(device, SimulatedKernel(device, 50_000), plan=replace(PLAN, blocks=60)))
    assert 0 < len(found.dropped.blocks) <= 12
    assert set(found.dropped.reasons) == {"throttled: thermal, hardware"}
    assert found.arms["candidate"].cold.median == pytest.approx(50_000, rel=0.03)


def test_a_run_that_is_throttled_most_of_the_time_is_invalid() -> None:
    device = gpu(throttled=lambda now: True)
    result = measure(device, SimulatedKernel(device, 50_000))
    assert isinstance(result, str)
    assert result.startswith("invalid: 20 of 20 blocks are spoiled by the card's state (throttled: thermal, hardware)")


def test_work_on_a_side_stream_that_is_known_is_inside_the_window() -> None:
    device = gpu()
    found = measured(measure(device, SimulatedKernel(device, 50_000, stream=1)))
    assert found.findings == ()
    assert found.arms["candidate"].cold.median == pytest.approx(50_000, rel=0.2)


def test_work_on_a_stream_that_nobody_knows_is_found_behind_the_window() -> None:
    device = gpu()
    assert "work outside the window" in kinds(measure(device, SimulatedKernel(device, 300_000, stream=-1)))


def test_events_that_show_less_than_the_truth_are_found_by_the_parents_clock() -> None:
    device = gpu(event_share=0.1)
    found = measured(measure(device, SimulatedKernel(device, 300_000)))
    assert [finding.kind for finding in found.findings] == ["clocks disagree"]
    assert "work is hidden from the events" in found.findings[0].text


def test_events_that_add_up_to_more_than_the_parents_clock_are_found() -> None:
    device = gpu(event_share=100.0)
    assert "clocks disagree" in kinds(measure(device, SimulatedKernel(device, 300_000)))


def test_a_slow_host_is_no_cheat() -> None:
    device = gpu(call_ns=60_000)
    found = measured(measure(device, SimulatedKernel(device, 5_000)))
    assert found.findings == ()
    assert found.arms["candidate"].host_ns == pytest.approx(60_000, rel=0.1)


def test_a_time_below_what_memory_allows_is_a_finding() -> None:
    device = gpu()
    floor_ns = 0.95 * 4 * N / CARD.memory_bytes_per_second * 1e9
    assert 2_000 < floor_ns < 3_000
    assert kinds(measure(device, SimulatedKernel(device, 1_500))) == ["faster than the hardware"]


class AnswersOnce:
    """Keeps the answer of the first call, by the pointer of its input."""

    def __init__(self, device: SimulatedGpu) -> None:
        self._device = device
        self._answers: dict[int, torch.Tensor] = {}

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        self._device.now += self._device.call_ns
        self._device.launch(50_000)
        return self._answers.setdefault(x.data_ptr(), 2 * x)


class LooksAtThree(AnswersOnce):
    """Keeps answers by a fingerprint of three elements."""

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        self._device.now += self._device.call_ns
        self._device.launch(50_000)
        return self._answers.setdefault(hash(tuple(x[[0, N // 2, N - 1]].tolist())), 2 * x)


class RightTenTimes(AnswersOnce):
    """Right for ten calls, then not."""

    calls = 0

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        self._device.now += self._device.call_ns
        self._device.launch(50_000)
        return 2 * x if self.calls <= 10 else x


@pytest.mark.parametrize("cheat", [AnswersOnce, LooksAtThree, RightTenTimes])
def test_an_answer_that_is_not_computed_from_its_input_is_found_in_a_timed_call(
    cheat: Callable[[SimulatedGpu], Callable[..., torch.Tensor]],
) -> None:
    device = gpu()
    assert kinds(measure(device, cheat(device))) == ["wrong when timed"]


def test_a_kernel_that_fails_when_timed_is_named() -> None:
    device = gpu(fails=True)
    result = measure(device, SimulatedKernel(device, 50_000))
    assert result == "candidate crashed in prepare calls: CUDA error: an illegal memory access was encountered"


def test_a_call_that_cannot_be_captured_has_no_graph_time_and_says_why() -> None:
    device = gpu()

    def entry(x: torch.Tensor) -> torch.Tensor:
        if device.capturing is not None:
            raise RuntimeError("operation not permitted when stream is capturing")
        return SimulatedKernel(device, 50_000)(x)

    found = measured(measure(device, entry))
    assert found.findings == ()
    assert found.arms["candidate"].graph is None
    assert "not permitted when stream is capturing" in found.arms["candidate"].notes[0]


def test_inputs_rotate_through_more_than_twice_the_l2() -> None:
    device = gpu()
    seen: set[int] = set()

    def entry(x: torch.Tensor) -> torch.Tensor:
        seen.add(x.data_ptr())
        return SimulatedKernel(device, 50_000)(x)

    measure(device, entry)
    assert len(seen) * 4 * N >= 2 * L2_BYTES


def test_a_baseline_that_is_wrong_ends_the_measurement() -> None:
    device = gpu()
    arms = [
        arm(device, "candidate", SimulatedKernel(device, 50_000)),
        arm(device, "eager", SimulatedKernel(device, 50_000, answer=lambda x: x)),
    ]
    result = measure_case(
        arms, CASE, sets(), plan=PLAN, rng=np.random.default_rng(1), clocks=None, card=CARD, output_bytes=OUTPUT_BYTES
    )
    assert isinstance(result, str)
    assert result.startswith("eager is wrong in cold call")


def test_one_arm_alone_has_a_time() -> None:
    device = gpu()
    alone = arm(device, "eager", SimulatedKernel(device, 70_000))
    assert time_alone(alone, sets(), plan=PLAN, rng=np.random.default_rng(1)) == pytest.approx(70_000, rel=0.03)
