"""Kernels in the place of a model's modules and functions, and back.

    with kernelevo.patch(model, {torch.nn.RMSNorm: "rmsnorm", "head.*": my_function, F.gelu: "gelu"}):
        model(x)

A replaced module keeps its parameters, hooks and place: only its class changes, to one whose forward asks the kernel.
Functions are replaced while the model's forward runs. The first call of each place runs both, and raises where they
differ: in float64, to see that they mean the same, and as called, to see that the kernel is right. So does the first
call with other options (a `dim`, an `approximate`), dtypes, numbers of dimensions, or in another mode. Outputs that are
all one value show nothing: the original answers, and the next call is compared. What a kernel does not take, the
original answers too.

A kernel's arguments are those of the call, in order, and then, by name, the module's attributes or the function's other
arguments: rmsnorm(x, weight, eps) takes x from the call, weight and eps from the module. A module with parameters that
the kernel does not take is refused. Leading dimensions that a kernel does not have are folded into its first one.

Not covered: pickling a patched model (restore it first); the first call inside torch.compile(fullgraph=True); functions
of a model that was compiled before.
"""

from __future__ import annotations

import copy
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
from kernelevo.export.package.dispatch import as_tuple, relative_error, shows_something

MEANING = 1e-6  # largest difference of two operations in float64 that are the same; some compute inside in float32

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
        self.active = True  # False: the originals answer, also in copies of the model
        self._classes: list[tuple[torch.nn.Module, type, type]] = []  # module, its class before, and ours

    def restore(self) -> None:
        """Puts the originals back, in whatever order patches are restored. Again: does nothing."""
        self.active = False
        while self._classes:
            module, before, ours = self._classes.pop()
            if type(module) is ours:  # otherwise another patch lies over it, whose class asks this one's
                module.__class__ = before

    def __enter__(self) -> Patch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.restore()

    def replace_modules(self, model: torch.nn.Module, key: str | type, kernel: Callable[..., Any]) -> None:
        named = {name: module for name, module in model.named_modules(remove_duplicate=False) if name}
        if isinstance(key, str):
            chosen = {name: module for name, module in named.items() if fnmatch.fnmatchcase(name, key)}
        else:
            chosen = {name: module for name, module in named.items() if isinstance(module, key)}
        if not chosen:
            known = ", ".join(list(named)[:10]) or "it has none"
            raise UsageError(f"no module of the model is {key!r}", next_step=f"its modules: {known}")
        once = {id(module): (name, module) for name, module in reversed(chosen.items())}
        for name, module in reversed(once.values()):
            place = Place(name=name, kernel=kernel, names=names_of(type(module).forward)[1:])
            place.check_module(module)
            self._change(module, forward_of(place, type(module), self))
            self.places.append(place)

    def replace_functions(self, model: torch.nn.Module, functions: Mapping[Callable[..., Any], Place]) -> None:
        before = type(model).forward

        def forward(module: torch.nn.Module, *args: Any, **kwargs: Any) -> Any:
            if not self.active:
                return before(module, *args, **kwargs)
            with _Replacing(functions):
                return before(module, *args, **kwargs)

        self._change(model, forward)
        self.places += functions.values()

    def _change(self, module: torch.nn.Module, forward: Callable[..., Any]) -> None:
        before = type(module)
        if "forward" in vars(module):
            raise UsageError(
                f"a {before.__name__} of the model has a forward of its own, which hides that of its class",
                next_step="patch before what put it there (hooks of a library), or leave this module out",
            )
        ours = type(before.__name__, (before,), {"forward": forward, "__module__": before.__module__})
        module.__class__ = ours
        self._classes.append((module, before, ours))


