"""What ncu and compute-sanitizer print is read right. The outputs are ours, after the documented formats."""

from __future__ import annotations

from pathlib import Path

from kernelevo.devices.cuda_tools import read_profile, read_sanitizer

OUTPUTS = Path(__file__).parent / "tool_outputs"


def text(name: str) -> str:
    return (OUTPUTS / name).read_text()


def test_a_profile_has_each_launch_with_the_metrics_that_matter_and_the_advice() -> None:
    first, second = read_profile(text("ncu_details.csv"))
    assert first.text.splitlines() == [
        "_Z7rmsnormPKfS0_Pfif grid (2048, 1, 1) block (256, 1, 1)",
        "  Duration: 64224 ns",
        "  DRAM Throughput: 31.5 %",
        "  Achieved Occupancy: 87.25 %",
        "  ncu: This workload exhibits low compute throughput and memory bandwidth utilization relative to the peak "
        "performance of this device.",
    ]
    assert (second.kernel, second.metrics) == (
        "_Z5scalePKfPfif",
        (("Registers Per Thread", "16", "register/thread"),),
    )


def test_no_profile_is_read_from_a_refusal() -> None:
    assert read_profile("==ERROR== ERR_NVGPUCTRPERM - The user does not have permission to access counters\n") == ()


def test_an_access_out_of_bounds_is_a_finding_with_its_place_once() -> None:
    write, error = read_sanitizer(text("memcheck.txt"))
    assert (write.kind, write.kernel, write.line) == ("out of bounds", "write_behind(float *, int)", 32)
    assert (write.thread, write.block) == ((0, 0, 0), (3, 0, 0))
    assert (write.address, write.access_bytes) == (0x7F2B4A000640, 4)
    assert write.allocation == "1 bytes after the nearest allocation at 0x7f2b4a000000 of size 1,600 bytes"
    assert (error.kind, error.line) == ("CUDA error", None)


def test_a_race_names_both_accesses() -> None:
    (race,) = read_sanitizer(text("racecheck.txt"))
    assert (race.kind, race.kernel, race.line) == ("race", "reduce(const float *, float *)", 12)
    assert "candidate.cu:15" in race.text


def test_barriers_and_uninitialised_reads_have_their_kinds() -> None:
    barrier, read = read_sanitizer(text("synccheck.txt"))
    assert (barrier.kind, barrier.line, barrier.thread) == ("bad barrier", 7, (32, 0, 0))
    assert (read.kind, read.line, read.block) == ("uninitialised read", 9, (1, 2, 0))


def test_a_clean_report_has_no_findings() -> None:
    assert read_sanitizer("========= COMPUTE-SANITIZER\n========= ERROR SUMMARY: 0 errors\n") == ()
