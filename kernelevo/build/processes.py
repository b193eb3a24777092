"""Runs compilers within bounds of time, memory and files.

Takes a command, gives how it ended. A command that runs too long is ended with everything it started, also what put
itself into process groups of its own, as ninja's children do: the whole session goes.

A source can ask a compiler for any file (`#include`, `.incbin`, by a name that macros paste together), and a diagnostic
would quote it. So a compiler reads only the system's own folders, those of the toolchain and the folder it works in,
and writes only there: Landlock, where this machine has it. It inherits the few variables of the environment that
compilers know, and no secret.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from kernelevo.devices import landlock
from kernelevo.devices.system_calls import give_up_new_privileges

MEMORY_BYTES = 12 << 30  # of address space, per process; one full nvcc build of torch headers takes 2 GB


# What every compiler on a Linux system may need.
SYSTEM = (
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/opt",
    "/nix/store",
    "/etc/alternatives",
    "/etc/ld.so.cache",
)
DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom", "/dev/random")
SEARCH_PATHS = ("PATH", "LD_LIBRARY_PATH", "LIBRARY_PATH", "CPATH", "C_INCLUDE_PATH", "CPLUS_INCLUDE_PATH")
ENVIRONMENT = (*SEARCH_PATHS, "CUDA_HOME", "CUDA_PATH", "TZ")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """How a command ended."""

    status: int | None  # exit status, negative for a signal; None when it was ended for taking too long
    output: str  # both streams


def run(command: Sequence[str | Path], *, folder: Path, timeout_seconds: float, reads: Sequence[Path] = ()) -> Finished:
    """Runs a command in `folder`, which also holds its temporary files. Raises OSError when it cannot be started.

    reads: folders and files that it may read and execute, besides the system's own.
    """
    # A thread gives up its files for good, and what it starts inherits that: so the thread is one of its own. It stays
    # until the command has ended, since to the kernel the command's parent is the thread.
    with ThreadPoolExecutor(1, thread_name_prefix="compile") as thread:
        process = thread.submit(_start, command, folder, timeout_seconds, reads).result()
        try:
            output, _ = process.communicate(timeout=timeout_seconds)
            return Finished(status=process.returncode, output=output.decode(errors="replace"))
        except subprocess.TimeoutExpired:
            return Finished(status=None, output="")
        finally:
            if process.poll() is None:
                end_session(process.pid)
                process.communicate()


def _start(
    command: Sequence[str | Path], folder: Path, timeout_seconds: float, reads: Sequence[Path]
) -> subprocess.Popen[bytes]:
    """Confines the calling thread, for good, and starts the command from it."""
    environment = {name: os.environ[name] for name in ENVIRONMENT if name in os.environ}
    if landlock.why_unavailable() is None:
        searched = [path for name in SEARCH_PATHS for path in environment.get(name, "").split(":") if path[:1] == "/"]
        readable = landlock.READ | {"execute"}
        give_up_new_privileges()
        landlock.restrict(
            [
                *((path, readable) for path in (*SYSTEM, *searched, *map(str, reads)) if path != "/"),
                *((path, landlock.DEVICE) for path in DEVICES),
                (str(folder), landlock.WRITE | readable),
            ],
            using=landlock.version(),
        )
    # Each process of the command is bounded too, in case nobody is left to end it.
    limits = f"ulimit -c 0; ulimit -v {MEMORY_BYTES // 1024}; ulimit -t {int(timeout_seconds) + 5}"
    setpriv = shutil.which("setpriv")
    orphaned = [setpriv, "--pdeathsig", "TERM"] if setpriv else []
    return subprocess.Popen(
        ["/bin/sh", "-c", f'{limits}; exec "$@"', "sh", *orphaned, *map(str, command)],
        cwd=folder,
        env={**environment, "TMPDIR": str(folder), "LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


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
