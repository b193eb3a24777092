"""Cross entropy of logits against class indices, averaged over the rows."""

import torch

from kernelevo.records import Case
from kernelevo.tasks import sample


def reference(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """logits [rows, classes], target [rows] int64 -> loss []."""
    return torch.nn.functional.cross_entropy(logits, target)


def inputs(case: Case, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    rows, classes = case.sizes["rows"], case.sizes["classes"]
    return sample((rows, classes), case, generator), torch.randint(classes, (rows,), generator=generator)
