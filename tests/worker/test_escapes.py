"""What a candidate tries and must not manage: files, sockets, other processes, doors into the kernel.

Each attempt is a real extension in a real worker, and the errno that it got is the result. The same attempts run in
workers that the kernel gives less to: without Landlock (a root folder of their own instead), and without seccomp.
"""

from __future__ import annotations

import errno
import os
import re
import socket
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from sites import HERE, Site, eventually, start_site

from kernelevo.records import Outcome

SOURCE = (HERE / "candidates" / "escapes.cpp").read_text()
ATTEMPTS = sorted(re.findall(r'^    \{"([^"]+)",', SOURCE, re.MULTILINE))
WELL = 0
NOT_FOR_US = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.EXDEV, errno.EINVAL}


@pytest.fixture(params=["site", "unlandlocked_site"])
def filed_site(request: pytest.FixtureRequest) -> Site:
    """Where files are out of reach: by Landlock, and by a root folder of one's own."""
    return holding(request.getfixturevalue(request.param), "files")


@pytest.fixture(params=["site", "unlandlocked_site", "unfiltered_site"])
def every_site(request: pytest.FixtureRequest) -> Site:
    site: Site = request.getfixturevalue(request.param)
    return site


@pytest.fixture
def attempt(extension: Callable[[str], Path]) -> Callable[..., int]:
    """What errno an attempt ends with in a fresh worker of a site; 0: it went well."""

    def run(site: Site, name: str, text: object = "") -> int:
        with site.session(extension("escapes")) as session:
            words = torch.tensor(list(str(text).encode()), dtype=torch.uint8)
            call = session.call([words, ATTEMPTS.index(name)])
        assert call.outcome is Outcome.PASSED, (name, call.reason, call.output)
        return int(call.outputs[0].item())

    return run


def holding(site: Site, *protections: str) -> Site:
    """The site, when these protections hold on this machine."""
    lacking = set(protections) & site.missing()
    if lacking:
        pytest.skip(f"this machine does not give: {', '.join(sorted(lacking))}; `kernelevo doctor` says why")
    return site


# --- files


@dataclass(frozen=True)
class Place:
    """A file that is none of the candidate's business, and a sign that nobody touched it."""

    path: Path

    def unharmed(self) -> bool:
        return self.path.read_text() == "secret" and [file.name for file in self.path.parent.iterdir()] == ["secret"]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    folder = tmp_path / "home" / ".ssh"
    folder.mkdir(parents=True)
    (folder / "secret").write_text("secret")
    return Place(folder / "secret")


ON_A_FILE = [
    *("read", "write", "truncate", "truncate while reading", "remove", "take into the scratch folder"),
    *("link into the scratch folder", "read through a link of its own", "change its mode", "change its owner"),
    *("change its times", "set an attribute"),
]


@pytest.mark.parametrize("name", ON_A_FILE)
def test_a_file_outside_can_neither_be_read_nor_changed(
    filed_site: Site, attempt: Callable[..., int], place: Place, name: str
) -> None:
    before = place.path.stat()
    assert attempt(filed_site, name, place.path) in NOT_FOR_US
    after = place.path.stat()
    assert place.unharmed()
    assert (after.st_mode, after.st_uid, after.st_mtime_ns) == (before.st_mode, before.st_uid, before.st_mtime_ns)


@pytest.mark.parametrize("name", ["create", "make a folder", "make a link to nowhere"])
def test_nothing_can_be_made_in_a_folder_outside(
    filed_site: Site, attempt: Callable[..., int], place: Place, name: str
) -> None:
    assert attempt(filed_site, name, place.path.parent / "new") in NOT_FOR_US
    assert place.unharmed()


@pytest.mark.parametrize("path", ["/etc/shadow", "/etc/passwd", "/root/.bashrc", "/proc/{us}/environ"])
def test_secrets_of_the_machine_cannot_be_read(filed_site: Site, attempt: Callable[..., int], path: str) -> None:
    path = path.replace("{us}", str(os.getpid()))
    if not Path(path).exists():
        pytest.skip(f"there is no {path} here")
    assert attempt(filed_site, "read", path) in NOT_FOR_US


