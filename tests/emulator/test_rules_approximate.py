"""The approximations stay within the error the PTX ISA documents, densely sampled over their whole domain.

`pytest -s` prints the largest error of each.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from .rule_harness import CompiledRules, compile_forms

UNARY = [
    f"{name}.approx{ftz}.f32" for name in ("ex2", "lg2", "sin", "cos", "rsqrt", "rcp", "sqrt") for ftz in ("", ".ftz")
]
FORMS = [
    *UNARY,
    "tanh.approx.f32",
    "div.approx.f32",
    "div.full.f32",
    "rcp.approx.ftz.f64",
    "rsqrt.approx.ftz.f64",
    "rsqrt.approx.f64",
    "ex2.approx.f16",
    "ex2.approx.ftz.bf16",
    "tanh.approx.f16",
    "tanh.approx.bf16x2",
]


@pytest.fixture(scope="module")
def compiled() -> CompiledRules:
    return compile_forms(FORMS)


def every(low: int, high: int, count: int = 1 << 20) -> Any:
    """About `count` f32 values whose bit patterns are evenly spread over [low, high)."""
    step = max((high - low) // count, 1) | 1
    return np.arange(low, high, step, np.uint32).view(np.float32)


POSITIVE = every(0x00000001, 0x7F800000)
BOTH = np.concatenate([POSITIVE, -POSITIVE])


def ulps(got: Any, exact: Any) -> float:
    """The largest distance in units of the last place of the exact f32 result."""
    with np.errstate(all="ignore"):
        spacing = np.maximum(np.spacing(np.abs(exact).astype(np.float32)).astype(np.float64), 2.0**-149)
        finite = np.isfinite(exact.astype(np.float32))
        return float(np.max(np.abs(got.astype(np.float64) - exact)[finite] / spacing[finite]))


def relative(got: Any, exact: Any) -> float:
    with np.errstate(all="ignore"):
        return float(np.nanmax(np.abs(got.astype(np.float64) - exact) / np.abs(exact)))


def report(name: str, error: float, bound: float, unit: str) -> None:
    print(f"{name:24} max {error:.3g} {unit}, ISA allows {bound:.3g}")
    assert error <= bound, name


def test_ex2(compiled: CompiledRules) -> None:
    x = np.concatenate([BOTH, np.linspace(-151, 129, 1 << 20, dtype=np.float32)])
    exact = np.exp2(x.astype(np.float64))
    report("ex2", ulps(compiled("ex2.approx.f32", x), exact), 2, "ulp")
    normal = exact >= 2.0**-126
    got = compiled("ex2.approx.ftz.f32", x)
    report("ex2.ftz", ulps(got[normal], exact[normal]), 2, "ulp")
    assert not got[exact < 0.999 * 2.0**-126].any()
    edges = compiled("ex2.approx.f32", [np.inf, -np.inf, np.nan, 0.0, -0.0, 128.0, -150.5, -149.0, 127.0, 1e-40])
    assert edges[:2].tolist() == [np.inf, 0.0] and np.isnan(edges[2])
    assert edges[3:].tolist() == [1.0, 1.0, np.inf, 0.0, 2.0**-149, 2.0**127, 1.0]


def test_lg2(compiled: CompiledRules) -> None:
    x = np.concatenate([POSITIVE, every(0x3F000000, 0x40000000)])
    exact = np.log2(x.astype(np.float64))
    got = compiled("lg2.approx.f32", x)
    near = (x > 0.5) & (x < 2)
    report("lg2 in (0.5, 2)", float(np.max(np.abs(got - exact)[near])), 2.0**-22, "absolute")
    report("lg2 elsewhere", relative(got[~near], exact[~near]), 2.0**-22, "relative")
    edges = compiled("lg2.approx.f32", [0.0, -0.0, -1.0, np.inf, -np.inf, np.nan, 1.0, 2.0**-149])
    assert edges[:2].tolist() == [-np.inf, -np.inf] and edges[3] == np.inf
    assert np.isnan(edges[[2, 4, 5]]).all() and edges[6:].tolist() == [0.0, -149.0]
    assert compiled("lg2.approx.ftz.f32", [1e-40])[0] == -np.inf


@pytest.mark.parametrize(("name", "function"), [("sin", np.sin), ("cos", np.cos)])
def test_sin_and_cos(compiled: CompiledRules, name: str, function: Callable[..., Any]) -> None:
    x = np.linspace(-np.pi, np.pi, 1 << 21, dtype=np.float32)
    got = compiled(f"{name}.approx.f32", x)
    report(name, float(np.max(np.abs(got - function(x.astype(np.float64))))), 2.0**-20.5, "absolute")
    far = np.linspace(-1e5, 1e5, 1 << 20, dtype=np.float32)
    report(
        f"{name} up to 1e5",
        float(np.max(np.abs(compiled(f"{name}.approx.f32", far) - function(far.astype(np.float64))))),
        2.0**-20,
        "absolute (no ISA bound)",
    )
    assert np.nanmax(np.abs(compiled(f"{name}.approx.f32", BOTH))) <= 1
    edges = compiled(f"{name}.approx.f32", [np.inf, np.nan, -0.0, 1e-40])
    assert np.isnan(edges[:2]).all()
    assert edges[2:].tolist() == ([-0.0, np.float32(1e-40)] if name == "sin" else [1.0, 1.0])


def test_tanh(compiled: CompiledRules) -> None:
    exact = np.tanh(BOTH.astype(np.float64))
    report("tanh", relative(compiled("tanh.approx.f32", BOTH), exact), 2.0**-11, "relative")
    assert compiled("tanh.approx.f32", [np.inf, -np.inf, 0.0]).tolist() == [1.0, -1.0, 0.0]
    assert np.isnan(compiled("tanh.approx.f32", [np.nan])[0])


def test_reciprocals_and_roots(compiled: CompiledRules) -> None:
    x = POSITIVE.astype(np.float64)
    report("rsqrt", relative(compiled("rsqrt.approx.f32", POSITIVE), 1 / np.sqrt(x)), 2.0**-22.9, "relative")
    report("sqrt", relative(compiled("sqrt.approx.f32", POSITIVE), np.sqrt(x)), 2.0**-23, "relative")
    report("rcp", ulps(compiled("rcp.approx.f32", BOTH), 1 / BOTH.astype(np.float64)), 1, "ulp")
    edges = [0.0, -0.0, np.inf, -1.0, np.nan]
    got = compiled("rsqrt.approx.f32", edges)
    assert got[:3].tolist() == [np.inf, -np.inf, 0.0] and np.isnan(got[3:]).all()
    assert compiled("rcp.approx.f32", edges)[:3].tolist() == [np.inf, -np.inf, 0.0]
    assert compiled("rcp.approx.ftz.f32", [1e-40, -1e-40, 2e38]).tolist() == [np.inf, -np.inf, 0.0]
    assert np.isnan(compiled("sqrt.approx.f32", [-1.0])[0])


def test_division(compiled: CompiledRules) -> None:
    rng = np.random.default_rng(0)
    a, b = (rng.choice(BOTH, 1 << 20) for _ in range(2))
    b = np.where(np.abs(b) > 2.0**126, np.float32(3), b)
    with np.errstate(all="ignore"):
        exact = a.astype(np.float64) / b
    for form in ("div.approx.f32", "div.full.f32"):
        report(form, ulps(compiled(form, a, b), exact), 2, "ulp")
    huge = np.float32(2.0**127)
    got = compiled("div.approx.f32", [1.0, -1.0, np.inf, huge, 5.0, 1.0], [huge, huge, huge, np.inf, 0.0, 2.0**126])
    assert np.array_equal(got[[0, 1, 3, 4, 5]], np.array([0.0, -0.0, 0.0, np.inf, 2.0**-126], np.float32))
    assert np.isnan(got[2])
    assert compiled("div.full.f32", [huge], [huge])[0] == 1


def test_f64_approximations(compiled: CompiledRules) -> None:
    rng = np.random.default_rng(0)
    bits = rng.integers(0x0010000000000000, 0x7FD0000000000000, 1 << 18, np.uint64)
    x = bits.view(np.float64)
    upper = (bits & np.uint64(0xFFFFFFFF00000000)).view(np.float64)
    for form, function in (("rcp", lambda v: 1 / v), ("rsqrt", lambda v: 1 / np.sqrt(v))):
        got = compiled(f"{form}.approx.ftz.f64", x)
        assert not (got.view(np.uint64) & np.uint64(0xFFFFFFFF)).any()
        report(f"{form}.approx.ftz.f64", relative(got, function(upper)), 2.0**-19, "relative")
    report("rsqrt.approx.f64", relative(compiled("rsqrt.approx.f64", x), 1 / np.sqrt(x)), 2.0**-51, "relative")
    edges = compiled("rcp.approx.ftz.f64", [0.0, -0.0, np.inf, 1e-310, 1e308, np.nan])
    assert edges[:5].tolist() == [np.inf, -np.inf, 0.0, np.inf, 0.0] and np.isnan(edges[5])


def test_half_precision_functions(compiled: CompiledRules) -> None:
    bits = np.arange(1 << 16, dtype=np.uint16)
    half = bits.view(np.float16).astype(np.float64)
    brain = (bits.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
    with np.errstate(all="ignore"):
        got = compiled("ex2.approx.f16", bits).view(np.float16)
        exact = np.exp2(half)
        normal = (exact > 2.0**-14) & (exact < 65504)
        report("ex2.f16", relative(got[normal], exact[normal]), 2.0**-9.9, "relative")
        got = compiled("tanh.approx.f16", bits).view(np.float16).astype(np.float64)
        report("tanh.f16", float(np.nanmax(np.abs(got - np.tanh(half)))), 2.0**-10.987, "absolute")
        got = (compiled("ex2.approx.ftz.bf16", bits).astype(np.uint32) << 16).view(np.float32)
        exact = np.exp2(brain)
        normal = (exact > 2.0**-126) & (exact < 3e38)
        report("ex2.bf16", relative(got[normal], exact[normal]), 2.0**-7, "relative")
        packed = compiled("tanh.approx.bf16x2", bits.astype(np.uint32) << 16 | 0x3F80)
        got = (packed & 0xFFFF0000).view(np.float32).astype(np.float64)
        number = np.abs(brain) > 1e-37
        report("tanh.bf16", relative(got[number], np.tanh(brain)[number]), 2.0**-8, "relative")


def test_scalar_and_vector_code_agree_bit_for_bit(compiled: CompiledRules) -> None:
    for form in (*UNARY, "tanh.approx.f32"):
        x = BOTH[::997]
        wide, narrow = (compiled(form, x, lanes=lanes).view(np.uint32) for lanes in (32, 1))
        nan = np.isnan(wide.view(np.float32))
        assert np.array_equal(wide[~nan], narrow[~nan]) and np.isnan(narrow.view(np.float32)[nan]).all(), form
