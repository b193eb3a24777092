"""The CUDA runtime of the emulated device, through a program that nvcc built against NVIDIA's headers."""

from __future__ import annotations

import ctypes
import os
import resource
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from kernelevo.emulator import runtime
from kernelevo.toolchain import find_nvcc

from .forked import emulated

SOURCE = Path(__file__).parent / "runtime_programs.cu"
NVCC = find_nvcc()[0]
pytestmark = pytest.mark.nvcc

SUCCESS, INVALID_VALUE, OUT_OF_MEMORY, INVALID_CONFIGURATION, INVALID_DIRECTION = 0, 1, 2, 9, 21
INVALID_DEVICE, INVALID_HANDLE, ILLEGAL_ADDRESS, OUT_OF_RESOURCES = 101, 400, 700, 701
LAUNCH_TIMEOUT, LAUNCH_FAILURE, COOPERATIVE_TOO_LARGE, NOT_SUPPORTED = 702, 719, 720, 801
FILL = "_Z4fillPiii"


def compiled(folder: Path, name: str, source: Path, *flags: str) -> Path:
    assert NVCC is not None
    shared = folder / f"{name}.so"
    command = [NVCC.path, "-shared", "-Xcompiler", "-fPIC", "-cudart", "none", "-lineinfo", "-o", shared, source]
    subprocess.run([*command, *flags], check=True)
    return shared


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its PTX is in its fat binary, as in what torch.utils.cpp_extension builds with -no-compress."""
    flags = ("-no-compress", "-gencode", "arch=compute_90,code=compute_90")
    return compiled(tmp_path_factory.mktemp("runtime"), "programs", SOURCE, *flags)


@pytest.fixture
def program(library: Path) -> Callable[[], ctypes.CDLL]:
    """Loads the program; for the test's child to call."""

    def load() -> ctypes.CDLL:
        loaded = ctypes.CDLL(str(library))
        loaded.name_of.restype = loaded.text_of.restype = ctypes.c_char_p
        return loaded

    return load


def ints(count: int) -> ctypes.Array[ctypes.c_int]:
    return (ctypes.c_int * count)()


# --- launching


@emulated
def test_a_program_allocates_launches_and_copies_back(program: Callable[[], ctypes.CDLL]) -> None:
    result = ints(100)
    assert program().fill_and_read(result, 37, 100) == SUCCESS
    assert list(result) == [42] * 100  # the kernel adds a __device__ variable that starts as 5
    (launch,) = runtime.launches()
    assert (launch.kernel, launch.grid, launch.block) == (FILL, (2, 1, 1), (64, 1, 1))
    assert launch.finished and launch.error == 0 and launch.blocks_run == 2
    assert runtime.faults() == runtime.unchecked_errors() == runtime.redzone_findings() == ()


@emulated
def test_constants_and_device_variables_are_written_read_and_bounded(program: Callable[[], ctypes.CDLL]) -> None:
    values, read = (ctypes.c_float * 4)(1, 1, 1, 1), ints(1)
    cuda = program()
    assert cuda.change_symbols(values, read) == INVALID_VALUE
    assert list(values) == [1, 10, 20, 4]
    assert read[0] == 7
    assert cuda.last_error() == INVALID_VALUE
    assert cuda.fill_and_read(result := ints(1), 0, 1) == SUCCESS
    assert result[0] == 7


@emulated
def test_parameters_of_all_sizes_arrive(program: Callable[[], ctypes.CDLL]) -> None:
    result = ctypes.c_double()
    assert program().mixed_parameters(ctypes.byref(result)) == SUCCESS
    assert result.value == 1 + 2.5 + 3 + 4.25 + 5 + 6


@emulated
def test_explicit_launches_work(program: Callable[[], ctypes.CDLL]) -> None:
    result = ints(8)
    assert program().launch_explicitly(result) == SUCCESS
    assert list(result) == [8] * 4 + [14] * 4


@emulated
def test_cooperative_launches_meet_and_must_fit_on_the_device(program: Callable[[], ctypes.CDLL]) -> None:
    cuda = program()
    seen = ints(40)
    assert cuda.launch_cooperatively(40, seen) == SUCCESS
    assert list(seen) == [40] * 40
    assert cuda.launch_cooperatively(132 * 32 + 1, ints(132 * 32 + 1)) == COOPERATIVE_TOO_LARGE


