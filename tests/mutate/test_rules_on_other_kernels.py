"""Every rule on seed kernels that are not over rows: built by nvcc, run on the emulator, judged like any candidate.

In two files, so that two processes share the work.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from rewriting import SEEDS, one_place, rewritten, rules_of

pytestmark = [pytest.mark.slow, pytest.mark.nvcc]


@pytest.mark.parametrize(("task", "name"), rules_of("gelu", "linear_relu", "cross_entropy", "depthwise_conv2d"))
def test_every_rule_leaves_a_seed_kernel_right(task: str, name: str, judged: Callable[[str, str], str]) -> None:
    rewrite = one_place(task, name)
    assert judged(task, rewritten(SEEDS[task], rewrite)) == "passed", rewrite
