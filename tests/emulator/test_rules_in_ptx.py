"""Every row of the rule table once more, as PTX text through the whole emulator.

The rules are proven alone by the other tests; here the parser, the analysis and the translator call them: with values
that differ by lane, that are uniform, under a guard, and in divergent code. Atomics have tests of their own below.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from kernelevo import emulator
from kernelevo.emulator import rules
from kernelevo.emulator.emit import is_signed, size_of
from kernelevo.emulator.rules.row import Row

from .rule_harness import compile_forms, instruction_of
from .test_rules_table import ROWS, sample_of

THREADS, SLOT = 64, 8
SKIPPED = (
    "atom",
    "red",
    "fence",
    "membar",
    "griddepcontrol",
    "prefetch",
    "prefetchu",
    "applypriority",
    "discard",
    "pmevent",
    "nanosleep",
    "activemask",
    "elect",
)
HEADER = ".version 9.0\n.target sm_90\n.address_size 64\n"


@dataclass(frozen=True)
class Case:
    """A form with the types of what it takes and gives, carries included."""

    form: str
    row: Row
    destinations: tuple[str, ...]
    sources: tuple[str, ...]
    shape: tuple[str, ...]  # operand words after the form


def case_of(text: str) -> Case:
    instruction = instruction_of(text)
    row = rules.find(instruction)
    assert row
    destinations, sources = row.signature(instruction)
    _form, *shape = text.split()
    extra = ("pred",)
    return Case(text, row, destinations + extra * row.carry_out, sources + extra * row.carry_in, tuple(shape))


def cases() -> list[Case]:
    """One form per row, and one for each of its types."""
    found = []
    for row in ROWS:
        if row.opcode not in SKIPPED:
            forms = {types: text for text in sample_of(row) for types in [instruction_of(text).types]}
            found += [case_of(text) for text in list(forms.values())[:6]]
    found += [
        case_of(text)
        for text in (
            "setp.lt.f32 p|q r r",
            "setp.gt.and.s32 p|q r r r",
            "mov.b64 {2} r",
            "mov.b64 r {2}",
            "shfl.sync.idx.b32 d|p r r r r",
            "match.all.sync.b32 d|p r r",
        )
    ]
    return list({case.form: case for case in found}.values())


CASES = cases()
GROUPS = [CASES[start : start + 60] for start in range(0, len(CASES), 60)]


def register(kind: str) -> str:
    """The register class that nvcc uses for a type: 8-bit values live in 16-bit registers."""
    if kind == "pred":
        return "p"
    if kind in ("f32", "f64"):
        return {"f32": "f", "f64": "d"}[kind]
    return {8: "h", 16: "h", 32: "r", 64: "l", 128: "q"}[size_of(kind)]


CLASSES = {"p": "pred", "f": "f32", "d": "f64", "h": "b16", "r": "b32", "l": "b64", "q": "b128"}


class Kernel:
    """Builds the text of a kernel: loads, the instruction, stores."""

    def __init__(self, name: str, mode: str) -> None:
        self.name, self.mode, self.lines, self.count = name, mode, list[str](), 0

    def new(self, kind: str) -> str:
        self.count += 1
        return f"%{register(kind)}{self.count}"

    def load(self, kind: str, place: int) -> str:
        target = self.new(kind)
        address = f"[%inputs+{place * THREADS * SLOT}]"
        if kind == "pred":
            self.count += 1
            raw = f"%h{self.count}"
            self.lines += [f"ld.global.u8 {raw}, {address};", f"setp.ne.s16 {target}, {raw}, 0;"]
        else:
            self.lines.append(f"ld.global.b{max(size_of(kind), 8)} {target}, {address};")
        return target

    def add(self, case: Case, sources: list[str], result: int) -> None:
        """The instruction on registers; its results go to slots from `result` on."""
        row, plain = case.row, list(case.destinations)
        carry_out = [plain.pop()] if row.carry_out else []
        if row.carry_in:
            carry = sources.pop()
            self.count += 1
            wide = f"%r{self.count}"
            self.lines += [f"selp.b32 {wide}, -1, 0, {carry};", f"add.cc.u32 %r0, {wide}, 1;"]
        targets = [self.new(kind) for kind in plain]
        if self.mode == "guarded":
            self.lines += [f"{_initial(target, kind)}" for target, kind in zip(targets, plain, strict=True)]
        guard = "@%half " if self.mode == "guarded" else ""
        self.lines.append(f"{guard}{case.form.split()[0]} {self._operands(case, targets, sources)};")
        if carry_out:
            self.count += 1
            self.lines += [f"addc.u32 %r{self.count}, 0, 0;", f"setp.ne.s32 %p{self.count}, %r{self.count}, 0;"]
            targets.append(f"%p{self.count}")
        for k, (target, kind) in enumerate(zip(targets, case.destinations, strict=True)):
            self.store(target, kind, result + k)

    def _operands(self, case: Case, targets: list[str], sources: list[str]) -> str:
        words = iter(case.shape or ["r"] * 16)
        remaining, given, parts = list(targets), list(sources), []
        while remaining or given:
            word = next(words)
            pool = remaining or given
            if word.startswith("#"):
                parts.append(word[1:])
            elif word.startswith("{"):
                parts.append("{" + ", ".join(pool.pop(0) for _ in range(int(word[1:-1]))) + "}")
            elif "|" in word:
                parts.append("|".join(pool.pop(0) for _ in range(2)))
            else:
                parts.append(pool.pop(0))
        parts += [word[1:] for word in words if word.startswith("#")]
        return ", ".join(parts)

    def store(self, source: str, kind: str, place: int) -> None:
        address = f"[%outputs+{place * THREADS * SLOT}]"
        if kind == "pred":
            self.count += 1
            self.lines += [f"selp.b32 %r{self.count}, 1, 0, {source};", f"st.global.u8 {address}, %r{self.count};"]
        else:
            self.lines.append(f"st.global.b{size_of(kind)} {address}, {source};")

    def text(self) -> str:
        """The whole entry. Divergent code runs with the odd lanes first, then with the even ones."""
        declared = "\n".join(f".reg .{kind} %{letter}<{self.count + 1}>;" for letter, kind in CLASSES.items())
        body = "\n".join(self.lines)
        index = "mov.u32 %r0, %tid.x;" if self.mode != "uniform" else "mov.u32 %r0, 0;"
        if self.mode == "divergent":
            body = f"@%half bra ODD;\n{body}\nbra DONE;\nODD:\n{body}\nDONE:"
        return f"""
