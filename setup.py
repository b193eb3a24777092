"""Builds csrc/ as part of `pip install`. Everything else is in pyproject.toml.

After a change in csrc/, from the repository's root:

    .venv/bin/python setup.py build_ext --inplace

compiles what changed and nothing else (ninja keeps score in build/). MAX_JOBS sets the number of compilers at once, 2
unless given.

Four extensions: `_runtime` (the grid driver and the CUDA runtime; knows nothing of torch), `_tensors` (device="cuda"
and c10::cuda for a torch without CUDA), `_operators` (which operators of torch a candidate called, on any device) and
`_cuda` (launches on a real GPU; knows nothing of torch, and finds the driver when it is first used). The first two, or
the last, are loaded with RTLD_GLOBAL: candidates find cuda*, c10::cuda::* and kernelevo_launch there (see
kernelevo/emulator/runtime.py and kernelevo/devices/cuda.py). With a CUDA build of torch `_tensors` is left out, since
device="cuda" is the GPU's there: the emulator then says that it cannot be used.
"""

import os
import shutil
from pathlib import Path

import pybind11
import torch
from setuptools import setup
from setuptools.command.build_py import build_py
from torch.utils.cpp_extension import BuildExtension, CppExtension, include_paths

os.environ.setdefault("MAX_JOBS", "2")
ROOT = Path(__file__).parent.resolve()
FLAGS = ["-std=c++20", "-O2", "-g0", "-Wall", "-Wextra", "-Werror", "-fvisibility=hidden", "-pthread"]


def sources(*folders: str) -> list[str]:
    """C++ files of csrc/FOLDER, relative to the root as setuptools wants them."""
    return [str(p.relative_to(ROOT)) for folder in folders for p in sorted((ROOT / "csrc" / folder).glob("*.cpp"))]


def headers(*folders: str) -> list[str]:
    return [str(p) for folder in folders for p in sorted((ROOT / "csrc" / folder).rglob("*.h"))]


def system(*folders: str) -> list[str]:
    """-isystem flags: warnings in other people's headers are not ours."""
    return [flag for folder in folders for flag in ("-isystem", folder)]


CUDA_DECLARATIONS = str(ROOT / "csrc" / "cuda_runtime" / "include")

runtime = CppExtension(
    "kernelevo.emulator._runtime",
    sources("emulator", "cuda_runtime"),
    depends=headers("emulator", "cuda_runtime"),
    include_dirs=[],
    libraries=[],
    library_dirs=[],
    extra_compile_args=FLAGS + system(CUDA_DECLARATIONS, pybind11.get_include()),
)
# CppExtension adds torch to whatever it is given; this one must not need torch.
runtime.include_dirs, runtime.libraries, runtime.library_dirs = [], ["dl"], []

tensors = CppExtension(
    "kernelevo.emulator._tensors",
    sources("tensors"),
    depends=headers("tensors", "cuda_runtime"),
    # The CUDA runtime's symbols are in _runtime, which is loaded first.
    extra_compile_args=FLAGS + system(CUDA_DECLARATIONS, str(ROOT / "csrc" / "tensors" / "include"), *include_paths()),
)
tensors.include_dirs = []

operators = CppExtension(
    "kernelevo.devices._operators", sources("operators"), extra_compile_args=FLAGS + system(*include_paths())
)
operators.include_dirs = []

cuda = CppExtension(
    "kernelevo.devices._cuda",
    sources("cuda_device"),
    depends=headers("cuda_device"),
    extra_compile_args=FLAGS + system(pybind11.get_include()),
)
cuda.include_dirs, cuda.libraries, cuda.library_dirs = [], ["dl"], []

extensions = [runtime, operators, cuda]
if torch.version.cuda is None and torch.version.hip is None:
    extensions.append(tensors)


class BuildPython(build_py):
    """Takes db/migrations and tasks/ along, so that an ordinary install can upgrade older archives and has tasks."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            package = Path(self.build_lib) / "kernelevo"
            ignored = shutil.ignore_patterns("__pycache__")
            for source, target in (("db/migrations", "archive/migrations"), ("tasks", "tasks/library")):
                shutil.copytree(ROOT / source, package / target, ignore=ignored, dirs_exist_ok=True)


setup(ext_modules=extensions, cmdclass={"build_ext": BuildExtension, "build_py": BuildPython})
