import torch
from torch import nn

channels = 96
length = 100_000
window = 11


class Model(nn.Module):
    """Sum over a window that slides along the last dimension, of a lower triangle of channels, with dropout."""

    def __init__(self, window: int):
        super().__init__()
        self.pool = nn.AvgPool1d(window, stride=1, padding=window // 2)
        self.dropout = nn.Dropout(0.2)

    def forward(self, x):
        return self.dropout(self.pool(x) * self.pool.kernel_size[0])


def get_inputs():
    return [torch.tril(torch.randn(4, channels, length))]


def get_init_inputs():
    return [window]
