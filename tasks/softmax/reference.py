"""Softmax over the last dimension."""

import torch

from kernelevo.records import Case
from kernelevo.tasks import sample


def reference(x: torch.Tensor) -> torch.Tensor:
    """x [rows, cols] -> y [rows, cols]."""
    return torch.softmax(x, dim=-1)


def inputs(case: Case, generator: torch.Generator) -> tuple[torch.Tensor]:
    return (sample((case.sizes["rows"], case.sizes["cols"]), case, generator),)
