"""Rewrites on top of each other are still right: stacks that build on each other, and random walks, on the emulator."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from rewriting import SEEDS, random_rewrites, rewritten

pytestmark = [pytest.mark.slow, pytest.mark.nvcc]

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


@pytest.mark.parametrize("task", STACKS)
def test_rewrites_on_top_of_each_other_leave_a_seed_kernel_right(task: str, judged: Callable[[str, str], str]) -> None:
    source = rewritten(SEEDS[task], *STACKS[task])
    assert judged(task, source) == "passed"


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("task", SEEDS)
def test_random_walks_leave_a_seed_kernel_right(task: str, seed: int, judged: Callable[[str, str], str]) -> None:
    walk = random_rewrites(SEEDS[task], seed, 6)
    assert judged(task, walk[-1][1]) == "passed", [str(rewrite) for rewrite, _ in walk]
