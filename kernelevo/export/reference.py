"""A task's reference as a module of its own: what an exported package falls back to, without kernelevo.

Takes the text of reference.py; gives it without `inputs` and `compare` and without kernelevo's imports. Imported
formats, whose reference is read through kernelevo, have no such text.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from typing import Any

import torch

from kernelevo.errors import UsageError
from kernelevo.export.package.dispatch import as_tuple
from kernelevo.records import Purpose, Task

OURS = ("inputs", "compare")  # functions of the judge


def standalone(task: Task) -> str:
    """The module's text. Raises UsageError when it cannot stand alone."""
    text = task.reference_source
    how = f"write `reference` in {task.folder / 'reference.py'} with PyTorch alone"
    if "def reference(" not in text:
        raise UsageError(f"{task.name}: its reference is read from another format", next_step=how)
    lines = re.split(r"(?<=\n)", text)  # as Python counts them: str.splitlines knows other ends of lines
    for node in reversed(ast.parse(text).body):
        ours = isinstance(node, ast.FunctionDef) and node.name in OURS
        modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        modules += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if ours or any(module.split(".")[0] == "kernelevo" for module in modules):
            first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])
            del lines[first - 1 : node.end_lineno]
    result = _spaced("".join(lines))
    case = min(task.cases, key=lambda case: (case.purpose is not Purpose.TEST, sum(case.sizes.values())))
    inputs = task.inputs(case, torch.Generator().manual_seed(case.seed))
    try:
        namespace: dict[str, Any] = {"__name__": "reference"}
        exec(compile(result, "reference.py", "exec"), namespace)
        alone = as_tuple(namespace["reference"](*inputs))
    except Exception as error:
        raise UsageError(
            f"{task.name}: its reference needs more than PyTorch: {type(error).__name__}: {error}", next_step=how
        ) from error
    pairs = zip(alone, as_tuple(task.reference(*inputs)), strict=True)
    if not all(torch.equal(one.nan_to_num(), two.nan_to_num()) for one, two in pairs):
        raise UsageError(f"{task.name}: its reference computes something else when it stands alone", next_step=how)
    return result


def is_gradient_of(backward: Callable[..., Any], forward: Callable[..., Any], inputs: tuple[Any, ...]) -> str | None:
    """Why `backward(*gradients of the outputs, *inputs)` does not give the gradients of `forward`; None: it does.

    inputs: of forward, on the CPU. Gradients are of its floating tensors, in order; compared in float64.
    """
    exact = [
        value.double().requires_grad_() if isinstance(value, torch.Tensor) and value.is_floating_point() else value
        for value in inputs
    ]
    wanted = [value for value in exact if isinstance(value, torch.Tensor) and value.requires_grad]
    generator = torch.Generator().manual_seed(0)
    try:
        outputs = forward(*exact)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        grads = [torch.randn(o.shape, dtype=torch.float64, generator=generator) for o in outputs]
        expected = torch.autograd.grad(outputs, wanted, grads)
        found = backward(*grads, *(v.detach() if isinstance(v, torch.Tensor) else v for v in exact))
    except Exception as error:
        return f"{type(error).__name__}: {error}".partition("\n")[0]
    found = found if isinstance(found, tuple) else (found,)
    if len(found) != len(expected):
        return f"it gives {len(found)} tensors for {len(expected)} inputs"
    for index, (one, two) in enumerate(zip(found, expected, strict=True)):
        if one.shape != two.shape:
            return f"its output {index} is {list(one.shape)}, the gradient {list(two.shape)}"
        scale = float(two.abs().max()) if two.numel() else 0.0
        if two.numel() and not float((one - two).abs().max()) <= 1e-9 * max(scale, 1e-300):
            return f"its output {index} is not the gradient"
    return None


def _spaced(text: str) -> str:
    """With no more than two empty lines in a row: what was taken out leaves its own behind."""
    lines: list[str] = []
    for line in text.rstrip().split("\n"):
        if line or lines[-2:] != ["", ""]:
            lines.append(line)
    return "\n".join(lines) + "\n"