@pytest.mark.parametrize(
    ("grid", "block", "error"),
    [
        ((1, 1, 1), (1024, 1, 1), SUCCESS),
        ((1, 1, 1), (1, 16, 64), SUCCESS),
        ((1, 65535, 1), (1, 1, 1), SUCCESS),
        ((1, 1, 1), (1025, 1, 1), INVALID_CONFIGURATION),
        ((1, 1, 1), (32, 33, 1), INVALID_CONFIGURATION),
        ((1, 1, 1), (1, 1, 65), INVALID_CONFIGURATION),
        ((1, 1, 1), (0, 1, 1), INVALID_CONFIGURATION),
        ((0, 1, 1), (1, 1, 1), INVALID_CONFIGURATION),
        ((1, 65536, 1), (1, 1, 1), INVALID_CONFIGURATION),
        ((2**31, 1, 1), (1, 1, 1), INVALID_CONFIGURATION),
    ],
)
@emulated
def test_launch_shapes_have_the_targets_limits(
    program: Callable[[], ctypes.CDLL], grid: tuple[int, ...], block: tuple[int, ...], error: int
) -> None:
    cuda = program()
    assert cuda.launch_shape(*grid, *block) == error
    assert runtime.launches()[0].error == error
    assert runtime.faults() == ()
    assert cuda.launch_shape(1, 1, 1, 32, 1, 1) == SUCCESS  # a refused launch spoils nothing


@emulated
def test_launch_bounds_bind(program: Callable[[], ctypes.CDLL]) -> None:
    cuda = program()
    assert cuda.launch_bounded(64) == SUCCESS
    assert cuda.launch_bounded(65) == INVALID_VALUE
    assert "__launch_bounds__ allows (64)" in runtime.launches()[-1].reason


@pytest.mark.parametrize(
    ("dynamic", "allowed", "error"),
    [
        (48 * 1024 - 128, 0, SUCCESS),
        (48 * 1024 - 124, 0, INVALID_VALUE),  # 128 bytes are static
        (100 * 1024, 0, INVALID_VALUE),
        (100 * 1024, 100 * 1024, SUCCESS),
        (100 * 1024, 99 * 1024, INVALID_VALUE),
        (227 * 1024 - 128, 227 * 1024 - 128, SUCCESS),
        (64, 227 * 1024, INVALID_VALUE),  # cudaFuncSetAttribute refuses
    ],
)
@emulated
def test_shared_memory_has_the_targets_limits(
    program: Callable[[], ctypes.CDLL], dynamic: int, allowed: int, error: int
) -> None:
    total = ctypes.c_int()
    assert program().launch_shared(dynamic, allowed, ctypes.byref(total)) == error
    if error == SUCCESS:
        count = dynamic // 4
        assert total.value == count * (count - 1) // 2


@emulated
def test_registers_bound_the_threads_of_a_block_when_ptxas_was_asked(library: Path) -> None:
    from kernelevo.emulator import _runtime

    text = subprocess.run(
        [NVCC.path, "-ptx", "-arch=sm_90", "-o", "-", str(SOURCE)], check=True, capture_output=True, text=True
    ).stdout
    from kernelevo.emulator.kernels import CandidateModule

    number = _runtime.cuda.begin_module("with registers")
    runtime._modules[number] = CandidateModule(text, "programs.ptx", registers={FILL: 128})
    cuda = ctypes.CDLL(str(library))
    _runtime.cuda.end_module(number, ctypes.cast(cuda.any_call, ctypes.c_void_p).value)
    assert cuda.launch_shape(1, 1, 1, 512, 1, 1) == SUCCESS
    assert cuda.launch_shape(1, 1, 1, 544, 1, 1) == OUT_OF_RESOURCES
    assert "128 registers for each of 544 threads" in runtime.launches()[-1].reason


@emulated
def test_a_refused_launch_that_nobody_looks_at_is_remembered(program: Callable[[], ctypes.CDLL]) -> None:
    cuda = program()
    assert cuda.unchecked_launch() == 0
    (unchecked,) = runtime.unchecked_errors()
    assert (unchecked.error, unchecked.kernel) == (INVALID_CONFIGURATION, FILL)
    assert cuda.any_call() == SUCCESS  # another call does not give it away
    torch.ones(2, device="cuda") + 1  # nor does an operator of torch
    assert runtime.unchecked_errors() == (unchecked,)
    assert cuda.last_error() == INVALID_CONFIGURATION
    assert runtime.unchecked_errors() == ()
    assert cuda.last_error() == SUCCESS


# --- kernels that go wrong


