"""A loaded PTX file: its kernels' signatures and the storage of its variables.

Nothing is translated here. Shared memory is not a module's variable; see layout.py.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from functools import cached_property

from .instruction import Symbol
from .layout import Parameter, lay_out_parameters
from .ptx import TYPE_BYTES, Function, PtxError, PtxFile, Variable, parse_ptx


@dataclass(frozen=True, slots=True)
class KernelInfo:
    """A kernel's signature, as far as its PTX header tells."""

    name: str
    parameters: tuple[Parameter, ...]
    params_bytes: int
    max_threads: tuple[int, int, int] | None
    """.maxntid: the largest block"""
    required_threads: tuple[int, int, int] | None
    """.reqntid: the only block"""


@dataclass(frozen=True, slots=True)
class Storage:
    """A module variable in memory."""

    variable: Variable
    address: int
    size: int  # bytes


def load_ptx(text: str, name: str) -> Module:
    """Parses PTX and allocates its variables. `name` is the file name in messages. Raises PtxError."""
    return Module(parse_ptx(text, name))


class Module:
    """One PTX file with memory for its .global and .const variables, which lives as long as this object."""

    def __init__(self, file: PtxFile) -> None:
        self.file = file
        self.kernels = {f.name: _info(f) for f in file.functions.values() if f.is_entry and f.body_span}
        self._memory: list[ctypes.Array[ctypes.c_char]] = []
        self.variables = {
            variable.name: self._allocate(variable)
            for variable in file.variables.values()
            if variable.space in ("global", "const")
        }
        for storage in self.variables.values():
            self._initialise(storage)

    @cached_property
    def addresses(self) -> ctypes.Array[ctypes.c_uint64]:
        """Addresses of all variables in the order of the file (0 for shared ones), for BlockState.globals."""
        values = [self.variables[name].address if name in self.variables else 0 for name in self.file.variables]
        return (ctypes.c_uint64 * max(1, len(values)))(*values)

    @property
    def shared_names(self) -> frozenset[str]:
        return frozenset(v.name for v in self.file.variables.values() if v.space == "shared")

    def _allocate(self, variable: Variable) -> Storage:
        alignment = max(16, variable.alignment)
        memory = ctypes.create_string_buffer(variable.size + alignment)
        self._memory.append(memory)
        address = -(-ctypes.addressof(memory) // alignment) * alignment
        return Storage(variable, address, variable.size)

    def _initialise(self, storage: Storage) -> None:
        variable = storage.variable
        size = TYPE_BYTES[variable.type]
        data = bytearray()
        for value in variable.initialiser:
            if isinstance(value, Symbol):
                target = self.variables.get(value.name)
                if target is None:
                    raise PtxError(variable.position, f"{variable.name} is initialised with the unknown {value.name}")
                data += (target.address + value.offset).to_bytes(size, "little")
            elif isinstance(value, bytes):
                data += value
            else:
                data += (value & ((1 << (8 * size)) - 1)).to_bytes(size, "little")
        ctypes.memmove(storage.address, bytes(data), len(data))


def _info(function: Function) -> KernelInfo:
    parameters, size = lay_out_parameters(function.parameters)
    return KernelInfo(function.name, parameters, size, _triple(function, "maxntid"), _triple(function, "reqntid"))


def _triple(function: Function, directive: str) -> tuple[int, int, int] | None:
    values = function.directives.get(directive)
    if not values:
        return None
    x, y, z = (*values, 1, 1)[:3]
    return x, y, z
