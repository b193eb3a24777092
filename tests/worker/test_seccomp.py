"""The seccomp filter as a program: what it answers to every call, on both architectures, and its numbers."""

from __future__ import annotations

import errno
import re
import struct
from pathlib import Path

import pytest

from kernelevo.devices import seccomp
from kernelevo.devices.system_calls import FIRST_UNKNOWN, MACHINES, NUMBERS, number

HEADERS = {
    "x86_64": ("/usr/include/x86_64-linux-gnu/asm/unistd_64.h", "/usr/include/asm/unistd_64.h"),
    "aarch64": ("/usr/include/asm-generic/unistd.h",),
}
# Calls of honest host code, libc and Python, with their numbers on x86-64 and aarch64.
NEEDED = {
    **{
        "read": (0, 63),
        "write": (1, 64),
        "close": (3, 57),
        "mmap": (9, 222),
        "mprotect": (10, 226),
        "munmap": (11, 215),
    },
    **{"futex": (202, 98), "sched_yield": (24, 124), "poll, ppoll": (7, 73), "epoll_create1": (291, 20)},
    **{"pipe2": (293, 59), "eventfd2": (290, 19), "clock_gettime": (228, 113), "exit_group": (231, 94)},
    **{"sched_getaffinity": (204, 123), "mbind": (237, 235), "sendmsg": (46, 211), "recvfrom": (45, 207)},
    **{"rseq": (334, 293), "set_robust_list": (273, 99), "rt_sigaction": (13, 134), "getrandom": (318, 278)},
    **{"close_range": (436, 436), "futex_waitv": (449, 449), "ftruncate": (77, 46), "madvise": (28, 233)},
}
ALLOWED, EPERM, ENOSYS, KILLED = "allowed", "EPERM", "ENOSYS", "killed"


def answer(program: bytes, machine: str, which: int, *arguments: int) -> str:
    """Runs the filter as the kernel would, on one call."""
    architecture = seccomp.ARCHITECTURES[machine]
    values = [*arguments, 0, 0, 0, 0, 0, 0][:6]
    data = struct.pack("<IIQ6Q", which & 0xFFFFFFFF, architecture, 0, *(value & (1 << 64) - 1 for value in values))
    return run(program, data)


def run(program: bytes, data: bytes) -> str:
    code = list(struct.iter_unpack("=HBBI", program))
    at = accumulator = 0
    while True:
        operation, if_true, if_false, constant = code[at]
        at += 1
        if operation == 0x20:
            accumulator = struct.unpack_from("<I", data, constant)[0]
        elif operation == 0x54:
            accumulator &= constant
        elif operation == 0x06:
            names = {
                0x7FFF0000: ALLOWED,
                0x80000000: KILLED,
                0x50000 | errno.EPERM: EPERM,
                0x50000 | errno.ENOSYS: ENOSYS,
            }
            return names[constant]
        else:
            tests = {
                0x15: accumulator == constant,
                0x35: accumulator >= constant,
                0x45: accumulator & constant != 0,
            }
            at += if_true if tests[operation] else if_false


