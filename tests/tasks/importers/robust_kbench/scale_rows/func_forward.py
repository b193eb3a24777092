import torch
from torch import nn


def forward_fn(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """Divides each row by its largest magnitude and scales the columns.

    Args:
        x: [rows, cols]
    """
    return x / (x.float().abs().amax(dim=-1, keepdim=True) + eps) * weight


class Model(nn.Module):
    def __init__(self, cols: int = 4096, eps: float = 1e-6, start: str = "ones"):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(cols) if start == "ones" else torch.randn(cols))
        self.eps = eps

    def forward(self, x, fn=forward_fn):
        return fn(x, self.weight, self.eps)


def get_inputs(rows: int = 8192, cols: int = 4096):
    return [torch.randn(rows, cols)]


input_names = ["x"]
