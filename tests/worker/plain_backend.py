"""The worker's half of a device that is no device: candidates get CPU tensors. For testing the worker itself."""

from __future__ import annotations

import errno
import importlib.util
import os
from collections.abc import Sequence
from importlib.machinery import ExtensionFileLoader, ModuleSpec
from pathlib import Path
from types import ModuleType

import torch

from kernelevo.devices import seccomp, system_calls
from kernelevo.devices.confinement import Needs
from kernelevo.devices.wire import Load
from kernelevo.worker import Effects, RefusedError

PR_SET_NO_NEW_PRIVS = 38
CALLS = {
    "namespaces": ("clone3", "unshare"),
    "landlock": ("landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self"),
    "seccomp": ("seccomp",),
}


class PlainBackend:
    device_type = "cpu"

    def __init__(self, mark: str, without: Sequence[str] = ()) -> None:
        """mark: shows in the command line of all its processes. without: "namespaces", "landlock" or "seccomp", which
        the kernel then refuses to this server and all its children, as a container would.
        """
        calls = [name for thing in without for name in CALLS[thing]]
        if calls:
            system_calls.control(PR_SET_NO_NEW_PRIVS, 1)
            seccomp.install(seccomp.refusing(*calls, error=errno.ENOSYS))

    def warm(self) -> None:
        pass

    def load(self, load: Load) -> ModuleType:
        artifact = Path(load.artifact)
        name = artifact.name.partition(".")[0]
        loader = ExtensionFileLoader(name, str(artifact))
        module = importlib.util.module_from_spec(ModuleSpec(name, loader, origin=str(artifact)))
        loader.exec_module(module)
        return module

    def begin(self, **call: object) -> None:
        pass

    def empty_strided(self, shape: Sequence[int], strides: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
        return torch.empty_strided(shape, strides, dtype=dtype)

    def end(self, error: BaseException | None) -> Effects:
        return Effects()


class PoolingBackend(PlainBackend):
    """Threads called "pool..." are its own."""

    needs = Needs(threads=("pool",))


class BrokenBackend(PlainBackend):
    """Cannot be warmed up."""

    def warm(self) -> None:
        raise RuntimeError("the driver is from another age")


class TellingBackend(PlainBackend):
    """Says where it was warmed up instead of loading anything."""

    def warm(self) -> None:
        self.warmed_in = os.getpid()

    def load(self, load: Load) -> ModuleType:
        raise RefusedError("crashed", f"warmed up in process {self.warmed_in}")
