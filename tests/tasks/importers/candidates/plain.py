from torch import nn


class ModelNew(nn.Module):
    def forward(self, x):
        return 1.5 * x / (1.0 + x.abs())
