"""Commands that read write nothing, not even for a moment beside the file; commands that write leave one file."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import archive_examples as examples
import pytest
import typer
from postgresql_server import Server
from test_files import as_nobody, start_writer
from typer.testing import CliRunner

from kernelevo.archive import open_archive
from kernelevo.archive.merge import merge
from kernelevo.cli import complete

RUN, OTHER = examples.run().id, "r-000000000002"
CHILD = examples.candidate(1).id
READS = [
    ("archive", "list"),
    ("archive", "list", "--json"),
    ("archive", "best", "rmsnorm"),
    ("archive", "show", RUN),
    ("archive", "show", RUN, "--json"),
    ("archive", "show", CHILD),
    ("archive", "show", CHILD, "--source"),
    ("archive", "lineage", CHILD),
    ("archive", "verify"),
    ("archive", "export"),
    ("archive", "export", RUN),
    ("metrics",),
    ("report", RUN, "-o", "OUTPUT"),
]
WRITES = [
    ("hint", RUN, "use float4"),
    ("archive", "vacuum"),
    ("archive", "upgrade"),
    ("archive", "merge", "SOURCE"),
]


@cache
def commands() -> typer.Typer:
    return complete()


def invoke(arguments: tuple[str, ...], archive: Path | str, **places: Path) -> str:
    """What a command says; how it failed, with its exit code in front."""
    given = [str(places.get(word, word)) for word in arguments]
    done = CliRunner().invoke(commands(), [*given, "--archive", str(archive)])
    return done.output if done.exit_code == 0 else f"exit code {done.exit_code}: {done.output}{done.exception}"


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive in a folder of its own."""
    path = tmp_path_factory.mktemp("reading") / "archive.sqlite"
    with open_archive(path) as archive:
        examples.fill_everything(archive)
    return path


def state(path: Path) -> tuple[object, ...]:
    """Everything of a file and its folder that a write would change; that of the folder by files that come and go."""
    file, folder = path.stat(), path.parent.stat()
    return path.read_bytes(), file.st_size, file.st_mtime_ns, file.st_ino, folder.st_mtime_ns, os.listdir(path.parent)


@pytest.mark.parametrize("arguments", READS, ids=" ".join)
def test_a_command_that_reads_changes_neither_the_file_nor_its_folder(
    arguments: tuple[str, ...], full: Path, tmp_path: Path
) -> None:
    before = state(full)
    said = invoke(arguments, full, OUTPUT=tmp_path / "out.html")
    assert said and not said.startswith("exit code")
    assert state(full) == before


@pytest.mark.parametrize("arguments", READS, ids=" ".join)
def test_a_command_that_reads_works_where_nothing_may_be_written(arguments: tuple[str, ...], full: Path) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as temporary:  # pytest's own folders are closed to nobody
        path = Path(shutil.copy(full, temporary))
        output = Path(temporary, "free")
        output.mkdir(mode=0o777)
        output.chmod(0o777)
        path.chmod(0o444)
        Path(temporary).chmod(0o555)
        said = as_nobody(lambda: invoke(arguments, path, OUTPUT=output / "out.html")[:2000])
        Path(temporary).chmod(0o755)
        assert said and not said.startswith("exit code")
        assert sorted(os.listdir(temporary)) == ["archive.sqlite", "free"]


@pytest.mark.postgres
@pytest.mark.parametrize("arguments", [read for read in READS if read[0] != "report"], ids=" ".join)
def test_a_command_that_reads_says_the_same_of_a_server(arguments: tuple[str, ...], full: Path, copied: str) -> None:
    assert invoke(arguments, copied) == invoke(arguments, full)


@pytest.fixture(scope="module")
def copied(full: Path, server: Server) -> str:
    """The same archive in PostgreSQL."""
    url = server.new_database(like="template")
    with open_archive(full, read_only=True) as file, open_archive(url) as archive:
        merge(file, archive)
    return url


@pytest.mark.parametrize("arguments", WRITES, ids=" ".join)
def test_a_command_that_writes_leaves_one_file_that_can_be_mailed(
    arguments: tuple[str, ...], full: Path, tmp_path: Path
) -> None:
    path = Path(shutil.copy(full, tmp_path / "archive.sqlite"))
    source = tmp_path / "elsewhere" / "other.sqlite"
    source.parent.mkdir()
    with open_archive(source) as archive:
        archive.create_run(examples.run(OTHER), examples.task())
    said = invoke(arguments, path, SOURCE=source)
    assert not said.startswith("exit code")
    is_whole_alone(path, lambda name: name == "elsewhere")


def test_after_a_writer_was_killed_the_next_one_leaves_one_file_with_everything(path: Path) -> None:
    writer = start_writer(path)
    assert writer.stdout is not None
    lines = [writer.stdout.readline() for _ in range(6)]
    writer.kill()
    writer.wait()
    with open_archive(path, read_only=True) as archive:
        told = len(archive.told(RUN))
    assert told >= sum(line.startswith("told") for line in lines) > 0, (
        "a reader sees what is in the log beside the file"
    )
    assert invoke(("hint", RUN, "use float4"), path) == ""
    mailed = is_whole_alone(path, lambda name: name.endswith(".lock"))
    with open_archive(mailed, read_only=True) as archive:
        assert len(archive.told(RUN)) == told
        assert archive.notes.hints(RUN) == ("use float4",)


def is_whole_alone(path: Path, beside: Callable[[str], bool]) -> Path:
    """Where the bytes of that one file are an archive that holds the same."""
    assert [name for name in os.listdir(path.parent) if not beside(name)] == [path.name]
    mailed = path.with_name("mailed.sqlite")
    mailed.write_bytes(path.read_bytes())
    assert invoke(("archive", "verify"), mailed) == "the archive is whole\n"
    assert invoke(("archive", "export"), mailed) == invoke(("archive", "export"), path)
    return mailed
