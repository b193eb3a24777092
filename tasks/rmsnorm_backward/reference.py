"""Gradients of RMS normalisation with respect to its input and its weight."""

import torch

from kernelevo.records import Case
from kernelevo.tasks import sample, sample_parameter


def reference(
    grad_y: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, eps: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """grad_y [rows, cols], x [rows, cols], weight [cols] -> grad_x [rows, cols], grad_weight [cols]."""
    scale = torch.rsqrt(x.square().mean(dim=-1, keepdim=True) + eps)
    normalised = x * scale
    weighted = grad_y * weight
    grad_x = scale * (weighted - normalised * (weighted * normalised).mean(dim=-1, keepdim=True))
    return grad_x, (grad_y * normalised).sum(dim=0)


def inputs(case: Case, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, float]:
    rows, cols = case.sizes["rows"], case.sizes["cols"]
    grad_y = torch.randn(rows, cols, generator=generator)
    x = sample((rows, cols), case, generator)
    weight = sample_parameter((cols,), case, generator)
    return grad_y.to(x.dtype), x, weight, 1e-5
