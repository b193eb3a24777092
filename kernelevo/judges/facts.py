"""Plain facts of a source that may go with its failing, as numbers: static evidence that costs nothing.

Takes the source, gives name -> log2(1 + count), for the regression of combine.py: which of them matter, and in which
direction, is learned from outcomes. Counted outside comments; a name that a macro pastes together is not seen.
"""

from __future__ import annotations

import math
import re

from kernelevo.judges.source import without_comments

COUNTED = {
    "lines": r"\S[^\n]*",
    "kernels": r"\b__global__\b",
    "launches": r"<<<|\bcudaLaunchKernel",
    "shared arrays": r"\b__shared__\b",
    "barriers": r"\b__sync(threads|warp)|\b(bar|barrier)\.sync|\.sync\(\)",
    "shuffles": r"\b__(shfl|reduce)_\w*sync\b",
    "atomics": r"\batomic[A-Z]\w*|\batom\.|\bred\.",
    "vector accesses": r"\breinterpret_cast\s*<\s*(const\s+)?(float[24]|u?int[24]|half2|__nv_bfloat162)\b",
    "tensor cores": r"\bwmma\b|\bw?mma\.|\bwgmma\b",
    "asynchronous copies": r"\bcp\.async|\bmemcpy_async\b|\b__pipeline_",
    "assembly": r"\basm\b",
    "fast intrinsics": r"\b__(expf|logf|fdividef|powf|sinf|cosf|frcp_\w+|fsqrt_\w+|tanhf)\b",
    "narrow types": r"\b(half2?|__half2?|__nv_bfloat162?)\b",
    "templates": r"\btemplate\s*<",
}


def source_facts(source: str) -> dict[str, float]:
    """One number for each of COUNTED."""
    text = without_comments(source)
    return {name: math.log2(1 + sum(1 for _ in re.finditer(pattern, text))) for name, pattern in COUNTED.items()}
