import torch
from torch import nn


class Model(nn.Module):
    """A linear layer, a learned shift, and ReLU."""

    def __init__(self, in_features, out_features):
        super().__init__()
        self.linear = nn.Linear(in_features, out_features)
        self.shift = nn.Parameter(torch.zeros(out_features))

    def forward(self, x):
        return torch.relu(self.linear(x) + self.shift)


batch_size, in_features, out_features = 1024, 4096, 8192


def get_inputs():
    return [torch.randn(batch_size, in_features)]


def get_init_inputs():
    return [in_features, out_features]
