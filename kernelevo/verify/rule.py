"""The error rule: when an output is close enough to the oracle. Takes tensors, gives a Comparison; runs nothing.

Two errors of an output against the float64 oracle are judged, both relative, so that no absolute tolerance exists:

    error    = max |output - oracle| / max |oracle|
    error_l2 = ||output - oracle|| / ||oracle||

An output passes when each is at most max(k * e_ref, floor(dtype, n)): e_ref is the same error of the reference in the
task's dtype (oracle.py measures it), k the task's tolerance factor. The floor is for what a reference may be lucky in:

    floor(dtype, n) = 4 eps(dtype) + 2 sqrt(n) eps(accumulator)

- 4 eps(dtype): two roundings on the way and an elementary function that is off by 2 ulp, as CUDA's expf, erff and
  rsqrtf are (CUDA C++ Programming Guide, mathematical functions).
- 2 sqrt(n) eps(accumulator): a sum of n terms in another order differs by about sqrt(n) units of roundoff (Higham and
  Mary, "A new approach to probabilistic rounding error analysis", 2019). The accumulator is float32 for every dtype:
  who sums half-precision numbers in half precision is not within the floor.

So half-precision arithmetic cannot win a float32 task: rounding one output to half costs 2e-4 of the largest value, and
the floor reaches that only for sums of more than 10^5 terms. TF32 products likewise.

Where the oracle, rounded to the dtype, is infinite or NaN, the output must be so too, in the same place and of the same
kind; where it is finite the output must be finite. Places where the reference in the dtype itself disagrees with the
oracle about that are left out. Errors below the smallest normal number are accepted: flushing subnormals is legitimate.
Integers and bools must be equal.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy
import torch

# Steps below which a result may be flushed to zero. float16 has no such mode: one subnormal step.
_FLUSHED = {torch.float16: 2.0**-24}

CHUNK = 1 << 16  # elements compared at a time: what fits a cache, as float64


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowed:
    """The largest accepted errors of one output."""

    error: float
    error_l2: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One output against the oracle."""

    error: float  # relative to max |oracle|; inf when a value is non-finite where it must not be, or the reverse
    error_l2: float
    accepted: bool
    worst: str  # for example "[3, 17]: expected 0.25, got 0.5"
    reason: str | None  # None when accepted
    wrong: torch.Tensor | None  # mask of the elements that are off, where that can be said; None when accepted


def compare(output: torch.Tensor, oracle: torch.Tensor, reference: torch.Tensor, allowed: Allowed) -> Comparison:
    """output and reference in the task's dtype, oracle in float64 (or the same integer dtype), all of one shape."""
    if not output.dtype.is_floating_point:
        return _compare_exactly(output, oracle)
    if not output.numel():
        return Comparison(error=0.0, error_l2=0.0, accepted=True, worst="", reason=None, wrong=None)
    known = finite_errors(output, oracle)
    if known is not None and known[0] <= allowed.error and known[1] <= allowed.error_l2:
        place = tuple(int(i) for i in numpy.unravel_index(known[2], tuple(output.shape)))
        worst = _at(place, oracle, output)
        return Comparison(error=known[0], error_l2=known[1], accepted=True, worst=worst, reason=None, wrong=None)
    rounded = oracle.to(output.dtype)
    judged = _kind(rounded) == _kind(reference)
    special = (_kind(output) != _kind(rounded)) & judged
    if bool(special.any()):
        place = _first(special)
        worst = _at(place, oracle, output)
        reason = f"{worst}; {_extent(special)}"
        return Comparison(error=math.inf, error_l2=math.inf, accepted=False, worst=worst, reason=reason, wrong=special)
    error, error_l2, difference = errors(output, oracle, judged & torch.isfinite(rounded))
    # numpy's: torch.unravel_index imports sympy, which takes half a second
    place = tuple(int(i) for i in numpy.unravel_index(int(difference.argmax()), tuple(difference.shape)))
    worst = _at(place, oracle, output)
    if error <= allowed.error and error_l2 <= allowed.error_l2:
        return Comparison(error=error, error_l2=error_l2, accepted=True, worst=worst, reason=None, wrong=None)
    if error > allowed.error:
        wrong = difference > allowed.error * _scale(oracle, judged & torch.isfinite(rounded), output.dtype)
        size = f"off by {error:.2g} of the largest value, {allowed.error:.2g} allowed"
        if not bool(oracle.any()):
            size = "zeros are expected everywhere"
        reason = f"{worst}; {size}; {_extent(wrong)}"
    else:
        wrong = difference > 0
        reason = f"{worst}; relative L2 error {error_l2:.2g}, {allowed.error_l2:.2g} allowed; {_extent(wrong)}"
    return Comparison(error=error, error_l2=error_l2, accepted=False, worst=worst, reason=reason, wrong=wrong)


