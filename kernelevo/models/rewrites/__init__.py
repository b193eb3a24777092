"""The rewrites of the built-in proposer, one idea per file. `RULES` improve, `SIMPLIFICATIONS` take away.

Adding one: a file with `sites(unit)` and a `RULE`, a line below, and its name in tests/mutate.

The weights come from what pays on memory-bound and simple compute-bound kernels, first things first. A tile removes
most traffic of a naive product (predicted for an H100 on linear_relu's seed: 2 to 5 times faster), a split sum fills
the GPU (rmsnorm_backward: 4 times), a bound known to the compiler unrolls a window (depthwise_conv2d: 1.5 times); wide
accesses divide memory instructions by four, shuffles remove most barriers of a reduction, a row per warp all of them
(each 1.05 to 1.2 times on softmax and rmsnorm, whose time is mostly DRAM's). Constants (threads, unrolling, bounds)
are worth little until the structure is right, and are tried more once nothing structural is left.
"""

from __future__ import annotations

from kernelevo.models.rewrites import (
    fast_math,
    fuse_loops,
    grid_stride,
    keep_row,
    launch_bounds,
    online_softmax,
    range_check,
    read_only,
    reciprocal,
    restrict,
    specialize,
    split_rows,
    stage_row,
    threads,
    tile,
    tunables,
    unroll,
    vectorize,
    warp_per_row,
    warp_shuffle,
)
from kernelevo.models.rewrites.rule import Rule

RULES: tuple[Rule, ...] = (
    tile.RULE,
    split_rows.RULE,
    specialize.RULE,
    warp_shuffle.RULE,
    fuse_loops.RULE,
    vectorize.RULE,
    online_softmax.RULE,
    keep_row.RULE,
    warp_per_row.RULE,
    stage_row.RULE,
    reciprocal.RULE,
    restrict.RULE,
    fast_math.RULE,
    range_check.RULE,
    threads.RULE,
    tunables.RULE,
    grid_stride.RULE,
    unroll.RULE,
    read_only.RULE,
    launch_bounds.RULE,
)

SIMPLIFICATIONS: tuple[Rule, ...] = (
    fast_math.DROP,
    unroll.DROP,
    read_only.DROP,
    launch_bounds.DROP,
)
