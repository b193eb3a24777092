"""The main technique is what the PTX does: of the shipped seeds, of rewrites of them, and of small texts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from kernelevo.build.technique import TECHNIQUES, technique
from kernelevo.models.mutate import RULE_OF
from kernelevo.models.rewrites.syntax import apply_edits, parse
from kernelevo.records import Build

REPOSITORY = Path(__file__).parents[2]


def ptx_of(build: Build) -> str:
    assert build.ptx is not None, build.diagnostics
    return build.ptx.read_text()


@pytest.mark.nvcc
@pytest.mark.parametrize(
    ("seed", "expected"),
    [
        ("cross_entropy", "shared-memory reduction"),
        ("depthwise_conv2d", "plain"),
        ("gelu", "plain"),
        ("layernorm", "shared-memory reduction"),
        ("linear_relu", "plain"),
        ("rmsnorm", "shared-memory reduction"),
        ("silu_mul", "plain"),  # three instances of one template
        ("softmax", "shared-memory reduction"),
    ],
)
def test_seeds_are_what_they_are_written_as(built: Callable[[str], Build], seed: str, expected: str) -> None:
    assert technique(ptx_of(built((REPOSITORY / "tasks" / seed / "seed.cu").read_text()))) == expected


@pytest.mark.nvcc
@pytest.mark.parametrize(
    ("seed", "rule", "expected"),
    [
        ("linear_relu", "tile", "shared-memory tiling"),
        ("softmax", "warp_shuffle", "warp shuffles"),
        ("gelu", "vectorize", "vectorised access"),
        ("gelu", "grid_stride", "persistent"),
    ],
)
def test_a_rewrite_of_a_seed_is_what_the_rewrite_says(
    built: Callable[[str], Build], seed: str, rule: str, expected: str
) -> None:
    source = (REPOSITORY / "tasks" / seed / "seed.cu").read_text()
    site = next(iter(RULE_OF[rule].sites(parse(source))))
    assert technique(ptx_of(built(apply_edits(source, site.edits)))) == expected


@pytest.mark.nvcc
def test_tensor_cores_come_before_all_else(built: Callable[[str], Build]) -> None:
    assert technique(ptx_of(built("libraries"))) == "tensor cores"


def kernel(body: str, name: str = "_Z4workPf") -> str:
    return f".visible .entry {name}(\n.param .u64 {name}_param_0\n)\n{{\n.reg .f32 %f<9>;\n{body}\nret;\n}}\n"


STORE = "st.global.f32 [%rd1], %f1;"
LOAD = "ld.global.nc.f32 %f1, [%rd1];"
READ_BACK = "bar.sync 0;\nld.shared.f32 %f3, [%r2];"
GRID = "mov.u32 %r7, %nctaid.x;\nmul.lo.s32 %r8, %r7, %ntid;"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (STORE, "plain"),
        ("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%f1}, {%r1}, {%r2}, {%f1};", "tensor cores"),
        ("wgmma.mma_async.sync.aligned.m64n8k16.f32.f16.f16 {%f1}, %rd1, %rd2, 1, 1, 1, 0, 0;", "tensor cores"),
        (f"{LOAD}\nst.shared.f32 [%r1], %f1;\n{READ_BACK}", "shared-memory tiling"),
        (
            f"{LOAD}\n.loc 1 7 3\ncvt.rn.f16.f32 %h1, %f1;\n@%p1 st.shared.b16 [%r1], %h1;\n{READ_BACK}",
            "shared-memory tiling",
        ),
        (f"cp.async.ca.shared.global [%r1], [%rd1], 16;\n{READ_BACK}", "shared-memory tiling"),
        (f"{LOAD}\nst.shared.f32 [%r1], %f1;", "plain"),  # never read back
        (f"{LOAD}\nfma.rn.f32 %f2, %f1, %f1, %f2;\nst.shared.f32 [%r1], %f2;\n{READ_BACK}", "shared-memory reduction"),
        (f"atom.shared.add.f32 %f1, [%r1], %f2;\n{READ_BACK}", "shared-memory reduction"),
        (
            f"st.shared.f32 [%r1], %f2;\n{READ_BACK}\n{{ .reg .pred p; shfl.sync.down.b32 %f4|p, %f3, 1, 31, -1; }}",
            "warp shuffles",
        ),
        ("redux.sync.add.s32 %r1, %r2, -1;", "warp shuffles"),
        ("ld.global.nc.v4.f32 {%f1, %f2, %f3, %f4}, [%rd1];", "vectorised access"),
        ("st.global.v2.f32 [%rd1], {%f1, %f2};", "vectorised access"),
        ("ld.param.v2.u32 {%r1, %r2}, [a];\nld.shared.v4.f32 {%f1, %f2, %f3, %f4}, [%r1];", "plain"),
        (
            f"{GRID}\n$L__BB0_1:\n.loc 1 7 3\nadd.s32 %r3, %r3, %r8;\nsetp.lt.s32 %p1, %r3, %r4;\n@%p1 bra $L__BB0_1;",
            "persistent",
        ),
        (f"{GRID}\nadd.s32 %r3, %r3, %r8;\n$L__BB0_1:\nadd.s32 %r5, %r5, 1;\n@%p1 bra $L__BB0_1;", "plain"),
        (f"$L__BB0_1:\nadd.s32 %r3, %r3, %ntid.x;\n@%p1 bra $L__BB0_1;\n{GRID}", "plain"),  # strides over a block
        ("// mma.sync.aligned.m16n8k16\n/* shfl.sync.down.b32 */", "plain"),
    ],
)
def test_each_technique_is_read_from_the_instructions_that_make_it(body: str, expected: str) -> None:
    assert technique(kernel(body)) == expected


def test_kernels_that_write_are_counted_once_for_a_template() -> None:
    assert technique(kernel(STORE, "_Z5firstPf") + kernel(STORE, "_Z6secondPf")) == "multi-kernel"
    assert technique(kernel(STORE, "_Z5firstPf") + kernel(STORE, "_Z5firstPd")) == "plain"
    assert technique(kernel(STORE, "_Z5firstPf") + kernel("", "_Z5emptyv")) == "plain"


def test_what_a_device_function_does_counts_and_no_text_raises() -> None:
    function = ".func (.param .b32 r) sum(.param .b32 a)\n{\nshfl.sync.bfly.b32 %r1, %r2, 1, 31, -1;\nret;\n}\n"
    assert technique(function + kernel(STORE)) == "warp shuffles"
    assert {technique(text) for text in ("", ".entry", "{;;}", ".entry a(){ @%p1 ; bra ; L: }")} == {"plain"}
    assert len(set(TECHNIQUES)) == len(TECHNIQUES)
