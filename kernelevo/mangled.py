"""Kernels as their source names them, from the names that compilers give them (Itanium C++ ABI). Standard library only.

Not covered: template arguments that are types of the candidate's own, or templates: these are left out, all of them.
"""

from __future__ import annotations

import re


def plain_name(kernel: str) -> str:
    """A kernel's name without namespaces and parameters: _Z7softmaxPKf -> softmax, _Z4copyILi4EEvPf -> copy<4>."""
    name, rest = kernel, re.sub(r"^_Z[NL]?", "", kernel)
    while rest != kernel and (length := re.match(r"\d+", rest)):
        end = length.end() + int(length[0])
        name, rest = rest[length.end() : end], rest[end:]
    if rest != kernel and (arguments := re.match(r"I((?:L[a-z]n?\d+E|[a-z])+)E", rest)):
        found = re.findall(r"L([a-z])(n?)(\d+)E|([a-z])", arguments[1])
        name += f"<{', '.join(argument_in_words(*one) for one in found)}>"
    return name


def argument_in_words(kind: str, minus: str, digits: str, builtin: str) -> str:
    """One template argument of a mangled name: Li4E -> 4, Lb1E -> true, f -> float."""
    if builtin:
        return BUILTIN_TYPES.get(builtin, builtin)
    if kind == "b":
        return "true" if digits == "1" else "false"
    return f"{'-' if minus else ''}{digits}"


# Codes of the Itanium C++ ABI, section 5.1.5.2.
BUILTIN_TYPES = {
    "f": "float",
    "d": "double",
    "i": "int",
    "j": "unsigned",
    "l": "long",
    "m": "unsigned long",
    "b": "bool",
}
