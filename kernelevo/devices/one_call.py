"""Loads one candidate and calls it once on the GPU, with nothing around it: what NVIDIA's tools are started with.

    python -m kernelevo.devices.one_call ARTIFACT IMAGE ENTRY INPUTS

IMAGE is the cubin or PTX of its kernels, or "" for an object that nvcc linked; INPUTS a list saved by torch. Not
confined; see cuda_tools.py.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import sys
from importlib.machinery import ExtensionFileLoader, ModuleSpec
from pathlib import Path


def main(artifact: str, image: str, entry: str, inputs: str) -> None:
    from kernelevo.devices import _cuda

    ctypes.CDLL(_cuda.__file__, mode=os.RTLD_NOW | os.RTLD_GLOBAL | os.RTLD_NOLOAD)
    import torch

    torch.zeros(1, device="cuda")
    values = [v.cuda() if isinstance(v, torch.Tensor) else v for v in torch.load(inputs, weights_only=True)]
    _cuda.begin_loading()
    if image:
        _cuda.load_image(Path(image).read_bytes())
    name = Path(artifact).name.partition(".")[0]
    loader = ExtensionFileLoader(name, artifact)
    module = importlib.util.module_from_spec(ModuleSpec(name, loader, origin=artifact))
    loader.exec_module(module)
    _cuda.end_loading()
    getattr(module, entry)(*values)
    torch.cuda.synchronize()


if __name__ == "__main__":
    main(*sys.argv[1:])
