"""SiLU of one tensor, times another."""

import torch

from kernelevo.records import Case
from kernelevo.tasks import sample


def reference(gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    """gate [rows, cols], up [rows, cols] -> y [rows, cols]."""
    return torch.nn.functional.silu(gate) * up


def inputs(case: Case, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    shape = (case.sizes["rows"], case.sizes["cols"])
    gate = sample(shape, case, generator)
    return gate, torch.randn(shape, generator=generator).to(gate.dtype)
