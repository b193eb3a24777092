"""A root folder of this process's own in which only named paths exist, for kernels without Landlock.

Takes paths and whether each may be written. The new root is an empty, read-only tmpfs with a bind mount per path, and a
/proc that shows this PID namespace only; it replaces "/" for this process and its children, and the old root goes away.
Needs CAP_SYS_ADMIN over a mount namespace (root, or a user namespace of one's own), Linux 5.12, and a PID namespace.

What Landlock refuses and this does not: ioctl of devices, and TCP; what this hides and Landlock does not: that other
files exist.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable
from contextlib import suppress

from kernelevo.devices.system_calls import call, libc

_CLONE_NEWNS = 0x00020000
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_NOEXEC = 1, 2, 4, 8
_MS_BIND, _MS_REC, _MS_PRIVATE = 4096, 16384, 1 << 18
_MNT_DETACH = 2
_AT_FDCWD = -100
_AT_RECURSIVE = 0x8000
_ATTRIBUTE_RDONLY, _ATTRIBUTE_NOSUID = 0x1, 0x2
_BASE = "/tmp"  # any folder that every machine has: the new root is mounted over it, in our namespace only
_OLD = "/.old"


def enter(*, read: Iterable[str], write: Iterable[str]) -> None:
    """Moves this process into its own root. Paths that do not exist are passed over. Raises OSError.

    read: folders and files; write: those that may be written too.
    """
    working = os.getcwd()
    if libc.unshare(_CLONE_NEWNS) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"no mount namespace: {os.strerror(code)}")
    _mount(None, "/", None, _MS_REC | _MS_PRIVATE)
    _mount("tmpfs", _BASE, "tmpfs", _MS_NOSUID | _MS_NODEV, "mode=755,size=1m")
    os.mkdir(_BASE + _OLD)
    call("pivot_root", _BASE.encode(), (_BASE + _OLD).encode())
    os.chdir("/")
    writable = {path for path in write if path}
    for path in sorted({path for path in read if path} | writable, key=lambda path: (path.count("/"), path)):
        _show(path, writable=path in writable)
    os.makedirs("/proc", exist_ok=True)
    _mount("proc", "/proc", "proc", _MS_RDONLY | _MS_NOSUID | _MS_NODEV | _MS_NOEXEC)
    if libc.umount2(_OLD.encode(), _MNT_DETACH) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"umount2 of the old root: {os.strerror(code)}")
    os.rmdir(_OLD)
    _set_attributes("/", _ATTRIBUTE_RDONLY | _ATTRIBUTE_NOSUID, 0)
    os.chdir(working)


def _show(path: str, *, writable: bool) -> None:
    """Makes a path of the old root, and where its symbolic links lead, exist in the new one."""
    if path == "/proc" or path.startswith("/proc/"):
        return  # there will be a new one
    real = _real(path)
    for place in {real, path}:
        source = _OLD + real
        with suppress(FileNotFoundError):
            folder = os.path.isdir(source)
            if not folder:
                os.stat(source)
            if os.path.exists(place) and not writable:
                continue  # a folder above it is there
            if not os.path.exists(place):
                if folder:
                    os.makedirs(place)
                else:
                    os.makedirs(os.path.dirname(place), exist_ok=True)
                    os.close(os.open(place, os.O_CREAT | os.O_RDONLY, 0o644))
            _mount(source, place, None, _MS_BIND | _MS_REC)
            _set_attributes(place, _ATTRIBUTE_NOSUID | (0 if writable else _ATTRIBUTE_RDONLY), _AT_RECURSIVE)


def _real(path: str) -> str:
    """os.path.realpath, as it was before the root changed."""
    parts, done, links = [part for part in path.split("/") if part][::-1], "", 0
    while parts:
        part = parts.pop()
        if part == ".":
            continue
        if part == "..":
            done = os.path.dirname(done)
            continue
        here = f"{done}/{part}"
        if os.path.islink(_OLD + here) and links < 40:
            links += 1
            target = os.readlink(_OLD + here)
            done = "" if target.startswith("/") else done
            parts += [piece for piece in target.split("/") if piece][::-1]
        else:
            done = here
    return done or "/"


def _mount(source: str | None, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    words = [None if word is None else word.encode() for word in (source, target, kind, data)]
    if libc.mount(words[0], words[1], words[2], ctypes.c_ulong(flags), words[3]) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"mount of {source} at {target}: {os.strerror(code)}")


def _set_attributes(path: str, attributes: int, flags: int) -> None:
    wanted = _Attributes(set=attributes)
    size = ctypes.c_size_t(ctypes.sizeof(wanted))
    call("mount_setattr", _AT_FDCWD, path.encode(), flags, ctypes.byref(wanted), size)


class _Attributes(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_uint64) for name in ("set", "clear", "propagation", "namespace"))
