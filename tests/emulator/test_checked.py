"""Checked and stubbed calls: what a finding says, that launches go on, what is copied, and in which order streams run.

Which mistakes are found is the table's in tests/emulator/checkers.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from kernelevo.build import build
from kernelevo.devices import Session
from kernelevo.devices.emulator import EmulatorDevice
from kernelevo.emulator.checked import CheckedKernel, UncheckedKernel, check_kernel
from kernelevo.emulator.grid import LaunchStatus
from kernelevo.records import Candidate, Outcome
from kernelevo.toolchain import find_toolchain

from .core_harness import module_of, needs_nvcc, pack

pytestmark = needs_nvcc
SOURCE = (Path(__file__).parent / "checked_candidate.cu").read_text()
LINE = 1 + SOURCE.splitlines().index("    if (i < n) y[i] = x[i] + z[i + shift];")
RIGHT, TOO_FAR, COPIES, STREAMS = range(4)
N = 129


@pytest.fixture(scope="module")
def session(emulator: EmulatorDevice, cache_folder: Path) -> Iterator[Session]:
    built = build(
        Candidate(source=SOURCE, entry="forward"),
        target=emulator.target,
        toolchain=find_toolchain(),
        cache=cache_folder,
    )
    assert built.succeeded, built.diagnostics
    with emulator.open(built, entry="forward", timeout_seconds=30.0, memory_bytes=1 << 30) as opened:
        yield opened


def inputs(what: int) -> list[torch.Tensor | int]:
    return [torch.arange(N, dtype=torch.float32), what, torch.ones(N)]


def test_a_finding_says_who_did_what_to_which_memory(session: Session) -> None:
    call = session.call(inputs(TOO_FAR), checked=True)
    (finding,) = call.findings
    assert (finding.kind, finding.line) == ("out of bounds", LINE)
    assert (finding.block, finding.thread) == ((2, 0, 0), (0, 0, 0))
    assert (finding.address, finding.access_bytes) == (4 * N, 4)
    assert finding.allocation == "input 1 [129] float32"
    assert finding.text == (
        f"kernel add_shifted, line {LINE}: threadIdx (0,0,0) of block (2,0,0) reads 4 bytes at offset 516 of "
        "input 1 [129] float32, 0 bytes past its end"
    )


def test_a_checked_launch_leaves_out_what_is_not_allowed_and_goes_on(session: Session) -> None:
    call = session.call(inputs(TOO_FAR), checked=True)
    assert call.outcome is Outcome.PASSED
    expected = torch.arange(N, dtype=torch.float32) + 1
    expected[-1] -= 1  # what was not read counts as zero
    assert torch.equal(call.outputs[0], expected)


def test_findings_are_the_same_every_time_and_gone_with_the_next_call(session: Session) -> None:
    first, again = (session.call(inputs(TOO_FAR), checked=True).findings for _ in range(2))
    assert first == again
    assert session.call(inputs(RIGHT), checked=True).findings == ()
    assert session.call(inputs(TOO_FAR), checked=False).findings == ()  # a redzone is read, nothing is damaged


def test_a_checked_call_gives_the_bits_of_an_unchecked_one(session: Session) -> None:
    plain, checked = (session.call(inputs(RIGHT), checked=checked) for checked in (False, True))
    assert torch.equal(plain.outputs[0], checked.outputs[0])
    assert [replace(launch, counters={}) for launch in plain.launches] == list(checked.launches)


def test_a_stubbed_call_notes_launches_and_runs_nothing(session: Session) -> None:
    call = session.call(inputs(RIGHT), stubbed=True, poison=0x3C)
    assert [launch.grid for launch in call.launches] == [(3, 1, 1)]
    assert set(call.outputs[0].view(torch.uint8).tolist()) == {0x3C}
    assert not torch.equal(session.call(inputs(RIGHT)).outputs[0], call.outputs[0])


def test_bytes_that_the_candidate_copies_between_host_and_device_are_counted(session: Session) -> None:
    call = session.call(inputs(COPIES))
    assert call.outcome is Outcome.PASSED, call.reason
    assert (call.copied_in_bytes, call.copied_out_bytes) == (2 * 4 * N, 4 + 4 * N)
    call = session.call(inputs(RIGHT))
    assert (call.copied_in_bytes, call.copied_out_bytes) == (0, 0)  # the worker's own do not count


def test_a_schedule_also_orders_streams_that_nothing_orders(session: Session) -> None:
    def last_writer(schedule: int) -> float:
        return float(session.call(inputs(STREAMS), schedule=schedule).outputs[0][0])

    assert last_writer(0) == 2.0
    seen = [last_writer(schedule) for schedule in range(1, 9)]
    assert set(seen) == {1.0, 2.0}
    assert seen == [last_writer(schedule) for schedule in range(1, 9)]


def test_a_kernel_that_is_too_large_runs_unchecked_and_says_so() -> None:
    module = module_of("count_kernels")
    assert isinstance(check_kernel(module, "gather", (32, 1, 1)), CheckedKernel)
    kernel = check_kernel(module, "gather", (32, 1, 1), most_instructions=3)
    assert isinstance(kernel, UncheckedKernel)
    x, y = np.arange(32, dtype=np.float32), np.zeros(32, np.float32)
    packed = ctypes.create_string_buffer(pack(x, y, np.int32(32), np.int32(1)) + bytes(64))
    status, message, blocks, (finding,) = kernel.check((1, 1, 1), 0, ctypes.addressof(packed))
    assert (status, message, blocks) == (LaunchStatus.DONE, "", 1)
    assert finding.kind == "not checked"
    assert "more than the 3 that are checked" in finding.text
    np.testing.assert_array_equal(y, x)
