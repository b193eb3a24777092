"""Runs a test in a forked child: a fresh process for each, torch and the device untouched for others."""

from __future__ import annotations

import functools
import os
import traceback
from collections.abc import Callable

import pytest

Test = Callable[..., None]


def emulated(test: Test) -> Test:
    """Decorates a test that needs a device of its own: the child has started the emulator.

    Fixtures are made in the parent; a failure in the child is the test's, with its traceback.
    """
    return _in_child(test, _start)


def forked(test: Test) -> Test:
    """Decorates a test that leaves its process unfit for others."""
    return _in_child(test, lambda: None)


def _in_child(test: Test, prepare: Callable[[], None]) -> Test:
    @functools.wraps(test)
    def run(*arguments: object, **fixtures: object) -> None:
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            _child(writer, prepare, lambda: test(*arguments, **fixtures))
        os.close(writer)
        with os.fdopen(reader, "rb") as pipe:
            report = pipe.read().decode(errors="replace")
        _, status = os.waitpid(pid, 0)
        if report:
            pytest.fail(report, pytrace=False)
        assert os.waitstatus_to_exitcode(status) == 0, f"the child ended with status {status}"

    return run


def _start() -> None:
    import torch

    from kernelevo.emulator import runtime

    torch.set_num_threads(1)  # the parent's OpenMP threads did not come along
    runtime.start(threads=2)


def _child(writer: int, prepare: Callable[[], None], body: Callable[[], None]) -> None:
    report = ""
    try:
        prepare()
        body()
    except BaseException:
        report = traceback.format_exc()
    os.write(writer, report.encode()[-60_000:])
    os._exit(0)
