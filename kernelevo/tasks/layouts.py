"""Layouts of inputs: the same values in other strides. Takes tensors, gives views that are not contiguous.

A task that declares `layouts = ["contiguous", "strided"]` says that candidates accept such inputs; its outputs are
contiguous all the same. Each TEST size then has a case more, and every other HIDDEN case is strided.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from kernelevo.records import Case, Purpose, digest

if TYPE_CHECKING:
    import torch

LAYOUTS = {
    "contiguous": "rows one after the other",
    "strided": "floating tensors of two or more dimensions are cut out of larger ones, or transposed",
}
MARK = " strided"


def with_strided(cases: Sequence[Case]) -> tuple[Case, ...]:
    """The cases, and after the TEST cases one strided case of each of their sizes and dtypes."""
    seen: set[tuple[object, ...]] = set()
    more = []
    for case in cases:
        key = (*case.sizes.items(), case.dtype)
        if case.purpose is Purpose.TEST and key not in seen:
            seen.add(key)
            name = case.name + MARK
            seed = int(digest(name, str(case.seed), tag="seed", length=15).removeprefix("seed-"), 16)
            more.append(replace(case, name=name, seed=seed))
    tests = [case for case in cases if case.purpose is Purpose.TEST]
    return (*tests, *more, *(case for case in cases if case.purpose is not Purpose.TEST))


def is_strided(case: Case) -> bool:
    """Whether a case of such a task has strided inputs."""
    return case.name.endswith(MARK) or (case.purpose is Purpose.HIDDEN and case.seed % 2 == 1)


def strided_inputs(inputs: Callable[..., Any]) -> Callable[..., Any]:
    """The task's `inputs`, strided where the case says so."""

    def drawn(case: Case, generator: torch.Generator) -> Any:
        values = inputs(case, generator)
        if not is_strided(case):
            return values
        return tuple(strided(value, transposed=(case.seed // 2 + index) % 2 == 1) for index, value in enumerate(values))

    return drawn


def strided(value: Any, *, transposed: bool) -> Any:
    """Equal values in other strides; what is no floating tensor of two dimensions stays."""
    if not hasattr(value, "shape") or value.dim() < 2 or not value.is_floating_point():
        return value
    if transposed:
        return value.mT.contiguous().mT
    wider = value.new_zeros((*value.shape[:-1], value.shape[-1] + 3))
    view = wider[..., 1 : 1 + value.shape[-1]]
    view.copy_(value)
    return view
