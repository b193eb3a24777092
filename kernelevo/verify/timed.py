"""Outputs of calls that were made to be timed: judged like any others, against inputs that no case has drawn.

    accepts = accepts_outputs(task); accepts(case, inputs, outputs)     -> None, or one line that says what is wrong

Shapes, dtypes, strides and values are compared by the rule of the verdict (rule.py); the expected outputs are computed
here, in the trusted parent, for each call that is looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from kernelevo.devices import Arguments, Call
from kernelevo.records import Case, Outcome, Task
from kernelevo.verify.judgement import Judgement
from kernelevo.verify.oracle import expected_of, one_thread


def accepts_outputs(task: Task) -> Callable[[Case, Sequence[Any], Sequence[torch.Tensor]], str | None]:
    """What measure() takes as `accepts`. The function raises TaskError when the reference fails on the inputs."""

    def judge(case: Case, inputs: Sequence[Any], outputs: Sequence[torch.Tensor]) -> str | None:
        given = inputs if isinstance(inputs, Arguments) else tuple(inputs)
        with one_thread():
            judgement = Judgement(task, case, expected_of(task, case, given))
        call = Call(
            outcome=Outcome.PASSED,
            reason=None,
            outputs=tuple(outputs),
            inputs_after=tuple(value if isinstance(value, torch.Tensor) else None for value in given),
            findings=(),
            launches=(),
            output="",
            seconds=0.0,
        )
        return None if judgement.returned_right(call) else judgement.reason

    return judge
