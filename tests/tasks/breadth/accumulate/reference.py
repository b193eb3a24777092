import torch

from kernelevo.records import Case
from kernelevo.tasks import sample


def reference(total: torch.Tensor, x: torch.Tensor, scale: float) -> None:
    total += scale * x


def inputs(case: Case, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor, float]:
    shape = (case.sizes["rows"], case.sizes["cols"])
    return sample(shape, case, generator), sample(shape, case, generator), 0.75
