"""Ask and tell on the real emulator. Most kernels here are gelu's own and a comment: that is not built again."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from kernelevo import load_task, open_archive
from kernelevo.agents import AgentJob, ask, tell
from kernelevo.archive import Archive
from kernelevo.devices.emulator import EmulatorDevice
from kernelevo.errors import UsageError
from kernelevo.evolve import evolve
from kernelevo.explain import explain
from kernelevo.lineage import first_difference
from kernelevo.records import Operator, Task
from kernelevo.site import Event, Step, stop_file

from .conftest import Clock

pytestmark = [pytest.mark.nvcc, pytest.mark.slow]

# What an agent might answer: 16-byte accesses with a tail, as edits of gelu's own kernel.
EDITS = """
<<<<<<< SEARCH
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) {
        float value = x[i];
        y[i] = 0.5f * value * (1.0f + erff(value * 0.70710678f));
    }
=======
    int i = blockIdx.x * THREADS + threadIdx.x;
    if (i < n / 4) {
        float4 v = reinterpret_cast<const float4*>(x)[i];
        v.x = 0.5f * v.x * (1.0f + erff(v.x * 0.70710678f));
        v.y = 0.5f * v.y * (1.0f + erff(v.y * 0.70710678f));
        v.z = 0.5f * v.z * (1.0f + erff(v.z * 0.70710678f));
        v.w = 0.5f * v.w * (1.0f + erff(v.w * 0.70710678f));
        reinterpret_cast<float4*>(y)[i] = v;
    }
    int tail = n / 4 * 4 + i;
    if (tail < n) y[tail] = 0.5f * x[tail] * (1.0f + erff(x[tail] * 0.70710678f));
>>>>>>> REPLACE
<<<<<<< SEARCH
__global__ void gelu_kernel
=======
// tunable: THREADS = 128, 256
constexpr int THREADS = 256;

__global__ void gelu_kernel
>>>>>>> REPLACE
<<<<<<< SEARCH
    const int threads = 256;
    const int blocks = (n + threads - 1) / threads;
    gelu_kernel<<<blocks, threads, 0,
=======
    const int blocks = (n / 4 + THREADS) / THREADS;
    gelu_kernel<<<blocks, THREADS, 0,
