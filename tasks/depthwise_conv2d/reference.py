"""Depthwise 2-d convolution with stride 1 and zero padding that keeps the size."""

import torch

from kernelevo.records import Case
from kernelevo.tasks import sample, sample_parameter


def reference(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """x [batch, channels, height, width], weight [channels, 1, k, k], bias [channels] -> y, shaped like x."""
    return torch.nn.functional.conv2d(x, weight, bias, padding=weight.shape[-1] // 2, groups=x.shape[1])


def inputs(case: Case, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    batch, channels, height, width = (case.sizes[name] for name in ("batch", "channels", "height", "width"))
    k = 2 * case.sizes["radius"] + 1
    x = sample((batch, channels, height, width), case, generator)
    weight = sample_parameter((channels, 1, k, k), case, generator)
    bias = sample_parameter((channels,), case, generator)
    return x, weight, bias
