"""Where the nodes of a lineage stand: parents in, places out.

    layout({"a": (), "b": ("a",), "c": ("a", "b")})    -> a Place for each, and the edges

The first parent carries a node, so that the lineage is a forest; other parents are edges across. Depth grows to the
right, siblings stand below each other in the order of their making, and a parent stands in the middle of its children.
Parents that are not among the nodes are left out: their children stand as roots.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Of one node."""

    depth: int  # steps from its root
    row: float  # from the top; leaves stand at whole numbers


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """A drawn forest."""

    places: Mapping[str, Place]
    edges: tuple[tuple[str, str], ...]  # first parent, child
    crossings: tuple[tuple[str, str], ...]  # other parent, child
    rows: int  # leaves


def layout(parents: Mapping[str, Sequence[str]]) -> Layout:
    """parents: of each node, the first one first; nodes in the order of their making."""
    children: dict[str, list[str]] = {node: [] for node in parents}
    carrier: dict[str, str] = {}
    order = {node: position for position, node in enumerate(parents)}
    for node, of in parents.items():
        known = [p for p in of if p in order and order[p] < order[node]]  # an earlier one: no ring can arise
        if known:
            carrier[node] = known[0]
            children[known[0]].append(node)
    depth: dict[str, int] = {}
    for node in parents:
        depth[node] = depth[carrier[node]] + 1 if node in carrier else 0
    row: dict[str, float] = {}
    leaves = 0
    stack = [(node, False) for node in reversed(list(parents)) if node not in carrier]
    while stack:
        node, below_done = stack.pop()
        if below_done:
            row[node] = (row[children[node][0]] + row[children[node][-1]]) / 2
        elif children[node]:
            stack.append((node, True))
            stack += [(child, False) for child in reversed(children[node])]
        else:
            row[node] = float(leaves)
            leaves += 1
    return Layout(
        places={node: Place(depth=depth[node], row=row[node]) for node in parents},
        edges=tuple((carrier[node], node) for node in parents if node in carrier),
        crossings=tuple(
            (other, node)
            for node, of in parents.items()
            for other in dict.fromkeys(of)
            if other in order and other != carrier.get(node) and other != node
        ),
        rows=leaves,
    )


def path_to(node: str, edges: Sequence[tuple[str, str]]) -> list[str]:
    """From a root to a node, along the edges."""
    carrier = {child: parent for parent, child in edges}
    path = [node]
    while path[-1] in carrier:
        path.append(carrier[path[-1]])
    return path[::-1]
