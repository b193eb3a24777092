"""Runs a test in a forked child that has started the emulator: a fresh device for each, torch untouched for others."""

from __future__ import annotations

import functools
import os
import traceback
from collections.abc import Callable

import pytest


def emulated(test: Callable[..., None]) -> Callable[..., None]:
    """Decorates a test. Fixtures are made in the parent; a failure in the child is the test's, with its traceback."""

    @functools.wraps(test)
    def run(*arguments: object, **fixtures: object) -> None:
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            _child(writer, lambda: test(*arguments, **fixtures))
        os.close(writer)
        with os.fdopen(reader, "rb") as pipe:
            report = pipe.read().decode(errors="replace")
        _, status = os.waitpid(pid, 0)
        if report:
            pytest.fail(report, pytrace=False)
        assert os.waitstatus_to_exitcode(status) == 0, f"the child ended with status {status}"

    return run


def _child(writer: int, body: Callable[[], None]) -> None:
    report = ""
    try:
        import torch

        from kernelevo.emulator import runtime

        torch.set_num_threads(1)  # the parent's OpenMP threads did not come along
        runtime.start(threads=2)
        body()
    except BaseException:
        report = traceback.format_exc()
    os.write(writer, report.encode()[-60_000:])
    os._exit(0)
