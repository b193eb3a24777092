"""What was verified, as the domain within which an exported kernel answers. Takes a task and the cases that passed.

Names of dimensions come from the task's signature, "x: Tensor[rows, cols]", where it agrees with the cases; a dimension
without a name is called after its argument. Dimensions of one name must be equal in a call. Numbers (an eps) are
verified at the values that the cases have and at no other.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import torch

from kernelevo.devices import Arguments
from kernelevo.errors import UsageError
from kernelevo.export.package.dispatch import Argument, Domain
from kernelevo.records import Case, Task


def domain_of(task: Task, cases: Iterable[Case]) -> Domain:
    """cases: those that the kernel passed. Raises UsageError for arguments that an operator cannot have."""
    unlike = {(tuple(sorted(case.sizes.items())), case.dtype): case for case in cases}
    drawn = [inputs_of(task, case) for case in unlike.values()]
    names = argument_names(task, len(drawn[0]))
    named = {name: words.split(", ") for name, words in re.findall(r"(\w+): Tensor\[([^\]]+)\]", task.signature)}
    sizes: dict[str, tuple[int, int]] = {}
    arguments = []
    for place, name in enumerate(names):
        values = [inputs[place] for inputs in drawn]
        if not isinstance(values[0], torch.Tensor):
            arguments.append(Argument(name=name, dims=None, values=tuple(sorted(set(values)))))
            continue
        shapes = {tuple(value.shape) for value in values}
        if len({len(shape) for shape in shapes}) > 1:
            raise UsageError(
                f"{task.name}: {name} has several numbers of dimensions", next_step="give each a task of its own"
            )
        dims = tuple(dim for dim in named.get(name, []) if re.fullmatch(r"[A-Za-z0-9_ *+-]+", dim))
        if len(dims) != len(next(iter(shapes))):
            dims = tuple(f"{name}.{axis}" for axis in range(len(next(iter(shapes)))))
        arguments.append(Argument(name=name, dims=dims))
    arguments = _bounded(_consistent(arguments, drawn), drawn)
    for inputs in drawn:
        for argument, value in zip(arguments, inputs, strict=True):
            shape = value.shape if isinstance(value, torch.Tensor) else ()
            for dim, size in zip(argument.dims or (), shape, strict=True):
                if not dim.isdigit():
                    low, high = sizes.get(dim, (size, size))
                    sizes[dim] = (min(low, int(size)), max(high, int(size)))
    dtypes = {tuple(_dtype(value) for value in inputs if isinstance(value, torch.Tensor)) for inputs in drawn}
    return Domain(
        arguments=tuple(arguments),
        dtypes=tuple(sorted(dtypes)),
        sizes=sizes,
        reduction=tuple(product for product in task.reduction if _dims_of(product) <= set(sizes)),
        tolerance_factor=task.tolerance_factor,
    )


def inputs_of(task: Task, case: Case) -> tuple[Any, ...]:
    """The inputs that were verified: CPU tensors and numbers. Raises UsageError for what an operator cannot take."""
    inputs = task.inputs(case, torch.Generator().manual_seed(case.seed))
    if isinstance(inputs, Arguments) or hasattr(task.reference, "mutates"):
        raise UsageError(
            f"{task.name}: candidates of this task are called with nested arguments, or write in place",
            next_step="export takes tasks of positional tensors and numbers: write one (kernelevo tasks new)",
        )
    return tuple(inputs)


def argument_names(task: Task, count: int) -> list[str]:
    names = [p.name for p in inspect.signature(task.reference).parameters.values() if p.kind is not p.VAR_POSITIONAL]
    if len(names) != count or not all(name.isidentifier() for name in names):
        return [f"input{number}" for number in range(count)]
    return names


def _consistent(arguments: Sequence[Argument], drawn: Sequence[tuple[Any, ...]]) -> list[Argument]:
    """The same with own names for the dimensions of arguments that disagree with what the signature says."""
    result: list[Argument] = []
    for place, argument in enumerate(arguments):
        before = Domain(arguments=(*result, argument), dtypes=(), sizes={})
        if all(isinstance(before.sizes_of(inputs[: place + 1]), dict) for inputs in drawn):
            result.append(argument)
        else:
            count = len(argument.dims or ())
            result.append(Argument(name=argument.name, dims=tuple(f"{argument.name}.{axis}" for axis in range(count))))
    return result


def _bounded(arguments: Sequence[Argument], drawn: Sequence[tuple[Any, ...]]) -> list[Argument]:
    """The same with the bounds of integer tensors, which may be indices: below a dimension where all of them are."""
    sizes = [Domain(arguments=tuple(arguments), dtypes=(), sizes={}).sizes_of(inputs) for inputs in drawn]
    result = []
    for place, argument in enumerate(arguments):
        values = [inputs[place] for inputs in drawn]
        if argument.dims is None or values[0].dtype.is_floating_point or values[0].dtype is torch.bool:
            result.append(argument)
            continue
        held = [(int(v.min()), int(v.max()), s) for v, s in zip(values, sizes, strict=True) if v.numel()]
        below = [
            dim
            for dim in dict.fromkeys(dim for _, _, s in held if isinstance(s, dict) for dim in s)
            if all(isinstance(s, dict) and high < s[dim] for _, high, s in held)
        ]
        nearest = min(
            below, key=lambda dim: sum(s[dim] - high for _, high, s in held if isinstance(s, dict)), default=""
        )
        most = nearest or max(high for _, high, _ in held)
        result.append(replace(argument, bounds=(min(low for low, _, _ in held), most)))
    return result


def _dims_of(product: str) -> set[str]:
    return {name.strip() for name in product.split("*")}


def _dtype(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
