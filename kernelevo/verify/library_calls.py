"""Compute calls of PyTorch's library by a candidate: those it can make, and those it made.

`at::softmax(x)` in a candidate's source, or `x.softmax(1)`, is an inline function of the torch headers that calls
`at::_ops::softmax_int::call`, which the extension then imports by name; so do the redispatching and `out=` forms. The
undefined symbols of the artifact therefore name the operators it can call, whatever macros hide them from a reader of
the source. An operator that is looked up by a string, or reached through Python, is named by the process that called
it (Call.operators). Who would not be named there imports what looks operators up, or what switches observers off: that
counts as such a call too. Nothing here loads the artifact.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

_OPERATOR = re.compile(rb"_ZN2at4_ops(\d+)([A-Za-z0-9_]+)")

# What calls operators by a string and what hides calls: no honest extension imports these.
_BY_NAME = re.compile(rb"_ZNK?3c1010Dispatcher\d+(findSchemaOrThrow|findSchema|findOp|findOrRegisterName_)E")
_HIDING = re.compile(
    rb"_ZN2at\d+(clearCallbacks|clearGlobalCallbacks|removeCallback|disableCallback|enableRecordFunction"
    rb"|set_record_function_tls_)E"
)

# Operators that make, describe, move or fill tensors: what every honest host function may use. By their base name,
# the part before the overload: "empty_memory_format" is an overload of "empty".
ALLOWED = frozenset(
    {
        *("empty", "full", "ones", "zeros", "zero", "fill", "arange", "scalar_tensor"),
        *("new_empty", "new_full", "new_ones", "new_zeros"),
        *("view", "view_as", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze", "expand", "expand_as", "alias"),
        *("t", "transpose", "permute", "select", "slice", "narrow", "split", "chunk", "unbind", "as_strided"),
        *("copy", "clone", "contiguous", "to", "to_copy", "detach", "data", "set_data", "resize", "record_stream"),
        *("size", "stride", "numel", "is_contiguous", "is_same_size", "is_floating_point", "is_complex", "is_nonzero"),
        *("item", "local_scalar_dense", "lift_fresh", "lift", "set", "resolve_conj", "resolve_neg"),
        *("pin_memory", "is_pinned", "unsafe_view", "reshape_alias"),
    }
)


def library_calls(artifact: Path) -> tuple[str, ...]:
    """Names of the compute operators that the artifact imports from torch, sorted; for example ("at::softmax_int",)."""
    names = set()
    for length, rest in _OPERATOR.findall(artifact.read_bytes()):
        name = rest[: int(length)].decode()
        if len(name) == int(length) and not _is_allowed(name):
            names.add(f"at::{name}")
    return tuple(sorted(names))


def hidden_calls(artifact: Path) -> tuple[str, ...]:
    """What the artifact imports that looks operators up by name or hides calls: "c10::Dispatcher::findOp"."""
    content = artifact.read_bytes()
    names = {f"c10::Dispatcher::{name.decode()}" for name in _BY_NAME.findall(content)}
    names |= {f"at::{name.decode()}" for name in _HIDING.findall(content)}
    return tuple(sorted(names))


def compute_operators(called: Iterable[str]) -> tuple[str, ...]:
    """Of the operators that a candidate called ("aten::empty_like"), those that compute, sorted."""
    return tuple(sorted(name for name in called if not _is_allowed(name.rpartition("::")[2])))


def _is_allowed(name: str) -> bool:
    """True when the name, or the name without its overload, is in the list: to_dtype_layout, empty_like, zero_."""
    parts = name.strip("_").split("_")
    return any("_".join(parts[:count]) in ALLOWED for count in range(1, len(parts) + 1))
