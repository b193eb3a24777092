"""Warp-level matrix instructions against numpy, as nvcc compiles them."""

from __future__ import annotations

import numpy as np
import pytest

from kernelevo.emulator import Variant

from .core_harness import Kernels, needs_nvcc

pytestmark = needs_nvcc
rng = np.random.default_rng(11)


@pytest.fixture(params=[Variant.FAST, Variant.COUNTED], ids=["fast", "diverged"])
def kernels(request: pytest.FixtureRequest) -> Kernels:
    return Kernels("matrix_kernels", request.param)


def halves(*shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float16)


def floats(*shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


def test_ldmatrix_and_mma_multiply_half_matrices(kernels: Kernels) -> None:
    a, b, c, d = halves(16, 16), halves(16, 8), floats(16, 8), np.zeros((16, 8), np.float32)
    kernels.run("mma_f16", 1, 32, a, b, c, d)
    np.testing.assert_allclose(d, a.astype(float) @ b.astype(float) + c, rtol=1e-5, atol=1e-5)


def test_mma_with_half_accumulators(kernels: Kernels) -> None:
    a, b, d = halves(16, 16), halves(8, 16), np.zeros((16, 8), np.float16)
    kernels.run("mma_f16_accumulators", 1, 32, a, b, d)
    np.testing.assert_allclose(d, a.astype(float) @ b.astype(float).T, rtol=1e-3, atol=1e-3)


def test_mma_in_tf32_ignores_the_low_bits(kernels: Kernels) -> None:
    a, b, d = floats(16, 8), floats(8, 8), np.zeros((16, 8), np.float32)
    kernels.run("mma_tf32", 1, 32, a, b, d)
    cut = [(x.view(np.uint32) & np.uint32(0xFFFFE000)).view(np.float32).astype(float) for x in (a, b)]
    np.testing.assert_allclose(d, cut[0] @ cut[1], rtol=1e-5, atol=1e-5)


def test_mma_of_bytes(kernels: Kernels) -> None:
    a, b = (rng.integers(-128, 128, (n, 32)).astype(np.int8) for n in (16, 8))
    d = np.zeros((16, 8), np.int32)
    kernels.run("mma_s8", 1, 32, a, b, d)
    np.testing.assert_array_equal(d, a.astype(int) @ b.astype(int).T)


@pytest.mark.parametrize(("entry", "columns"), [("wmma_rows_columns", "b"), ("wmma_columns_rows", "a")])
def test_wmma_in_every_layout(kernels: Kernels, entry: str, columns: str) -> None:
    a, b, c, d = halves(16, 16), halves(16, 16), floats(16, 16), np.zeros((16, 16), np.float32)
    kernels.run(entry, 1, 32, a, b, c, d)
    x, y = (m.astype(float).T if name == columns else m.astype(float) for name, m in (("a", a), ("b", b)))
    np.testing.assert_allclose(d, 2 * (x @ y + c), rtol=1e-5, atol=1e-5)


def test_wmma_with_half_accumulators(kernels: Kernels) -> None:
    a, b, c, d = halves(16, 16), halves(16, 16), halves(16, 16), np.zeros((16, 16), np.float16)
    kernels.run("wmma_half_sums", 1, 32, a, b, c, d)
    np.testing.assert_allclose(d, 2 * (a.astype(float) @ b.astype(float) + c), rtol=2e-3, atol=2e-3)


def test_wmma_in_bf16(kernels: Kernels) -> None:
    a, b, c, d = floats(16, 16), floats(16, 16), floats(16, 16), np.zeros((16, 16), np.float32)
    a16, b16 = ((m.view(np.uint32) >> 16).astype(np.uint16) for m in (a, b))
    kernels.run("wmma_bf16", 1, 32, a16, b16, c, d)
    x, y = ((m.astype(np.uint32) << 16).view(np.float32).astype(float) for m in (a16, b16))
    np.testing.assert_allclose(d, 2 * (x @ y + c), rtol=1e-5, atol=1e-5)


def test_wmma_in_tf32(kernels: Kernels) -> None:
    a, b, c, d = floats(16, 8), floats(8, 16), floats(16, 16), np.zeros((16, 16), np.float32)
    kernels.run("wmma_tf32", 1, 32, a, b, c, d)
    np.testing.assert_allclose(d, 2 * (a.astype(float) @ b.astype(float) + c), rtol=5e-3, atol=5e-3)


def test_stmatrix_ldmatrix_and_movmatrix_undo_each_other(kernels: Kernels) -> None:
    x, y = rng.integers(0, 2**32, 128, dtype=np.uint64).astype(np.uint32), np.zeros(128, np.uint32)
    kernels.run("matrix_round_trip", 1, 32, x, y)
    np.testing.assert_array_equal(x, y)
