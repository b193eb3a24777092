"""What a worker does to itself before it loads a candidate, and how it is cut off from everything else.

Linux only; system calls through ctypes, standard library only. Which of these a machine allows is found out once, by
isolation.py; `confine` then does all of them or raises.

- Namespaces of its own for processes, network and System V memory (as root, or through an unprivileged user
  namespace): the candidate can neither see nor signal a process outside, and the kernel ends every process inside with
  its first, the keeper. Without them the keeper is the subreaper of whatever the candidate starts, and kills by
  descent.
- Files: Landlock, or else a mount namespace. Only the scratch folder and the object cache can be written; only Python,
  its packages, system libraries and what the worker was told to load can be read.
- System calls: a seccomp filter.
- Limits on memory, files and CPU time, no capabilities, no new privileges.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import resource
import signal
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from kernelevo.devices import landlock, mounts, seccomp
from kernelevo.devices.system_calls import call, control, give_up_new_privileges, libc, number

_CLONE_NEW = {"pid": 0x20000000, "net": 0x40000000, "ipc": 0x08000000, "user": 0x10000000}
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_PR_CAPBSET_DROP = 24
_CAPABILITY_VERSION_3 = 0x20080522

FILE_BYTES = 256 << 20  # largest file a candidate may write
CPU_SECONDS = 3600  # backstop only: every call has its own deadline
OPEN_FILES = 256

Namespaces = tuple[str, ...]  # of "pid", "net", "ipc", "user"
STRONGEST_FIRST: tuple[Namespaces, ...] = (
    ("pid", "net", "ipc"),
    ("pid", "net", "ipc", "user"),
    ("pid",),
    ("pid", "user"),
)

# What any program reads. Folders of programs are not here: a worker starts none.
_SYSTEM = (
    *("/lib", "/lib32", "/lib64", "/usr/lib", "/usr/lib32", "/usr/lib64", "/usr/libexec", "/usr/local/lib"),
    *("/usr/share/zoneinfo", "/usr/share/locale", "/etc/ld.so.cache", "/etc/localtime", "/nix/store"),
    *("/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"),
    *("/sys/devices/system/cpu", "/sys/devices/system/node"),
    *("/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/proc/version", "/proc/sys/vm/overcommit_memory"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What the workers of one backend need beyond what all workers have."""

    read: tuple[str, ...] = ()  # folders and files: a CUDA toolkit, /proc/driver/nvidia, ...
    write: tuple[str, ...] = ()  # folders and files that candidates may change; best none
    devices: tuple[str, ...] = ()  # files to read, write and ioctl: /dev/nvidiactl, /dev/nvidia0, ...
    calls: tuple[str, ...] = ()  # system calls of seccomp.REFUSED to allow after all
    threads: tuple[str, ...] = ()  # how names of threads begin that are the backend's own
    trusted: bool = False  # the workers run nothing but our own code and the task's: resources are bounded, no more


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """How workers are confined on this machine."""

    namespaces: Namespaces  # empty: none
    landlock: int  # version used; 0: none
    mounts: bool  # a root folder of their own, in place of Landlock
    filter: bytes | None  # seccomp program
    packages: tuple[str, ...]  # folders and files of Python code that workers read


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What one worker may use."""

    scratch: str  # folder that it may change as it likes
    object_cache: str  # folder in which it may write files; "" for none
    read: tuple[str, ...]  # files that it is to load
    address_space_bytes: int  # beyond what the process has now


def confine(means: Means, needs: Needs, room: Room) -> None:
    """Limits this process for good: it dies with its parent, and can only do what the module says.

    Raises OSError when any of it cannot be done.
    """
    die_with_parent()
    limits = {
        resource.RLIMIT_FSIZE: FILE_BYTES,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_CPU: CPU_SECONDS,
        resource.RLIMIT_NOFILE: OPEN_FILES,
        resource.RLIMIT_AS: _address_space_bytes() + room.address_space_bytes,
    }
    for which, value in limits.items():
        _, hard = resource.getrlimit(which)
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(which, (value, value))
    if needs.trusted:
        return
    read = [*_SYSTEM, *means.packages, *needs.read, *room.read]
    if means.mounts:
        devices = ("/dev/null", *needs.devices)
        mounts.enter(read=read, write=(room.scratch, room.object_cache, *needs.write, *devices))
    _drop_capabilities()
    give_up_new_privileges()
    if means.landlock:
        # Keeps what /proc/self is now: were it forgotten and made anew, the rule would not be about it any more.
        os.open("/proc/self", os.O_PATH)
        allowed = [(path, landlock.READ) for path in (*read, "/proc/self")]
        allowed += [(path, landlock.WRITE) for path in (room.scratch, *needs.write)]
        allowed += [(path, landlock.DEVICE) for path in ("/dev/null", *needs.devices)]
        if room.object_cache:
            allowed.append((room.object_cache, landlock.WRITE_FILES))
        landlock.restrict(allowed, using=means.landlock)
    if means.filter is not None:
        seccomp.install(means.filter)


def python_folders() -> tuple[str, ...]:
    """Folders and files of Python code that a worker may import: the standard library, site-packages, and whatever this
    process has already imported from elsewhere (kernelevo's own package in an editable install).
    """
    paths = sysconfig.get_paths()
    folders = {paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    folders |= {f"{prefix}/{lib}" for prefix in (sys.prefix, sys.base_prefix) for lib in ("lib", "lib64")}
    folders |= {path for path in sys.path if path.rstrip("/").endswith(("site-packages", "dist-packages"))}
    # Libraries that a user put there are the loader's to find.
    folders |= {
        path for path in os.environ.get("LD_LIBRARY_PATH", "").split(":") if path.startswith("/") and path != "/"
    }
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if file and "." not in module.__name__ and not any(file.startswith(folder + "/") for folder in folders):
            folders.add(os.path.dirname(file) if getattr(module, "__path__", None) else file)
    folders |= {folder for module in list(sys.modules.values()) for folder in _namespace_package(module)}
    return tuple(sorted(folder for folder in folders if os.path.exists(folder)))


def keep_only(*descriptors: int) -> None:
    """Closes every other file descriptor from 3 on."""
    wanted = sorted({*descriptors, 2})
    try:
        for below, above in zip(wanted, [*wanted[1:], (1 << 32) - 1], strict=True):
            last = above - 1 if above != (1 << 32) - 1 else above
            if below + 1 <= last:
                call("close_range", below + 1, last, 0)
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.EPERM):
            raise
        for name in os.listdir("/proc/self/fd"):
            if int(name) > 2 and int(name) not in descriptors:
                with contextlib.suppress(OSError):
                    os.close(int(name))


def die_with_parent() -> None:
    """Asks the kernel to kill this process when the thread that forked it ends."""
    control(_PR_SET_PDEATHSIG, signal.SIGKILL)


def adopt_orphans() -> None:
    """Makes this process the parent of whatever its descendants leave behind."""
    control(_PR_SET_CHILD_SUBREAPER, 1)


def fork_into(namespaces: Namespaces) -> int:
    """Forks; the child is process 1 of new namespaces, of which "pid" must be one.

    Raises OSError when this machine does not allow it.

    Call it from a process with one thread only. The child has no work done by `os.register_at_fork`; it should do
    little but fork again.
    """
    uid, gid = os.geteuid(), os.getegid()
    flags = sum(_CLONE_NEW[name] for name in namespaces)
    arguments = _CloneArguments(flags=flags, exit_signal=signal.SIGCHLD)
    child = call("clone3", ctypes.byref(arguments), ctypes.c_size_t(ctypes.sizeof(arguments)))
    if child == 0 and "user" in namespaces:
        _map_identity(uid, gid)
    return child


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


def below(root: int, *, enough: int) -> list[int]:
    """Processes below `root`, as /proc numbers them; not all of them once there are more than `enough`.

    Its time is bounded where the kernel lists children: that of a fork bomb is spent on forking.
    """
    found: list[int] = []
    pending = [root]
    while pending and len(found) <= enough:
        started = children(pending.pop())
        if started is None:
            if pending or found:
                continue  # it has ended meanwhile
            return descendants(root)
        found += started
        pending += started
    return found


def running_children(pid: int) -> list[int] | None:
    """`children`, zombies left out."""
    started = children(pid)
    return None if started is None else [child for child in started if not _is_zombie(child)]


def children(pid: int) -> list[int] | None:
    """Processes that a process has started, as /proc numbers them; None where the kernel does not list them
    (CONFIG_PROC_CHILDREN), or the process has ended.
    """
    found: list[int] = []
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += [int(child) for child in (task / "children").read_text().split()]
    except (OSError, ValueError):
        return None
    return found


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


def thread_names(pid: int) -> list[str]:
    """Of the threads that a process has now."""
    names = []
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):
                names.append((task / "comm").read_text().rstrip("\n"))
    return names


def waited_seconds(pid: int) -> float:
    """How long a process was ready to run and had no core: of its threads, the one that waited longest.

    Second field of schedstat (Linux, Documentation/scheduler/sched-stats.rst); 0 where the kernel does not count.
    """
    waited = [0]
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError, ValueError, IndexError):
                waited.append(int((task / "schedstat").read_text().split()[1]))
    return max(waited) / 1e9


class _CloneArguments(ctypes.Structure):
    _fields_ = tuple(
        (name, ctypes.c_uint64)
        for name in ("flags", "pidfd", "child_tid", "parent_tid", "exit_signal", "stack", "stack_size", "tls")
    )


class _CapabilityHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _CapabilitySets(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in ("Z", "X")
    except (OSError, IndexError):
        return True  # gone by now


def _namespace_package(module: ModuleType) -> list[str]:
    """Folders of a top-level package without an __init__.py."""
    if getattr(module, "__file__", None) or "." in module.__name__:
        return []
    return [str(folder) for folder in getattr(module, "__path__", [])]


def _drop_capabilities() -> None:
    for capability in range(64):
        libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)  # refused without privileges: then there is none to drop
    if number("capset") is None:
        return
    header = _CapabilityHeader(version=_CAPABILITY_VERSION_3, pid=0)
    none = (_CapabilitySets * 2)()
    call("capset", ctypes.byref(header), ctypes.byref(none))


def _map_identity(uid: int, gid: int) -> None:
    """Gives the new user namespace the one user and group that we already are."""
    for name, text in (("uid_map", f"{uid} {uid} 1"), ("setgroups", "deny"), ("gid_map", f"{gid} {gid} 1")):
        with contextlib.suppress(OSError):
            Path("/proc/self", name).write_text(text)


def _address_space_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
