"""PTX text that nvcc does not write every day, and text that must be refused with its place. Needs no nvcc."""

from __future__ import annotations

import numpy as np
import pytest

from kernelevo import emulator
from kernelevo.emulator import LaunchStatus, PtxError, Unsupported, Variant
from kernelevo.emulator.instruction import Address, Immediate, Pair, Position, Register, Symbol, Vector
from kernelevo.emulator.ptx import Body, parse_ptx

from .core_harness import pack

HEADER = ".version 8.0\n.target sm_90\n.address_size 64\n"
BOTH = pytest.mark.parametrize("variant", [Variant.FAST, Variant.COUNTED], ids=["fast", "diverged"])


def kernel(body: str, parameters: str = ".param .u64 out", before: str = "") -> str:
    return f"{HEADER}{before}.visible .entry k({parameters})\n{{\n{body}\n}}\n"


def body_of(text: str) -> Body:
    return parse_ptx(kernel(text), "k.ptx").functions["k"].body


def run(text: str, *arguments: np.ndarray | np.generic, variant: Variant, block: int = 32, grid: int = 1) -> None:
    compiled = emulator.compile_kernel(emulator.load_ptx(text, "k.ptx"), "k", (block, 1, 1), variant)
    report = emulator.launch(compiled, (grid, 1, 1), (block, 1, 1), 0, pack(*arguments), time_limit_seconds=20)
    assert report.status is LaunchStatus.DONE, report.message


STORE = """
    ld.param.u64 %rd1, [out]; mov.u32 %r99, %tid.x; mul.wide.u32 %rd2, %r99, 4; add.s64 %rd1, %rd1, %rd2;
    st.global.u32 [%rd1], %r0; ret;
"""
REGISTERS = ".reg .b32 %r<100>; .reg .b64 %rd<20>; .reg .pred %p<10>; .reg .b16 %h<10>;"


def test_operands_of_every_kind() -> None:
    body = body_of(
        """.reg .b32 %r<9>; .reg .b64 %rd<3>; .reg .pred %p<3>; .reg .f32 %f<5>; .shared .align 4 .b8 tile[64];
        ld.global.v4.f32 {%f0, _, %f2, %f3}, [%rd1+-16];
        setp.lt.and.s32 %p0|%p1, %r1, -7, !%p2;
        mov.u32 %r2, tile+8;
        st.shared.f32 [tile+12], 0f3F800000;
        mov.u32 %r3, 0x1F; mov.u32 %r4, 017; mov.u32 %r5, WARP_SZ; mov.u32 %r6, 4294967295U;
        @!%p1 bra done;
        done: ret;"""
    )
    load, negation, compare, move, store, *_ = body.instructions
    assert load.operands[0] == Vector((Register("%f0"), None, Register("%f2"), Register("%f3")))
    assert load.operands[1] == Address(Register("%rd1"), -16)
    assert (negation.opcode, compare.operands[3]) == ("not", negation.operands[0])
    assert compare.operands[0] == Pair(Register("%p0"), Register("%p1"))
    assert compare.operands[2] == Immediate(None, -7, False)
    assert move.operands[1] == Symbol("tile", 8)
    assert store.operands == (Address(Symbol("tile"), 12), Immediate(0x3F800000, 1.0, True))
    assert [i.operands[1].value for i in body.instructions[5:9]] == [31, 15, 32, 4294967295]
    branch = body.instructions[9]
    assert branch.guard == Register("%p1") and branch.guard_negated
    assert body.labels == {"done": 10}


def test_every_instruction_knows_its_place() -> None:
    body = body_of(
        ".reg .b32 %r<3>;\n// a comment; with a semicolon\n  mov.u32 %r0, 1; /* two\nlines */ mov.u32 %r1, 2;"
    )
    assert [i.position for i in body.instructions] == [Position("k.ptx", 8, 3), Position("k.ptx", 9, 10)]


def test_source_lines_follow_loc_and_inlining() -> None:
    body = body_of(
        ".reg .b32 %r<3>;\n.loc 1 7 3\nmov.u32 %r0, 1;\n"
        ".loc 2 400 1, function_name $L__info_string0, inlined_at 1 9 5\nmov.u32 %r1, 2;\n"
    )
    assert [i.source_line for i in body.instructions] == [7, 9]


