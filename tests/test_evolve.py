"""The loop on the real emulator: what it records, and that it can be repeated, interrupted and shared."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from providers.scripts import kernel
from small_task import write_small_task

from kernelevo import evolve, load_task, open_archive
from kernelevo.config import Settings
from kernelevo.devices.emulator import EmulatorDevice
from kernelevo.errors import UsageError
from kernelevo.models import Failed, unwatched
from kernelevo.records import Operator, Prompt, Reply, TimingKind
from kernelevo.site import Event, Step

pytestmark = [pytest.mark.nvcc, pytest.mark.slow]


@pytest.fixture
def device(emulator: EmulatorDevice) -> EmulatorDevice:
    return emulator


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> str:
    """gelu at small sizes, by its path."""
    return str(write_small_task(tmp_path_factory.mktemp("tasks")))


class Scripted:
    """A model that gives the replies it was made with, and counts what it was asked."""

    name = "scripted"
    free = False

    def __init__(self, *replies: str) -> None:
        self.replies = replies
        self.prompts: list[Prompt] = []

    def propose(self, prompt: Prompt, *, limit_usd: float | None = None, failed: Failed = unwatched) -> Reply:
        self.prompts.append(prompt)
        text = self.replies[(len(self.prompts) - 1) % len(self.replies)]
        return Reply(model=self.name, text=text, cost_usd=0.5, seconds=0.0, finish_reason="stop")


SEED = load_task("gelu").seed_source or ""


def test_every_kind_of_reply_becomes_a_row_and_the_run_goes_on(
    tmp_path: Path, device: EmulatorDevice, small: str
) -> None:
    wrong = SEED.replace("0.5f", "0.25f")
    assert wrong != SEED
    model = Scripted(
        *["I would rather not."] * 3,
        f"```cuda\n{SEED.replace('int', 'integer', 1)}```",
        f"Here:\n```cuda\n{wrong}```\n",
        f"```cuda\n{kernel(2)}```",
    )
    events: list[Event] = []
    with open_archive(tmp_path / "a.sqlite") as archive:
        result = evolve(
            load_task(small),
            archive,
            models=[model],
            device=device,
            generations=2,
            population=2,
            strategy="best_of_n",
            lookahead=0,
            settings=Settings(proposals=1),
            watch=events.append,
        )
        statuses = [s.status for s in archive.scored(result.run.id)]
        assert statuses == ["passed", "build failed", "wrong", "passed"]
        assert archive.told(result.run.id) == {0, 1, 2, 3, 4}
        cost = archive.ledger.cost(result.run.id)
        assert (cost.calls, cost.failed_calls, cost.cost_usd) == (6, 0, 3.0)  # the first job was asked three times
        assert result.best is not None
        evaluation = archive.known(result.best.id, load_task(small), "emulator")
        assert evaluation is not None and evaluation.timing is not None
        assert evaluation.timing.kind is TimingKind.PREDICTED
        assert {p.operator for p in model.prompts} == {Operator.OPTIMIZE}
        assert all(SEED in p.messages[1].text for p in model.prompts)
        assert "was of no use" in model.prompts[1].messages[1].text
    told = [event for event in events if event.step is Step.TOLD]
    assert len(told) == 5
    assert sum(event.candidate is None and bool(event.text) for event in told) == 1


def lineage(archive_path: Path) -> list[tuple[object, ...]]:
    """Everything about a run's candidates that must repeat: order, ids, parents, rewrites, status and time."""
    with open_archive(archive_path, read_only=True) as archive:
        run = archive.list_runs()[-1].run.id
        candidates = [archive.candidate(s.candidate, run=run) for s in archive.scored(run)]
        return [
            (s.iteration, s.candidate, s.status, s.score_ns, c.parents, c.rewrites)
            for s, c in zip(archive.scored(run), candidates, strict=True)
        ]