@dataclass(kw_only=True)
class Place:
    """One module or function that is replaced, and what is known of the kernel there."""

    name: str
    kernel: Callable[..., Any]
    names: tuple[str, ...] = ()  # of a function's parameters, where it tells them
    defaults: Mapping[str, Any] = field(default_factory=dict)  # of them
    settings: str = ""  # of a module, as it prints them
    checked: set[str] = field(default_factory=set)  # kinds of calls of which one was compared

    def check_module(self, module: torch.nn.Module) -> None:
        """Raises UsageError for a module that lacks what the kernel takes, or has parameters that it does not take."""
        if not isinstance(self.kernel, Kernel):
            return
        wanted = [argument.name for argument in self.kernel.operation.domain.arguments]
        how = "give patch a function that calls the kernel: {...: lambda x: kernel(x, ...)}"
        parameters = inspect.signature(type(module).forward).parameters.values()
        taken = len([p for p in parameters if p.default is p.empty]) - 1
        for name in wanted[max(taken, 1) :]:
            if getattr(module, name, None) is None:
                raise UsageError(
                    f"{self.name} ({type(module).__name__}) has no {name}, which {self.kernel.name} takes",
                    next_step=how,
                )
        own = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
        if more := [name for name, tensor in own if tensor is not None and name not in wanted]:
            raise UsageError(
                f"{self.name} ({type(module).__name__}) has {more[0]}, which {self.kernel.name} does not take",
                next_step=how,
            )

    def call(
        self,
        original: Callable[..., Any],
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        *,
        attributes: Mapping[str, Any],
        mode: object,
        exact: Callable[[], Callable[..., Any]],
    ) -> Any:
        """The kernel's outputs, or the original's where the kernel does not take these arguments.

        attributes: where the kernel's arguments are found that are not in the call.
        mode: whatever else the original's answer may depend on.
        exact: gives the original in float64.
        """
        mode = (mode, torch.is_autocast_enabled("cuda"), torch.is_autocast_enabled("cpu"))
        positional = dict(zip([*self.names, *map(str, range(len(self.names), len(args)))], args, strict=False))
        call = {**positional, **kwargs}
        if not isinstance(self.kernel, Kernel):
            kind = _kind_of(call)
            if kind is None:
                return original(*args, **kwargs)
            if (known := repr((mode, kind))) in self.checked:
                return self.kernel(*args, **kwargs)
            return self._first_call(original, args, kwargs, lambda: self.kernel(*args, **kwargs), known)
        bound = _bound(self.kernel, {n: call[n] for n in [*self.names, *call] if n in call}, attributes)
        if bound is None:
            return original(*args, **kwargs)
        values, kind, lead = bound
        if (known := repr((mode, kind))) in self.checked:
            return _unfolded(self.kernel(*values), lead)
        run = functools.partial(self._run, values, lead)
        return self._first_call(original, args, kwargs, run, known, values, lead, exact)

    def _run(self, values: Sequence[Any], lead: tuple[int, ...] | None) -> Any:
        return _unfolded(self.kernel(*values), lead)

    @torch.compiler.disable(reason="the first call of a patched place compares the kernel with the original")  # type: ignore[untyped-decorator,no-untyped-call]
    def _first_call(
        self,
        original: Callable[..., Any],
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        replaced: Callable[[], Any],
        known: str,
        values: Sequence[Any] = (),
        lead: tuple[int, ...] | None = None,
        exact: Callable[[], Callable[..., Any]] | None = None,
    ) -> Any:
        """The kernel's outputs; raises UsageError where they differ from the original's."""
        given = [value for value in (*args, *kwargs.values()) if isinstance(value, torch.Tensor)]
        versions = [value._version for value in given]
        with torch.no_grad():  # what is kept for a backward is the kernel's alone, as in later calls
            expected = original(*args, **kwargs)
        if versions != [value._version for value in given]:
            raise self._refused("the original writes in place")
        outputs = as_tuple(expected)
        if (lead is not None and 1 in lead) or not all(
            shows_something(output) for output in outputs if isinstance(output, torch.Tensor)
        ):
            return original(*args, **kwargs)
        if isinstance(self.kernel, Kernel):
            if exact is not None:
                self._compare_meaning(exact(), args, kwargs, values, lead)
            self._verify(values)
        found = replaced()
        if isinstance(found, torch.Tensor) != isinstance(expected, torch.Tensor) or len(as_tuple(found)) != len(
            outputs
        ):
            raise self._refused("it gives another number of outputs")
        for index, (one, two) in enumerate(zip(as_tuple(found), outputs, strict=True)):
            if not isinstance(one, torch.Tensor) or not isinstance(two, torch.Tensor):
                raise self._refused(f"output {index} is no tensor")
            if one.shape != two.shape or one.dtype != two.dtype:
                kinds = [f"{list(t.shape)} {str(t.dtype).removeprefix('torch.')}" for t in (one, two)]
                raise self._refused(f"output {index} is {kinds[0]}, not {kinds[1]}")
            self._near(index, one, two, _allowed(two))
        wanted = torch.is_grad_enabled() and any(value.requires_grad for value in given)
        if wanted and not any(one.requires_grad for one in as_tuple(found)):
            raise self._refused("it gives no gradients")
        self.checked.add(known)
        return found

    def _compare_meaning(
        self,
        original: Callable[..., Any],
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        values: Sequence[Any],
        lead: tuple[int, ...] | None,
    ) -> None:
        """The kernel's reference and the original in float64, where rounding hides no other operation."""
        assert isinstance(self.kernel, Kernel)
        with torch.no_grad():
            theirs = original(*map(_double, args), **{name: _double(value) for name, value in kwargs.items()})
            ours = _unfolded(self.kernel.operation.reference(*map(_double, values)), lead)
        pairs = (
            zip(as_tuple(ours), as_tuple(theirs), strict=True) if len(as_tuple(ours)) == len(as_tuple(theirs)) else ()
        )
        for index, (one, two) in enumerate(pairs):
            if isinstance(two, torch.Tensor) and one.shape == two.shape:
                self._near(index, one, two.to(one.dtype), MEANING)

    def _verify(self, values: Sequence[Any]) -> None:
        """Lets the kernel prove itself on arguments that are not in its domain, where it can."""
        assert isinstance(self.kernel, Kernel)
        if (reason := self.kernel.why_not(*values)) is not None:
            try:
                self.kernel.extend(*values)
            except ValueError:
                pass  # of another kind: PyTorch answers, and says so
            except ArithmeticError as error:
                raise self._refused(f"{error} ({reason})") from error

    def _near(self, index: int, one: torch.Tensor, two: torch.Tensor, allowed: float) -> None:
        off = relative_error(one.detach(), two.detach().double() if two.is_floating_point() else two.detach())
        if not off <= allowed:
            raise self._refused(f"output {index} is off by {off:.2g} of its largest value, {allowed:.2g} allowed")

    def _refused(self, what: str) -> UsageError:
        name = self.kernel.name if isinstance(self.kernel, Kernel) else _name_of(self.kernel)
        return UsageError(
            f"{self.name}: {name} does not compute the same: {what}",
            next_step="leave this place out of patch, or give patch a function that calls the kernel as it must be",
        )


