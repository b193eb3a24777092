"""What keeps a candidate in on this machine: each protection, whether it holds, and if not why.

`find` runs once in the fork server. It does not believe what the kernel says of itself: a child is confined as a worker
would be, tries to get out, and what it could do does not hold. A worker that cannot be confined in the way found here
ends before it loads anything.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from kernelevo.devices import confinement, landlock, seccomp
from kernelevo.devices.confinement import Means, Namespaces, Needs, Room
from kernelevo.devices.system_calls import call, number

Sandbox = Literal["required", "best-effort"]  # refuse to run without every protection, or run with what there is

_TRIAL_SECONDS = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Protection:
    """One thing that a candidate cannot do."""

    name: str  # "processes", "files", "network", "system calls", "privileges", "limits" or "environment"
    holds: bool
    how: str  # what it says, and by what means; what is left when it does not hold
    why_not: str | None = None  # one line with what to do about it; None when it holds


def missing(protections: tuple[Protection, ...]) -> tuple[Protection, ...]:
    """Those that do not hold."""
    return tuple(protection for protection in protections if not protection.holds)


def find(needs: Needs) -> tuple[Means, tuple[Protection, ...]]:
    """How workers are confined here, and what that gives. Forks; call it from a process with one thread only."""
    namespaces, no_namespaces = _namespaces()
    no_landlock = landlock.why_unavailable()
    no_seccomp = seccomp.why_unavailable()
    means = Means(
        namespaces=namespaces,
        landlock=0 if no_landlock else landlock.version(),
        mounts=False,
        filter=None if no_seccomp else seccomp.program(spared=needs.calls),
        packages=confinement.python_folders(),
    )
    if needs.trusted:  # nothing that must be kept in ever comes there
        return means, (_LIMITS,)
    no_files = no_landlock
    if no_landlock and "pid" in namespaces:
        with_mounts = replace(means, mounts=True)
        escaped = _try_to_escape(with_mounts, needs)
        if escaped.problem is None:
            means, no_files = with_mounts, None
        else:
            no_files = f"{no_landlock}, and no mount namespace ({escaped.problem})"
    escaped = _try_to_escape(means, needs)
    if escaped.problem is not None:
        raise OSError(f"a worker cannot be confined here: {escaped.problem}")
    return means, _protections(means, escaped, no_namespaces, no_files, no_seccomp)


def _protections(
    means: Means, escaped: _Escaped, no_namespaces: str | None, no_files: str | None, no_seccomp: str | None
) -> tuple[Protection, ...]:
    landlocked = f"Landlock version {means.landlock}"
    apart = [landlocked] if means.landlock >= 6 else []
    found = [
        _one(
            "processes",
            f"sees and signals none but its own, by {_and(['a PID namespace', *apart])}",
            "its processes are found by descent and killed"
            + (f", and signal no others, by {landlocked}" if apart else ""),
            no_namespaces,
            escaped.processes,
        ),
        _one(
            "files",
            "writes its scratch folder and object cache only, reads Python, libraries and its own build only, by "
            + ("a mount namespace" if means.mounts else landlocked),
            "it has the rights of the user that started kernelevo",
            no_files or _old_landlock(means),
            escaped.files,
        ),
        _one(
            "network",
            "opens no sockets, by seccomp" + (" and a network namespace" if "net" in means.namespaces else ""),
            "a network namespace leaves it local sockets only"
            if "net" in means.namespaces
            else "it reaches what this machine reaches",
            no_seccomp,
            escaped.network,
        ),
        _one(
            "system calls",
            f"{len(seccomp.REFUSED)} calls refused (ptrace, execve, mount, bpf, io_uring, ...), by seccomp",
            "it may make every system call",
            no_seccomp,
            escaped.calls,
        ),
        _one(
            "privileges",
            "no capabilities, no new privileges",
            "no new privileges",
            None if number("capset") else f"system calls of this machine are not known to kernelevo; {_NO_HELP}",
            escaped.privileges,
        ),
        _LIMITS,
        Protection(name="environment", holds=True, how="scrubbed: no variable of yours but paths and language"),
    ]
    return tuple(found)


_LIMITS = Protection(name="limits", holds=True, how="memory, CPU time, processes, open files and file size are bounded")
_NO_HELP = "use a machine with x86-64 or aarch64"


def _one(name: str, how: str, otherwise: str, reason: str | None, escaped: bool) -> Protection:
    if reason is None and not escaped:
        return Protection(name=name, holds=True, how=how)
    if reason is None:
        reason = "it was set up, but did not stop a trial"
    return Protection(name=name, holds=False, how=otherwise, why_not=f"{reason}; {_ADVICE.get(name, _NO_HELP)}")


_ADVICE = {
    "processes": "run as root, or allow unprivileged user namespaces (sysctl user.max_user_namespaces, "
    "kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns)",
    "files": "use Linux 6.2 or newer with Landlock, or run as root where containers may mount",
    "network": "use a kernel with CONFIG_SECCOMP_FILTER on x86-64 or aarch64",
    "system calls": "use a kernel with CONFIG_SECCOMP_FILTER on x86-64 or aarch64",
}


def _old_landlock(means: Means) -> str | None:
    if 0 < means.landlock < 3 and means.filter is None:
        return f"Landlock version {means.landlock} lets files be truncated"
    return None


def _and(words: list[str]) -> str:
    return " and ".join(words)


def _namespaces() -> tuple[Namespaces, str | None]:
    """The strongest set that this machine gives, and if that is none, why."""
    problem = "no namespace was tried"
    for namespaces in confinement.STRONGEST_FIRST:
        try:
            child = confinement.fork_into(namespaces)
        except OSError as error:
            problem = f"this machine gives no PID namespace ({os.strerror(error.errno or 0)})"
            continue
        if child == 0:
            os._exit(0)
        os.waitpid(child, 0)
        return namespaces, None
    return (), problem


# --- the trial


@dataclass(frozen=True, slots=True)
class _Escaped:
    """What a confined child could do although it must not; `problem`: it could not be confined, or could not work."""

    processes: bool = False
    files: bool = False
    network: bool = False
    calls: bool = False
    privileges: bool = False
    problem: str | None = None


def _try_to_escape(means: Means, needs: Needs) -> _Escaped:
    """Confines a child as a worker is confined and lets it try each thing once."""
    folder = tempfile.mkdtemp(prefix="kernelevo-")
    try:
        for name in ("scratch", "objects", "outside"):
            os.mkdir(f"{folder}/{name}")
        Path(folder, "outside", "secret").write_text("secret")
        told, tell = os.pipe()
        child = confinement.fork_into(means.namespaces) if means.namespaces else os.fork()
        if child == 0:
            try:
                os.close(told)
                _trial(means, needs, folder, tell)
            finally:
                os._exit(0)
        os.close(tell)
        return _result(told, child)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _trial(means: Means, needs: Needs, folder: str, tell: int) -> None:
    """In the child, which like a keeper is the first in its namespaces: forks what acts as the worker."""
    server = os.getppid() if not means.namespaces else None
    if (worker := os.fork()) != 0:
        os.close(tell)
        os.waitpid(worker, 0)
        return
    try:
        os.chdir(f"{folder}/scratch")
        room = Room(scratch=f"{folder}/scratch", object_cache=f"{folder}/objects", read=(), address_space_bytes=1 << 30)
        confinement.confine(means, needs, room)
        Path(folder, "scratch", "note").write_text("kept")
        Path(folder, "objects", "note").write_text("kept")
        with open("/proc/self/status") as status:
            capabilities = next(line for line in status if line.startswith("CapEff")).split()[1]
        secret = f"{folder}/outside/secret"
        escaped = {
            "processes": server is not None or os.getpid() > 9,
            "files": any(
                map(
                    _works,
                    (
                        lambda: os.close(os.open(secret, os.O_RDONLY)),
                        lambda: os.close(os.open(secret, os.O_WRONLY)),
                        lambda: os.truncate(secret, 0),
                        lambda: os.mkdir(f"{folder}/outside/new"),
                        lambda: os.rename(secret, f"{folder}/scratch/secret"),
                    ),
                )
            ),
            "network": _works(lambda: socket.socket(socket.AF_UNIX)) or _works(socket.socket),
            "calls": any(
                map(
                    _works,
                    (
                        lambda: call("ptrace", 0, 0, None, None),
                        lambda: call("process_vm_readv", os.getpid(), None, 0, None, 0, 0),
                        lambda: call("unshare", 0x10000000),
                        lambda: call("perf_event_open", ctypes.create_string_buffer(128), 0, -1, -1, 0),
                    ),
                )
            ),
            "privileges": int(capabilities, 16) != 0,
        }
        answer = json.dumps(escaped)
    except BaseException as error:
        answer = json.dumps({"problem": f"{type(error).__name__}: {error}"})
    os.write(tell, answer.encode())
    os._exit(0)


def _works(attempt: Callable[[], object]) -> bool:
    try:
        attempt()
    except OSError:
        return False
    return True


def _result(told: int, child: int) -> _Escaped:
    deadline = time.monotonic() + _TRIAL_SECONDS
    data = b""
    os.set_blocking(told, False)
    while time.monotonic() < deadline:
        try:
            more = os.read(told, 1 << 16)
        except BlockingIOError:
            time.sleep(0.001)
            continue
        if not more:
            break
        data += more
    os.close(told)
    with suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return _Escaped(**json.loads(data)) if data else _Escaped(problem="the trial ended without an answer")
