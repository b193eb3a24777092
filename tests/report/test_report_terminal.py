"""`kernelevo archive show RUN`: how far the run came in a line, and where its iterations ended."""

from __future__ import annotations

from pathlib import Path

import pytest
from report_examples import a_run
from typer.testing import CliRunner

from kernelevo import open_archive
from kernelevo.cli import complete
from kernelevo.cli.show import bars


@pytest.mark.parametrize("candidates", [24, 200])
def test_a_run_is_told_in_two_lines(candidates: int, tmp_path: Path) -> None:
    with open_archive(tmp_path / "a.sqlite") as archive:
        run = a_run(archive, candidates)
    done = CliRunner().invoke(complete(), ["archive", "show", run.id, "--archive", str(tmp_path / "a.sqlite")])
    assert done.exit_code == 0
    best = next(line for line in done.output.splitlines() if line.startswith("best so far"))
    assert best.startswith("best so far  40 us █") and best.endswith(" us, PREDICTED for H100 SXM by prediction 2")
    assert len(best) < 120
    ended = next(line for line in done.output.splitlines() if line.startswith("without a time"))
    assert "build failed in build" in ended and "crashed in correctness" in ended
    assert f"next: kernelevo report {run.id} -o report.html" in done.output


def test_bars_go_from_the_lowest_to_the_highest() -> None:
    assert bars([8.0, 4.0, 1.0]) == "█▄▁"
    assert bars([5.0, 5.0]) == "▁▁"
