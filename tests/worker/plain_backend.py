"""The worker's half of a device that is no device: candidates get CPU tensors. For testing the worker itself."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import torch

from kernelevo.devices import confinement
from kernelevo.devices.wire import Job
from kernelevo.worker import Effects, import_extension


class PlainBackend:
    device_type = "cpu"

    def __init__(self, mark: str, namespaces: bool = True) -> None:
        """mark: shows in the command line of all its processes. namespaces: False acts as a machine without them."""
        if not namespaces:
            confinement.fork_into_namespace = lambda: None

    def warm(self) -> None:
        pass

    def load(self, job: Job) -> ModuleType:
        return import_extension(Path(job.artifact))

    def begin(self, *, poison: int, sample_blocks: int | None, timeout_seconds: float) -> None:
        pass

    def empty_strided(self, shape: Sequence[int], strides: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
        return torch.empty_strided(shape, strides, dtype=dtype)

    def end(self, error: BaseException | None) -> Effects:
        return Effects()


class BrokenBackend(PlainBackend):
    """Cannot be warmed up."""

    def warm(self) -> None:
        raise RuntimeError("the driver is from another age")
