"""Landlock on every version: what is asked of the kernel, and that older versions still hold what they can hold."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import pytest

from kernelevo.devices import landlock
from kernelevo.devices.system_calls import control

PR_SET_NO_NEW_PRIVS = 38
HERE = landlock.why_unavailable()
NEWEST = 0 if HERE else landlock.version()

pytestmark = pytest.mark.skipif(HERE is not None, reason=str(HERE))


def confined(
    folder: Path, version: int, attempts: Sequence[Callable[[], object]], allowed: Sequence[tuple[str, frozenset[str]]]
) -> list[int]:
    """What errno each attempt ends with in a child that keeps only what is allowed; 0: it went well."""
    told, tell = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            control(PR_SET_NO_NEW_PRIVS, 1)
            landlock.restrict(allowed, using=version)
            os.write(tell, bytes(map(error_of, attempts)))
        finally:
            os._exit(0)
    os.close(tell)
    answer = os.read(told, 1 << 10)
    os.close(told)
    os.waitpid(child, 0)
    assert len(answer) == len(attempts), "the child could not be confined"
    return list(answer)


def error_of(attempt: Callable[[], object]) -> int:
    try:
        attempt()
    except OSError as error:
        return error.errno or 255
    return 0


@pytest.mark.parametrize("version", range(1, NEWEST + 1))
def test_each_version_refuses_what_it_can(tmp_path: Path, version: int) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    for folder in (inside, outside):
        folder.mkdir()
        for name in ("a", "b", "c"):
            (folder / name).write_text("text")
    server = socket.create_server(("127.0.0.1", 0))
    attempts: list[Callable[[], object]] = [
        (outside / "a").read_text,
        lambda: (outside / "a").write_text(""),
        (outside / "new").mkdir,
        (outside / "b").unlink,
        lambda: (inside / "a").write_text("changed"),
        (inside / "new").mkdir,
        lambda: os.rename(inside / "b", inside / "d"),
        lambda: os.rename(inside / "c", outside / "d"),
    ]
    later: list[Callable[[], object]] = [
        lambda: os.truncate(outside / "c", 0),  # 3
        lambda: socket.socket().connect(server.getsockname()),  # 4
        lambda: os.kill(os.getppid(), 0),  # 6
    ]
    answers = confined(tmp_path, version, [*attempts, *later], [(str(inside), landlock.WRITE)])
    refused = errno.EACCES
    assert answers[:7] == [refused, refused, refused, refused, 0, 0, 0]
    assert answers[7] in (refused, errno.EXDEV)
    assert answers[8:] == [
        refused if version >= 3 else 0,
        refused if version >= 4 else 0,
        errno.EPERM if version >= 6 else 0,
    ]
    assert (outside / "b").exists()
    assert (inside / "a").read_text() == "changed"
    server.close()


@pytest.mark.parametrize("version", range(1, NEWEST + 1))
def test_reading_grants_no_writing_and_a_file_grants_no_folder(tmp_path: Path, version: int) -> None:
    (tmp_path / "file").write_text("text")
    (tmp_path / "beside").write_text("text")
    answers = confined(
        tmp_path,
        version,
        [
            (tmp_path / "file").read_text,
            lambda: open(tmp_path / "file", "a"),  # noqa: SIM115 - the child ends at once
            (tmp_path / "beside").read_text,
            lambda: os.listdir(tmp_path),
        ],
        [(str(tmp_path / "file"), landlock.READ), (str(tmp_path / "nowhere"), landlock.READ)],
    )
    assert answers == [0, errno.EACCES, errno.EACCES, errno.EACCES]


def test_newer_versions_handle_more_and_never_less() -> None:
    versions = [landlock.handled(version) for version in range(1, 12)]
    assert [bin(handled.files).count("1") for handled in versions[:6]] == [13, 14, 15, 15, 16, 16]
    assert [handled.network for handled in versions[:5]] == [0, 0, 0, 3, 3]
    assert [handled.scoped for handled in versions[:7]] == [0, 0, 0, 0, 0, 3, 3]
    assert all(one.files & two.files == one.files for one, two in pairwise(versions))
    assert versions[-1] == versions[6], "a version that we do not know is used as the last that we do"


def test_a_device_may_be_declared(tmp_path: Path) -> None:
    """Its file can be read, written and asked by ioctl; no other device can."""
    answers = confined(
        tmp_path,
        NEWEST,
        [lambda: os.open("/dev/null", os.O_RDWR), lambda: os.open("/dev/zero", os.O_RDWR)],
        [("/dev/null", landlock.DEVICE), ("/dev/zero", landlock.READ)],
    )
    assert answers == [0, errno.EACCES]