def finite_errors(output: torch.Tensor, oracle: torch.Tensor) -> tuple[float, float, int] | None:
    """(error, error_l2, flat index of the largest difference) where both are finite everywhere, otherwise None.

    The same numbers as `errors` with every element judged, without temporaries of the tensors' size.
    """
    one, two = output.reshape(-1), oracle.reshape(-1)
    largest, worst, index, norm, difference_norm = 0.0, -1.0, 0, 0.0, 0.0
    for start in range(0, one.numel(), CHUNK):
        expected = two[start : start + CHUNK]
        difference = (one[start : start + CHUNK].to(torch.float64) - expected).abs_()
        place = int(difference.argmax())  # of a NaN, if there is one
        off = float(difference[place])
        if not math.isfinite(off):
            return None
        if off > worst:
            worst, index = off, start + place
        largest = max(largest, float(expected.max()), -float(expected.min()))
        norm += float(expected.dot(expected))
        difference_norm += float(difference.dot(difference))
    if not one.numel() or largest > torch.finfo(output.dtype).max or not math.isfinite(norm):
        return None
    scale = _least_scale(largest, output.dtype)
    return worst / scale, math.sqrt(difference_norm) / max(math.sqrt(norm), scale), index


def errors(output: torch.Tensor, oracle: torch.Tensor, judged: torch.Tensor) -> tuple[float, float, torch.Tensor]:
    """(error, error_l2, absolute differences) over the judged elements; the differences are 0 elsewhere."""
    values = torch.where(judged, oracle, 0.0)
    difference = torch.where(judged, output.to(torch.float64) - values, 0.0).abs()
    if not difference.numel():
        return 0.0, 0.0, difference
    scale = _scale(oracle, judged, output.dtype)
    norm = max(float(values.norm()), scale)
    return float(difference.max()) / scale, float(difference.norm()) / norm, difference


def floor(dtype: torch.dtype, reduction: int) -> float:
    """The error accepted whatever the reference's own; `reduction` terms are summed into one output element."""
    return 4.0 * torch.finfo(dtype).eps + 2.0 * math.sqrt(reduction) * torch.finfo(torch.float32).eps


def reduction_length(products: Sequence[str], sizes: Mapping[str, int]) -> int:
    """The longest of the products: (("cols", "rows*cols"), {"rows": 2, "cols": 3}) -> 6; 1 when there is none."""
    return max([1, *(math.prod(sizes[name.strip()] for name in product.split("*")) for product in products)])


def _compare_exactly(output: torch.Tensor, oracle: torch.Tensor) -> Comparison:
    wrong = output != oracle.to(output.dtype)
    if not bool(wrong.any()):
        return Comparison(error=0.0, error_l2=0.0, accepted=True, worst="", reason=None, wrong=None)
    worst = _at(_first(wrong), oracle, output)
    share = float(wrong.double().mean())
    return Comparison(
        error=1.0, error_l2=share, accepted=False, worst=worst, reason=f"{worst}; {_extent(wrong)}", wrong=wrong
    )


def _scale(oracle: torch.Tensor, judged: torch.Tensor, dtype: torch.dtype) -> float:
    """max |oracle|, or so much that the allowed error is the step that may be flushed to zero."""
    return _least_scale(float(torch.where(judged, oracle, 0.0).abs().max()), dtype)


def _least_scale(largest: float, dtype: torch.dtype) -> float:
    flushed = _FLUSHED.get(dtype, torch.finfo(dtype).tiny)
    return max(largest, flushed / floor(dtype, 1))


def _kind(values: torch.Tensor) -> torch.Tensor:
    """0 finite, 1 infinite, 2 minus infinite, 3 NaN."""
    return torch.isposinf(values) * 1 + torch.isneginf(values) * 2 + torch.isnan(values) * 3


def _first(mask: torch.Tensor) -> tuple[int, ...]:
    return tuple(int(i) for i in mask.nonzero()[0])


def _at(place: tuple[int, ...], oracle: torch.Tensor, output: torch.Tensor) -> str:
    expected, got = oracle[place].item(), output[place].item()
    shown = [f"{value:.9g}" if isinstance(value, float) else str(value) for value in (expected, got)]
    return f"{list(place)}: expected {shown[0]}, got {shown[1]}"


def _extent(wrong: torch.Tensor) -> str:
    """How many elements are wrong, and the smallest box that holds them: where to look."""
    count, total = int(wrong.sum()), wrong.numel()
    if count == total:
        return f"all {total} elements are wrong" if total > 1 else "the only element"
    places = wrong.nonzero()
    low, high = places.min(dim=0).values.tolist(), places.max(dim=0).values.tolist()
    box = ", ".join(str(a) if a == b else f"{a}:{b + 1}" for a, b in zip(low, high, strict=True))
    return f"{count} of {total} elements are wrong, within [{box}]"
