"""The fork server: when it starts, when it ends, and who notices."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from sites import HERE, count_processes, eventually, start_site

from kernelevo.devices.session import ForkServer
from kernelevo.errors import WorkerError


def number(behaviour: str) -> int:
    from test_bad_candidates import number as index

    return index(behaviour)


def test_workers_inherit_what_the_server_warmed_up(extension: Callable[[str], Path]) -> None:
    site = start_site("TellingBackend")
    reasons = []
    for _ in range(2):
        with site.session(extension("behaviours")) as session:
            reasons.append(session.call([torch.ones(4), number("double")]).reason)
    site.server.close()
    assert reasons == [f"warmed up in process {site.server.pid}"] * 2


def test_a_server_that_cannot_be_warmed_says_why(extension: Callable[[str], Path]) -> None:
    os.environ["PYTHONPATH"] = str(HERE)
    try:
        server = ForkServer("plain_backend:BrokenBackend", {"mark": "broken"})
    finally:
        del os.environ["PYTHONPATH"]
    with pytest.raises(WorkerError, match="the driver is from another age"):
        server.wait()
    server.close()


def test_a_server_that_was_killed_is_a_worker_error_and_not_a_verdict(extension: Callable[[str], Path]) -> None:
    site = start_site()
    site.server.wait()
    os.kill(site.server.pid, signal.SIGKILL)
    with pytest.raises(WorkerError, match="kernelevo doctor"):
        session = site.session(extension("behaviours"))
        session.call([torch.ones(2), number("double")])
    site.server.close()


def test_nothing_survives_a_parent_that_is_killed(extension: Callable[[str], Path], tmp_path: Path) -> None:
    mark = f"mark-orphan-{os.getpid()}"
    script = textwrap.dedent(
        f"""
        import sys
        import torch
        from kernelevo.devices.session import ForkServer, WorkerSession
        from kernelevo.devices.wire import Load
        server = ForkServer("plain_backend:PlainBackend", {{"mark": {mark!r}}})
        load = Load(artifact={str(extension("behaviours"))!r}, ptx=None, entry="forward", object_cache="",
                  memory_bytes=1 << 30)
        session = WorkerSession(server, load, timeout_seconds=60)
        session.call([torch.ones(2), {number("double")}])
        print("ready", flush=True)
        session.call([torch.ones(2), {number("leave a daemon and hang")}])
        """
    )
    environment = os.environ | {"PYTHONPATH": str(HERE), "TMPDIR": str(tmp_path)}
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, env=environment)
    assert parent.stdout is not None
    assert parent.stdout.readline() == b"ready\n"
    assert eventually(lambda: count_processes(mark) >= 4)  # server, keeper, worker, daemon
    assert len(list(tmp_path.glob("kernelevo-*"))) == 1
    parent.kill()
    parent.wait()
    assert eventually(lambda: count_processes(mark) == 0)
    assert eventually(lambda: not list(tmp_path.glob("kernelevo-*")))