def place_of(function: Callable[..., Any], kernel: Callable[..., Any]) -> Place:
    names = names_of(function)
    parameters = inspect.signature(function).parameters if names else {}
    defaults = {name: p.default for name, p in parameters.items() if p.default is not p.empty}
    return Place(name=_name_of(function), kernel=kernel, names=names, defaults=defaults)


def names_of(function: Callable[..., Any]) -> tuple[str, ...]:
    """Of the parameters, in order; none for a built-in function, whose arguments are known by their places."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return ()
    return tuple(p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD))


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
        return place.call(func, args, kwargs, attributes=place.defaults, mode=None, exact=lambda: func)


def forward_of(place: Place, before: type, patched: Patch) -> Callable[..., Any]:
    wanted = place.kernel.operation.domain.arguments if isinstance(place.kernel, Kernel) else ()

    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        original = functools.partial(before.forward, self)  # type: ignore[attr-defined]
        if not patched.active:
            return original(*args, **kwargs)

        def exact() -> Callable[..., Any]:
            twin = copy.deepcopy(self)
            twin.__class__ = before
            return functools.partial(before.forward, twin.double())  # type: ignore[attr-defined]  # without hooks

        attributes = {argument.name: getattr(self, argument.name, None) for argument in wanted}
        if not torch.compiler.is_compiling():  # which cannot trace it; compiled calls are of the settings before
            place.settings = self.extra_repr()
        mode = (self.training, place.settings)
        return place.call(original, args, kwargs, attributes=attributes, mode=mode, exact=exact)

    return forward


def _bound(
    kernel: Kernel, call: Mapping[str, Any], attributes: Mapping[str, Any]
) -> tuple[list[Any], object, tuple[int, ...] | None] | None:
    """The kernel's arguments, the kind of call, the leading dimensions that were folded; None: no way."""
    wanted = kernel.operation.domain.arguments
    reserved = {argument.name for argument in wanted if call.get(argument.name) is not None}
    left = dict(call)
    values: list[Any] = []
    for argument in wanted:
        tensor = argument.dims is not None
        free = {name: value for name, value in left.items() if name not in reserved}
        name = argument.name if argument.name in reserved else _first(free, tensor=tensor)
        value = attributes.get(argument.name) if name is None else left.pop(name)
        if isinstance(value, torch.Tensor) != tensor or value is None:
            return None
        values.append(value)
    # Defaults that are given all the same (dtype=None), and what frames tell each other (_stacklevel), are no options.
    options = {name: v for name, v in left.items() if v is not None and not name.startswith("_")}
    kind = _kind_of(options)
    if kind is None or any(isinstance(value, torch.Tensor) for value in left.values()):
        return None
    folded = _folded(values, [argument.dims for argument in wanted])
    return None if folded is None else (folded[0], (kind, [_kind_of({"": v}) for v in values]), folded[1])