def test_the_same_seed_gives_the_same_lineage_however_many_are_evaluated_at_once(
    tmp_path: Path, device: EmulatorDevice, small: str
) -> None:
    for name, parallel in (("one", 1), ("two", 2)):
        with open_archive(tmp_path / name) as archive:
            evolve(
                load_task(small),
                archive,
                device=device,
                generations=2,
                population=2,
                seed=3,
                settings=Settings(parallel=parallel),
            )
    assert lineage(tmp_path / "one") == lineage(tmp_path / "two")
    assert len(lineage(tmp_path / "one")) == 5


def evolve_command(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    hears = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"  # also below a pytest that does not
    )
    command = [sys.executable, "-c", f"{hears}; from kernelevo.cli import main; main()", "evolve", *arguments]
    environment = {**os.environ, "KERNELEVO_ARCHIVE": str(folder / "a.sqlite"), "KERNELEVO_PARALLEL": "1"}
    return subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def test_a_run_killed_in_the_middle_goes_on_without_asking_or_counting_twice(
    tmp_path: Path, device: EmulatorDevice, small: str
) -> None:
    whole = tmp_path / "whole"
    whole.mkdir()
    with open_archive(whole / "a.sqlite") as archive:
        evolve(load_task(small), archive, device=device, generations=2, population=2, seed=5)
    running = evolve_command(tmp_path, small, "--generations", "2", "--population", "2", "--seed", "5")
    assert running.stdout is not None
    for line in running.stdout:
        if line.strip().startswith("1 "):  # iteration 1 is told: somewhere in the middle of the rest
            break
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    with open_archive(tmp_path / "a.sqlite") as archive:
        entry = archive.list_runs()[-1]
        assert entry.status == "running"
        told = archive.told(entry.run.id)
        assert told < {0, 1, 2, 3, 4}
    resumed = evolve_command(tmp_path, small, "--resume", entry.run.id)
    output, _ = resumed.communicate(timeout=250)
    assert resumed.returncode == 0, output
    assert lineage(tmp_path / "a.sqlite") == lineage(whole / "a.sqlite")
    with sqlite3.connect(tmp_path / "a.sqlite") as connection:
        assert connection.execute("SELECT COUNT(*) FROM attempts").fetchone() == (5,)
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_two_runs_share_one_archive_at_once(tmp_path: Path, small: str) -> None:
    both = [evolve_command(tmp_path, small, "--generations", "1", "--population", "2", "--seed", s) for s in "12"]
    outputs = [running.communicate(timeout=250)[0] for running in both]
    assert [running.returncode for running in both] == [0, 0], outputs
    with open_archive(tmp_path / "a.sqlite", read_only=True) as archive:
        entries = archive.list_runs()
        assert [(e.status, e.attempts) for e in entries] == [("finished", 3), ("finished", 3)]


def test_ctrl_c_keeps_what_was_recorded_and_leaves_no_process(tmp_path: Path, small: str) -> None:
    running = evolve_command(tmp_path, small, "--generations", "3", "--population", "2", "--seed", "5")
    assert running.stdout is not None
    for line in running.stdout:
        if line.strip().startswith("0 "):
            break
    os.killpg(running.pid, signal.SIGINT)
    output, _ = running.communicate(timeout=250)
    assert running.returncode == 130, output
    assert "Traceback" not in output
    with open_archive(tmp_path / "a.sqlite", read_only=True) as archive:
        assert archive.list_runs()[-1].status == "stopped"
    deadline = time.monotonic() + 30
    while members(running.pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not members(running.pid)


def members(session: int) -> list[str]:
    """Command lines of the processes of a session."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if os.getsid(int(entry.name)) == session:
                found.append((entry / "cmdline").read_text().replace("\0", " "))
        except (ProcessLookupError, FileNotFoundError):
            continue
    return found


@pytest.mark.parametrize(("setting", "value"), [("generations", 0), ("population", 0), ("models", [])])
def test_a_run_that_would_do_nothing_is_refused(setting: str, value: object, tmp_path: Path) -> None:
    with open_archive(tmp_path / "a.sqlite") as archive, pytest.raises(UsageError, match=setting[:5]):
        evolve(load_task("gelu"), archive, **{setting: value})  # type: ignore[arg-type]
