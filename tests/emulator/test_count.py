"""Events to counters: costs of basic blocks, dependent paths, scaling to the whole grid."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kernelevo.emulator.count import Access, Events, Footprint, block_cost, block_flops, count, longest_path
from kernelevo.emulator.instruction import Address, Instruction, Operand, Position, Register, Vector

HERE = Position("test.ptx", 1, 1)


def instruction(form: str, *operands: Operand) -> Instruction:
    """From a dotted form with its last part the type, for example "ld.global.f32"."""
    opcode, *modifiers, kind = form.split(".")
    return Instruction(opcode, tuple(modifiers), (kind,), operands, None, False, HERE, None)


def r(name: str) -> Register:
    return Register(f"%{name}")


def at(name: str) -> Address:
    return Address(r(name), 0)


LOAD = instruction("ld.global.f32", r("f1"), at("rd1"))
OTHER_LOAD = instruction("ld.global.f32", r("f2"), at("rd2"))
FMA = instruction("fma.rn.f32", r("f3"), r("f1"), r("f2"), r("f3"))
EXP = instruction("ex2.approx.ftz.f32", r("f4"), r("f3"))
STORE = instruction("st.global.f32", at("rd1"), r("f4"))
WIDE = instruction("add.s64", r("rd1"), r("rd1"), r("rd2"))


def test_instructions_are_counted_by_the_pipe_that_runs_them() -> None:
    cost = block_cost([LOAD, OTHER_LOAD, FMA, EXP, STORE, WIDE])
    assert cost["memory_instructions"] == 3
    assert cost["fp32_instructions"] == 1
    assert cost["special_instructions"] == 1
    assert cost["int_instructions"] == 2  # a 64-bit add is two 32-bit ones
    assert cost["warp_instructions"] == 7


def test_an_fma_is_two_flops_and_a_packed_add_is_two() -> None:
    assert block_flops([FMA, LOAD, WIDE, instruction("add.f16x2", r("a"), r("b"), r("c"))]) == 4


def test_loads_of_one_block_overlap_unless_one_feeds_the_other() -> None:
    assert longest_path([LOAD, OTHER_LOAD, FMA])["load"] == 1
    chased = instruction("ld.global.u64", r("rd2"), at("rd1"))
    assert longest_path([chased, OTHER_LOAD, FMA]) == {"load": 2, "arithmetic": 1}


def test_a_vector_load_feeds_all_its_elements() -> None:
    wide = instruction("ld.global.v2.f32", Vector((r("f1"), r("f2"))), at("rd1"))
    assert longest_path([wide, FMA, EXP]) == {"load": 1, "arithmetic": 1, "special": 1}


def events(accesses: list[Access], footprints: list[Footprint]) -> Events:
    """Two of eight blocks ran, four warps each; one basic block, executed once by each warp with all lanes."""
    return Events(
        grid_blocks=8,
        ran_blocks=2,
        warps_per_block=4,
        executions=[8],
        lanes=[256],
        accesses=accesses,
        footprints=footprints,
        hottest_of_one=5,
        hottest_of_several=3,
        block_read_sectors=32,
        warp_read_sectors=32,
        reuse=[0] * 16,
    )


def test_counts_of_sampled_blocks_are_scaled_to_the_grid() -> None:
    access = Access(
        space="global",
        reads=True,
        writes=False,
        bytes=4,
        source_line=3,
        requests=8,
        lanes=256,
        sectors=32,
        wavefronts=0,
        ideal_wavefronts=0,
        serial=0,
    )
    counters = count([[LOAD, FMA]], events([access], []))
    assert counters["warps"] == 32
    assert counters["fp32_instructions"] == 32
    assert counters["global_read_sectors"] == 128
    assert counters["global_bytes"] == 256 * 4 * 4
    assert counters["flops"] == 256 * 2 * 4


@pytest.mark.parametrize(
    ("footprint", "unique_bytes"),
    [
        (Footprint(4096, 8, 16, 0, 0), 16 * 4 * 32),  # each block its own part
        (Footprint(4096, 16, 16, 0, 0), 16 * 32),  # all blocks the same part
        (Footprint(4096, 8, 12, 0, 0), 12 * 32 * 4**0.585),  # half of each block's part is its own
        (Footprint(1024, 8, 16, 0, 0), 1024 + 32),  # never more than there is
        (Footprint(0, 0, 16, 0, 0), 16 * 4 * 32),  # the first half read nothing
    ],
)
def test_distinct_bytes_grow_as_they_did_in_the_sample(footprint: Footprint, unique_bytes: float) -> None:
    assert count([[LOAD]], events([], [footprint]))["unique_read_bytes"] == pytest.approx(unique_bytes, rel=1e-3)


def test_the_busiest_address_is_scaled_only_when_blocks_share_it() -> None:
    assert count([[LOAD]], events([], []))["hottest_atomics"] == 3 * 4


def test_blocks_with_sectors_of_their_own_share_none_although_later_ones_have_fewer() -> None:
    """A grid-stride loop: eight trips of the first blocks, seven of the last. 30 of 32 is no sign of sharing."""
    uneven = replace(events([], [Footprint(0, 16, 30, 0, 0)]), block_read_sectors=30)
    assert count([[LOAD]], uneven)["unique_read_bytes"] == 30 * 4 * 32
    shared = replace(uneven, block_read_sectors=31)
    assert count([[LOAD]], shared)["unique_read_bytes"] < 30 * 4 * 32


def test_what_is_written_once_is_all_of_it_written() -> None:
    once = Access(
        source_line=None,
        space="global",
        reads=False,
        writes=True,
        bytes=4,
        requests=8,
        lanes=240,
        sectors=30,
        wavefronts=0,
        ideal_wavefronts=0,
        serial=0,
    )
    assert count([[LOAD]], events([once], [Footprint(0, 0, 0, 16, 30)]))["unique_write_bytes"] == 30 * 4 * 32
    twice = replace(once, sectors=60)
    assert count([[LOAD]], events([twice], [Footprint(0, 0, 0, 16, 30)]))["unique_write_bytes"] < 30 * 4 * 32
