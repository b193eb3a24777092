"""A limit of time counts what the candidate takes, not what others take from it: one core, four who want it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from sites import Site, start_site
from test_bad_candidates import number

from kernelevo.devices.session import PATIENCE
from kernelevo.records import Outcome

LIMIT_SECONDS = 1.0
BUSY = "import time\nend = time.monotonic() + 200\nwhile time.monotonic() < end: pass"  # ends by itself, should we not


@pytest.fixture
def busy_site(extension: Callable[[str], Path]) -> Iterator[Site]:
    """A server that shares one core with three processes that never rest."""
    extension("behaviours")
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        others = [subprocess.Popen([sys.executable, "-c", BUSY], start_new_session=True) for _ in range(3)]
        site = start_site()
    finally:
        os.sched_setaffinity(0, cores)
    site.server.wait()
    yield site
    site.server.close()
    for other in others:
        other.kill()
        other.wait()


@pytest.mark.parametrize("behaviour", ["work for 0.6 s", "sleep", "loop for ever"])
def test_a_worker_that_waits_for_its_core_is_waited_for(
    behaviour: str, busy_site: Site, extension: Callable[[str], Path]
) -> None:
    with busy_site.session(extension("behaviours"), timeout_seconds=LIMIT_SECONDS) as session:
        session.call([torch.ones(2), number("double")])  # loads
        started = time.monotonic()
        call = session.call([torch.ones(2), number(behaviour)])
        seconds = time.monotonic() - started
    if behaviour == "work for 0.6 s":
        assert call.outcome is Outcome.PASSED, call.reason
        assert seconds > LIMIT_SECONDS, "there was nothing to wait for"
    else:
        assert call.outcome is Outcome.TIMED_OUT
        if behaviour == "loop for ever":
            assert seconds > 1.3 * LIMIT_SECONDS
        else:
            assert seconds < 3 * LIMIT_SECONDS, "who sleeps waits for no core"
        assert seconds < (1 + PATIENCE) * LIMIT_SECONDS + 5
