"""Finds or makes the compiled kernels of this package.

A wheel that was built where nvcc and a CUDA build of PyTorch are holds them; otherwise they are compiled at first use,
from the sources in this package, and kept by torch.utils.cpp_extension. `use_emulator` runs them on kernelevo's CPU
emulator of a GPU instead, for tests on machines without one. This file is copied into exported packages as it is.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import importlib.util
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

SWITCH = "KERNELEVO_EMULATE"  # environment variable: 1 does what use_emulator() does, at import
_PACKAGE = __package__ or ""
_run_on: list[str] = []  # "emulator" when it was asked for


def use_emulator() -> None:
    """Makes device="cuda" an emulated GPU in this process, and runs the kernels on it.

    Needs kernelevo and a CPU build of PyTorch, and must come before the first backward() and the first kernel.
    """
    from kernelevo.export.emulated import start

    start()
    _run_on.append("emulator")


@functools.cache
def kernel(name: str) -> Callable[..., Any]:
    """The compiled function `name`, "forward" or "backward"."""
    source = Path(__file__).with_name(f"{name}.cu")
    if _run_on:
        from kernelevo.export.emulated import load

        module = load(source.read_text(encoding="utf-8"), name)
    elif importlib.util.find_spec(f"{_PACKAGE}._cuda_{name}") is not None:
        module = importlib.import_module(f"{_PACKAGE}._cuda_{name}")
    else:
        if not torch.version.cuda:
            raise RuntimeError(
                f"{_PACKAGE}: this PyTorch is built without CUDA, so that {source.name} cannot be compiled; "
                "install a CUDA build, or call use_emulator()"
            )
        from torch.utils import cpp_extension

        text = hashlib.sha256(source.read_bytes()).hexdigest()[:8]  # another source is another library
        module = cpp_extension.load(name=f"{_PACKAGE.replace('.', '_')}_{name}_{text}", sources=[str(source)])
    function: Callable[..., Any] = getattr(module, name)
    return function


if os.environ.get(SWITCH) == "1":
    use_emulator()
