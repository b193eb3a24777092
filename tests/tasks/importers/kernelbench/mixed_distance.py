import torch
from torch import nn


class Model(nn.Module):
    """Distance of each row of a to the same row of b, the squares mixed by a number."""

    def forward(self, a, b, share):
        return torch.sqrt(share * (a - b).square().sum(dim=1) + (1 - share) * a.square().sum(dim=1))


def get_inputs():
    return [torch.randn(256, 1000), torch.randn(256, 1000), 0.75]


def get_init_inputs():
    return []
