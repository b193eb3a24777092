"""A predicted time that cannot be is refused."""

from __future__ import annotations

from kernelevo.devices import Launch
from kernelevo.measure.predicted import impossible

OUTPUT_BYTES = 32 << 20


def launch(written: float) -> Launch:
    counters = {"unique_write_bytes": written}
    return Launch(kernel="k", grid=(1, 1, 1), block=(32, 1, 1), shared_bytes=0, counters=counters)


def test_kernels_that_write_less_than_the_outputs_have_no_time() -> None:
    reason = impossible([launch(0.0)], 1e6, OUTPUT_BYTES)
    assert reason == f"no time: its kernels write about 0 bytes, but the outputs have {OUTPUT_BYTES}"
    assert impossible([launch(OUTPUT_BYTES / 2), launch(OUTPUT_BYTES / 2)], 1e6, OUTPUT_BYTES) is None


def test_a_time_in_which_the_outputs_cannot_reach_memory_is_none() -> None:
    reason = impossible([launch(OUTPUT_BYTES)], 100.0, OUTPUT_BYTES)
    assert reason is not None
    assert "too few to write" in reason
