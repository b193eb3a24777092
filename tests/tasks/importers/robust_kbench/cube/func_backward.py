import torch
from torch import nn


class AutogradFunction(torch.autograd.Function):
    backward_fn = None

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, grad_output):
        saved = ctx.saved_tensors  # a tuple, and handed on as one
        return AutogradFunction.backward_fn(saved, grad_output)


def forward_fn(x):
    """The cube of every element."""
    return x**3


class Model(nn.Module):
    def forward(self, x, fn=forward_fn):
        return fn(x)


def get_inputs(rows: int = 1000, cols: int = 1000):
    return [torch.randn(rows, cols)]
