"""The export leaves nothing out: no value of any column can change without a line that changes."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
import tracemalloc
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import archive_examples as examples
import pytest
from postgresql_server import Server
from sqlalchemy import Column
from sqlalchemy.exc import NoResultFound

from kernelevo.archive import Archive, bench, open_archive
from kernelevo.archive.export import RECORDS, lines
from kernelevo.archive.merge import merge
from kernelevo.archive.schema import REVISION
from kernelevo.archive.tables import Base
from kernelevo.cli.json import as_json

DB = Path(__file__).resolve().parents[2] / "db"
COLUMNS = [column for table in Base.metadata.sorted_tables for column in table.columns]

# Values that another word of the same vocabulary takes the place of.
WORDS = {
    "run_models.purpose": "judge",
    "jobs.operator": "explore",
    "evaluation_stages.outcome": "failed",
    "builds.method": "standard",
    "verdicts.outcome": "crashed",
    "case_verdicts.outcome": "crashed",
    "cases.purpose": "hidden",
    "timings.kind": "measured",
    "findings.block": "7,0,0",
    "findings.thread": "7,0,0",
    "gate_decisions.decision": "audit",
}
UNREADABLE = (ValueError, KeyError, NoResultFound)  # what names a row that is not there
DERIVED = {"timings.score_ns"}  # the mean of its cases; and `position` is the order of the lines, and of lists in them


def exported(archive: Archive, *, run: str | None = None) -> list[dict[str, Any]]:
    found = []
    for line in lines(archive, run=run):
        record = as_json(line.record)
        found.append(json.loads(json.dumps(as_json({"record": line.kind, **line.facts, **(record or {})}))))  # type: ignore[dict-item]
    return found


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("export") / "full.sqlite"
    with open_archive(path) as archive:
        examples.fill_everything(archive)
    return path


@pytest.fixture(scope="module")
def whole(full: Path) -> list[dict[str, Any]]:
    with open_archive(full, read_only=True) as archive:
        return exported(archive)


def exported_after(statement: str, full: Path, folder: Path) -> list[dict[str, Any]]:
    path = Path(shutil.copy(full, folder / "changed.sqlite"))
    connection = sqlite3.connect(path)  # which does not care for references
    with connection:
        assert connection.execute(statement).rowcount > 0, "the example has no such row"
    connection.close()
    with open_archive(path, read_only=True) as archive:
        return exported(archive)


@pytest.mark.parametrize("column", [c for c in COLUMNS if c.name != "position" and str(c) not in DERIVED], ids=str)
def test_no_value_can_change_without_a_line_that_changes(
    column: Column[Any], full: Path, whole: list[dict[str, Any]], tmp_path: Path
) -> None:
    kind = column.type.python_type
    other = (
        f"'other ' || {column.name}" if kind is str else f"1 - {column.name}" if kind is bool else f"{column.name} + 97"
    )
    other = f"'{WORDS[str(column)]}'" if str(column) in WORDS else other
    fallback = "'other'" if kind is str else "1"
    change = f"UPDATE {column.table.name} SET {column.name} = COALESCE({other}, {fallback})"
    if column.primary_key or column.foreign_keys:  # what is named by nothing any more may be gone, or be missed
        with suppress(*UNREADABLE):
            assert exported_after(change, full, tmp_path) != whole
    else:
        assert exported_after(change, full, tmp_path) != whole


@pytest.mark.parametrize("table", Base.metadata.sorted_tables, ids=str)
def test_no_row_can_go_without_a_line_that_changes(
    table: Any, full: Path, whole: list[dict[str, Any]], tmp_path: Path
) -> None:
    keys = ", ".join(column.name for column in table.primary_key.columns)
    last = f"SELECT {keys} FROM {table.name} ORDER BY {keys.replace(', ', ' DESC, ')} DESC LIMIT 1"
    with suppress(*UNREADABLE):
        assert exported_after(f"DELETE FROM {table.name} WHERE ({keys}) IN ({last})", full, tmp_path) != whole


def test_every_kind_of_line_is_explained_and_has_the_same_keys_always(whole: list[dict[str, Any]]) -> None:
    keys: dict[str, set[str]] = {}
    for line in whole:
        assert keys.setdefault(line["record"], set(line)) == set(line)
    assert list(dict.fromkeys([*RECORDS, *keys])) == list(RECORDS)
    assert {kind: " ".join(sorted(found - {"record"})) for kind, found in keys.items()} == KEYS, (
        "a key that is renamed or removed makes a new FORMAT"
    )
    assert whole[0] == {"record": "archive", "format": 1, "schema": REVISION}


KEYS = {
    "archive": "format schema",
    "task": "description digest name signature title",
    "candidate": "entry id parents rewrites source tunables",
    "evaluation": "behaviour build candidate device feedback id kernel_key passed recorded_at shared_from "
    "source_key stages status task task_digest timing timing_reason verdict",
    "run": "attempts candidates ended_at limits prices run started_at status stop_reason",
    "hint": "id run text written_at",
    "lesson": "after_iteration id run text written_at",
    "job": "asked_at generation inspirations island iteration model operator parents run seed temperature",
    "lease": "holder id iteration leased_at leased_until run",
    "prompt": "attempt iteration messages operator parents run seed template",
    "call": "end id iteration model purpose run started_at",
    "reply": "attempt cached_tokens call cost_usd finish_reason input_tokens iteration model output_tokens "
    "reasoning_tokens received_at rewrites run seconds text",
    "judgement": "accepts call candidate confidence finish_reason judge reason text vote",
    "gate": "candidate decided_at decision features iteration method probability reason run threshold",
    "tuning": "cases configuration iteration reason run score_ns",
    "attempt": "candidate evaluation id iteration parents reason recorded_at rewrites run",
}


def test_what_a_line_names_came_before_it(whole: list[dict[str, Any]]) -> None:
    seen: dict[str, set[object]] = {"candidate": set(), "evaluation": set(), "call": set(), "run": set()}
    for line in whole:
        assert {*line.get("parents", []), *line.get("inspirations", [])} <= seen["candidate"] or (
            line["record"] == "candidate"
        )
        for name, known in seen.items():
            if line["record"] == name:
                known.add(line["run"]["id"] if name == "run" else line["id"])
            else:
                assert line.get(name) is None or line[name] in known


def test_one_thing_has_one_shape_in_export_and_show(full: Path, whole: list[dict[str, Any]]) -> None:
    child = examples.candidate(1).id
    shown = json.loads(command("show", child, "--json", "--archive", str(full)))
    (line,) = (one for one in whole if one["record"] == "candidate" and one["id"] == child)
    assert shown["candidate"].items() <= line.items()
    (line,) = (one for one in whole if one["record"] == "evaluation" and one["candidate"] == child)
    assert shown["evaluations"][0].items() <= line.items()
    listed = json.loads(command("list", "--json", "--archive", str(full)))
    (line,) = (one for one in whole if one["record"] == "run")
    assert listed[0].items() <= line.items()
    run = json.loads(command("show", line["run"]["id"], "--json", "--archive", str(full)))
    jobs = [one for one in whole if one["record"] == "job"]
    assert all(told["job"].items() <= one.items() for told, one in zip(run["iterations"], jobs, strict=True))
    (line,) = (one for one in whole if one["record"] == "reply")
    assert run["iterations"][1]["replies"][0].items() <= line.items()


def test_a_run_is_exported_with_what_it_names_and_nothing_else(archive: Archive) -> None:
    examples.fill_everything(archive)
    other = examples.run("r-000000000002")
    archive.create_run(other, examples.task(digest="t-2"))
    seed = examples.candidate(5)
    archive.record(examples.job(0, of=other.id), seed, examples.passed(seed.id))
    whole = Counter(line["record"] for line in exported(archive))
    assert whole["run"] == whole["task"] == 2 and whole["candidate"] == 4
    alone = exported(archive, run=other.id)
    assert [line["record"] for line in alone] == [
        "archive", "task", "candidate", "evaluation", "run", "job", "attempt",
    ]  # fmt: skip
    first = Counter(line["record"] for line in exported(archive, run=examples.run().id))
    assert whole - first == Counter({"task": 1, "candidate": 2, "evaluation": 2, "run": 1, "job": 1, "attempt": 2}), (
        "of the other run, and of the candidate that was evaluated outside runs"
    )


@pytest.mark.postgres
def test_a_server_exports_what_a_file_does(
    full: Path, whole: list[dict[str, Any]], server: Server, tmp_path: Path
) -> None:
    with open_archive(full, read_only=True) as file, open_archive(server.new_database(like="template")) as archive:
        merge(file, archive)
        there = exported(archive)

    def without_order(lines: list[dict[str, Any]]) -> list[str]:
        return sorted(json.dumps(line, sort_keys=True) for line in lines)

    assert without_order(there) == without_order(whole)


def command(*arguments: str, expected: int = 0) -> str:
    program = [sys.executable, "-c", "from kernelevo.cli import main; main()", "archive", *arguments]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    assert done.returncode == expected, done.stderr
    return done.stdout if expected == 0 else done.stderr


def test_the_command_writes_lines_to_a_new_file_or_to_who_reads_them(
    full: Path, whole: list[dict[str, Any]], tmp_path: Path
) -> None:
    output = tmp_path / "out.jsonl"
    at = ("--archive", str(full))
    assert command("export", "-o", str(output), *at) == ""
    assert [json.loads(line) for line in output.read_text().splitlines()] == whole
    assert command("export", "--json", *at) == output.read_text()
    output.write_text("an older one")
    assert command("export", "-o", str(output), *at) == ""
    assert [json.loads(line) for line in output.read_text().splitlines()] == whole
    assert "is no file that" in command("export", "-o", str(tmp_path), *at, expected=2)
    assert "no run r-1234" in command("export", "r-1234", "-o", str(tmp_path / "none.jsonl"), *at, expected=2)
    assert [path.name for path in tmp_path.iterdir()] == ["out.jsonl"]
    program = (
        f"{sys.executable} -c 'from kernelevo.cli import main; main()' archive export --archive {DB}/gallery.sqlite"
    )
    done = subprocess.run(f"{program} | head -n 1", shell=True, capture_output=True, text=True, check=False)
    assert json.loads(done.stdout)["record"] == "archive"
    assert done.stderr == ""


def test_memory_does_not_grow_with_the_archive(tmp_path: Path) -> None:
    def peak(candidates: int) -> int:
        with open_archive(tmp_path / f"{candidates}.sqlite") as archive:
            bench.fill(archive, candidates)
            next(lines(archive))  # what is imported and compiled at the first call
            tracemalloc.start()
            try:
                assert sum(1 for _ in lines(archive)) > 4 * candidates
                return tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()

    few, many = peak(100), peak(800)
    assert many < few + 700 * 500, "of 700 more candidates, not even their sources of 2 kB"
