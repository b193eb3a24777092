"""What limits a candidate: its Timing in, one of LIMITS out, or None where the times do not say.

Of a predicted time, the terms of the model are the evidence. `class_times` sorts them: each launch takes part with the
largest term of every class, and launches of a call follow each other, so these are added up. They are kept among the
counters of a CaseTiming, and `limited_by` reads them there.

Of a measured time less is known. It is limited by memory where moving the bytes that any kernel must move takes at
least half of it, and by launches where the host needs longer for a call than the device; otherwise nothing is said.

The score is a geometric mean, in which every case weighs the same however long it takes. So each case has one vote,
divided over the classes by their times.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from kernelevo.measure.physics import LAUNCH_NS, TOLERANCE
from kernelevo.records import CaseTiming, Timing, TimingKind

LIMITS = ("memory", "compute", "latency", "launch")
MEMORY_SHARE = 0.5  # of a measured time

# The terms of kernelevo/emulator/predict.py that are not arithmetic; shared memory is memory, as for Nsight Compute.
CLASS_OF = {
    "memory requests": "memory",
    "shared": "memory",
    "l1": "memory",
    "l2": "memory",
    "dram": "memory",
    "atomics": "latency",  # one after the other on one address
    "latency": "latency",
    "launch": "launch",
}


def limited_by(timing: Timing) -> str | None:
    """What the candidate would have to use less of to be faster: one of LIMITS."""
    shares = predicted_shares if timing.kind is TimingKind.PREDICTED else measured_shares
    votes = dict.fromkeys(LIMITS, 0.0)
    for case in timing.cases:
        for limit, share in shares(case).items():
            votes[limit] += share
    winner = max(LIMITS, key=lambda limit: votes[limit])
    return winner if votes[winner] > 0.0 else None


def class_times(launches: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Counters of a call: nanoseconds of each class.

    launches: for each of its launches, the terms of the prediction in nanoseconds.
    """
    totals = {counter(limit): 0.0 for limit in LIMITS}
    for terms in launches:
        largest = dict.fromkeys(LIMITS, 0.0)
        for name, nanoseconds in terms.items():
            limit = CLASS_OF.get(name, "compute")  # instruction issue and the pipes
            largest[limit] = max(largest[limit], nanoseconds)
        for limit, nanoseconds in largest.items():
            totals[counter(limit)] += nanoseconds
    return totals


def counter(limit: str) -> str:
    return f"{limit}_term_ns"


def predicted_shares(case: CaseTiming) -> dict[str, float]:
    times = {limit: case.counters.get(counter(limit), 0.0) for limit in LIMITS}
    total = sum(times.values())
    return {limit: nanoseconds / total for limit, nanoseconds in times.items()} if total > 0.0 else {}


def measured_shares(case: CaseTiming) -> dict[str, float]:
    floor_ns, host_ns = case.counters.get("floor_ns", 0.0), case.counters.get("host_ns", 0.0)
    if floor_ns > TOLERANCE * LAUNCH_NS and floor_ns >= TOLERANCE * MEMORY_SHARE * case.median_ns:
        return {"memory": 1.0}
    return {"launch": 1.0} if host_ns >= case.median_ns else {}
