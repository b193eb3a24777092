import torch
from torch import nn


class AutogradFunction(torch.autograd.Function):
    backward_fn = None

    @staticmethod
    def forward(ctx, x, weight, bias, shape, eps):
        mean = x.mean(dim=-1, keepdim=True)
        inverse = torch.rsqrt(x.var(dim=-1, correction=0, keepdim=True) + eps)
        ctx.save_for_backward(x, weight, mean, inverse)
        ctx.shape = shape
        return (x - mean) * inverse * weight + bias

    @staticmethod
    def backward(ctx, grad_output):
        x, weight, mean, inverse = ctx.saved_tensors
        grad_weight, grad_bias, grad_x = AutogradFunction.backward_fn(
            grad_output, x, weight, (mean, inverse), ctx.shape
        )
        return grad_x, grad_weight, grad_bias, None, None


def forward_fn(x, weight, bias, shape, eps):
    """Normalises the last dimension, then scales and shifts it."""
    return torch.nn.functional.layer_norm(x, shape, weight, bias, eps)


class Model(nn.Module):
    def __init__(self, cols: int = 1024, eps: float = 1e-5):
        super().__init__()
        self.norm = nn.LayerNorm(cols, eps=eps)

    def forward(self, x, fn=forward_fn):
        return fn(x, self.norm.weight, self.norm.bias, self.norm.normalized_shape, self.norm.eps)


def get_inputs(rows: int = 512, cols: int = 1024):
    return [torch.randn(rows, cols, requires_grad=True)]
