"""Wrong twins: real kernels, each one mistake or one cheat away from a right one, judged by the whole pipeline.

Each must be rejected for its own reason; the honest twins are the seeds of the same tasks, which must pass.
"""

from pathlib import Path

import pytest

from kernelevo.evaluate import evaluate
from kernelevo.records import Outcome
from kernelevo.tasks import list_tasks, load_task

pytestmark = pytest.mark.nvcc

HERE = Path(__file__).parent

# twin, task, outcome, what the reason says
TWINS = [
    ("off_by_one_tail", "gelu", "wrong", "output 0 not written: it holds what its memory held before"),
    ("missing_barrier", "rmsnorm", "wrong", "race: kernel rmsnorm_kernel, line 20: "),
    ("wrong_eps", "rmsnorm", "wrong", "wrong value: output 0 ["),
    ("half_accumulation", "linear_relu", "wrong", "wrong value: output 0 ["),
    ("ignores_weight", "layernorm", "wrong", "wrong value: output 0 ["),
    ("writes_nothing", "softmax", "wrong", "output 0 not written: it holds what its memory held before"),
    ("wrong_shape", "cross_entropy", "wrong", "wrong shape: output 0 is [1], expected []"),
    ("vectors_without_tail", "gelu", "wrong", "output 0 not written: it holds what its memory held before"),
    ("adds_to_fresh_memory", "cross_entropy", "wrong", "uninitialised read: kernel mean_kernel, line 57: "),
    ("keeps_its_answer", "gelu", "wrong", "wrong value: output 0 ["),
    ("knows_the_sizes", "rmsnorm", "wrong", "wrong value: output 0 ["),
    ("unpublished_scale", "rmsnorm", "wrong", "race: kernel rmsnorm_kernel, line 32: "),
    ("half_of_long_rows", "rmsnorm", "wrong", "output 0 not written at [0, 2048], 4194304 of 8388608 elements"),
    ("one_row_when_timed", "rmsnorm", "wrong", "output 0 not written at [1, 0], 8384512 of 8388608 elements"),
    ("refused_launch", "gelu", "wrong", "bad launch: kernel gelu_kernel: block (2048, 1, 1) is outside"),
    ("side_stream", "gelu", "wrong", "unjoined stream: nothing waits for gelu_kernel on a side stream"),
    ("ghost_kernel", "softmax", "cheating", "library call: calls compute operators of PyTorch: at::softmax_int"),
    ("writes_beside", "gelu", "wrong", "out of bounds: "),
    ("mutates_input", "gelu", "cheating", "input 0 changed at [0, 0]: was "),
    ("returns_input", "gelu", "cheating", "aliases input: output 0 shares memory with tensor input 0"),
    ("host_loop", "rmsnorm", "cheating", "host computation: copied "),
    ("launches_nothing", "softmax", "cheating", "output 0 not written: it holds what its memory held before"),
    ("library_call", "softmax", "cheating", "library call: calls compute operators of PyTorch: at::softmax_int"),
]


# Kernels that look suspicious, or round in another way, and are right.
HONEST = [
    ("atomics", "rmsnorm_backward"),
    ("joined_streams", "gelu"),
    ("vectors_with_tail", "rmsnorm"),
    ("warp_per_row", "softmax"),
]


@pytest.mark.parametrize("twin, task, outcome, reason", TWINS, ids=[row[0].replace("_", "-") for row in TWINS])
def test_a_wrong_twin_is_rejected_for_its_own_reason(emulator, twin, task, outcome, reason):
    evaluation = evaluate(load_task(task), HERE / f"{twin}.cu", device=emulator)
    assert evaluation.verdict is not None, evaluation.feedback
    assert evaluation.verdict.outcome.value == outcome, evaluation.verdict.reason
    assert evaluation.verdict.reason.startswith(reason)
    assert evaluation.timing is None


@pytest.mark.parametrize("twin, task", HONEST, ids=[row[0].replace("_", "-") for row in HONEST])
def test_an_honest_kernel_that_is_written_otherwise_passes(emulator, twin, task):
    evaluation = evaluate(load_task(task), HERE / "honest" / f"{twin}.cu", device=emulator)
    assert evaluation.verdict is not None, evaluation.feedback
    assert evaluation.verdict.outcome is Outcome.PASSED, evaluation.verdict.reason


@pytest.mark.parametrize("name", [task.name for task in list_tasks()])
def test_the_seed_of_every_task_passes(emulator, name):
    task = load_task(name)
    evaluation = evaluate(task, task.folder / "seed.cu", device=emulator)
    assert evaluation.verdict is not None, evaluation.feedback
    assert evaluation.verdict.outcome is Outcome.PASSED, evaluation.verdict.reason
    assert evaluation.timing is not None, evaluation.timing_reason


def test_every_twin_is_in_the_table():
    assert {path.stem for path in HERE.glob("*.cu")} == {row[0] for row in TWINS}
    assert {path.stem for path in HERE.glob("honest/*.cu")} == {row[0] for row in HONEST}
