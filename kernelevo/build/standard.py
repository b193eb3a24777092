"""The standard build: one nvcc run over the unmodified source with all of torch's headers, then a link.

What torch.utils.cpp_extension does, with two differences: the PTX is kept beside the module, uncompressed in the object
too, and CUDA's runtime is not linked, since the process that loads the module has it. One run takes up to 2 GB and a
minute and a half, so at most two run at once on a machine.
"""

from __future__ import annotations

from kernelevo.build import passes
from kernelevo.build.passes import INCLUDE, TORCH_NVCC_FLAGS, Step
from kernelevo.toolchain import Toolchain

AT_ONCE = 2


def standard_flags(target: str) -> tuple[str, ...]:
    """Flags that decide what comes out of it."""
    number = target.removeprefix("sm_")
    return (
        f"-gencode=arch=compute_{number},code=[{target},compute_{number}]",
        "--compress-mode=none",
        "-lineinfo",
        *TORCH_NVCC_FLAGS,
        "-Xcompiler",
        "-fPIC",
    )


def steps(toolchain: Toolchain, target: str) -> tuple[Step, ...]:
    """The runs of a standard build of candidate.cu; folder `kept` must exist."""
    includes = [*passes.cuda_shims(toolchain, INCLUDE), *toolchain.torch.include, toolchain.python_include]
    command = (
        str(toolchain.nvcc.path),
        "-c",
        *standard_flags(target),
        *passes.compiler_for_nvcc(toolchain),
        *("--keep", "--keep-dir", "kept"),
        *(part for folder in includes for part in ("-isystem", str(folder))),
        *("candidate.cu", "-o", "candidate.o"),
    )
    compile_step = Step(name="device", reads="candidate.cu", writes="candidate.o", command=command)
    return compile_step, passes.link_step(toolchain, "candidate.o")
