"""setp, set, selp and slct for every comparison and type."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from .exact import FORMATS, SPECIAL, Fraction, Value
from .rule_harness import CompiledRules, compile_forms
from .test_rules_floating import as_values
from .test_rules_integer import as_array, columns_of

ORDERED = ("eq", "ne", "lt", "le", "gt", "ge")
FLOATING = [*ORDERED, "equ", "neu", "ltu", "leu", "gtu", "geu", "num", "nan"]
INTEGER = {"u": [*ORDERED, "lo", "ls", "hi", "hs"], "s": ORDERED, "b": ["eq", "ne"]}
FLOAT_FORMS = [f"setp.{op}.{kind}" for op in FLOATING for kind in FORMATS]
INTEGER_FORMS = [f"setp.{op}.{sign}{size}" for sign, ops in INTEGER.items() for op in ops for size in (16, 32, 64)]
OTHER = [
    "setp.lt.and.f32 p|q r r r",
    "setp.gt.or.s32 p|q r r r",
    "setp.ne.xor.u32",
    "setp.lt.f16x2 p|q r r",
    "setp.eq.or.bf16x2 p|q r r r",
    "set.lt.u32.f32",
    "set.gtu.f32.f32",
    "set.le.s32.s64",
    "set.eq.and.u32.u16",
    "set.eq.f16.f16",
    "set.gt.f16x2.f16x2",
    "set.ne.bf16x2.bf16x2",
    "set.lt.u32.f16x2",
    "set.ge.u16.bf16",
    "slct.f32.s32",
    "slct.u64.f32",
    "slct.ftz.u32.f32",
    "selp.b32",
    "selp.f64",
    "selp.b16",
    "selp.f16",
]


@pytest.fixture(scope="module")
def compiled() -> CompiledRules:
    return compile_forms([*FLOAT_FORMS, *INTEGER_FORMS, *OTHER])


def holds(op: str, a: Any, b: Any) -> bool:
    return {"eq": a == b, "ne": a != b, "lt": a < b, "le": a <= b, "gt": a > b, "ge": a >= b}[op]


def order(value: Value) -> Fraction:
    return {"-0": Fraction(0), "inf": Fraction(2) ** 5000, "-inf": -(Fraction(2) ** 5000)}.get(value, value)  # type: ignore[arg-type, return-value]


@pytest.mark.parametrize("lanes", [32, 1])
@pytest.mark.parametrize("form", FLOAT_FORMS)
def test_ordered_comparisons_fail_and_unordered_ones_hold_for_nan(
    compiled: CompiledRules, form: str, lanes: int
) -> None:
    _, op, kind = form.split(".")
    pairs = [(a, b) for a in SPECIAL[kind] for b in SPECIAL[kind]]
    expected = []
    for pair in pairs:
        a, b = (FORMATS[kind].decode(each) for each in pair)
        unordered = "nan" in (a, b)
        if op in ("num", "nan"):
            expected.append(unordered == (op == "nan"))
        elif unordered:
            expected.append(op.endswith("u"))
        else:
            expected.append(holds(op.removesuffix("u"), order(a), order(b)))
    a, b = (as_values(column, kind) for column in zip(*pairs, strict=True))
    assert list(compiled(form, a, b, lanes=lanes).astype(bool)) == expected


@pytest.mark.parametrize("lanes", [32, 1])
@pytest.mark.parametrize("form", INTEGER_FORMS)
def test_integer_comparisons_follow_the_sign_of_the_type(compiled: CompiledRules, form: str, lanes: int) -> None:
    _, op, kind = form.split(".")
    typed = kind.replace("b", "u")
    a, b = columns_of((typed, typed))
    same = {"lo": "lt", "ls": "le", "hi": "gt", "hs": "ge"}.get(op, op)
    got = compiled(form, as_array(a, typed), as_array(b, typed), lanes=lanes)
    assert list(got.astype(bool)) == [holds(same, x, y) for x, y in zip(a, b, strict=True)]


@pytest.mark.parametrize("lanes", [32, 1])
def test_a_second_predicate_gets_the_complement_combined_the_same_way(compiled: CompiledRules, lanes: int) -> None:
    a, b, c = [1.0, 3.0, 1.0, np.nan], [2.0, 2.0, 2.0, 2.0], [1, 1, 0, 1]
    p, q = compiled("setp.lt.and.f32 p|q r r r", a, b, c, lanes=lanes)
    assert p.tolist() == [1, 0, 0, 0] and q.tolist() == [0, 1, 0, 1]
    p, q = compiled("setp.gt.or.s32 p|q r r r", [-1, 1, -1], [0, 0, 0], [0, 0, 1], lanes=lanes)
    assert p.tolist() == [0, 1, 1] and q.tolist() == [1, 0, 1]
    assert compiled("setp.ne.xor.u32", [1, 1], [2, 2], [0, 1], lanes=lanes).tolist() == [1, 0]
    p, q = compiled("setp.lt.f16x2 p|q r r", [0x3C004000], [0x40003C00], lanes=lanes)
    assert (p[0], q[0]) == (0, 1)  # p compares the low halves
    p, q = compiled("setp.eq.or.bf16x2 p|q r r r", [0x3F800000], [0x3F803F80], [0], lanes=lanes)
    assert (p[0], q[0]) == (0, 1)


@pytest.mark.parametrize("lanes", [32, 1])
def test_set_gives_all_ones_or_one(compiled: CompiledRules, lanes: int) -> None:
    assert compiled("set.lt.u32.f32", [1.0, np.nan], [2.0, 2.0], lanes=lanes).tolist() == [0xFFFFFFFF, 0]
    assert compiled("set.gtu.f32.f32", [1.0, np.nan], [2.0, 2.0], lanes=lanes).tolist() == [0.0, 1.0]
    assert compiled("set.le.s32.s64", [-5, 5], [-5, 4], lanes=lanes).tolist() == [-1, 0]
    assert compiled("set.eq.and.u32.u16", [7, 7], [7, 7], [1, 0], lanes=lanes).tolist() == [0xFFFFFFFF, 0]
    assert compiled("set.eq.f16.f16", [0x3C00, 0x7E00, 0x8000], [0x3C00, 0x7E00, 0], lanes=lanes).tolist() == [
        0x3C00,
        0,
        0x3C00,
    ]
    assert compiled("set.gt.f16x2.f16x2", [0x40003C00], [0x3C003C00], lanes=lanes).tolist() == [0x3C000000]
    assert compiled("set.ne.bf16x2.bf16x2", [0x40003F80], [0x3F803F80], lanes=lanes).tolist() == [0x3F800000]
    assert compiled("set.lt.u32.f16x2", [0x3C004000], [0x40003C00], lanes=lanes).tolist() == [0xFFFF0000]
    assert compiled("set.ge.u16.bf16", [0x4000], [0x3F80], lanes=lanes).tolist() == [0xFFFF]


@pytest.mark.parametrize("lanes", [32, 1])
def test_selection(compiled: CompiledRules, lanes: int) -> None:
    assert compiled("slct.f32.s32", 1.0, 2.0, [0, -1, 5], lanes=lanes).tolist() == [1.0, 2.0, 1.0]
    assert compiled("slct.u64.f32", 1, 2, [0.0, -0.0, np.nan, -1e-40], lanes=lanes).tolist() == [1, 1, 2, 2]
    assert compiled("slct.ftz.u32.f32", 1, 2, [-1e-40, -1.0], lanes=lanes).tolist() == [1, 2]
    assert compiled("selp.b32", [1, 1], [2, 2], [1, 0], lanes=lanes).tolist() == [1, 2]
    assert compiled("selp.f64", [1.0, 1.0], [2.0, 2.0], [1, 0], lanes=lanes).tolist() == [1.0, 2.0]
    assert compiled("selp.f16", [0x7E01], [2], [1], lanes=lanes).tolist() == [0x7E01]
