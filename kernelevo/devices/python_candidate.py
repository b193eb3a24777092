"""The worker's half of Python candidates: executes the file, makes ModelNew, and calls it.

The built extension makes its entry by calling `entry` here with its own Python source (build/python.py). A call's
layout says which values are inputs, what ModelNew is made with, and which values are the reference's parameters and
buffers: those are put in the place of ModelNew's own, by name where it has the same names and shapes, otherwise in
order. For a task of another format ModelNew is made without arguments and given everything.
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import sys
import traceback
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

from kernelevo.devices import built

if TYPE_CHECKING:
    import torch

FILE = "candidate.py"
MODELS = 8  # made and kept, for values that are given again


class MismatchError(Exception):
    """ModelNew has not the parameters of the reference; the message says which."""


def entry(module: ModuleType, encoded: str) -> PythonEntry:
    """Called by the extension when it is imported; runs nothing of the candidate's yet."""
    return PythonEntry(module, base64.b64decode(encoded).decode())


class PythonEntry:
    """A Python candidate as an entry of devices/arguments.py."""

    def __init__(self, module: ModuleType, source: str) -> None:
        self._module = module
        self._source = source
        self._class: Any = None
        self._models: OrderedDict[tuple[Any, ...], tuple[Any, tuple[Any, ...]]] = OrderedDict()

    def __call__(self, *values: Any) -> Any:
        return self.with_layout(None)(*values)

    def with_layout(self, layout: Mapping[str, Any] | None) -> Callable[..., Any]:
        model = (layout or {}).get("model")

        def call(*values: Any) -> Any:
            import torch

            nodes = range(len(values)) if model is None else model["inputs"]
            init = [] if model is None else [built(node, values) for node in model["init"]]
            state = {} if model is None else {name: values[index] for name, index in model["state"].items()}
            device = next((value.device for value in values if isinstance(value, torch.Tensor)), "cuda")
            made = self._made(init, state, device)
            with torch.no_grad():
                result = made(*(built(node, values) for node in nodes))
            return tuple(_leaves(result)) if isinstance(result, tuple | list) else result

        return call

    def _made(self, init: Sequence[Any], state: Mapping[str, torch.Tensor], device: Any) -> Any:
        """ModelNew with the reference's parameters; a new one whenever those are others, or were written to."""
        key = (json.dumps(init, default=repr), *((id(tensor), tensor._version) for tensor in state.values()))
        if key not in self._models:
            with _unobserved():
                if self._class is None:
                    self._class = execute(self._source, self._load_inline())["ModelNew"]
                made = self._class(*init).to(device)
                put_state(made, state)
            self._models[key] = (made, tuple(state.values()))  # held: their ids are the key
            while len(self._models) > MODELS:
                self._models.popitem(last=False)
        return self._models[key][0]

    def _load_inline(self) -> Callable[..., Any]:
        """Gives the parts of the built extension, in the order in which they were asked for when they were recorded."""
        numbers = itertools.count()
        return lambda *arguments, **named: getattr(self._module, f"inline_{next(numbers)}", self._module)


def execute(source: str, load_inline: Callable[..., Any]) -> dict[str, Any]:
    """Runs the file's top level with torch.utils.cpp_extension replaced; its names."""
    import torch

    stand_in = ModuleType("torch.utils.cpp_extension")

    def load(*arguments: Any, **named: Any) -> Any:
        raise RuntimeError("load() of files: a candidate is one file; use load_inline")

    stand_in.load_inline, stand_in.load = load_inline, load  # type: ignore[attr-defined]
    sys.modules["torch.utils.cpp_extension"] = stand_in
    torch.utils.cpp_extension = stand_in  # type: ignore[attr-defined]
    module = ModuleType("kernelevo_python_candidate")
    sys.modules[module.__name__] = module
    exec(compile(source, FILE, "exec"), module.__dict__)
    return module.__dict__


def put_state(model: torch.nn.Module, state: Mapping[str, torch.Tensor]) -> None:
    """Puts the reference's parameters and buffers in the place of the model's. Raises MismatchError."""
    own = dict(model.named_parameters()) | dict(model.named_buffers())
    if all(name in own and own[name].shape == tensor.shape for name, tensor in state.items()):
        pairs = [(name, tensor) for name, tensor in state.items()]
    else:
        names = [name for name, tensor in own.items() if tensor.dim() or tensor.is_floating_point()]
        shapes = [own[name].shape for name in names]
        if shapes != [tensor.shape for tensor in state.values()]:
            have = ", ".join(f"{name} {list(own[name].shape)}" for name in names) or "none"
            want = ", ".join(f"{name} {list(tensor.shape)}" for name, tensor in state.items())
            raise MismatchError(f"ModelNew has the parameters {have}; those of Model are {want}")
        pairs = list(zip(names, state.values(), strict=True))
    import torch

    for name, tensor in pairs:
        owner, _, last = name.rpartition(".")
        module = model.get_submodule(owner)
        if last in module._parameters:
            module._parameters[last] = torch.nn.Parameter(tensor, requires_grad=False)
        else:
            module._buffers[last] = tensor


def in_one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def line_of(error: BaseException) -> int | None:
    """The line of the candidate's file where an exception was raised."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == FILE]
    return lines[-1] if lines else getattr(error, "lineno", None)


@contextlib.contextmanager
def _unobserved() -> Iterator[None]:
    """Operators that initialise modules are not the candidate's computation; see devices/integrity.py."""
    import torch

    torch._C._autograd._enable_record_function(False)
    try:
        yield
    finally:
        torch._C._autograd._enable_record_function(True)


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, tuple | list):
        for part in value:
            yield from _leaves(part)
    else:
        yield value
