"""Golden files: `pytest tests/prompt tests/mutate --update-golden` writes them anew (tests/mutate has the option)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """Compares a text with the golden file of that name."""

    def compare(name: str, actual: str) -> None:
        path = HERE / "golden" / name
        if request.config.getoption("--update-golden", default=False):
            path.write_text(actual)
        assert path.exists(), f"no golden file {path}; see tests/prompt/conftest.py, and read what it wrote"
        assert actual == path.read_text()

    return compare
