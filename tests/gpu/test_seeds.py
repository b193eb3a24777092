"""The eight tasks' own kernels on a GPU: verified, alike to the emulator's outputs, and timed beside their predictions.

What the emulator gives was recorded with record_emulator.py on a machine with a CPU build of torch, since one process
has one torch; it is compared here, never recomputed.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from recorded import CASES_OF_A_TASK, TASKS, cases_to_compare
from results import Built, Record

from kernelevo.devices.cuda import CudaDevice
from kernelevo.measure.measured import BASELINES, Measurement, measure_task
from kernelevo.measure.protocol import Plan
from kernelevo.records import Outcome, Purpose
from kernelevo.tasks import load_task
from kernelevo.verify import oracle_of, verify
from kernelevo.verify.timed import accepts_outputs

pytestmark = [pytest.mark.gpu, pytest.mark.nvcc, pytest.mark.timeout(300)]

HERE = Path(__file__).parent
PLAN = Plan(blocks=10, calls=3, other_blocks=2, slope_calls=200, slope_repeats=1, warm_up_windows=15)
_measured_ns: dict[str, float] = {}  # "task, case" -> cold median, for the last test


@pytest.mark.parametrize("name", TASKS)
def test_a_seed_is_right(name: str, cuda: CudaDevice, built: Built) -> None:
    task = load_task(name)
    cases = [case for case in task.cases if case.purpose is Purpose.TEST]
    verdict = verify(task, built(name), cuda, cases=cases, entropy=2025, timeout_seconds=30.0, memory_bytes=4 << 30)
    assert verdict.outcome is Outcome.PASSED, verdict.reason


@pytest.mark.parametrize("name", TASKS)
def test_a_seed_gives_what_it_gives_on_the_emulator(name: str, cuda: CudaDevice, built: Built, record: Record) -> None:
    task = load_task(name)
    recorded = np.load(HERE / "emulator_outputs.npz")
    worst = 0.0
    with cuda.open(built(name), entry=task.entry, timeout_seconds=30, memory_bytes=4 << 30) as session:
        for case in cases_to_compare(task):
            call = session.call(task.inputs(case, torch.Generator().manual_seed(case.seed)))
            assert call.outcome is Outcome.PASSED, call.reason
            for number, output in enumerate(call.outputs):
                emulated = torch.from_numpy(recorded[f"{name}, {case.name}, {number}"]).double()
                scale = emulated.abs().max().clamp(min=1e-30)
                worst = max(worst, float((output.double() - emulated).abs().max() / scale))
    record(f"{name}: largest difference between GPU and emulator, relative to the largest output", worst)
    assert len(cases_to_compare(task)) == CASES_OF_A_TASK
    assert worst < 1e-4


@pytest.mark.parametrize("name", TASKS)
def test_a_seed_is_timed_against_its_baselines(name: str, cuda: CudaDevice, built: Built, record: Record) -> None:
    task = load_task(name)
    oracle = oracle_of(task)
    found = measure_task(
        task,
        built(name),
        cuda,
        timeout_seconds=60,
        memory_bytes=16 << 30,
        output_bytes=lambda case: sum(output.nbytes for output in oracle.expected(case).reference),
        accepts=accepts_outputs(task),
        plan=PLAN,
        rng=np.random.default_rng(1),
        baselines=BASELINES if name == "rmsnorm" else ("eager",),  # compiling takes most of a minute each
    )
    record(f"{name}: measurement", found if isinstance(found, str) else "taken")
    assert isinstance(found, Measurement), found
    for timing, comparison in zip(found.timing.cases, found.comparisons, strict=True):
        _measured_ns[f"{name}, {timing.case.name}"] = timing.median_ns
        record(f"{name}, {timing.case.name}: cold, ns", [timing.low_ns, timing.median_ns, timing.high_ns])
        record(f"{name}, {timing.case.name}: more", dict(timing.counters))
        record(
            f"{name}, {timing.case.name}: baselines, ns",
            {baseline.name: baseline.before_ns or baseline.reason for baseline in comparison.baselines},
        )
        speedup = comparison.speedup
        record(f"{name}, {timing.case.name}: speedup", [speedup.low, speedup.median, speedup.high])


def test_predicted_and_measured_times_rank_alike(record: Record) -> None:
    """For calibration: recorded, with no demand beyond that it can be computed. Predictions are for an H100 SXM."""
    predicted = json.loads((HERE / "predicted.json").read_text())
    names = sorted(_measured_ns.keys() & predicted["ns"].keys())
    if len(names) < 4:
        pytest.skip(f"only {len(names)} times were measured in this run")
    pairs = {name: [predicted["ns"][name], _measured_ns[name]] for name in names}
    record(f"predicted ({predicted['method']}, {predicted['target']}) and measured, ns", pairs)
    ranks = [np.argsort(np.argsort([pair[side] for pair in pairs.values()])) for side in (0, 1)]
    correlation = float(np.corrcoef(*ranks)[0, 1])
    record("rank correlation of predicted and measured times (Spearman)", correlation)
    record("median of measured over predicted", float(np.median([m / p for p, m in pairs.values()])))
    assert -1 <= correlation <= 1
