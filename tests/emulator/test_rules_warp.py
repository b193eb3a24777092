"""Warp-wide rules: shuffles, votes, matches, reductions and atomics against a lane-by-lane model."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from kernelevo.emulator.emit import host_features

from .rule_harness import CompiledRules, compile_forms
from .test_rules_floating import PLAIN

LANES = np.arange(32)
FULL = 0xFFFFFFFF
MODES = ("up", "down", "bfly", "idx")
OFFSETS, CLAMPS = (0, 1, 5, 16, 31, 33), (0x1F, 0x00, 0x181F, 0x1C07, 0x1800, 0x0F1F)
CONSTANT = [f"shfl.sync.{mode}.b32 d|p r #{b} #{c} #-1" for mode in MODES for b in OFFSETS for c in CLAMPS]
GENERAL = [f"shfl.sync.{mode}.b32 d|p r r r r" for mode in MODES]
VOTES = [
    "vote.sync.all.pred",
    "vote.sync.any.pred",
    "vote.sync.uni.pred",
    "vote.sync.ballot.b32",
    "activemask.b32",
    "elect.sync d|p r",
    "match.any.sync.b32",
    "match.any.sync.b64",
    "match.all.sync.b32 d|p r r",
]
REDUX = [f"redux.sync.{op}.{kind}" for op in ("add", "min", "max") for kind in ("u32", "s32")]
REDUX += [f"redux.sync.{op}.b32" for op in ("and", "or", "xor")]


@pytest.fixture(scope="module", params=["host", "avx2"])
def warp(request: Any) -> CompiledRules:
    forms = [*CONSTANT, *GENERAL, "shfl.sync.down.b32 r r #1 #31 #-1", *VOTES, *REDUX]
    return compile_forms(forms, PLAIN if request.param == "avx2" else host_features())


def shuffle(mode: str, a: Any, b: Any, c: Any) -> tuple[list[int], list[int]]:
    """The pseudocode of the ISA, lane by lane."""
    values, flags = [], []
    for lane in range(32):
        bval, cval, mask = int(b[lane]) & 31, int(c[lane]) & 31, int(c[lane]) >> 8 & 31
        max_lane = (lane & mask) | (cval & ~mask & 31)
        min_lane = lane & mask
        if mode == "up":
            j = lane - bval
            valid = j >= max_lane
        elif mode == "down":
            j = lane + bval
            valid = j <= max_lane
        elif mode == "bfly":
            j = lane ^ bval
            valid = j <= max_lane
        else:
            j = min_lane | (bval & ~mask & 31)
            valid = j <= max_lane
        values.append(int(a[j if valid else lane]))
        flags.append(int(valid))
    return values, flags


@pytest.mark.parametrize("mode", MODES)
def test_shuffles_follow_the_isa_with_literals_and_with_registers(warp: CompiledRules, mode: str) -> None:
    a = LANES * 7 + 3
    for b, c in itertools.product(OFFSETS, CLAMPS):
        expected = shuffle(mode, a, [b] * 32, [c] * 32)
        value, flag = warp(f"shfl.sync.{mode}.b32 d|p r #{b} #{c} #-1", a)
        assert (value.tolist(), flag.tolist()) == expected, (b, hex(c))
        value, flag = warp(f"shfl.sync.{mode}.b32 d|p r r r r", a, b, c, FULL)
        assert (value.tolist(), flag.tolist()) == expected, (b, hex(c))
    rng = np.random.default_rng(3)
    for _ in range(20):
        b, c = rng.integers(0, 64, 32), rng.choice(CLAMPS, 32)
        value, flag = warp(f"shfl.sync.{mode}.b32 d|p r r r r", a, b, c, FULL)
        assert (value.tolist(), flag.tolist()) == shuffle(mode, a, b, c)
    assert warp("shfl.sync.down.b32 r r #1 #31 #-1", a).tolist() == [*a[1:], a[31]]


def bits(flags: Any) -> int:
    return int(sum(1 << lane for lane in range(32) if flags[lane]))


MASKS = [np.ones(32, bool), LANES < 5, LANES % 3 == 0, LANES == 17]


@pytest.mark.parametrize("mask", MASKS, ids=["full", "low", "third", "one"])
def test_votes_count_the_executing_members(warp: CompiledRules, mask: Any) -> None:
    rng = np.random.default_rng(4)
    for a in (np.ones(32, int), np.zeros(32, int), rng.integers(0, 2, 32)):
        for members in (FULL, bits(mask), 0x0000FFFF & bits(mask) or bits(mask)):
            inside = [lane for lane in range(32) if mask[lane] and members >> lane & 1]
            yes = [bool(a[lane]) for lane in inside]
            got = {
                name: warp(f"vote.sync.{name}", a, members, mask=mask)[mask]
                for name in ("all.pred", "any.pred", "uni.pred", "ballot.b32")
            }
            assert set(got["all.pred"].tolist()) == {int(all(yes))}
            assert set(got["any.pred"].tolist()) == {int(any(yes))}
            assert set(got["uni.pred"].tolist()) == {int(all(yes) or not any(yes))}
            assert set(got["ballot.b32"].tolist()) == {sum(1 << lane for lane in inside if a[lane])}
    assert set(warp("activemask.b32", mask=mask).tolist()) == {bits(mask)}
    leader, elected = warp("elect.sync d|p r", np.full(32, FULL), mask=mask)
    assert set(leader[mask].tolist()) == {int(LANES[mask][0])} and bits(elected & mask) == 1 << int(LANES[mask][0])


@pytest.mark.parametrize("mask", MASKS, ids=["full", "low", "third", "one"])
@pytest.mark.parametrize("size", [32, 64])
def test_match_any_finds_the_lanes_of_equal_value(warp: CompiledRules, mask: Any, size: int) -> None:
    values = (LANES * 5 % 7).astype(np.uint64) << np.uint64(size - 8)
    got = warp(f"match.any.sync.b{size}", values, FULL, mask=mask)
    for lane in LANES[mask]:
        assert got[lane] == bits((values == values[lane]) & mask)


def test_match_all_needs_every_member_to_agree(warp: CompiledRules) -> None:
    mask = LANES < 20
    same = np.where(LANES < 20, 9, 1)
    result, flag = warp("match.all.sync.b32 d|p r r", same, FULL, mask=mask)
    assert set(result[mask].tolist()) == {bits(mask)} and flag[mask].all()
    result, flag = warp("match.all.sync.b32 d|p r r", LANES // 10, FULL, mask=mask)
    assert not result[mask].any() and not flag[mask].any()


@pytest.mark.parametrize("form", REDUX)
def test_redux_reduces_within_each_member_mask(warp: CompiledRules, form: str) -> None:
    op = form.split(".")[2]
    rng = np.random.default_rng(5)
    a = rng.integers(0, 1 << 32, 32).astype(np.uint32 if not form.endswith("s32") else np.int64)
    a = a.astype(np.uint32).view(np.int32) if form.endswith("s32") else a
    groups = np.where(LANES % 4 == 0, bits(LANES % 4 == 0), bits(LANES % 4 != 0)).astype(np.uint32)
    functions: dict[str, Callable[[Any], int]] = {
        "add": lambda v: int(v.astype(np.int64).sum()),
        "min": min,
        "max": max,
        "and": np.bitwise_and.reduce,
        "or": np.bitwise_or.reduce,
        "xor": np.bitwise_xor.reduce,
    }
    for mask in MASKS:
        for members in (np.full(32, FULL, np.uint32), groups):
            got = warp(form, a, members, mask=mask)
            for lane in LANES[mask]:
                inside = mask & (members[lane] >> LANES.astype(np.uint32) & 1).astype(bool)
                assert (int(got[lane]) - int(functions[op](a[inside]))) % (1 << 32) == 0


# --- atomics

ATOMICS = [
    f"atom.global.{op}.{kind} r [a] r"
    for op, kinds in (
        ("add", "u32 s32 u64 f32 f64"),
        ("min", "u32 s32 u64 s64"),
        ("max", "u32 s32 u64 s64"),
        ("and", "b32 b64"),
        ("or", "b32 b64"),
        ("xor", "b32 b64"),
        ("exch", "b32 b64"),
        ("inc", "u32"),
        ("dec", "u32"),
    )
    for kind in kinds.split()
]
HALVES = [f"atom.global.add.noftz.{kind} r [a] r" for kind in ("f16", "bf16", "f16x2", "bf16x2")]
OTHERS = [
    "atom.shared.cas.b32 r [a] r r",
    "atom.cas.b64 r [a] r r",
    "atom.cas.b16 r [a] r r",
    "red.global.add.f32 [a] r",
    "red.global.v2.add.f32 [a] {2}",
    "atom.acq_rel.gpu.global.add.u32 r [a] r",
    "atom.add.release.gpu.u32 r [a] r",
    "red.release.gpu.global.max.s32 [a] r",
]
DTYPES = {
    "u32": np.uint32,
    "s32": np.int32,
    "b32": np.uint32,
    "u64": np.uint64,
    "s64": np.int64,
    "b64": np.uint64,
    "f32": np.float32,
    "f64": np.float64,
}


@pytest.fixture(scope="module")
def atomics() -> CompiledRules:
    return compile_forms([*ATOMICS, *HALVES, *OTHERS])


def updated(op: str, old: Any, value: Any) -> Any:
    with np.errstate(over="ignore"):
        return {
            "add": lambda: old + value,
            "min": lambda: min(old, value),
            "max": lambda: max(old, value),
            "and": lambda: old & value,
            "or": lambda: old | value,
            "xor": lambda: old ^ value,
            "exch": lambda: value,
            "inc": lambda: type(old)(0) if old >= value else old + type(old)(1),
            "dec": lambda: value if old == 0 or old > value else old - type(old)(1),
        }[op]()


@pytest.mark.parametrize("form", ATOMICS)
def test_atomics_update_memory_in_lane_order_and_return_the_old_value(atomics: CompiledRules, form: str) -> None:
    op, kind = form.split(maxsplit=1)[0].split(".")[2:]
    rng = np.random.default_rng(6)
    dtype = DTYPES[kind]
    for mask in MASKS:
        memory = rng.integers(0, 100, 8).astype(dtype)
        values = rng.integers(0, 100, 32).astype(dtype)
        if dtype in (np.int32, np.int64):
            memory, values = memory - 50, values - 50
        places = rng.integers(0, 8, 32)
        model = memory.copy()
        old = np.zeros(32, dtype)
        for lane in LANES[mask]:
            old[lane] = model[places[lane]]
            model[places[lane]] = updated(op, model[places[lane]], values[lane])
        addresses = memory.ctypes.data + places.astype(np.uint64) * dtype().itemsize
        got = atomics(form, addresses, values, mask=mask)
        assert np.array_equal(memory, model) and np.array_equal(got[mask], old[mask].astype(got.dtype))


def test_half_precision_atomics_round_once_and_leave_their_neighbours_alone(atomics: CompiledRules) -> None:
    memory = np.array([1.0, 7.0], np.float16)
    atomics("atom.global.add.noftz.f16 r [a] r", np.uint64(memory.ctypes.data), np.full(32, 0x3C00))
    assert memory.tolist() == [33.0, 7.0]
    packed = np.array([0x3C003C00, 5], np.uint32)
    atomics("atom.global.add.noftz.f16x2 r [a] r", np.uint64(packed.ctypes.data), np.full(32, 0x40003C00))
    assert packed.view(np.float16)[:2].tolist() == [33.0, 65.0] and packed[1] == 5
    brain = np.array([0x3F80, 0x1234], np.uint16)
    old = atomics(
        "atom.global.add.noftz.bf16 r [a] r", np.uint64(brain.ctypes.data), np.full(32, 0x3F80), mask=LANES < 3
    )
    assert brain.tolist() == [0x4080, 0x1234] and old[:3].tolist() == [0x3F80, 0x4000, 0x4040]
    packed = np.array([0x3F803F80], np.uint32)
    atomics(
        "atom.global.add.noftz.bf16x2 r [a] r", np.uint64(packed.ctypes.data), np.full(32, 0x3F800000), mask=LANES < 3
    )
    assert packed[0] == 0x40803F80


def test_compare_and_swap_lets_one_lane_win(atomics: CompiledRules) -> None:
    memory = np.zeros(2, np.uint32)
    old = atomics("atom.shared.cas.b32 r [a] r r", np.uint64(memory.ctypes.data), 0, LANES + 1)
    assert memory.tolist() == [1, 0] and old.tolist() == [0] + [1] * 31
    wide = np.array([5], np.uint64)
    atomics(
        "atom.cas.b64 r [a] r r", np.uint64(wide.ctypes.data), np.full(32, 5), np.full(32, 1 << 40), mask=LANES == 9
    )
    assert wide[0] == 1 << 40
    short = np.array([3, 4], np.uint16)
    atomics("atom.cas.b16 r [a] r r", np.uint64(short.ctypes.data), np.full(32, 3), np.full(32, 9), mask=LANES == 0)
    assert short.tolist() == [9, 4]


def test_reductions_and_ordered_forms(atomics: CompiledRules) -> None:
    memory = np.zeros(4, np.float32)
    address = np.full(32, memory.ctypes.data, np.uint64)
    compiled = atomics
    compiled("red.global.add.f32 [a] r", address, np.ones(32, np.float32), mask=LANES < 7)
    compiled("red.global.v2.add.f32 [a] {2}", address + np.uint64(8), np.full(32, 2.0), np.full(32, 3.0))
    assert memory.tolist() == [7.0, 0.0, 64.0, 96.0]
    counter = np.zeros(1, np.int32)
    address = np.full(32, counter.ctypes.data, np.uint64)
    assert compiled("atom.acq_rel.gpu.global.add.u32 r [a] r", address, np.ones(32)).tolist() == LANES.tolist()
    assert compiled("atom.add.release.gpu.u32 r [a] r", address, np.ones(32))[31] == 63
    compiled("red.release.gpu.global.max.s32 [a] r", address, LANES + 40)
    assert counter[0] == 71
