"""Builds with the real compilers: what they give, and what they say about broken sources."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from kernelevo.build import MODULE, build, symbols
from kernelevo.build.bench import KERNEL as BENCH
from kernelevo.errors import ToolchainError
from kernelevo.records import Build, BuildMethod, Candidate, Diagnostic
from kernelevo.toolchain import Toolchain

pytestmark = pytest.mark.nvcc

HERE = Path(__file__).parent
MODULE_END = 'PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) { m.def("forward", &forward, "f"); }\n'


def source_of(body: str, *, includes: str = "#include <torch/extension.h>\n") -> str:
    """`body` starts at line 2."""
    return includes + body + MODULE_END


def errors(result: Build) -> list[Diagnostic]:
    return [diagnostic for diagnostic in result.diagnostics if diagnostic.severity == "error"]


# --- what a build gives -----------------------------------------------------------------------------------------------


def test_a_build_gives_a_module_its_ptx_and_the_resources_of_every_kernel(built: Callable[[str], Build]) -> None:
    result = built("softmax")
    assert result.method is BuildMethod.SPLIT and result.fallback_reason is None and not errors(result)
    assert result.artifact is not None and result.artifact.name == f"{MODULE}.so"
    assert result.ptx is not None and result.ptx.with_suffix(".cubin").read_bytes()[:4] == b"\x7fELF"
    entries = symbols.entries(result.ptx.read_text())
    assert {kernel.kernel for kernel in result.resources} == entries
    by_type = {re.sub(r".*softmax_kernelI(.*)Li256E.*", r"\1", kernel.kernel): kernel for kernel in result.resources}
    assert set(by_type) == {"f", "d", "N3c104HalfE", "N3c108BFloat16E"}
    assert by_type["f"].shared_bytes == 8 * 4 and by_type["d"].shared_bytes == 8 * 8
    assert all(8 <= kernel.registers <= 255 for kernel in result.resources)
    assert "nvcc" in result.compiler and "torch" in result.compiler


@pytest.mark.parametrize("name", ["softmax", "layernorm", "shapes", "launches", "libraries"])
def test_the_host_names_every_kernel_as_the_ptx_does(built: Callable[[str], Build], name: str) -> None:
    result = built(name)
    assert result.artifact is not None and result.ptx is not None, result.diagnostics
    entries = symbols.entries(result.ptx.read_text())
    entries -= {entry for entry in entries if "cub" in entry}  # CUB brings a kernel of its own, which nobody launches
    names = frozenset(map(symbols.own_name, entries))
    assert symbols.exported_kernels(result.artifact, names) == entries


def test_lines_in_the_ptx_are_the_candidates_own(built: Callable[[str], Build]) -> None:
    result = built("layernorm")
    assert result.ptx is not None
    text = result.ptx.read_text()
    files = {number: path for number, path in re.findall(r'^\s*\.file\s+(\d+) "([^"]+)"', text, re.MULTILINE)}
    places = {(files[file], int(line)) for file, line in re.findall(r"^\s*\.loc\s+(\d+) (\d+)", text, re.MULTILINE)}
    source = BENCH.read_text().splitlines()
    ldg = next(number for number, line in enumerate(source, 1) if "__ldg(" in line)
    assert any(Path(path).name == "candidate.cu" and line == ldg for path, line in places)


RECORDER = r"""
#include <cstdio>
#include <cstring>
extern "C" int kernelevo_launch(const char* entry, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
                                unsigned bz, size_t shared, void* stream, void** arguments) {
  std::printf("{\"entry\": \"%s\", \"grid\": [%u, %u, %u], ", entry, gx, gy, gz);
  std::printf("\"block\": [%u, %u, %u], \"shared\": %zu, \"words\": [", bx, by, bz, shared);
  for (int i = 0; arguments[i]; ++i) {
    unsigned word;
    std::memcpy(&word, arguments[i], 2);
    std::printf("%s%u", i ? ", " : "", word & 0xffffu);
  }
  std::printf("]}\n");
  return 0;
}
"""
CALLER = """
import ctypes, importlib.util, os, sys, torch
recorder, module = sys.argv[1:]
ctypes.CDLL(recorder, mode=ctypes.RTLD_GLOBAL)
sys.setdlopenflags(os.RTLD_LAZY)  # what the recorder lacks of the CUDA runtime is not called
spec = importlib.util.spec_from_file_location("kernelevo_candidate", module)
loaded = importlib.util.module_from_spec(spec)
spec.loader.exec_module(loaded)
address = loaded.forward(torch.zeros(6))
sys.stdout.flush()
print(address & 0xffff)
"""


def test_launches_hand_over_entry_geometry_and_arguments(built: Callable[[str], Build], tmp_path: Path) -> None:
    result = built("launches")
    assert result.artifact is not None and result.ptx is not None, result.diagnostics
    (tmp_path / "recorder.cpp").write_text(RECORDER)
    recorder = tmp_path / "recorder.so"
    subprocess.run(["g++", "-shared", "-fPIC", tmp_path / "recorder.cpp", "-o", recorder], check=True)
    ran = subprocess.run(
        [sys.executable, "-c", CALLER, recorder, result.artifact], capture_output=True, text=True, check=True
    )
    *lines, last = ran.stdout.splitlines()
    address = int(last)
    launches = [json.loads(line) for line in lines]
    half = 0x3F000000 & 0xFFFF  # the low half of a float is zero here; geometry and integers tell arguments apart
    assert [(x["entry"], x["grid"], x["block"], x["shared"], x["words"]) for x in launches] == [
        ("_ZN12_GLOBAL__N_16hiddenIfEEvPT_f", [1, 2, 3], [4, 5, 6], 28, [address, half]),
        ("_ZN2ns10overloadedEPf4Pair", [6, 1, 1], [32, 1, 1], 0, [address, 11]),
        ("_ZN2ns10overloadedEPdl", [1, 1, 1], [1, 1, 1], 0, [0, 12]),
        ("plain", [2, 1, 1], [3, 1, 1], 0, [address, launches[3]["words"][1]]),
        ("_Z7countedILi9EEvis", [1, 1, 1], [1, 1, 1], 1024, [5, 7]),
        ("_Z7countedILi8EEvis", [1, 1, 1], [1, 1, 1], 0, [8, 7]),
        ("_Z7countedILi8EEvis", [4, 1, 1], [1, 1, 1], 0, [1, 2]),
    ]
    assert {x["entry"] for x in launches} <= symbols.entries(result.ptx.read_text())


def test_the_other_host_compiler_gives_the_same_kernels(
    built: Callable[[str], Build], toolchain: Toolchain, cache_folder: Path
) -> None:
    if toolchain.gxx is None or toolchain.gxx == toolchain.host:
        pytest.skip("needs clang++ and g++")
    first = built("launches")
    candidate = Candidate(source=(HERE / "candidates" / "launches.cu").read_text(), entry="forward")
    other = replace(toolchain, host=toolchain.gxx)
    second = build(candidate, target="sm_90", toolchain=other, cache=cache_folder, method=BuildMethod.SPLIT)
    assert first.ptx is not None and first.artifact is not None
    assert second.ptx is not None and second.artifact is not None, second.diagnostics
    assert first.ptx.read_text() == second.ptx.read_text()
    names = frozenset(map(symbols.own_name, symbols.entries(first.ptx.read_text())))
    assert symbols.exported_kernels(first.artifact, names) == symbols.exported_kernels(second.artifact, names)


def test_a_constant_variable_is_a_symbol_of_the_same_name_on_both_sides(built: Callable[[str], Build]) -> None:
    result = built("shapes")
    assert result.artifact is not None and result.ptx is not None
    ptx, module = result.ptx.read_text(), result.artifact.read_bytes()
    for name in ("coefficients", "hidden_constant", "_ZN12_GLOBAL__N_116unnamed_constantE", "counter"):
        assert re.search(rf"\.(const|global) .* {name}\b", ptx), name
        assert b"\0" + name.encode() + b"\0" in module, name


# --- what is said about broken sources --------------------------------------------------------------------------------

FORWARD = "torch::Tensor forward(torch::Tensor x) { return x; }\n"
KERNEL = "__global__ void k(float* x, int n) { x[0] = n; }\n"


@pytest.mark.parametrize(
    ("body", "line", "column", "stage", "text"),
    [
        pytest.param(
            "__global__ void k(float* x) {\n  int i = threadIdx.x;\n  x[i] = yy + 1;\n}\n" + FORWARD,
            4, 10, "device", 'identifier "yy" is undefined', id="unknown name in a kernel",
        ),
        pytest.param(
            "__global__ void k(float* x) {\n  x[0] = 1.0f\n}\n" + FORWARD,
            4, None, "device", 'expected a ";"', id="syntax in a kernel",
        ),
        pytest.param(
            "torch::Tensor forward(torch::Tensor x) {\n  auto y = torch::empty_lik(x);\n  return y;\n}\n",
            3, None, "device", "empty_lik", id="unknown function of torch",
        ),
        pytest.param(
            "torch::Tensor forward(torch::Tensor x) {\n  int n = x.sized();\n  return x;\n}\n",
            3, None, "device", "sized", id="unknown method of Tensor",
        ),
        pytest.param(
            KERNEL + "torch::Tensor forward(torch::Tensor x) {\n  k<<<1, 2>>>(x, 1);\n  return x;\n}\n",
            4, 15, "device", "no suitable conversion function", id="wrong type in a launch",
        ),
        pytest.param(
            KERNEL + "torch::Tensor forward(torch::Tensor x) {\n  k<<<1, 2>>>(x.data_ptr<float>());\n  return x;\n}\n",
            4, None, "device", "too few arguments", id="too few arguments of a launch",
        ),
        pytest.param(
            "torch::Tensor forward(torch::Tensor x) {\n  return x\n}\n",
            4, None, "device", 'expected a ";"', id="syntax in host code",
        ),
        pytest.param(
            "__global__ void k(float* x) {\n  __shared__ float s[60000];\n  s[threadIdx.x] = x[0];\n"
            "  __syncthreads();\n"
            "  x[threadIdx.x] = s[1];\n}\ntorch::Tensor forward(torch::Tensor x) {\n"
            "  k<<<1, 2>>>(x.data_ptr<float>());\n  return x;\n}\n",
            None, None, "ptxas", "too much shared data", id="too much shared memory",
        ),
        pytest.param(
            "torch::Tensor forward(torch::Tensor x) {\n  auto s = at::cuda::getCurrentCUDAStream();\n  return x;\n}\n",
            3, 22, "device", "getCurrentCUDAStream", id="a header of torch that is not included",
        ),
        pytest.param(
            '#include "mine.h"\n' + FORWARD, 2, None, "device", "mine.h", id="a header that is not there",
        ),
        pytest.param(
            "torch::Tensor forward(torch::Tensor x) {\n  if (x.numel()) {\n  return x;\n}\n", 6, None, "device", "",
            id="a brace that is never closed",
        ),
    ],
)  # fmt: skip
def test_an_error_has_its_place_and_waits_for_no_standard_build(
    body: str, line: int | None, column: int | None, stage: str, text: str, toolchain: Toolchain, cache_folder: Path
) -> None:
    candidate = Candidate(source=source_of(body), entry="forward")
    result = build(candidate, target="sm_90", toolchain=toolchain, cache=cache_folder)
    assert result.artifact is None and result.method is None and result.fallback_reason is None
    first = errors(result)[0]
    assert (first.line, first.stage) == (line, stage), result.diagnostics
    assert text in first.text
    if column is not None:
        assert first.column == column


@pytest.mark.parametrize(
    ("source", "line", "text"),
    [
        ("int x;\n", None, "no PYBIND11_MODULE"),
        ("// PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {}\n", None, "no PYBIND11_MODULE"),
        ('\nPYBIND11_MODULE(mine, m) { m.def("forward", &f); }', 2, "named mine"),
        (
            '\n\nPYBIND11_MODULE(TORCH_EXTENSION_NAME, m) { m.def("run", &f); }',
            3,
            'exports run, not the entry "forward"',
        ),
        ('TORCH_LIBRARY(mine, m) { m.def("forward", f); }', None, "TORCH_LIBRARY"),
        ("int a;\0", 1, "NUL"),
    ],
)
def test_a_module_that_cannot_serve_is_refused_before_compiling(
    source: str, line: int | None, text: str, toolchain: Toolchain, tmp_path: Path
) -> None:
    unused = tmp_path / "cache"
    result = build(Candidate(source=source, entry="forward"), target="sm_90", toolchain=toolchain, cache=unused)
    (diagnostic,) = result.diagnostics
    assert result.artifact is None and diagnostic.stage == "read" and diagnostic.line == line
    assert text in diagnostic.text
    assert not unused.exists()


def test_a_module_built_by_helpers_is_left_to_the_compilers() -> None:
    from kernelevo.build.read import read

    for body in ("bind(m);", "DEFINE_ALL(m);", "m.def(name(), &f);", 'm.def("other", &f); bind_more(m, 1);'):
        source = f"PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {{ {body} }}"
        assert read(Candidate(source=source, entry="forward")) == (), body


def test_a_flood_of_errors_is_cut_to_twenty(built: Callable[[str], Build]) -> None:
    body = "".join(f"__global__ void k{i}(float* x) {{ x[0] = missing_{i}; }}\n" for i in range(200))
    result = built(source_of(body + FORWARD))
    assert not result.succeeded and len(result.diagnostics) == 20
    assert [d.line for d in result.diagnostics] == list(range(2, 22))
    assert {d.column for d in result.diagnostics} == {39, 40}  # with one digit and with two


def test_a_compilation_that_does_not_end_is_ended_and_not_kept(
    toolchain: Toolchain, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kernelevo.build.SPLIT_SECONDS", 0.2)
    candidate = Candidate(source=source_of(KERNEL + FORWARD), entry="forward")
    result = build(candidate, target="sm_90", toolchain=toolchain, cache=cache)
    assert not result.succeeded and errors(result)[0].text.startswith("out of time")
    assert not list((cache / "builds").glob("*")) and not list((cache / "work").iterdir())
    monkeypatch.undo()
    assert build(candidate, target="sm_90", toolchain=toolchain, cache=cache).succeeded


def test_an_unknown_target_is_the_callers_mistake(toolchain: Toolchain, tmp_path: Path) -> None:
    with pytest.raises(ToolchainError, match="unknown target 'hopper'"):
        build(Candidate(source="", entry="forward"), target="hopper", toolchain=toolchain, cache=tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(1000)
def test_what_the_split_build_cannot_judge_goes_to_the_standard_build(
    toolchain: Toolchain, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kernelevo.build.STANDARD_SECONDS", 900.0)  # a minute on an idle machine, tests run on any
    body = (
        "#define DEFINE(name, op) __global__ void name(float* x) { x[0] = x[0] op 2.0f; }\nDEFINE(twice, *)\n"
        "torch::Tensor forward(torch::Tensor x) {\n  twice<<<1, 1>>>(x.data_ptr<float>());\n"
        "  return torch::nn::functional::relu(x);\n}\n"
    )
    candidate = Candidate(source=source_of(body), entry="forward")
    result = build(candidate, target="sm_90", toolchain=toolchain, cache=cache)
    assert result.succeeded, result.diagnostics
    assert result.method is BuildMethod.STANDARD
    assert result.fallback_reason == "line 2: a kernel is defined by a macro"
    assert result.ptx is not None and symbols.entries(result.ptx.read_text()) == {"_Z5twicePf"}
    assert [kernel.kernel for kernel in result.resources] == ["_Z5twicePf"]
    monkeypatch.setattr("kernelevo.build.processes.run", lambda *_, **__: pytest.fail("a compiler was started"))
    again = build(candidate, target="sm_90", toolchain=toolchain, cache=cache)
    assert again.cached and again.artifact == result.artifact
