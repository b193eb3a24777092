"""robust-kbench task folders: func_forward.py or func_backward.py, and a config_*.json beside it.

A candidate exports `forward`, which takes what `Model.forward(..., fn)` passes to `fn`, or `backward`, which takes what
`AutogradFunction.backward` passes to `AutogradFunction.backward_fn` and returns what it expects from there: argument by
argument as robust-kbench calls its own candidates, a tuple of saved tensors included.

Forward: the reference is `forward_fn` on those arguments. Backward: the reference is autograd through `forward_fn`,
with gradients of the outputs drawn from the normal distribution; which gradient each result of `backward_fn` is, is
found by running AutogradFunction.backward with marked results. Arguments of the forward pass that the candidate is not
given go with the call all the same, since the reference needs them.

Sizes are the integers among the arguments of get_inputs and Model: of the configuration, or the defaults. An argument
of both that is the same number is one size. Each combination that config_*.json names is judged (scaled down where it
must be), the single one is timed. forward.cu or backward.cu, if there, is the kernel to start from.
Format: the loader of SakanaAI/robust-kbench (Apache 2.0), as of 2025.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from kernelevo.devices import Arguments, built
from kernelevo.errors import TaskError
from kernelevo.records import Task, digest
from kernelevo.tasks.imported import Change, Drawn, Operation, Sizes, flat, layout_of, task_of

FORMAT = "see tasks/README.md, imported formats"
MOST_CONFIGURATIONS = 8
MOST_RESULTS = 16  # of a backward function


def is_task(path: Path) -> bool:
    """Whether a path is such a folder, or one of its two Python files."""
    return _function_file(path) is not None


def direction(path: Path) -> str:
    """ "forward" or "backward": of the file, or of the folder, which is forward when it has both."""
    file = _function_file(path)
    assert file is not None
    return file.stem.removeprefix("func_")


def identity(path: Path) -> tuple[str, str]:
    """Name and digest, without running anything. Raises TaskError."""
    file = _function_file(path)
    assert file is not None
    folder, which = file.parent, direction(path)
    parts = [which, _text(file), _text(folder / f"config_{which}.json")]
    parts.append(_seed(folder, which) or "")
    name = re.sub(r"[^a-z0-9]+", "_", folder.resolve().name.lower()).strip("_") or "task"
    return name if which == "forward" else f"{name}_backward", digest("robust-kbench", *parts, tag="t")


def load(path: Path) -> Task:
    """Raises TaskError when the folder cannot be used."""
    name, task_digest = identity(path)
    operation = Folder(path)
    operation.name = name
    seed = _seed(operation.path.parent, operation.entry)
    return task_of(operation, folder=operation.path.parent, task_digest=task_digest, seed_source=seed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """One combination of config_*.json."""

    inputs: Mapping[str, Any]  # arguments of get_inputs that are no sizes
    init: Mapping[str, Any]  # arguments of Model that are no sizes
    sizes: Sizes


class Folder(Operation):
    """One direction of one task folder."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        file = _function_file(path)
        if file is None:
            raise TaskError(f"{path}: no func_forward.py or func_backward.py", next_step=FORMAT)
        self.path = file
        self.entry = direction(path)
        self.name = identity(path)[0]
        self.source = _text(file)
        self.module = _run(file, self.source)
        functions = ["Model", "forward_fn", "get_inputs"] + ["AutogradFunction"] * (self.entry == "backward")
        for needed in functions:
            if not callable(getattr(self.module, needed, None)):
                raise TaskError(f"{file}: defines no {needed}", next_step=FORMAT)
        documentation = inspect.getdoc(self.module.forward_fn) or f"forward_fn of {file.parent.name}"
        self.title = documentation.strip().splitlines()[0].strip()[:80]
        if self.entry == "backward":
            self.title = f"Backward of: {self.title}"[:80]
            how = "Candidates take what AutogradFunction.backward passes to backward_fn, and return what it expects."
        else:
            how = "Candidates take what Model.forward passes to fn."
        self.description = f"{documentation}\n\n{how}"
        self._input_names = _parameters(self.module.get_inputs)
        self._init_names = _parameters(self.module.Model.__init__)
        self._configurations = self._read(file.parent / f"config_{self.entry}.json")
        several = len({_constants(c) for c in self._configurations}) > 1
        self._all_sizes = tuple(
            ({"configuration": number} if several else {}) | configuration.sizes
            for number, configuration in enumerate(self._configurations, start=1)
        )
        self.sizes = self._all_sizes[0]

    def configurations(self) -> tuple[Sizes, ...]:
        return self._all_sizes

    def draw(self, sizes: Sizes, change: Change) -> Drawn:
        configuration = self._configurations[sizes.get("configuration", 1) - 1]
        given = {name: sizes[name] for name in self._input_names if name in configuration.sizes}
        init = {
            name: sizes.get(f"init_{name}", sizes[name]) for name in self._init_names if name in configuration.sizes
        }
        model = self.module.Model(**{**configuration.init, **init})
        inputs = self.module.get_inputs(**{**configuration.inputs, **given})
        arguments = self._passed_to_fn(model, inputs)
        values: list[Any] = []
        nodes = [flat(a, values, f"{self.path}: argument {n} of fn") for n, a in enumerate(arguments)]
        parameters = {tensor.data_ptr() for tensor in model.parameters() if tensor.numel()}
        taken = list(inspect.signature(self.module.forward_fn).parameters)
        names = [f"argument_{index}" for index in range(len(values))]
        for number, node in enumerate(nodes):
            if isinstance(node, int) and number < len(taken):
                names[node] = taken[number]
        roles = [
            "parameter" if hasattr(value, "shape") and value.numel() and value.data_ptr() in parameters else "input"
            for value in values
        ]
        values = [
            change(v.clone(), r, n) if hasattr(v, "shape") else v for v, r, n in zip(values, roles, names, strict=True)
        ]
        if self.entry == "forward":
            self.remember(values, (nodes, None))
            return Drawn(
                values=tuple(values), roles=tuple(roles), names=tuple(names), layout=layout_of(nodes, len(values))
            )
        return self._backward(values, nodes, names, roles, None)

    def compute(self, values: Sequence[Any], structure: Any) -> Any:
        import torch

        nodes, backward = structure
        arguments = [built(node, values) for node in nodes]
        if backward is None:
            return self.module.forward_fn(*arguments)
        wanted, gradients = backward
        with torch.enable_grad():
            for position in set(wanted):
                arguments[position] = arguments[position].detach().requires_grad_()
            outputs = _tensors(self.module.forward_fn(*arguments))
            # One number to differentiate: with grad_outputs given, torch imports sympy, which takes a second.
            weighted = [
                torch.dot(out.reshape(-1), values[index].reshape(-1))
                for out, index in zip(outputs, gradients, strict=True)
            ]
            found = torch.autograd.grad(
                sum(weighted[1:], weighted[0]), [arguments[position] for position in wanted], allow_unused=True
            )
        return tuple(
            torch.zeros_like(arguments[position]) if gradient is None else gradient.contiguous()
            for position, gradient in zip(wanted, found, strict=True)
        )

    def _passed_to_fn(self, model: Any, inputs: Any) -> tuple[Any, ...]:
        """The arguments of the one call of `fn` that Model.forward makes."""
        import torch

        calls: list[tuple[Any, ...]] = []
        results: list[Any] = []

        def fn(*arguments: Any, **named: Any) -> Any:
            if named:
                raise TaskError(f"{self.path}: Model.forward passes {', '.join(named)} to fn by name, not position")
            calls.append(arguments)
            results.append(self.module.forward_fn(*arguments))
            return results[-1]

        with torch.no_grad():
            result = model(*inputs, fn=fn)
        if len(calls) != 1 or result is not results[0]:
            raise TaskError(
                f"{self.path}: Model.forward calls fn {len(calls)} times and does more: expected `return fn(...)`"
            )
        return calls[0]

    def refreshed(self, values: tuple[Any, ...]) -> tuple[Any, ...]:
        """What AutogradFunction saves is computed anew from the other values."""
        nodes, backward = self.structure_of(values)
        if backward is None:
            return values
        gradients = backward[1]
        count = gradients[0] if gradients else len(values)
        names, roles = [""] * count, ["input"] * count
        drawn = self._backward(list(values[:count]), nodes, names, roles, [values[index] for index in gradients])
        return drawn.values if drawn.layout is None else Arguments(drawn.values, drawn.layout)

    def _backward(
        self, values: list[Any], nodes: list[Any], names: list[str], roles: list[str], given: Sequence[Any] | None
    ) -> Drawn:
        """Adds gradients of the outputs and whatever AutogradFunction saves; the layout is that of backward_fn.

        given: the gradients; None to draw them.
        """
        import torch

        function = self.module.AutogradFunction
        arguments = [built(node, values) for node in nodes]
        context = _Context(len(arguments))
        with torch.no_grad():
            if "setup_context" in vars(function):
                output = function.forward(*arguments)
                function.setup_context(context, tuple(arguments), output)
            else:
                output = function.forward(context, *arguments)
        gradients = []
        for index, tensor in enumerate(_tensors(output)):
            gradients.append(len(values))
            values.append(torch.randn(tensor.shape, dtype=tensor.dtype) if given is None else given[index])
            names.append("grad_output" if index == 0 else f"grad_output_{index}")
            roles.append("gradient")
        passed, wanted = self._passed_to_backward(context, [values[index] for index in gradients], len(arguments))
        known = {id(value): index for index, value in enumerate(values) if hasattr(value, "shape")}
        layout = [self._known(part, known, values, names, roles) for part in passed]
        self.remember(values, (nodes, (wanted, gradients)))
        return Drawn(
            values=tuple(values), roles=tuple(roles), names=tuple(names), layout=layout_of(layout, len(values))
        )

    def _passed_to_backward(
        self, context: _Context, gradients: list[Any], arguments: int
    ) -> tuple[tuple[Any, ...], tuple[int, ...]]:
        """What backward_fn is given, and the argument of forward_fn that each of its results is the gradient of."""
        import torch

        function = self.module.AutogradFunction
        passed: list[tuple[Any, ...]] = []
        problem = ""
        for count in range(MOST_RESULTS):  # 0: one tensor instead of a tuple
            marks = [torch.zeros(()) for _ in range(max(count, 1))]
            passed.clear()

            def marked(*given: Any, count: int = count, marks: list[Any] = marks) -> Any:
                passed.append(given)
                return marks[0] if count == 0 else tuple(marks)

            function.backward_fn = staticmethod(marked)
            try:
                with torch.no_grad():
                    result = function.backward(context, *gradients)
            except (TypeError, ValueError, IndexError) as error:
                problem = problem or f"it raises {type(error).__name__}: {error}"
                continue
            finally:
                function.backward_fn = None
            result = result if isinstance(result, tuple | list) else (result,)
            where = {id(mark): number for number, mark in enumerate(marks)}
            found = {where[id(value)]: position for position, value in enumerate(result) if id(value) in where}
            if len(passed) == 1 and len(result) == arguments and len(found) == len(marks):
                return passed[0], tuple(found[number] for number in range(len(marks)))
            if count:
                problem = "it returns other things than results of backward_fn, one per argument of forward_fn"
        raise TaskError(f"{self.path}: AutogradFunction.backward cannot be followed: {problem}", next_step=FORMAT)

    def _known(self, value: Any, known: dict[int, int], values: list[Any], names: list[str], roles: list[str]) -> Any:
        """The node of an argument of backward_fn: a value that is there already, or a new one."""
        if id(value) in known:
            return known[id(value)]
        if isinstance(value, tuple | list) and any(hasattr(part, "shape") for part in value):
            parts = [self._known(part, known, values, names, roles) for part in value]
            return {"list" if isinstance(value, list) else "tuple": parts}
        before = len(values)
        node = flat(value, values, f"{self.path}: an argument of backward_fn")
        for index in range(before, len(values)):
            names.append(f"saved_{index}")
            roles.append("saved")
        return node

    def _read(self, path: Path) -> tuple[Configuration, ...]:
        try:
            read = json.loads(_text(path))
        except json.JSONDecodeError as error:
            raise TaskError(f"{path}:{error.lineno}: not valid JSON: {error.msg}") from error
        if not isinstance(read, dict):
            raise TaskError(f"{path}: expected an object with single_input_configs and others", next_step=FORMAT)
        combinations: list[Configuration] = []
        for prefix in ("single", "multi"):
            if combinations and not any(key.startswith(prefix) for key in read):
                continue
            for init in _configs(path, read, f"{prefix}_init_configs"):
                for given in _configs(path, read, f"{prefix}_input_configs"):
                    for shared in _configs(path, read, f"{prefix}_shared_configs"):
                        combination = self._configuration(path, {**init, **shared}, {**given, **shared})
                        if combination not in combinations:
                            combinations.append(combination)
        return tuple(combinations[:MOST_CONFIGURATIONS])

    def _configuration(self, path: Path, init: dict[str, Any], inputs: dict[str, Any]) -> Configuration:
        init = {name: v for name, v in init.items() if name in self._init_names or name not in self._input_names}
        inputs = {name: v for name, v in inputs.items() if name in self._input_names or name not in self._init_names}
        for where, settings, known in (("Model", init, self._init_names), ("get_inputs", inputs, self._input_names)):
            unknown = [name for name in settings if name not in known]
            if unknown:
                raise TaskError(f"{path}: {unknown[0]} = {settings[unknown[0]]!r}: {where} takes no such argument")
        for_init = _integers({**_defaults(self._init_names), **init})
        sizes = for_init | _integers({**_defaults(self._input_names), **inputs})
        sizes |= {f"init_{name}": value for name, value in for_init.items() if sizes[name] != value}
        return Configuration(
            inputs={name: value for name, value in inputs.items() if name not in sizes},
            init={name: value for name, value in init.items() if name not in sizes},
            sizes=sizes,
        )


