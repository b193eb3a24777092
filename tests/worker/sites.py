"""Fork servers for extensions that misbehave, and how to find their processes."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kernelevo.devices.isolation import Sandbox, missing
from kernelevo.devices.session import ForkServer, WorkerSession
from kernelevo.devices.wire import Load

HERE = Path(__file__).parent


@dataclass
class Site:
    """A fork server and how to find its processes."""

    server: ForkServer
    mark: str

    def session(
        self, artifact: Path, *, entry: str = "forward", timeout_seconds: float = 60.0, memory_bytes: int = 1 << 30
    ) -> WorkerSession:
        cache = artifact.parent / "objects"
        load = Load(artifact=str(artifact), ptx=None, entry=entry, object_cache=str(cache), memory_bytes=memory_bytes)
        return WorkerSession(self.server, load, timeout_seconds=timeout_seconds)

    def missing(self) -> set[str]:
        """Names of the protections that do not hold here."""
        return {protection.name for protection in missing(self.server.wait().isolation)}

    def processes(self) -> int:
        """Live processes of the server, itself left out; children of a candidate keep its command line."""
        return count_processes(self.mark) - 1

    def wait_for_processes(self, number: int) -> int:
        """How many are left: `number`, or what is still there after half a minute."""
        eventually(lambda: self.processes() == number)
        return self.processes()


RECLAIM_SECONDS = 30.0  # it takes milliseconds; a loaded machine may take its time


def eventually(condition: Callable[[], bool]) -> bool:
    """Whether a condition comes true within RECLAIM_SECONDS."""
    deadline = time.monotonic() + RECLAIM_SECONDS
    while not (true := condition()) and time.monotonic() < deadline:
        time.sleep(0.01)
    return true


def count_processes(mark: str) -> int:
    found = 0
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                found += mark.encode() in (folder / "cmdline").read_bytes()
            except OSError:
                continue
    return found


def start_site(backend: str = "PlainBackend", sandbox: Sandbox = "best-effort", **settings: object) -> Site:
    mark = f"mark-{uuid.uuid4().hex}"
    os.environ["PYTHONPATH"] = str(HERE)
    try:
        return Site(ForkServer(f"plain_backend:{backend}", {"mark": mark, **settings}, sandbox=sandbox), mark)
    finally:
        del os.environ["PYTHONPATH"]
