"""The contract of a Device (kernelevo/devices/__init__.py), over every device that this machine has."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from cuda_over_emulator import cuda_device_over_emulator

from kernelevo.build import build
from kernelevo.devices import Call, Device
from kernelevo.devices.emulator import EmulatorDevice
from kernelevo.errors import UsageError
from kernelevo.records import Build, Candidate, Outcome, TimingKind
from kernelevo.toolchain import find_toolchain

CANDIDATES = Path(__file__).parent.parent / "worker" / "candidates"
TIMEOUT_SECONDS = 60.0  # of calls that end by themselves
SHORT_SECONDS = 2.0  # where a timeout is expected

SCALE, SPIN, TRAP, HALF_A_BARRIER, WRITE_BEHIND, TOO_MANY_THREADS, WRITE_NOTHING, CHANGE_INPUT, RETURN_INPUT = range(9)
ON_THE_CPU, SIDE_STREAM, TWO_LAUNCHES, CHECK_FAILS, EXIT, ABORT, HOST_LOOP, PRINT, SEGFAULT, TRANSPOSED = range(9, 19)

pytestmark = pytest.mark.nvcc


@pytest.fixture(scope="module")
def cuda_over_emulator(emulator: EmulatorDevice, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Device]:
    """The CUDA device with the emulator as its driver; skips where the emulator cannot run."""
    with cuda_device_over_emulator(tmp_path_factory.mktemp("driver")) as opened:
        yield opened


@pytest.fixture(scope="module", params=["emulator", "cuda_over_emulator", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> Device:
    opened: Device = request.getfixturevalue(request.param)
    return opened


@pytest.fixture(scope="module")
def built(device: Device, cache_folder: Path) -> Callable[[str], Build]:
    """Builds tests/worker/candidates/NAME.cu, once."""
    builds: dict[str, Build] = {}

    def get(name: str) -> Build:
        if name not in builds:
            candidate = Candidate(source=(CANDIDATES / f"{name}.cu").read_text(), entry="forward")
            builds[name] = build(candidate, target=device.target, toolchain=find_toolchain(), cache=cache_folder)
            assert builds[name].succeeded, builds[name].diagnostics
        return builds[name]

    return get


@pytest.fixture
def x() -> torch.Tensor:
    return torch.arange(1, 401, dtype=torch.float32).reshape(4, 100)


def call(
    device: Device, build: Build, *inputs: object, timeout_seconds: float = TIMEOUT_SECONDS, **options: int
) -> Call:
    with device.open(build, entry="forward", timeout_seconds=timeout_seconds, memory_bytes=2 << 30) as session:
        return session.call(inputs, **options)


def test_a_device_says_what_it_is(device: Device) -> None:
    assert device.name in ("emulator", "cuda")
    assert re.fullmatch(r"sm_\d+a?", device.target)
    assert device.timing_kind in TimingKind
    assert device.timing_target
    assert device.timing_method


def test_a_call_returns_outputs_inputs_and_launches(
    device: Device, built: Callable[[str], Build], x: torch.Tensor
) -> None:
    result = call(device, built("device"), x, SCALE, 3.0)
    assert (result.outcome, result.reason, result.findings) == (Outcome.PASSED, None, ())
    torch.testing.assert_close(result.outputs[0], 3 * x)
    assert result.outputs[0].device.type == "cpu"
    assert torch.equal(result.inputs_after[0], x)
    assert result.inputs_after[1:] == (None, None)
    (launch,) = result.launches
    assert "scale" in launch.kernel
    assert (launch.grid, launch.block, launch.shared_bytes) == ((4, 1, 1), (128, 1, 1), 0)
    assert dict(launch.counters) == {}
    assert result.seconds > 0


def test_one_session_takes_many_calls_and_is_restarted_after_a_crash(
    device: Device, built: Callable[[str], Build], x: torch.Tensor
) -> None:
    outcomes = []
    with device.open(
        built("device"), entry="forward", timeout_seconds=TIMEOUT_SECONDS, memory_bytes=2 << 30
    ) as session:
        for what in (SCALE, ABORT, SCALE, TRAP, SCALE):
            outcomes.append(session.call([x, what, 2.0]).outcome)
    assert outcomes == [Outcome.PASSED, Outcome.CRASHED, Outcome.PASSED, Outcome.CRASHED, Outcome.PASSED]


# Where a GPU knows less than the emulator. One with a display has a watchdog, which may come before our own deadline.
ON_A_GPU = {
    SPIN: r"^(kernel spin: the launch timed out|did not return within 2 s$)",
    TRAP: r"^kernel give_up: (unspecified launch failure|an illegal instruction)",
    HALF_A_BARRIER: r"^(kernel half_a_barrier: the launch timed out|did not return within 2 s$)",
}


@pytest.mark.parametrize(
    ("what", "outcome", "reason"),
    [
        (
            SPIN,
            Outcome.TIMED_OUT,
            r"^kernel spin: ran past the time limit at candidate\.ptx:\d+:\d+ \(line 1[5-8] of the \.cu file\)",
        ),
        (TRAP, Outcome.CRASHED, r"^kernel give_up: executed trap at candidate\.ptx:\d+:\d+ \(line 20 of"),
        (HALF_A_BARRIER, Outcome.TIMED_OUT, r"^kernel half_a_barrier: .* at candidate\.ptx:\d+:\d+ \(line 2"),
        (CHECK_FAILS, Outcome.CRASHED, r"^raised RuntimeError: x must have three rows, has 4"),
        (EXIT, Outcome.CRASHED, r"^exited with status 0 before it returned"),
        (ABORT, Outcome.CRASHED, r"^killed by SIGABRT"),
        (SEGFAULT, Outcome.CRASHED, r"^killed by SIGSEGV"),
        (HOST_LOOP, Outcome.TIMED_OUT, r"^did not return within 2 s$"),
    ],
)
def test_whatever_a_candidate_does_is_an_ordinary_call(
    device: Device, built: Callable[[str], Build], x: torch.Tensor, what: int, outcome: Outcome, reason: str
) -> None:
    limit = SHORT_SECONDS if outcome is Outcome.TIMED_OUT else TIMEOUT_SECONDS
    if device.name == "cuda":
        reason = ON_A_GPU.get(what, reason)
    result = call(device, built("device"), x, what, 2.0, timeout_seconds=limit)
    assert result.outcome is outcome, result.reason
    assert result.reason is not None
    assert re.search(reason, result.reason), result.reason
    assert result.outputs == ()


def test_what_the_device_cannot_run_is_unsupported_and_names_the_place(
    device: Device, built: Callable[[str], Build], x: torch.Tensor
) -> None:
    if device.name == "cuda":
        pytest.skip("a GPU runs everything that nvcc compiles for it")
    result = call(device, built("unsupported"), x)
    assert result.outcome is Outcome.UNSUPPORTED
    assert result.reason is not None
    assert re.search(r"mma.*m8n8k4", result.reason), result.reason
    assert re.search(r":\d+", result.reason), result.reason


@pytest.mark.parametrize(
    ("what", "kind"),
    [
        (RETURN_INPUT, "aliases input"),
        (ON_THE_CPU, "wrong device"),
        (SIDE_STREAM, "unjoined stream"),
        (TOO_MANY_THREADS, "bad launch"),
        (WRITE_BEHIND, "out of bounds"),
    ],
)
def test_what_is_wrong_with_a_returned_call_is_a_finding(
    device: Device, built: Callable[[str], Build], x: torch.Tensor, what: int, kind: str
) -> None:
    result = call(device, built("device"), x, what, 2.0)
    assert result.outcome is Outcome.PASSED, result.reason
    assert [finding.kind for finding in result.findings] == [kind]
    assert result.findings[0].text


def test_work_on_a_stream_that_nobody_joined_is_not_visible(
    device: Device, built: Callable[[str], Build], x: torch.Tensor
) -> None:
    output = call(device, built("device"), x, SIDE_STREAM, 2.0, poison=0xA5).outputs[0]
    assert bool((output.view(torch.uint8) == 0xA5).all())


@pytest.mark.parametrize("poison", [0x00, 0xA5, 0xFF])
def test_memory_that_nobody_wrote_holds_the_poison(
    device: Device, built: Callable[[str], Build], x: torch.Tensor, poison: int
) -> None:
    output = call(device, built("device"), x, WRITE_NOTHING, 2.0, poison=poison).outputs[0]
    assert bool((output.view(torch.uint8) == poison).all())


def test_a_changed_input_shows_in_inputs_after(device: Device, built: Callable[[str], Build], x: torch.Tensor) -> None:
    before = x.clone()
    result = call(device, built("device"), x, CHANGE_INPUT, 2.0)
    assert torch.equal(x, before)
    assert result.inputs_after[0][0, 0] == 7
    assert torch.equal(result.inputs_after[0][1:], before[1:])


def test_a_kernel_that_was_refused_is_not_counted_as_launched(
    device: Device, built: Callable[[str], Build], x: torch.Tensor
) -> None:
    assert call(device, built("device"), x, TOO_MANY_THREADS, 2.0).launches == ()
    assert len(call(device, built("device"), x, TWO_LAUNCHES, 2.0).launches) == 2


def test_strides_of_inputs_and_outputs_are_kept(device: Device, built: Callable[[str], Build], x: torch.Tensor) -> None:
    result = call(device, built("device"), x.t(), TRANSPOSED, 2.0)
    assert (result.outputs[0].shape, result.outputs[0].stride()) == ((4, 100), (100, 1))
    assert bool((result.outputs[0] == 2).all())
    assert torch.equal(result.inputs_after[0], x.t())


def test_what_is_printed_comes_back(device: Device, built: Callable[[str], Build], x: torch.Tensor) -> None:
    assert call(device, built("device"), x, PRINT, 2.0).output == "one line of output\n"


@pytest.mark.parametrize(
    ("inputs", "reason"),
    [
        (
            1,
            r"^forward does not take these arguments: it is \(arg0: torch\.Tensor, .*; it was called with 1 tensor$",
        ),
        (4, r"it was called with 1 tensor, 0, 2\.0, 3$"),
    ],
)
def test_a_wrong_number_of_arguments_is_named(
    device: Device, built: Callable[[str], Build], x: torch.Tensor, inputs: int, reason: str
) -> None:
    result = call(device, built("device"), *(x, SCALE, 2.0, 3)[:inputs])
    assert result.outcome is Outcome.CRASHED
    assert re.search(reason, result.reason or ""), result.reason


def test_an_entry_that_is_missing_is_named(device: Device, built: Callable[[str], Build], x: torch.Tensor) -> None:
    with device.open(
        built("device"), entry="backward", timeout_seconds=TIMEOUT_SECONDS, memory_bytes=2 << 30
    ) as session:
        result = session.call([x])
    assert result.outcome is Outcome.CRASHED
    assert result.reason == "the module has no function 'backward'; it exports forward"


def test_counting_gives_events_and_a_predicted_time(
    device: Device, built: Callable[[str], Build], x: torch.Tensor
) -> None:
    if device.timing_kind is not TimingKind.PREDICTED:
        pytest.skip(f"{device.name} measures; it does not count")
    (launch,) = call(device, built("device"), x, SCALE, 2.0, sample_blocks=2).launches
    assert launch.counters["blocks"] == 4
    assert launch.counters["global_bytes"] == pytest.approx(2 * x.numel() * 4, rel=0.3)
    assert launch.time is not None
    assert 0 < launch.time.low_ns <= launch.time.median_ns <= launch.time.high_ns
    assert launch.time.bottleneck


def test_a_counted_call_sends_back_events_and_no_tensors(
    device: Device, built: Callable[[str], Build], x: torch.Tensor
) -> None:
    result = call(device, built("device"), x, SCALE, 2.0, sample_blocks=2)
    assert result.outcome is Outcome.PASSED
    assert (result.outputs, result.inputs_after) == ((), (None, None, None))


def test_sessions_of_one_device_run_side_by_side(
    device: Device, built: Callable[[str], Build], x: torch.Tensor
) -> None:
    artifact = built("device")

    def run(factor: int) -> bool:
        with device.open(artifact, entry="forward", timeout_seconds=TIMEOUT_SECONDS, memory_bytes=2 << 30) as session:
            calls = [session.call([x, SCALE, float(factor + step)]) for step in range(5)]
        return all(torch.equal(c.outputs[0], (factor + step) * x) for step, c in enumerate(calls))

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(run, range(8)))


def test_memory_is_limited_and_running_out_of_it_is_the_candidates_crash(
    device: Device, built: Callable[[str], Build]
) -> None:
    x = torch.zeros(40 << 20)  # 160 MB, and as much again for the output
    with device.open(
        built("device"), entry="forward", timeout_seconds=TIMEOUT_SECONDS, memory_bytes=200 << 20
    ) as session:
        result = session.call([x, SCALE, 2.0])
    assert result.outcome is Outcome.CRASHED
    assert re.search(r"memory", result.reason or ""), result.reason


def test_a_build_that_failed_is_refused(device: Device) -> None:
    candidate = Candidate(source="int main() {}", entry="forward")
    failed = build(candidate, target=device.target, toolchain=find_toolchain(), cache=Path("/nonexistent"))
    with pytest.raises(UsageError, match="has no artifact"):
        device.open(failed, entry="forward", timeout_seconds=1, memory_bytes=1 << 30)


def test_a_device_that_was_closed_says_so(device: Device, built: Callable[[str], Build]) -> None:
    if device.name == "cuda":
        pytest.skip("made anew here, which is tested with the emulator; the session code is shared")
    closed = EmulatorDevice()
    closed.close()
    with pytest.raises(UsageError, match="closed"):
        closed.open(built("device"), entry="forward", timeout_seconds=1, memory_bytes=1 << 30)
    closed.close()  # again: harmless


def test_closing_a_device_in_the_middle_of_a_call_ends_the_worker(
    device: Device, built: Callable[[str], Build]
) -> None:
    if device.name == "cuda":
        pytest.skip("made anew here, which is tested with the emulator; the session code is shared")
    script = textwrap.dedent(
        """
        import sys, threading
        from dataclasses import replace
        from pathlib import Path
        import torch
        from kernelevo.devices.emulator import EmulatorDevice
        from kernelevo.records import Build
        device = EmulatorDevice()
        build = Build(candidate="c", target="sm_90", method=None, fallback_reason=None, flags=(), compiler="",
                      artifact=Path(sys.argv[1]), ptx=Path(sys.argv[2]), resources=(), diagnostics=(), cached=True,
                      seconds=0.0)
        session = device.open(build, entry="forward", timeout_seconds=600, memory_bytes=2 << 30)
        assert session.call([torch.ones(4), 0, 2.0]).outcome.value == "passed"
        threading.Timer(0.5, device.close).start()
        print(session.call([torch.ones(4), 15, 2.0]).outcome.value)
        """
    )
    chosen = built("device")
    command = [sys.executable, "-c", script, str(chosen.artifact), str(chosen.ptx)]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert (finished.stdout, finished.returncode) == ("crashed\n", 0), finished.stderr
