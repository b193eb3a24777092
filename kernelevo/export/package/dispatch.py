"""Who answers a call: the kernel where it was verified, PyTorch everywhere else.

Takes a domain (which arguments, dtypes and sizes were verified), the kernel and its PyTorch reference; gives a function
with the reference's arguments. This file is copied into exported packages as it is: it imports PyTorch only.

What lies between the smallest and the largest verified size counts as verified. `extend` verifies on one's own inputs,
and adds them to the domain of this process.
"""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

ALIGNMENT = 16  # bytes: the widest access of one thread, and what PyTorch's own allocations have


class OutsideDomainWarning(UserWarning):
    """PyTorch answered instead of the kernel. Said once for each reason."""


class NotEqualError(ArithmeticError):
    """The kernel and PyTorch disagree."""


@dataclass(frozen=True, kw_only=True)
class Argument:
    """One argument of the operation."""

    name: str
    dims: tuple[str, ...] | None  # names of a tensor's dimensions, digits for fixed ones; None: a number
    values: tuple[float | int | bool, ...] = ()  # of a number: those that were verified
    bounds: tuple[int, int | str] | None = None  # of a tensor of integers: the least and the most; "n": less than n


@dataclass(frozen=True, kw_only=True)
class Domain:
    """What was verified."""

    arguments: tuple[Argument, ...]
    dtypes: tuple[tuple[str, ...], ...]  # of the tensors, in order: the combinations that were verified
    sizes: Mapping[str, tuple[int, int]]  # name of a dimension -> smallest and largest
    reduction: tuple[str, ...] = ()  # dimensions, or products "a*b", that one output element sums
    tolerance_factor: float = 4.0  # k: how many times the reference's own rounding is accepted

    def sizes_of(self, values: Sequence[Any]) -> dict[str, int] | str:
        """Name of each dimension -> its size in these arguments; in words why they do not fit together."""
        found: dict[str, int] = {}
        for argument, value in zip(self.arguments, values, strict=True):
            if argument.dims is None:
                continue
            if not isinstance(value, torch.Tensor):
                return f"{argument.name} is not a tensor"
            if value.dim() != len(argument.dims):
                return f"{argument.name} has {value.dim()} dimensions, not {len(argument.dims)}"
            for name, size in zip(argument.dims, value.shape, strict=True):
                expected = int(name) if (name.isascii() and name.isdecimal()) else found.setdefault(name, int(size))
                if int(size) != expected:
                    return f"{argument.name} has {int(size)} where {name} is {expected}"
        return found

    def why_not(self, values: Sequence[Any]) -> str | None:
        """Why these arguments are outside of the domain, in words; None: they are inside."""
        if (reason := self._other_kind(values)) is not None:
            return reason
        for argument, value in zip(self.arguments, values, strict=True):
            if argument.dims is None and value not in argument.values:
                verified = ", ".join(str(known) for known in argument.values)
                return f"{argument.name} = {value}; verified: {verified}"
        sizes = self.sizes_of(values)
        if isinstance(sizes, str):
            return sizes
        for name, size in sizes.items():
            low, high = self.sizes[name]
            if not low <= size <= high:
                return f"{name} = {size}; verified: {low} to {high}"
        return self._other_values(values, sizes)

    def _other_values(self, values: Sequence[Any], sizes: Mapping[str, int]) -> str | None:
        """Integers beyond those that were verified, as an index may be. Reads them from the device."""
        for argument, value in zip(self.arguments, values, strict=True):
            if argument.bounds is not None and value.numel():
                low, most = argument.bounds
                high = sizes[most] - 1 if isinstance(most, str) else most
                if bool(((value < low) | (value > high)).any()):
                    return f"{argument.name} holds values outside of {low} to {high}"
        return None

    def _other_kind(self, values: Sequence[Any]) -> str | None:
        """What no new sizes or numbers mend: device, dtypes, kinds of arguments."""
        if len(values) != len(self.arguments):
            return f"{len(values)} arguments, not {len(self.arguments)}"
        tensors = []
        for argument, value in zip(self.arguments, values, strict=True):
            if (argument.dims is not None) != isinstance(value, torch.Tensor):
                return f"{argument.name} is {'not ' * (argument.dims is not None)}a tensor"
            if isinstance(value, torch.Tensor):
                tensors.append(value)
        devices = {tensor.device for tensor in tensors}
        if len(devices) != 1 or next(iter(devices)).type != "cuda":
            return f"tensors on {', '.join(sorted(map(str, devices)))}; verified: on one GPU"
        dtypes = tuple(str(tensor.dtype).removeprefix("torch.") for tensor in tensors)
        if dtypes not in self.dtypes:
            return f"dtypes {', '.join(dtypes)}; verified: {' or '.join(', '.join(known) for known in self.dtypes)}"
        if any(tensor.layout is not torch.strided for tensor in tensors):
            return "a tensor that is not strided"
        return None

    def with_sizes_of(self, values: Sequence[Any]) -> Domain:
        """The domain that also holds these arguments. Raises ValueError for another kind of arguments."""
        sizes = self._other_kind(values) or self.sizes_of(values)
        if not isinstance(sizes, str):
            sizes = self._other_values(values, sizes) or sizes
        if isinstance(sizes, str):
            raise ValueError(f"the kernel takes no such arguments: {sizes}")
        if 0 in sizes.values():
            raise ValueError("a size of 0 shows nothing")
        widened = {
            name: (min(low, sizes.get(name, low)), max(high, sizes.get(name, high)))
            for name, (low, high) in self.sizes.items()
        }
        arguments = tuple(
            replace(argument, values=(*argument.values, value))
            if argument.dims is None and value not in argument.values
            else argument
            for argument, value in zip(self.arguments, values, strict=True)
        )
        return replace(self, sizes=widened, arguments=arguments)


