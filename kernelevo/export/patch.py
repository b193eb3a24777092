"""Kernels in the place of a model's modules and functions, and back.

    with kernelevo.patch(model, {torch.nn.RMSNorm: "rmsnorm", "head.*": my_function, F.gelu: "gelu"}):
        model(x)

A replaced module keeps its parameters, hooks and place: only its class changes, to one whose forward asks the kernel.
Functions are replaced while the model's forward runs. The first call of each place runs both, and raises where they
differ; so does the first call with other options (a `dim`, an `approximate`), dtypes or numbers of dimensions. Outputs
that are all one value show nothing: the original answers, and the next call is compared. What a kernel does not take,
the original answers too.

A kernel's arguments are those of the call, in order, and then, by name, the module's attributes or the function's other
arguments: rmsnorm(x, weight, eps) takes x from the call, weight and eps from the module. Leading dimensions that a
kernel does not have are folded into its first one.

Not covered: pickling a patched model (restore it first); the first call inside torch.compile(fullgraph=True).
"""

from __future__ import annotations

import fnmatch
import functools
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from kernelevo.errors import UsageError
from kernelevo.export.load import Kernel, load
from kernelevo.export.package.dispatch import relative_error

Key = str | type | Callable[..., Any]  # name or pattern of modules, class of modules, or a function
Replacement = str | Kernel | Callable[..., Any]  # what kernelevo.load takes or gives, or any function


def patch(
    model: torch.nn.Module,
    replacements: Mapping[Key, Replacement],
    *,
    archive: str | Path | None = None,
    device: str | None = None,
) -> Patch:
    """Replaces from now on, until `restore` or the end of a with statement.

    archive, device: of kernelevo.load, for kernels that are named. A function of one's own is called like what it
    replaces.

    Raises UsageError for a key that fits nothing in the model, or a module that lacks an argument of the kernel. Calls
    of the model raise it where a kernel and the original differ, until that place is restored.
    """
    patched = Patch()
    functions: dict[Callable[..., Any], Place] = {}
    try:
        for key, wanted in replacements.items():
            kernel = load(wanted, archive=archive, device=device) if isinstance(wanted, str) else wanted
            if isinstance(key, str) or inspect.isclass(key):
                patched.replace_modules(model, key, kernel)
            elif callable(key):
                functions[key] = place_of(key, kernel)
            else:
                raise UsageError(f"{key!r} names nothing", next_step="a module's name or class, or a function")
        if functions:
            patched.replace_functions(model, functions)
    except BaseException:
        patched.restore()
        raise
    return patched


class Patch:
    """What was replaced; undoes it."""

    def __init__(self) -> None:
        self.places: list[Place] = []  # in the order of the model's modules, functions last
        self._classes: list[tuple[torch.nn.Module, type, type]] = []  # module, its class before, and ours

    def restore(self) -> None:
        """Puts the originals back. Again: does nothing. Raises UsageError where another patch came later and is on."""
        for module, _, ours in self._classes:
            if type(module) is not ours and self._last(module) is ours:
                raise UsageError(
                    f"{type(module).__name__} was patched again since", next_step="restore the later patch first"
                )
        while self._classes:
            module, before, _ = self._classes.pop()
            module.__class__ = before

    def _last(self, module: torch.nn.Module) -> type:
        """The class that this patch gave a module last: two of its keys may fit the same one."""
        return [ours for one, _, ours in self._classes if one is module][-1]

    def __enter__(self) -> Patch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.restore()

    def replace_modules(self, model: torch.nn.Module, key: str | type, kernel: Callable[..., Any]) -> None:
        names = {name: module for name, module in model.named_modules() if name}
        if isinstance(key, str):
            chosen = {name: module for name, module in names.items() if fnmatch.fnmatchcase(name, key)}
        else:
            chosen = {name: module for name, module in names.items() if isinstance(module, key)}
        if not chosen:
            known = ", ".join(list(names)[:10]) or "it has none"
            raise UsageError(f"no module of the model is {key!r}", next_step=f"its modules: {known}")
        for name, module in chosen.items():
            place = Place(name=name, kernel=kernel)
            place.check_arguments(module)
            self._change(module, {"forward": _forward_of(place, type(module).forward)})
            self.places.append(place)

    def replace_functions(self, model: torch.nn.Module, functions: Mapping[Callable[..., Any], Place]) -> None:
        before = type(model).forward

        def forward(self: torch.nn.Module, *args: Any, **kwargs: Any) -> Any:
            with _Replacing(functions):
                return before(self, *args, **kwargs)

        self._change(model, {"forward": forward})
        self.places += functions.values()

    def _change(self, module: torch.nn.Module, namespace: dict[str, Any]) -> None:
        before = type(module)
        ours = type(before.__name__, (before,), {**namespace, "__module__": before.__module__})
        module.__class__ = ours
        self._classes.append((module, before, ours))


