"""What the Python side answers when the CUDA runtime asks for something that it cannot have."""

from __future__ import annotations

EMULATOR_AT_FAULT = 999  # cudaErrorUnknown
INVALID_DEVICE_FUNCTION = 98  # cudaErrorInvalidDeviceFunction
INVALID_SYMBOL = 13  # cudaErrorInvalidSymbol
NO_KERNEL_IMAGE = 209  # cudaErrorNoKernelImageForDevice
INVALID_PTX = 218  # cudaErrorInvalidPtx


class RefusedError(Exception):
    """A kernel or variable that cannot be had. csrc/cuda_runtime/bindings.cpp reads both attributes.

    kind: names the cause in a word or two, for Fault.kind.
    cuda_error: what CUDA would answer; EMULATOR_AT_FAULT when the program is right and we are not able.
    """

    def __init__(self, text: str, *, kind: str, cuda_error: int = EMULATOR_AT_FAULT) -> None:
        super().__init__(text)
        self.kind = kind
        self.cuda_error = cuda_error
