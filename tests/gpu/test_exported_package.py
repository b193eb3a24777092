"""A package from the gallery on a GPU: compiled at first use, under inductor, with gradients, by its own tests."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kernelevo import open_archive
from kernelevo.export import export

pytestmark = [pytest.mark.gpu, pytest.mark.slow]

GALLERY = Path(__file__).resolve().parents[2] / "db" / "gallery.sqlite"


def test_an_exported_package_passes_its_own_tests(tmp_path: Path) -> None:
    with open_archive(GALLERY, read_only=True) as archive:
        done = export(archive, "rmsnorm", tmp_path / "package")
    path = os.pathsep.join([str(done.folder / "src"), os.environ.get("PYTHONPATH", "")])
    tested = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(done.folder / "tests")],
        env={**os.environ, "PYTHONPATH": path, "TORCH_EXTENSIONS_DIR": str(tmp_path / "extensions")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert tested.returncode == 0 and "skipped" not in tested.stdout, tested.stdout + tested.stderr
