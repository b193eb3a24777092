"""`kernelevo emulator check`: what it prints, its JSON document and its exit codes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from kernelevo import load_task
from kernelevo.cli.emulator import chosen
from kernelevo.errors import UsageError

pytestmark = [pytest.mark.slow, pytest.mark.nvcc]
TASK = load_task("gelu")
GELU = TASK.seed_source or ""
BEYOND = GELU.replace("if (i < n)", "if (i <= n)")
BEYOND_LINE = next(number for number, line in enumerate(BEYOND.splitlines(), 1) if "float value = x[i]" in line)


def check(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from kernelevo.cli import main; main()", "emulator", "check", *arguments]
    return subprocess.run(command, env=os.environ, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture
def beyond(tmp_path: Path) -> str:
    """A kernel whose threads go one element too far."""
    path = tmp_path / "beyond.cu"
    path.write_text(BEYOND)
    return str(path)


def test_a_finding_is_printed_with_its_place_its_line_and_who_did_it(beyond: str) -> None:
    done = check(beyond, "gelu")
    assert done.returncode == 1, done.stdout + done.stderr
    head, line, explanation, case, *rest = done.stdout.splitlines()
    assert head == f"{beyond}:{BEYOND_LINE}: out of bounds in kernel gelu_kernel, block (0, 0, 0), thread (1, 0, 0)"
    assert line == "    float value = x[i];"
    assert "reads 4 bytes at offset 4 of input 0 [1, 1] float32" in explanation
    assert case == "  in case rows=1 cols=1 float32 normal and 4 more"  # in the sixth, n is a multiple of the block
    assert re.fullmatch(rf"{re.escape(beyond)}: 2 findings in 6 cases, \d+\.\d\d s", rest[-1])


def test_the_json_document_holds_the_findings_of_one_size(beyond: str) -> None:
    done = check(beyond, "gelu", "--size", "rows=3", "--size", "cols=100", "--schedule", "7", "--json")
    assert done.returncode == 1, done.stdout + done.stderr
    document = json.loads(done.stdout)
    assert document["cases"] == ["rows=3 cols=100 float32 normal"]
    assert document["failures"] == []
    read, written = document["findings"]
    assert (read["kind"], read["line"], read["source"]) == ("out of bounds", BEYOND_LINE, "float value = x[i];")
    assert (read["kernel"], read["block"], read["thread"]) == ("gelu_kernel", [1, 0, 0], [44, 0, 0])
    assert (written["kind"], written["line"], written["access_bytes"]) == ("out of bounds", BEYOND_LINE + 1, 4)


def test_the_seed_of_a_task_has_no_findings_in_any_declared_size() -> None:
    done = check(str(TASK.folder / "seed.cu"), "gelu")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.fullmatch(r".*seed\.cu: no findings in 6 cases, \d+\.\d\d s\n", done.stdout)


def test_a_kernel_that_does_not_compile_exits_1_with_its_own_line(tmp_path: Path) -> None:
    kernel = tmp_path / "kernel.cu"
    kernel.write_text(GELU.replace("float value", "flaot value", 1))
    done = check(str(kernel), "gelu")
    assert done.returncode == 1
    line = next(number for number, text in enumerate(kernel.read_text().splitlines(), 1) if "flaot" in text)
    assert f"{kernel}:{line}: error:" in done.stdout


def test_a_call_that_does_not_return_exits_1_with_the_reason(tmp_path: Path) -> None:
    kernel = tmp_path / "kernel.cu"
    kernel.write_text(GELU.replace("const int n = x.numel();", 'TORCH_CHECK(false, "not today"); const int n = 0;'))
    done = check(str(kernel), "gelu")
    assert done.returncode == 1
    failure, cases, last = done.stdout.splitlines()
    assert failure == f"{kernel}: crashed: raised RuntimeError: not today"
    assert cases == "  in case rows=1 cols=1 float32 normal and 5 more"
    assert "no findings in 6 cases (6 did not return)" in last


def test_a_size_that_the_task_does_not_have_exits_2_with_the_next_step(beyond: str) -> None:
    done = check(beyond, "gelu", "--size", "depth=3")
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "kernelevo: --size depth=3: not a size of task gelu",
        "  next: write --size rows=1, --size cols=1",
    ]


@pytest.mark.parametrize(
    "case, sizes, message",
    [
        (None, ["rows=many"], "--size rows=many: not a size"),
        (None, ["rows"], "--size rows: not a size"),
        (None, ["rows=-1"], "--size rows=-1: not a size"),
        ("rows=0", [], "no case 'rows=0'"),
        ("rows=1", ["rows=1"], "--case and --size exclude each other"),
    ],
)
def test_cases_that_the_task_does_not_have_are_refused(case: str | None, sizes: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        chosen(TASK, case, sizes)


def test_cases_are_chosen_by_their_name_a_part_of_it_or_by_size() -> None:
    every = chosen(TASK, None, [])
    assert len({tuple(case.sizes.items()) for case in every}) == len(every) == 6
    elements = [case.sizes["rows"] * case.sizes["cols"] for case in every]
    assert elements == sorted(elements)
    assert chosen(TASK, every[2].name, []) == (every[2],)
    assert len(chosen(TASK, "rows=13 cols=129", [])) > 1
    (case,) = chosen(TASK, None, ["rows=5", "rows=7"])
    assert (case.sizes, case.name) == ({"rows": 7, "cols": 1}, "rows=7 cols=1 float32 normal")


def test_an_error_is_a_json_document_too(tmp_path: Path) -> None:
    done = check(str(tmp_path / "nothing.cu"), "gelu", "--json")
    assert done.returncode == 2
    assert json.loads(done.stdout)["error"] == "UsageError"