>>>>>>> REPLACE
"""


def test_the_first_job_shows_the_tasks_own_kernel_with_its_times(job: AgentJob, seed: str) -> None:
    assert job.operator is Operator.OPTIMIZE and len(job.parents) == 1
    assert job.job == f"{job.run}/1@first"
    assert seed.strip() in job.request
    assert "bound by" in job.request and "PREDICTED for H100 SXM" in job.request
    assert "forward(x: Tensor[rows, cols])" in job.rules
    assert job.attempts_left == 3


def test_a_faster_kernel_told_as_edits_is_the_new_best_and_its_tunables_are_tried_by_who_asks_next(
    archive: Archive, job: AgentJob, gelu: Task, emulator: EmulatorDevice
) -> None:
    told = tell(job.job, EDITS, archive, gelu, plan="16-byte accesses", device=emulator)
    assert (told.status, told.reason, told.closed, told.is_best) == ("passed", "", True, True)
    assert told.report is not None and told.report.candidate == told.best
    assert told.speedup_over_seed is not None and told.speedup_over_seed > 1
    assert told.speedup_over_best == told.speedup_over_seed
    assert {timed.case for timed in told.report.cases} == {"rows=2048 cols=4096 float32", "rows=2048 cols=1024 float32"}
    assert all(timed.median_ns > 0 and timed.bottleneck for timed in told.report.cases)
    (reply,) = archive.replies(job.run, 1)
    assert reply.text.startswith("PLAN: 16-byte accesses\n")
    assert (reply.model, reply.cost_usd, reply.input_tokens, reply.output_tokens) == ("agent", None, None, None)
    assert 0 < reply.seconds < 600
    before: list[Event] = []
    following = ask(gelu, archive, device=emulator, watch=before.append)
    assert [event.job.operator for event in before if event.step is Step.ASKED and event.job] == [Operator.TUNE]
    tuned = archive.jobs(job.run)[2]
    assert tuned.operator is Operator.TUNE and tuned.parents == (told.best,)
    assert {tried.configuration for tried in archive.notes.tuning(job.run, 2)} == {"THREADS=256", "THREADS=128"}
    assert following.job.startswith(f"{job.run}/3@agent-")
    assert "16-byte accesses" in following.request or told.best in following.parents


def test_a_wrong_kernel_says_what_was_expected_and_what_that_usually_means(
    archive: Archive, job: AgentJob, gelu: Task, seed: str, emulator: EmulatorDevice
) -> None:
    told = tell(job.job, seed.replace("0.5f", "0.25f"), archive, gelu, device=emulator)
    assert (told.status, told.closed, told.is_best, told.speedup_over_seed) == ("wrong", True, False, None)
    assert "expected" in told.reason and "got" in told.reason
    assert told.report is not None and told.report.score_ns is None
    assert "the formula" in " ".join(explain(told.report))
    assert told.best == job.parents[0]
    assert told.repeats is None
    again = ask(gelu, archive, device=emulator)
    told = tell(again.job, seed.replace("0.5f", "0.25f"), archive, gelu, device=emulator)
    assert (told.status, told.repeats) == ("wrong", 1)


def test_a_reply_without_a_kernel_leaves_the_job_open_until_the_third(
    archive: Archive, job: AgentJob, gelu: Task, emulator: EmulatorDevice
) -> None:
    for left in (2, 1):
        told = tell(job.job, "I would rather not.", archive, gelu, device=emulator)
        assert (told.status, told.closed, told.attempts_left) == ("no kernel", False, left)
        assert "neither a fenced block" in told.reason
        assert archive.told(job.run) == {0}
    told = tell(job.job, "__global__ void k() {}", archive, gelu, device=emulator)
    assert (told.status, told.closed) == ("no kernel", True)
    assert archive.told(job.run) == {0, 1}
    retried = [prompt.messages[1].text for prompt in archive.prompts(job.run, 1)]
    assert "was of no use" not in retried[0] and all("was of no use" in text for text in retried[1:])


def test_a_kernel_is_told_once(
    archive: Archive, job: AgentJob, gelu: Task, seed: str, emulator: EmulatorDevice
) -> None:
    told = tell(job.job, f"// mine\n{seed}", archive, gelu, device=emulator)
    assert told.status == "passed" and told.report is not None and told.report.shared_from == job.parents[0]
    assert told.speedup_over_seed == 1.0
    with pytest.raises(UsageError, match="was told already"):
        tell(job.job, f"// again\n{seed}", archive, gelu, device=emulator)
    assert len(archive.replies(job.run, 1)) == 1


def test_a_job_whose_lease_ended_goes_to_the_next_and_is_refused_from_the_first(
    archive: Archive, job: AgentJob, gelu: Task, seed: str, emulator: EmulatorDevice, clock: Clock
) -> None:
    other = ask(gelu, archive, holder="second", device=emulator)
    assert other.job == f"{job.run}/2@second"  # the first is leased: another is decided
    tell(job.job, "no kernel at all", archive, gelu, device=emulator)
    clock.move(minutes=31)
    again = ask(gelu, archive, holder="third", device=emulator)
    assert again.job == f"{job.run}/1@third"
    assert again.attempts_left == 2 and "was of no use" in again.request
    with pytest.raises(UsageError, match="handed to third"):
        tell(job.job, seed, archive, gelu, device=emulator)
    assert tell(again.job, f"// third\n{seed}", archive, gelu, device=emulator).status == "passed"


def test_a_late_kernel_of_a_job_that_nobody_else_took_is_accepted(
    archive: Archive, job: AgentJob, gelu: Task, seed: str, emulator: EmulatorDevice, clock: Clock
) -> None:
    clock.move(hours=5)
    assert tell(job.job, f"// late\n{seed}", archive, gelu, device=emulator).status == "passed"
    (reply,) = archive.replies(job.run, 1)
    assert reply.seconds > 5 * 3600


TELL = """
import sys
from kernelevo import load_task, open_archive
from kernelevo.agents import tell
with open_archive(sys.argv[1]) as archive:
    tell(sys.argv[2], sys.stdin.read(), archive, load_task("gelu"))
