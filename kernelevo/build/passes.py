"""The commands of a split build, and the headers they include.

    candidate.cu --nvcc -ptx, slim torch declarations--> candidate.ptx --ptxas -v--> candidate.cubin
    host.cpp     --clang++ or g++, precompiled header--> host.o --link--> kernelevo_candidate.so

Takes a toolchain and a cache folder, gives flags and steps for ninja. Headers of ours are copied into the cache with
the precompiled header, once per toolchain, so that a build sees one state of them whatever happens to the checkout.
"""

from __future__ import annotations

import functools
import shlex
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kernelevo.build import cache as folders
from kernelevo.build import processes
from kernelevo.build.processes import Finished
from kernelevo.errors import ToolchainError
from kernelevo.records import digest
from kernelevo.toolchain import HostCompiler, Toolchain

MODULE = "kernelevo_candidate"  # the artifact's module name: PyInit_kernelevo_candidate
INCLUDE = Path(__file__).parent / "include"
PRECOMPILE_SECONDS = 600
UNUSED_SECONDS = 7 * 24 * 3600

# What torch.utils.cpp_extension passes to nvcc; real kernels need the first four.
TORCH_NVCC_FLAGS = (
    "-D__CUDA_NO_HALF_OPERATORS__",
    "-D__CUDA_NO_HALF_CONVERSIONS__",
    "-D__CUDA_NO_BFLOAT16_CONVERSIONS__",
    "-D__CUDA_NO_HALF2_OPERATORS__",
    "--expt-relaxed-constexpr",
    "-std=c++20",
    f"-DTORCH_EXTENSION_NAME={MODULE}",
    "-DTORCH_API_INCLUDE_EXTENSION_H",
)

# Headers of torch that the device pass sees slim declarations for, by the header of ours that stands for them.
STANDS_FOR = {
    "kernelevo/torch.h": (
        "torch/extension.h torch/types.h torch/torch.h torch/all.h torch/script.h torch/python.h torch/library.h "
        "torch/csrc/utils/pybind.h torch/cuda.h"
    ),
    "kernelevo/tensor.h": (
        "ATen/ATen.h ATen/Tensor.h ATen/core/Tensor.h ATen/core/TensorBase.h ATen/core/TensorBody.h ATen/Functions.h "
        "ATen/NativeFunctions.h ATen/TensorUtils.h ATen/Context.h ATen/TensorIndexing.h ATen/ScalarOps.h "
        "ATen/TensorOperators.h ATen/TensorOptions.h ATen/Device.h ATen/Scalar.h c10/core/TensorOptions.h "
        "c10/core/Device.h c10/core/Scalar.h c10/core/TensorImpl.h c10/core/SymInt.h c10/core/DeviceType.h "
        "c10/core/MemoryFormat.h c10/core/Layout.h c10/core/Storage.h ATen/DeviceGuard.h c10/core/DeviceGuard.h"
    ),
    "kernelevo/cuda.h": (
        "ATen/cuda/CUDAContext.h ATen/cuda/CUDAContextLight.h ATen/cuda/Exceptions.h ATen/cuda/CUDAUtils.h "
        "ATen/cuda/CUDAEvent.h c10/core/Stream.h "
        "c10/cuda/CUDAStream.h c10/cuda/CUDAException.h c10/cuda/CUDAFunctions.h "
        "c10/cuda/CUDAMacros.h c10/cuda/CUDACachingAllocator.h c10/cuda/CUDAMiscFunctions.h"
    ),
    "kernelevo/cuda_guard.h": "c10/cuda/CUDAGuard.h",
    "kernelevo/exception.h": "c10/util/Exception.h c10/util/StringUtil.h c10/util/Logging.h",
    "kernelevo/array_ref.h": (
        "c10/util/ArrayRef.h c10/util/OptionalArrayRef.h c10/util/irange.h c10/util/Optional.h c10/util/SmallVector.h"
    ),
    "kernelevo/scalar_types.h": (
        "c10/core/ScalarType.h torch/headeronly/core/ScalarType.h c10/util/complex.h c10/util/Float8_e4m3fn.h "
        "c10/util/Float8_e4m3fnuz.h c10/util/Float8_e5m2.h c10/util/Float8_e5m2fnuz.h c10/util/Float8_e8m0fnu.h "
        "c10/util/Metaprogramming.h"
    ),
    "kernelevo/atomic.h": "ATen/cuda/Atomic.cuh ATen/native/cuda/KernelUtils.cuh",
    "kernelevo/pybind.h": "pybind11/pybind11.h pybind11/stl.h pybind11/numpy.h pybind11/functional.h",
}
# On the host these come with the prelude; the real ones would add torch::nn and the like.
PRELUDE_HOLDS = "torch/extension.h torch/torch.h torch/all.h torch/python.h ATen/cuda/Atomic.cuh"


