"""Compute calls of PyTorch's library in a built candidate. Takes an artifact, gives operator names; loads nothing.

`at::softmax(x)` in a candidate's source, or `x.softmax(1)`, is an inline function of the torch headers that calls
`at::_ops::softmax_int::call`, which the extension then imports by name; so do the redispatching and `out=` forms. The
undefined symbols of the artifact therefore name the operators it can call, whatever macros hide them from a reader of
the source. Not seen: an operator looked up by a string in the dispatcher, or torch reached through Python; those show
as calls without a kernel of the candidate's own, which verdict.py judges.
"""

from __future__ import annotations

import re
from pathlib import Path

_OPERATOR = re.compile(rb"_ZN2at4_ops(\d+)([A-Za-z0-9_]+)")

# Operators that make, describe, move or fill tensors: what every honest host function may use. By their base name,
# the part before the overload: "empty_memory_format" is an overload of "empty".
ALLOWED = frozenset(
    {
        *("empty", "full", "ones", "zeros", "zero", "fill", "arange", "scalar_tensor"),
        *("new_empty", "new_full", "new_ones", "new_zeros"),
        *("view", "view_as", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze", "expand", "expand_as", "alias"),
        *("t", "transpose", "permute", "select", "slice", "narrow", "split", "chunk", "unbind", "as_strided"),
        *("copy", "clone", "contiguous", "to", "_to_copy", "detach", "data", "set_data", "resize", "record_stream"),
        *("size", "stride", "numel", "is_contiguous", "is_same_size", "is_floating_point", "is_complex", "is_nonzero"),
        *("item", "_local_scalar_dense"),
    }
)


def library_calls(artifact: Path) -> tuple[str, ...]:
    """Names of the compute operators that the artifact imports from torch, sorted; for example ("softmax_int",)."""
    names = set()
    for length, rest in _OPERATOR.findall(artifact.read_bytes()):
        name = rest[: int(length)].decode()
        if len(name) == int(length) and not _is_allowed(name):
            names.add(name)
    return tuple(sorted(names))


def _is_allowed(name: str) -> bool:
    """True when the name, or the name without its overload, is in the list: to_dtype_layout, empty_like, zero_."""
    parts = name.split("_")
    return any("_".join(parts[:count]) in ALLOWED for count in range(1, len(parts) + 1))
