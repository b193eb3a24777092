"""Outputs of timed calls are judged by the rule of the verdict, for inputs that no case has drawn."""

from __future__ import annotations

import torch

from kernelevo.records import Purpose
from kernelevo.tasks import load_task
from kernelevo.verify.timed import accepts_outputs


def test_right_outputs_are_accepted_and_others_are_named() -> None:
    task = load_task("rmsnorm")
    case = next(case for case in task.cases if case.purpose is Purpose.TEST and case.sizes["cols"] == 129)
    x, weight, eps = torch.randn(37, 129), torch.randn(129), 1e-5
    y = task.reference(x, weight, eps)
    accepts = accepts_outputs(task)
    assert accepts(case, (x, weight, eps), (y,)) is None
    assert "wrong value: output 0 [" in str(accepts(case, (x + 1, weight, eps), (y,)))
    assert "wrong shape" in str(accepts(case, (x, weight, eps), (y[:-1],)))
    assert "wrong number of outputs" in str(accepts(case, (x, weight, eps), ()))