.visible .entry {self.name}(.param .u64 inputs, .param .u64 outputs)
{{
{declared}
.reg .pred %half;
.reg .b64 %inputs, %outputs, %scaled;
ld.param.u64 %inputs, [inputs];
ld.param.u64 %outputs, [outputs];
{index}
mul.wide.u32 %scaled, %r0, {SLOT};
add.s64 %inputs, %inputs, %scaled;
mov.u32 %r0, %tid.x;
mul.wide.u32 %scaled, %r0, {SLOT};
add.s64 %outputs, %outputs, %scaled;
and.b32 %r0, %r0, 1;
setp.eq.u32 %half, %r0, 1;
{body}
ret;
}}
"""


def _initial(target: str, kind: str) -> str:
    if kind == "pred":
        return f"setp.ne.s32 {target}, 0, 0;"
    zero = {"f32": "0f00000000", "f64": "0d0000000000000000"}.get(kind, "0")
    return f"mov.{CLASSES[register(kind)]} {target}, {zero};"


def inputs_of(case: Case) -> list[Any]:
    """THREADS values per source: special bit patterns and random ones."""
    rng = np.random.default_rng(zlib.crc32(case.form.encode()))
    columns = []
    for kind in case.sources:
        size = size_of(kind)
        raw = rng.integers(0, 1 << min(size, 63), THREADS, dtype=np.uint64)
        if kind in ("f32", "f64", "f16", "bf16") and rng.random() < 0.8:
            values = rng.standard_normal(THREADS) * 8
            if kind in ("f32", "f64"):
                columns.append(values.astype({"f32": np.float32, "f64": np.float64}[kind]))
            else:
                half = values.astype(np.float16).view(np.uint16)
                columns.append(
                    half if kind == "f16" else (values.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
                )
        elif kind == "f32":
            columns.append(raw.astype(np.uint32).view(np.float32))
        elif kind == "f64":
            columns.append((raw * np.uint64(2)).view(np.float64))
        elif kind == "pred":
            columns.append((raw & np.uint64(1)).astype(np.uint8))
        else:
            sizes = max(size, 8)
            typed = raw >> np.uint64(int(rng.integers(0, sizes // 2)))
            columns.append(typed.astype(f"uint{sizes}").view(f"{'int' if is_signed(kind) else 'uint'}{sizes}"))
    if case.row.warp_wide:
        columns[-1] = np.full(THREADS, 0xFFFFFFFF, np.uint32)  # the member mask
    return columns


def runnable(case: Case) -> bool:
    """Whether a kernel can hold it: 128-bit slots are tested elsewhere, a literal cannot be loaded."""
    return all(size_of(kind) <= 64 for kind in (*case.destinations, *case.sources))


def run(kernels: dict[str, tuple[Kernel, list[Case]]], inputs: list[Any], count: int) -> dict[str, Any]:
    module = emulator.load_ptx(HEADER + "".join(kernel.text() for kernel, _ in kernels.values()), "rows.ptx")
    memory = np.zeros((len(inputs), THREADS, SLOT), np.uint8)
    for place, column in enumerate(inputs):
        memory[place, :, : column.itemsize] = column.view(np.uint8).reshape(THREADS, column.itemsize)
    results = {}
    for name in kernels:
        out = np.zeros((count, THREADS, SLOT), np.uint8)
        params = struct.pack("QQ", memory.ctypes.data, out.ctypes.data)
        block = (THREADS, 1, 1)
        report = emulator.launch(emulator.compile_kernel(module, name, block), (1, 1, 1), block, 0, params, threads=1)
        assert report.status is emulator.LaunchStatus.DONE, report.message
        results[name] = out
    return results


MODES = ("varying", "uniform", "guarded", "divergent")


@pytest.mark.parametrize("group", range(len(GROUPS)))
def test_every_row_runs_as_ptx(group: int) -> None:
    chosen = [case for case in GROUPS[group] if runnable(case)]
    expected_of = compile_forms([case.form for case in chosen])
    kernels = {mode: (Kernel(mode, mode), chosen) for mode in MODES}
    inputs: list[Any] = []
    expected: list[tuple[Case, list[Any]]] = []
    place = 0
    for case in chosen:
        literals = [word for word in case.shape if word.startswith("#")]
        columns = inputs_of(case)[: len(case.sources)]
        first = len(inputs)
        if literals:  # the harness takes the literal from the form
            fixed = _literal_places(case)
            columns = [column for k, column in enumerate(columns) if k not in fixed]
        inputs += columns
        loaded = [kind for k, kind in enumerate(case.sources) if not literals or k not in _literal_places(case)]
        for mode, (kernel, _) in kernels.items():
            if mode in ("uniform", "divergent") and case.row.warp_wide:
                continue
            sources = [kernel.load(kind, first + k) for k, kind in enumerate(loaded)]
            kernel.add(case, sources, place)
        expected.append((case, columns))
        place += len(case.destinations)
    results = run(kernels, inputs, place)
    place = 0
    for case, columns in expected:
        for mode in MODES:
            if mode in ("uniform", "divergent") and case.row.warp_wide:
                continue
            given = [np.repeat(column[:1], THREADS) for column in columns] if mode == "uniform" else columns
            active = np.arange(THREADS) % 2 == 1 if mode == "guarded" else np.ones(THREADS, bool)
            got = expected_of(case.form, *given, mask=active if case.row.warp_wide else None)
            for k, (kind, value) in enumerate(
                zip(case.destinations, got if isinstance(got, tuple) else (got,), strict=True)
            ):
                if mode == "guarded" and case.row.carry_out and k == len(case.destinations) - 1:
                    continue  # the carry of the instruction before is left
                width = value.itemsize
                want = np.where(active, value.view(f"uint{8 * width}"), 0)
                mine = results[mode][place + k][:, :width].copy().view(f"uint{8 * width}").reshape(THREADS)
                if kind in ("f32", "f64"):
                    nan = np.isnan(want.astype(f"uint{8 * width}").view(f"float{8 * width}"))
                    mine_nan = np.isnan(mine.view(f"float{8 * width}"))
                    assert np.array_equal(nan, mine_nan), (mode, case.form)
                    mine, want = mine[~nan], want[~nan]
                assert np.array_equal(mine, want), (mode, case.form, mine[:6], want[:6])
        place += len(case.destinations)


def _literal_places(case: Case) -> set[int]:
    """Indices of sources that the form gives as literals."""
    return {k for k, word in enumerate(case.shape[1:]) if word.startswith("#")}


# --- what a form alone does not show


def execute(body: str, *arrays: Any, threads: int = 32) -> None:
    """Runs a kernel whose parameters are the addresses of the arrays, in %rd0 and so on; %tid.x is in %r0."""
    names = [f"p{k}" for k in range(len(arrays))]
    text = f"""{HEADER}
