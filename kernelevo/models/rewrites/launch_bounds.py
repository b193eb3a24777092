"""`__launch_bounds__(threads)`: the compiler may then use as many registers as that block size leaves."""

from __future__ import annotations

from collections.abc import Iterator

from tree_sitter import Node

from kernelevo.models.rewrites.rule import STRUCTURE, Rule, Site
from kernelevo.models.rewrites.shapes import block_size
from kernelevo.models.rewrites.syntax import Edit, Unit, field, find


def sites(unit: Unit) -> Iterator[Site]:
    """One site per kernel whose block size is known and that has no bounds yet."""
    for kernel in unit.kernels:
        size = block_size(unit, kernel)
        if size is not None and not _bounds(kernel.node):
            place = field(kernel.node, "declarator").start_byte
            yield Site(f"{kernel.name} {size}", (Edit(place, place, f"__launch_bounds__({size}) "),))


def drop_sites(unit: Unit) -> Iterator[Site]:
    """The opposite."""
    for kernel in unit.kernels:
        for bounds in _bounds(kernel.node):
            yield Site(kernel.name, (Edit(bounds.start_byte, bounds.end_byte + 1, ""),))


def _bounds(node: Node) -> list[Node]:
    return list(find(node, "launch_bounds"))


RULE = Rule(name="launch_bounds", weight=0.5, sites=sites, after=STRUCTURE)
DROP = Rule(name="drop_launch_bounds", weight=1.0, sites=drop_sites)