@dataclass(kw_only=True)
class Place:
    """One module or function that is replaced, and what is known of the kernel there."""

    name: str
    kernel: Callable[..., Any]
    names: tuple[str, ...] = ()  # of a function's parameters, where it tells them
    defaults: Mapping[str, Any] = field(default_factory=dict)  # of them
    checked: set[str] = field(default_factory=set)  # kinds of calls of which one was compared

    def check_arguments(self, module: torch.nn.Module) -> None:
        """Raises UsageError for a module that lacks what the kernel wants to be given."""
        if not isinstance(self.kernel, Kernel):
            return
        taken = (
            len([p for p in inspect.signature(type(module).forward).parameters.values() if p.default is p.empty]) - 1
        )
        for argument in self.kernel.operation.domain.arguments[max(taken, 1) :]:
            if getattr(module, argument.name, None) is None:
                raise UsageError(
                    f"{self.name} ({type(module).__name__}) has no {argument.name}, which {self.kernel.name} takes",
                    next_step="give patch a function that calls the kernel: {...: lambda x: kernel(x, ...)}",
                )

    def call(
        self,
        original: Callable[..., Any],
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        *,
        attributes: Mapping[str, Any],
    ) -> Any:
        """The kernel's outputs, or the original's where the kernel does not take these arguments.

        attributes: where the kernel's arguments are found that are not in the call.
        """
        mode = (attributes.get("training"), torch.is_autocast_enabled("cuda"), torch.is_autocast_enabled("cpu"))
        if not isinstance(self.kernel, Kernel):
            kind = repr((mode, [(n, _kind_of(v)) for n, v in [*enumerate(args), *kwargs.items()]]))
            if kind in self.checked:
                return self.kernel(*args, **kwargs)
            return self._first_call(original(*args, **kwargs), lambda: self.kernel(*args, **kwargs), kind)
        named = dict(zip([*self.names, *map(str, range(len(self.names), len(args)))], args, strict=False))
        bound = _bound(self.kernel, {**named, **kwargs}, attributes, mode)
        if bound is None:
            return original(*args, **kwargs)
        values, kind, lead = bound
        if kind in self.checked:
            return _unfolded(self.kernel(*values), lead)
        expected = original(*args, **kwargs)
        return self._first_call(expected, lambda: _unfolded(self.kernel(*values), lead), kind, values)

    @torch.compiler.disable(reason="the first call of a patched place compares the kernel with the original")  # type: ignore[untyped-decorator,no-untyped-call]
    def _first_call(self, expected: Any, replaced: Callable[[], Any], kind: str, values: Sequence[Any] = ()) -> Any:
        """The kernel's outputs; raises UsageError where they differ from what is expected."""
        if isinstance(self.kernel, Kernel) and (reason := self.kernel.why_not(*values)) is not None:
            try:
                self.kernel.extend(*values)
            except ValueError:
                pass  # of another kind: PyTorch answers, and says so
            except ArithmeticError as error:
                raise self._refused(f"{error} ({reason})") from error
        found = replaced()
        for index, (one, two) in enumerate(zip(_as_tuple(found), _as_tuple(expected), strict=True)):
            if one.shape != two.shape or one.dtype != two.dtype:
                kinds = [f"{list(t.shape)} {str(t.dtype).removeprefix('torch.')}" for t in (one, two)]
                raise self._refused(f"output {index} is {kinds[0]}, not {kinds[1]}")
            error_, allowed = relative_error(one.detach(), two.detach().double()), _allowed(two)
            if not error_ <= allowed:
                raise self._refused(
                    f"output {index} is off by {error_:.2g} of its largest value, {allowed:.2g} allowed"
                )
        if all(_is_one_value(output) for output in _as_tuple(expected)):
            return expected
        self.checked.add(kind)
        return found

    def _refused(self, what: str) -> UsageError:
        name = self.kernel.name if isinstance(self.kernel, Kernel) else _name_of(self.kernel)
        return UsageError(
            f"{self.name}: {name} does not compute the same: {what}",
            next_step="leave this place out of patch, or give patch a function that calls the kernel as it must be",
        )


def place_of(function: Callable[..., Any], kernel: Callable[..., Any]) -> Place:
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):  # a built-in one: its arguments are known by their places
        return Place(name=_name_of(function), kernel=kernel)
    defaults = {name: p.default for name, p in parameters.items() if p.default is not p.empty}
    return Place(name=_name_of(function), kernel=kernel, names=tuple(parameters), defaults=defaults)


