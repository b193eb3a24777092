"""Names on both sides of a split build: kernels that the module can launch, and entries that the PTX has.

Takes a shared object and a PTX text. Reads 64-bit little-endian ELF only, which is all that the compilers here write.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from pathlib import Path

_ENTRY = re.compile(r"^\s*(?:\.visible\s+|\.weak\s+)?\.entry\s+([\w$]+)", re.MULTILINE)
_DYNSYM = 11
_FUNCTION = 2


def entries(ptx: str) -> frozenset[str]:
    """Names of the entry points of a PTX module."""
    return frozenset(_ENTRY.findall(ptx))


def exported_kernels(module: Path, kernels: frozenset[str]) -> frozenset[str]:
    """Mangled names of the module's exported functions whose own name is one of `kernels`."""
    return frozenset(name for name in exported_functions(module) if own_name(name) in kernels)


def exported_functions(module: Path) -> Iterator[str]:
    """Mangled names of the functions that a shared object defines and exports."""
    return (name for name, kind, defined in _dynamic_symbols(module) if defined and kind == _FUNCTION)


def imported_symbols(module: Path) -> frozenset[str]:
    """Names that a shared object leaves for others to define."""
    return frozenset(name for name, _, defined in _dynamic_symbols(module) if name and not defined)


def _dynamic_symbols(module: Path) -> Iterator[tuple[str, int, bool]]:
    """(name, kind, whether it is defined here) of each symbol that takes part in dynamic linking."""
    data = module.read_bytes()
    if data[:6] != b"\x7fELF\x02\x01":
        raise ValueError(f"{module} is not a 64-bit little-endian ELF file")
    (section_offset,) = struct.unpack_from("<Q", data, 0x28)
    size, count = struct.unpack_from("<HH", data, 0x3A)
    sections = [struct.unpack_from("<IIQQQQIIQQ", data, section_offset + index * size) for index in range(count)]
    for _, kind, _, _, offset, length, link, _, _, entry_size in sections:
        if kind != _DYNSYM:
            continue
        strings = sections[link][4]
        for position in range(offset, offset + length, entry_size):
            name, info, _, section, _, _ = struct.unpack_from("<IBBHQQ", data, position)
            start = strings + name
            yield data[start : data.index(b"\0", start)].decode(), info & 0xF, bool(section)


def own_name(mangled: str) -> str:
    """Unqualified name of a function from its Itanium mangling, for what may be a kernel: no member, no operator."""
    rest = mangled.removeprefix("_Z")
    if rest == mangled:
        return mangled
    rest = rest.removeprefix("N")
    name = ""
    while match := re.match(r"\d+", rest):
        length = int(match.group())
        name = rest[match.end() : match.end() + length]
        rest = rest[match.end() + length :]
        if not mangled.startswith("_ZN"):
            break
    return name