.visible .entry k({", ".join(f".param .u64 {name}" for name in names)})
{{
.reg .pred %p<20>;
.reg .b16 %h<20>;
.reg .b32 %r<40>;
.reg .b64 %rd<40>;
.reg .f32 %f<20>;
.shared .align 8 .b8 tile[256];
{" ".join(f"ld.param.u64 %rd{k}, [{name}];" for k, name in enumerate(names))}
mov.u32 %r0, %tid.x;
mul.wide.u32 %rd30, %r0, 4;
{body}
ret;
}}
"""
    module = emulator.load_ptx(text, "k.ptx")
    params = struct.pack(f"{len(arrays)}Q", *(array.ctypes.data for array in arrays))
    block = (threads, 1, 1)
    report = emulator.launch(emulator.compile_kernel(module, "k", block), (1, 1, 1), block, 0, params, threads=1)
    assert report.status is emulator.LaunchStatus.DONE, report.message


STORE = "add.s64 %rd31, {array}, %rd30; st.global.u32 [%rd31], {value};"


def stored(body: str, value: str, threads: int = 32) -> list[int]:
    """Each thread's `value` after `body`."""
    out = np.zeros(threads, np.uint32)
    execute(body + STORE.format(array="%rd0", value=value), out, threads=threads)
    return [int(each) for each in out]