def _first(free: Mapping[str, Any], *, tensor: bool) -> str | None:
    """The first argument that can be meant without its name: the very first one left, a number only if it has none."""
    name = next(iter(free), None)
    fits = name is not None and isinstance(free[name], torch.Tensor) == tensor
    return name if fits and (tensor or str(name).isdigit()) else None


def _folded(
    values: Sequence[Any], dims: Sequence[tuple[str, ...] | None]
) -> tuple[list[Any], tuple[int, ...] | None] | None:
    """Values whose leading dimensions are folded into the kernel's first one, and those dimensions; None: no way."""
    first = next((i for i, names in enumerate(dims) if names is not None), None)
    if first is None or not isinstance(values[first], torch.Tensor):
        return None
    names = dims[first] or ()
    if any(isinstance(value, torch.Tensor) and not value.numel() for value in values):
        return None
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
    results = [o.reshape(*lead, *o.shape[1:]) if o.dim() and o.shape[0] == count else o for o in as_tuple(outputs)]
    return results[0] if isinstance(outputs, torch.Tensor) else tuple(results)


def _allowed(output: torch.Tensor) -> float:
    """Twice the floor of kernelevo's error rule, for sums as long as the longest dimension: both sides round."""
    if not output.dtype.is_floating_point:
        return 0.0
    terms = max([1, *output.shape])
    return 2 * (4 * torch.finfo(output.dtype).eps + 2 * math.sqrt(terms) * torch.finfo(torch.float32).eps)


def _kind_of(call: Mapping[str, Any]) -> object | None:
    """What the first call of is compared: tensors by their kind, plain values as they are; None: another object."""
    found: list[object] = []
    for name, value in call.items():
        plain = value if isinstance(value, tuple) else (value,)
        if isinstance(value, torch.Tensor):
            found.append((name, value.dim(), str(value.dtype), value.device.type))
        elif all(one is None or isinstance(one, bool | int | float | str | torch.dtype) for one in plain):
            found.append((name, value))
        else:
            return None
    return found


def _double(value: Any) -> Any:
    return value.double() if isinstance(value, torch.Tensor) and value.is_floating_point() else value


def _name_of(function: object) -> str:
    return str(getattr(function, "__name__", function))
