"""What a machine reads: --json is one document, --quiet leaves progress out, shells complete names."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from small_task import write_small_task

from kernelevo.cli import complete

GALLERY = Path(__file__).resolve().parents[2] / "db" / "gallery.sqlite"
# Commands that write a file, serve, or say one line to a person: nothing for a machine to read.
WITHOUT = {
    *("archive merge", "archive upgrade", "archive vacuum", "browse", "hint"),
    *("mcp", "report", "stop", "tasks import", "tasks new"),
}


def kernelevo(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from kernelevo.cli import main; main()", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def commands() -> Iterator[tuple[str, set[str]]]:
    """Every command and its options."""

    def walk(command: typer.core.TyperCommand, name: str) -> Iterator[tuple[str, set[str]]]:
        for word, inner in getattr(command, "commands", {}).items():
            path = f"{name} {word}".strip()
            if hasattr(inner, "commands"):
                yield from walk(inner, path)
            else:
                yield path, {option for parameter in inner.params for option in parameter.opts}

    yield from walk(typer.main.get_command(complete()), "")


def test_every_command_that_tells_something_tells_it_as_json() -> None:
    lacking = {name for name, options in commands() if "--json" not in options}
    assert lacking == WITHOUT


@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        (["tasks", "list"], 0),
        (["tasks", "show", "gelu"], "signature"),
        (["tasks", "show", "gelu", "--errors"], 0),
        (["doctor"], "machine"),
        (["metrics", "--archive", str(GALLERY)], None),
        (["archive", "verify", "--archive", str(GALLERY)], None),
    ],
)
def test_json_is_one_document(arguments: list[str], key: str | int | None) -> None:
    done = kernelevo(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert key is None or document[key]


@pytest.mark.slow
@pytest.mark.nvcc
def test_a_run_as_json_has_its_progress_on_standard_error_and_quiet_has_none(tmp_path: Path) -> None:
    task = str(write_small_task(tmp_path))
    archive = ["--archive", str(tmp_path / "archive.sqlite")]
    run = ["evolve", task, "--generations", "1", "--population", "2", *archive]
    done = kernelevo(*run, "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["candidates"] >= 2 and document["best_evaluation"]["passed"] is True
    assert document["best"] in done.stderr and "iteration  candidate" in done.stderr

    quiet = kernelevo(*run, "--quiet", "--seed", "1")
    assert quiet.returncode == 0, quiet.stderr
    assert "iteration  candidate" not in quiet.stdout + quiet.stderr and "lineage of the best" in quiet.stdout

    again = kernelevo("replay", document["run"]["id"], "--task", task, *archive, "--json", "--quiet")
    assert again.returncode == 0, again.stderr
    replayed = json.loads(again.stdout)
    assert replayed["difference"] is None and len(set(replayed["lineages"].values())) == 1 and not again.stderr


@pytest.mark.parametrize(
    ("line", "offers"),
    [
        ("kernelevo tasks show soft", "softmax"),
        ("kernelevo evolve rmsnorm_b", "rmsnorm_backward"),
        ("kernelevo archive show r-", "r-"),
        ("kernelevo export c-", "c-"),
        ("kernelevo arch", "archive"),
    ],
)
def test_a_shell_completes_names_and_ids(line: str, offers: str) -> None:
    words = line.split()
    asked = {"_KERNELEVO_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    done = subprocess.run(
        [str(Path(sys.executable).with_name("kernelevo"))],  # completion goes by the program's name
        env={**os.environ, "KERNELEVO_ARCHIVE": str(GALLERY), **asked},
        capture_output=True,
        text=True,
        check=False,
    )
    assert any(one.startswith(offers) for one in done.stdout.split()), done.stdout + done.stderr
