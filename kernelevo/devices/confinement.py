"""What a worker does to itself before it loads a candidate, and how it is cut off from everything else.

Linux only; system calls through ctypes, standard library only. Two strengths of isolation, the first that the
machine allows:

- a PID namespace of its own (as root, or through an unprivileged user namespace): the candidate can neither see
  nor signal a process outside it, and the kernel ends every process in it with its first, the keeper;
- otherwise a keeper that is the subreaper of whatever the candidate starts, and kills it by descent.

Not here yet: Landlock, seccomp and a network namespace. `confine` is where they belong, last, after no_new_privs.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import resource
import signal
from pathlib import Path

_SYS_CLONE3 = 435  # the same number on every architecture
_CLONE_NEWUSER = 0x10000000
_CLONE_NEWPID = 0x20000000
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAPBSET_DROP = 24
_SYS_CAPSET = {"x86_64": 126, "aarch64": 91}
_CAPABILITY_VERSION_3 = 0x20080522

FILE_BYTES = 256 << 20  # largest file a candidate may write
CPU_SECONDS = 3600  # backstop only: every call has its own deadline
OPEN_FILES = 256

# PyDLL keeps the interpreter lock, without which a child made by a bare system call could not go on.
_libc = ctypes.PyDLL(None, use_errno=True)


def confine(*, memory_bytes: int) -> None:
    """Limits this process for good: dies with its parent, no new privileges, no capabilities, bounded resources.

    memory_bytes: address space beyond what the process has now.
    """
    die_with_parent()
    limits = {
        resource.RLIMIT_AS: _address_space_bytes() + memory_bytes,
        resource.RLIMIT_FSIZE: FILE_BYTES,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_CPU: CPU_SECONDS,
        resource.RLIMIT_NOFILE: OPEN_FILES,
    }
    for which, value in limits.items():
        _, hard = resource.getrlimit(which)
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(which, (value, value))
    _drop_capabilities()
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def die_with_parent() -> None:
    """Asks the kernel to kill this process when the thread that forked it ends."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def adopt_orphans() -> None:
    """Makes this process the parent of whatever its descendants leave behind."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def fork_into_namespace() -> int | None:
    """Forks; the child is process 1 of a new PID namespace. None when this machine does not allow it.

    Call it from a process with one thread only. The child has no work done by `os.register_at_fork`; it should do
    little but fork again.
    """
    uid, gid = os.geteuid(), os.getegid()
    for flags in (_CLONE_NEWPID, _CLONE_NEWPID | _CLONE_NEWUSER):
        arguments = _CloneArguments(flags=flags, exit_signal=signal.SIGCHLD)
        child = _libc.syscall(
            ctypes.c_long(_SYS_CLONE3), ctypes.byref(arguments), ctypes.c_size_t(ctypes.sizeof(arguments))
        )
        if child == 0:
            if flags & _CLONE_NEWUSER:
                _map_identity(uid, gid)
            return 0
        if child > 0:
            return int(child)
    return None


def descendants(root: int) -> list[int]:
    """Processes below `root`, as /proc numbers them, by the parents that they have now."""
    children: dict[int, list[int]] = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with contextlib.suppress(OSError, ValueError, IndexError):
                fields = Path(entry.path, "stat").read_text().rpartition(")")[2].split()
                children.setdefault(int(fields[1]), []).append(int(entry.name))
    found, pending = [], [root]
    while pending:
        below = children.get(pending.pop(), [])
        found += below
        pending += below
    return found


def has_children(pid: int) -> bool:
    """Whether a process has children now; False where the kernel does not list them (CONFIG_PROC_CHILDREN)."""
    with contextlib.suppress(OSError):
        return any((task / "children").read_text() for task in Path(f"/proc/{pid}/task").iterdir())
    return False


def usage(pid: int) -> tuple[int, int]:
    """(bytes of private or shared anonymous memory, threads) of a process; zeros when it has ended."""
    private = threads = 0
    with contextlib.suppress(OSError, ValueError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            name, _, value = line.partition(":")
            if name in ("RssAnon", "RssShmem"):
                private += int(value.split()[0]) << 10
            elif name == "Threads":
                threads = int(value)
    return private, threads


class _CloneArguments(ctypes.Structure):
    _fields_ = tuple(
        (name, ctypes.c_uint64)
        for name in ("flags", "pidfd", "child_tid", "parent_tid", "exit_signal", "stack", "stack_size", "tls")
    )


class _CapabilityHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _CapabilitySets(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


def _drop_capabilities() -> None:
    for capability in range(64):
        _libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)  # refused without privileges: then there is none to drop
    number = _SYS_CAPSET.get(platform.machine())
    if number is not None:
        header = _CapabilityHeader(version=_CAPABILITY_VERSION_3, pid=0)
        none = (_CapabilitySets * 2)()
        _libc.syscall(ctypes.c_long(number), ctypes.byref(header), ctypes.byref(none))


def _map_identity(uid: int, gid: int) -> None:
    """Gives the new user namespace the one user and group that we already are."""
    for name, text in (("uid_map", f"{uid} {uid} 1"), ("setgroups", "deny"), ("gid_map", f"{gid} {gid} 1")):
        with contextlib.suppress(OSError):
            Path("/proc/self", name).write_text(text)


def _address_space_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, value, 0, 0, 0) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"prctl({option}, {value}): {os.strerror(code)}")
