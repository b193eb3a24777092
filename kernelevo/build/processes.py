"""Runs compilers within bounds of time and memory.

Takes a command, gives how it ended. A command that runs too long is ended with everything it started, also what put
itself into process groups of its own, as ninja's children do: the whole session goes.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

MEMORY_BYTES = 12 << 30  # of address space, per process; one full nvcc build of torch headers takes 2 GB


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """How a command ended."""

    status: int | None  # exit status, negative for a signal; None when it was ended for taking too long
    output: str  # both streams


def run(command: Sequence[str | Path], *, folder: Path, timeout_seconds: float) -> Finished:
    """Runs a command in `folder`, which also holds its temporary files. Raises OSError when it cannot be started."""
    # Each process of the command is bounded too, in case nobody is left to end it.
    limits = f"ulimit -c 0; ulimit -v {MEMORY_BYTES // 1024}; ulimit -t {int(timeout_seconds) + 5}"
    setpriv = shutil.which("setpriv")
    orphaned = [setpriv, "--pdeathsig", "TERM"] if setpriv else []
    process = subprocess.Popen(
        ["/bin/sh", "-c", f'{limits}; exec "$@"', "sh", *orphaned, *map(str, command)],
        cwd=folder,
        env={**os.environ, "TMPDIR": str(folder), "LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=timeout_seconds)
        return Finished(status=process.returncode, output=output.decode(errors="replace"))
    except subprocess.TimeoutExpired:
        return Finished(status=None, output="")
    finally:
        if process.poll() is None:
            end_session(process.pid)
            process.communicate()


def end_session(session: int) -> None:
    """Kills every process of a session, however often they fork meanwhile."""
    for _ in range(100):
        members = _members(session)
        for pid in members:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        if not members:
            return
        time.sleep(0.01)


def _members(session: int) -> list[int]:
    members = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            stat = Path("/proc", entry, "stat").read_text()
        except OSError:
            continue
        # pid (name) state parent group session: the name may hold spaces and brackets
        state, _, _, found = stat.rpartition(")")[2].split()[:4]
        if int(found) == session and state != "Z":
            members.append(int(entry))
    return members
