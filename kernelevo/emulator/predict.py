"""Launch counters and ptxas resources in, predicted time on a named GPU out.

The model, version 2, after the roofline with latency and occupancy terms (see the survey in emulation notes, 5.1):

    time = launch + (sum of term ** p) ** (1 / p)

over the terms below, each in seconds for the busiest multiprocessor, where p (`overlap`) says how well they hide
each other. Events are those of the emulated PTX: PTX instructions stand for the machine instructions that ptxas would
make of them (count.py lists the exceptions).

    issue    warp instructions / schedulers
    pipe_*   lane operations of a class / lanes per cycle
    shared   128-byte wavefronts, bank conflicts and queues of atomics included
    l1       sectors between L1 and registers
    l2       sectors that miss L1, of which every resident warp has an equal share
    dram     distinct bytes of the launch, read and written
    atomics  those on the busiest global address, one after the other
    latency  waves x the dependent latencies of one warp, blocks of one wave running side by side

Occupancy follows from registers, shared memory and block size, waves from occupancy. `imbalance` is the busiest
multiprocessor's share of the blocks over the mean share.

What it does not know: real machine code, caches beyond the two rules above, clocks under load, TLB, warm L2 between
the launches of a call. Models of this kind err by 20-30 % at best, and this one is not calibrated: it is for ranking
candidates of one task and for feedback, always labelled PREDICTED, never a speedup claim.
"""

from __future__ import annotations

import math
import tomllib
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

VERSION = 2
INTERVAL = 1.5  # a prediction t stands for [t / 1.5, t * 1.5]
WARP = 32
SECTOR_BYTES = 32

