"""Extensions that misbehave, built once, and fork servers for them."""

from __future__ import annotations

import os
import subprocess
import sysconfig
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pybind11
import pytest

from kernelevo.devices.isolation import Sandbox, missing
from kernelevo.devices.session import ForkServer, WorkerSession
from kernelevo.devices.wire import Load

HERE = Path(__file__).parent


def compile_extension(source: Path, folder: Path) -> Path:
    artifact = folder / f"{source.stem}.so"
    includes = [f"-I{pybind11.get_include()}", f"-I{sysconfig.get_paths()['include']}"]
    command = ["g++", "-std=c++20", "-O0", "-shared", "-fPIC", "-w", *includes, str(source), "-o", str(artifact)]
    subprocess.run(command, check=True)
    return artifact


@pytest.fixture(scope="session")
def extension(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Builds tests/worker/candidates/NAME.cpp, once."""
    folder = tmp_path_factory.mktemp("extensions")
    built: dict[str, Path] = {}

    def build(name: str) -> Path:
        if name not in built:
            built[name] = compile_extension(HERE / "candidates" / f"{name}.cpp", folder)
        return built[name]

    return build


@dataclass
class Site:
    """A fork server and how to find its processes."""

    server: ForkServer
    mark: str

    def session(
        self, artifact: Path, *, entry: str = "forward", timeout_seconds: float = 60.0, memory_bytes: int = 1 << 30
    ) -> WorkerSession:
        cache = artifact.parent / "objects"
        load = Load(artifact=str(artifact), ptx=None, entry=entry, object_cache=str(cache), memory_bytes=memory_bytes)
        return WorkerSession(self.server, load, timeout_seconds=timeout_seconds)

    def missing(self) -> set[str]:
        """Names of the protections that do not hold here."""
        return {protection.name for protection in missing(self.server.wait().isolation)}

    def processes(self) -> int:
        """Live processes of the server, itself left out; children of a candidate keep its command line."""
        return count_processes(self.mark) - 1

    def wait_for_processes(self, number: int) -> int:
        """How many are left: `number`, or what is still there after half a minute."""
        eventually(lambda: self.processes() == number)
        return self.processes()


RECLAIM_SECONDS = 30.0  # it takes milliseconds; a loaded machine may take its time


def eventually(condition: Callable[[], bool]) -> bool:
    """Whether a condition comes true within RECLAIM_SECONDS."""
    deadline = time.monotonic() + RECLAIM_SECONDS
    while not (true := condition()) and time.monotonic() < deadline:
        time.sleep(0.01)
    return true


def count_processes(mark: str) -> int:
    found = 0
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                found += mark.encode() in (folder / "cmdline").read_bytes()
            except OSError:
                continue
    return found


def start_site(backend: str = "PlainBackend", sandbox: Sandbox = "best-effort", **settings: object) -> Site:
    mark = f"mark-{uuid.uuid4().hex}"
    os.environ["PYTHONPATH"] = str(HERE)
    try:
        return Site(ForkServer(f"plain_backend:{backend}", {"mark": mark, **settings}, sandbox=sandbox), mark)
    finally:
        del os.environ["PYTHONPATH"]


@pytest.fixture(scope="session")
def site() -> Iterator[Site]:
    """A server with the strongest isolation that this machine allows."""
    yield from opened(start_site())


@pytest.fixture(scope="session")
def bare_site() -> Iterator[Site]:
    """A server that has to do without namespaces, Landlock and seccomp."""
    site = start_site(without=["namespaces", "landlock", "seccomp"])
    assert site.missing() == {"processes", "files", "network", "system calls"}
    yield from opened(site)


@pytest.fixture(scope="session")
def unlandlocked_site() -> Iterator[Site]:
    """A server whose kernel offers no Landlock."""
    yield from opened(start_site(without=["landlock"]))


@pytest.fixture(scope="session")
def unfiltered_site() -> Iterator[Site]:
    """A server whose kernel takes no seccomp filters."""
    yield from opened(start_site(without=["seccomp"]))


@pytest.fixture(params=["site", "bare_site"])
def any_site(request: pytest.FixtureRequest) -> Site:
    """Both, one after the other."""
    site: Site = request.getfixturevalue(request.param)
    return site


def opened(site: Site) -> Iterator[Site]:
    yield site
    site.server.close()
    assert eventually(lambda: count_processes(site.mark) == 0)


@pytest.fixture(scope="session", autouse=True)
def scratch_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """All workers' folders below one of ours; nothing is left in it at the end."""
    folder = tmp_path_factory.mktemp("scratch")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(folder))
        yield folder
    assert eventually(lambda: not list(folder.glob("kernelevo-*")))
