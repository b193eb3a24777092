"""Landlock: this process gives up, for good and for its children, every file but those it names.

Takes paths and what may be done beneath each, gives nothing back. Everything that the running kernel's version of
Landlock can refuse is refused, so a newer kernel refuses more:

    1  Linux 5.13  open, create, remove, execute       4  6.7   TCP bind and connect
    2  5.19        move between folders (version 1     5  6.10  ioctl of devices
                   always refuses it)                  6  6.12  signals and abstract sockets of others
    3  6.2         truncate                            7  6.15  (may be told not to fill the log)

Not refused by any version: chmod, chown, times and extended attributes of files, sockets with a path, and stat. That is
what seccomp.py is for. Sources: Documentation/userspace-api/landlock.rst and include/uapi/linux/landlock.h.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from kernelevo.devices.system_calls import call

_CREATE_RULESET_VERSION = 1 << 0
_RULE_PATH_BENEATH = 1
_LOG_SAME_EXEC_OFF = 1 << 0

_BITS = {
    name: 1 << bit
    for bit, name in enumerate(
        [
            "execute",
            "write_file",
            "read_file",
            "read_dir",
            "remove_dir",
            "remove_file",
            "make_char",
            "make_dir",
            "make_reg",
            "make_sock",
            "make_fifo",
            "make_block",
            "make_sym",
            "refer",
            "truncate",
            "ioctl_dev",
        ]
    )
}
_OF_A_FILE = ("execute", "write_file", "read_file", "truncate", "ioctl_dev")
_SINCE = {"refer": 2, "truncate": 3, "ioctl_dev": 5}
_TCP = 0b11  # bind, connect; since version 4
_SCOPED = 0b11  # abstract sockets, signals; since version 6

READ = frozenset({"read_file", "read_dir"})
WRITE_FILES = READ | {"write_file", "truncate", "make_reg", "remove_file"}  # plain files, in that folder or below
WRITE = WRITE_FILES | {"remove_dir", "make_dir", "make_sym", "make_fifo", "refer"}
DEVICE = frozenset({"read_file", "write_file", "ioctl_dev"})


@dataclass(frozen=True, slots=True)
class Handled:
    """What a ruleset refuses unless a rule allows it: masks of LANDLOCK_ACCESS_FS_*, _ACCESS_NET_* and _SCOPE_*."""

    files: int
    network: int
    scoped: int


def version() -> int:
    """Of the running kernel's Landlock; raises OSError, whose errno is ENOSYS or EOPNOTSUPP where there is none."""
    return call("landlock_create_ruleset", None, 0, _CREATE_RULESET_VERSION)


def why_unavailable() -> str | None:
    """None where this kernel has Landlock, otherwise the reason."""
    try:
        version()
    except OSError as error:
        reasons = {
            errno.ENOSYS: "it came with Linux 5.13 and can be left out of a kernel, or hidden by a container",
            errno.EOPNOTSUPP: "it was turned off when this machine started: add landlock to the lsm= boot parameter",
        }
        return f"this kernel offers no Landlock ({reasons.get(error.errno or 0, error.strerror)})"
    return None


def handled(number: int) -> Handled:
    """Everything that this version of Landlock can refuse."""
    return Handled(
        files=sum(bit for name, bit in _BITS.items() if _SINCE.get(name, 1) <= number),
        network=_TCP if number >= 4 else 0,
        scoped=_SCOPED if number >= 6 else 0,
    )


def restrict(allowed: Iterable[tuple[str, frozenset[str]]], *, using: int) -> None:
    """Leaves this process only what is allowed: pairs of a path and the names of rights beneath it (READ, WRITE, ...).

    using: at most this version of Landlock, which must not be above `version()`. A path that does not exist, or that we
    cannot open ourselves, is passed over. Needs no_new_privs. Raises OSError.
    """
    refused = handled(using)
    attributes = _Ruleset(handled_files=refused.files, handled_network=refused.network, scoped=refused.scoped)
    size = 8 if using < 4 else 16 if using < 6 else 24  # the structure grew; older kernels know its beginning
    ruleset = call("landlock_create_ruleset", ctypes.byref(attributes), size, 0)
    try:
        for path, rights in _merged(allowed).items():
            with suppress(FileNotFoundError, NotADirectoryError, PermissionError):
                _allow(ruleset, path, rights, refused.files)
        try:
            call("landlock_restrict_self", ruleset, _LOG_SAME_EXEC_OFF if using >= 7 else 0)
        except OSError as error:
            if error.errno != errno.EINVAL or using < 7:
                raise
            call("landlock_restrict_self", ruleset, 0)
    finally:
        os.close(ruleset)


def _merged(allowed: Iterable[tuple[str, frozenset[str]]]) -> Mapping[str, frozenset[str]]:
    rights: dict[str, frozenset[str]] = {}
    for path, names in allowed:
        rights[path] = rights.get(path, frozenset()) | names
    return rights


def _allow(ruleset: int, path: str, rights: frozenset[str], handled_files: int) -> None:
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            rights = rights & frozenset(_OF_A_FILE)
        mask = sum(_BITS[name] for name in rights) & handled_files
        if mask:
            rule = _PathBeneath(allowed=mask, parent=descriptor)
            call("landlock_add_rule", ruleset, _RULE_PATH_BENEATH, ctypes.byref(rule), 0)
    finally:
        os.close(descriptor)


class _Ruleset(ctypes.Structure):
    _fields_ = (
        ("handled_files", ctypes.c_uint64),
        ("handled_network", ctypes.c_uint64),
        ("scoped", ctypes.c_uint64),
    )


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32))
