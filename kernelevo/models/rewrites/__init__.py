"""The rewrites of the built-in proposer, one idea per file. `RULES` improve, `SIMPLIFICATIONS` take away.

Adding one: a file with `sites(unit)` and a `RULE`, a line below, and its name in tests/mutate.

The weights come from what pays on memory-bound and simple compute-bound kernels, first things first: a tile removes
most traffic of a naive product; shuffles remove most barriers of a reduction; wide accesses divide the number of
memory instructions by four; a row kept in registers removes whole passes. Constants (threads, unrolling, bounds) are
worth little until the structure is right, and are tried more once nothing structural is left.
"""

from __future__ import annotations

from kernelevo.models.rewrites import (
    fast_math,
    grid_stride,
    keep_row,
    launch_bounds,
    online_softmax,
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
    vectorize.RULE,
    online_softmax.RULE,
    keep_row.RULE,
    warp_per_row.RULE,
    stage_row.RULE,
    reciprocal.RULE,
    restrict.RULE,
    fast_math.RULE,
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
