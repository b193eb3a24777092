"""How inputs are drawn. Takes a shape, a case and a torch generator; gives a CPU tensor of the case's dtype.

`sample` draws activations by the case's distribution, `sample_parameter` draws parameters by its initialisation.
Both are what a task's reference.py imports to write its `inputs`. The same case and generator state give the same
bytes. Each distribution exists because a known kind of wrong kernel passes the others; its row below says which.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from kernelevo.records import Case

if TYPE_CHECKING:
    import torch

OWN = "own"  # of imported tasks: as their own files and modules draw; `sample` and `sample_parameter` draw it as normal

DISTRIBUTIONS = {
    "normal": "mean 0, deviation 1",
    "offset": "normal around 3: catches sums replaced by their expectation, variances by E[x^2] - E[x]^2 shortcuts",
    "tiny": "deviation 1e-4: catches absolute tolerances and a wrong eps",
    "huge": "deviation 1e3: catches a missing maximum before exp, and overflow in half precision",
    "sparse": "nine of ten are zero: catches division by a count or a sum that may be zero",
    "spike": "zero but for one 1000 in each row, all places in turn: catches omitted regions, maxima of a part",
    "constant": "one value everywhere: catches 0/0 and cancellation",
    "sorted": "ascending along the last dimension: catches work that takes only a part of a row as its sample",
    "negative": "minus the absolute value, every other row lower by 110: catches a maximum that starts from zero",
    "denormal": "every other value below the smallest normal number, the rest normal",
}

INITIALISATIONS = {
    "none": "the task has no parameters",
    "normal": "mean 0, deviation 1",
    "uniform": "uniform in [-1, 1]",
    "ones": "all one, as in a fresh layer; a kernel that ignores it passes, so never the only one",
    "positive": "uniform in [0.5, 1.5]: near what a trained scale has",
}


def sample(shape: Sequence[int], case: Case, generator: torch.Generator) -> torch.Tensor:
    """Activations of `shape`, drawn by case.distribution, as a contiguous CPU tensor of case.dtype."""
    import torch

    dtype: torch.dtype = getattr(torch, case.dtype)
    normal = torch.randn(tuple(shape), generator=generator)
    match case.distribution:
        case "normal" | "own":
            values = normal
        case "offset":
            values = normal + 3.0
        case "tiny":
            values = normal * 1e-4
        case "huge":
            values = normal * 1e3
        case "sparse":
            values = normal * (torch.rand(normal.shape, generator=generator) < 0.1)
        case "spike":
            rows = torch.zeros_like(_rows(normal))
            places = torch.randperm(rows.shape[1], generator=generator)
            number = torch.arange(rows.shape[0])
            rows[number, places[number % rows.shape[1]]] = 1000.0
            values = rows.reshape(normal.shape)
        case "constant":
            values = torch.full(normal.shape, 1.0 + float(torch.rand((), generator=generator)))
        case "sorted":
            values = normal.sort(dim=-1).values if normal.dim() else normal
        case "negative":
            rows = -_rows(normal).abs()
            rows[::2] -= 110.0  # exp of it is zero in float32
            values = rows.reshape(normal.shape)
        case "denormal":
            odd = torch.arange(normal.numel()).reshape(normal.shape) % 2 == 1
            values = torch.where(odd, normal.clamp(-1, 1).to(torch.float64) * torch.finfo(dtype).tiny, normal)
        case unknown:
            raise ValueError(f"unknown distribution {unknown!r}: expected one of {', '.join(DISTRIBUTIONS)}")
    return values.to(dtype).contiguous()


def _rows(values: torch.Tensor) -> torch.Tensor:
    """As a matrix whose rows are along the last dimension; without rows when there are no elements."""
    columns = max(values.shape[-1], 1) if values.dim() else 1
    return values.reshape(values.numel() // columns, columns)


def sample_parameter(shape: Sequence[int], case: Case, generator: torch.Generator) -> torch.Tensor:
    """A parameter of `shape`, drawn by case.initialisation, as a contiguous CPU tensor of case.dtype."""
    import torch

    match case.initialisation:
        case "normal" | "none" | "own":
            values = torch.randn(tuple(shape), generator=generator)
        case "uniform":
            values = torch.rand(tuple(shape), generator=generator) * 2.0 - 1.0
        case "ones":
            values = torch.ones(tuple(shape))
        case "positive":
            values = torch.rand(tuple(shape), generator=generator) + 0.5
        case unknown:
            raise ValueError(f"unknown initialisation {unknown!r}: expected one of {', '.join(INITIALISATIONS)}")
    return values.to(getattr(torch, case.dtype)).contiguous()
