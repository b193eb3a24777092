"""The rule table as a whole: what it covers, what it refuses, and that every row gives valid code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kernelevo.emulator import rules
from kernelevo.emulator.emit import host_features
from kernelevo.emulator.rules.__main__ import coverage
from kernelevo.emulator.rules.row import Row

from .rule_harness import CompiledRules, instruction_of

FORMS = [
    line.split()[0]
    for line in (Path(__file__).parent / "data" / "ptx_forms.txt").read_text().splitlines()
    if not line.startswith("#")
]
COVERAGE = Path(rules.__file__).parents[1] / "coverage.md"


def test_every_form_of_the_corpus_finds_exactly_one_meaning() -> None:
    missing = [form for form in FORMS if rules.find(instruction_of(form)) is None]
    assert not missing
    assert len(FORMS) > 200


@pytest.mark.parametrize(
    "form",
    [
        "add.u32.foo",
        "add.ftz.rn.f32",
        "add.rn.rz.f32",
        "cvt.rn.s32.f32",
        "cvt.f32.s32",
        "mul.u32",
        "setp.lo.s32",
        "setp.lt.b32",
        "fma.f32",
        "div.f32",
        "ex2.f32",
        "min.NaN.f64",
        "shfl.down.b32",
        "atom.add.s64",
        "atom.fetch.u32",
        "mul.wide.u64",
        "add.b32",
        "shl.u32",
        "add.ftz.f64",
        "rcp.approx.f64",
        "tanh.rn.f32",
        "wgmma.mma_async",
        "add.sat.u32",
    ],
)
def test_what_the_isa_does_not_define_has_no_row(form: str) -> None:
    assert rules.find(instruction_of(form)) is None


def test_the_coverage_listing_is_current() -> None:
    assert COVERAGE.read_text() == coverage(), (
        "run: python -m kernelevo.emulator.rules > kernelevo/emulator/coverage.md"
    )


ROWS = tuple(row for row in rules.TABLE if row not in rules.matrix.ROWS)  # test_matrix.py runs those


def sample_of(row: Row) -> list[str]:
    """Forms that use every type and every modifier of the row at least once, with the operands that they need."""
    base = ["" if "" in choices else max(choices) for choices in row.choices]
    chosen = [base]
    for place, choices in enumerate(row.choices):
        chosen += [[*base[:place], modifier, *base[place + 1 :]] for modifier in sorted(choices)]
    forms = {_form(row, base, types) for types in row.types} | {_form(row, each, row.types[0]) for each in chosen}
    return sorted(form + _shape(form) for form in forms)


def _form(row: Row, modifiers: list[str], types: tuple[str, ...]) -> str:
    return ".".join((row.opcode, *(each for each in modifiers if each), *types))


def _shape(form: str) -> str:
    opcode, *parts = form.split(".")
    if opcode in ("atom", "red"):
        count = next((part[1:] for part in parts if part in ("v2", "v4", "v8")), "")
        value = "{" + count + "}" if count else "r"
        return f" {value} [a] {value}{' r' * ('cas' in parts)}" if opcode == "atom" else f" [a] {value}"
    if opcode == "lop3":
        return " d|p r r r #0x96 r" if "or" in parts or "and" in parts else " r r r r #0x96"
    if opcode in ("prefetch", "prefetchu", "applypriority", "discard"):
        return " [a]"
    if opcode == "setp" and parts[-1].endswith("x2"):
        return " d|p r r r"
    return {"pmevent": " #3"}.get(opcode, "")


@pytest.mark.slow
@pytest.mark.parametrize("features", [host_features(), frozenset({"avx2", "fma", "f16c"})], ids=["host", "avx2"])
def test_every_row_gives_valid_code_for_every_type_and_modifier(features: frozenset[str]) -> None:
    forms = sorted({form for row in ROWS for form in sample_of(row)})[:: 1 if "avx512f" in features else 3]
    for start in range(0, len(forms), 100):
        compiled = CompiledRules(forms[start : start + 100], features)
        assert not outside_names(compiled.assembly)


def outside_names(assembly: str) -> set[str]:
    """Symbols that assembly mentions and does not define. Objects are loaded alone, so there must be none."""
    named = set(re.findall(r"\$([A-Za-z_][\w.]*)", assembly)) | set(re.findall(r"callq?\s+([A-Za-z_][\w.]*)", assembly))
    return {name for name in named if f"\n{name}:" not in assembly}


def test_a_call_of_the_math_library_would_be_noticed() -> None:
    assert outside_names("f:\n\tmovabsq\t$fmaf, %rax\n\tcallq\t*%rax\n") == {"fmaf"}
