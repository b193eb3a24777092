"""`kernelevo prompt`: what would be sent, without asking anybody."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from prompt_examples import job, seed_of, task, timed, wrong
from typer.testing import CliRunner

from kernelevo import open_archive
from kernelevo.cli.prompt import composed, operator_named, register
from kernelevo.config import read_settings
from kernelevo.devices.emulator import EmulatorDevice
from kernelevo.errors import UsageError
from kernelevo.prompt import Composition
from kernelevo.records import Candidate, Operator, Run

pytestmark = pytest.mark.usefixtures("emulator")


def run(*arguments: str) -> str:
    app = typer.Typer()
    app.callback()(lambda: None)
    register(app)
    result = CliRunner().invoke(app, ["prompt", *arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """A run of softmax: its own kernel, one that is wrong, and a hint."""
    path = tmp_path / "archive.sqlite"
    seed = seed_of("softmax")
    broken = Candidate(source=seed.source.replace("fmaxf", "fminf"), entry=seed.entry, parents=(seed.id,))
    with open_archive(path) as opened:
        opened.create_run(
            Run(
                id="r-000000000000",
                task="softmax",
                task_digest=task("softmax").digest,
                models=("replay:a.sqlite",),
                device="emulator",
                strategy="islands",
                generations=4,
                population=4,
                seed=1,
            ),
            task("softmax"),
        )
        opened.record(job(Operator.OPTIMIZE), seed, timed(seed, "softmax", times_ns=(31e3, 9e3)))
        opened.record_evaluation(task("softmax"), broken, wrong(broken, "softmax"))
        opened.notes.write_hint("r-000000000000", "Rows are short.")
    return path


def test_without_an_archive_the_tasks_own_kernel_is_shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KERNELEVO_ARCHIVE", str(tmp_path / "none.sqlite"))
    shown = run("gelu")
    assert seed_of("gelu").source in shown
    assert "132 multiprocessors" in shown
    assert "of 24000 tokens" in shown


def test_a_candidate_is_shown_with_why_it_failed(archive: Path) -> None:
    broken = Candidate(source=seed_of("softmax").source.replace("fmaxf", "fminf"), entry="forward")
    shown = run("softmax", "--operator", "repair", "--candidate", broken.id[:10], "--archive", str(archive))
    assert broken.source in shown
    assert "wrong, in the stage correctness" in shown
    assert "Rows are short." in shown


def test_the_fastest_of_the_archive_is_the_parent_by_default_and_the_document_adds_up(archive: Path) -> None:
    document = json.loads(run("softmax", "--archive", str(archive), "--json"))
    assert document["parents"] == [seed_of("softmax").id]
    assert [message["role"] for message in document["messages"]] == ["system", "user"]
    assert "PREDICTED for H100 SXM; score 16.7 us" in document["messages"][1]["text"]
    assert abs(sum(part["tokens"] for part in document["parts"]) - document["tokens"]) <= len(document["parts"])
    assert document["tokens"] <= document["budget_tokens"] == 24000


def test_what_cannot_be_shown_is_said_with_the_next_step(
    archive: Path, tmp_path: Path, emulator: EmulatorDevice
) -> None:
    def shown(
        name: str, operator: str, *wanted: str, run: str | None = None, tokens: int = 24000, at: Path = archive
    ) -> Composition:
        settings = read_settings(archive=str(at))
        return composed(
            task(name), operator_named(operator), list(wanted), run, emulator, settings, tokens, named=at == archive
        )

    assert shown("softmax", "optimize").prompt.parents == (seed_of("softmax"),)
    for attempt, words in (
        (lambda: shown("softmax", "tune"), "no prompt is written for operator 'tune'"),
        (lambda: shown("softmax", "crossover"), "not enough correct candidates"),
        (lambda: shown("softmax", "repair", "c-1", "c-2"), "takes 1 candidates, not 2"),
        (lambda: shown("softmax", "repair", "c-0123"), "no candidate c-0123"),
        (lambda: shown("gelu", "optimize", run="r-000000000000"), "is of task softmax"),
        (lambda: shown("softmax", "optimize", tokens=100), "needs more than 100 tokens"),
        (lambda: shown("softmax", "repair", "c-1", at=tmp_path / "none.sqlite"), "there is no archive at"),
    ):
        with pytest.raises(UsageError, match=words) as raised:
            attempt()
        assert raised.value.next_step


def test_nothing_is_written_to_the_archive(archive: Path, emulator: EmulatorDevice) -> None:
    before = archive.read_bytes()
    settings = read_settings(archive=str(archive))
    for operator in (Operator.EXPLORE, Operator.TRANSLATE, Operator.SIMPLIFY):
        assert composed(task("softmax"), operator, [], None, emulator, settings, 24000, named=True).tokens > 1000
    assert archive.read_bytes() == before