def test_a_signed_result_in_a_wider_register_is_extended_by_its_sign() -> None:
    got = stored("sub.s32 %r1, %r0, 16; shl.b32 %r1, %r1, 3; cvt.s8.s32 %h1, %r1; cvt.s32.s16 %r2, %h1;", "%r2")
    assert [each - (1 << 32) if each >> 31 else each for each in got] == [8 * (k - 16) for k in range(32)]
    got = stored("add.s32 %r1, %r0, 240; cvt.u8.u32 %h1, %r1; cvt.u32.u16 %r2, %h1;", "%r2")
    assert got == [(240 + k) % 256 for k in range(32)]
    assert stored("add.s32 %r1, %r0, 240; cvt.s32.s8 %r2, %r1;", "%r2")[:2] == [(1 << 32) - 16, (1 << 32) - 15]


def test_carries_travel_through_the_condition_code() -> None:
    body = """add.cc.u32 %r1, %r0, 0xfffffff0; addc.cc.u32 %r2, %r0, 0xffffffff; addc.u32 %r3, 0, 0;
    mad.lo.u32 %r4, %r3, 2, %r2;"""
    expected = []
    for k in range(32):
        low = k + 0xFFFFFFF0
        middle = k + 0xFFFFFFFF + (low >> 32)
        expected.append((2 * (middle >> 32) + middle) & 0xFFFFFFFF)
    assert stored(body, "%r4") == expected
    body = "sub.cc.u32 %r1, %r0, 16; subc.u32 %r2, 100, 0;"
    assert stored(body, "%r2") == [99 if k < 16 else 100 for k in range(32)]
    body = "setp.lt.u32 %p1, %r0, 8; sub.cc.u32 %r1, 0, 1; @%p1 add.cc.u32 %r1, 0, 0; subc.u32 %r2, 5, 0;"
    assert stored(body, "%r2") == [5 if k < 8 else 4 for k in range(32)]


def test_groups_with_their_own_member_masks_reduce_and_vote_apart() -> None:
    groups = """and.b32 %r1, %r0, 3; match.any.sync.b32 %r2, %r1, -1;"""
    masks = [0x11111111 << k % 4 for k in range(32)]
    assert stored(groups, "%r2") == masks
    assert stored(groups + "redux.sync.add.u32 %r3, %r0, %r2;", "%r3") == [sum(range(k % 4, 32, 4)) for k in range(32)]
    assert stored(groups + "setp.gt.u32 %p1, %r0, 15; vote.sync.ballot.b32 %r3, %p1, %r2;", "%r3") == [
        mask & 0xFFFF0000 for mask in masks
    ]
    assert stored(
        groups + "setp.eq.u32 %p1, %r1, 1; vote.sync.all.pred %p2, %p1, %r2; selp.u32 %r3, 1, 0, %p2;", "%r3"
    ) == [int(k % 4 == 1) for k in range(32)]
    assert stored(groups + "match.all.sync.b32 %r3|%p1, %r1, %r2;", "%r3") == masks
    assert stored(groups + "elect.sync %r3|%p1, %r2; selp.u32 %r4, 100, 0, %p1; add.u32 %r5, %r3, %r4;", "%r5") == [
        k % 4 + (100 if k < 4 else 0) for k in range(32)
    ]


def test_elect_chooses_one_lane() -> None:
    assert stored("elect.sync _|%p1, -1; selp.u32 %r1, 1, 0, %p1;", "%r1") == [1] + [0] * 31


def test_a_negated_predicate_operand() -> None:
    body = "setp.lt.u32 %p1, %r0, 4; vote.sync.ballot.b32 %r1, !%p1, -1;"
    assert stored(body, "%r1") == [0xFFFFFFF0] * 32
    body = """setp.lt.u32 %p1, %r0, 4; setp.lt.and.u32 %p2|%p3, %r0, 10, !%p1;
    selp.u32 %r1, 1, 0, %p2; selp.u32 %r2, 2, 0, %p3; or.b32 %r1, %r1, %r2;"""
    assert stored(body, "%r1") == [0 if k < 4 else 1 if k < 10 else 2 for k in range(32)]