@pytest.mark.parametrize(
    ("which", "error", "kind"),
    [(0, LAUNCH_FAILURE, "trap"), (2, LAUNCH_TIMEOUT, "timeout"), (3, LAUNCH_TIMEOUT, "deadlock")],
)
@emulated
def test_a_fault_spoils_the_context_and_says_where(
    program: Callable[[], ctypes.CDLL], which: int, error: int, kind: str
) -> None:
    runtime.time_limit(0.5)
    cuda = program()
    assert cuda.fault(which, 0) == error
    (fault,) = runtime.faults()
    assert fault.kind == kind
    assert "of the .cu file" in fault.text and "block (0, 0, 0)" in fault.text
    assert cuda.any_call() == cuda.last_error() == cuda.last_error() == error  # sticky
    assert cuda.fill_and_read(ints(1), 0, 1) == -1
    runtime.reset()
    assert cuda.fill_and_read(ints(1), 0, 1) == SUCCESS


@emulated
def test_an_illegal_address_is_an_error_not_a_crash(program: Callable[[], ctypes.CDLL]) -> None:
    cuda = program()
    cuda.fault.argtypes = [ctypes.c_int, ctypes.c_long]
    assert cuda.fault(1, 0) == ILLEGAL_ADDRESS
    (fault,) = runtime.faults()
    assert fault.kind == "illegal address"
    assert fault.text == "accessed a null pointer, block (0, 0, 0), warp 0"
    runtime.reset()
    assert cuda.fault(1, 0x10000) == ILLEGAL_ADDRESS
    assert runtime.faults()[0].text.startswith("accessed no memory of the device, block")
    runtime.reset()
    assert cuda.fault(1, 1 << 60) == ILLEGAL_ADDRESS
    assert runtime.faults()[0].text.startswith("accessed an address that cannot exist, block")


@emulated
def test_a_crash_outside_kernels_is_still_a_crash(program: Callable[[], ctypes.CDLL]) -> None:
    assert program().fill_and_read(ints(1), 0, 1) == SUCCESS
    pid = os.fork()
    if pid == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # pytest's fault handler would speak
        ctypes.string_at(0)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -11


@emulated
def test_torch_operators_raise_after_a_fault(program: Callable[[], ctypes.CDLL]) -> None:
    x = torch.ones(3, device="cuda")
    program().fault(0, 0)
    with pytest.raises(torch.AcceleratorError, match="unspecified launch failure"):
        x + 1


# --- streams and events


@pytest.mark.parametrize(
    ("nonblocking", "join", "seen"),
    [
        (False, 0, 0),
        (True, 0, 0),
        (True, 1, 1),
        (True, 2, 1),
        (True, 3, 1),
        (False, 4, 1),  # the default stream waits for streams that are not made with cudaStreamNonBlocking
        (True, 4, 0),
        (False, 5, 1),
        (True, 5, 0),
        (True, 6, 1),
        (True, 7, 1),
    ],
)
@emulated
def test_work_on_a_side_stream_shows_only_to_who_waits_for_it(
    program: Callable[[], ctypes.CDLL], nonblocking: bool, join: int, seen: int
) -> None:
    found = ctypes.c_int(-1)
    assert program().side_stream(int(nonblocking), join, ctypes.byref(found)) == SUCCESS
    assert found.value == seen
    pending = runtime.pending_work()
    assert bool(pending) == (not seen)
    if pending:
        assert [work.what for work in pending] == ["_Z9incrementPi", "copy", "record an event"]
        assert all(work.blocking == (not nonblocking) for work in pending)
        assert [launch.finished for launch in runtime.launches() if "increment" in launch.kernel] == [False]


@emulated
def test_memory_may_be_freed_and_streams_destroyed_in_stream_order(program: Callable[[], ctypes.CDLL]) -> None:
    result = ctypes.c_int()
    assert program().freed_while_queued(ctypes.byref(result)) == INVALID_HANDLE
    assert result.value == 1
    assert runtime.redzone_findings() == ()


@emulated
def test_memory_freed_in_a_stream_is_there_again_when_it_is_needed(program: Callable[[], ctypes.CDLL]) -> None:
    runtime.memory_limit(3 << 20)
    assert program().release_while_queued(30, ctypes.c_long(1 << 20)) == SUCCESS


@emulated
def test_released_memory_that_queued_work_may_use_counts(program: Callable[[], ctypes.CDLL]) -> None:
    cuda, piece = program(), 32 << 20
    runtime.memory_limit(3 * piece)
    assert cuda.release_while_queued(1, ctypes.c_long(4)) == SUCCESS
    assert runtime.pending_work()
    with open("/proc/self/statm", encoding="ascii") as statm:
        most = int(statm.read().split()[0]) * resource.getpagesize() + 6 * piece
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    for _ in range(30):
        torch.empty(piece - 4096, dtype=torch.uint8, device="cuda")
    assert not runtime.pending_work()


