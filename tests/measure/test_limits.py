"""What limits a candidate is read from the numbers of its time, each case having one vote."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from kernelevo.emulator.predict import Resources, load_gpu, predict
from kernelevo.measure.limits import CLASS_OF, LIMITS, class_times, limited_by
from kernelevo.records import Case, CaseTiming, Purpose, Timing, TimingKind

CASE = Case(
    name="rows=8", sizes={"rows": 8}, dtype="float32", distribution="normal", initialisation="ones", seed=0,
    purpose=Purpose.BENCH,
)  # fmt: skip


def timing(*cases: Mapping[str, float], kind: TimingKind = TimingKind.PREDICTED, median_ns: float = 1e4) -> Timing:
    """cases: the counters of each."""
    return Timing(
        kind=kind,
        device="a device",
        target="H100 SXM",
        method="a method",
        cases=tuple(
            CaseTiming(
                case=CASE,
                samples_ns=(median_ns,),
                median_ns=median_ns,
                low_ns=median_ns,
                high_ns=median_ns,
                bottleneck=None,
                counters=counters,
            )
            for counters in cases
        ),
        seconds=0.0,
    )


def test_launches_follow_each_other_and_each_has_the_largest_term_of_a_class() -> None:
    first = {"dram": 5.0, "l2": 3.0, "issue": 2.0, "pipe_fp32": 4.0, "latency": 1.0, "launch": 2.0}
    second = {"shared": 1.0, "atomics": 6.0, "launch": 2.0}
    assert class_times([first, second]) == {
        "memory_term_ns": 6.0,
        "compute_term_ns": 4.0,
        "latency_term_ns": 7.0,
        "launch_term_ns": 4.0,
    }


def test_every_case_weighs_the_same_however_long_it_takes() -> None:
    long = class_times([{"dram": 900.0, "issue": 100.0}])
    short = class_times([{"issue": 0.7, "dram": 0.3}])
    assert limited_by(timing(long)) == "memory"
    assert limited_by(timing(long, short)) == "memory"
    assert limited_by(timing(long, short, short, short)) == "compute"


def test_a_prediction_without_terms_says_nothing() -> None:
    assert limited_by(timing({"launches": 1.0})) is None
    assert limited_by(timing()) is None


@pytest.mark.parametrize(
    ("counters", "median_ns", "expected"),
    [
        ({"floor_ns": 9500.0, "host_ns": 4000.0}, 15000.0, "memory"),
        ({"floor_ns": 9500.0, "host_ns": 4000.0}, 25000.0, None),
        ({"floor_ns": 760.0, "host_ns": 4000.0}, 3000.0, "launch"),  # the floor is that of a launch
        ({"floor_ns": 760.0, "host_ns": 4000.0}, 1000.0, "launch"),
        ({"floor_ns": 760.0}, 1000.0, None),
    ],
)
def test_of_a_measured_time_only_what_it_shows_is_said(
    counters: dict[str, float], median_ns: float, expected: str | None
) -> None:
    assert limited_by(timing(counters, kind=TimingKind.MEASURED, median_ns=median_ns)) == expected


@pytest.mark.parametrize(
    ("counters", "expected"),
    [
        ({"unique_read_bytes": 1e9, "global_sectors": 1e7, "global_read_sectors": 3e7, "block_read_sectors": 3e7,
          "warp_read_sectors": 3e7}, "memory"),
        ({"warp_instructions": 1e9, "fp32_instructions": 1e9}, "compute"),
        ({"warp_instructions": 1e3, "warps": 4.0, "path_arithmetic": 1e7}, "latency"),
        ({"warp_instructions": 1e3, "warps": 4.0}, "launch"),
    ],
)  # fmt: skip
def test_what_the_model_of_the_gpu_predicts_has_a_class(counters: dict[str, float], expected: str) -> None:
    gpu = load_gpu()
    resources = Resources(registers=32, shared_bytes=0)
    found = predict(gpu, counters, grid=(1000, 1, 1), block=(128, 1, 1), resources=resources)
    terms = {name: seconds * 1e9 for name, seconds in found.terms.items()} | {"launch": gpu["launch_seconds"] * 1e9}
    assert limited_by(timing(class_times([terms]))) == expected
    assert set(CLASS_OF) <= set(terms)  # no name that the model does not have
    assert set(CLASS_OF.values()) <= set(LIMITS)
