"""What wrong kernels typically return, and whether a task rejects it. Takes a task and expected outputs; runs the
reference alone, on the CPU.

Each fake is put in place of the outputs: zeros, the mean, the right values in another order, half-precision arithmetic,
the last tile left at zero. The error rule must reject it on at least one TEST case. lint.py has the other rules.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from kernelevo.records import Task
from kernelevo.verify.oracle import Expected, run_reference
from kernelevo.verify.rule import compare

Outputs = tuple[torch.Tensor, ...]


def toothless(task: Task, cases: Sequence[Expected]) -> Iterator[str]:
    """Names of the fakes that pass every case."""
    caught: dict[str, bool] = {}
    # A single value is its own mean and its own shuffle: such cases count only where there are no others.
    for expected in [e for e in cases if _holds_many(e)] or cases:
        for name, outputs in fakes(task, expected):
            if not caught.setdefault(name, False):
                caught[name] = not accepts(task, outputs, expected)
    yield from (name for name, was_caught in caught.items() if not was_caught)


def fakes(task: Task, expected: Expected) -> Iterator[tuple[str, Outputs]]:
    """Named outputs of kernels that are wrong, in the reference's shapes and dtypes."""
    right = expected.reference
    yield "zeros", tuple(torch.zeros_like(output) for output in right)
    yield "the mean", tuple(_mean(output) for output in right)
    yield "shuffled values", tuple(_shuffled(output) for output in right)
    yield "last tile missing", tuple(_without_last_tile(output) for output in right)
    for dtype in _lower(right):
        halved = tuple(_as(value, dtype) for value in expected.inputs)
        outputs = run_reference(task, halved)
        yield (
            f"{str(dtype).removeprefix('torch.')} arithmetic",
            tuple(output.to(model.dtype) for output, model in zip(outputs, right, strict=True)),
        )


def _holds_many(expected: Expected) -> bool:
    return any(output.numel() > 1 for output in expected.reference)


def accepts(task: Task, outputs: Outputs, expected: Expected) -> bool:
    """Whether outputs of the right dtypes pass the error rule, or the task's own comparison."""
    if any(output.shape != model.shape for output, model in zip(outputs, expected.reference, strict=True)):
        return False
    if task.compare is not None:
        return task.compare(outputs, expected.oracle) is None
    rows = zip(outputs, expected.oracle, expected.reference, expected.allowed, strict=True)
    return all(compare(*row).accepted for row in rows)


def with_changed(inputs: tuple[Any, ...], number: int) -> tuple[Any, ...] | None:
    """The inputs with one of them changed throughout; None when it cannot be changed without leaving its domain."""
    value = inputs[number]
    if not isinstance(value, torch.Tensor):
        changed: Any = value * 3 + 1 if isinstance(value, float) else None
    elif value.dtype.is_floating_point:
        changed = value.flip(0) * 0.5 + 0.25 if value.dim() else value * 0.5 + 0.25
    else:
        changed = value.roll(1) if value.numel() > 1 else None
    return None if changed is None else (*inputs[:number], changed, *inputs[number + 1 :])


def _mean(output: torch.Tensor) -> torch.Tensor:
    if not output.dtype.is_floating_point:
        return torch.zeros_like(output)
    # An output with one element is its own mean; the scale of its values stands for what a statistic would guess.
    guess = output.double().mean() if output.numel() > 1 else output.double() * 0.9
    return torch.full_like(output, float(guess))


def _shuffled(output: torch.Tensor) -> torch.Tensor:
    """The values moved on by one place, last to first; a single value takes the other sign."""
    if output.numel() < 2:
        return -output if output.dtype.is_floating_point else output + 1
    return output.flatten().roll(1).reshape(output.shape)


def _without_last_tile(output: torch.Tensor) -> torch.Tensor:
    """Zeros in the last tile of up to 32 elements, at most half of the output."""
    flat = output.flatten().clone()
    flat[flat.numel() - max(1, min(32, flat.numel() // 2)) :] = 0
    return flat.reshape(output.shape)


def _lower(outputs: Outputs) -> tuple[torch.dtype, ...]:
    """Dtypes in which an output's arithmetic would be a cheat."""
    widest = max((torch.finfo(o.dtype).bits for o in outputs if o.dtype.is_floating_point), default=0)
    return (torch.float16, torch.bfloat16) if widest == 32 else ()


def _as(value: Any, dtype: torch.dtype) -> Any:
    return value.to(dtype) if isinstance(value, torch.Tensor) and value.dtype.is_floating_point else value
