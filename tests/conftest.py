"""What all tests share: a cache and an archive that are not the user's, one emulator, and why tests are skipped.

The cache is a folder of this run of pytest, so each kernel is built once and torch's headers are precompiled once.
Where KERNELEVO_CACHE is set, that folder is used instead: with one that is kept, the next run builds nothing.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import postgresql_server
import pytest

from kernelevo.devices.cuda import CudaDevice
from kernelevo.devices.emulator import EmulatorDevice
from kernelevo.toolchain import GET_NVCC, find_nvcc

if TYPE_CHECKING:
    from playwright.sync_api import Browser

_OWN = pytest.StashKey[Path]()
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write golden files anew")


def pytest_configure(config: pytest.Config) -> None:
    folder = config.stash[_OWN] = Path(tempfile.mkdtemp(prefix="kernelevo-tests-"))
    os.environ.setdefault("KERNELEVO_CACHE", str(folder / "cache"))
    os.environ.setdefault("KERNELEVO_ARCHIVE", str(folder / "archive.sqlite"))


def pytest_unconfigure(config: pytest.Config) -> None:
    shutil.rmtree(config.stash[_OWN], ignore_errors=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    nvcc, refused = find_nvcc()
    missing = CudaDevice.missing()
    reasons = {
        "nvcc": None if nvcc else f"{refused or 'no nvcc >= 12.8'}; {GET_NVCC}",
        "gpu": missing and missing.partition("; ")[0],
        "browser": None if CHROMIUM else "no Chromium; next: apt install chromium",
        "postgres": postgresql_server.missing(),
    }
    for item in items:
        for mark, reason in reasons.items():
            if reason is not None and item.get_closest_marker(mark):
                item.add_marker(pytest.mark.skip(reason=reason))
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)  # their files first: no worker is left alone with one at the end


@pytest.fixture(scope="session")
def cache_folder() -> Path:
    """Where this run of pytest keeps what it builds."""
    return Path(os.environ["KERNELEVO_CACHE"])


@pytest.fixture(scope="session")
def emulator() -> Iterator[EmulatorDevice]:
    """One emulator for all tests that want no other; skips where it cannot run."""
    device = EmulatorDevice()
    if (why := device.unavailable()) is not None:
        pytest.skip(why)
    yield device
    device.close()


@pytest.fixture(scope="session")
def cuda() -> Iterator[CudaDevice]:
    """The first GPU, for all tests that are marked gpu."""
    device = CudaDevice()
    yield device
    device.close()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """A headless Chromium for a module's tests that are marked browser; each opens pages of its own by `new_page(...)`.

    Of a module, not of the session: while it lives, its event loop runs here, and `asyncio.run` is refused.
    """
    from playwright.sync_api import sync_playwright

    quiet = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=quiet)
        yield started
        started.close()
