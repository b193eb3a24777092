"""Rewritten kernels are still right: built by nvcc, run on the emulator, judged like any candidate.

One place of every rule on every task's seed kernel, stacks of rewrites that build on each other, and random walks.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from rewriting import ALL_RULES, SEEDS, random_rewrites, rewritten, sites

from kernelevo.build import build
from kernelevo.devices.emulator import EmulatorDevice
from kernelevo.records import Candidate, Outcome, Purpose
from kernelevo.tasks import load_task
from kernelevo.toolchain import find_toolchain
from kernelevo.verify import verify

pytestmark = [pytest.mark.slow, pytest.mark.nvcc]

EVERY_RULE = [(task, rule.name) for task in SEEDS for rule in ALL_RULES if sites(rule.name, SEEDS[task])]

# The strongest stacks of each task: later rewrites work on what earlier ones wrote.
STACKS = {
    "gelu": ["vectorize(gelu_kernel element width=4)", "restrict(gelu_kernel)", "threads(gelu_kernel threads=128)"],
    "softmax": [
        "online_softmax(softmax_kernel largest)",
        "vectorize(softmax_kernel i<cols width=4)",
        "warp_shuffle(softmax_kernel)",
        "keep_row(softmax_kernel row_vectors registers=4)",
        "reciprocal(softmax_kernel sum)",
        "threads(softmax_kernel threads=128)",
    ],
    "rmsnorm": [
        "vectorize(rmsnorm_kernel i<cols width=4)",
        "warp_per_row(rmsnorm_kernel rows=8)",
        "keep_row(rmsnorm_kernel row_vectors registers=8)",
        "tunable(ROWS_PER_BLOCK=16)",
    ],
    "layernorm": [
        "vectorize(layernorm_kernel i<cols width=2)",
        "stage_row(layernorm_kernel row_vectors shared=512)",
        "warp_shuffle(layernorm_kernel)",
        "restrict(layernorm_kernel)",
    ],
    "rmsnorm_backward": [
        "warp_shuffle(grad_x_kernel)",
        "vectorize(grad_x_kernel i<cols width=4)",
        "keep_row(grad_x_kernel row_vectors+grad_row_vectors+weight_vectors registers=2)",
        "split_rows(grad_weight_kernel threads=16)",
    ],
    "cross_entropy": [
        "warp_shuffle(row_loss_kernel)",
        "warp_per_row(row_loss_kernel rows=4)",
        "online_softmax(row_loss_kernel largest)",
        "warp_shuffle(mean_kernel)",
        "vectorize(mean_kernel i<rows width=4)",
    ],
    "linear_relu": [
        "tile(linear_relu_kernel each=2 depth=16)",
        "tunable(TILE_EACH=4)",
        "tunable(TILE_DEPTH=8)",
        "restrict(linear_relu_kernel)",
    ],
    "depthwise_conv2d": [
        "specialize(depthwise_conv2d_kernel kernel_size=3,5,7)",
        "grid_stride(depthwise_conv2d_kernel blocks=528)",
        "read_only(depthwise_conv2d_kernel)",
        "launch_bounds(depthwise_conv2d_kernel 256)",
    ],
}


@pytest.fixture(scope="module")
def judged(emulator: EmulatorDevice, cache_folder: Path) -> Callable[[str, str], str]:
    """(task, source) -> "passed", or what is wrong, on the task's own test cases."""
    toolchain = find_toolchain()
    tasks = {name: load_task(name) for name in SEEDS}

    def judge(name: str, source: str) -> str:
        task = tasks[name]
        candidate = Candidate(source=source, entry=task.entry)
        made = build(candidate, target=emulator.target, toolchain=toolchain, cache=cache_folder)
        if not made.succeeded:
            return "\n".join(d.text for d in made.diagnostics)
        cases = [case for case in task.cases if case.purpose is Purpose.TEST]
        verdict = verify(task, made, emulator, cases=cases, entropy=0, timeout_seconds=60)
        return "passed" if verdict.outcome is Outcome.PASSED else f"{verdict.outcome.value}: {verdict.reason}"

    return judge


@pytest.mark.parametrize(("task", "name"), EVERY_RULE)
def test_every_rule_leaves_a_seed_kernel_right(task: str, name: str, judged: Callable[[str, str], str]) -> None:
    argument = random.Random(f"{task} {name}").choice(sorted(sites(name, SEEDS[task])))
    assert judged(task, rewritten(SEEDS[task], f"{name}({argument})")) == "passed", f"{name}({argument})"


@pytest.mark.parametrize("task", STACKS)
def test_rewrites_on_top_of_each_other_leave_a_seed_kernel_right(task: str, judged: Callable[[str, str], str]) -> None:
    source = rewritten(SEEDS[task], *STACKS[task])
    assert judged(task, source) == "passed"


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("task", SEEDS)
def test_random_walks_leave_a_seed_kernel_right(task: str, seed: int, judged: Callable[[str, str], str]) -> None:
    walk = random_rewrites(SEEDS[task], seed, 6)
    assert judged(task, walk[-1][1]) == "passed", [str(rewrite) for rewrite, _ in walk]