@emulated
def test_a_tensor_released_while_its_kernel_is_queued_stays_until_it_ran(program: Callable[[], ctypes.CDLL]) -> None:
    cuda = program()
    found = ctypes.c_int()
    x = torch.zeros(4, device="cuda")
    assert cuda.side_stream(1, 0, ctypes.byref(found)) == SUCCESS
    address = x.data_ptr()
    del x
    assert ctypes.c_float.from_address(address).value == 0.0  # nothing has filled or reused it
    assert runtime.synchronize() == SUCCESS
    assert ctypes.c_float.from_address(address).value != 0.0
    assert runtime.redzone_findings() == ()


@emulated
def test_events_measure_real_time(program: Callable[[], ctypes.CDLL]) -> None:
    milliseconds = (ctypes.c_float * 2)()
    assert program().event_times(milliseconds) == INVALID_HANDLE  # one of the events has no timing
    ran = sum(launch.seconds for launch in runtime.launches())
    assert milliseconds[0] >= ran * 1e3 > 0


# --- memory, device and kernel facts


@emulated
def test_rectangles_are_copied_row_by_row(program: Callable[[], ctypes.CDLL]) -> None:
    rows = (ctypes.c_int * 12)(*range(12))
    assert program().copy_rectangle(rows) == SUCCESS
    assert list(rows) == [0, 1, 2, -1, 4, 5, 6, -1, 8, 9, 10, -1]


@pytest.mark.parametrize(
    ("which", "error"),
    [
        (0, INVALID_VALUE),
        (1, INVALID_VALUE),
        (2, INVALID_VALUE),
        (3, INVALID_VALUE),
        (4, OUT_OF_MEMORY),
        (5, INVALID_VALUE),
        (6, INVALID_DIRECTION),
    ],
)
@emulated
def test_wrong_memory_is_an_error(program: Callable[[], ctypes.CDLL], which: int, error: int) -> None:
    cuda = program()
    assert cuda.wrong_memory(which) == error
    assert cuda.last_error() == error
    assert cuda.fill_and_read(ints(1), 0, 1) == SUCCESS


@emulated
def test_the_device_is_an_h100(program: Callable[[], ctypes.CDLL]) -> None:
    facts, name = ints(8), ctypes.create_string_buffer(64)
    assert program().device_facts(facts, name) == INVALID_DEVICE
    assert name.value.startswith(b"NVIDIA H100")
    assert list(facts) == [9, 132, 227 * 1024, 32, 228 * 1024, 50 << 20, 65535, 0]


@emulated
def test_kernels_tell_their_attributes_and_occupancy(program: Callable[[], ctypes.CDLL]) -> None:
    facts = ints(9)
    assert program().kernel_facts(facts) == SUCCESS
    assert list(facts) == [128, 48 * 1024 - 128, 1024, 64, 8, 32, 2, 264, 1024]


@emulated
def test_capturing_a_graph_is_not_supported_and_says_so(program: Callable[[], ctypes.CDLL]) -> None:
    cuda = program()
    assert cuda.capture_a_graph() == NOT_SUPPORTED
    assert cuda.name_of(NOT_SUPPORTED) == b"cudaErrorNotSupported"
    assert cuda.text_of(INVALID_CONFIGURATION) == b"invalid configuration argument"
    assert cuda.text_of(123456) == b"unrecognized error code"


# --- counting


@emulated
def test_counting_runs_a_sample_of_the_blocks(program: Callable[[], ctypes.CDLL]) -> None:
    cuda = program()
    runtime.count(2)
    cuda.fill_and_read(ints(1000), 0, 1000)
    (launch,) = runtime.launches()
    assert launch.blocks_run == 2
    assert launch.counters["blocks"] == 16
    runtime.count(None)
    cuda.fill_and_read(ints(1000), 0, 1000)
    assert runtime.launches()[1].blocks_run == 16
    assert runtime.launches()[1].counters == {}


# --- objects that cannot be used


@emulated
def test_an_object_without_readable_ptx_says_how_to_build_it(tmp_path: Path) -> None:
    shared = compiled(
        tmp_path, "compressed", SOURCE, "-gencode", "arch=compute_90,code=compute_90", "--compress-mode=size"
    )
    cuda = ctypes.CDLL(str(shared))
    assert cuda.launch_shape(1, 1, 1, 1, 1, 1) == 209
    assert "-no-compress" in runtime.launches()[0].reason


@emulated
def test_a_missing_function_is_named(tmp_path: Path) -> None:
    source = tmp_path / "blas.cu"
    source.write_text(
        'extern "C" int cublasCreate_v2(void**); extern "C" int go() { return cublasCreate_v2(nullptr); }'
    )
    shared = compiled(tmp_path, "blas", source)
    with pytest.raises(ImportError, match="undefined symbol: cublasCreate_v2"):
        runtime.load(shared, None, "blas")
