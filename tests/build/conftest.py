"""A cache folder of a test's own that shares the precompiled headers with all other tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from kernelevo.build import build, warm
from kernelevo.build.bench import KERNEL as BENCH
from kernelevo.records import Build, BuildMethod, Candidate
from kernelevo.toolchain import Toolchain, find_toolchain

SAMPLES = {path.stem: path for path in (Path(__file__).parent / "candidates").glob("*.cu")} | {"layernorm": BENCH}


@pytest.fixture(scope="session")
def toolchain() -> Toolchain:
    return find_toolchain()


@pytest.fixture(scope="session")
def precompiled(toolchain: Toolchain, cache_folder: Path) -> Path:
    """Folder with the precompiled headers: ten seconds the first time, nothing afterwards."""
    warm(toolchain, cache_folder)
    return cache_folder.resolve() / "host"


@pytest.fixture
def cache(tmp_path: Path, precompiled: Path) -> Path:
    folder = tmp_path / "cache"
    folder.mkdir()
    (folder / "host").symlink_to(precompiled)
    return folder


@pytest.fixture(scope="session")
def built(toolchain: Toolchain, cache_folder: Path) -> Callable[[str], Build]:
    """Builds a source, or candidates/NAME.cu, with the split build and no other."""

    def get(source: str) -> Build:
        text = source if "\n" in source else SAMPLES[source].read_text()
        candidate = Candidate(source=text, entry="forward")
        return build(candidate, target="sm_90", toolchain=toolchain, cache=cache_folder, method=BuildMethod.SPLIT)

    return get
