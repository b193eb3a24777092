"""skills/kernelevo/SKILL.md and the two commands that it teaches: every command in it is run here as by an agent."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from kernelevo import open_archive
from kernelevo.agents import AgentJob

pytestmark = [pytest.mark.nvcc, pytest.mark.slow]

SKILL = Path(__file__).resolve().parents[2] / "skills" / "kernelevo" / "SKILL.md"
TEXT = SKILL.read_text()
BLOCKS = re.findall(r"^```sh\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
INLINE = re.findall(r"`(kernelevo [^`]+)`", TEXT)


@pytest.fixture
def checkout(archive_file: Path) -> Path:
    """A folder whose .venv has a `kernelevo` that runs this code on the archive of a run that has begun."""
    folder = archive_file.parent
    scripts = folder / ".venv" / "bin"
    scripts.mkdir(parents=True)
    (scripts / "activate").write_text(f"PATH={scripts}:$PATH\n")
    for name, code in (("kernelevo", ' -c "from kernelevo.cli import main; main()"'), ("python", "")):
        (scripts / name).write_text(f'#!/bin/sh\nexec {sys.executable}{code} "$@"\n')
        (scripts / name).chmod(0o755)
    return folder


def shell(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Ends at the first command that fails."""
    return subprocess.run(
        ["bash", "-e", "-c", script],
        cwd=folder,
        env={**os.environ, "KERNELEVO_ARCHIVE": str(folder / "a.sqlite")},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


def test_the_skill_says_when_to_use_it_and_is_short() -> None:
    front = re.match(r"---\nname: kernelevo\ndescription: (.+)\n---\n", TEXT)
    assert front is not None and 50 < len(front[1]) <= 1024
    assert len(TEXT.splitlines()) <= 150


def test_every_command_of_the_skill_runs_in_the_order_of_its_text(checkout: Path, job: AgentJob) -> None:
    done = shell("\n".join(BLOCKS), checkout)
    assert done.returncode == 0, done.stdout + done.stderr
    asked, draft, told = (json.loads((checkout / f"{name}.json").read_text()) for name in ("job", "draft", "told"))
    assert asked["job"].startswith(f"{job.run}/2@")  # the first is somebody's
    assert set(re.findall(r"`(\w+)`", TEXT.partition("holds `job`")[2].partition("`-o`")[0])) <= set(asked)
    assert asked["command"].startswith(f"kernelevo tell {asked['job']} kernel.cu --archive {checkout}/a.sqlite --json")
    assert draft["status"] == "passed"
    for name in re.findall(r"`(\w+)`", TEXT.partition("`told.json`: ")[2].partition("`report` has")[0]):
        assert name in told
    assert (told["status"], told["closed"], told["report"]["shared_from"]) == ("passed", True, None)
    assert told["report"]["candidate"] == job.parents[0] and told["speedup_over_seed"] == 1.0
    for command in (told["command"], *(one for one in INLINE if not one.startswith("kernelevo tell"))):
        ran = shell(f". .venv/bin/activate; {command.replace('CANDIDATE', told['best'])}", checkout)
        assert ran.returncode == 0, f"{command}: {ran.stdout}{ran.stderr}"
    with open_archive(checkout / "a.sqlite", read_only=True) as archive:
        assert {2, 3} <= {one.iteration for one in archive.jobs(job.run)}
        assert archive.replies(job.run, 2)[0].text.startswith("PLAN: 16-byte loads")


def test_people_read_the_same_and_exit_codes_tell_failures_apart(checkout: Path, job: AgentJob) -> None:
    (checkout / "kernel.cu").write_text("nothing that could be read")
    begin = ". .venv/bin/activate; "
    unread = shell(f"{begin}kernelevo tell {job.job} kernel.cu", checkout)
    assert unread.returncode == 1
    assert "the job is open: 2 replies are left" in unread.stdout
    assert f"next: kernelevo tell {job.job} kernel.cu --archive" in unread.stdout
    missing = shell(f"{begin}kernelevo tell {job.job} none.cu --json", checkout)
    assert missing.returncode == 2 and json.loads(missing.stdout)["error"] == "UsageError"
    told = shell(f"{begin}kernelevo archive show {job.parents[0]} --source | kernelevo tell {job.job} -", checkout)
    assert told.returncode == 0, told.stdout + told.stderr
    assert "1.000 times as fast as the task's own kernel" in told.stdout
    asked = shell(f"{begin}kernelevo ask gelu --holder person", checkout)
    assert asked.returncode == 0 and "Make it faster at the timed sizes." in asked.stdout
    assert f"\nnext: kernelevo tell {job.run}/2@person kernel.cu --archive" in asked.stdout
