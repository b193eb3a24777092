"""What the task computes. Runs on the CPU, in float64 (the oracle) and in the case's dtype (the rounding to expect)."""

import torch

from kernelevo.records import Case
from kernelevo.tasks import sample, sample_parameter


def reference(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """x [rows, cols], weight [cols] -> y [rows, cols]. Pure: changes none of its inputs."""
    return x * torch.sigmoid(x) * weight


def inputs(case: Case, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """The positional inputs of reference and candidates: CPU tensors and Python numbers, drawn from the generator."""
    rows, cols = case.sizes["rows"], case.sizes["cols"]
    x = sample((rows, cols), case, generator)
    weight = sample_parameter((cols,), case, generator)
    return x, weight


# Optional, for outputs that are sets or samples and cannot be compared element by element:
# def compare(outputs, oracle):
#     """None accepts; a string says why not. Both are tuples of tensors; the oracle's are float64."""
