"""Whole measurements of a task on a simulated device: baselines, comparisons, records, and what makes them refuse."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kernelevo.measure import measure
from kernelevo.measure.measured import BASELINES, Measurement, measure_task, same_twice
from kernelevo.measure.protocol import CaseMeasurement, Plan
from kernelevo.measure.statistics import Result
from kernelevo.records import Build, BuildMethod, Case, Purpose, Task, TimingKind

from .simulated_gpu import SimulatedGpu, SimulatedKernel, SimulatedSession

N = 4096
PLAN = Plan(blocks=12, calls=2, other_blocks=2, window_ns=1e6, slope_ns=2e6, slope_calls=40, slope_repeats=1)
BENCH = Case(
    name="n=4096", sizes={"n": N}, dtype="float32", distribution="normal", initialisation="normal", seed=0,
    purpose=Purpose.BENCH,
)  # fmt: skip
BUILD = Build(
    candidate="c-1", target="sm_90", method=BuildMethod.SPLIT, fallback_reason=None, flags=(), compiler="",
    artifact=Path("c.so"), ptx=None, resources=(), diagnostics=(), cached=False, seconds=0.0,
)  # fmt: skip


def task(*cases: Case) -> Task:
    return Task(
        name="double", title="", description="", signature="", entry="forward", dtypes=("float32",), cases=cases,
        hidden_sizes={}, distributions=("normal",), initialisations=("normal",), tolerance_factor=4.0,
        library_calls="allow", reference=lambda x: 2 * x,
        inputs=lambda case, generator: (torch.randn(case.sizes["n"], generator=generator),), compare=None,
        seed_source=None, hints=(), folder=Path("."), digest="",
    )  # fmt: skip


class LeavesAKernelRunning(SimulatedKernel):
    """Slows the GPU down for everybody once it has been timed cold and warm."""

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        if self.gpu.capturing is not None:
            self.gpu.throttled = lambda now: True
        return super().__call__(x)


class SimulatedDevice:
    """A TimedDevice whose candidate and baselines are simulated kernels on one simulated GPU."""

    name = "simulated"
    timing_kind = TimingKind.MEASURED
    timing_target = "Simulated"
    timing_method = "measurement 1"
    tf32 = False

    def __init__(self, uuid: str, candidate_ns: float, **baselines_ns: float | None) -> None:
        self.uuid = uuid
        self.gpu = SimulatedGpu(np.random.default_rng(5), noise=0.005)
        self._times: dict[str, float | None] = {"candidate": candidate_ns, **baselines_ns}
        self.opened: list[str] = []
        self.candidate = SimulatedKernel
        self.reads_clocks = True

    @contextmanager
    def _open(self, name: str) -> Iterator[SimulatedSession]:
        self.opened.append(name)
        nanoseconds = self._times[name]

        def refuses(x: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("no compiler")

        kind = self.candidate if name == "candidate" else SimulatedKernel
        yield SimulatedSession(self.gpu, refuses if nanoseconds is None else kind(self.gpu, nanoseconds))

    def open_timed(self, build: Build, **limits: Any) -> Any:
        return self._open("candidate")

    def open_baseline(self, task: Task, *, baseline: str, **limits: Any) -> Any:
        return self._open("autotuned" if baseline == BASELINES[2] else baseline)

    def clocks(self) -> SimulatedGpu | None:
        return self.gpu if self.reads_clocks else None

    def memory_bytes_per_second(self) -> float:
        return 1e12


def accepts(case: Case, inputs: Sequence[Any], outputs: Sequence[torch.Tensor]) -> str | None:
    return None if torch.equal(outputs[0], 2 * inputs[0]) else "wrong"


def run(device: SimulatedDevice, *cases: Case) -> Measurement | str:
    return measure_task(
        task(*cases), BUILD, device, timeout_seconds=10, memory_bytes=1 << 30, output_bytes=lambda case: 4 * N,
        accepts=accepts, plan=PLAN, rng=np.random.default_rng(4),
    )  # fmt: skip


def device(tmp_path: Path, candidate_ns: float, **baselines_ns: float | None) -> SimulatedDevice:
    return SimulatedDevice(f"GPU-{tmp_path.name}", candidate_ns, **baselines_ns)


def test_speedup_is_against_the_fastest_baseline_with_an_interval(tmp_path: Path) -> None:
    found = run(device(tmp_path, 50_000, eager=120_000, compiled=80_000, autotuned=None), BENCH)
    assert isinstance(found, Measurement), found
    (comparison,) = found.comparisons
    assert comparison.fastest == "compiled"
    assert comparison.ratio.result is Result.FASTER
    assert found.speedup.low <= found.speedup.median <= found.speedup.high
    assert found.speedup.median == pytest.approx(1.6, rel=0.02)
    eager, compiled, autotuned = comparison.baselines
    assert eager.before_ns == pytest.approx(120_000, rel=0.03)
    assert eager.after_ns is None
    assert compiled.after_ns == pytest.approx(80_000, rel=0.03)
    assert autotuned.before_ns is None
    assert autotuned.reason == "compiled, max-autotune-no-cudagraphs crashed in prepare calls: no compiler"


def test_the_record_is_measured_and_holds_raw_samples_and_what_else_is_known(tmp_path: Path) -> None:
    found = run(device(tmp_path, 50_000, eager=120_000, compiled=80_000, autotuned=90_000), BENCH)
    assert isinstance(found, Measurement), found
    timing = found.timing
    assert (timing.kind, timing.device, timing.method) == (TimingKind.MEASURED, "simulated", "measurement 1")
    (case,) = timing.cases
    assert len(case.samples_ns) == PLAN.blocks * PLAN.calls
    assert case.low_ns <= case.median_ns <= case.high_ns
    assert case.median_ns == pytest.approx(50_000, rel=0.03)
    assert {"warm_ns", "graph_ns", "slope_ns", "host_ns", "floor_ns", "sm_mhz", "blocks"} <= set(case.counters)


def test_several_cases_have_a_geometric_mean(tmp_path: Path) -> None:
    other = replace(BENCH, name="another", seed=1)
    found = run(device(tmp_path, 50_000, eager=100_000, compiled=100_000, autotuned=100_000), BENCH, other)
    assert isinstance(found, Measurement), found
    assert len(found.comparisons) == 2
    assert found.speedup.median == pytest.approx(2.0, rel=0.02)


def test_a_baseline_that_got_slower_while_the_candidate_ran_makes_the_run_invalid(tmp_path: Path) -> None:
    sabotaged = device(tmp_path, 50_000, eager=100_000, compiled=120_000, autotuned=120_000)
    sabotaged.candidate = LeavesAKernelRunning
    sabotaged.reads_clocks = False
    found = run(sabotaged, BENCH)
    assert isinstance(found, str)
    assert "invalid: the baseline eager took" in found


def test_no_baseline_at_all_is_no_measurement(tmp_path: Path) -> None:
    found = run(device(tmp_path, 50_000, eager=None, compiled=None, autotuned=None), BENCH)
    assert isinstance(found, str)
    assert found.startswith("n=4096: no baseline could be timed: eager: eager crashed in prepare calls: no compiler")


def test_findings_leave_no_time_but_their_words(tmp_path: Path) -> None:
    lying = device(tmp_path, 400_000, eager=1_200_000, compiled=800_000, autotuned=900_000)
    lying.gpu.event_share = 0.05
    found = run(lying, BENCH)
    assert isinstance(found, str)
    assert "no time: clocks disagree" in found


def test_a_pair_of_one_build_is_equal_on_a_quiet_machine(tmp_path: Path) -> None:
    quiet = device(tmp_path, 50_000)
    found = same_twice(
        task(BENCH), BUILD, quiet, BENCH, timeout_seconds=10, memory_bytes=1 << 30, output_bytes=4 * N,
        accepts=accepts, plan=PLAN, rng=np.random.default_rng(2),
    )  # fmt: skip
    assert isinstance(found, CaseMeasurement), found
    assert quiet.opened == ["candidate", "candidate"]
    assert found.ratios["again"].equal


def test_a_task_that_writes_in_place_is_not_measured(tmp_path: Path) -> None:
    def in_place(x: torch.Tensor) -> None:
        x.mul_(2)

    in_place.mutates = (0,)  # type: ignore[attr-defined]
    found = measure_task(
        replace(task(BENCH), reference=in_place), BUILD, device(tmp_path, 1.0), timeout_seconds=10,
        memory_bytes=1 << 30, output_bytes=lambda case: 4 * N, accepts=accepts,
    )  # fmt: skip
    assert found == "not measured yet: the task writes in place, so calls would feed on each other"


def test_unchecked_calls_are_not_timed(tmp_path: Path) -> None:
    found = measure(
        task(BENCH), BUILD, device(tmp_path, 1.0), timeout_seconds=1, memory_bytes=1, output_bytes=lambda case: 1
    )  # type: ignore[arg-type]
    assert found == "outputs of timed calls would not be checked, and unchecked times are not taken"
