"""What ptxas says about each kernel. Takes the text of `ptxas -v`, gives KernelResources."""

from __future__ import annotations

import re

from kernelevo.records import KernelResources

_ENTRY = re.compile(r"Compiling entry function '([^']+)'")
_FRAME = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
_USED = re.compile(r"Used (\d+) registers")
_SHARED = re.compile(r"(\d+)(?:\+(\d+))? bytes smem")
_CONSTANT = re.compile(r"(\d+)(?:\+(\d+))? bytes cmem\[\d+\]")


def read_resources(report: str) -> tuple[KernelResources, ...]:
    """Resources per kernel, in the order of the report. A report without kernels gives none."""
    starts = [*_ENTRY.finditer(report)]
    ends = [*(match.start() for match in starts[1:]), len(report)][: len(starts)]
    return tuple(
        _read_kernel(start.group(1), report[start.end() : end]) for start, end in zip(starts, ends, strict=True)
    )


def _read_kernel(kernel: str, report: str) -> KernelResources:
    frame = _FRAME.search(report)
    used = _USED.search(report)
    return KernelResources(
        kernel=kernel,
        registers=int(used.group(1)) if used else 0,
        shared_bytes=_sum(_SHARED, report),
        local_bytes=int(frame.group(1)) if frame else 0,
        spill_store_bytes=int(frame.group(2)) if frame else 0,
        spill_load_bytes=int(frame.group(3)) if frame else 0,
        constant_bytes=_sum(_CONSTANT, report),
    )


def _sum(pattern: re.Pattern[str], report: str) -> int:
    """Sum over matches; older releases print `system+user` for one kind of memory."""
    return sum(int(part) for match in pattern.findall(report) for part in match if part)
