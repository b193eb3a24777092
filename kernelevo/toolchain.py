"""Finds the compilers and libraries that builds need: nvcc, host C++ compilers, ninja, torch, Python's headers.

Takes the environment (PATH, CUDA_HOME, CUDA_PATH, installed wheels), gives a frozen `Toolchain`, or a ToolchainError
that says what is missing and how to get it. `report()` gives the same facts as lines for `kernelevo doctor`.
Versions are asked for once per process. It compiles nothing and does not import torch.

Standard library only, and no import of kernelevo at module level: the Makefile runs this file before anything is
installed, as `python kernelevo/toolchain.py --has-nvcc` (exit status 0 or 1), and `--which-torch` when torch is: it
says which devices this build of torch leaves out (exit status 1: there is no torch).
"""

from __future__ import annotations

import functools
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MINIMUM_NVCC = (12, 8)
MINIMUM_CLANG = 16
TOOLKITS = Path("/usr/local")  # where NVIDIA's installers put toolkits
GET_NVCC = 'pip install "kernelevo[nvcc]", or install the CUDA toolkit >= 12.8 and set CUDA_HOME'
GET_GXX = "apt install g++"
GET_CLANG = "apt install clang lld (version 16 or newer: clang-19 lld-19 on Debian 12)"
GET_NINJA = "pip install ninja"
GET_TORCH = "pip install torch==2.13.0"
GET_CUDA_TORCH = (
    "--device cuda needs a CUDA build of torch: set pip's index (PIP_INDEX_URL, PIP_EXTRA_INDEX_URL or PIP_FIND_LINKS) "
    "to one that has it, install torch==2.13.0 from there, and then kernelevo again"
)
GET_CPU_TORCH = (
    "kernelevo's emulator needs a CPU build of torch: set pip's index (PIP_INDEX_URL, PIP_EXTRA_INDEX_URL or "
    "PIP_FIND_LINKS) to one that has it, and install torch==2.13.0+cpu"
)
GET_PYTHON_HEADERS = f"apt install python{sys.version_info.major}.{sys.version_info.minor}-dev"


@dataclass(frozen=True, slots=True, kw_only=True)
class Nvcc:
    """One CUDA compiler and its parts, all of one release."""

    path: Path
    version: str  # "13.0.88"
    ptxas: Path
    include: Path  # folder with cuda_runtime.h


@dataclass(frozen=True, slots=True, kw_only=True)
class HostCompiler:
    """One C++ compiler."""

    path: Path
    family: str  # "clang++" or "g++"
    version: str  # "19.1.7"
    linker: Path | None  # ld.lld of the same release, for clang++; None: the compiler's own default


@dataclass(frozen=True, slots=True, kw_only=True)
class Torch:
    """The installed PyTorch, found without importing it."""

    version: str  # "2.13.0+cpu"
    include: tuple[Path, ...]
    lib: Path  # folder with libtorch_cpu.so
    cuda: bool  # whether it is a CUDA build (has libc10_cuda.so)


