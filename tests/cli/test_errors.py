"""User errors end with a clear message, the next step and exit code 2; never with a traceback."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from kernelevo import open_archive
from kernelevo.devices.cuda import CudaDevice


def kernelevo(*arguments: str | Path, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs the console script's code in `folder`, with an archive and a cache of its own."""
    own = {"KERNELEVO_ARCHIVE": str(folder / "a.sqlite"), "KERNELEVO_CACHE": str(folder / "cache"), "COLUMNS": "200"}
    return subprocess.run(
        [sys.executable, "-c", "from kernelevo.cli import main; main()", *map(str, arguments)],
        cwd=folder,
        env={**os.environ, **own, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize(
    ("arguments", "says", "next_step"),
    [
        (["evolve", "nosuch"], "there is no task 'nosuch'", "rmsnorm"),
        (["evolve", "gelu", "--device", "tpu"], "unknown device 'tpu'", "emulator"),
        (["evolve", "gelu", "--sandbox", "none"], "sandbox = 'none': Input should be 'required'", "settings are"),
        (["evolve", "gelu", "--model", "gpt"], "unknown model 'gpt'", "use mutate"),
        (["evolve", "gelu", "--model", "anthropic:x"], "ANTHROPIC_API_KEY is not set", "export ANTHROPIC_API_KEY"),
        (["evolve", "gelu", "--model", "agent"], "agent is not a model that can be asked", "kernelevo ask"),
        (["evolve", "gelu", "--budget-usd", "0"], "usd is 0", "above 0"),
        (
            ["evolve", "gelu", "--model", "openai:m@http://127.0.0.1:9/v1", "--budget-usd", "1"],
            "the price of openai:m@http://127.0.0.1:9/v1 is not known",
            "[prices]",
        ),
        (["replay", "r-123456789abc"], "no run r-123456789abc", "kernelevo archive list"),
        (["stop", "r-123456789abc"], "there is no archive at", "kernelevo evolve"),
        (["hint", "r-123456789abc", " "], "the hint is empty", "in a sentence"),
        (["evolve", "gelu", "--strategy", "annealing"], "unknown strategy 'annealing'", "islands"),
        (["evolve"], "no task is given", "kernelevo tasks list"),
        (["evolve", "--resume", "r-123456789abc"], "no run r-123456789abc", "kernelevo archive list"),
        (["evaluate", "gelu", "nosuch.cu"], "nosuch.cu: no such file", "one .cu file"),
        (["evaluate", "nosuch", __file__], "there is no task 'nosuch'", "rmsnorm"),
        (["archive", "best"], "there is no archive at", "kernelevo evolve"),
        (["tasks", "show", "nosuch"], "there is no task 'nosuch'", "choose one of"),
        (["tasks", "new", "Not-A-Name"], "task name 'Not-A-Name'", ""),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_user_error_says_what_and_what_next(arguments: list[str], says: str, next_step: str, tmp_path: Path) -> None:
    done = kernelevo(*arguments, folder=tmp_path)
    assert done.returncode == 2, done.stderr
    assert says in done.stderr
    assert next_step in done.stderr
    assert "Traceback" not in done.stderr + done.stdout


def test_a_broken_setting_is_named_with_its_origin(tmp_path: Path) -> None:
    done = kernelevo("tasks", "list", folder=tmp_path, KERNELEVO_PARALLEL="many")
    assert done.returncode == 2
    assert "environment variable KERNELEVO_PARALLEL: parallel = 'many'" in done.stderr


def test_evaluate_json_prints_one_document_when_it_cannot_judge(tmp_path: Path) -> None:
    done = kernelevo("evaluate", "gelu", "nosuch.cu", "--json", folder=tmp_path)
    assert done.returncode == 2
    assert json.loads(done.stdout)["error"] == "UsageError"


def test_an_archive_of_a_newer_schema_is_refused(tmp_path: Path) -> None:
    open_archive(tmp_path / "a.sqlite").close()
    with sqlite3.connect(tmp_path / "a.sqlite") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999_from_the_future'")
    done = kernelevo("evolve", "gelu", folder=tmp_path)
    assert done.returncode == 2
    assert "9999_from_the_future" in done.stderr


@pytest.mark.skipif(CudaDevice.missing() is None, reason="there is a GPU here")
def test_a_gpu_that_is_not_there_is_named_with_all_that_is_missing(tmp_path: Path) -> None:
    done = kernelevo("evolve", "gelu", "--device", "cuda", folder=tmp_path)
    assert done.returncode == 2
    assert "device cuda cannot be used here: " in done.stderr
    assert "kernelevo doctor" in done.stderr


def test_tasks_list_names_the_shipped_tasks(tmp_path: Path) -> None:
    done = kernelevo("tasks", "list", folder=tmp_path)
    assert done.returncode == 0
    names = "cross_entropy depthwise_conv2d gelu layernorm linear_relu rmsnorm rmsnorm_backward silu_mul softmax"
    assert [line.split()[0] for line in done.stdout.splitlines()[1:10]] == names.split()


def test_a_new_task_loads_at_once(tmp_path: Path) -> None:
    made = kernelevo("tasks", "new", "swish", folder=tmp_path, KERNELEVO_TASKS=str(tmp_path / "tasks"))
    assert made.returncode == 0, made.stderr
    shown = kernelevo("tasks", "show", "swish", folder=tmp_path, KERNELEVO_TASKS=str(tmp_path / "tasks"))
    assert shown.returncode == 0, shown.stderr
    assert "PYBIND11_MODULE" in shown.stdout
