"""Pages that several tests read, each written once."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from report_examples import EVIL, a_run, more_of, roofs

from kernelevo import open_archive
from kernelevo.report import report

NOW = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)


@pytest.fixture(scope="session")
def page_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Records a run as report_examples.a_run does, and writes its page."""

    def write(candidates: int, **options: Any) -> Path:
        folder = tmp_path_factory.mktemp("report")
        with open_archive(folder / "a.sqlite") as archive:
            run = a_run(archive, candidates, **options)
            if options.get("evil"):
                more_of(archive, run, evil=EVIL)
            text = report(archive, run.id, roofs=roofs(), place="a.sqlite", now=NOW)
        page = folder / "report.html"
        page.write_bytes(text.encode(errors="backslashreplace"))
        return page

    return write


@pytest.fixture(scope="session")
def page(page_of: Callable[..., Path]) -> Path:
    """Of 24 candidates, by a free model and one that costs."""
    return page_of(24)


@pytest.fixture(scope="session")
def evil_page(page_of: Callable[..., Path]) -> Path:
    """Of 12 candidates and three iterations more, with a hostile text wherever one can stand."""
    return page_of(12, evil=EVIL)