@dataclass(frozen=True, slots=True, kw_only=True)
class Headers:
    """Our headers in the cache, with the precompiled header of one host compiler."""

    folder: Path

    @property
    def device(self) -> tuple[Path, ...]:
        return self.folder / "include" / "device", self.folder / "include" / "stands_for"

    @property
    def host(self) -> tuple[Path, ...]:
        return self.folder / "include" / "host", self.folder / "include" / "prelude_holds"

    @property
    def prelude(self) -> Path:
        return self.folder / "include" / "host" / "kernelevo" / "prelude.h"


def prepare_headers(toolchain: Toolchain, cache: Path) -> Headers:
    """Headers for a toolchain; precompiles them when this machine has not done so yet (10 to 25 seconds)."""
    folder = cache / "host" / _headers_key(toolchain)
    complete = folder / "complete"
    headers = Headers(folder=folder)
    if complete.exists():
        complete.touch()  # when it was last of use
        return headers
    with folders.locked(cache / "host" / f"{folder.name}.lock"):
        if complete.exists():
            return headers
        shutil.rmtree(folder, ignore_errors=True)
        try:
            _precompile(toolchain, headers)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)  # up to 550 MB that nobody could use
            raise
        complete.touch()
        _remove_unused(folder.parent)
    return headers


def _precompile(toolchain: Toolchain, headers: Headers) -> None:
    folder = headers.folder
    shutil.copytree(INCLUDE, folder / "include")
    for target, names in (*STANDS_FOR.items(), ("kernelevo/prelude.h", PRELUDE_HOLDS)):
        root = folder / "include" / ("prelude_holds" if target == "kernelevo/prelude.h" else "stands_for")
        for name in names.split():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"#pragma once\n#include <{target}>\n")
    finished = processes.run(
        [*host_command(toolchain, headers), *_precompile_flags(toolchain.host, headers)],
        folder=folder,
        timeout_seconds=PRECOMPILE_SECONDS,
        reads=readable(toolchain),
    )
    if finished.status == 0:
        return
    if "No space left on device" in finished.output:
        raise ToolchainError(
            f"the disk is full: precompiling torch's headers takes up to 550 MB below {folder.parent}",
            next_step="make room there, or name another cache folder with KERNELEVO_CACHE",
        )
    said = finished.output[:2000].strip()
    if finished.status is None:
        said = f"it took more than {PRECOMPILE_SECONDS} seconds and was ended"
    raise ToolchainError(
        f"{toolchain.host.path} cannot precompile torch's headers: {said}",
        next_step="check that torch's and Python's headers belong together, see `kernelevo doctor`",
    )


def _remove_unused(root: Path) -> None:
    """Removes headers that no build has used for a week: each is 100 to 550 MB, and every new torch makes one."""
    for complete in root.glob("*/complete"):
        if time.time() - complete.stat().st_mtime > UNUSED_SECONDS:
            shutil.rmtree(complete.parent, ignore_errors=True)