class _Replacing(TorchFunctionMode):
    """While it is entered, calls of these functions go to their places."""

    def __init__(self, functions: Mapping[Callable[..., Any], Place]) -> None:
        super().__init__()
        self._functions = functions

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        place = self._functions.get(func)
        if place is None:
            return func(*args, **kwargs)
        return place.call(func, args, kwargs, attributes=place.defaults)


def _forward_of(place: Place, before: Callable[..., Any]) -> Callable[..., Any]:
    wanted = place.kernel.operation.domain.arguments if isinstance(place.kernel, Kernel) else ()

    def forward(self: torch.nn.Module, *args: Any, **kwargs: Any) -> Any:
        attributes = {name: getattr(self, name, None) for name in ("training", *(a.name for a in wanted))}
        return place.call(functools.partial(before, self), args, kwargs, attributes=attributes)

    return forward


def _bound(
    kernel: Kernel, call: Mapping[str, Any], attributes: Mapping[str, Any], mode: object
) -> tuple[list[Any], str, tuple[int, ...] | None] | None:
    """The kernel's arguments, the kind of call, the leading dimensions that were folded; None: no way."""
    left = dict(call)
    values: list[Any] = []
    wanted = kernel.operation.domain.arguments
    for argument in wanted:
        tensor = argument.dims is not None
        name = argument.name if left.get(argument.name) is not None else _first(left, tensor=tensor)
        value = attributes.get(argument.name) if name is None else left.pop(name)
        if isinstance(value, torch.Tensor) != tensor or value is None:
            return None
        values.append(value)
    if any(isinstance(value, torch.Tensor) for value in left.values()):
        return None
    # Defaults that are given all the same (dtype=None), and what frames tell each other (_stacklevel), are no options.
    options = {name: v for name, v in left.items() if v is not None and not name.startswith("_")}
    kind = repr((mode, options, [_kind_of(value) for value in values]))
    folded = _folded(values, [argument.dims for argument in wanted])
    return None if folded is None else (folded[0], kind, folded[1])


def _first(left: Mapping[str, Any], *, tensor: bool) -> str | None:
    """The first argument that can be meant without its name: the very first one left, a number only if it has none."""
    name = next(iter(left), None)
    fits = name is not None and isinstance(left[name], torch.Tensor) == tensor
    return name if fits and (tensor or str(name).isdigit()) else None


def _folded(
    values: Sequence[Any], dims: Sequence[tuple[str, ...] | None]
) -> tuple[list[Any], tuple[int, ...] | None] | None:
    """Values whose leading dimensions are folded into the kernel's first one, and those dimensions; None: no way."""
    first = next((i for i, names in enumerate(dims) if names is not None), None)
    if first is None or not isinstance(values[first], torch.Tensor):
        return None
    names = dims[first] or ()
    more = values[first].dim() - len(names)
    if more == 0:
        return list(values), None
    if more < 0 or not names:
        return None
    lead = tuple(values[first].shape[: more + 1])
    result = []
    for value, own in zip(values, dims, strict=True):
        if own is not None and own[:1] == names[:1] and value.dim() == len(own) + more:
            value = value.reshape(-1, *value.shape[more + 1 :])
        result.append(value)
    return result, lead


def _unfolded(outputs: Any, lead: tuple[int, ...] | None) -> Any:
    if lead is None:
        return outputs
    count = math.prod(lead)
    results = [o.reshape(*lead, *o.shape[1:]) if o.dim() and o.shape[0] == count else o for o in _as_tuple(outputs)]
    return results[0] if isinstance(outputs, torch.Tensor) else tuple(results)


def _allowed(output: torch.Tensor) -> float:
    """Twice the floor of kernelevo's error rule, for sums as long as the longest dimension: both sides round."""
    if not output.dtype.is_floating_point:
        return 0.0
    terms = max([1, *output.shape])
    return 2 * (4 * torch.finfo(output.dtype).eps + 2 * math.sqrt(terms) * torch.finfo(torch.float32).eps)


def _kind_of(value: Any) -> object:
    return (value.dim(), str(value.dtype)) if isinstance(value, torch.Tensor) else value


def _is_one_value(output: torch.Tensor) -> bool:
    if output.numel() <= 1:
        return not bool(output.any())
    return bool((output == output.reshape(-1)[0]).all())


def _as_tuple(outputs: Any) -> tuple[torch.Tensor, ...]:
    return tuple(outputs) if isinstance(outputs, tuple | list) else (outputs,)


def _name_of(function: object) -> str:
    return str(getattr(function, "__name__", function))