@pytest.mark.parametrize("folder", ["/", "/home", "/etc", "/tmp", "/var", str(Path(__file__).parent)])
def test_folders_of_the_machine_cannot_be_listed(site: Site, attempt: Callable[..., int], folder: str) -> None:
    assert attempt(holding(site, "files"), "list", folder) == errno.EACCES


@pytest.mark.parametrize("folder", ["/etc", "/tmp", "/dev/shm", "/usr/lib", "/var/tmp", "/proc/self"])
def test_no_folder_of_the_machine_can_be_written(filed_site: Site, attempt: Callable[..., int], folder: str) -> None:
    target = Path(folder, f"kernelevo-test-{uuid.uuid4().hex}")
    try:
        assert attempt(filed_site, "create", target) in NOT_FOR_US
        assert not target.exists()
    finally:
        with suppress(OSError):
            target.unlink()


def test_the_artifact_and_what_lies_beside_it_stay_as_they_are(
    filed_site: Site, attempt: Callable[..., int], extension: Callable[[str], Path]
) -> None:
    artifact = extension("escapes")
    before = artifact.read_bytes(), sorted(artifact.parent.iterdir())
    for name in ("write", "truncate", "remove", "change its mode", "change its times"):
        assert attempt(filed_site, name, artifact) in NOT_FOR_US
    assert attempt(filed_site, "create", artifact.with_suffix(".json")) in NOT_FOR_US
    assert attempt(filed_site, "read", artifact) == WELL
    assert (artifact.read_bytes(), sorted(artifact.parent.iterdir())) == before


def test_the_object_cache_takes_plain_files_and_nothing_else(
    filed_site: Site, attempt: Callable[..., int], extension: Callable[[str], Path]
) -> None:
    cache = extension("escapes").parent / "objects"
    kept = cache / f"object-{uuid.uuid4().hex}"
    assert attempt(filed_site, "create", kept) == WELL
    assert kept.read_bytes() == b"x"
    assert attempt(filed_site, "read", kept) == WELL, "the next worker finds it"
    kept.unlink()


def test_the_object_cache_holds_no_folders_and_no_links(
    site: Site, attempt: Callable[..., int], extension: Callable[[str], Path]
) -> None:
    cache = extension("escapes").parent / "objects"
    for name in ("make a folder", "make a link to nowhere"):
        assert attempt(holding(site, "files"), name, cache / "new") == errno.EACCES
    assert not (cache / "new").is_symlink()