class Operation:
    """One operation with two implementations."""

    def __init__(
        self,
        *,
        name: str,
        domain: Domain,
        kernel: Callable[[], Callable[..., Any]],
        reference: Callable[..., Any],
    ) -> None:
        """kernel: gives the compiled function; called when it is needed for the first time."""
        self.name = name
        self.domain = domain
        self.reference = reference
        self._kernel = kernel
        self._said: set[str] = set()

    def __call__(self, *values: Any) -> Any:
        """The reference's outputs, contiguous and in memory of their own, on the inputs' device."""
        reason = self.domain.why_not(values)
        if reason is None:
            return self._run(values)
        tensors = [value for value in values if isinstance(value, torch.Tensor)]
        words = "".join(letter for letter in reason if not letter.isdigit())  # not once for each size
        if words not in self._said and any(tensor.is_cuda for tensor in tensors):
            self._said.add(words)
            warnings.warn(f"{self.name}: PyTorch answers, not the kernel: {reason}", OutsideDomainWarning, stacklevel=2)
        results = [_own(result, tensors) for result in self._by_pytorch(values)]
        return results[0] if len(results) == 1 else tuple(results)

    def _by_pytorch(self, values: Sequence[Any]) -> tuple[torch.Tensor, ...]:
        """In the dtypes of the arguments, as the kernel computes: autocast would choose others."""
        with _without_autocast(values):
            return as_tuple(self.reference(*values))

    def fake(self, *values: Any) -> Any:
        """Outputs without values: for tracing."""
        results = [torch.empty_like(r, memory_format=torch.contiguous_format) for r in self._by_pytorch(values)]
        return results[0] if len(results) == 1 else tuple(results)

    @torch.no_grad()
    def extend(self, *values: Any) -> dict[str, float]:
        """Verifies the kernel on these inputs against PyTorch in float64, and adds their sizes to the domain.

        Gives the largest error, relative to the largest value, and the one that is allowed. Raises ValueError for
        inputs of another kind (device, dtype, number of dimensions), NotEqualError when the kernel is off by more than
        max(k * error of PyTorch in this dtype, 4 eps(dtype) + 2 sqrt(n) eps(float32)) for sums of n terms.
        """
        widened = self.domain.with_sizes_of(values)
        sizes = self.domain.sizes_of(values)
        assert isinstance(sizes, dict)
        terms = max(
            [1, *(math.prod(sizes.get(name.strip(), 1) for name in p.split("*")) for p in self.domain.reduction)]
        )
        exact = as_tuple(self.reference(*(_in_float64(value) for value in values)))
        if not all(shows_something(oracle) for oracle in exact):
            raise ValueError("outputs of one value, or of none that is finite, show nothing")
        worst = {"error": 0.0, "allowed": 0.0}
        results, own = as_tuple(self._run(values)), self._by_pytorch(values)
        for index, (result, plain, oracle) in enumerate(zip(results, own, exact, strict=True)):
            if result.shape != oracle.shape or result.dtype != plain.dtype:
                raise NotEqualError(f"{self.name}: output {index} is {_kind(result)}, not {_kind(plain)}")
            error = relative_error(result, oracle)
            allowed = 0.0
            if result.dtype.is_floating_point:
                floor = 4 * torch.finfo(result.dtype).eps + 2 * math.sqrt(terms) * torch.finfo(torch.float32).eps
                allowed = max(self.domain.tolerance_factor * relative_error(plain, oracle), floor)
            if not error <= allowed:
                raise NotEqualError(
                    f"{self.name}: output {index} is off by {error:.2g} of its largest value, {allowed:.2g} allowed"
                )
            if error >= worst["error"]:
                worst = {"error": error, "allowed": allowed}
        self.domain = widened
        return worst

    def _run(self, values: Sequence[Any]) -> Any:
        given = [_arranged(value) if isinstance(value, torch.Tensor) else value for value in values]
        device = next(value.device for value in given if isinstance(value, torch.Tensor))
        with torch.cuda.device(device):
            result = self._kernel()(*given)
        return tuple(result) if isinstance(result, (tuple, list)) else result


