import torch
from torch import nn


class AutogradFunction(torch.autograd.Function):
    backward_fn = None

    @staticmethod
    def forward(ctx, predictions, targets):
        ctx.save_for_backward(predictions, targets)
        return nn.functional.cross_entropy(predictions, targets)

    @staticmethod
    def backward(ctx, grad_output):
        predictions, targets = ctx.saved_tensors
        return AutogradFunction.backward_fn(grad_output, predictions, targets), None


def forward_fn(predictions: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean cross entropy of class scores against class indices."""
    return nn.functional.cross_entropy(predictions, targets)


class Model(nn.Module):
    def forward(self, predictions, targets, fn=forward_fn):
        return fn(predictions, targets)


def get_inputs(batch_size: int = 4096, num_classes: int = 1000):
    return [torch.randn(batch_size, num_classes), torch.randint(num_classes, (batch_size,))]