@pytest.fixture(params=MACHINES)
def machine(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def test_our_numbers_are_those_of_the_kernels_headers(machine: str) -> None:
    path = next((Path(path) for path in HEADERS[machine] if Path(path).exists()), None)
    if path is None:
        pytest.skip(f"no {' or '.join(HEADERS[machine])} here")
    found = re.findall(r"^#define (?:__NR_|__NR3264_)(\w+)\s+(\d+)$", path.read_text(), re.MULTILINE)
    header = {name: int(which) for name, which in found}
    assert len(header) > 250
    wrong = {
        name: (ours, header.get(name))
        for name in NUMBERS
        if (ours := number(name, machine)) != header.get(name) and (ours or 0) < max(header.values())
    }
    assert not wrong


def test_every_refused_call_is_refused_and_every_needed_one_is_not(machine: str) -> None:
    program = seccomp.program(machine=machine)
    refused = [which for name in seccomp.REFUSED if (which := number(name, machine)) is not None]
    assert len(refused) > 80
    assert {answer(program, machine, which) for which in refused} == {EPERM}
    column = MACHINES.index(machine)
    answers = {name: answer(program, machine, numbers[column]) for name, numbers in NEEDED.items()}
    assert answers == dict.fromkeys(NEEDED, ALLOWED)


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("clone3", (), ENOSYS),
        ("openat2", (), ENOSYS),
        ("clone", (0x3D0F00,), ALLOWED),  # what pthread_create asks for
        ("clone", (0x1200011,), ALLOWED),  # fork
        ("clone", (0x10000011,), EPERM),  # a user namespace
        ("clone", (0x00020011,), EPERM),  # a mount namespace
        ("clone", (0x40000011,), EPERM),  # a network namespace
        ("socketpair", (1, 1), ALLOWED),
        ("socketpair", (1, 1 | 0o2000000), ALLOWED),  # SOCK_CLOEXEC
        ("socketpair", (1, 5), ALLOWED),
        ("socketpair", (1, 2), EPERM),  # datagrams
        ("socketpair", (2, 1), EPERM),
        ("ioctl", (0, 0xC020462A), ALLOWED),  # one of the NVIDIA driver's
        ("ioctl", (0, 0x5412), EPERM),
        ("ioctl", (0, 0x541C), EPERM),
        ("prlimit64", (0,), ALLOWED),
        ("prlimit64", (1,), EPERM),
        ("personality", (0xFFFFFFFF,), ALLOWED),
        ("personality", (0x0040000,), EPERM),
        ("prctl", (15,), ALLOWED),  # PR_SET_NAME
        ("prctl", (22,), EPERM),
        ("openat", (0, 0, 0o0), ALLOWED),
        ("openat", (0, 0, 0o1001), ALLOWED),  # O_WRONLY | O_TRUNC: Landlock's to refuse
        ("openat", (0, 0, 0o1000), EPERM),  # O_RDONLY | O_TRUNC
    ],
)
def test_some_calls_depend_on_their_arguments(
    machine: str, name: str, arguments: tuple[int, ...], expected: str
) -> None:
    which = number(name, machine)
    assert which is not None
    assert answer(seccomp.program(machine=machine), machine, which, *arguments) == expected


def test_high_words_of_arguments_change_nothing(machine: str) -> None:
    """Kernel and filter look at the same 32 bits."""
    program = seccomp.program(machine=machine)
    clone, pair = number("clone", machine), number("socketpair", machine)
    assert clone is not None
    assert pair is not None
    assert answer(program, machine, clone, 0x10000011 | 1 << 40) == EPERM
    assert answer(program, machine, pair, 1 | 1 << 32, 2 | 1 << 32) == EPERM


def test_calls_of_another_abi_or_of_a_newer_kernel_do_not_pass() -> None:
    program = seccomp.program(machine="x86_64")
    assert answer(program, "x86_64", FIRST_UNKNOWN) == ENOSYS
    assert answer(program, "x86_64", FIRST_UNKNOWN - 1) == EPERM  # file_setattr, the last that we know
    assert answer(program, "x86_64", 0x40000000) == EPERM  # read() of the x32 ABI
    assert answer(program, "x86_64", 0x40000000 | 101) == EPERM
    i386 = struct.pack("<IIQ6Q", 11, 0x40000003, 0, *[0] * 6)
    assert run(program, i386) == KILLED


def test_a_spared_call_works_and_nothing_else_with_it(machine: str) -> None:
    program = seccomp.program(spared=["memfd_create", "socket"], machine=machine)
    for name in seccomp.REFUSED:
        if (which := number(name, machine)) is not None:
            assert answer(program, machine, which) == (ALLOWED if name in ("memfd_create", "socket") else EPERM), name


def test_sparing_what_is_not_refused_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="read: not refused"):
        seccomp.program(spared=["read"])


def test_an_architecture_without_numbers_is_named() -> None:
    with pytest.raises(OSError, match="riscv64; known are x86_64, aarch64"):
        seccomp.program(machine="riscv64")
