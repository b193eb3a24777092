"""A cache folder of a test's own that shares the precompiled headers with the user's."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from kernelevo.build import build, warm
from kernelevo.records import Build, BuildMethod, Candidate
from kernelevo.toolchain import Toolchain, find_nvcc, find_toolchain

SAMPLES = Path(__file__).parent / "candidates"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if find_nvcc()[0] is not None:
        return
    for item in items:
        if item.get_closest_marker("nvcc"):
            item.add_marker(pytest.mark.skip(reason="needs nvcc >= 12.8"))


@pytest.fixture(scope="session")
def toolchain() -> Toolchain:
    return find_toolchain()


@pytest.fixture(scope="session")
def precompiled(toolchain: Toolchain) -> Path:
    """Folder with the precompiled headers: ten seconds on a new machine, nothing afterwards."""
    user_cache = Path(os.environ.get("KERNELEVO_CACHE") or Path.home() / ".cache" / "kernelevo")
    warm(toolchain, user_cache)
    return user_cache.resolve() / "host"


@pytest.fixture
def cache(tmp_path: Path, precompiled: Path) -> Path:
    folder = tmp_path / "cache"
    folder.mkdir()
    (folder / "host").symlink_to(precompiled)
    return folder


@pytest.fixture(scope="session")
def session_cache(tmp_path_factory: pytest.TempPathFactory, precompiled: Path) -> Path:
    folder = tmp_path_factory.mktemp("builds")
    (folder / "host").symlink_to(precompiled)
    return folder


@pytest.fixture(scope="session")
def built(toolchain: Toolchain, session_cache: Path) -> Callable[[str], Build]:
    """Builds a source, or candidates/NAME.cu, with the split build and no other."""

    def get(source: str) -> Build:
        text = source if "\n" in source else (SAMPLES / f"{source}.cu").read_text()
        candidate = Candidate(source=text, entry="forward")
        return build(candidate, target="sm_90", toolchain=toolchain, cache=session_cache, method=BuildMethod.SPLIT)

    return get
