"""RMS normalisation over the last dimension, with a weight."""

import torch

from kernelevo.records import Case
from kernelevo.tasks import sample, sample_parameter


def reference(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """x [rows, cols], weight [cols] -> y [rows, cols]."""
    return x * torch.rsqrt(x.square().mean(dim=-1, keepdim=True) + eps) * weight


def inputs(case: Case, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor, float]:
    rows, cols = case.sizes["rows"], case.sizes["cols"]
    return sample((rows, cols), case, generator), sample_parameter((cols,), case, generator), 1e-5
