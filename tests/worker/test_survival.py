"""However a candidate refuses to end: it is gone within its time limit and two seconds, and leaves no process."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from sites import HERE, Site, eventually
from test_bad_candidates import number

from kernelevo.build import build
from kernelevo.devices import confinement
from kernelevo.devices.emulator import EmulatorDevice
from kernelevo.records import Candidate, Outcome
from kernelevo.toolchain import find_toolchain

TIMEOUT_SECONDS = 1.0
RECLAIM_SECONDS = 2.0  # after the time limit
SPIN, HOST_LOOP = 1, 15  # of candidates/device.cu


# A bomb that is quicker than its keeper's count runs into the time limit.
ENDINGS = {
    "loop for ever": {Outcome.TIMED_OUT},
    "fork for ever": {Outcome.CRASHED, Outcome.TIMED_OUT},
    "start threads for ever": {Outcome.CRASHED, Outcome.TIMED_OUT},
    "daemons for ever": {Outcome.CRASHED, Outcome.TIMED_OUT},
    "leave a daemon and hang": {Outcome.TIMED_OUT},
    "stop itself": {Outcome.CRASHED},
    "stop its parent": {Outcome.TIMED_OUT},
    "allocate 32 GB": {Outcome.CRASHED},
}


@pytest.mark.parametrize("behaviour", ENDINGS)
def test_a_candidate_is_gone_two_seconds_after_its_time(
    any_site: Site,
    extension: Callable[[str], Path],
    behaviour: str,
    request: pytest.FixtureRequest,
) -> None:
    x = torch.ones(2)
    with any_site.session(extension("behaviours"), timeout_seconds=60.0) as session:
        load = duration(lambda: session.call([x, number("double")]))  # what this machine takes for nothing at all
    with any_site.session(extension("behaviours"), timeout_seconds=TIMEOUT_SECONDS) as session:
        session.call([x, number("double")])
        started = time.monotonic()
        result = session.call([x, number(behaviour)])
    left = any_site.wait_for_processes(0)
    seconds = time.monotonic() - started
    request.node.user_properties.append(("reclaim seconds", round(seconds, 2)))
    if seconds > TIMEOUT_SECONDS + RECLAIM_SECONDS + 20 * load:
        pytest.fail(f"took {seconds:.2f} s, where a call of nothing took {load:.3f} s")
    assert result.outcome in ENDINGS[behaviour], result.reason
    assert left == 0


@pytest.mark.nvcc
@pytest.mark.parametrize("kind", [SPIN, HOST_LOOP], ids=["a kernel that hangs", "a host that hangs"])
def test_a_hanging_kernel_is_gone_two_seconds_after_its_time(
    emulator: EmulatorDevice, cache_folder: Path, kind: int, request: pytest.FixtureRequest
) -> None:
    """The emulated GPU stands for a real one here: a kernel that never ends."""
    candidate = Candidate(source=(HERE / "candidates" / "device.cu").read_text(), entry="forward")
    built = build(candidate, target=emulator.target, toolchain=find_toolchain(), cache=cache_folder)
    x = torch.ones(4, 100)
    with emulator.open(built, entry="forward", timeout_seconds=60.0, memory_bytes=2 << 30) as session:
        session.call([x, 0, 2.0])
        load = duration(lambda: session.call([x, 0, 2.0]))
    with emulator.open(built, entry="forward", timeout_seconds=TIMEOUT_SECONDS, memory_bytes=2 << 30) as session:
        session.call([x, 0, 2.0])
        server = emulator._running().pid
        before = len(confinement.descendants(server))
        started = time.monotonic()
        result = session.call([x, kind, 2.0])
    gone = eventually(lambda: len(confinement.descendants(server)) <= before - 2)
    seconds = time.monotonic() - started
    request.node.user_properties.append(("reclaim seconds", round(seconds, 2)))
    if seconds > TIMEOUT_SECONDS + RECLAIM_SECONDS + 20 * load:
        pytest.fail(f"took {seconds:.2f} s, where a call of nothing took {load:.3f} s")
    assert result.outcome is Outcome.TIMED_OUT, result.reason
    assert gone, "keeper and worker of this session must be"


def duration(act: Callable[[], object]) -> float:
    started = time.monotonic()
    act()
    return time.monotonic() - started