@BOTH
def test_scopes_of_inline_assembly_have_registers_of_their_own(variant: Variant) -> None:
    text = f"""{REGISTERS} mov.u32 %r0, %tid.x; mov.u32 %r1, 5;
    {{ .reg .b32 t; .reg .b32 %r1; add.u32 t, %r0, 1; mov.u32 %r1, 100; mul.lo.u32 %r0, t, %r1; }}
    {{ .reg .b32 t; mov.b32 t, 7; add.u32 %r0, %r0, t; }}
    add.u32 %r0, %r0, %r1;"""
    out = np.zeros(32, np.int32)
    run(kernel(text + STORE), out, variant=variant)
    np.testing.assert_array_equal(out, (np.arange(32) + 1) * 100 + 12)


@BOTH
@pytest.mark.parametrize("index", ["%tid.x", "%ctaid.x"], ids=["divergent", "uniform"])
def test_jump_tables(variant: Variant, index: str) -> None:
    text = f"""{REGISTERS} mov.u32 %r1, {index}; rem.u32 %r1, %r1, 3; mov.u32 %r0, 0;
    table: .branchtargets a, b, c;
    brx.idx %r1, table;
    a: mov.u32 %r0, 10; bra.uni join;
    b: mov.u32 %r0, 20;
    c: add.u32 %r0, %r0, 1;
    join: ld.param.u64 %rd1, [out]; mov.u32 %r99, %tid.x; mov.u32 %r98, %ctaid.x; mad.lo.u32 %r99, %r98, 32, %r99;
    mul.wide.u32 %rd2, %r99, 4; add.s64 %rd1, %rd1, %rd2; st.global.u32 [%rd1], %r0; ret;"""
    out = np.zeros(128, np.int32)
    run(kernel(text), out, variant=variant, grid=4)
    i = np.arange(128) % 32 if index == "%tid.x" else np.arange(128) // 32
    np.testing.assert_array_equal(out, np.array([10, 21, 1])[i % 3])


@BOTH
def test_guarded_instructions_leave_other_lanes_alone(variant: Variant) -> None:
    text = f"""{REGISTERS} mov.u32 %r1, %tid.x; and.b32 %r2, %r1, 1; setp.eq.u32 %p0, %r2, 0; mov.u32 %r0, 5;
    @%p0 add.u32 %r0, %r1, 100; @!%p0 mov.u32 %r0, %r1; setp.gt.u32 %p1, %r1, 20; @%p1 exit;"""
    out = np.full(32, -1, np.int32)
    run(kernel(text + STORE), out, variant=variant)
    i = np.arange(32)
    np.testing.assert_array_equal(out, np.where(i > 20, -1, np.where(i % 2 == 0, i + 100, i)))


@BOTH
def test_initialised_variables_hold_numbers_floats_and_addresses(variant: Variant) -> None:
    before = """.global .align 4 .b32 numbers[4] = {1, 0x10, -3};
    .const .align 4 .f32 half = 0f3F000000;
    .global .align 8 .u64 pointers[2] = {numbers+4, generic(numbers)};
    """
    text = f"""{REGISTERS} mov.u64 %rd3, pointers; ld.global.u64 %rd4, [%rd3]; ld.global.u64 %rd5, [%rd3+8];
    ld.global.u32 %r1, [%rd4]; ld.global.u32 %r2, [%rd5+8]; ld.const.u32 %r3, [half];
    ld.global.u32 %r4, [numbers+12];
    xor.b32 %r0, %r1, %r2; xor.b32 %r0, %r0, %r3; add.u32 %r0, %r0, %r4;"""
    out = np.zeros(32, np.uint32)
    run(kernel(text + STORE, before=before), out, variant=variant)
    assert (out == (0x10 ^ 0xFFFFFFFD ^ 0x3F000000)).all()


