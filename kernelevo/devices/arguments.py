"""From the flat values of a call to the arguments of the candidate's entry. Used in the worker; knows no task.

A call carries tensors and numbers, in order. Where the entry takes something else (a tuple of saved tensors, a shape,
None), the call carries a layout as well: JSON, an object with

    arguments   one node per positional argument of an exported function
    model       for candidates that are a class: {"inputs": [node...], "init": [node...], "state": {name: index}}

where a node is the index of a value, {"tuple": [node...]}, {"list": [node...]} or {"constant": any JSON value}.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Layout = Mapping[str, Any]


def arranged(entry: Any, layout: str | None) -> Callable[..., Any]:
    """The entry as a function of the call's flat values.

    entry: an exported function, or an object with `with_layout(layout) -> function` (see devices/python_candidate.py).
    """
    parsed: Layout | None = None if layout is None else json.loads(layout)
    if hasattr(entry, "with_layout"):
        function: Callable[..., Any] = entry.with_layout(parsed)
        return function
    if parsed is None:
        plain: Callable[..., Any] = entry
        return plain
    nodes = parsed["arguments"]
    return lambda *values: entry(*(built(node, values) for node in nodes))


def built(node: Any, values: Sequence[Any]) -> Any:
    """What a node stands for."""
    if isinstance(node, int):
        return values[node]
    if "tuple" in node:
        return tuple(built(part, values) for part in node["tuple"])
    if "list" in node:
        return [built(part, values) for part in node["list"]]
    return node["constant"]
