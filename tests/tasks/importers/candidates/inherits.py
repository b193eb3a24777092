import torch
from torch import nn


class Model(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 1.5 * x / (1.0 + x.abs())


class ModelNew(Model):
    pass
