"""What a rewrite is: a name, a weight, and a function from a parsed source to the places where it applies."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from kernelevo.models.rewrites.syntax import Edit, Unit


@dataclass(frozen=True, slots=True)
class Site:
    """One place where a rewrite applies, and the edits that apply it.

    The argument names the place and the choice in the source's own words ("softmax_kernel width=4"), never by
    position: the same argument finds the same place in another source that has it, which is what crossover needs.
    """

    argument: str
    edits: tuple[Edit, ...]
    weight: float = 1.0  # among the sites of its rule


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One named rewrite."""

    name: str
    weight: float  # how often it is chosen among the rules that apply
    sites: Callable[[Unit], Iterable[Site]]
    after: tuple[str, ...] = ()  # rules that see less of the source once this one ran; while they apply, it waits


# What changes the shape of a kernel. Its constants are tuned afterwards: the best ones depend on the shape.
STRUCTURE = ("tile", "split_rows", "specialize", "warp_shuffle", "vectorize", "online_softmax", "keep_row")
