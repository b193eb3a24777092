"""Linux system calls by name, and how they are made.

Numbers: of x86-64 from arch/x86/entry/syscalls/syscall_64.tbl, of aarch64 from include/uapi/asm-generic/unistd.h,
which a system with a compiler has as asm/unistd_64.h and asm-generic/unistd.h; tests/worker/test_seccomp.py compares.
From 424 on all architectures share their numbers. None: that architecture never had the call. Only calls that this
package makes or refuses are here.
"""

from __future__ import annotations

import ctypes
import os
import platform

Numbers = tuple[int | None, int | None]  # on x86-64, on aarch64

NUMBERS: dict[str, Numbers] = {
    # made here
    "clone3": (435, 435),
    "close_range": (436, 436),
    "capset": (126, 91),
    "landlock_create_ruleset": (444, 444),
    "landlock_add_rule": (445, 445),
    "landlock_restrict_self": (446, 446),
    "mount_setattr": (442, 442),
    "pivot_root": (155, 41),
    "seccomp": (317, 277),
    # other processes
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "process_mrelease": (448, 448),
    "kcmp": (312, 272),
    "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438),
    "pidfd_send_signal": (424, 424),
    "prlimit64": (302, 261),
    "migrate_pages": (256, 238),
    "setpriority": (141, 140),
    "ioprio_set": (251, 30),
    "sched_setattr": (314, 274),
    "sched_setscheduler": (144, 119),
    "sched_setparam": (142, 118),
    # other programs
    "execve": (59, 221),
    "execveat": (322, 281),
    "uselib": (134, None),
    # sockets
    "socket": (41, 198),
    "socketpair": (53, 199),
    "connect": (42, 203),
    "bind": (49, 200),
    "listen": (50, 201),
    "accept": (43, 202),
    "accept4": (288, 242),
    # namespaces and mounts
    "clone": (56, 220),
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "umount2": (166, 39),
    "move_mount": (429, 429),
    "open_tree": (428, 428),
    "open_tree_attr": (467, 467),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "chroot": (161, 51),
    # files: what Landlock does not watch
    "open": (2, None),
    "openat": (257, 56),
    "openat2": (437, 437),
    "truncate": (76, 45),
    "chmod": (90, None),
    "fchmod": (91, 52),
    "fchmodat": (268, 53),
    "fchmodat2": (452, 452),
    "chown": (92, None),
    "fchown": (93, 55),
    "lchown": (94, None),
    "fchownat": (260, 54),
    "utime": (132, None),
    "utimes": (235, None),
    "futimesat": (261, None),
    "utimensat": (280, 88),
    "setxattr": (188, 5),
    "lsetxattr": (189, 6),
    "fsetxattr": (190, 7),
    "setxattrat": (463, 463),
    "removexattr": (197, 14),
    "lremovexattr": (198, 15),
    "fremovexattr": (199, 16),
    "removexattrat": (466, 466),
    "file_setattr": (469, 469),
    "mknod": (133, None),
    "mknodat": (259, 33),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "fanotify_init": (300, 262),
    "fanotify_mark": (301, 263),
    "ioctl": (16, 29),
    # memory that outlives a process, or that no limit counts
    "shmget": (29, 194),
    "shmat": (30, 196),
    "shmctl": (31, 195),
    "semget": (64, 190),
    "msgget": (68, 186),
    "mq_open": (240, 180),
    "mq_unlink": (241, 181),
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    # doors into the kernel
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "personality": (135, 92),
    "prctl": (157, 167),
    "modify_ldt": (154, None),
    "iopl": (172, None),
    "ioperm": (173, None),
    "lookup_dcookie": (212, 18),
    "syslog": (103, 116),
    "_sysctl": (156, None),
    "sysfs": (139, None),
    "ustat": (136, None),
    "nfsservctl": (180, 42),
    # the machine itself
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "reboot": (169, 142),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "acct": (163, 89),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "clock_adjtime": (305, 266),
    "adjtimex": (159, 171),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "vhangup": (153, 58),
}
FIRST_SHARED = 424
_PR_SET_NO_NEW_PRIVS = 38
FIRST_UNKNOWN = 470  # calls that came after this table, Linux 6.17

MACHINES = ("x86_64", "aarch64")

# PyDLL keeps the interpreter lock, without which a child made by a bare system call could not go on.
libc = ctypes.PyDLL(None, use_errno=True)


def number(name: str, machine: str | None = None) -> int | None:
    """Of a call on this machine, or on the one named as platform.machine() would; None where there is none."""
    machine = platform.machine() if machine is None else machine
    numbers = NUMBERS[name]
    if machine in MACHINES:
        return numbers[MACHINES.index(machine)]
    return numbers[0] if (numbers[0] or 0) >= FIRST_SHARED else None


def call(name: str, *arguments: object) -> int:
    """Makes a system call; raises OSError. Integers are passed as the kernel's longs, ctypes objects as they are."""
    which = number(name)
    if which is None:
        raise OSError(38, f"{name} has no number on {platform.machine()}")  # ENOSYS, as the kernel would say
    words = [ctypes.c_long(argument) if isinstance(argument, int) else argument for argument in arguments]
    result = int(libc.syscall(ctypes.c_long(which), *words))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{name}: {os.strerror(code)}")
    return result


def give_up_new_privileges() -> None:
    """For good, for this thread and its children: what Landlock and seccomp ask for first. Raises OSError."""
    control(_PR_SET_NO_NEW_PRIVS, 1)


def control(option: int, value: int) -> None:
    """prctl(option, value); raises OSError."""
    if libc.prctl(ctypes.c_int(option), ctypes.c_ulong(value), 0, 0, 0) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"prctl({option}, {value}): {os.strerror(code)}")