def _headers_key(toolchain: Toolchain) -> str:
    # A precompiled header is refused when a header it was made of has changed since, even to the same text.
    witnesses = (toolchain.torch.include[0] / "ATen" / "ATen.h", toolchain.nvcc.include / "cuda_runtime.h")
    return digest(
        our_headers(),
        toolchain.host.path.as_posix(),
        toolchain.host.version,
        toolchain.torch.version,
        toolchain.nvcc.version,
        str(toolchain.python_include),
        *(f"{path} {path.stat().st_mtime_ns}" for path in witnesses),
        *host_flags(toolchain),
        tag="headers",
    )


@functools.cache
def our_headers() -> str:
    """Content hash of everything under include/, and of what this module makes of it."""
    parts: list[str] = [PRELUDE_HOLDS, *(f"{name} {headers}" for name, headers in STANDS_FOR.items())]
    for path in sorted(INCLUDE.rglob("*")):
        if path.is_file():
            parts += [path.relative_to(INCLUDE).as_posix(), path.read_text()]
    return digest(*parts, tag="include", length=32)


# --- device pass ----------------------------------------------------------------------------------------------------


def device_flags(target: str) -> tuple[str, ...]:
    """Flags of the device pass that decide what comes out of it."""
    return ("-ptx", "-O3", "-lineinfo", f"-arch={target}", *TORCH_NVCC_FLAGS)


def device_command(toolchain: Toolchain, headers: Headers, target: str, work: Path) -> list[str]:
    return [
        str(toolchain.nvcc.path),
        *device_flags(target),
        *compiler_for_nvcc(toolchain),
        *_each("-I", [work, *headers.device]),
        *_each("-isystem", toolchain.torch.include),
    ]


def compiler_for_nvcc(toolchain: Toolchain) -> list[str]:
    """nvcc takes g++ from the PATH; without one it is told to use clang++."""
    return [] if toolchain.gxx else ["-ccbin", str(toolchain.host.path), "-allow-unsupported-compiler"]


# --- host pass ------------------------------------------------------------------------------------------------------


def host_flags(toolchain: Toolchain) -> tuple[str, ...]:
    """Flags of the host pass that decide what comes out of it; the header is precompiled with the same."""
    common = ("-std=c++20", "-O0", "-fPIC", "-w", f"-DTORCH_EXTENSION_NAME={MODULE}", "-DTORCH_API_INCLUDE_EXTENSION_H")
    if toolchain.host.family == "clang++":
        return (*common, "-fno-color-diagnostics", "-fno-caret-diagnostics", "-ferror-limit=30")
    # gnu-unique symbols would be shared between all candidates that one process ever loads.
    return (*common, "-fno-gnu-unique", "-fdiagnostics-plain-output", "-fmax-errors=30")


def host_command(toolchain: Toolchain, headers: Headers) -> list[str]:
    return [
        str(toolchain.host.path),
        *host_flags(toolchain),
        *_each("-I", [*headers.host, *cuda_shims(toolchain, headers.folder / "include")]),
        *_each("-isystem", [*toolchain.torch.include, toolchain.python_include, toolchain.nvcc.include]),
        *_each("-isystem", [folder for folder in (toolchain.nvcc.include / "cccl",) if folder.is_dir()]),
    ]


def cuda_shims(toolchain: Toolchain, include: Path) -> list[Path]:
    """Folders with what a CPU torch and a bare toolkit lack; nothing that is there is shadowed."""
    shims = [] if toolchain.torch.cuda else [include / "torch_cuda"]
    if not (toolchain.nvcc.include / "cublas_v2.h").exists():
        shims.append(include / "cuda_libraries")
    return shims


def _precompile_flags(host: HostCompiler, headers: Headers) -> list[str]:
    if host.family == "clang++":
        output = headers.prelude.with_suffix(".pch")
        return ["-x", "c++-header", "-fpch-instantiate-templates", str(headers.prelude), "-o", str(output)]
    return ["-x", "c++-header", str(headers.prelude), "-o", f"{headers.prelude}.gch"]