@dataclass(frozen=True, slots=True, kw_only=True)
class Toolchain:
    """Everything a build runs or includes."""

    nvcc: Nvcc
    host: HostCompiler  # of the host pass: the fastest one found
    gxx: HostCompiler | None  # what nvcc itself uses as its host compiler, when there is a g++
    ninja: Path
    torch: Torch
    python_include: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One line of `kernelevo doctor`."""

    name: str
    found: str | None  # version and path; None: missing
    advice: str | None  # how to get it, or what it would gain
    required: bool


@functools.cache
def find_toolchain(host_compiler: str | None = None) -> Toolchain:
    """The toolchain of this machine, with the fastest host compiler, or the one that is named.

    host_compiler: "clang++" or "g++", or the path of one. Raises ToolchainError naming everything that is missing.
    """
    nvcc, refused = find_nvcc()
    hosts = tuple(h for h in find_host_compilers() if host_compiler in (None, h.family, h.path.name, str(h.path)))
    ninja, torch, python_include = find_ninja(), find_torch(), find_python_include()
    missing = [
        f"{name} ({advice})"
        for name, found, advice in (
            (refused or "nvcc >= 12.8", nvcc, GET_NVCC),
            (f"the host compiler {host_compiler}" if host_compiler else "a C++ compiler", hosts, GET_GXX),
            ("ninja", ninja, GET_NINJA),
            ("torch with its C++ headers", torch, GET_TORCH),
            ("Python.h", python_include, GET_PYTHON_HEADERS),
        )
        if not found
    ]
    if missing or nvcc is None or ninja is None or torch is None or python_include is None:
        from kernelevo.errors import ToolchainError

        raise ToolchainError("cannot build kernels; missing: " + "; ".join(missing), next_step="kernelevo doctor")
    gxx = next((host for host in find_host_compilers() if host.family == "g++"), None)
    return Toolchain(nvcc=nvcc, host=hosts[0], gxx=gxx, ninja=ninja, torch=torch, python_include=python_include)


def report() -> tuple[Report, ...]:
    """What was found and what to do about the rest, one line per part."""
    nvcc, refused = find_nvcc()
    hosts = {host.family: host for host in reversed(find_host_compilers())}
    clang, gxx = hosts.get("clang++"), hosts.get("g++")
    ninja, torch, python_include = find_ninja(), find_torch(), find_python_include()
    return (
        Report(
            name="nvcc",
            found=f"{nvcc.version} {nvcc.path}" if nvcc else None,
            advice=None if nvcc else f"{refused or 'not found'}; {GET_NVCC}",
            required=True,
        ),
        Report(
            name="g++",
            found=f"{gxx.version} {gxx.path}" if gxx else None,
            advice=None if gxx else GET_GXX,
            required=True,
        ),
        Report(
            name="clang++ and lld",
            found=f"{clang.version} {clang.path}" if clang else None,
            advice=None if clang else f"builds are about three times faster with clang++: {GET_CLANG}",
            required=False,
        ),
        Report(name="ninja", found=str(ninja) if ninja else None, advice=None if ninja else GET_NINJA, required=True),
        Report(
            name="torch",
            found=f"{torch.version} {torch.lib.parent}" if torch else None,
            advice=None if torch else GET_TORCH,
            required=True,
        ),
        Report(
            name="Python headers",
            found=str(python_include) if python_include else None,
            advice=None if python_include else GET_PYTHON_HEADERS,
            required=True,
        ),
    )


@functools.cache
def find_nvcc() -> tuple[Nvcc | None, str | None]:
    """The first usable nvcc and None, or None and why the ones that exist are of no use."""
    refused: str | None = None
    for path in _nvcc_places():
        found = _inspect_nvcc(path)
        if isinstance(found, Nvcc):
            return found, None
        refused = refused or found
    return None, refused


def _nvcc_places() -> Iterator[Path]:
    on_path = shutil.which("nvcc")
    if on_path:
        yield Path(on_path)
    homes = [Path(os.environ[name]) for name in ("CUDA_HOME", "CUDA_PATH") if os.environ.get(name)]
    homes += sorted(TOOLKITS.glob("cuda*"), key=_version_in_name, reverse=True)
    homes += [wheel for folder in sys.path if folder for wheel in sorted(Path(folder).glob("nvidia/cu[0-9]*"))]
    for home in homes:
        nvcc = home / "bin" / "nvcc"
        if nvcc.is_file():
            yield nvcc


def _version_in_name(path: Path) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", path.name))


def _inspect_nvcc(path: Path) -> Nvcc | str:
    """The compiler at `path` with its parts, or why it is of no use."""
    version = _first_match(r"\bV(\d+\.\d+\.\d+)", _output(path, "--version"))
    if version is None:
        return f"{path} does not run"
    if tuple(int(part) for part in version.split(".")[:2]) < MINIMUM_NVCC:
        return f"{path} is {version}, older than 12.8"
    # nvcc on the PATH is often a wrapper script; only nvcc itself knows where its parts are.
    dry_run = _output(path, "-dryrun", "-ptx", "-x", "cu", os.devnull, "-o", os.devnull)
    bin_folder = Path(_first_match(r"_HERE_=(.+)", dry_run) or path.resolve().parent)
    top = bin_folder.parent
    includes = [top / "include", top / "targets" / f"{platform.machine()}-linux" / "include"]
    include = next((folder for folder in includes if (folder / "cuda_runtime.h").is_file()), None)
    ptxas = bin_folder / "ptxas"
    if include is None:
        return f"{path} has no cuda_runtime.h in {includes[0]}"
    if not (include / "crt" / "host_defines.h").is_file():
        return f"{path} has no crt/host_defines.h in {include} (wheel nvidia-cuda-crt)"
    if not any((folder / "bin" / "cicc").is_file() for folder in (top / "nvvm", top / "nvvm64")):
        return f"{path} has no nvvm/bin/cicc in {top} (wheel nvidia-nvvm)"
    release = ".".join(version.split(".")[:2])
    if _first_match(r"\bV(\d+\.\d+)\.", _output(ptxas, "--version")) != release:
        return f"{ptxas} is missing or not of release {release} like {path}"
    macro = _first_match(r"#define\s+CUDART_VERSION\s+(\d+)", _text(include / "cuda_runtime_api.h")) or "0"
    if f"{int(macro) // 1000}.{int(macro) % 1000 // 10}" != release:
        return f"{include} has headers of CUDA {macro}, not of release {release} like {path}"
    return Nvcc(path=path, version=version, ptxas=ptxas, include=include.resolve())


@functools.cache
def find_host_compilers() -> tuple[HostCompiler, ...]:
    """C++ compilers, the fastest for our builds first: the newest clang++ with its lld, then g++."""
    found = [compiler for compiler in (_newest_clang(), _gxx()) if compiler]
    return tuple(found)


def _newest_clang() -> HostCompiler | None:
    names = {"clang++"}
    for folder in os.environ.get("PATH", os.defpath).split(os.pathsep):
        names |= {path.name for path in Path(folder or ".").glob("clang++-[0-9]*")}
    best: HostCompiler | None = None
    for name in names:
        path = shutil.which(name)
        version = path and _first_match(r"clang version (\d+\.\d+\.\d+)", _output(Path(path), "--version"))
        if not path or not version or int(version.split(".")[0]) < MINIMUM_CLANG:
            continue
        linker = _matching_lld(version)
        # Apple's and vendors' clangs without lld would still work, but g++ is then the better known path.
        if linker and (best is None or _numbers(version) > _numbers(best.version)):
            best = HostCompiler(path=Path(path), family="clang++", version=version, linker=linker)
    return best


def _matching_lld(version: str) -> Path | None:
    major = version.split(".", maxsplit=1)[0]
    for name in (f"ld.lld-{major}", "ld.lld"):
        path = shutil.which(name)
        if path and (_first_match(r"LLD (\d+)\.", _output(Path(path), "--version")) == major):
            return Path(path)
    return None


def _gxx() -> HostCompiler | None:
    path = shutil.which("g++")
    version = path and _output(Path(path), "-dumpfullversion").strip()
    if not path or not version:
        return None
    return HostCompiler(path=Path(path), family="g++", version=version, linker=None)


@functools.cache
def find_ninja() -> Path | None:
    beside = shutil.which("ninja", path=str(Path(sys.executable).parent))
    found = beside or shutil.which("ninja")
    return Path(found) if found else None


@functools.cache
def find_torch() -> Torch | None:
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return None
    root = Path(spec.origin).parent
    version = _first_match(r"__version__ = '([^']+)'", _text(root / "version.py"))
    include, lib = root / "include", root / "lib"
    if version is None or not (include / "ATen" / "ATen.h").is_file():
        return None
    return Torch(
        version=version,
        include=(include, include / "torch" / "csrc" / "api" / "include"),
        lib=lib,
        cuda=(lib / "libc10_cuda.so").exists(),
    )


@functools.cache
def find_python_include() -> Path | None:
    include = Path(sysconfig.get_paths()["include"])
    return include if (include / "Python.h").is_file() else None


def _output(path: Path, *arguments: str) -> str:
    """What a command prints, on either stream; empty when it cannot be run."""
    try:
        done = subprocess.run([path, *arguments], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout + done.stderr


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _first_match(pattern: str, text: str) -> str | None:
    match = re.search(pattern, text)
    return match.group(1).strip() if match else None


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


if __name__ == "__main__":
    if sys.argv[1:] == ["--which-torch"]:
        installed = find_torch()
        if installed is None:
            sys.exit(f"torch is not installed; {GET_TORCH}")
        if installed.cuda:
            print(f"torch {installed.version} is built for CUDA: the emulator is left out. {GET_CPU_TORCH}")
        sys.exit(0)
    if sys.argv[1:] != ["--has-nvcc"]:
        sys.exit("usage: python kernelevo/toolchain.py --has-nvcc | --which-torch")
    sys.exit(0 if find_nvcc()[0] else 1)
