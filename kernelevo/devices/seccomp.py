"""A seccomp filter: the system calls that no kernel's host code needs are refused, for good, to this process and its
children.

Takes nothing but names of calls to spare, gives the BPF program and installs it. What is not refused works as before:
threads, memory, futexes, pipes, eventfd, polling, ioctl of an open device. A refused call fails with EPERM, and one
that is newer than our table with ENOSYS, which libraries take as an older kernel. What a call's pointers point at
cannot be judged by a filter, so clone3 and openat2, whose flags lie in memory, do not exist (libc then uses clone and
openat).

BPF and seccomp: Documentation/userspace-api/seccomp_filter.rst and include/uapi/linux/{filter,seccomp,audit}.h.
"""

from __future__ import annotations

import ctypes
import errno
import platform
import struct
from collections.abc import Iterator, Sequence

from kernelevo.devices.system_calls import FIRST_UNKNOWN, call, number

REFUSED = [
    "ptrace",
    "process_vm_readv",
    "process_vm_writev",
    "process_madvise",
    "process_mrelease",
    "kcmp",
    "pidfd_open",
    "pidfd_getfd",
    "pidfd_send_signal",
    "migrate_pages",
    "setpriority",
    "ioprio_set",
    "sched_setattr",
    "sched_setscheduler",
    "sched_setparam",
    "execve",
    "execveat",
    "uselib",
    "socket",
    "connect",
    "bind",
    "listen",
    "accept",
    "accept4",
    "unshare",
    "setns",
    "mount",
    "umount2",
    "move_mount",
    "open_tree",
    "open_tree_attr",
    "fsopen",
    "fsconfig",
    "fsmount",
    "fspick",
    "mount_setattr",
    "pivot_root",
    "chroot",
    "truncate",
    "chmod",
    "fchmod",
    "fchmodat",
    "fchmodat2",
    "chown",
    "fchown",
    "lchown",
    "fchownat",
    "utime",
    "utimes",
    "futimesat",
    "utimensat",
    "setxattr",
    "lsetxattr",
    "fsetxattr",
    "setxattrat",
    "removexattr",
    "lremovexattr",
    "fremovexattr",
    "removexattrat",
    "file_setattr",
    "mknod",
    "mknodat",
    "name_to_handle_at",
    "open_by_handle_at",
    "fanotify_init",
    "fanotify_mark",
    "shmget",
    "shmat",
    "shmctl",
    "semget",
    "msgget",
    "mq_open",
    "mq_unlink",
    "memfd_create",
    "memfd_secret",
    "bpf",
    "perf_event_open",
    "userfaultfd",
    "io_uring_setup",
    "io_uring_enter",
    "io_uring_register",
    "keyctl",
    "add_key",
    "request_key",
    "seccomp",
    "modify_ldt",
    "iopl",
    "ioperm",
    "lookup_dcookie",
    "syslog",
    "_sysctl",
    "sysfs",
    "ustat",
    "nfsservctl",
    "kexec_load",
    "kexec_file_load",
    "init_module",
    "finit_module",
    "delete_module",
    "reboot",
    "swapon",
    "swapoff",
    "acct",
    "quotactl",
    "quotactl_fd",
    "settimeofday",
    "clock_settime",
    "clock_adjtime",
    "adjtimex",
    "sethostname",
    "setdomainname",
    "vhangup",
]

ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}  # AUDIT_ARCH_*
_X32 = 0x40000000  # marks calls of the x32 ABI, which have numbers of their own

_SET_MODE_FILTER = 1
_GET_ACTION_AVAIL = 2
_FLAG_SPEC_ALLOW = 1 << 2  # before Linux 5.16 a filter otherwise slows the process down by turning speculation off
_PR_SET_SECCOMP = 22
_KILL_PROCESS = 0x80000000
_ERRNO = 0x00050000
_ALLOW = 0x7FFF0000

_NEW_NAMESPACE = 0x7E020000  # CLONE_NEW{NS,CGROUP,UTS,IPC,USER,PID,NET}
_AF_UNIX, _SOCK_STREAM, _SOCK_SEQPACKET = 1, 1, 5
_TIOCSTI, _TIOCLINUX = 0x5412, 0x541C  # type into a terminal
_O_ACCMODE, _O_TRUNC = 0o3, 0o1000

# BPF: an instruction is (code, jump if true, jump if false, constant).
Instruction = tuple[int, int, int, int]
_LOAD, _AND = 0x20, 0x54  # a word of seccomp_data into the accumulator; accumulator & constant
_EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x15, 0x35, 0x45, 0x06
_NUMBER, _ARCHITECTURE = 0, 4  # offsets in seccomp_data
_INSTRUCTION = struct.Struct("=HBBI")


