"""Kernels as their source names them, from the names that compilers give them. Standard library only."""

from __future__ import annotations

import ctypes
from functools import cache


@cache
def kernel_name(symbol: str) -> str:
    """Without namespaces, parameters and return type: _Z7softmaxPKf -> softmax, _Z4copyILi4EEvPf -> copy<4>."""
    name = demangled(symbol).replace("(anonymous namespace)::", "")
    if name == symbol:
        return symbol
    depth, start = 0, 0
    for position, character in enumerate(name):
        if depth == 0 and character == "(":
            return name[start:position]
        if depth == 0 and character in " :":  # after a return type or a namespace
            start = position + 1
        depth += (character == "<") - (character == ">")
    return name[start:]


def demangled(symbol: str) -> str:
    """The C++ declaration of a symbol, or the symbol."""
    try:
        demangle = ctypes.CDLL("libstdc++.so.6").__cxa_demangle
    except (OSError, AttributeError):
        return symbol
    demangle.restype = ctypes.c_void_p
    status = ctypes.c_int()
    text = demangle(symbol.encode(), None, None, ctypes.byref(status))
    return ctypes.string_at(text).decode(errors="replace") if text and status.value == 0 else symbol
