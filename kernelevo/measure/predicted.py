"""Predicted times: each BENCH case is called once in counting mode, and its launches' predicted times are added up.

Launches of one call run one after the other, and host time is not part of it. A time that cannot be is refused, with
the reason: kernels that write fewer bytes than the outputs have, or a time below what the outputs alone take to reach
DRAM. Somebody else did the work then, the host for example.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import torch

from kernelevo.devices import Launch, Session
from kernelevo.mangled import kernel_name
from kernelevo.measure.limits import class_times
from kernelevo.records import Case, CaseTiming, Outcome, Task

SAMPLE_BLOCKS = 12  # of each launch that are counted; the others are taken to be like them
UNSEEN_BYTES = 64 << 10  # of outputs that sampled blocks may miss: what the last block writes, edges, sums
SAMPLED_SHARE = 0.5  # of the outputs' bytes that a sample must show as written; blocks need not be alike
DRAM_BYTES_PER_NS = 8000.0  # no GPU that times are predicted for moves more


def predict_case(task: Task, case: Case, session: Session, output_bytes: int) -> CaseTiming | str:
    """The predicted time of one case, or why there is none."""
    generator = torch.Generator().manual_seed(case.seed)
    call = session.call(task.inputs(case, generator), sample_blocks=SAMPLE_BLOCKS)
    if call.outcome is not Outcome.PASSED:
        return call.reason or call.outcome.value
    times = [launch.time for launch in call.launches if launch.time is not None]
    if len(times) != len(call.launches) or not times:
        return "no kernel was launched" if not call.launches else "a launch was not counted"
    if (why := impossible(call.launches, sum(t.median_ns for t in times), output_bytes)) is not None:
        return why
    return CaseTiming(
        case=case,
        samples_ns=(sum(t.median_ns for t in times),),
        median_ns=sum(t.median_ns for t in times),
        low_ns=sum(t.low_ns for t in times),
        high_ns=sum(t.high_ns for t in times),
        bottleneck=bottleneck(call.launches),
        counters={**total_counters(call.launches), **class_times(t.terms_ns for t in times)},
    )


def impossible(launches: Sequence[Launch], nanoseconds: float, output_bytes: int) -> str | None:
    """Why these launches cannot have made outputs of that size in that time; None when they can."""
    written = sum(launch.counters.get("unique_write_bytes", 0.0) for launch in launches)
    if written < SAMPLED_SHARE * output_bytes - UNSEEN_BYTES:
        return f"no time: its kernels write about {written:.3g} bytes, but the outputs have {output_bytes}"
    if nanoseconds < output_bytes / DRAM_BYTES_PER_NS:
        return f"no time: {nanoseconds:.3g} ns are predicted, too few to write {output_bytes} bytes of outputs"
    return None


def bottleneck(launches: Sequence[Launch]) -> str:
    """That of the launch that takes longest, with its share of the call when there are several."""
    timed = [(launch.time.median_ns, launch) for launch in launches if launch.time is not None]
    longest_ns, longest = max(timed, key=lambda item: item[0])
    assert longest.time is not None
    if len(timed) == 1:
        return longest.time.bottleneck
    share = longest_ns / sum(nanoseconds for nanoseconds, _ in timed)
    return f"{kernel_name(longest.kernel)}, {share:.0%} of {len(timed)} launches: {longest.time.bottleneck}"


def total_counters(launches: Sequence[Launch]) -> dict[str, float]:
    totals: dict[str, float] = defaultdict(float)
    for launch in launches:
        for name, value in launch.counters.items():
            totals[name] += value
    return {"launches": float(len(launches)), **totals}
