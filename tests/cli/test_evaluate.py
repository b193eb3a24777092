"""`kernelevo evaluate`: exit codes, one JSON document, and verdicts that are kept."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kernelevo import load_task, open_archive

pytestmark = [pytest.mark.slow, pytest.mark.nvcc]
GELU = load_task("gelu").seed_source or ""


def evaluate(kernel: Path, *options: str) -> tuple[int, dict[str, object]]:
    """Exit code and the JSON document."""
    command = [
        sys.executable,
        "-c",
        "from kernelevo.cli import main; main()",
        "evaluate",
        "gelu",
        str(kernel),
        "--json",
    ]
    done = subprocess.run(
        [*command, *options], env=os.environ, capture_output=True, text=True, timeout=300, check=False
    )
    return done.returncode, json.loads(done.stdout)


def test_a_source_that_passed_is_not_judged_again_unless_asked_for(tmp_path: Path) -> None:
    kernel = tmp_path / "kernel.cu"
    kernel.write_text(f"// {tmp_path}\n{GELU}")
    code, first = evaluate(kernel, "--archive", str(tmp_path / "a.sqlite"))
    assert (code, first["status"], first["judged_before"]) == (0, "passed", False)
    code, second = evaluate(kernel)
    assert (code, second["judged_before"]) == (0, True)
    assert second["verdict"] == first["verdict"]
    code, third = evaluate(kernel, "--again")
    assert (code, third["judged_before"]) == (0, False)
    with open_archive(tmp_path / "a.sqlite", read_only=True) as archive:
        assert [placing.candidate for placing in archive.leaderboard("gelu")] == [first["candidate"]]


def test_a_wrong_kernel_exits_1_with_its_reason_and_is_judged_every_time(tmp_path: Path) -> None:
    kernel = tmp_path / "kernel.cu"
    kernel.write_text(GELU.replace("0.5f", "0.25f"))
    for _ in range(2):
        code, document = evaluate(kernel)
        assert (code, document["status"], document["judged_before"]) == (1, "wrong", False)
        assert "wrong value" in str(document["feedback"])


def test_a_kernel_that_does_not_compile_exits_1_with_its_own_line(tmp_path: Path) -> None:
    kernel = tmp_path / "kernel.cu"
    kernel.write_text(GELU.replace("float value", "flaot value", 1))
    code, document = evaluate(kernel)
    assert (code, document["status"]) == (1, "build failed")
    line = next(number for number, text in enumerate(kernel.read_text().splitlines(), 1) if "flaot" in text)
    assert f"line {line}:" in str(document["feedback"])


def test_a_form_that_the_emulator_lacks_exits_2_and_names_it(tmp_path: Path) -> None:
    kernel = tmp_path / "kernel.cu"
    kernel.write_text(
        GELU.replace("float value", 'asm volatile("mbarrier.inval.shared.b64 [%0];" :: "r"(0)); float value', 1)
    )
    code, document = evaluate(kernel)
    assert (code, document["status"]) == (2, "unsupported")
    assert "mbarrier" in str(document["feedback"])
