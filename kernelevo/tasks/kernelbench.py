"""KernelBench problem files: a Python file with `Model`, `get_inputs` and, if Model takes arguments, `get_init_inputs`.

A CUDA candidate exports `forward(*inputs, *parameters, *buffers)`: what get_inputs returns, then the model's
named_parameters(), then its named_buffers() but for integer counters, each in its own order. What get_init_inputs
returns is a constant of the problem and not passed. A Python candidate defines `ModelNew`: devices/python_candidate.py.

Sizes are the integers that the file assigns to names at its top level, singly, by a product of constants, or in a
tuple, and the integers above SMALL that are written in get_inputs and get_init_inputs (those named size_64, equal
numbers being one size). The file is executed with other numbers in their places; what is scaled down is never allocated
at the file's own sizes.
Format: README and problems' docstrings of ScalingIntelligence/KernelBench (MIT), as of 2025.
"""

from __future__ import annotations

import ast
import copy
import functools
import inspect
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from kernelevo.devices import built
from kernelevo.errors import TaskError
from kernelevo.records import Task, digest
from kernelevo.tasks.imported import SMALL, Change, Drawn, Operation, Sizes, flat, is_extent, layout_of, task_of

if TYPE_CHECKING:
    import torch

ENTRY = "forward"
FUNCTIONS = ("get_inputs", "get_init_inputs")


def is_problem(path: Path) -> bool:
    """Whether a path may be a problem file; `load` says what is missing."""
    return path.suffix == ".py" and path.is_file()


def identity(path: Path) -> tuple[str, str]:
    """Name and digest, without running the file. Raises TaskError."""
    return name_of(path), digest("kernelbench", _text(path), _seed(path) or "", tag="t")


def load(path: Path) -> Task:
    """Raises TaskError when the file is no problem, or its reference cannot be run."""
    problem = Problem(path)
    name, task_digest = identity(path)
    problem.name = name
    return task_of(problem, folder=path.parent, task_digest=task_digest, seed_source=_seed(path))


def name_of(path: Path) -> str:
    """The file's name in the letters of a task's name: "1_Square_matmul_.py" -> "k1_square_matmul"."""
    word = re.sub(r"[^a-z0-9]+", "_", path.stem.lower()).strip("_") or "problem"
    return word if word[0].isalpha() else f"k{word}"


class Problem(Operation):
    """One problem file."""

    entry = ENTRY

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.name = name_of(path)
        self.source = _text(path)
        try:
            self._tree = ast.parse(self.source, filename=str(path))
        except SyntaxError as error:
            raise TaskError(f"{path}:{error.lineno}: {error.msg}") from error
        defined = {node.name: node for node in self._tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)}
        for name, kind in (("Model", ast.ClassDef), ("get_inputs", ast.FunctionDef)):
            if not isinstance(defined.get(name), kind):
                raise TaskError(
                    f"{path}: defines no {name}: expected a KernelBench problem with Model and get_inputs",
                    next_step="see tasks/README.md, imported formats",
                )
        documentation = ast.get_docstring(defined["Model"]) or ast.get_docstring(self._tree) or path.stem
        self.title = documentation.strip().splitlines()[0][:80]
        self.description = (
            f"{documentation}\n\nCandidates take what get_inputs returns, then the model's parameters, then its "
            "buffers, in the model's own order; what get_init_inputs returns is a constant of the problem."
        )
        self.sizes = {name: value for name, value, _ in _literals(self._tree) if is_extent(name, value)}
        self._evaluating = False  # model.eval(), for models that drop out

    def settle(self) -> bool:
        changed, self._evaluating = not self._evaluating, True
        if changed:
            self.description += " The model is in evaluation mode: in training mode it is random."
        return changed

    def draw(self, sizes: Sizes, change: Change) -> Drawn:
        module = self._module(tuple(sorted(sizes.items())))
        init = self._called(module, "get_init_inputs") if hasattr(module, "get_init_inputs") else []
        model = module.Model(**init) if isinstance(init, dict) else module.Model(*init)
        if self._evaluating:
            model.eval()
        given = self._called(module, "get_inputs")
        taken = list(inspect.signature(model.forward).parameters)
        values: list[Any] = []
        nodes, names, roles = [], [], []
        for number, value in enumerate(given):
            name = taken[number] if number < len(taken) else f"input_{number}"
            before = len(values)
            nodes.append(flat(value, values, f"{self.path}: input {number} of get_inputs"))
            names += [name] * (len(values) - before)
            roles += ["input"] * (len(values) - before)
        state: dict[str, int] = {}
        for name, role, tensor in _state(model):
            state[name] = len(values)
            values.append(tensor.detach().clone().contiguous())
            names.append(name.replace(".", "_"))
            roles.append(role)
        values = [change(v, r, n) if hasattr(v, "shape") else v for v, r, n in zip(values, roles, names, strict=True)]
        held: list[Any] = []
        constants = [
            flat_constant(part, held, self.path) for part in (init.values() if isinstance(init, dict) else init)
        ]
        _empty(model, state)
        self.remember(values, (model, nodes, state))
        arguments = [*nodes, *state.values()]
        described = {"inputs": nodes, "init": constants, "state": state}
        return Drawn(
            values=tuple(values),
            roles=tuple(roles),
            names=tuple(names),
            layout=layout_of(arguments, len(values), described),
        )

    def compute(self, values: Sequence[Any], structure: Any) -> Any:
        from torch.func import functional_call

        model, nodes, state = structure
        held = {name: values[index] for name, index in state.items()}
        return functional_call(model, held, tuple(built(node, values) for node in nodes))

    @functools.lru_cache(maxsize=32)  # noqa: B019 - problems live as long as the process
    def _module(self, sizes: tuple[tuple[str, int], ...]) -> ModuleType:
        """The file, executed with these numbers in the places of its sizes."""
        tree = copy.deepcopy(self._tree)
        wanted = dict(sizes)
        for name, _, place in _literals(tree):
            if name in wanted:
                place(wanted[name])
        module = ModuleType(f"kernelevo_problem_{self.name}")
        module.__file__ = str(self.path)
        exec(compile(ast.fix_missing_locations(tree), str(self.path), "exec"), module.__dict__)
        return module

    def _called(self, module: ModuleType, function: str) -> Any:
        result = getattr(module, function)()
        if not isinstance(result, list | tuple | dict):
            raise TaskError(f"{self.path}: {function} returned a {type(result).__name__}: expected a list")
        return result


