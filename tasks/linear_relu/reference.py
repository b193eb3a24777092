"""A linear layer followed by ReLU."""

import torch

from kernelevo.records import Case
from kernelevo.tasks import sample, sample_parameter


def reference(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """x [rows, in_features], weight [out_features, in_features], bias [out_features] -> y [rows, out_features]."""
    return torch.relu(torch.nn.functional.linear(x, weight, bias))


def inputs(case: Case, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    rows, in_features, out_features = (case.sizes[name] for name in ("rows", "in_features", "out_features"))
    x = sample((rows, in_features), case, generator)
    weight = sample_parameter((out_features, in_features), case, generator)
    bias = sample_parameter((out_features,), case, generator)
    return x, weight, bias
