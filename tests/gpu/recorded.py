"""Which tasks and cases are compared between the emulator and a GPU: the two smallest sizes that are no toys."""

from __future__ import annotations

import math

from kernelevo.records import Case, Purpose, Task

TASKS = (
    "cross_entropy", "depthwise_conv2d", "gelu", "layernorm", "linear_relu", "rmsnorm", "rmsnorm_backward", "softmax",
)  # fmt: skip
CASES_OF_A_TASK = 2
ELEMENTS = 64  # at least, as the product of all sizes


def cases_to_compare(task: Task) -> tuple[Case, ...]:
    """In the order of their sizes; one case per size."""
    by_sizes = {tuple(case.sizes.values()): case for case in reversed(task.cases) if case.purpose is Purpose.TEST}
    large = [case for sizes, case in sorted(by_sizes.items(), key=lambda item: math.prod(item[0]))]
    return tuple(case for case in large if math.prod(case.sizes.values()) >= ELEMENTS)[:CASES_OF_A_TASK]
