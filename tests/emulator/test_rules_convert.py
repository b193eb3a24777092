"""cvt between all types against exact rational arithmetic."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from kernelevo.emulator.emit import host_features, is_signed, size_of

from .exact import F16, F32, FORMATS, SPECIAL, Format, Fraction, Value
from .rule_harness import CompiledRules, compile_forms
from .test_rules_floating import MODES, PLAIN, as_bits, as_values
from .test_rules_integer import clamp, limits, wrap

INTEGERS = ("u8", "u16", "u32", "u64", "s8", "s16", "s32", "s64")
FLOATS = ("f16", "bf16", "f32", "f64")
INTEGRAL = {"rni": "rn", "rzi": "rz", "rmi": "rm", "rpi": "rp"}

FROM_INTEGER = [f"cvt.{mode}.{to}.{source}" for mode in MODES for to in FLOATS for source in INTEGERS]
TO_INTEGER = [f"cvt.{mode}.{to}.{source}" for mode in INTEGRAL for to in INTEGERS for source in FLOATS]
BETWEEN_INTEGERS = [f"cvt{sat}.{to}.{source}" for sat in ("", ".sat") for to in INTEGERS for source in INTEGERS]
NARROWING = [
    f"cvt.{mode}.{to}.{source}"
    for mode in MODES
    for to, source in (
        ("f16", "f32"),
        ("f16", "f64"),
        ("f32", "f64"),
        ("bf16", "f64"),
        ("bf16", "f32"),
        ("bf16", "f16"),
        ("f16", "bf16"),
    )
]
WIDENING = ["cvt.f32.f16", "cvt.f64.f16", "cvt.f64.f32", "cvt.f32.bf16", "cvt.f64.bf16"]
ROUNDING = [f"cvt.{mode}.{kind}.{kind}" for mode in INTEGRAL for kind in FLOATS]


ALL = [*FROM_INTEGER, *TO_INTEGER, *BETWEEN_INTEGERS, *NARROWING, *WIDENING, *ROUNDING]


@pytest.fixture(scope="module", params=["host", pytest.param("avx2", marks=pytest.mark.slow)])
def cvt(request: Any) -> CompiledRules:
    """Every form for this machine, and every fourth for one without AVX-512."""
    return compile_forms(ALL[::4], PLAIN) if request.param == "avx2" else compile_forms(ALL, host_features())


def integers(kind: str) -> list[int]:
    low, high = limits(kind)
    size = size_of(kind)
    values = {0, 1, 2, 3, 127, 128, 129, 255, low, low + 1, high, high - 1, high // 2 + 1}
    values |= (
        {1 << k for k in range(size - 1)}
        | {(1 << k) + 1 for k in range(size - 1)}
        | {(1 << k) - 1 for k in range(size)}
    )
    values |= {
        (1 << k) + (1 << max(k - d, 0)) + e for k in range(size - 1) for d in (8, 11, 24, 53) for e in (-1, 0, 1)
    }
    rng = np.random.default_rng(1)
    values |= {wrap(int.from_bytes(rng.bytes(8), "little"), kind) >> int(rng.integers(0, size)) for _ in range(100)}
    return sorted({wrap(each, kind) for each in values} | {wrap(-each, kind) for each in values})


def floats(kind: str) -> list[int]:
    rng = np.random.default_rng(2)
    shape = FORMATS[kind]
    near = [shape.encode(Fraction(n, 2) + Fraction(e, 4)) for n in range(-20, 20) for e in (0, 1)]
    edges = [
        shape.encode(Fraction(s * ((1 << k) + d)))
        for k in (7, 8, 15, 16, 31, 32, 63, 64)
        for d in (-1, 0, 1)
        for s in (1, -1)
    ]
    random = [int.from_bytes(rng.bytes(shape.size // 8), "little") for _ in range(200)]
    scaled = [
        shape.encode(Fraction(int(rng.integers(-(2**62), 2**62)), 1 << int(rng.integers(0, 62)))) for _ in range(200)
    ]
    tiny = [shape.encode(Fraction(int(rng.integers(1, 2**40)), 1 << int(rng.integers(150, 190)))) for _ in range(60)]
    return [*SPECIAL[kind], *near, *edges, *random, *scaled, *tiny]


def to_integral(value: Fraction, mode: str) -> int:
    low = value.numerator // value.denominator
    rest = value - low
    return {
        "rm": low,
        "rp": low + (rest > 0),
        "rz": low + (rest > 0 and low < 0),
        "rn": low + (rest > Fraction(1, 2) or (rest == Fraction(1, 2) and low & 1)),
    }[mode]


def check(form: str, got: list[int], expected: list[int], shape: Format, sources: list[int]) -> None:
    for source, mine, want in zip(sources, got, expected, strict=True):
        if shape.decode(want) == "nan":
            assert shape.decode(mine) == "nan", (form, hex(source), hex(mine))
        else:
            assert mine == want, (form, hex(source), hex(mine), hex(want))


@pytest.mark.parametrize("lanes", [32, 1])
def test_integers_extend_cut_and_saturate(cvt: CompiledRules, lanes: int) -> None:
    for form in (each for each in BETWEEN_INTEGERS if each in cvt.forms):
        to, source = form.split(".")[-2:]
        values = integers(source)
        got = cvt(form, np.array(values, f"{'int' if is_signed(source) else 'uint'}{size_of(source)}"), lanes=lanes)
        expected = [clamp(each, to) if ".sat" in form else wrap(each, to) for each in values]
        assert [int(each) for each in got] == expected, form


@pytest.mark.parametrize("lanes", [32, 1])
@pytest.mark.parametrize("to", FLOATS)
def test_integers_become_floats_rounded_once(cvt: CompiledRules, to: str, lanes: int) -> None:
    for form in (each for each in FROM_INTEGER if each in cvt.forms):
        _, mode, target, source = form.split(".")
        if target == to:
            values = integers(source)
            got = cvt(form, np.array(values, f"{'int' if is_signed(source) else 'uint'}{size_of(source)}"), lanes=lanes)
            expected = [FORMATS[to].encode(Fraction(each), mode) for each in values]
            check(form, as_bits(got, to), expected, FORMATS[to], values)


@pytest.mark.parametrize("lanes", [32, 1])
@pytest.mark.parametrize("source", FLOATS)
def test_floats_become_integers_clamped_and_nan_as_the_isa_defines(cvt: CompiledRules, source: str, lanes: int) -> None:
    bits = floats(source)
    values = [FORMATS[source].decode(each) for each in bits]
    for form in (each for each in TO_INTEGER if each in cvt.forms):
        _, mode, to, kind = form.split(".")
        if kind != source:
            continue
        low, high = limits(to)
        nan = wrap(1 << size_of(to) - 1, to) if source == "f64" or size_of(to) == 64 else 0
        special: dict[Value, int] = {"nan": nan, "inf": high, "-inf": low, "-0": 0}
        expected = [special[v] if isinstance(v, str) else clamp(to_integral(v, INTEGRAL[mode]), to) for v in values]
        got = [int(each) for each in cvt(form, as_values(bits, source), lanes=lanes)]
        wrong = [(hex(b), g, w) for b, g, w in zip(bits, got, expected, strict=True) if g != w]
        assert not wrong, (form, wrong[:5])


@pytest.mark.parametrize("lanes", [32, 1])
@pytest.mark.parametrize("form", [*NARROWING, *WIDENING, *ROUNDING])
def test_floats_change_format_rounded_once(cvt: CompiledRules, form: str, lanes: int) -> None:
    if form not in cvt.forms:
        pytest.skip("compiled for this machine only")
    to, source = form.split(".")[-2:]
    mode = form.split(".")[1]
    bits = floats(source)
    expected = []
    for each in bits:
        value = FORMATS[source].decode(each)
        if mode in INTEGRAL and isinstance(value, Fraction):
            whole = to_integral(value, INTEGRAL[mode])
            value = "-0" if whole == 0 and value < 0 else Fraction(whole)
        expected.append(FORMATS[to].encode(value, mode if mode in MODES else "rn"))
    got = cvt(form, as_values(bits, source), lanes=lanes)
    check(form, as_bits(got, to), expected, FORMATS[to], bits)


EXTRA = [
    "cvt.rna.tf32.f32",
    "cvt.rn.tf32.f32",
    "cvt.rz.tf32.f32",
    "cvt.rn.f16x2.f32",
    "cvt.rz.bf16x2.f32",
    "cvt.rn.relu.f16.f32",
    "cvt.rn.relu.bf16x2.f32",
    "cvt.rn.satfinite.f16.f32",
    "cvt.sat.f32.f32",
    "cvt.rn.sat.f32.f64",
    "cvt.ftz.f64.f32",
    "cvt.rn.ftz.f32.f64",
    "cvt.rni.ftz.s32.f32",
    "cvt.rpi.ftz.s32.f32",
    "cvt.sat.bf16.bf16",
    "cvt.rn.sat.f16.f32",
    *(f"cvt.rn.satfinite.{k}.f32" for k in ("e4m3x2", "e5m2x2")),
    *(f"cvt.rn.f16x2.{k}" for k in ("e4m3x2", "e5m2x2")),
    *(f"cvt.rn.satfinite.{k}.f16x2" for k in ("e4m3x2", "e5m2x2")),
]


@pytest.fixture(scope="module")
def extra() -> CompiledRules:
    return compile_forms(EXTRA)


@pytest.mark.parametrize("lanes", [32, 1])
def test_tf32_keeps_ten_mantissa_bits(extra: CompiledRules, lanes: int) -> None:
    tf32 = Format(19, 10)
    bits = floats("f32")
    for mode in ("rna", "rn", "rz"):
        got = as_bits(extra(f"cvt.{mode}.tf32.f32", as_values(bits, "f32"), lanes=lanes).view(np.float32), "f32")
        expected = [tf32.encode(F32.decode(each), mode) << 13 for each in bits]
        check(mode, got, expected, F32, bits)


@pytest.mark.parametrize("lanes", [32, 1])
def test_pairs_put_the_first_operand_in_the_upper_half(extra: CompiledRules, lanes: int) -> None:
    assert list(extra("cvt.rn.f16x2.f32", [1.0], [-2.0], lanes=lanes)) == [0x3C00C000]
    assert list(extra("cvt.rz.bf16x2.f32", [1.0], [-2.0], lanes=lanes)) == [0x3F80C000]
    assert list(extra("cvt.rn.relu.bf16x2.f32", [-1.0], [np.nan], lanes=lanes)) == [0x00007FFF]
    assert list(extra("cvt.rn.relu.f16.f32", [-1.0, 3.0], lanes=lanes)) == [0, 0x4200]
    assert list(extra("cvt.rn.satfinite.f16.f32", [1e9, -np.inf, 1.0], lanes=lanes)) == [0x7BFF, 0xFBFF, 0x3C00]


@pytest.mark.parametrize("lanes", [32, 1])
def test_sat_and_ftz_of_conversions(extra: CompiledRules, lanes: int) -> None:
    a = [np.nan, -3.0, 0.25, 7.0]
    assert extra("cvt.sat.f32.f32", a, lanes=lanes).tolist() == [0, 0, 0.25, 1]
    assert extra("cvt.rn.sat.f32.f64", a, lanes=lanes).tolist() == [0, 0, 0.25, 1]
    assert list(extra("cvt.rn.sat.f16.f32", a, lanes=lanes)) == [0, 0, 0x3400, 0x3C00]
    assert list(extra("cvt.sat.bf16.bf16", [0x7FC0, 0xC000, 0x3E80, 0x40E0], lanes=lanes)) == [0, 0, 0x3E80, 0x3F80]
    assert extra("cvt.ftz.f64.f32", [np.float32(1e-40)], lanes=lanes)[0] == 0
    assert extra("cvt.rn.ftz.f32.f64", [1e-40], lanes=lanes)[0] == 0
    assert extra("cvt.rpi.ftz.s32.f32", [np.float32(1e-40)], lanes=lanes)[0] == 0
    assert extra("cvt.rni.ftz.s32.f32", [2.5, -3.5], lanes=lanes).tolist() == [2, -4]


def fp8_values(kind: str) -> list[Value]:
    """The value of each of the 256 bit patterns."""
    if kind == "e5m2":
        return [F16.decode(bits << 8) for bits in range(256)]
    values: list[Value] = []
    for bits in range(256):
        sign, exponent, mantissa = (-1 if bits & 0x80 else 1), bits >> 3 & 15, bits & 7
        if bits & 0x7F == 0x7F:
            values.append("nan")
        elif bits & 0x7F == 0:
            values.append("-0" if bits else Fraction(0))
        else:
            fraction = mantissa + 8 if exponent else mantissa
            values.append(sign * fraction * Fraction(2) ** (max(exponent, 1) - 10))
    return values


@pytest.mark.parametrize("lanes", [32, 1])
@pytest.mark.parametrize("kind", ["e4m3", "e5m2"])
def test_fp8_is_exact_as_f16_and_rounds_to_nearest_even_with_saturation(
    extra: CompiledRules, kind: str, lanes: int
) -> None:
    values = fp8_values(kind)
    packed = np.array([bits | (255 - bits) << 8 for bits in range(256)], np.uint16)
    halves = [int(each) for each in extra(f"cvt.rn.f16x2.{kind}x2", packed, lanes=lanes)]
    check(kind, [each & 0xFFFF for each in halves], [F16.encode(v) for v in values], F16, list(range(256)))
    check(kind, [each >> 16 for each in halves], [F16.encode(v) for v in values[::-1]], F16, list(range(256)))
    finite = sorted((v, bits) for bits, v in enumerate(values) if isinstance(v, Fraction) and bits < 128)
    sources = [b for b in floats("f32") if F32.decode(b) != "nan"]
    sources += [
        F32.encode((finite[k][0] + finite[k + 1][0]) / 2) + d for k in range(len(finite) - 1) for d in (-1, 0, 1)
    ]
    expected = []
    for each in sources:
        value = F32.decode(each & 0x7FFFFFFF)
        size = finite[-1][0] if value == "inf" else value
        assert isinstance(size, Fraction)
        nearest = min(finite, key=lambda pair: (abs(pair[0] - min(size, finite[-1][0])), pair[1] & 1))
        expected.append(nearest[1] | each >> 24 & 0x80)
    got = extra(f"cvt.rn.satfinite.{kind}x2.f32", as_values(sources, "f32"), 0.0, lanes=lanes)
    wrong = [
        (hex(s), g >> 8, w) for s, g, w in zip(sources, got.tolist(), expected, strict=True) if g >> 8 != w or g & 255
    ]
    assert not wrong, wrong[:5]
    assert extra(f"cvt.rn.satfinite.{kind}x2.f32", [0.0], [np.nan], lanes=lanes)[0] == 0x7F
    assert extra(f"cvt.rn.satfinite.{kind}x2.f16x2", [0x3C00C000], lanes=lanes)[0] == (
        values.index(Fraction(1)) << 8 | values.index(Fraction(-2))
    )
