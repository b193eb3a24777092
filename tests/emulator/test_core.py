"""The emulator core against numpy: every kernel as nvcc compiles it, in both of its translations."""

from __future__ import annotations

import ctypes
import os
import resource
import subprocess
import sys
import time

import numpy as np
import pytest

from kernelevo import emulator
from kernelevo.emulator import LaunchStatus, Variant

from .core_harness import HERE, Kernels, module_of, needs_nvcc
from .forked import forked

pytestmark = needs_nvcc
F, I, U = np.float32, np.int32, np.uint32  # noqa: E741
rng = np.random.default_rng(7)


@pytest.fixture(params=[Variant.FAST, Variant.COUNTED], ids=["fast", "diverged"])
def kernels(request: pytest.FixtureRequest) -> Kernels:
    return Kernels("core_kernels", request.param)


def floats(*shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(F)


def ints(low: int, high: int, *shape: int) -> np.ndarray:
    return rng.integers(low, high, shape).astype(I)


@pytest.mark.parametrize(("n", "block"), [(1, 128), (31, 32), (1000, 256), (4096, 1024), (999, 100), (65, 33)])
def test_a_tail_that_fills_no_warp_is_left_alone(kernels: Kernels, n: int, block: int) -> None:
    a, b, c = floats(n), floats(n), np.full(n + 64, 7, F)
    kernels.run("add_with_tail", -(-n // block), block, a, b, c, I(n))
    np.testing.assert_array_equal(c[:n], a + b)
    assert (c[n:] == 7).all()


@pytest.mark.parametrize(
    "block", [(64, 1, 1), (16, 16, 1), (8, 4, 4), (40, 3, 1), (7, 5, 3), (1, 32, 1), (2, 2, 16), (1, 1, 1)]
)
def test_threads_of_any_block_know_who_they_are(kernels: Kernels, block: tuple[int, int, int]) -> None:
    x, y, z = block
    out = np.zeros(6 * x * y * z, I)
    kernels.run("thread_numbers", (3, 2, 1), block, out)
    b, tz, ty, tx = np.meshgrid(np.arange(6), np.arange(z), np.arange(y), np.arange(x), indexing="ij")
    np.testing.assert_array_equal(out, (((tx * 100 + ty) * 100 + tz) * 10 + b % 3 + 2 * (b // 3)).ravel())


def test_lanes_leave_a_loop_one_by_one(kernels: Kernels) -> None:
    def steps(x: int) -> int:
        count = 0
        while x != 1:
            x = x // 2 if x % 2 == 0 else 3 * x + 1
            count += 1
        return count

    start, out = ints(1, 1000, 500), np.zeros(500, I)
    kernels.run("collatz", 4, 128, start, out, I(500))
    np.testing.assert_array_equal(out, [steps(int(x)) for x in start])


def test_nested_branches_break_and_continue(kernels: Kernels) -> None:
    def expected(v: int) -> int:
        r = 0
        for k in range(v & 7):
            if v & (1 << k):
                if k % 3 == 0:
                    r += 5
                    if v > 50:
                        continue
                    r *= 2
                elif v > 90:
                    break
                else:
                    r -= k
            else:
                r ^= v
            r += 1
        return r

    x, out = ints(0, 128, 300), np.zeros(300, I)
    kernels.run("nested_branches", 3, 128, x, out, I(300))
    np.testing.assert_array_equal(out, [expected(int(v)) for v in x])


def test_local_arrays_belong_to_their_thread(kernels: Kernels) -> None:
    index, out = ints(0, 100, 128), np.zeros(128, I)
    kernels.run("local_array", 2, 64, index, out, I(128))
    expected = []
    for i, x in enumerate(index):
        table = np.arange(16) ** 2 + i
        table[x & 15] += 1000
        expected.append(sum(table[(x * k) & 15] for k in range(16)))
    np.testing.assert_array_equal(out, expected)


def test_constants_are_initialised_and_can_be_uploaded(kernels: Kernels) -> None:
    module, out = kernels.module, np.zeros(64, F)
    uploaded = np.array([10, 20, 30, 40], I)
    ctypes.memmove(module.variables["uploaded"].address, uploaded.ctypes.data, 16)
    counter = module.variables["counter"]
    before = ctypes.c_int.from_address(counter.address).value
    kernels.run("constants", 1, 64, out)
    i = np.arange(64)
    np.testing.assert_array_equal(out, (i % 8 + 1) * 4.0 + uploaded[i % 4])
    assert ctypes.c_int.from_address(counter.address).value == before + 64
    pointer = ctypes.c_uint64.from_address(module.variables["words"].address).value
    assert ctypes.string_at(pointer) == b"words"


@pytest.mark.parametrize("n", [32, 96, 100, 1024])
def test_dynamic_shared_memory(kernels: Kernels, n: int) -> None:
    x = floats(4, n)
    y = x.copy()
    kernels.run("reverse_dynamic_shared", 4, n, y, I(n), shared=4 * n)
    np.testing.assert_array_equal(y, x[:, ::-1])


def test_vector_loads_and_stores(kernels: Kernels) -> None:
    n = 128
    a, c = floats(n, 4), floats(n, 2)
    e, g = rng.integers(0, 256, (n, 4)).astype(np.uint8), ints(-3000, 3000, n, 2).astype(np.int16)
    b, d, f, h = (np.zeros_like(v) for v in (a, c, e, g))
    kernels.run("vectors", 2, 64, a, b, c, d, e, f, g, h)
    np.testing.assert_array_equal(b, a[:, ::-1])
    np.testing.assert_array_equal(d, np.stack([c[:, 1], c[:, 0] + F(1)], 1))
    np.testing.assert_array_equal(f, e[:, [1, 0, 3, 2]])
    np.testing.assert_array_equal(h, np.stack([g[:, 1], -g[:, 0]], 1))


def test_bytes_and_halfwords_are_extended_by_their_sign(kernels: Kernels) -> None:
    n = 96
    a = rng.integers(-128, 128, n).astype(np.int8)
    b = rng.integers(0, 256, n).astype(np.uint8)
    c = rng.integers(-30000, 30000, n).astype(np.int16)
    out, low = np.zeros(n, I), np.zeros(n, np.uint8)
    kernels.run("narrow_types", 1, n, a, b, c, out, low)
    np.testing.assert_array_equal(out, a.astype(I) * 1000 + b + c)
    np.testing.assert_array_equal(low, (a.astype(I) + b).astype(np.uint8))


def test_generic_pointers_reach_shared_and_global_memory(kernels: Kernels) -> None:
    a, out = floats(64), np.zeros(64, F)
    kernels.run("generic_pointers", 1, 64, a, out, I(64))
    following = np.roll(a, -1)
    np.testing.assert_array_equal(out, np.where(a > 0, 2 * following, following))


def test_structs_are_passed_by_value(kernels: Kernels) -> None:
    packed = np.zeros(1, np.dtype([("a", I), ("pad", I), ("b", np.float64), ("c", np.int16, 3), ("end", np.int16)]))
    packed["a"], packed["b"], packed["c"] = 5, 0.25, [[100, 200, 300]]
    out = np.zeros(6)
    kernels.run("struct_parameter", 1, 6, packed.tobytes(), out, np.int8(-3))
    np.testing.assert_array_equal(out, 5 + 0.25 + np.array([100, 200, 300] * 2) - 3)


def test_a_switch_of_many_cases(kernels: Kernels) -> None:
    x, out = ints(-1, 10, 200), np.zeros(200, I)
    kernels.run("dense_switch", 2, 128, x, out, I(200))
    i = np.arange(200)
    cases = [x + 11, i * 3, i ^ 5, i - 77, i * i, -i, 1 << (i & 15), i // 3]
    np.testing.assert_array_equal(out, np.select([x == k for k in range(8)], cases, -1))


def test_device_functions_are_called(kernels: Kernels) -> None:
    x, c, out = floats(100), np.array([1, -2, 3, 0.5], F), np.zeros(100, F)
    assert "call" in kernels.module.file.functions["device_functions"].text
    kernels.run("device_functions", 1, 128, x, c, out, I(100))

    def polynomial(v: np.ndarray, n: int) -> np.ndarray:
        return sum((c[k].astype(float) * v.astype(float) ** k for k in range(n)), 0 * v.astype(float))

    i = np.arange(100)
    low, high = polynomial(x, 2), polynomial(x, 4)
    nested = np.select([i % 4 == k for k in range(4)], [polynomial(low, k) for k in range(4)])
    np.testing.assert_allclose(out, np.where(i % 3, high, nested), rtol=2e-6, atol=2e-6)


def test_printf_writes_what_c_would(kernels: Kernels, capfd: pytest.CaptureFixture[str]) -> None:
    kernels.run("prints", 1, 32, I(3))
    assert capfd.readouterr().out == "".join(f"lane {k} of warp: {k * 0.5:5.2f} {1 << 40}%\n" for k in range(3))


def test_a_failed_assertion_names_its_condition_and_line(kernels: Kernels) -> None:
    x = np.ones(64, I)
    kernels.run("asserts", 1, 64, x)
    x[40] = 0
    report = kernels.attempt("asserts", 1, 64, x)
    assert report.status is LaunchStatus.ASSERTED
    assert "x[threadIdx.x] > 0" in report.message and "core_kernels.cu" in report.message


def test_a_trap_is_reported_with_block_and_line(kernels: Kernels) -> None:
    x = np.zeros(64, I)
    kernels.run("traps", 1, 64, x)
    x[33] = 7
    report = kernels.attempt("traps", 1, 64, x)
    assert report.status is LaunchStatus.TRAPPED
    assert report.warp == 1
    source = (HERE / "core_kernels.cu").read_text().splitlines()
    line = next(number for number, text in enumerate(source, 1) if "__trap" in text)
    assert f"line {line} of" in report.message


@pytest.mark.parametrize("block", [32, 64, 256, 1024])
def test_a_block_sums_with_shuffles_and_a_barrier(kernels: Kernels, block: int) -> None:
    x, out = floats(5, block), np.zeros(5, F)
    kernels.run("block_sum", 5, block, x, out)
    np.testing.assert_allclose(out, x.sum(1, dtype=np.float64), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("n", [32, 64, 90])
def test_barriers_that_vote(kernels: Kernels, n: int) -> None:
    for x in (ints(0, 20, n), ints(1, 200, n), np.full(n, 11, I)):
        out = np.zeros(n, I)
        kernels.run("barrier_votes", 1, n, x, out)
        expected = (x > 10).sum() * 4 + (x > 0).all() * 2 + (x > 100).any()
        np.testing.assert_array_equal(out, np.full(n, expected))


def test_both_sides_of_a_branch_meet_at_the_barrier(kernels: Kernels) -> None:
    x, out = ints(0, 100, 128), np.zeros(128, I)
    kernels.run("barrier_in_both_branches", 1, 128, x, out)
    s = np.where(x & 1, x + 1, x * 2)
    np.testing.assert_array_equal(out, np.where(x & 1, 1, -1) * np.roll(s, -1))


def test_a_barrier_does_not_wait_for_threads_that_are_gone(kernels: Kernels) -> None:
    x, out = ints(0, 100, 128), np.full(128, -5, I)
    kernels.run("barrier_after_exits", 1, 128, x, out)
    i = np.arange(128)
    np.testing.assert_array_equal(out, np.where(i % 5 == 0, -5, x))


def test_named_barriers_hand_work_from_warp_to_warp(kernels: Kernels) -> None:
    x = floats(128)
    y = x.copy()
    kernels.run("named_barriers", 1, 64, y)
    np.testing.assert_array_equal(y, (2 * x.reshape(4, 32)[:, ::-1]).ravel())


def test_lanes_of_one_warp_take_a_lock_in_turn(kernels: Kernels) -> None:
    for entry in ("lock_per_lane", "spin_until_lock"):
        lock, total = np.zeros(1, I), np.zeros(1, I)
        kernels.run(entry, 3, 64, lock, total)
        assert total[0] == 192


@pytest.mark.parametrize("threads", [1, 2])
def test_blocks_that_wait_for_each_other_are_all_resident(kernels: Kernels, threads: int) -> None:
    blocks = 20
    arrived, total, x, out = np.zeros(1, I), np.zeros(1, I), ints(0, 100, blocks * 64), np.zeros(blocks * 64, I)
    kernels.run("grid_barrier", blocks, 64, arrived, x, out, total, threads=threads)
    assert (out == x.sum()).all()


def test_a_cooperative_grid_synchronises(kernels: Kernels) -> None:
    blocks = 9
    x, total, out = ints(0, 100, blocks * 96), np.zeros(1, I), np.zeros((3, blocks * 96), I)
    kernels.run("grid_sync", blocks, 96, x, total, out, cooperative=True)
    np.testing.assert_array_equal(out, np.array([[1], [2], [3]]) * x.sum() * np.ones_like(out))
    report = kernels.attempt("grid_sync", blocks, 96, x, total, out)
    assert report.status is LaunchStatus.TRAPPED


def test_a_warp_waits_for_a_flag_that_another_sets(kernels: Kernels) -> None:
    out = np.zeros(32, I)
    kernels.run("warp_flag", 1, 96, out)
    assert (out == 42).all()


@pytest.mark.parametrize("start", [0, 2**32 - 16, 2**31 - 5, 2**32 - 64, 123456789])
def test_unsigned_indices_wrap_inside_a_warp(kernels: Kernels, start: int) -> None:
    table, out = floats(64), np.zeros(64, F)
    kernels.run("wrapping_index", 1, 64, table, out, U(start), I(64))
    h = (start + np.arange(64)) % 2**32
    np.testing.assert_array_equal(out, table[h % 64] + (h >> 31).astype(F))


@pytest.mark.parametrize("start", [0, 2**32 - 16, 2**32 - 64, 2**32 - 256])
def test_widening_an_index_that_wraps_keeps_the_wrap(kernels: Kernels, start: int) -> None:
    table, out = rng.integers(0, 256, 600).astype(np.uint8), np.zeros(64, np.uint8)
    kernels.run("wrapping_address", 1, 64, table, out, U(start))
    h = (start + np.arange(64)) % 2**32
    np.testing.assert_array_equal(out, table[np.where(h > 2**31, h - 0xFFFFFF00, h + 256)])


def test_signed_indices_wrap_to_negative_ones(kernels: Kernels) -> None:
    table, out = ints(0, 1000, 256), np.zeros(64, I)
    kernels.run("signed_wrapping", 1, 64, table, out, I(0x70000000))
    i = ((0x70000000 + np.arange(64) * 0x1000000 + 2**31) % 2**32) - 2**31
    np.testing.assert_array_equal(out, table[(i >> 24) + 128])


def test_warp_operations(kernels: Kernels) -> None:
    x, out = ints(0, 100, 32), np.zeros(256, I)
    kernels.run("shuffles", 1, 32, x, out)
    i = np.arange(32)
    rows = out.reshape(8, 32)
    np.testing.assert_array_equal(rows[0], x[5])
    np.testing.assert_array_equal(rows[1], x[(i * 7) & 31])
    np.testing.assert_array_equal(rows[2], x[i ^ 3])
    np.testing.assert_array_equal(rows[3], np.where(i % 8 < 2, x, x[i - 2]))
    assert (rows[4].view(U) == sum(1 << k for k in range(32) if x[k] & 1)).all()
    np.testing.assert_array_equal(rows[5], int((x > 90).any()) * 2 + int((x > 0).all()))
    np.testing.assert_array_equal(rows[6], x[x & 31])
    np.testing.assert_array_equal(rows[7], x.sum())


def test_lanes_meet_at_a_shuffle_after_different_paths(kernels: Kernels) -> None:
    x, out = ints(0, 100, 32), np.zeros(32, I)
    kernels.run("shuffle_after_loops", 1, 32, x, out)
    i, k = np.arange(32), x & 15
    np.testing.assert_array_equal(out, k[i ^ 1] + np.where(i & 1, 100 * k[(i + 2) & 31], 0))


def test_activemask_shows_the_lanes_of_the_branch(kernels: Kernels) -> None:
    x, out = ints(0, 100, 32), np.zeros(32, U)
    kernels.run("active_lanes", 1, 32, x, out)
    odd = sum(1 << k for k in range(32) if x[k] & 1)
    assert (out == odd).all()


@pytest.mark.parametrize(("w", "h"), [(64, 32), (65, 33), (100, 31)])
def test_transpose_through_padded_shared_memory(kernels: Kernels, w: int, h: int) -> None:
    x, y = floats(h, w), np.zeros((w, h), F)
    kernels.run("transpose", (-(-w // 32), -(-h // 32)), (32, 8), x, y, I(w), I(h))
    np.testing.assert_array_equal(y, x.T)


@pytest.mark.parametrize("n", [16, 64, 70])
def test_tiled_matmul_with_16_wide_rows(kernels: Kernels, n: int) -> None:
    a, b, c = floats(n, n), floats(n, n), np.zeros((n, n), F)
    tiles = -(-n // 16)
    kernels.run("matmul", (tiles, tiles), (16, 16), a, b, c, I(n))
    np.testing.assert_allclose(c, a.astype(float) @ b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("n", "block"), [(1000, 256), (128, 128), (31, 64)])
def test_softmax(kernels: Kernels, n: int, block: int) -> None:
    x, y = floats(6, n), np.zeros((6, n), F)
    kernels.run("softmax", 6, block, x, y, I(n))
    e = np.exp(x - x.max(1, keepdims=True).astype(float))
    np.testing.assert_allclose(y, e / e.sum(1, keepdims=True), rtol=1e-5)


@pytest.mark.parametrize("threads", [1, 2])
def test_atomics_of_many_blocks_add_up(kernels: Kernels, threads: int) -> None:
    x, bins = rng.integers(0, 256, 20000).astype(np.uint8), np.zeros(256, I)
    kernels.run("histogram", 9, 128, x, bins, I(20000), threads=threads)
    np.testing.assert_array_equal(bins, np.bincount(x, minlength=256))


def test_atomic_sums_of_floats_have_the_same_bits_every_time(kernels: Kernels) -> None:
    x, found = floats(100_000), set()
    for threads in (1, *[None] * 8):
        total = np.zeros(1, F)
        kernels.run("float_sum", 64, 128, x, total, I(x.size), threads=threads)
        found.add(total[0].item())
    assert len(found) == 1
    assert abs(found.pop() - x.sum(dtype=float)) < 0.1


@pytest.mark.parametrize(("entry", "fixed"), [("float_sum", True), ("float_sum_of_block", False), ("histogram", False)])
def test_only_sums_of_floats_across_blocks_fix_the_order_of_blocks(entry: str, fixed: bool) -> None:
    assert emulator.compile_kernel(module_of("core_kernels"), entry, (128, 1, 1)).fixed_order is fixed


def test_a_barrier_that_some_threads_never_reach_is_an_error(kernels: Kernels) -> None:
    report = kernels.attempt("missing_barrier", 1, 64, np.zeros(64, I))
    assert report.status is LaunchStatus.BARRIER_DEADLOCK
    assert "core_kernels" in report.message and "barrier" in report.message


@pytest.mark.parametrize("entry", ["endless", "endless_arithmetic"])
def test_a_kernel_that_never_ends_is_stopped_and_located(kernels: Kernels, entry: str) -> None:
    report = kernels.attempt(entry, 2, 64, np.zeros(64, I), I(0), seconds=0.3)
    assert report.status is LaunchStatus.TIMED_OUT
    assert "core_kernels.ptx:" in report.message and "timed out" in report.message


@forked
def test_a_launch_gets_its_time_where_others_have_the_core(kernels: Kernels) -> None:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    busy = [sys.executable, "-c", "import time\nend = time.monotonic() + 200\nwhile time.monotonic() < end: pass"]
    other = subprocess.Popen(busy, start_new_session=True)  # one: this machine may have more to do than that
    try:
        began, ran = time.monotonic(), time.process_time()
        report = kernels.attempt("endless", 2, 64, np.zeros(64, I), I(0), seconds=0.4, threads=1)
        seconds, ran = time.monotonic() - began, time.process_time() - ran
    finally:
        other.kill()
        other.wait()
    assert report.status is LaunchStatus.TIMED_OUT
    assert ran > 0.35 and seconds > 0.6, "half of the core is not enough for it in 0.4 s"


def test_denormals_are_kept(kernels: Kernels) -> None:
    x, out = np.full(32, 1.5e-38, F), np.zeros(32, F)
    kernels.run("denormals", 1, 32, x, out)
    np.testing.assert_array_equal(out, x * F(0.5))
    assert out[0] > 0


def test_a_grid_of_millions_of_blocks(kernels: Kernels) -> None:
    out = np.zeros(1, np.uint64)
    kernels.run("count_blocks", 3_000_000, 32, out)
    assert out[0] == sum(1 << k for k in range(22))


def test_when_all_lanes_store_to_one_address_one_of_them_wins(kernels: Kernels) -> None:
    out = np.full(4, -1, I)
    kernels.run("same_address_store", 4, 64, out)
    assert ((out >= 0) & (out < 64)).all()


def test_device_malloc(kernels: Kernels) -> None:
    out = np.zeros(40, np.int64)
    kernels.run("heap", 1, 40, out)
    np.testing.assert_array_equal(out, np.arange(40) * 120)


def test_asynchronous_copies_fill_with_zeros(kernels: Kernels) -> None:
    x, y = floats(2 * 256), np.zeros(2 * 256, F)
    kernels.run("copy_async", 2, 64, x, y, I(512))
    expected = x.copy().reshape(2, 256)
    expected[:, 14:16] = 0
    np.testing.assert_array_equal(y, expected.ravel())


@pytest.mark.parametrize("step", [1, 4, 5, 16])
def test_asynchronous_copies_zero_from_any_byte_on(kernels: Kernels, step: int) -> None:
    x, y = ints(-(2**31), 2**31 - 1, 64, 4), np.zeros((64, 4), I)
    kernels.run("copy_some_bytes", 1, 64, x, y, I(step))
    expected = x.copy()
    for thread, row in enumerate(expected.view(np.uint8)):
        row[thread * step % 17 :] = 0
    np.testing.assert_array_equal(y, expected)


@pytest.mark.parametrize(("entry", "words"), [("copy_with_policy", 4), ("copy_some_bytes_with_policy", 3)])
def test_a_cache_policy_does_not_change_an_asynchronous_copy(kernels: Kernels, entry: str, words: int) -> None:
    x, y = ints(-100, 100, 64, 4), np.zeros((64, 4), I)
    kernels.run(entry, 1, 64, x, y, np.int64(0x12F0000000000000))
    expected = x.copy()
    expected[:, words:] = 0
    np.testing.assert_array_equal(y, expected)


@pytest.mark.parametrize("n", [0, 50, 64])
def test_an_asynchronous_copy_may_ignore_its_source(kernels: Kernels, n: int) -> None:
    x, y = ints(-100, 100, 64, 4), np.zeros((64, 4), I)
    kernels.run("copy_unless_ignored", 1, 64, x, y, I(n))
    expected = x.copy()
    expected[n:] = 0
    np.testing.assert_array_equal(y, expected)


def test_a_masked_lane_may_lie_before_shared_memory(kernels: Kernels) -> None:
    x, out = ints(0, 100, 64), np.zeros(64, I)
    kernels.run("left_neighbour", 1, 64, x, out)
    np.testing.assert_array_equal(out, [-5, *x[:-1]])


def test_gathers_of_gathers(kernels: Kernels) -> None:
    following, out = rng.permutation(1000).astype(I), np.zeros(96, I)
    kernels.run("pointer_chase", 1, 96, following, out, I(37))
    at = np.arange(96)
    for _ in range(37):
        at = following[at]
    np.testing.assert_array_equal(out, at)


def test_lanes_part_and_meet_in_every_round_of_a_loop(kernels: Kernels) -> None:
    x, out = ints(0, 1 << 20, 32), np.zeros(32, I)
    kernels.run("uniform_trip_count_then_divergence", 1, 32, x, out, I(20))
    i, r = np.arange(32), np.zeros(32, np.int64)
    for k in range(20):
        r += np.where((x >> k) & 1, k, 0)
        r = (r * 3 + x[(i + k) & 31]) & 0xFFFFFFFF
    np.testing.assert_array_equal(out.view(U), r)


def test_double_precision(kernels: Kernels) -> None:
    x = rng.uniform(0, 10, 200)
    y = np.zeros(200)
    kernels.run("doubles", 2, 128, x, y, I(200))
    np.testing.assert_allclose(y, np.sqrt(x) / (1 + x) + (2 * x + 1), rtol=1e-15)


def test_64_bit_loop_counters(kernels: Kernels) -> None:
    x, y = floats(5000), np.zeros(5000, F)
    kernels.run("long_grid_stride", 3, 128, x, y, np.int64(5000))
    np.testing.assert_array_equal(y, x + F(1))


def test_chosen_blocks_run_and_no_others(kernels: Kernels) -> None:
    out = np.full(10, -1, I)
    kernels.run("same_address_store", 10, 32, out, sample_blocks=[2, 3, 9])
    assert [k for k in range(10) if out[k] >= 0] == [2, 3, 9]


def turns(kernels: Kernels, schedule: int, blocks: int = 8, warps: int = 8) -> list[np.ndarray]:
    """[blocks, warps] turns before and after a barrier, and [blocks] turns of the blocks."""
    before, after = np.zeros((blocks, warps), I), np.zeros((blocks, warps), I)
    order, count = np.zeros(blocks, I), np.zeros(1, I)
    kernels.run("turns", blocks, 32 * warps, before, after, order, count, threads=1, schedule=schedule)
    return [before, after, order]


def test_warps_and_blocks_run_in_ascending_order_unless_asked(kernels: Kernels) -> None:
    before, after, blocks = turns(kernels, 0)
    np.testing.assert_array_equal(before, np.tile(np.arange(8), (8, 1)))
    np.testing.assert_array_equal(after, before)
    np.testing.assert_array_equal(blocks, np.arange(8))


@pytest.mark.parametrize("schedule", [1, 2, 0x5EED, 2**64 - 1])
def test_a_schedule_is_a_permutation_that_does_not_begin_with_warp_0(kernels: Kernels, schedule: int) -> None:
    before, after, blocks = turns(kernels, schedule)
    for order in (*before, *after, blocks):
        np.testing.assert_array_equal(np.sort(order), np.arange(8))
    for order in (before, after):
        assert (order[:, 0] > 0).all()
        np.testing.assert_array_equal(order[::2], np.tile(np.arange(8)[::-1], (4, 1)))
    assert (before[1::2] != after[1::2]).any()
    assert (blocks != np.arange(8)).any()


@pytest.mark.parametrize(("blocks", "warps"), [(1, 1), (1, 2), (3, 2), (7, 3)])
def test_a_schedule_of_few_warps_reverses_them(kernels: Kernels, blocks: int, warps: int) -> None:
    before, after, _ = turns(kernels, 5, blocks, warps)
    for order in (*before, *after):
        np.testing.assert_array_equal(np.sort(order), np.arange(warps))
        assert warps == 1 or order[0] > 0


def test_one_schedule_is_one_order_and_another_is_another(kernels: Kernels) -> None:
    one, again, other = turns(kernels, 3), turns(kernels, 3), turns(kernels, 4)
    assert all((a == b).all() for a, b in zip(one, again, strict=True))
    assert any((a != b).any() for a, b in zip(one, other, strict=True))


@forked
def test_a_grid_whose_blocks_do_not_fit_into_memory_is_reported() -> None:
    kernels, out = Kernels("core_kernels"), np.zeros(64, F)
    kernels.run("store_at", 8, 64, out, shared=256)
    allow_more_memory(200 << 20)
    for _ in range(2):
        report = kernels.attempt("store_at", 8, 64, out, shared=1 << 30)
        assert report.status is LaunchStatus.OUT_OF_MEMORY
        assert "store_at" in report.message and "memory" in report.message
    kernels.run("store_at", 8, 64, out, shared=256)


@forked
def test_blocks_that_faulted_are_freed() -> None:
    kernels, out = Kernels("core_kernels"), np.zeros(64, F)
    kernels.run("store_at", 8, 64, out, shared=256)
    allow_more_memory(500 << 20)
    for _ in range(20):
        report = kernels.attempt("store_at", 8, 64, np.uint64(64), shared=64 << 20)
        assert report.status is LaunchStatus.ILLEGAL_ADDRESS


def allow_more_memory(size_bytes: int) -> None:
    """Lets the process map only `size_bytes` more than it has."""
    with open("/proc/self/statm", encoding="ascii") as statm:
        mapped = int(statm.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + size_bytes, mapped + size_bytes))


def test_a_sample_is_spread_in_pairs_of_neighbours() -> None:
    assert emulator.sample((4, 1, 1), 8) == [0, 1, 2, 3]
    assert emulator.sample((10, 10, 1), 8) == [0, 1, 25, 26, 50, 51, 75, 76]


def test_recursion_is_refused_with_its_place() -> None:
    with pytest.raises(emulator.Unsupported, match=r"core_kernels\.ptx:\d+:\d+: .*recursion"):
        emulator.compile_kernel(module_of("core_kernels"), "recursive", (32, 1, 1))
