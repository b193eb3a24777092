"""Honest float32 implementations of the eight tasks that add in another order than the reference does.

They stand for correct kernels: 256 threads that stride over a row, then a tree over their partial sums, as a block
does; one running sum per output element; accumulation block by block.
"""

from __future__ import annotations

import torch

THREADS = 256


def block_sum(terms: torch.Tensor) -> torch.Tensor:
    """Sums over the last dimension as one block of 256 threads would: strided partial sums, then a tree. Keeps it."""
    rounds = -(-terms.shape[-1] // THREADS)
    padded = torch.nn.functional.pad(terms, (0, rounds * THREADS - terms.shape[-1]))
    partial = torch.zeros(*terms.shape[:-1], THREADS)
    for chunk in padded.split(THREADS, dim=-1):
        partial = partial + chunk
    while partial.shape[-1] > 1:
        half = partial.shape[-1] // 2
        partial = partial[..., :half] + partial[..., half:]
    return partial


def running_sum(terms: torch.Tensor, dim: int) -> torch.Tensor:
    """One thread that adds the terms one after another, last first."""
    total = torch.zeros_like(terms.select(dim, 0))
    for index in reversed(range(terms.shape[dim])):
        total = total + terms.select(dim, index)
    return total


def gelu(memory, x):
    return memory.hold(0.5 * x * (1.0 + torch.erf(x * 0.70710678)))


def softmax(memory, x):
    powers = torch.exp(x - x.max(dim=-1, keepdim=True).values)
    return memory.hold(powers * (1.0 / block_sum(powers)))


def layernorm(memory, x, weight, bias, eps):
    mean = block_sum(x) / x.shape[-1]
    variance = block_sum((x - mean) ** 2) / x.shape[-1]
    return memory.hold((x - mean) * (1.0 / torch.sqrt(variance + eps)) * weight + bias)


def rmsnorm(memory, x, weight, eps):
    return memory.hold(x / torch.sqrt(block_sum(x * x) / x.shape[-1] + eps) * weight)


def rmsnorm_backward(memory, grad_y, x, weight, eps):
    inverse = 1.0 / torch.sqrt(block_sum(x * x) / x.shape[-1] + eps)
    mean = block_sum(grad_y * weight * (x * inverse)) / x.shape[-1]
    grad_x = inverse * (grad_y * weight - x * inverse * mean)
    return memory.hold(grad_x), memory.hold(running_sum(grad_y * (x * inverse), 0))


def linear_relu(memory, x, weight, bias):
    total = torch.zeros(x.shape[0], weight.shape[0])
    for k in range(x.shape[1]):
        total = total + x[:, k, None] * weight[None, :, k]
    return memory.hold(torch.clamp(total + bias, min=0.0))


def cross_entropy(memory, logits, target):
    largest = logits.max(dim=-1, keepdim=True).values
    losses = torch.log(block_sum(torch.exp(logits - largest))) + largest - logits.gather(1, target[:, None])
    return memory.hold(block_sum(losses.T)[0, 0] / logits.shape[0])


def depthwise_conv2d(memory, x, weight, bias):
    k = weight.shape[-1]
    height, width = x.shape[2:]
    padded = torch.nn.functional.pad(x, (k // 2,) * 4)
    total = bias[None, :, None, None].expand(x.shape)
    for r in range(k):
        for s in range(k):
            total = total + padded[:, :, r : r + height, s : s + width] * weight[None, :, 0, r, s, None, None]
    return memory.hold(total)


HONEST = {
    function.__name__: function
    for function in (
        gelu,
        softmax,
        layernorm,
        rmsnorm,
        rmsnorm_backward,
        linear_relu,
        cross_entropy,
        depthwise_conv2d,
    )
}