class _Context:
    """What AutogradFunction saves between its two halves."""

    def __init__(self, arguments: int) -> None:
        self.saved_tensors: tuple[Any, ...] = ()
        self.needs_input_grad = (True,) * arguments

    def save_for_backward(self, *tensors: Any) -> None:
        self.saved_tensors = tensors

    def mark_non_differentiable(self, *tensors: Any) -> None: ...

    def mark_dirty(self, *tensors: Any) -> None: ...

    def set_materialize_grads(self, value: bool) -> None: ...


def _function_file(path: Path) -> Path | None:
    if path.is_file():
        return path if path.name in ("func_forward.py", "func_backward.py") else None
    return next((path / f"func_{d}.py" for d in ("forward", "backward") if (path / f"func_{d}.py").is_file()), None)


def _run(file: Path, source: str) -> ModuleType:
    module = ModuleType(f"kernelevo_{file.parent.name}_{file.stem}")
    module.__file__ = str(file)
    try:
        exec(compile(source, str(file), "exec"), module.__dict__)
    except SyntaxError as error:
        raise TaskError(f"{file}:{error.lineno}: {error.msg}") from error
    except Exception as error:
        raise TaskError(f"{file}: importing it raised {type(error).__name__}: {error}") from error
    return module


def _parameters(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    return {
        name: parameter
        for name, parameter in inspect.signature(function).parameters.items()
        if name != "self" and parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    }


def _defaults(parameters: Mapping[str, inspect.Parameter]) -> dict[str, Any]:
    return {name: p.default for name, p in parameters.items() if p.default is not inspect.Parameter.empty}


def _integers(settings: Mapping[str, Any]) -> Sizes:
    return {name: value for name, value in settings.items() if type(value) is int and value > 0}


def _configs(path: Path, read: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    found = read.get(key) or [{}]
    if not isinstance(found, list) or not all(isinstance(config, dict) for config in found):
        raise TaskError(f"{path}: {key} = {found!r}: expected a list of objects", next_step=FORMAT)
    return found


def _constants(configuration: Configuration) -> str:
    return json.dumps([configuration.inputs, configuration.init], sort_keys=True, default=repr)


def _tensors(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, tuple | list) else (value,)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TaskError(f"{path}: cannot be read: {error}", next_step=FORMAT) from error


def _seed(folder: Path, which: str) -> str | None:
    seed = folder / f"{which}.cu"
    return _text(seed) if seed.is_file() else None