CLASSES = ("fp32", "fp64", "half", "int", "special", "convert", "convert64", "shuffle")


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """Constants of one GPU, from gpus.toml."""

    key: str
    title: str
    target: str
    constants: Mapping[str, Any]

    def __getitem__(self, name: str) -> float:
        return float(self.constants[name])

    def lanes(self, name: str) -> float:
        """Lane operations (or bytes) per cycle and multiprocessor."""
        return float(self.constants["lanes_per_cycle"][name])

    def latency(self, name: str) -> float:
        """Cycles."""
        return float(self.constants["latency_cycles"][name])


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What one kernel takes."""

    registers: int  # per thread
    shared_bytes: int  # per block, static and dynamic


@dataclass(frozen=True, slots=True, kw_only=True)
class Occupancy:
    """How many blocks fit one multiprocessor, and what limits them."""

    blocks: int  # resident per multiprocessor
    warps: int  # resident per multiprocessor
    limit: str  # "registers", "shared memory", "threads" or "blocks"


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """Predicted time of one launch."""

    seconds: float
    low_seconds: float
    high_seconds: float
    terms: Mapping[str, float]  # seconds each would take alone
    binding: str  # the largest term
    occupancy: Occupancy
    waves: float
    words: str  # the bottleneck in words


def load_gpu(key: str = "h100_sxm") -> Gpu:
    """Constants of a GPU; KeyError for one that gpus.toml lacks."""
    table = tomllib.loads((Path(__file__).parent / "gpus.toml").read_text())
    entry = table[key]
    return Gpu(key=key, title=entry["title"], target=entry["target"], constants=entry)


def occupancy(gpu: Gpu, *, threads: int, resources: Resources) -> Occupancy:
    """Resident blocks of `threads` threads each, by the rules of the CUDA occupancy calculator."""
    warps = math.ceil(threads / WARP)
    unit = int(gpu["register_granularity"])
    warp_registers = math.ceil(max(resources.registers, 1) * WARP / unit) * unit
    partitions = int(gpu["schedulers"])  # each holds an equal part of the registers, and whole warps
    unit = int(gpu["shared_granularity"])
    shared_bytes = math.ceil((resources.shared_bytes + gpu["shared_bytes_reserved"]) / unit) * unit
    limits = {
        "threads": int(gpu["threads"]) // (warps * WARP),
        "blocks": int(gpu["blocks"]),
        "registers": int(gpu["registers"]) // partitions // warp_registers * partitions // warps,
        "shared memory": int(gpu["shared_bytes"]) // shared_bytes,
    }
    limit = min(limits, key=lambda name: limits[name])
    blocks = max(limits[limit], 1)
    return Occupancy(blocks=blocks, warps=blocks * warps, limit=limit)


def predict(
    gpu: Gpu,
    counters: Mapping[str, float],
    *,
    grid: tuple[int, int, int],
    block: tuple[int, int, int],
    resources: Resources,
) -> Prediction:
    """Predicted time of one launch.

    counters: events of the whole launch, as `count.py` names them.
    grid, block: as launched, in blocks and threads.
    """
    counters = defaultdict(float, counters)
    blocks = math.prod(grid)
    multiprocessors = gpu["multiprocessors"]
    clock = gpu["clock_hz"]
    held = occupancy(gpu, threads=math.prod(block), resources=resources)
    busy = min(blocks, multiprocessors)
    imbalance = math.ceil(blocks / multiprocessors) / (blocks / multiprocessors)
    waves = blocks / (held.blocks * multiprocessors)

    def seconds(units: float, units_per_cycle: float) -> float:
        """Of work that is spread over the multiprocessors."""
        return units / multiprocessors * imbalance / units_per_cycle / clock

    terms = {"issue": seconds(counters["warp_instructions"], gpu["schedulers"] * gpu["issue_efficiency"])}
    for name in CLASSES:
        terms[f"pipe_{name}"] = seconds(counters[f"{name}_instructions"] * WARP, gpu.lanes(name))
    requests = counters["global_requests"] + counters["local_requests"]
    sectors = counters["global_sectors"] + counters["local_sectors"]
    terms["memory requests"] = seconds(requests * WARP, gpu.lanes("memory"))
    wavefronts = counters["shared_wavefronts"] + counters["shared_atomic_serial"]
    terms["shared"] = seconds(wavefronts * WARP, gpu.lanes("shared"))
    terms["l1"] = seconds(sectors * SECTOR_BYTES, gpu.lanes("sector_bytes"))

    l2_bytes = missed_bytes(gpu, counters, held=held, resources=resources)
    terms["l2"] = max(
        l2_bytes / gpu["l2_bytes_per_second"], seconds(l2_bytes, gpu["l2_bytes_per_cycle_and_multiprocessor"])
    )
    terms["dram"] = dram_bytes(counters, l2_bytes) / (gpu["dram_bytes_per_second"] * gpu["dram_efficiency"])
    terms["atomics"] = counters["hottest_atomics"] / gpu["atomics_per_cycle"] / clock
    terms["latency"] = math.ceil(waves) * warp_latency(gpu, counters) / clock

    power = gpu["overlap"]
    total = gpu["launch_seconds"] + sum(term**power for term in terms.values()) ** (1 / power)
    binding = max(terms, key=lambda name: terms[name])
    return Prediction(
        seconds=total,
        low_seconds=total / INTERVAL,
        high_seconds=total * INTERVAL,
        terms=terms,
        binding=binding,
        occupancy=held,
        waves=waves,
        words=in_words(gpu, counters, terms, total, held, waves, busy, blocks),
    )


def missed_bytes(gpu: Gpu, counters: Mapping[str, float], *, held: Occupancy, resources: Resources) -> float:
    """Bytes between L1 and L2. Writes go through.

    Each resident warp is given an equal share of L1. A read misses when its warp did not read the sector before, or so
    many sectors ago that the share no longer holds it; warps of a block that read the same sectors share the miss.
    """
    free = gpu["l1_bytes"] - held.blocks * (resources.shared_bytes + gpu["shared_bytes_reserved"])
    share = max(free, 0.0) / held.warps / SECTOR_BYTES
    reads = counters["global_read_sectors"]
    misses = max(reads - hits_within(counters, share), counters["warp_read_sectors"])
    shared_by_warps = counters["block_read_sectors"] / max(counters["warp_read_sectors"], 1.0)
    return (misses * shared_by_warps + counters["global_write_sectors"] + counters["local_sectors"]) * SECTOR_BYTES


def hits_within(counters: Mapping[str, float], sectors: float) -> float:
    """Sector reads that repeat one of the same warp less than `sectors` before, between powers of two linearly."""
    if sectors < 1:
        return 0.0
    low = 1 << min(int(math.log2(sectors)), 14)
    below, above = counters[f"reuse_within_{low}"], counters[f"reuse_within_{2 * low}"]
    return below + (above - below) * min(sectors / low - 1.0, 1.0)


def dram_bytes(counters: Mapping[str, float], l2_bytes: float) -> float:
    """Distinct bytes read plus distinct bytes written, in whole sectors: compulsory traffic, cold caches."""
    return min(counters["unique_read_bytes"] + counters["unique_write_bytes"], max(l2_bytes, 1.0))


def warp_latency(gpu: Gpu, counters: Mapping[str, float]) -> float:
    """Cycles that one warp waits for its own results, on average.

    The longest dependent path of every basic block that it executes, one after the other. The first read of a sector
    by its block is priced as DRAM, later ones as L1, which is as far away as shared memory.
    """
    warps = max(counters["warps"], 1.0)
    first = min(counters["block_read_sectors"] / max(counters["global_read_sectors"], 1.0), 1.0)
    load = first * gpu.latency("dram") + (1.0 - first) * gpu.latency("shared")
    cycles = counters["path_load"] * load + counters["barriers"] * gpu.latency("barrier")
    for name in ("shared", "shuffle", "special", "arithmetic"):
        cycles += counters[f"path_{name}"] * gpu.latency(name)
    return cycles / warps


NOTABLE = 0.05  # share of the time from which on the launch is named
NEXT = 0.3  # share of the largest term from which on the second one is named


def in_words(
    gpu: Gpu,
    counters: Mapping[str, float],
    terms: Mapping[str, float],
    total: float,
    held: Occupancy,
    waves: float,
    busy: float,
    blocks: int,
) -> str:
    """The bottleneck in words a person or a model can act on."""
    names = {
        "issue": "instruction issue",
        "memory requests": "load/store requests",
        "shared": "shared-memory wavefronts",
        "l1": "L1 sectors",
        "l2": "L2 bandwidth",
        "dram": "DRAM bandwidth",
        "atomics": "atomics on the same address",
        "latency": "latency of dependent steps",
    }
    named = {term: names.get(term, term.replace("pipe_", "") + " arithmetic") for term in terms}
    binding, second, *_ = sorted(terms, key=lambda term: -terms[term])
    facts = [f"bound by {named[binding]} ({terms[binding] / total:.0%} of the time)"]
    if (launch := gpu["launch_seconds"] / total) >= NOTABLE:
        facts.append(f"{launch:.0%} is the launch itself")
    if terms[second] >= NEXT * terms[binding]:
        facts.append(f"next is {named[second]}, alone {terms[second] / total:.0%}")
    sectors = counters["global_sectors"]
    if sectors:
        used = counters["global_bytes"] / (sectors * SECTOR_BYTES)
        if used < 0.7:
            facts.append(f"{1 - min(used, 1.0):.0%} of the bytes in its global sectors are unused")
        per_lane = counters["global_bytes"] / max(counters["global_lanes"], 1.0)
        if per_lane < 8 and binding in ("memory requests", "issue", "latency", "dram"):
            facts.append(f"{per_lane:.1f} bytes per lane and global access, where 16 are possible")
    ideal = counters["shared_ideal_wavefronts"]
    if ideal and counters["shared_wavefronts"] > 1.2 * ideal:
        facts.append(f"bank conflicts: {counters['shared_wavefronts'] / ideal:.1f} wavefronts where 1 would do")
    if counters["barriers"] / max(counters["warps"], 1.0) >= 4:
        facts.append(f"{counters['barriers'] / counters['warps']:.0f} barriers per warp")
    if counters["warp_instructions"]:
        active = counters["thread_instructions"] / (counters["warp_instructions"] * WARP)
        if active < 0.8:
            facts.append(f"{active:.0%} of lanes active")
    if blocks < gpu["multiprocessors"]:
        facts.append(f"only {blocks} blocks for {gpu['multiprocessors']:.0f} multiprocessors")
    if held.warps * WARP < 0.5 * gpu["threads"]:
        facts.append(f"occupancy {held.warps * WARP / gpu['threads']:.0%}, limited by {held.limit}")
    if counters["local_requests"]:
        facts.append("local memory is used (spills or indexed arrays)")
    return "; ".join(facts)