def gradients(
    reference: Callable[..., Any], values: Sequence[Any], grads: Sequence[torch.Tensor | None], wanted: Sequence[bool]
) -> list[torch.Tensor | None]:
    """The gradients of the reference by PyTorch's autograd, for those arguments that are wanted."""
    again = torch.is_grad_enabled()  # of gradients: then the graph goes on through the arguments themselves
    with torch.enable_grad(), _without_autocast(values):
        own = [
            (value.view_as(value) if again and value.requires_grad else value.detach().requires_grad_())
            if want
            else value
            for value, want in zip(values, wanted, strict=True)
        ]
        outputs = as_tuple(reference(*own))
        known = [(o, grad) for o, grad in zip(outputs, grads, strict=True) if grad is not None and o.requires_grad]
        into = [value for value, want in zip(own, wanted, strict=True) if want]
        found = iter(
            torch.autograd.grad(
                [output for output, _ in known],
                into,
                [grad for _, grad in known],
                allow_unused=True,
                create_graph=again,
            )
            if known and into
            else [None] * len(into)
        )
    return [next(found) if want else None for want in wanted]


def _without_autocast(values: Sequence[Any]) -> contextlib.AbstractContextManager[Any]:
    device = next((value.device.type for value in values if isinstance(value, torch.Tensor)), "cpu")
    available = torch.amp.is_autocast_available(device)
    return torch.autocast(device, enabled=False) if available else contextlib.nullcontext()


def _arranged(tensor: torch.Tensor) -> torch.Tensor:
    """As kernels are verified: contiguous, and aligned like a fresh allocation."""
    tensor = tensor.detach().contiguous()
    return tensor.clone() if tensor.data_ptr() % ALIGNMENT else tensor


def _own(result: torch.Tensor, inputs: Sequence[torch.Tensor]) -> torch.Tensor:
    result = result.contiguous()
    memory = result.untyped_storage().data_ptr()
    shared = any(memory == given.untyped_storage().data_ptr() for given in inputs)
    return result.clone() if shared else result


def as_tuple(outputs: Any) -> tuple[torch.Tensor, ...]:
    return tuple(outputs) if isinstance(outputs, (tuple, list)) else (outputs,)


def _in_float64(value: Any) -> Any:
    floating = isinstance(value, torch.Tensor) and value.dtype.is_floating_point
    return value.detach().double() if floating else value


def _kind(tensor: torch.Tensor) -> str:
    return f"{list(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"


def shows_something(output: torch.Tensor) -> bool:
    """Whether an output can tell two operations apart: a number that is not 0, or different finite values."""
    finite = output[torch.isfinite(output)] if output.dtype.is_floating_point else output.reshape(-1)
    if finite.numel() <= 1:
        return output.numel() == 1 and bool(finite.any())
    return not bool((finite == finite[0]).all())


def relative_error(result: torch.Tensor, oracle: torch.Tensor) -> float:
    """max |result - oracle| / max |oracle|; 0 or inf for integers and for what is not finite in one of them only."""
    if not result.dtype.is_floating_point:
        return 0.0 if torch.equal(result, oracle.to(result.dtype)) else math.inf
    if not result.numel():
        return 0.0
    finite = torch.isfinite(oracle.to(result.dtype))
    same = torch.where(finite, 0.0, oracle).to(result.dtype)
    if not torch.equal(torch.where(finite, 0.0, result).nan_to_num(nan=7.0), same.nan_to_num(nan=7.0)):
        return math.inf
    expected = torch.where(finite, oracle, 0.0)
    off = float((torch.where(finite, result.double(), 0.0) - expected).abs().max())
    largest = float(expected.abs().max())
    return math.inf if math.isnan(off) else off / max(largest, torch.finfo(result.dtype).tiny)