"""


def test_a_kernel_whose_evaluation_was_killed_is_evaluated_by_whoever_asks_next(
    archive: Archive, job: AgentJob, gelu: Task, seed: str, emulator: EmulatorDevice, clock: Clock
) -> None:
    command = [sys.executable, "-c", TELL, str(archive.file), job.job]
    with subprocess.Popen(command, stdin=subprocess.PIPE, text=True) as teller:
        assert teller.stdin is not None
        teller.stdin.write(seed.replace("0.5f", "0.25f"))
        teller.stdin.close()
        while not archive.replies(job.run, 1):
            assert teller.poll() is None
            time.sleep(0.01)
        teller.kill()
    assert archive.told(job.run) == {0}
    clock.move(minutes=31)
    following = ask(gelu, archive, holder="second", device=emulator)
    assert following.job == f"{job.run}/2@second"
    assert [(s.iteration, s.status) for s in archive.scored(job.run)] == [(0, "passed"), (1, "wrong")]
    with pytest.raises(UsageError, match="was told already"):
        tell(job.job, seed, archive, gelu, device=emulator)


def test_a_run_whose_jobs_were_told_in_turn_is_replayed_to_the_same_lineage(
    archive: Archive, job: AgentJob, gelu: Task, seed: str, emulator: EmulatorDevice
) -> None:
    tell(job.job, f"// one\n{seed}", archive, gelu, device=emulator)
    second = ask(gelu, archive, device=emulator)
    assert not tell(second.job, "no kernel", archive, gelu, device=emulator).closed
    tell(second.job, f"// two\n{seed}", archive, gelu, device=emulator)
    replayed = evolve(gelu, archive, replay=job.run, device=emulator)
    assert archive.told(replayed.run.id) == {0, 1, 2}
    assert first_difference(archive, job.run, replayed.run.id) is None
    with pytest.raises(UsageError, match=f"repeats {job.run}"):
        ask(gelu, archive, run=replayed.run.id, device=emulator)


def test_what_cannot_be_told_or_asked_is_refused_in_a_sentence(
    archive: Archive, job: AgentJob, gelu: Task, seed: str, emulator: EmulatorDevice
) -> None:
    for name, says in (
        ("nonsense", "is not the id of a job"),
        (f"{job.run}/99", "was never handed out"),
        (f"{job.run}/1@somebody", "is not somebody's any more"),
    ):
        with pytest.raises(UsageError, match=says):
            tell(name, seed, archive, gelu, device=emulator)
    with pytest.raises(UsageError, match="is empty"):
        tell(job.job, " \n", archive, gelu, device=emulator)
    with pytest.raises(UsageError, match="has strategy one_island, not greedy"):
        ask(gelu, archive, strategy="greedy", device=emulator)
    with pytest.raises(UsageError, match="holder"):
        ask(gelu, archive, holder="two words", device=emulator)
    with pytest.raises(UsageError, match="agent is not a model that can be asked"):
        evolve(gelu, archive, resume=job.run, device=emulator)
    assert archive.told(job.run) == {0} and archive.replies(job.run, 1) == ()


def test_a_task_without_a_kernel_of_its_own_begins_with_a_translation(
    archive: Archive, gelu: Task, emulator: EmulatorDevice, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(gelu.folder, tmp_path / "plain", ignore=shutil.ignore_patterns("seed.cu")))
    asked = ask(load_task(folder), archive, device=emulator, strategy="greedy")
    assert (asked.operator, asked.parents) == (Operator.TRANSLATE, ())
    assert asked.job.startswith(f"{asked.run}/1@") and "torch.nn.functional.gelu" in asked.rules
    told = tell(
        asked.job, "<<<<<<< SEARCH\na\n=======\nb\n>>>>>>> REPLACE", archive, load_task(folder), device=emulator
    )
    assert "there is no kernel yet to apply them to" in told.reason
    assert ask(load_task(folder), archive, device=emulator, new=True).run != asked.run


def test_a_run_that_a_person_stopped_hands_nothing_out_until_that_is_taken_back(
    archive: Archive, job: AgentJob, gelu: Task, emulator: EmulatorDevice
) -> None:
    stop_file(archive, job.run).touch()
    for run in (None, job.run):
        with pytest.raises(UsageError, match="was stopped by a person"):
            ask(gelu, archive, run=run or job.run, device=emulator)
    stop_file(archive, job.run).unlink()
    assert ask(gelu, archive, run=job.run, device=emulator).run == job.run


AGENT = """
import json, sys
from kernelevo import load_task, open_archive
from kernelevo.agents import ask, tell
from kernelevo.devices.emulator import EmulatorDevice
task, device = load_task("gelu"), EmulatorDevice()
with open_archive(sys.argv[1]) as archive:
    for number in range(4):
        job = ask(task, archive, device=device)
        told = tell(job.job, f"// {sys.argv[2]} {number}\\n{task.seed_source}", archive, task, device=device)
        print(json.dumps([job.run, job.job, told.status]), flush=True)
device.close()
"""


def test_agents_in_several_processes_never_get_the_same_job_and_lose_none(archive_file: Path, gelu: Task) -> None:
    empty = archive_file.with_name("empty.sqlite")  # they also race for the run and for the task's own kernel
    agents = [
        subprocess.Popen([sys.executable, "-c", AGENT, str(empty), str(name)], stdout=subprocess.PIPE, text=True)
        for name in range(3)
    ]
    outputs = [agent.communicate(timeout=280)[0] for agent in agents]
    assert [agent.returncode for agent in agents] == [0, 0, 0]
    lines = [json.loads(line) for output in outputs for line in output.splitlines()]
    assert len({run for run, _, _ in lines}) == 1
    iterations = Counter(job.partition("@")[0].partition("/")[2] for _, job, _ in lines)
    assert iterations == {str(i): 1 for i in range(1, 13)}
    assert {status for _, _, status in lines} == {"passed"}
    with open_archive(empty, read_only=True) as archive:
        assert archive.told(lines[0][0]) == set(range(13))
        assert len(archive.list_runs()) == 1