def test_caches_of_the_parent_cannot_be_poisoned(
    extension: Callable[[str], Path], attempt: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever the parent's variables and home folder point, the worker is told nothing and reaches nothing."""
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path / "torch_extensions"))
    monkeypatch.setenv("KERNELEVO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path))
    targets = [
        tmp_path / "torch_extensions" / "rmsnorm" / "rmsnorm.so",
        tmp_path / "cache" / "verdicts" / "key.json",
        tmp_path / ".cache" / "kernelevo" / "builds" / "key" / "build.json",
        tmp_path / "db" / "kernelevo.sqlite",
    ]
    for target in targets:
        target.parent.mkdir(parents=True)
        target.write_text("honest")
    site = start_site()
    try:
        for target in targets:
            assert attempt(holding(site, "files"), "write", target) == errno.EACCES
            assert attempt(site, "create", target.with_name("preload.so")) == errno.EACCES
            assert target.read_text() == "honest"
            assert [file.name for file in target.parent.iterdir()] == [target.name]
    finally:
        site.server.close()


def test_a_preloaded_library_of_a_candidate_reaches_no_other_candidate(
    filed_site: Site, attempt: Callable[..., int]
) -> None:
    """The loader reads /etc/ld.so.preload; a file beside it stands for it, in case we are wrong."""
    beside = Path(f"/etc/kernelevo-test-{uuid.uuid4().hex}")
    try:
        assert attempt(filed_site, "create", beside) in NOT_FOR_US
        assert not beside.exists()
    finally:
        beside.unlink(missing_ok=True)


# --- sockets


@pytest.fixture
def visitors() -> Iterator[Callable[[socket.socket], list[str]]]:
    """Listens on a socket and gives the list of those that came."""
    listening: list[socket.socket] = []

    def listen(endpoint: socket.socket) -> list[str]:
        came: list[str] = []
        listening.append(endpoint)

        def welcome() -> None:
            with suppress(OSError):
                while True:
                    if endpoint.type == socket.SOCK_DGRAM:
                        came.append(str(endpoint.recv(10)))
                    else:
                        endpoint.accept()[0].close()
                        came.append("connection")

        if endpoint.type != socket.SOCK_DGRAM:
            endpoint.listen()
        threading.Thread(target=welcome, daemon=True).start()
        return came

    yield listen
    for endpoint in listening:
        with suppress(OSError):
            endpoint.shutdown(socket.SHUT_RDWR)
        endpoint.close()


def test_a_server_on_this_machine_cannot_be_reached(
    every_site: Site, attempt: Callable[..., int], visitors: Callable[[socket.socket], list[str]]
) -> None:
    if "network" in every_site.missing() and "processes" in every_site.missing():
        pytest.skip("this machine gives neither seccomp nor network namespaces")
    endpoint = socket.socket()
    endpoint.bind(("127.0.0.1", 0))
    came = visitors(endpoint)
    assert attempt(every_site, "connect by TCP", endpoint.getsockname()[1]) in (
        {errno.EPERM, errno.EACCES, errno.ENETUNREACH, errno.ECONNREFUSED}
    )
    assert came == []
    socket.create_connection(endpoint.getsockname()).close()
    assert eventually(lambda: came == ["connection"]), "the server must have been there to be reached"


def test_an_abstract_socket_cannot_be_reached(
    every_site: Site, attempt: Callable[..., int], visitors: Callable[[socket.socket], list[str]]
) -> None:
    if "network" in every_site.missing() and "processes" in every_site.missing():
        pytest.skip("this machine gives neither seccomp nor network namespaces")
    name = f"kernelevo-{uuid.uuid4().hex}"
    endpoint = socket.socket(socket.AF_UNIX)
    endpoint.bind(f"\0{name}")
    came = visitors(endpoint)
    assert attempt(every_site, "connect to an abstract socket", name) in {errno.EPERM, errno.ECONNREFUSED}
    assert came == []


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("connect to a socket in a folder", socket.SOCK_STREAM),
        ("send a datagram to a socket in a folder", socket.SOCK_DGRAM),
    ],
)
def test_a_socket_in_a_folder_cannot_be_reached(
    site: Site,
    attempt: Callable[..., int],
    tmp_path: Path,
    visitors: Callable[[socket.socket], list[str]],
    name: str,
    kind: socket.SocketKind,
) -> None:
    holding(site, "network")
    path = Path("/tmp", f"kernelevo-{uuid.uuid4().hex[:8]}.sock")  # short enough for an address
    endpoint = socket.socket(socket.AF_UNIX, kind)
    endpoint.bind(str(path))
    try:
        came = visitors(endpoint)
        assert attempt(site, name, path) == errno.EPERM
        assert came == []
    finally:
        path.unlink()


# --- other processes


@pytest.mark.parametrize("name", ["trace", "read the memory of", "limit", "signal"])
def test_the_processes_of_the_parent_cannot_be_touched(
    every_site: Site, attempt: Callable[..., int], name: str
) -> None:
    holding(every_site, "processes")
    for process in (os.getpid(), every_site.server.pid):
        assert attempt(every_site, name, process) in {errno.EPERM, errno.ESRCH}
    assert attempt(every_site, "do what honest code does") == WELL


@pytest.mark.parametrize("name", ["trace its parent", "read the memory of its parent", "limit its parent"])
def test_the_keeper_cannot_be_touched(site: Site, attempt: Callable[..., int], name: str) -> None:
    assert attempt(holding(site, "system calls"), name) == errno.EPERM


