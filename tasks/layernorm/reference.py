"""Layer normalisation over the last dimension, with weight and bias."""

import torch

from kernelevo.records import Case
from kernelevo.tasks import sample, sample_parameter


def reference(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, eps: float) -> torch.Tensor:
    """x [rows, cols], weight [cols], bias [cols] -> y [rows, cols]."""
    return torch.nn.functional.layer_norm(x, (x.shape[-1],), weight, bias, eps)


def inputs(case: Case, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, float]:
    rows, cols = case.sizes["rows"], case.sizes["cols"]
    x = sample((rows, cols), case, generator)
    weight = sample_parameter((cols,), case, generator)
    bias = torch.randn(cols, generator=generator).to(weight.dtype)
    return x, weight, bias, 1e-5
