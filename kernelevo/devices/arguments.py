"""From the values of a call and its layout (devices.Arguments) to a call of the candidate's entry, in the worker."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from kernelevo.devices import built

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
