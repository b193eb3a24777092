"""kill -9 at every boundary of an iteration, and then --resume: nothing is paid or counted twice, nothing is lost."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from providers.scripts import good
from providers.server import Answer, Entry, ProviderServer, Request
from small_task import write_small_task

from crash.child import ARCHIVE_POINTS, STAGES
from kernelevo.archive import open_archive
from kernelevo.lineage import Decision, lineage

pytestmark = [pytest.mark.nvcc, pytest.mark.slow]

MODEL_PRICE = '"openai:m@{url}/v1" = {{ input = 2, output = 8 }}\n'
ASKED = 2  # iterations of the run that a model is asked for
# A request is out, and nobody alive waits for it: it has to be sent again, and what it cost is not known.
CUT_OFF = ("when the reply has come and is not stored", "while the provider answers")
NEVER_SENT = ("after the request is written down",)
POINTS = [*ARCHIVE_POINTS, "when the candidate is read", *(f"in stage {stage}" for stage in STAGES)]


@pytest.fixture(scope="module")
def server() -> Iterator[ProviderServer]:
    with ProviderServer(good) as opened:
        yield opened


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory, server: ProviderServer) -> tuple[Path, list[Entry]]:
    """The folder of a run that was killed before its last job, and the provider's log until then."""
    folder = tmp_path_factory.mktemp("begun")
    killed = run(folder, server.url, POINTS[0])
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    return folder, list(server.log)


def run(folder: Path, url: str, point: str) -> subprocess.CompletedProcess[str]:
    (folder / "kernelevo.toml").write_text("[prices]\n" + MODEL_PRICE.format(url=url))
    tests = Path(__file__).resolve().parents[1]
    return subprocess.run(  # noqa: PLW1510 - the caller looks at the exit status
        [
            sys.executable,
            str(tests / "crash" / "child.py"),
            write_small_task(folder),
            str(folder / "a.sqlite"),
            url,
            point,
        ],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tests.parent), str(tests)])},
        capture_output=True,
        text=True,
        timeout=250,
    )


@pytest.mark.parametrize("point", POINTS)
def test_a_run_that_is_killed_goes_on_as_if_it_had_not_been(
    point: str, tmp_path: Path, server: ProviderServer, begun: tuple[Path, list[Entry]]
) -> None:
    before, log = begun
    for file in before.glob("a.sqlite*"):  # the log that SQLite was killed with belongs to it
        shutil.copy(file, tmp_path)
    first = len(server.log)
    if point != POINTS[0]:
        killed = run(tmp_path, server.url, point)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
    resumed = run(tmp_path, server.url, "none")
    assert resumed.returncode == 0, resumed.stderr
    cut_off = 1 if point in (*CUT_OFF, *NEVER_SENT) else 0
    asked = [*log, *server.log[first:]]
    lineages.append(check_books(tmp_path / "a.sqlite", asked, cut_off=cut_off, lost=1 if point in CUT_OFF else 0))
    assert lineages[-1] == lineages[0], "it went another way than those that were killed elsewhere"


def test_a_run_that_is_killed_while_the_provider_answers_asks_again_and_says_what_it_does_not_know(
    tmp_path: Path,
) -> None:
    def script(request: Request) -> Answer:
        """Kills the client in the middle of the first answer to its second job."""
        if request.number == 1:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
        return good(request)

    with ProviderServer(script) as server:
        (tmp_path / "kernelevo.toml").write_text("[prices]\n" + MODEL_PRICE.format(url=server.url))
        tests = Path(__file__).resolve().parents[1]
        process = subprocess.Popen(
            [
                sys.executable,
                str(tests / "crash" / "child.py"),
                write_small_task(tmp_path),
                tmp_path / "a.sqlite",
                server.url,
                "none",
            ],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tests.parent), str(tests)])},
            stderr=subprocess.PIPE,
        )
        assert process.stderr is not None
        process.stderr.read()
        assert process.wait(timeout=250) == -signal.SIGKILL
        resumed = run(tmp_path, server.url, "none")
        assert resumed.returncode == 0, resumed.stderr
        check_books(tmp_path / "a.sqlite", server.log, cut_off=1, lost=1)


lineages: list[list[Decision]] = []  # of all runs with one server


def check_books(path: Path, log: list[Entry], *, cut_off: int, lost: int) -> list[Decision]:
    """The ledger against the provider's own log; gives the lineage.

    cut_off: requests of which the ledger says that it does not know what they cost. lost: those of them that the
        provider knows of.
    """
    assert len(log) == ASKED + lost
    with open_archive(path, read_only=True) as archive:
        entry = archive.list_runs()[0]
        assert (entry.status, entry.attempts) == ("finished", 1 + ASKED)
        cost = archive.ledger.cost(entry.run.id)
        assert (cost.calls, cost.calls_of_unknown_cost, cost.failed_calls) == (ASKED + cut_off, cut_off, cut_off)
        paid = [e for e in log if e.billed]
        if lost:
            del paid[1]  # the first request of the second job
        assert cost.cost_usd == pytest.approx(sum(dollars(e) for e in paid))
        assert cost.input_tokens == sum(e.input_tokens for e in paid)
        assert cost.output_tokens == sum(e.output_tokens for e in paid)
        return lineage(archive, entry.run.id)


def dollars(entry: Entry) -> float:
    """By MODEL_PRICE. Writing to a cache costs a quarter more, reading from it what input costs."""
    return ((entry.input_tokens + entry.written_tokens / 4) * 2 + entry.output_tokens * 8) / 1e6
