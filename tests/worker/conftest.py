"""Extensions that misbehave, built once, and fork servers for them."""

from __future__ import annotations

import subprocess
import sysconfig
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pybind11
import pytest
from sites import HERE, Site, count_processes, eventually, start_site


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
