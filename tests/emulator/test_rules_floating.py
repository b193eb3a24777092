"""f32, f64, f16 and bf16 arithmetic against exact rational arithmetic, in every rounding direction."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from kernelevo.emulator.emit import host_features, widened

from . import exact
from .exact import F32, FORMATS, SPECIAL
from .rule_harness import CompiledRules, compile_forms

STORAGE = {
    "f16": (np.uint16, None),
    "bf16": (np.uint16, None),
    "f32": (np.uint32, np.float32),
    "f64": (np.uint64, np.float64),
}
PLAIN = frozenset({"avx2", "fma", "f16c"})  # a machine without AVX-512
MODES = ("rn", "rz", "rm", "rp")
TWO = [f"{op}.{mode}.{kind}" for op in ("add", "sub", "mul", "div") for mode in MODES for kind in ("f32", "f64")]
ONE = [f"{op}.{mode}.{kind}" for op in ("rcp", "sqrt") for mode in MODES for kind in ("f32", "f64")]
THREE = [f"fma.{mode}.{kind}" for mode in MODES for kind in ("f32", "f64")]
HALF = [f"{op}.rn.{kind}" for op in ("add", "sub", "mul") for kind in ("f16", "bf16")]
HALF_FMA = ["fma.rn.f16", "fma.rn.bf16"]
MIXED = [f"fma.{mode}.f32.{kind}" for mode in MODES for kind in ("f16", "bf16")]
UNIFORM = ["add.f32", "sub.f32", "mul.f32", "add.f64", "sub.f64", "mul.f64"]


@pytest.fixture(scope="module", params=["host", pytest.param("avx2", marks=pytest.mark.slow)])
def arithmetic(request: Any) -> CompiledRules:
    features = PLAIN if request.param == "avx2" else host_features()
    return compile_forms([*TWO, *ONE, *THREE, *HALF, *HALF_FMA, *MIXED, *UNIFORM], features)


def as_values(bits: Any, kind: str) -> Any:
    storage, view = STORAGE[kind]
    array = np.asarray(bits, storage)
    return array if view is None else array.view(view)


def as_bits(values: Any, kind: str) -> list[int]:
    return [int(each) for each in np.asarray(values).view(STORAGE[kind][0])]


def operands(kind: str, count: int, limit: int, seed: int = 0) -> list[list[int]]:
    """Special values crossed with each other, then random bits and near-cancelling neighbours; at most `limit` rows."""
    rng = np.random.default_rng(seed)
    special = [int(each) for each in SPECIAL[kind]]
    rows = list(itertools.product(special, repeat=count))
    if len(rows) > limit:
        rows = [rows[int(k)] for k in rng.choice(len(rows), limit, replace=False)]
    size = FORMATS[kind].size
    for _ in range(limit // 3):
        first = int(rng.integers(0, 1 << size, dtype=np.uint64 if size == 64 else np.int64))
        rest = [
            (first ^ int(rng.integers(0, 256))) ^ ((1 << size - 1) * int(rng.integers(2)))
            if rng.random() < 0.5
            else int(rng.integers(0, 1 << size, dtype=np.uint64 if size == 64 else np.int64))
            for _ in range(count - 1)
        ]
        rows.append((first, *rest))
    return [list(column) for column in zip(*rows, strict=True)]


def check(form: str, kind: str, got: Any, expected: list[int], columns: list[list[int]]) -> None:
    shape = FORMATS[kind]
    for place, (mine, want) in enumerate(zip(as_bits(got, kind), expected, strict=True)):
        if shape.decode(want) == "nan":
            assert shape.decode(mine) == "nan", (form, [hex(c[place]) for c in columns], hex(mine))
        else:
            assert mine == want, (form, [hex(c[place]) for c in columns], hex(mine), hex(want))


def expected_of(op: str, mode: str, kind: str, row: tuple[int, ...]) -> int:
    shape = FORMATS[kind]
    values = [shape.decode(bits) for bits in row]
    if op == "add":
        return exact.add(shape, values[0], values[1], mode)
    if op == "sub":
        return exact.add(shape, values[0], shape.decode(row[1] ^ 1 << shape.size - 1), mode)
    if op == "mul":
        return shape.encode(exact.multiply(values[0], values[1]), mode)
    if op == "div":
        return shape.encode(exact.divide(values[0], values[1]), mode)
    if op == "rcp":
        return shape.encode(exact.divide(shape.decode(FORMATS[kind].encode(exact.Fraction(1))), values[0]), mode)
    if op == "sqrt":
        return exact.square_root(shape, values[0], mode)
    return exact.add(shape, exact.multiply(values[0], values[1]), values[2], mode)


@pytest.mark.parametrize("lanes", [32, 1])
@pytest.mark.parametrize("form", [*TWO, *ONE, *THREE, *HALF, *HALF_FMA])
def test_arithmetic_is_rounded_once_in_its_direction(arithmetic: CompiledRules, form: str, lanes: int) -> None:
    op, mode, kind = form.split(".")
    count = {"fma": 3, "rcp": 1, "sqrt": 1}.get(op, 2)
    columns = operands(kind, count, 600)
    expected = [expected_of(op, mode, kind, row) for row in zip(*columns, strict=True)]
    got = arithmetic(form, *(as_values(column, kind) for column in columns), lanes=lanes)
    check(form, kind, got, expected, columns)


@pytest.mark.parametrize("form", MIXED)
def test_mixed_precision_fma_rounds_once_to_f32(arithmetic: CompiledRules, form: str) -> None:
    _, mode, _, narrow = form.split(".")
    a, b = operands(narrow, 2, 600)
    c = operands("f32", 1, 600)[0]
    c = [c[k % len(c)] for k in range(len(a))]
    decode = FORMATS[narrow].decode
    expected = [
        exact.add(exact.F32, exact.multiply(decode(x), decode(y)), exact.F32.decode(z), mode)
        for x, y, z in zip(a, b, c, strict=True)
    ]
    got = arithmetic(form, as_values(a, narrow), as_values(b, narrow), as_values(c, "f32"))
    check(form, "f32", got, expected, [a, b, c])


def test_constants_are_written_with_their_exact_bits() -> None:
    bits = np.array([each for each in exact.SPECIAL_F32 if F32.decode(each) != "nan"], np.uint32)
    assert [widened(int(each)) for each in bits] == as_bits(bits.view(np.float32).astype(np.float64), "f64")
    assert widened(0x7FC00001) == 0x7FF8000020000000 and widened(0xFFFFFFFF) == 0xFFFFFFFFE0000000


def test_a_product_and_a_sum_are_never_contracted(arithmetic: CompiledRules) -> None:
    assert "vfmadd" not in arithmetic.assembly.split('"mul.f32 @32"')[-1].split("ret")[0]
    a = np.float32(1 + 2**-12)
    product = arithmetic("mul.f32", a, a)[0]
    assert arithmetic("sub.f32", product, np.float32(1 + 2**-11))[0] == 0  # a fused result would keep 2^-24


FTZ = [
    "add.ftz.f32",
    "mul.rn.ftz.f32",
    "fma.rn.ftz.f32",
    "neg.ftz.f32",
    "abs.ftz.f32",
    "add.ftz.f16",
    "min.ftz.f32",
    "setp.lt.ftz.f32",
    "ex2.approx.ftz.f32",
    "add.sat.f32",
    "fma.rn.sat.f32",
    "add.rn.ftz.sat.f32",
    "mul.sat.f16",
    "fma.rn.relu.f16",
    "fma.rn.relu.bf16",
    "neg.f32",
    "abs.f64",
    "neg.f16",
    "abs.bf16",
    "neg.f16x2",
    "copysign.f32",
    "copysign.f64",
]


@pytest.fixture(scope="module")
def modified() -> CompiledRules:
    return compile_forms(FTZ)


@pytest.mark.parametrize("lanes", [32, 1])
def test_ftz_flushes_inputs_and_results_and_keeps_their_sign(modified: CompiledRules, lanes: int) -> None:
    tiny = np.float32(1e-40)
    assert as_bits(modified("neg.ftz.f32", [tiny, -tiny], lanes=lanes), "f32") == [0x80000000, 0]
    assert as_bits(modified("abs.ftz.f32", [-tiny], lanes=lanes), "f32") == [0]
    smallest = np.float32(2.0**-126)
    assert as_bits(modified("add.ftz.f32", [smallest], [-smallest * np.float32(1.5)], lanes=lanes), "f32") == [1 << 31]
    assert modified("mul.rn.ftz.f32", tiny, np.float32(2**30), lanes=lanes)[0] == 0
    assert modified("fma.rn.ftz.f32", tiny, np.float32(1e38), np.float32(1), lanes=lanes)[0] == 1
    assert as_bits(modified("min.ftz.f32", [-tiny], [np.float32(1)], lanes=lanes), "f32") == [1 << 31]
    assert modified("setp.lt.ftz.f32", [np.float32(0)], [tiny], lanes=lanes)[0] == 0
    assert modified("ex2.approx.ftz.f32", [np.float32(-130)], lanes=lanes)[0] == 0
    assert list(modified("add.ftz.f16", [0x0001, 0x8001], [0x0001, 0x8001], lanes=lanes)) == [0, 0x8000]


@pytest.mark.parametrize("lanes", [32, 1])
def test_sat_clamps_to_the_unit_interval_and_turns_nan_into_zero(modified: CompiledRules, lanes: int) -> None:
    a = np.array([0.25, 2.0, -1.0, np.nan, np.inf, -np.inf, -0.0], np.float32)
    expected = np.array([0.25, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0], np.float32)
    for form in ("add.sat.f32", "add.rn.ftz.sat.f32"):
        got = modified(form, a, np.zeros_like(a), lanes=lanes)
        assert np.array_equal(got, expected) and not np.signbit(got).any()
    assert np.array_equal(modified("fma.rn.sat.f32", a, np.ones_like(a), np.zeros_like(a), lanes=lanes), expected)
    assert list(modified("mul.sat.f16", [0x7E00, 0x4000, 0xBC00], 0x3C00, lanes=lanes)) == [0, 0x3C00, 0]


@pytest.mark.parametrize("lanes", [32, 1])
def test_relu_clamps_negatives_to_plus_zero_and_gives_the_canonical_nan(modified: CompiledRules, lanes: int) -> None:
    one = 0x3C00
    got = modified("fma.rn.relu.f16", [one, 0xBC00, 0x7E01, 0xFC00], one, 0, lanes=lanes)
    assert list(got) == [one, 0, 0x7FFF, 0]
    assert list(modified("fma.rn.relu.bf16", [0x3F80, 0xBF80, 0xFFC1], 0x3F80, 0, lanes=lanes)) == [0x3F80, 0, 0x7FFF]


@pytest.mark.parametrize("lanes", [32, 1])
def test_sign_operations_touch_only_the_sign(modified: CompiledRules, lanes: int) -> None:
    bits = np.array(exact.SPECIAL_F32, np.uint32)
    got = as_bits(modified("neg.f32", bits.view(np.float32), lanes=lanes), "f32")
    assert got == [int(each) ^ 1 << 31 for each in bits]
    assert list(modified("neg.f16", [0, 0x7C00, 0x8001], lanes=lanes)) == [0x8000, 0xFC00, 0x0001]
    assert list(modified("abs.bf16", [0x8000, 0xFF80], lanes=lanes)) == [0, 0x7F80]
    assert list(modified("neg.f16x2", [0x80003C00], lanes=lanes)) == [0x0000BC00]
    assert np.signbit(modified("copysign.f32", [-0.0], [3.0], lanes=lanes)[0])
    assert modified("copysign.f64", [1.0, -1.0], [-2.0, 2.0], lanes=lanes).tolist() == [2.0, -2.0]
    assert modified("abs.f64", [-0.0], lanes=lanes)[0] == 0


MINMAX = [f"{op}{nan}.{kind}" for op in ("min", "max") for nan in ("", ".NaN") for kind in ("f32", "f16", "bf16")]
MINMAX += ["min.f64", "max.f64"]
OTHER_MINMAX = ["max.NaN.f32 r r r r", "min.f32 r r r r", "max.f16x2", "max.xorsign.abs.f32", "min.NaN.xorsign.abs.f16"]


@pytest.fixture(scope="module", params=["host", pytest.param("avx2", marks=pytest.mark.slow)])
def minmax(request: Any) -> CompiledRules:
    return compile_forms([*MINMAX, *OTHER_MINMAX], PLAIN if request.param == "avx2" else host_features())


@pytest.mark.parametrize("lanes", [32, 1])
@pytest.mark.parametrize("form", MINMAX)
def test_min_and_max_order_zeros_and_prefer_numbers_unless_nan_is_asked_for(
    minmax: CompiledRules, form: str, lanes: int
) -> None:
    op, kind = form.split(".", maxsplit=1)[0], form.rsplit(".", 1)[-1]
    shape = FORMATS[kind]
    columns = operands(kind, 2, 1000)

    def rank(bits: int) -> int:
        top = 1 << shape.size - 1
        return -(bits & top - 1) - 1 if bits & top else bits

    expected = []
    for a, b in zip(*columns, strict=True):
        nans = [shape.decode(each) == "nan" for each in (a, b)]
        if all(nans) or (any(nans) and ".NaN" in form):
            expected.append(shape.encode("nan"))
        elif any(nans):
            expected.append(b if nans[0] else a)
        else:
            expected.append(min((a, b), key=rank) if op == "min" else max((a, b), key=rank))
    got = minmax(form, *(as_values(column, kind) for column in columns), lanes=lanes)
    check(form, kind, got, expected, columns)


def test_packed_and_xorsign_forms(minmax: CompiledRules) -> None:
    assert list(minmax("max.f16x2", [0x3C00C000], [0xBC004000])) == [0x3C004000]
    assert minmax("max.xorsign.abs.f32", [-3.0, -3.0], [2.0, -4.0]).tolist() == [-3.0, 4.0]
    assert minmax("min.NaN.xorsign.abs.f16", [0xBC00], [0x4000])[0] == 0xBC00
    assert minmax("min.f32 r r r r", [3.0, 1.0, np.nan], [2.0, 2.0, 7.0], [1.0, 3.0, np.nan]).tolist() == [
        1.0,
        1.0,
        7.0,
    ]
    assert np.isnan(minmax("max.NaN.f32 r r r r", [3.0], [2.0], [np.nan])[0])


TESTP = [
    f"testp.{name}.{kind}"
    for name in ("finite", "infinite", "number", "notanumber", "normal", "subnormal")
    for kind in ("f32", "f64")
]


@pytest.mark.parametrize("lanes", [32, 1])
def test_testp_classifies(lanes: int) -> None:
    rules = compile_forms(TESTP)
    for kind in ("f32", "f64"):
        bits = SPECIAL[kind]
        shape = FORMATS[kind]
        smallest = exact.Fraction(2) ** (1 - shape.bias)
        for name in ("finite", "infinite", "number", "notanumber", "normal", "subnormal"):
            expected = []
            for each in bits:
                value = shape.decode(each)
                number = value if isinstance(value, exact.Fraction) else None
                expected.append(
                    {
                        "finite": number is not None or value == "-0",
                        "infinite": value in ("inf", "-inf"),
                        "number": value != "nan",
                        "notanumber": value == "nan",
                        "normal": number is not None and abs(number) >= smallest,
                        "subnormal": number is not None and 0 < abs(number) < smallest,
                    }[name]
                )
            got = rules(f"testp.{name}.{kind}", as_values(bits, kind), lanes=lanes)
            assert list(got.astype(bool)) == expected, (name, kind)
