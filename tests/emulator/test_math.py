"""Device math, half types, shuffles, votes and atomics of real CUDA code, compiled by nvcc, against numpy and libm.

Bounds are the maximum errors that the CUDA C++ programming guide states for the functions, in units of the last place.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import pytest

from .core_harness import Kernels, needs_nvcc

pytestmark = [pytest.mark.nvcc, needs_nvcc]
LANES = np.arange(32)
Function = Callable[..., Any]


@pytest.fixture(scope="module")
def kernels() -> Kernels:
    return Kernels("math_kernels")


def evaluate(kernels: Kernels, name: str, *inputs: Any) -> Any:
    out = np.zeros_like(inputs[0])
    count = out.size
    kernels.run(name, -(-count // 128), 128, *inputs, out, np.int32(count))
    return out


def spread(low: float, high: float, count: int = 4096, kind: Any = np.float32) -> Any:
    rng = np.random.default_rng(1)
    return np.concatenate([np.linspace(low, high, count // 2), rng.uniform(low, high, count // 2)]).astype(kind)


def wide(exponents: tuple[int, int], kind: Any = np.float32, count: int = 4096) -> Any:
    """Both signs, exponents of 2 in a range."""
    rng = np.random.default_rng(2)
    return (rng.choice([-1.0, 1.0], count) * np.exp2(rng.uniform(*exponents, count))).astype(kind)


def ulps(got: Any, exact: Any) -> float:
    """The largest distance from the correctly rounded result, as the guide defines it."""
    kind = got.dtype.type
    with np.errstate(all="ignore"):
        near = exact.astype(kind)
        spacing = np.maximum(np.spacing(np.abs(near)), np.finfo(kind).smallest_subnormal).astype(np.float64)
        error = np.abs(got.astype(np.float64) - near.astype(np.float64)) / spacing
        both_infinite = np.isinf(near) & (near == got)
        both_nan = np.isnan(near) & np.isnan(got)
    error = np.where(both_infinite | both_nan, 0, error)
    return float(np.max(np.where(np.isnan(error), np.inf, error)))


def each(function: Function) -> Function:
    """A scalar function on arrays of float64."""

    def apply(*columns: Any) -> Any:
        return np.array([function(*map(float, row)) for row in zip(*columns, strict=True)])

    return apply


def precise(name: str) -> Function:
    """An mpmath function on arrays, as float64."""

    def one(*row: float) -> float:
        return float(getattr(mpmath, name)(*row))

    return each(one)


SPECIAL = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1e-40, -1e-40, 3e38, -3e38, 1.0, -1.0], np.float32)
UNARY: dict[str, tuple[Function, Any, float]] = {
    "f_exp": (np.exp, [spread(-104, 89), SPECIAL], 1),
    "f_exp2": (np.exp2, [spread(-150, 128), SPECIAL], 2),
    "f_exp10": (lambda x: np.power(10.0, x), [spread(-45, 38.5), SPECIAL], 2),
    "f_expm1": (np.expm1, [spread(-20, 88), wide((-40, 6)), SPECIAL], 1),
    "f_log": (np.log, [np.abs(wide((-149, 128))), spread(0.5, 2), SPECIAL], 1),
    "f_log2": (np.log2, [np.abs(wide((-149, 128))), spread(0.5, 2), SPECIAL], 1),
    "f_log10": (np.log10, [np.abs(wide((-149, 128))), spread(0.5, 2), SPECIAL], 2),
    "f_log1p": (np.log1p, [spread(-0.999, 100), wide((-60, -1)), SPECIAL], 1),
    "f_tanh": (np.tanh, [spread(-10, 10), wide((-60, 2)), SPECIAL], 2),
    "f_sinh": (np.sinh, [spread(-80, 80), SPECIAL], 3),
    "f_cosh": (np.cosh, [spread(-80, 80), SPECIAL], 2),
    "f_erf": (each(math.erf), [spread(-4, 4), wide((-60, 1)), SPECIAL], 2),
    "f_erfc": (each(math.erfc), [spread(-4, 9), SPECIAL], 4),
    "f_normcdf": (precise("ncdf"), [spread(-10, 5, 512)], 5),
    "f_sqrt": (np.sqrt, [np.abs(wide((-149, 128))), SPECIAL], 0),
    "f_rsqrt": (lambda x: 1 / np.sqrt(x), [np.abs(wide((-149, 128))), SPECIAL], 2),
    "f_cbrt": (np.cbrt, [wide((-140, 128)), SPECIAL], 1),
    "f_sin": (precise("sin"), [spread(-10, 10, 512), spread(-1e5, 1e5, 512), wide((17, 127), count=512)], 2),
    "f_cos": (precise("cos"), [spread(-10, 10, 512), spread(-1e5, 1e5, 512), wide((17, 127), count=512)], 2),
    "f_tan": (precise("tan"), [spread(-10, 10, 512), wide((17, 127), count=512)], 4),
    "f_asin": (np.arcsin, [spread(-1, 1)], 2),
    "f_acos": (np.arccos, [spread(-1, 1)], 2),
    "f_atan": (np.arctan, [spread(-20, 20), SPECIAL], 2),
    "f_round": (lambda x: np.sign(x) * np.floor(np.abs(x) + 0.5), [spread(-100, 100), np.arange(-9.5, 9)], 0),
    "f_rint": (np.rint, [spread(-100, 100), np.arange(-9.5, 9), SPECIAL], 0),
    "f_trunc": (np.trunc, [spread(-100, 100), wide((-10, 40)), SPECIAL], 0),
    "f_floor": (np.floor, [spread(-100, 100), wide((-10, 40)), SPECIAL], 0),
    "f_ceil": (np.ceil, [spread(-100, 100), wide((-10, 40)), SPECIAL], 0),
    "f_tgamma": (each(math.gamma), [spread(0.1, 30)], 5),
    "f_lgamma": (each(math.lgamma), [spread(3.1, 1000)], 6),
    "f_sigmoid": (lambda x: 1 / (1 + np.exp(-x)), [spread(-20, 20)], 4),
}


@pytest.mark.parametrize("name", UNARY)
def test_float_functions_are_as_accurate_as_cuda_promises(kernels: Kernels, name: str) -> None:
    function, parts, bound = UNARY[name]
    x = np.concatenate(parts).astype(np.float32)
    with np.errstate(all="ignore"):
        exact = function(x.astype(np.float64))
    error = ulps(evaluate(kernels, name, x), exact)
    print(f"{name} max {error:.0f} ulp, CUDA promises {bound}")
    assert error <= bound


BINARY: dict[str, tuple[Function, tuple[Any, Any], float]] = {
    "f_pow": (np.power, (np.abs(wide((-20, 20))), spread(-6, 6)), 4),
    "f_fmod": (np.fmod, (wide((-20, 60)), wide((-20, 20))), 0),
    "f_remainder": (each(math.remainder), (wide((-20, 60)), wide((-20, 20))), 0),
    "f_hypot": (np.hypot, (wide((-100, 120)), wide((-100, 120))[::-1].copy()), 3),
    "f_atan2": (np.arctan2, (wide((-20, 20)), spread(-10, 10)), 3),
    "f_div": (np.divide, (wide((-149, 128)), wide((-149, 128))[::-1].copy()), 0),
    "fast_divide": (np.divide, (wide((-60, 60)), wide((-60, 60))[::-1].copy()), 2),
}


@pytest.mark.parametrize("name", BINARY)
def test_float_functions_of_two_arguments(kernels: Kernels, name: str) -> None:
    function, (x, y), bound = BINARY[name]
    with np.errstate(all="ignore"):
        exact = function(x.astype(np.float64), y.astype(np.float64))
    error = ulps(evaluate(kernels, name, x, y), exact)
    print(f"{name} max {error:.0f} ulp, CUDA promises {bound}")
    assert error <= bound


def test_fast_math_intrinsics_are_as_accurate_as_cuda_promises(kernels: Kernels) -> None:
    x = spread(-80, 80)
    bound = 2 + np.floor(np.abs(1.173 * x.astype(np.float64)))
    exact = np.exp(x.astype(np.float64))
    assert (np.abs(evaluate(kernels, "fast_exp", x) - exact) <= bound * np.spacing(exact.astype(np.float32))).all()
    x = spread(0.5, 2)
    assert np.abs(evaluate(kernels, "fast_log", x) - np.log(x.astype(np.float64))).max() < 2.0**-21.41
    x = np.abs(wide((-100, 100)))
    assert (
        ulps(evaluate(kernels, "fast_log", x[np.abs(np.log(x)) > 1]), np.log(x[np.abs(np.log(x)) > 1].astype("f8")))
        <= 3
    )
    x = spread(-math.pi, math.pi)
    assert np.abs(evaluate(kernels, "fast_sin", x) - np.sin(x.astype(np.float64))).max() < 2.0**-21.41
    assert np.abs(evaluate(kernels, "fast_cos", x) - np.cos(x.astype(np.float64))).max() < 2.0**-21.19
    assert np.abs(evaluate(kernels, "fast_tanh", x) - np.tanh(x.astype(np.float64))).max() < 2.0**-10
    x, y = np.abs(wide((-4, 4))), spread(-4, 4)
    exact = np.power(x.astype(np.float64), y)
    assert (np.abs(evaluate(kernels, "fast_pow", x, y) - exact) / exact).max() < 1e-5
    x = spread(-8, 8)
    wide_x = x.astype(np.float64)
    exact = 0.5 * wide_x * (1 + each(math.erf)(wide_x * 0.70710678))
    assert np.abs(evaluate(kernels, "f_gelu", x) - exact).max() < 1e-6
    assert np.abs(evaluate(kernels, "f_silu_fast", x) - wide_x / (1 + np.exp(-wide_x))).max() < 2e-6


def test_directed_roundings_of_intrinsics(kernels: Kernels) -> None:
    x = spread(0.5, 100)
    assert (evaluate(kernels, "f_add_directed", x) == 2).all()  # rd keeps x, ru exceeds it
    a, b = wide((-10, 10)), wide((-10, 10))[::-1].copy()
    product = a.astype(np.float64) * b
    got = evaluate(kernels, "f_mul_rz", a, b).astype(np.float64)
    assert (np.abs(got) <= np.abs(product)).all()
    assert (np.abs(got) > np.abs(product) * (1 - 2.0**-23)).all()
    quotient = a.astype(np.longdouble) / b
    got = evaluate(kernels, "f_div_ru", a, b)
    assert (got >= quotient).all() and (np.nextafter(got, np.float32(-np.inf)) < quotient).all()
    a, b = wide((-10, 10), np.float64), wide((-40, 10), np.float64)[::-1].copy()
    got = evaluate(kernels, "d_add_rd", a, b)
    exact = a.astype(np.longdouble) + b.astype(np.longdouble)
    assert (got <= exact).all() and (np.nextafter(got, np.inf) > exact).all()


DOUBLE: dict[str, tuple[str, Any, float]] = {
    "d_exp": ("exp", spread(-700, 700, 400, np.float64), 1),
    "d_log": ("log", np.abs(wide((-1000, 1000), np.float64, 400)), 1),
    "d_tanh": ("tanh", spread(-20, 20, 400, np.float64), 2),
    "d_erf": ("erf", spread(-5, 5, 400, np.float64), 2),
    "d_sin": ("sin", np.concatenate([spread(-10, 10, 200, np.float64), wide((20, 1000), np.float64, 200)]), 2),
    "d_cos": ("cos", np.concatenate([spread(-10, 10, 200, np.float64), wide((20, 1000), np.float64, 200)]), 2),
    "d_sqrt": ("sqrt", np.abs(wide((-1000, 1000), np.float64, 400)), 0),
    "d_cbrt": ("cbrt", np.abs(wide((-1000, 1000), np.float64, 400)), 1),
}


@pytest.mark.parametrize("name", [*DOUBLE, "d_rsqrt", "d_pow", "d_div"])
def test_double_functions_are_as_accurate_as_cuda_promises(kernels: Kernels, name: str) -> None:
    mpmath.mp.prec = 1200
    if name in DOUBLE:
        function, x, bound = DOUBLE[name]
        inputs, exact = [x], [getattr(mpmath, function)(mpmath.mpf(float(v))) for v in x]
    else:
        x, y = np.abs(wide((-30, 30), np.float64, 400)), spread(-8, 8, 400, np.float64)
        rows = [(mpmath.mpf(float(a)), mpmath.mpf(float(b))) for a, b in zip(x, y, strict=True)]
        inputs = [x] if name == "d_rsqrt" else [x, y]
        operation = {
            "d_rsqrt": lambda a, _b: 1 / mpmath.sqrt(a),
            "d_pow": lambda a, b: a**b,
            "d_div": lambda a, b: a / b,
        }
        bound = {"d_rsqrt": 1, "d_pow": 2, "d_div": 0}[name]
        exact = [operation[name](a, b) for a, b in rows]
    got = evaluate(kernels, name, *inputs)
    error = ulps(got, np.array([float(v) for v in exact]))
    mpmath.mp.prec = 53
    print(f"{name} max {error:.0f} ulp, CUDA promises {bound}")
    assert error <= bound


def integers(kind: Any, seed: int) -> Any:
    rng = np.random.default_rng(seed)
    limits = np.iinfo(kind)
    values = rng.integers(limits.min, limits.max, 2000, kind, endpoint=True) >> rng.integers(
        0, limits.bits - 1, 2000
    ).astype(kind)
    values[:4] = [limits.max, limits.min, 1, 3]
    return values


def test_integer_intrinsics(kernels: Kernels) -> None:
    for name, kind in (
        ("i_div", np.int32),
        ("i_mod", np.int32),
        ("u_div", np.uint32),
        ("l_div", np.int64),
        ("l_mod", np.int64),
    ):
        a, b = integers(kind, 1), integers(kind, 2)
        b[b == 0] = 7
        b[0:2] = 5
        quotient = [abs(int(x)) // abs(int(y)) * (1 if (x < 0) == (y < 0) else -1) for x, y in zip(a, b, strict=True)]
        expected = quotient if "div" in name else [int(x) - int(y) * q for x, y, q in zip(a, b, quotient, strict=True)]
        assert evaluate(kernels, name, a, b).tolist() == expected, name
    a, b = integers(np.uint64, 3), integers(np.uint64, 4)
    assert evaluate(kernels, "ul_mulhi", a, b).tolist() == [int(x) * int(y) >> 64 for x, y in zip(a, b, strict=True)]
    a, b = integers(np.int32, 3), integers(np.int32, 4)
    assert evaluate(kernels, "i_mulhi", a, b).tolist() == [int(x) * int(y) >> 32 for x, y in zip(a, b, strict=True)]
    a, b = integers(np.uint32, 5), integers(np.uint32, 6)
    pairs = [(int(x), int(y)) for x, y in zip(a, b, strict=True)]
    expected = [((32 - x.bit_length()) * 1000000 + x.bit_count() * 1000 + (x & -x).bit_length() + (y >> 31) * 100000000)
                for x, y in pairs]  # fmt: skip
    assert evaluate(kernels, "u_bits", a, b).tolist() == expected

    def permute(x: int, y: int, selector: int) -> int:
        pool = (y << 32 | x).to_bytes(8, "little")
        return int.from_bytes(bytes(pool[selector >> 4 * k & 7] for k in range(4)), "little")

    assert evaluate(kernels, "u_perm", a, b).tolist() == [permute(x, y, 0x2507) ^ permute(x, y, y) for x, y in pairs]
    funnel = [
        ((y << 32 | x) << 7 >> 32 & 0xFFFFFFFF) ^ ((y << 32 | x) >> min(y & 63, 32) & 0xFFFFFFFF) for x, y in pairs
    ]
    assert evaluate(kernels, "u_funnel", a, b).tolist() == funnel
    x, y = a.view(np.int8).reshape(-1, 4).astype(np.int32), b.view(np.int8).reshape(-1, 4).astype(np.int32)
    assert evaluate(kernels, "i_dot", a.view(np.int32), b.view(np.int32)).tolist() == (5 + (x * y).sum(1)).tolist()
    signed = [(int(p), int(q)) for p, q in zip(a.view(np.int32), b.view(np.int32), strict=True)]
    sad = [(7 + abs(p - q) + 1 + abs(x - y) + (x + y >> 1)) & 0xFFFFFFFF
           for (p, q), (x, y) in zip(signed, pairs, strict=True)]  # fmt: skip
    assert evaluate(kernels, "u_sad", a, b).tolist() == sad
    p, q = a.view(np.uint8), b.view(np.uint8)
    added = (p + q).view(np.uint32)
    difference = np.abs(p.astype(int) - q).astype(np.uint8).view(np.uint32)
    largest = np.maximum(a.view(np.int16), b.view(np.int16)).view(np.uint32)
    assert np.array_equal(evaluate(kernels, "u_bytes", a, b), added ^ difference ^ largest)


# --- half and bfloat16


def to_brain(values: Any) -> Any:
    """float64 -> bfloat16 bits, rounded once to nearest even."""
    values = np.asarray(values, np.float64)
    with np.errstate(all="ignore"):
        single = values.astype(np.float32)
        back = single.astype(np.float64)
    bits = single.view(np.uint32)
    # to odd: where f32 lost something, step to the value of the pair whose last bit is set
    inexact = (back != values) & np.isfinite(values) & np.isfinite(single)
    smaller = np.where(inexact & (np.abs(back) > np.abs(values)), bits - 1, bits) | inexact.astype(np.uint32)
    rounded = (smaller + 0x7FFF + (smaller >> 16 & 1)) >> 16
    return np.where(np.isnan(values), 0x7FFF, rounded).astype(np.uint16)


def from_brain(bits: Any) -> Any:
    return (bits.astype(np.uint32) << 16).view(np.float32).astype(np.float64)


def halves(low: float, high: float) -> Any:
    return spread(low, high, 2048, np.float16)


HALF: dict[str, Function] = {
    "h_add": lambda x, y: x + y,
    "h_mul": lambda x, y: x * y,
    "h_fma": lambda x, y: x * y + x,
    "h_max": np.maximum,
    "h_min_nan": np.minimum,
    "h_less": lambda x, y: np.where(x < y, 1.0, 2.0),
    "h_fma_relu": lambda x, y: np.maximum(x * y + x, 0),
}


@pytest.mark.parametrize("name", HALF)
def test_half_arithmetic_rounds_once(kernels: Kernels, name: str) -> None:
    x, y = halves(-300, 300), halves(-2, 2)[::-1].copy()
    exact = HALF[name](x.astype(np.float64), y.astype(np.float64)).astype(np.float16)
    assert np.array_equal(evaluate(kernels, name, x, y), exact)


def test_half_operators_round_after_each_operation(kernels: Kernels) -> None:
    x, y = halves(-10, 10), halves(1, 2)
    expected = ((x + y).astype(np.float16) * (x - y).astype(np.float16)).astype(np.float16) / y
    assert ulps(evaluate(kernels, "h_operators", x, y), expected.astype(np.float64)) <= 1
    assert ulps(evaluate(kernels, "h_div", x, y), x.astype(np.float64) / y) <= 1


HALF_FUNCTIONS: dict[str, tuple[Function, Any, float]] = {
    "h_exp": (np.exp, halves(-16, 11), 1),
    "h_log": (np.log, halves(0.01, 1000), 1),
    "h_sqrt": (np.sqrt, halves(0, 60000), 1),
    "h_rsqrt": (lambda x: 1 / np.sqrt(x), halves(0.001, 60000), 1),
    "h_rcp": (lambda x: 1 / x, halves(0.001, 60000), 1),
    "h_sin": (np.sin, halves(-6, 6), 2),
    "h_tanh": (np.tanh, halves(-6, 6), 2),
    "h_floor": (np.floor, halves(-600, 600), 0),
}


@pytest.mark.parametrize("name", HALF_FUNCTIONS)
def test_half_functions(kernels: Kernels, name: str) -> None:
    function, x, bound = HALF_FUNCTIONS[name]
    assert ulps(evaluate(kernels, name, x), function(x.astype(np.float64))) <= bound


def test_bfloat16_arithmetic_rounds_once(kernels: Kernels) -> None:
    x, y = to_brain(spread(-300, 300)), to_brain(spread(-2, 2))[::-1].copy()
    a, b = from_brain(x), from_brain(y)
    assert np.array_equal(evaluate(kernels, "b_add", x, y), to_brain(a + b))
    assert np.array_equal(evaluate(kernels, "b_mul", x, y), to_brain(a * b))
    assert np.array_equal(evaluate(kernels, "b_fma", x, y), to_brain(a * b + a))
    assert np.array_equal(evaluate(kernels, "b_max", x, y), to_brain(np.maximum(a, b)))
    product = from_brain(to_brain(a + b)) * from_brain(to_brain(a - b))
    assert np.array_equal(evaluate(kernels, "b_operators", x, y), to_brain(product))
    exact = np.exp(a[np.abs(a) < 80])
    assert (np.abs(from_brain(evaluate(kernels, "b_exp", x[np.abs(a) < 80])) - exact) <= exact * 2.0**-8).all()
    quotient = a / np.where(b == 0, 1, b)
    got = from_brain(evaluate(kernels, "b_div", x, to_brain(np.where(b == 0, 1, b))))
    assert (np.abs(got - quotient) <= np.abs(quotient) * 2.0**-8).all()


def test_half2_works_on_both_halves(kernels: Kernels) -> None:
    x, y = halves(-30, 30).reshape(-1, 2).copy(), halves(-2, 2)[::-1].reshape(-1, 2).copy()
    out = np.zeros((x.shape[0], 4, 2), np.float16)
    kernels.run("h2_all", -(-x.shape[0] // 128), 128, x, y, out, np.int32(x.shape[0]))
    total = x + y
    assert np.array_equal(out[:, 0], total)
    assert np.array_equal(out[:, 1], (x.astype(np.float64) * y + total).astype(np.float16))
    assert np.array_equal(out[:, 2], np.maximum(x[:, ::-1], y))
    assert np.array_equal(out[:, 3], (x > y).astype(np.float16))


def test_conversions_of_cuda(kernels: Kernels) -> None:
    x = np.concatenate(
        [spread(-1000, 1000), wide((-26, 20)), np.array([0, -0.0, 65519, 65520, 1e9, -1e9, np.inf], "f4")]
    )
    out = np.zeros((x.size, 12), np.int32)
    kernels.run("conversions", -(-x.size // 128), 128, x.astype(np.float32), out, np.int32(x.size))
    exact = x.astype(np.float64)
    with np.errstate(all="ignore"):
        nearest = x.astype(np.float16)
    assert np.array_equal(out[:, 0].astype(np.uint16), nearest.view(np.uint16))
    cut, up, down = (out[:, k].astype(np.uint16).view(np.float16).astype(np.float64) for k in (1, 2, 3))
    finite = np.abs(exact) < 65504
    assert (np.abs(cut) <= np.abs(exact))[np.isfinite(exact)].all()
    assert ((up >= exact) & (down <= exact)).all()
    spacing = np.spacing(np.maximum(np.abs(cut[finite]), 2.0**-14).astype(np.float16))
    assert (np.abs(up[finite] - down[finite]) <= spacing).all()
    assert np.array_equal(out[:, 4].astype(np.uint16), to_brain(exact))
    assert np.array_equal(out[:, 5].astype(np.uint16), (x.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16))
    assert (from_brain(out[:, 6].astype(np.uint16)) >= exact).all()
    clipped = np.clip(exact, -(2**31), 2**31 - 1)
    assert np.array_equal(out[:, 7], np.trunc(clipped).astype(np.int64))
    assert np.array_equal(out[:, 8], np.rint(clipped).astype(np.int64))
    assert np.array_equal(out[:, 9].view(np.uint32), np.floor(np.clip(exact, 0, 2**32 - 1)).astype(np.int64))
    whole = np.clip(np.rint(nearest.astype(np.float64)), -(2**31), 2**31 - 1)
    assert np.array_equal(out[:, 10], whole.astype(np.int64))


# --- warps


def test_shuffles(kernels: Kernels) -> None:
    rng = np.random.default_rng(7)
    a = rng.integers(-1000, 1000, 32).astype(np.int32)
    d, h = rng.standard_normal(32), rng.standard_normal(32).astype(np.float16)
    out, dout, hout = np.zeros((8, 32), np.int32), np.zeros(32), np.zeros(32, np.float16)
    kernels.run("shuffles", 1, 32, a, d, h, out, dout, hout)
    assert out[0].tolist() == [a[5]] * 32
    assert out[1].tolist() == [*a[:3], *a[:29]]
    assert out[2].tolist() == [a[k + 3] if k % 16 < 13 else a[k] for k in range(32)]
    assert out[3].tolist() == [a[k ^ 7] for k in range(32)]
    assert out[4].tolist() == [a[a[k] & 31] for k in range(32)]
    assert out[5].tolist() == [a[k & 24 | (k + 1) & 7] for k in range(32)]
    assert out[6].tolist() == [a[k ^ 1] for k in range(32)]
    assert out[7].tolist() == [a.sum()] * 32
    assert np.array_equal(dout, [*d[1:], d[31]]) and np.array_equal(hout, h[LANES ^ 16])


def bits(flags: Any) -> int:
    return sum(1 << int(k) for k in np.flatnonzero(flags))


def test_votes_matches_and_cooperative_groups(kernels: Kernels) -> None:
    rng = np.random.default_rng(8)
    a = rng.integers(-100, 100, 32).astype(np.int32)
    out = np.zeros((11, 32), np.uint32)
    kernels.run("votes", 1, 32, a, out)
    assert set(out[0].tolist()) == {bits(a > 0)} and set(out[1].tolist()) == {1}
    assert out[2].tolist() == [bits(a & 3 == a[k] & 3) for k in range(32)]
    assert set(out[3].view(np.int32).tolist()) == {int(a.sum())} and set(out[4].view(np.int32).tolist()) == {
        int(a.max())
    }
    assert out[5].view(np.int32).tolist() == [int(a[a & 7 == a[k] & 7].min()) for k in range(32)]
    third = LANES % 3 == 0
    assert set(out[6][third].tolist()) == {bits(third)} and not out[6][~third].any()
    assert out[7][third].tolist() == [100 * k + 11 for k in range(11)]
    assert set(out[8][third].view(np.int32).tolist()) == {int(a[third].sum())}
    assert out[9].view(np.int32).tolist() == [int(a[k & 24 : (k & 24) + 8].max()) for k in range(32)]
    assert out[10].view(np.int32).tolist() == a[LANES ^ 1].tolist()


def test_atomics(kernels: Kernels) -> None:
    n = 1000
    ints, words = np.zeros(6, np.int32), np.zeros(16 + n, np.uint32)
    words[0], words[4] = 0xFFFFFFFF, 3
    wide_words, floats, doubles = np.zeros(2, np.uint64), np.zeros(5, np.float32), np.zeros(1)
    pairs, brains, single = np.zeros(2, np.float16), np.zeros(2, np.uint16), np.zeros(2, np.float16)
    kernels.run("atomics", 8, 128, ints, words, wide_words, floats, doubles, pairs, brains, single, np.int32(n))
    index = np.arange(n)
    assert ints[:5].tolist() == [index.sum(), -2 * n, (index * 7 % 1000).max(), 1 - n, 99] and 1 <= ints[5] <= n
    assert words[:3].tolist() == [0, (1 << 20) - 1, int(np.bitwise_xor.reduce(index))]
    assert sorted(words[16:].tolist()) == sorted((index % 7).tolist()) and words[3] == n % 7
    value = 3
    for _ in range(n):
        value = 5 if value == 0 or value > 5 else value - 1
    assert words[4] == value
    assert wide_words.tolist() == [n << 33, n - 1 << 35]
    assert floats[:4].tolist() == [n / 8] * 4 and doubles[0] == n / 4
    assert pairs.tolist() == [100, 200] and single.tolist() == [0, 100]
    assert from_brain(brains).tolist() == [100, 200]
    assert abs(floats[4] - (np.sin(index) * 100).max()) < 1e-3
