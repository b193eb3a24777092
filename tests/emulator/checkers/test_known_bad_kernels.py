"""Kernels with one mistake each: the checker it is for must find each, and none may find anything in an honest twin.

See table.py for how the .cu files are read.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch

from kernelevo.build import build
from kernelevo.devices import Call
from kernelevo.devices.emulator import EmulatorDevice
from kernelevo.records import Candidate, Finding, Outcome
from kernelevo.toolchain import find_toolchain

from .table import FILES, Kernel, Mark, defined, kernels, source

pytestmark = pytest.mark.nvcc

EVERY = [kernel for file in FILES for kernel in kernels(file)]
BAD = [kernel for kernel in EVERY if not kernel.good]
GOOD = [kernel for kernel in EVERY if kernel.good]
MOST_CHANGED = 6  # lines of a bad kernel and of its twin together
LENGTH = 1001  # of the vector that every kernel is given: the numbers from 0

Run = Callable[[Kernel], Call]


@pytest.fixture(scope="module")
def run(emulator: EmulatorDevice, cache_folder: Path) -> Iterator[Run]:
    """Calls a kernel with all checkers on: one build and one worker per file."""
    with ExitStack() as stack:
        sessions = {}

        def call(kernel: Kernel) -> Call:
            if kernel.file not in sessions:
                built = build(
                    Candidate(source=source(kernel.file), entry="forward"),
                    target=emulator.target,
                    toolchain=find_toolchain(),
                    cache=cache_folder,
                )
                assert built.succeeded, built.diagnostics
                opened = emulator.open(built, entry="forward", timeout_seconds=30.0, memory_bytes=1 << 30)
                sessions[kernel.file] = stack.enter_context(opened)
            x = torch.arange(LENGTH, dtype=torch.float32)
            return sessions[kernel.file].call([x, kernel.row, kernel.good], checked=True)

        yield call


@pytest.mark.parametrize("kernel", BAD, ids=lambda kernel: f"{kernel.file}-{kernel.name}")
def test_a_bad_kernel_is_found_by_its_checker_on_its_line_twice_alike(run: Run, kernel: Kernel) -> None:
    call = run(kernel)
    assert call.findings, f"nothing found; outcome {call.outcome.value}: {call.reason}"
    for finding in call.findings:
        assert any(agrees(finding, mark, kernel, call) for mark in kernel.marks), finding
    assert run(kernel).findings == call.findings


@pytest.mark.parametrize("kernel", GOOD, ids=lambda kernel: f"{kernel.file}-{kernel.name}")
def test_nothing_is_found_in_an_honest_twin(run: Run, kernel: Kernel) -> None:
    call = run(kernel)
    assert (call.outcome, call.reason, call.findings) == (Outcome.PASSED, None, ())


@pytest.mark.parametrize("kernel", BAD, ids=lambda kernel: f"{kernel.file}-{kernel.name}")
def test_a_bad_kernel_has_a_mark_and_a_twin_that_differs_in_the_repair(kernel: Kernel) -> None:
    assert kernel.marks
    (twin,) = (other for other in GOOD if (other.file, other.row) == (kernel.file, kernel.row))
    assert not twin.marks
    changed = [line for line in difflib.ndiff(kernel.body, twin.body) if line.startswith(("+ ", "- "))]
    assert len(changed) <= MOST_CHANGED, "\n".join(changed)


def test_the_table_is_complete() -> None:
    assert len(BAD) >= 45
    assert {kernel.name for kernel in EVERY} == set().union(*map(defined, FILES))


def agrees(finding: Finding, mark: Mark, kernel: Kernel, call: Call) -> bool:
    """Whether a finding is what the mark says, and says everything that a finding of its kind must."""
    mangled = f"{len(kernel.name)}{kernel.name}"
    if finding.kind != mark.kind or finding.kernel is None or mangled not in finding.kernel:
        return False
    if finding.kind == "bad launch":
        return finding.line in (None, mark.line)
    if finding.line != mark.line or finding.block is None or finding.thread is None:
        return False
    # A launch that hangs is not among those of the call; such kernels are launched in one dimension.
    launch = next((launch for launch in call.launches if mangled in launch.kernel), None)
    block = number(finding.block, launch.grid if launch else ONE_DIMENSION)
    thread = number(finding.thread, launch.block if launch else ONE_DIMENSION)
    if block is None or thread is None:
        return False
    if finding.kind in ACCESSES and None in (finding.address, finding.allocation, finding.access_bytes):
        return False
    return (mark.blocks is None or block in mark.blocks) and (mark.threads is None or thread in mark.threads)


# Kinds of findings about one access to memory.
ACCESSES = (
    "out of bounds",
    "use after free",
    "misaligned",
    "null pointer",
    "write to const",
    "uninitialised read",
    "race",
)


ONE_DIMENSION = (1024, 1, 1)


def number(index: tuple[int, int, int], extent: tuple[int, int, int]) -> int | None:
    """An index as a number, x fastest; None when it is outside."""
    if not all(0 <= i < n for i, n in zip(index, extent, strict=True)):
        return None
    return index[0] + extent[0] * (index[1] + extent[1] * index[2])