@BOTH
def test_lanes_past_the_barrier_id_wait_where_their_register_says(variant: Variant) -> None:
    text = f"""{REGISTERS} .shared .align 4 .b8 s[256]; mov.u32 %r1, %tid.x; shr.u32 %r2, %r1, 5; add.u32 %r3, %r2, 1;
    shl.b32 %r4, %r1, 2; mov.u32 %r5, s; add.u32 %r5, %r5, %r4; st.shared.u32 [%r5], %r1;
    bar.sync %r3, 32; xor.b32 %r6, %r4, 124; mov.u32 %r5, s; add.u32 %r5, %r5, %r6; ld.shared.u32 %r0, [%r5];"""
    out = np.zeros(64, np.int32)
    run(kernel(text + STORE), out, variant=variant, block=64)
    np.testing.assert_array_equal(out, np.arange(64) ^ 31)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("\n  wgmma.fence.sync.aligned;", r"k\.ptx:7:3: wgmma\.fence\.sync\.aligned is not emulated"),
        ("tex.2d.v4.f32.f32 {%r1,%r2,%r3,%r4}, [t, {%r1,%r2}];", r"k\.ptx:6:\d+: "),
        ("ld.global.L3::huge.u32 %r1, [%rd1];", r"ld\.global\.L3::huge\.u32 is not emulated"),
        ("add.funny.s32 %r1, %r1, %r1;", r"add\.funny\.s32 is not emulated"),
        ("bra nowhere;", r"nowhere"),
        ("mov.u64 %rd1, nothing;", r"nothing"),
    ],
)
def test_what_is_not_emulated_is_refused_with_its_place(body: str, message: str) -> None:
    module = emulator.load_ptx(kernel(REGISTERS + body + " ret;"), "k.ptx")
    with pytest.raises((Unsupported, PtxError), match=message):
        emulator.compile_kernel(module, "k", (32, 1, 1))


def test_the_line_of_the_cu_file_is_named_when_known() -> None:
    module = emulator.load_ptx(kernel(".reg .b32 %r<3>;\n.loc 1 41 3\nadd.funny.s32 %r1, %r1, %r1;\nret;"), "k.ptx")
    with pytest.raises(Unsupported, match=r"line 41 of the \.cu file"):
        emulator.compile_kernel(module, "k", (32, 1, 1))


@pytest.mark.parametrize("text", ["garbage", HEADER + ".entry k( {", kernel(".reg .b32 %r<2>; add.u32 %r5, 1, 2;")])
def test_text_that_is_not_ptx_is_an_error_with_its_place(text: str) -> None:
    with pytest.raises(PtxError, match=r"k\.ptx:\d+:\d+: "):
        _ = emulator.load_ptx(text, "k.ptx").file.functions["k"].body


def test_launches_that_cannot_be_are_refused() -> None:
    module = emulator.load_ptx(kernel("ret;"), "k.ptx")
    with pytest.raises(ValueError, match="1024"):
        emulator.compile_kernel(module, "k", (1025, 1, 1))
    compiled = emulator.compile_kernel(module, "k", (32, 1, 1))
    with pytest.raises(ValueError, match="compiled for blocks"):
        emulator.launch(compiled, (1, 1, 1), (64, 1, 1), 0, b"\0" * 8)
    with pytest.raises(ValueError, match="8 bytes of parameters"):
        emulator.launch(compiled, (1, 1, 1), (32, 1, 1), 0, b"")


def test_code_comes_from_the_disk_the_second_time(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    from pathlib import Path

    from kernelevo.emulator import jit

    assert isinstance(tmp_path, Path)
    monkeypatch.setattr(jit, "_kept_in", tmp_path)
    text = kernel(f"{REGISTERS} mov.u32 %r0, %tid.x; " + STORE)
    out = np.zeros(64, np.int32)
    run(text, out, variant=Variant.FAST, block=64)
    (kept,) = tmp_path.iterdir()

    def refuse(*_: object) -> bytes:
        raise AssertionError("compiled again")

    with monkeypatch.context() as patch:
        patch.setattr(jit, "compile_module", refuse)
        out[:] = 0
        run(text, out, variant=Variant.FAST, block=64)
        np.testing.assert_array_equal(out, np.arange(64))
        with pytest.raises(AssertionError, match="compiled again"):
            run(text, out, variant=Variant.FAST, block=32)
    kept.write_bytes(b"cut short")
    out[:] = 0
    run(text, out, variant=Variant.FAST, block=64)
    np.testing.assert_array_equal(out, np.arange(64))
