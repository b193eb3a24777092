"""Finding the compilers: on this machine, and on machines made of shell scripts."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from kernelevo import toolchain
from kernelevo.devices.emulator import EmulatorDevice
from kernelevo.errors import ToolchainError

SCRIPT = Path(toolchain.__file__)


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Forgets what was found, before and after."""

    def forget() -> None:
        for function in (
            toolchain.find_toolchain,
            toolchain.find_nvcc,
            toolchain.find_host_compilers,
            toolchain.find_ninja,
            toolchain.find_torch,
            toolchain.find_python_include,
        ):
            function.cache_clear()

    forget()
    yield forget  # type: ignore[misc]
    monkeypatch.undo()
    forget()


def script(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def toolkit(home: Path, *, nvcc: str = "13.1.12", ptxas: str = "13.1.12", headers: int = 13010) -> Path:
    """A CUDA toolkit that says these versions."""
    script(
        home / "bin" / "nvcc",
        f'case "$1" in --version) echo "release, V{nvcc}";; *) echo "#$ _HERE_={home}/bin" >&2;; esac',
    )
    script(home / "bin" / "ptxas", f"echo 'release, V{ptxas}'")
    script(home / "nvvm" / "bin" / "cicc", "")
    (home / "include" / "crt").mkdir(parents=True)
    (home / "include" / "crt" / "host_defines.h").touch()
    (home / "include" / "cuda_runtime.h").touch()
    (home / "include" / "cuda_runtime_api.h").write_text(f"#define CUDART_VERSION  {headers}\n")
    return home


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine with nothing on it but /bin/sh; the folder is its PATH."""
    path = tmp_path / "path"
    path.mkdir()
    monkeypatch.setenv("PATH", str(path))
    for name in ("CUDA_HOME", "CUDA_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "path", [str(tmp_path / "site-packages")])
    monkeypatch.setattr(toolchain, "TOOLKITS", tmp_path / "usr-local")
    return path


def test_nothing_found_is_said_with_how_to_get_each(bare: Path) -> None:
    with pytest.raises(ToolchainError) as caught:
        toolchain.find_toolchain()
    message = str(caught.value)
    for words in ("nvcc >= 12.8", 'pip install "kernelevo[nvcc]"', "a C++ compiler", "apt install g++", "doctor"):
        assert words in message
    missing = {line.name: line for line in toolchain.report() if line.found is None}
    assert {"nvcc", "g++", "clang++ and lld"} <= set(missing)
    assert not missing["clang++ and lld"].required and missing["nvcc"].required
    assert all(line.advice for line in missing.values())


def test_a_toolkit_is_found_by_environment_folder_and_wheel(
    bare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh: Callable[[], None]
) -> None:
    wheel = toolkit(tmp_path / "site-packages" / "nvidia" / "cu13")
    found, _ = toolchain.find_nvcc()
    assert found is not None and found.path == wheel / "bin" / "nvcc" and found.version == "13.1.12"
    local = toolkit(tmp_path / "usr-local" / "cuda-13.1")
    toolkit(tmp_path / "usr-local" / "cuda-12.9", nvcc="12.9.1", ptxas="12.9.1", headers=12090)
    fresh()
    found, _ = toolchain.find_nvcc()
    assert found is not None and found.path == local / "bin" / "nvcc"
    home = toolkit(tmp_path / "elsewhere", nvcc="12.8.7", ptxas="12.8.7", headers=12080)
    monkeypatch.setenv("CUDA_HOME", str(home))
    fresh()
    found, _ = toolchain.find_nvcc()
    assert found is not None and found.path == home / "bin" / "nvcc"
    assert found.ptxas == home / "bin" / "ptxas" and found.include == home / "include"


@pytest.mark.parametrize(
    ("versions", "reason"),
    [
        ({"nvcc": "12.4.1", "ptxas": "12.4.1", "headers": 12040}, "older than 12.8"),
        ({"ptxas": "12.9.0"}, "ptxas is missing or not of release 13.1"),
        ({"headers": 13000}, "headers of CUDA 13000"),
    ],
)
def test_a_toolkit_that_cannot_serve_is_refused_with_the_reason(
    bare: Path, tmp_path: Path, versions: dict[str, object], reason: str
) -> None:
    toolkit(tmp_path / "usr-local" / "cuda", **versions)  # type: ignore[arg-type]
    found, refused = toolchain.find_nvcc()
    assert found is None and refused is not None and reason in refused


def test_the_newest_clang_with_its_own_lld_is_taken(bare: Path) -> None:
    script(bare / "clang++", "echo 'clang version 15.0.7'")
    script(bare / "clang++-17", "echo 'clang version 17.0.6'")
    script(bare / "ld.lld-17", "echo 'LLD 17.0.6'")
    script(bare / "clang++-21", "echo 'clang version 21.1.0'")  # no lld of its release
    script(bare / "ld.lld", "echo 'LLD 17.0.6'")
    script(bare / "g++", "echo 13.2.0")
    first, second = toolchain.find_host_compilers()
    assert (first.family, first.version, first.linker) == ("clang++", "17.0.6", bare / "ld.lld-17")
    assert (second.family, second.version, second.linker) == ("g++", "13.2.0", None)


@pytest.mark.nvcc
def test_this_machine_has_what_builds_need() -> None:
    found = toolchain.find_toolchain()
    assert found.nvcc.ptxas.is_file() and found.ninja.is_file()
    assert (found.torch.lib / "libtorch_cpu.so").is_file() and (found.python_include / "Python.h").is_file()
    assert toolchain.find_toolchain() is found


@pytest.mark.parametrize("has_nvcc", [False, True])
def test_the_makefile_can_ask_for_nvcc_before_anything_is_installed(bare: Path, tmp_path: Path, has_nvcc: bool) -> None:
    environment = {"PATH": str(bare)}
    if has_nvcc:
        environment["CUDA_HOME"] = str(toolkit(tmp_path / "toolkit"))
    # -S: no installed package can be imported. CUDA_HOME wins over what this machine has.
    command = [sys.executable, "-S", SCRIPT, "--has-nvcc"]
    status = subprocess.run(command, env=environment, cwd="/", check=False).returncode
    expected = has_nvcc or any(Path("/usr/local").glob("cuda*/bin/nvcc"))
    assert status == (0 if expected else 1)


@pytest.mark.parametrize("cuda", [False, True])
def test_a_cuda_build_of_torch_is_named_before_it_is_imported_and_the_emulator_refuses_it(
    tmp_path: Path, fresh: Callable[[], None], monkeypatch: pytest.MonkeyPatch, cuda: bool
) -> None:
    root = tmp_path / "torch"
    for name in ("include/ATen/ATen.h", *(["lib/libc10_cuda.so"] if cuda else [])):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    (root / "version.py").write_text("__version__ = '2.13.0+of_a_test'\n")
    (root / "__init__.py").write_text("raise SystemExit('torch was imported')\n")

    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, SCRIPT, "--which-torch"]
    done = subprocess.run(command, env=environment, cwd="/", check=False, capture_output=True, text=True)
    said = f"torch 2.13.0+of_a_test is built for CUDA: the emulator is left out. {toolchain.GET_CPU_TORCH}"
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, said if cuda else "", "")

    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    fresh()
    device = EmulatorDevice.__new__(EmulatorDevice)  # no fork server: it would import this torch
    why = device.unavailable()
    assert why == (f"torch 2.13.0+of_a_test is built for CUDA; {toolchain.GET_CPU_TORCH}" if cuda else None)
