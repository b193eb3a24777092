"""A GPU made of a CPU: runs the PTX that nvcc makes, one warp as one SIMD program. See README.md in this folder.

module = load_ptx(text, "softmax.ptx")
kernel = compile_kernel(module, "softmax", block=(256, 1, 1))
report = launch(kernel, grid=(1024, 1, 1), block=(256, 1, 1), shared_bytes=0, params=packed)
"""

from .check import Unsupported
from .grid import Compiled, LaunchStatus, Report, Site, Variant, compile_kernel, launch, sample
from .module import KernelInfo, Module, Storage, load_ptx
from .ptx import PtxError
from .translate import Observer

__all__ = [
    "Compiled",
    "KernelInfo",
    "LaunchStatus",
    "Module",
    "Observer",
    "PtxError",
    "Report",
    "Site",
    "Storage",
    "Unsupported",
    "Variant",
    "compile_kernel",
    "launch",
    "load_ptx",
    "sample",
]