def _use_prelude(host: HostCompiler, headers: Headers) -> list[str]:
    if host.family == "clang++":
        return ["-include-pch", str(headers.prelude.with_suffix(".pch"))]
    return ["-include", str(headers.prelude)]  # g++ takes prelude.h.gch beside it


# --- build.ninja ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One compiler run; its words go to <name>.log."""

    name: str
    reads: str
    writes: str
    command: tuple[str, ...]


def steps(toolchain: Toolchain, headers: Headers, target: str, work: Path) -> tuple[Step, ...]:
    """The four runs of a split build; the device pass and the host pass do not wait for each other."""
    device = [*device_command(toolchain, headers, target, work), "candidate.cu", "-o", "candidate.ptx"]
    host = [*host_command(toolchain, headers), *_use_prelude(toolchain.host, headers), "-c", "host.cpp", "-o", "host.o"]
    return (
        Step(name="device", reads="candidate.cu", writes="candidate.ptx", command=tuple(device)),
        ptxas_step(toolchain, target, "candidate.ptx"),
        Step(name="host", reads="host.cpp", writes="host.o", command=tuple(host)),
        link_step(toolchain, "host.o"),
    )


def ptxas_step(toolchain: Toolchain, target: str, ptx: str) -> Step:
    command = (str(toolchain.nvcc.ptxas), "-v", "-lineinfo", f"-arch={target}", ptx, "-o", "candidate.cubin")
    return Step(name="ptxas", reads=ptx, writes="candidate.cubin", command=command)


def link_step(toolchain: Toolchain, compiled: str) -> Step:
    """Links an object of either build. CUDA's functions stay undefined: the process that loads the module has them."""
    host, torch = toolchain.host, toolchain.torch
    libraries = ["-lc10", "-ltorch_cpu", "-ltorch_python", *(["-lc10_cuda", "-ltorch_cuda"] if torch.cuda else [])]
    linker = [f"--ld-path={host.linker}"] if host.linker else []
    flags = [*linker, "-Wl,--strip-all,-Bsymbolic", f"-L{torch.lib}"]
    command = (str(host.path), "-shared", *flags, compiled, *libraries, "-o", f"{MODULE}.so")
    return Step(name="link", reads=compiled, writes=f"{MODULE}.so", command=command)


def run_steps(toolchain: Toolchain, wanted: Sequence[Step], work: Path, *, timeout_seconds: float) -> Finished:
    """Runs steps with ninja, at most two at once, and goes on with one pass when the other fails: both may have
    something to say. ninja also ends what it started when this process dies before it."""
    lines = []
    for step in wanted:
        command = " ".join(map(shlex.quote, step.command)).replace("$", "$$")
        lines += [f"rule {step.name}", f"  command = {command} > {step.name}.log 2>&1"]
        lines += [f"build {step.writes}: {step.name} {step.reads}", ""]
    (work / "build.ninja").write_text("\n".join(lines))
    ninja = [str(toolchain.ninja), "--quiet", "-j", "2", "-k", "0"]
    return processes.run(ninja, folder=work, timeout_seconds=timeout_seconds, reads=readable(toolchain, work))


def readable(toolchain: Toolchain, work: Path | None = None) -> tuple[Path, ...]:
    """What compilers need to read: the toolchain, our headers, and those precompiled in the cache that `work` is in."""
    nvcc, host, torch = toolchain.nvcc, toolchain.host, toolchain.torch
    programs = (nvcc.path, nvcc.path.resolve(), nvcc.ptxas.resolve(), host.path.resolve(), toolchain.ninja.resolve())
    folders_ = [program.parent.parent for program in programs]
    folders_ += [nvcc.include, nvcc.include.resolve(), *torch.include, torch.lib, toolchain.python_include, INCLUDE]
    return (*folders_, *([work.parent.parent / "host"] if work else []))


def _each(flag: str, folders_: Sequence[Path]) -> list[str]:
    return [part for folder in folders_ for part in (flag, str(folder))]