def program(*, spared: Sequence[str] = (), machine: str | None = None) -> bytes:
    """The filter. spared: names from REFUSED that are to work after all. machine: as platform.machine() says it.

    Raises ValueError for a name that is not refused anyway, OSError where the machine's numbers are not known.
    """
    machine = platform.machine() if machine is None else machine
    if machine not in ARCHITECTURES:
        raise OSError(errno.ENOSYS, f"no system call numbers for {machine}; known are {', '.join(ARCHITECTURES)}")
    if wrong := [name for name in spared if name not in REFUSED]:
        raise ValueError(f"{', '.join(wrong)}: not refused, so cannot be spared")
    numbers = [found for name in REFUSED if name not in spared and (found := number(name, machine)) is not None]
    instructions: list[Instruction] = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_EQUAL, 1, 0, ARCHITECTURES[machine]),
        (_RETURN, 0, 0, _KILL_PROCESS),  # 32-bit calls of a 64-bit process
        *_argument_rules(machine),
        (_LOAD, 0, 0, _NUMBER),
        (_AT_LEAST, 0, 1, _X32),
        _refuse(errno.EPERM),
        (_AT_LEAST, 0, 1, FIRST_UNKNOWN),
        _refuse(errno.ENOSYS),
    ]
    for which in sorted(numbers):
        instructions += [(_EQUAL, 0, 1, which), _refuse(errno.EPERM)]
    instructions.append((_RETURN, 0, 0, _ALLOW))
    return b"".join(_INSTRUCTION.pack(*instruction) for instruction in instructions)


def refusing(*names: str, error: int) -> bytes:
    """A filter that refuses these calls with `error` and no others."""
    instructions: list[Instruction] = [(_LOAD, 0, 0, _NUMBER)]
    for which in filter(None, map(number, names)):
        instructions += [(_EQUAL, 0, 1, which), _refuse(error)]
    instructions.append((_RETURN, 0, 0, _ALLOW))
    return b"".join(_INSTRUCTION.pack(*instruction) for instruction in instructions)


def why_unavailable() -> str | None:
    """None where this kernel takes filters and we know its numbers; otherwise the reason."""
    if platform.machine() not in ARCHITECTURES:
        return f"system calls of {platform.machine()} are not known to kernelevo"
    try:
        call("seccomp", _GET_ACTION_AVAIL, 0, ctypes.byref(ctypes.c_uint32(_KILL_PROCESS)))
    except OSError as error:
        return f"this kernel takes no filters ({error.strerror})"
    return None


def install(filter_program: bytes) -> None:
    """Filters this process for good. It needs no_new_privs, or to be privileged. Raises OSError."""
    code = ctypes.create_string_buffer(filter_program, len(filter_program))
    whole = _Program(length=len(filter_program) // _INSTRUCTION.size, code=ctypes.addressof(code))
    try:
        call("seccomp", _SET_MODE_FILTER, _FLAG_SPEC_ALLOW, ctypes.byref(whole))
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        call("seccomp", _SET_MODE_FILTER, 0, ctypes.byref(whole))  # Linux before 4.17 does not know the flag


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_uint16), ("code", ctypes.c_void_p))


def _argument_rules(machine: str) -> Iterator[Instruction]:
    """Calls that are refused, or do not exist, with some arguments only."""
    eperm, enosys = _refuse(errno.EPERM), _refuse(errno.ENOSYS)
    rules: list[tuple[str, list[Instruction]]] = [
        ("clone3", [enosys]),
        ("openat2", [enosys]),
        ("clone", [_argument(0), (_ANY_BIT, 0, 1, _NEW_NAMESPACE), eperm]),
        # Datagram sockets of a pair could be connected to others.
        (
            "socketpair",
            [
                _argument(0),
                (_EQUAL, 1, 0, _AF_UNIX),
                eperm,
                _argument(1),
                (_AND, 0, 0, 0xF),
                (_EQUAL, 2, 0, _SOCK_STREAM),
                (_EQUAL, 1, 0, _SOCK_SEQPACKET),
                eperm,
            ],
        ),
        ("ioctl", [_argument(1), (_EQUAL, 1, 0, _TIOCSTI), (_EQUAL, 0, 1, _TIOCLINUX), eperm]),
        ("prlimit64", [_argument(0), (_EQUAL, 1, 0, 0), eperm]),  # only one's own, which is process 0
        ("personality", [_argument(0), (_EQUAL, 1, 0, 0xFFFFFFFF), eperm]),  # only asking
        ("prctl", [_argument(0), (_EQUAL, 0, 1, _PR_SET_SECCOMP), eperm]),
        # Reading, yet truncating: Landlock before version 3 takes it for reading.
        ("open", [_argument(1), (_AND, 0, 0, _O_ACCMODE | _O_TRUNC), (_EQUAL, 0, 1, _O_TRUNC), eperm]),
        ("openat", [_argument(2), (_AND, 0, 0, _O_ACCMODE | _O_TRUNC), (_EQUAL, 0, 1, _O_TRUNC), eperm]),
    ]
    for name, rule in rules:
        which = number(name, machine)
        if which is not None:
            yield _LOAD, 0, 0, _NUMBER
            yield _EQUAL, 0, len(rule), which
            yield from rule


def _argument(index: int) -> Instruction:
    """Loads the low word of an argument; both architectures are little-endian."""
    return _LOAD, 0, 0, 16 + 8 * index


def _refuse(error: int) -> Instruction:
    return _RETURN, 0, 0, _ERRNO | error
