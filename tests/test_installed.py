"""What `pip install` takes along: templates, tables, licences and styles, not only modules."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]


def test_every_file_of_the_package_is_installed(tmp_path: Path) -> None:
    listed = subprocess.run(
        ["git", "ls-files", "kernelevo"], cwd=CHECKOUT, capture_output=True, text=True, check=True
    ).stdout.split()
    command = [
        sys.executable,
        "setup.py",
        "-q",
        "egg_info",
        "-e",
        str(tmp_path),
        "build_py",
        "-d",
        str(tmp_path / "lib"),
    ]
    subprocess.run(command, cwd=CHECKOUT, capture_output=True, check=True)
    found = {str(path.relative_to(tmp_path / "lib")) for path in (tmp_path / "lib").rglob("*")}
    assert "kernelevo/export/licences/MIT.txt" in found
    assert not {name for name in listed if not name.endswith(".pyi")} - found