@pytest.mark.parametrize("file", ["mem", "environ", "maps", "fd", "root"])
def test_what_proc_says_of_other_processes_cannot_be_read(
    every_site: Site, attempt: Callable[..., int], file: str
) -> None:
    holding(every_site, "files")
    refused = {errno.EACCES, errno.EPERM, errno.ENOENT} | ({errno.EISDIR} if file == "fd" else set())
    for process in (os.getpid(), every_site.server.pid, 1):
        assert attempt(every_site, "read", f"/proc/{process}/{file}") in refused
        if file == "mem":
            assert attempt(every_site, "write", f"/proc/{process}/{file}") in {errno.EACCES, errno.EROFS, errno.ENOENT}


def test_killing_everything_kills_nobody_else(
    every_site: Site, attempt: Callable[..., int], extension: Callable[[str], Path]
) -> None:
    holding(every_site, "processes")
    words = torch.empty(0, dtype=torch.uint8)
    with every_site.session(extension("escapes")) as other:
        honest = ATTEMPTS.index("do what honest code does")
        assert other.call([words, honest]).outcome is Outcome.PASSED
        assert attempt(every_site, "kill everything") in {errno.EPERM, errno.ESRCH}
        again = other.call([words, honest])
    assert (again.outcome, again.outputs[0].item()) == (Outcome.PASSED, WELL)
    assert every_site.wait_for_processes(0) == 0


# --- the kernel


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("run a program", "/bin/true"),
        ("run a program of its own", "/usr/lib/x86_64-linux-gnu/libc.so.6"),
        ("make a file in memory", ""),
        ("unshare", ""),
        ("clone into a new namespace", ""),
        ("mount", ""),
        ("count events of the processor", ""),
        ("leave memory behind", ""),
        ("change personality", ""),
        ("filter itself", ""),
        ("type into a terminal", ""),
        ("enter the kernel otherwise", ""),
    ],
)
def test_a_system_call_that_no_kernel_needs_is_refused(
    site: Site, attempt: Callable[..., int], name: str, text: str
) -> None:
    assert attempt(holding(site, "system calls"), name, text) == errno.EPERM


def test_a_system_call_that_is_newer_than_ours_does_not_exist(site: Site, attempt: Callable[..., int]) -> None:
    name = "make a call that is newer than our table"
    assert attempt(holding(site, "system calls"), name) == errno.ENOSYS


def test_no_program_runs_where_there_is_no_filter(unfiltered_site: Site, attempt: Callable[..., int]) -> None:
    if "files" in unfiltered_site.missing():
        pytest.skip("this machine gives no Landlock")
    assert attempt(unfiltered_site, "run a program", "/bin/true") == errno.EACCES


def test_honest_code_finds_everything_that_it_needs(every_site: Site, attempt: Callable[..., int]) -> None:
    assert attempt(every_site, "do what honest code does") == WELL


# --- what a worker has and leaves


def test_a_worker_has_no_descriptor_but_its_channel_and_its_output(
    every_site: Site, extension: Callable[[str], Path]
) -> None:
    with every_site.session(extension("escapes")) as session:
        number = ATTEMPTS.index("show open descriptors")
        listed = session.call([torch.empty(0, dtype=torch.uint8), number]).output.splitlines()
    kinds = sorted(re.sub(r"\d+", "N", line.split(" ", 1)[1]) for line in listed)
    held = ["/proc/N"] if "/proc/N" in kinds else []  # only looked up, never opened: see confinement.confine
    assert kinds == sorted(["/dev/null", *held, "pipe:[N]", "pipe:[N]", "socket:[N]"]), listed


def test_folders_too_deep_for_a_path_are_removed_with_the_scratch_folder(
    site: Site, attempt: Callable[..., int], scratch_folder: Path
) -> None:
    assert attempt(site, "make folders in folders") == WELL
    assert eventually(lambda: not list(scratch_folder.glob("kernelevo-*")))
