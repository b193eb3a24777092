"""What is read of a card through NVML, which blocks its state spoils, and who may time on it."""

from __future__ import annotations

import multiprocessing
import subprocess
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest

from kernelevo.devices.nvml import Nvml, Reading
from kernelevo.errors import ToolchainError, WorkerError
from kernelevo.measure.clocks import dropped
from kernelevo.measure.lease import lease
from kernelevo.measure.physics import Card, floor_ns


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> str:
    """libnvidia-ml, made of constants."""
    made = tmp_path_factory.mktemp("nvml") / "libnvidia-ml.so.1"
    source = Path(__file__).parent / "nvml_stand_in.cpp"
    subprocess.run(["g++", "-shared", "-fPIC", str(source), "-o", str(made)], check=True)
    return str(made)


def test_facts_and_state_are_read_in_the_units_they_are_named_in(library: str) -> None:
    with Nvml(library=library) as card:
        facts = card.facts()
        assert (facts.name, facts.uuid, facts.driver) == ("Test Card", "GPU-1234", "580.1")
        assert facts.compute_capability == (9, 0)
        assert facts.memory_bytes_per_second == pytest.approx(3.352e12, rel=0.001)
        assert card.read() == Reading(
            sm_mhz=1755.0,
            memory_mhz=2619.0,
            temperature_c=61.0,
            power_watts=None,  # the card does not say
            throttle=("power cap", "thermal, software"),  # idle is no throttling
        )


def test_a_card_is_found_by_its_uuid_and_another_is_not(library: str) -> None:
    with Nvml(uuid="GPU-1234", library=library) as card:
        assert card.facts().name == "Test Card"
    with pytest.raises(ToolchainError, match=r"nvmlDeviceGetHandleByUUID failed: NVML error 6 \(Not Found\)"):
        Nvml(uuid="GPU-other", library=library)


def test_no_nvml_is_an_error_that_says_so(tmp_path: Path) -> None:
    with pytest.raises(ToolchainError, match="cannot be loaded"):
        Nvml(library=str(tmp_path / "libnvidia-ml.so.1"))


def reading(sm_mhz: float | None = 1980.0, throttle: tuple[str, ...] = ()) -> Reading:
    return Reading(sm_mhz=sm_mhz, memory_mhz=None, temperature_c=None, power_watts=None, throttle=throttle)


def test_blocks_are_dropped_for_a_throttle_reason_or_a_low_clock() -> None:
    blocks = [[reading(), reading()] for _ in range(10)]
    blocks[3] = [reading(), reading(throttle=("thermal, hardware",))]
    blocks[7] = [reading(), reading(sm_mhz=1500.0)]
    found = dropped(blocks)
    assert (found.blocks, found.invalid) == ((3, 7), False)
    assert found.reasons == ("throttled: thermal, hardware", "clock fell to 1500 MHz")


def test_more_than_a_fifth_dropped_is_an_invalid_run() -> None:
    good, bad = [reading()], [reading(throttle=("power brake",))]
    assert not dropped([good] * 8 + [bad] * 2).invalid
    assert dropped([good] * 7 + [bad] * 3).invalid


def test_the_power_cap_spoils_a_block_only_where_it_met_some_of_the_arms() -> None:
    capped = reading(throttle=("power cap",))
    assert dropped([[capped, capped]] * 10).blocks == ()
    assert dropped([[capped, capped]] * 9 + [[capped, reading()]]).blocks == (9,)


def test_without_readings_nothing_is_dropped() -> None:
    assert dropped([[], []]).blocks == ()


def hold(uuid: str, folder: Path, held: Event, release: Event) -> None:
    with lease(uuid, folder=folder, wait_seconds=5):
        held.set()
        release.wait(30)


def test_one_process_at_a_time_has_the_lease_of_a_gpu(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    held, release = context.Event(), context.Event()
    other = context.Process(target=hold, args=("GPU-1", tmp_path, held, release))
    other.start()
    assert held.wait(30)
    with (
        pytest.raises(WorkerError, match="GPU-1 is being timed by another process"),
        lease("GPU-1", folder=tmp_path, wait_seconds=0),
    ):
        pass
    with lease("GPU-2", folder=tmp_path, wait_seconds=0):
        pass
    other.kill()  # however a process ends, its lease ends with it
    other.join()
    with lease("GPU-1", folder=tmp_path, wait_seconds=5):
        pass


def test_the_floor_counts_cold_reads_and_writes_that_the_l2_cannot_hold() -> None:
    card = Card(l2_bytes=50 << 20, memory_bytes_per_second=1e12)
    million = 1_000_000
    assert floor_ns(card, read_bytes=100 * million, written_bytes=0, cold=True) == pytest.approx(95_000)
    assert floor_ns(card, read_bytes=10 * million, written_bytes=0, cold=False) == pytest.approx(0.95 * 800)
    assert floor_ns(card, read_bytes=0, written_bytes=10 * million, cold=True) == pytest.approx(0.95 * 800)
    unknown = Card(l2_bytes=None, memory_bytes_per_second=None)
    assert floor_ns(unknown, read_bytes=1 << 40, written_bytes=1 << 40, cold=True) == pytest.approx(0.95 * 800)
    compute = Card(l2_bytes=None, memory_bytes_per_second=None, flops_per_second=1e12)
    assert floor_ns(compute, read_bytes=0, written_bytes=0, flops=1e9, cold=True) == pytest.approx(950_000)