def test_divergent_lanes_vote_and_match_among_themselves() -> None:
    body = """setp.lt.u32 %p1, %r0, 12;
    @%p1 bra LOW;
    activemask.b32 %r1;
    bra DONE;
    LOW:
    shfl.sync.down.b32 %r1|%p2, %r0, 1, 31, 0xfff;
    DONE:"""
    got = stored(body, "%r1")
    assert got[:11] == list(range(1, 12)) and got[12:] == [0xFFFFF000] * 20


def test_atomics_of_guarded_and_divergent_lanes_touch_memory_once_each() -> None:
    memory, old = np.zeros(4, np.uint32), np.full(32, 77, np.uint32)
    body = """setp.lt.u32 %p1, %r0, 5; mov.u32 %r1, 77;
    @%p1 atom.global.add.u32 %r1, [%rd0+4], 3;
    @!%p1 red.global.max.u32 [%rd0+8], %r0;
    @%p1 bra SKIP;
    red.global.add.u32 [%rd0], 1;
    SKIP:
    add.s64 %rd31, %rd1, %rd30; st.global.u32 [%rd31], %r1;"""
    execute(body, memory, old)
    assert memory.tolist() == [27, 15, 31, 0]
    assert old.tolist() == [0, 3, 6, 9, 12] + [77] * 27


def test_atomics_in_shared_memory_and_with_vectors() -> None:
    body = """mov.u64 %rd5, tile; setp.eq.u32 %p1, %r0, 0; @%p1 st.shared.u32 [tile], 0; bar.sync 0;
    atom.shared.inc.u32 %r1, [tile], 9; bar.sync 0; ld.shared.u32 %r2, [tile]; atom.shared.exch.b32 %r4, [%rd5+8], %r0;
    mad.lo.u32 %r3, %r2, 100, %r1;"""
    got = stored(body, "%r3", 64)
    assert sorted(each % 100 for each in got) == sorted(k % 10 for k in range(64)) and {
        each // 100 for each in got
    } == {4}
    sums = np.zeros(4, np.float32)
    execute("mov.f32 %f1, 0f3F800000; cvt.rn.f32.u32 %f2, %r0; red.global.v2.f32.add [%rd0], {%f1, %f2};", sums)
    assert sums.tolist() == [32.0, float(sum(range(32))), 0, 0]


def test_a_lock_taken_by_compare_and_swap_serialises_lanes() -> None:
    memory = np.zeros(2, np.uint32)
    body = """LOOP:
    atom.acquire.gpu.global.cas.b32 %r1, [%rd0], 0, 1;
    setp.ne.s32 %p1, %r1, 0;
    @%p1 bra LOOP;
    ld.volatile.global.u32 %r2, [%rd0+4]; add.u32 %r2, %r2, 1; st.volatile.global.u32 [%rd0+4], %r2;
    membar.gl;
    atom.release.gpu.global.exch.b32 %r3, [%rd0], 0;"""
    execute(body, memory, threads=64)
    assert memory.tolist() == [0, 64]


def test_subnormals_survive_a_host_that_flushes_them() -> None:
    torch = pytest.importorskip("torch")
    out = np.zeros(32, np.float32)
    body = """mov.f32 %f1, 0f00000003; add.f32 %f2, %f1, %f1; mul.f32 %f3, %f2, 0f3F000000;
    add.s64 %rd31, %rd0, %rd30; st.global.f32 [%rd31], %f3;"""
    assert torch.set_flush_denormal(True)
    try:
        execute(body, out)
        assert float(torch.tensor([1e-40]) * 1) == 0  # the host's own setting is left as it was
    finally:
        torch.set_flush_denormal(False)
    assert out.view(np.uint32).tolist() == [3] * 32


def test_an_operand_that_no_row_knows_is_refused() -> None:
    with pytest.raises(emulator.Unsupported, match=r"atom\.global\.add\.u32 is not emulated"):
        execute("atom.global.add.u32 %r1, [%rd0], 1, %rd5;", np.zeros(1, np.uint32))


def test_an_instruction_without_a_row_is_refused_with_its_place() -> None:
    with pytest.raises(emulator.Unsupported, match=r"k\.ptx:\d+:\d+: add\.foo\.u32 is not emulated"):
        stored("add.foo.u32 %r1, %r0, 1;", "%r1")
