"""What a compiler that works for a candidate may touch: nothing of the user's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from kernelevo.build import processes
from kernelevo.build.bench import KERNEL as BENCH
from kernelevo.devices import landlock
from kernelevo.records import Build

SECRET = "the_word_nobody_may_read"


@pytest.fixture(autouse=True)
def landlocked() -> None:
    if (why := landlock.why_unavailable()) is not None:
        pytest.skip(why)


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret.h"
    path.write_text(f"int {SECRET} again;\n")
    return path


@pytest.mark.nvcc
@pytest.mark.parametrize(
    "request_",
    [
        "#define TEXT(x) #x\n#define HEADER(x) TEXT(x)\n#define FILE_ {path}\n#inc\\\nlude HEADER(FILE_)\n",
        'asm(".inc" "bin \\"{path}\\"");\n',
    ],
    ids=["include by a pasted name", "incbin in two words"],
)
def test_a_file_of_the_users_is_refused_to_the_compiler_and_never_quoted(
    built: Callable[[str], Build], secret: Path, request_: str
) -> None:
    result = built(BENCH.read_text() + request_.replace("{path}", str(secret)))
    assert not result.succeeded
    assert result.diagnostics
    assert not any(SECRET in diagnostic.text for diagnostic in result.diagnostics)


def shell(folder: Path, script: str) -> processes.Finished:
    return processes.run(["/bin/sh", "-c", script], folder=folder, timeout_seconds=20)


def test_a_command_reads_what_it_was_given_and_nothing_else(tmp_path: Path, secret: Path) -> None:
    folder = tmp_path / "work"
    folder.mkdir()
    refused = shell(folder, f"cat {secret}")
    assert refused.status != 0
    assert SECRET not in refused.output
    given = processes.run(["/bin/cat", secret], folder=folder, timeout_seconds=20, reads=[secret])
    assert SECRET in given.output


def test_a_command_writes_only_where_it_works(tmp_path: Path) -> None:
    folder = tmp_path / "work"
    folder.mkdir()
    outside = tmp_path / "outside"
    assert shell(folder, f"echo 1 > {outside}").status != 0
    assert not outside.exists()
    assert shell(folder, "echo 1 > inside && mkdir sub && mv inside sub/").status == 0
    assert (folder / "sub" / "inside").exists()


def test_a_command_inherits_no_secret_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", SECRET)
    finished = shell(tmp_path, "env; cat /proc/$PPID/environ | tr '\\0' '\\n'")
    assert "PATH=" in finished.output
    assert SECRET not in finished.output


def test_the_calling_thread_keeps_its_files(tmp_path: Path, secret: Path) -> None:
    shell(tmp_path / ".", "true")
    assert SECRET in secret.read_text()
