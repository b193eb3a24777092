"""`evolve`, `hint`, `prompt`, `archive show` and `replay` as a user calls them, on a small task with mutate."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from small_task import write_small_task

pytestmark = [pytest.mark.nvcc, pytest.mark.slow]


def kernelevo(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from kernelevo.cli import main; main()", *arguments],
        cwd=folder,
        env={**os.environ, "KERNELEVO_ARCHIVE": str(folder / "a.sqlite"), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )


def test_a_run_is_stopped_early_advised_resumed_shown_and_replayed(tmp_path: Path) -> None:
    task = str(write_small_task(tmp_path / "tasks"))
    first = kernelevo(
        "evolve", task, "--generations", "2", "--population", "2", "--max-evaluations", "3", folder=tmp_path
    )
    assert first.returncode == 0, first.stderr
    assert "ended early: budget: 3 of 3 evaluations are done" in first.stdout
    run = re.search(r"run (r-[0-9a-f]+)", first.stdout)
    assert run is not None
    hinted = kernelevo("hint", run[1], "Try four elements per thread.", folder=tmp_path)
    assert hinted.returncode == 0, hinted.stderr
    prompt = kernelevo("prompt", task, "--operator", "optimize", "--run", run[1], folder=tmp_path)
    assert "Try four elements per thread." in prompt.stdout, prompt.stderr
    more = kernelevo("evolve", task, "--resume", run[1], "--max-evaluations", "100", folder=tmp_path)
    assert more.returncode == 0, more.stderr
    assert "ended early" not in more.stdout
    shown = kernelevo("archive", "show", run[1], folder=tmp_path)
    assert "mutate" in shown.stdout and "propose" in shown.stdout
    replayed = kernelevo("replay", run[1], "--task", task, "-o", str(tmp_path / "copy.sqlite"), folder=tmp_path)
    assert replayed.returncode == 0, replayed.stdout + replayed.stderr
    assert "the lineages are identical" in replayed.stdout
    assert len(kernelevo("archive", "list", folder=tmp_path).stdout.strip().splitlines()) == 2, (
        "the archive was written"
    )
    for command, named in (
        (["evolve", "--resume", run[1]], "evolve PATH --resume"),
        (["replay", run[1]], "--task PATH"),
    ):
        refused = kernelevo(*command, folder=tmp_path)
        assert refused.returncode == 2
        assert f"run {run[1]} is of task small_gelu, and there is no task 'small_gelu'" in refused.stderr
        assert named in refused.stderr
    again = kernelevo("replay", run[1], "--task", task, "-o", str(tmp_path / "copy.sqlite"), folder=tmp_path)
    assert again.returncode == 2 and "copy.sqlite exists" in again.stderr
