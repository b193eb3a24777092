"""A candidate's PTX as the CUDA runtime sees it: signatures, memory, compiled kernels and variables, on demand.

Takes PTX text, gives what csrc/cuda_runtime asks through runtime.py. What cannot be had is a RefusedError; Unsupported
of the emulator becomes one of kind "unsupported".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from kernelevo.emulator.check import Unsupported
from kernelevo.emulator.checked import CheckedKernel, UncheckedKernel, check_kernel
from kernelevo.emulator.counted import CountedKernel
from kernelevo.emulator.flow import build_program
from kernelevo.emulator.grid import Compiled, Variant, compile_kernel
from kernelevo.emulator.layout import lay_out_shared
from kernelevo.emulator.module import KernelInfo, load_ptx
from kernelevo.emulator.ptx import PtxError
from kernelevo.emulator.refused import INVALID_DEVICE_FUNCTION, INVALID_PTX, INVALID_SYMBOL, RefusedError

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a launch is checked against before anything is compiled."""

    parameters: tuple[tuple[int, int], ...]  # offset and size of each, in bytes
    registers: int  # per thread, from ptxas; 0 when not known
    max_threads: tuple[int, int, int] | None  # __launch_bounds__
    required_threads: tuple[int, int, int] | None  # the only block shape


class CandidateModule:
    """One PTX file. Raises RefusedError when it is not PTX."""

    def __init__(self, text: str, name: str, *, registers: Mapping[str, int]) -> None:
        """registers: per thread, by entry, from ptxas; may be empty."""
        self._registers = registers
        self._module = _asking(lambda: load_ptx(text, name))

    def describe(self, entry: str) -> Facts:
        info = self._info(entry)
        return Facts(
            parameters=tuple((parameter.offset, parameter.size) for parameter in info.parameters),
            registers=self._registers.get(entry, 0),
            max_threads=info.max_threads,
            required_threads=info.required_threads,
        )

    def measure(self, entry: str) -> tuple[int, int, int]:
        """Bytes of static shared memory, of local memory per thread, and of the module's constant memory."""
        name = self._info(entry).name
        file = self._module.file
        program = _asking(lambda: build_program(file, file.functions[name]))
        _offsets, shared = lay_out_shared(file, program)
        local = sum(variable.size for variable in program.variables if variable.space == "local")
        constant = sum(variable.size for variable in file.variables.values() if variable.space == "const")
        return shared, local, constant

    def compile(
        self, entry: str, block: tuple[int, int, int], variant: Variant
    ) -> tuple[Compiled | CountedKernel | CheckedKernel | UncheckedKernel, int]:
        """The kernel in this variant, and its bytes of static shared memory."""
        self._info(entry)
        if variant is Variant.COUNTED:
            counted = _asking(lambda: CountedKernel(self._module, entry, block))
            return counted, counted.kernel.shared_bytes
        if variant is Variant.CHECKED:
            checked = _asking(lambda: check_kernel(self._module, entry, block))
            return checked, checked.shared_bytes
        compiled = _asking(lambda: compile_kernel(self._module, entry, block))
        return compiled, compiled.shared_bytes

    def locate(self, variable: str) -> tuple[int, int]:
        """Address and bytes of a __device__ or __constant__ variable."""
        storage = self._module.variables.get(variable)
        if storage is None:
            raise RefusedError(
                f"the PTX has no variable {variable}", kind="unknown variable", cuda_error=INVALID_SYMBOL
            )
        return storage.address, storage.size

    def _info(self, entry: str) -> KernelInfo:
        info = self._module.kernels.get(entry)
        if info is None:
            raise RefusedError(
                f"the PTX has no kernel {entry}", kind="unknown kernel", cuda_error=INVALID_DEVICE_FUNCTION
            )
        return info


def _asking(make: Callable[[], T]) -> T:
    try:
        return make()
    except Unsupported as unsupported:
        raise RefusedError(str(unsupported), kind="unsupported") from unsupported
    except PtxError as error:
        raise RefusedError(str(error), kind="invalid PTX", cuda_error=INVALID_PTX) from error