def flat_constant(value: Any, held: list[Any], path: Path) -> Any:
    """The node of an argument of Model: constants only."""
    node = flat(value, held, f"{path}: an argument of get_init_inputs")
    if isinstance(node, int):
        value = held[node]
        if hasattr(value, "shape"):
            raise TaskError(f"{path}: get_init_inputs returns a tensor: expected numbers, strings and shapes")
        return {"constant": value}
    return node


def _state(model: torch.nn.Module) -> Iterator[tuple[str, str, torch.Tensor]]:
    """(name, role, tensor) of parameters, then of buffers but for integer counters."""
    yield from ((name, "parameter", parameter) for name, parameter in model.named_parameters())
    for name, buffer in model.named_buffers():
        if buffer.dim() or buffer.is_floating_point():
            yield name, "buffer", buffer


def _empty(model: torch.nn.Module, state: dict[str, int]) -> None:
    """Takes the values out of a model that is kept only for its structure."""
    import torch

    for name in state:
        owner, _, last = name.rpartition(".")
        module = model.get_submodule(owner)
        if last in module._parameters:
            module._parameters[last] = torch.nn.Parameter(tensor_of(module, last), requires_grad=False)
        else:
            module._buffers[last] = tensor_of(module, last)


def tensor_of(module: torch.nn.Module, name: str) -> torch.Tensor:
    """A tensor of a module without its values."""
    tensor: torch.Tensor = getattr(module, name)
    return tensor.detach().to("meta")


def _literals(tree: ast.Module) -> Iterator[tuple[str, int, Any]]:
    """(name, value, function that puts another value there) of every size in the file."""
    seen: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.Assign):  # a = b = 3 is one size, named a
            target, value = node.targets[0], node.value
            if isinstance(target, ast.Name):
                yield from _named(target.id, node, "value", value, seen)
            elif isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple) and len(target.elts) == len(value.elts):
                for index, part in enumerate(target.elts):
                    if isinstance(part, ast.Name):
                        yield from _named(part.id, value.elts, index, value.elts[index], seen)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
            yield from _named(node.target.id, node, "value", node.value, seen)
        elif isinstance(node, ast.FunctionDef) and node.name in FUNCTIONS:
            yield from _inline(node)


def _named(name: str, holder: Any, key: Any, value: ast.expr, seen: set[str]) -> Iterator[tuple[str, int, Any]]:
    number = _integer(value)
    if number is not None and number > 0 and name not in seen:
        seen.add(name)
        yield name, number, functools.partial(_put, holder, key)
    elif isinstance(value, ast.Tuple | ast.List):
        for index, part in enumerate(value.elts):
            number = _integer(part)
            if number is not None and number > 0:
                yield f"{name}_{index}", number, functools.partial(_put, value.elts, index)


def _inline(function: ast.FunctionDef) -> Iterator[tuple[str, int, Any]]:
    """Integers above SMALL written in a function."""
    for node in ast.walk(function):
        for field, value in ast.iter_fields(node):
            holders = enumerate(value) if isinstance(value, list) else [(field, value)]
            for key, part in holders:
                if isinstance(part, ast.Constant) and type(part.value) is int and part.value > SMALL:
                    holder = value if isinstance(value, list) else node
                    yield f"size_{part.value}", part.value, functools.partial(_put, holder, key)


def _put(holder: Any, key: Any, value: int) -> None:
    constant = ast.Constant(value)
    if isinstance(holder, list):
        holder[key] = constant
    else:
        setattr(holder, key, constant)


def _integer(node: ast.expr) -> int | None:
    """The value of a constant integer expression, or None."""
    if isinstance(node, ast.Constant):
        return node.value if type(node.value) is int else None
    if isinstance(node, ast.BinOp):
        left, right = _integer(node.left), _integer(node.right)
        if left is None or right is None or max(abs(left), abs(right)) > 1 << 40:
            return None
        match node.op:
            case ast.Mult():
                return left * right
            case ast.Add():
                return left + right
            case ast.Sub():
                return left - right
            case ast.FloorDiv():
                return left // right if right else None
            case ast.Pow():
                return int(left**right) if 0 <= right < 64 else None
    return None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TaskError(f"{path}: cannot be read: {error}", next_step="give the path of a problem file") from error


def _seed(path: Path) -> str | None:
    """A kernel to start from: the .cu file beside the problem that has its name."""
    seed = path.with_suffix(".cu")
    return _text(seed) if seed.is_file() else None
