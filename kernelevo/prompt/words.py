"""What is known about a candidate, in words a model can act on. Takes an evaluation, gives items, most useful first.

    facts_about(evaluation, candidate)  -> why it failed, or its times and what binds them
    facts_about_gpu(gpu)                -> lines about the GPU that times are for

Texts of compilers, checkers and of the candidate itself are bounded and freed of control characters here; write_prompt
delimits them. Nothing here tells a case's seed.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

from kernelevo.mangled import kernel_name
from kernelevo.prompt.material import Gpu
from kernelevo.records import (
    Candidate,
    CaseTiming,
    CaseVerdict,
    Diagnostic,
    Evaluation,
    Finding,
    Outcome,
    Purpose,
    Timing,
    TimingKind,
)

ITEM_CHARACTERS = 2000  # of one fact; its middle is left out
LINE_CHARACTERS = 300  # of one line of code that a message is about


def facts_about(evaluation: Evaluation, candidate: Candidate) -> tuple[str, ...]:
    """What an evaluation says about the candidate's source."""
    lines = candidate.source.splitlines()
    return tuple(bounded(item) for item in _facts(evaluation, lines) if item)


def _facts(evaluation: Evaluation, lines: list[str]) -> Iterator[str]:
    verdict, timing = evaluation.verdict, evaluation.timing
    if verdict is None:
        failed = next((s.name for s in evaluation.stages if s.outcome.value == "failed"), "build")
        yield f"It does not compile: it failed in the stage {failed}."
        yield from diagnostics(evaluation.build.diagnostics, lines)
        return
    if verdict.outcome is not Outcome.PASSED:
        yield f"{verdict.outcome.value}{f', in the stage {verdict.failed_in}' if verdict.failed_in else ''}: " + (
            verdict.reason or "no reason is known"
        )
        if verdict.outcome is Outcome.UNSUPPORTED:
            yield "This is a limit of the emulator, not a mistake of the kernel: do the same by other instructions."
        for case in verdict.cases:
            if case.outcome is not Outcome.PASSED:
                yield from failed_case(case, verdict.reason or "", lines)
        passed = sum(case.outcome is Outcome.PASSED for case in verdict.cases)
        yield f"{passed} {'case' if passed == 1 else 'cases'} passed before it" + (
            f", the last one {[c for c in verdict.cases if c.outcome is Outcome.PASSED][-1].case.name}"
            if passed
            else ""
        )
    if timing is not None:
        yield from times(timing)
    elif verdict.outcome is Outcome.PASSED:
        yield f"It is correct, but has no time: {evaluation.timing_reason or 'it was not timed'}"
    for kernel in evaluation.build.resources:
        spills = kernel.spill_store_bytes + kernel.spill_load_bytes
        yield (
            f"ptxas: {kernel_name(kernel.kernel)}: {kernel.registers} registers per thread, "
            f"{kernel.shared_bytes} bytes of static shared memory"
            + (f", {spills} bytes of spills (not priced)" if spills else "")
        )
    if verdict.outcome is Outcome.PASSED:
        declared = [c for c in verdict.cases if c.case.purpose is not Purpose.HIDDEN]  # the same whenever it is judged
        shares = [c.error / c.allowed for c in declared if c.error is not None and c.allowed]
        if shares:
            yield f"Its worst error is {max(shares):.0%} of what is allowed."
    if verdict.output.strip():
        yield "It printed:\n" + verdict.output.strip()


def diagnostics(found: tuple[Diagnostic, ...], lines: list[str]) -> Iterator[str]:
    """Errors first, each with its notes and its line of the source; then warnings. Each text once."""
    groups: list[list[Diagnostic]] = []
    for diagnostic in found:
        if diagnostic.severity == "note" and groups:
            groups[-1].append(diagnostic)
        else:
            groups.append([diagnostic])
    groups.sort(key=lambda group: group[0].severity != "error")
    yield from dict.fromkeys("\n".join(one_diagnostic(d, lines) for d in group) for group in groups)


def one_diagnostic(diagnostic: Diagnostic, lines: list[str]) -> str:
    place = f"line {diagnostic.line}: " if diagnostic.line else ""
    return f"{place}{diagnostic.severity} ({diagnostic.stage}): {diagnostic.text}{quoted(diagnostic.line, lines)}"


def failed_case(case: CaseVerdict, told_before: str, lines: list[str]) -> Iterator[str]:
    """The case's size and errors, and what was noticed on it, but for what was told before."""
    sizes = " ".join(f"{name}={value}" for name, value in case.case.sizes.items())
    drawn = "" if case.case.initialisation == "none" else f", parameters {case.case.initialisation}"
    told = [f"sizes {sizes}, {case.case.dtype}, values {case.case.distribution}{drawn}"]
    if case.error is not None and case.allowed is not None:
        told.append(f"largest error {case.error:.3g}, {case.allowed:.3g} allowed")
    if case.worst and case.worst not in told_before:
        told.append(f"worst at {case.worst}")
    yield f"The case: {'; '.join(told)}"
    for finding in case.findings:
        text = f": {finding.text}" if finding.text not in told_before else ""
        yield f"{finding.kind}{place(finding)}{text}{quoted(finding.line, lines)}"


def place(finding: Finding) -> str:
    parts = [f"line {finding.line}"] if finding.line else []
    for name, index in (("block", finding.block), ("thread", finding.thread)):
        if index is not None:
            parts.append(f"{name} {','.join(map(str, index))}")
    if finding.allocation:
        offset = f"byte {finding.address} of " if finding.address is not None else ""
        parts.append(f"{offset}{finding.allocation}")
    return f" ({', '.join(parts)})" if parts else ""


def times(timing: Timing) -> Iterator[str]:
    """One item with all times, then one per case with what binds it."""
    kind = f"PREDICTED for {timing.target}" if timing.kind is TimingKind.PREDICTED else f"MEASURED on {timing.device}"
    rows = [
        f"  {c.case.name}: {duration(c.median_ns)} (between {duration(c.low_ns)} and {duration(c.high_ns)})"
        for c in timing.cases
    ]
    yield f"Times, {kind}; score {duration(timing.score_ns)}:\n" + "\n".join(rows)
    for case in timing.cases:
        told = [*([case.bottleneck] if case.bottleneck else []), *traffic(case)]
        if told:
            yield f"{case.case.name}: {'; '.join(told)}"


def traffic(case: CaseTiming) -> Iterator[str]:
    """Launches and bytes, where they were counted."""
    counters = case.counters
    if counters.get("launches", 1.0) > 1:
        yield f"{counters['launches']:.0f} launches"
    moved = counters.get("unique_read_bytes", 0.0) + counters.get("unique_write_bytes", 0.0)
    if moved and case.median_ns > 0:
        yield f"{size(moved)} of distinct data in that time, {moved / case.median_ns:.0f} GB/s"


def facts_about_gpu(gpu: Gpu | None) -> tuple[str, ...]:
    """What is known of it, in lines; none for a GPU of which nothing is known."""
    if gpu is None:
        return ()
    f = gpu.facts
    lines = []
    if "multiprocessors" in f:
        clock = f", {f['clock_hz'] / 1e9:.3g} GHz" if "clock_hz" in f else ""
        lines.append(f"{f['multiprocessors']:.0f} multiprocessors{clock}")
    resident = [f"{f[name]:.0f} {words}" for name, words in RESIDENT.items() if name in f]
    if resident:
        lines.append(f"each multiprocessor holds at most {', '.join(resident)}")
    if "shared_bytes" in f:
        block = f["shared_bytes"] - f.get("shared_bytes_reserved", 0.0)
        lines.append(f"shared memory: {size(f['shared_bytes'])} per multiprocessor, at most {size(block)} per block")
    if "l1_bytes" in f:
        lines.append(f"L1 cache and shared memory share {size(f['l1_bytes'])} per multiprocessor")
    if "dram_bytes_per_second" in f:
        l2 = f"; L2 cache of {size(f['l2_bytes'])}" if "l2_bytes" in f else ""
        lines.append(f"DRAM: {f['dram_bytes_per_second'] / 1e9:.0f} GB/s peak{l2}")
    if {"multiprocessors", "clock_hz", "lanes_per_cycle.fp32"} <= f.keys():
        flops = 2 * f["multiprocessors"] * f["clock_hz"] * f["lanes_per_cycle.fp32"]
        lines.append(f"float32 arithmetic without tensor cores: {flops / 1e12:.3g} TFLOP/s")
    tensor = [f"{name} {f[key] / 1e12:.3g}" for name, key in TENSOR.items() if key in f]
    if tensor:
        lines.append(f"tensor cores, TFLOP/s, dense: {', '.join(tensor)}")
    if "launch_seconds" in f:
        lines.append(f"each launch is priced at {f['launch_seconds'] * 1e6:.2g} us and what it executes")
    return tuple(lines)


RESIDENT = {"threads": "threads", "blocks": "blocks", "registers": "32-bit registers"}
TENSOR = {name: f"tensor_flops.{name}" for name in ("tf32", "float16", "bfloat16", "int8")}


def quoted(line: int | None, lines: list[str]) -> str:
    """The line of the source that a message is about, beneath it."""
    if line is None or not 1 <= line <= len(lines) or not lines[line - 1].strip():
        return ""
    return f"\n    {line} | {lines[line - 1].strip()[:LINE_CHARACTERS]}"


def duration(nanoseconds: float) -> str:
    """A time with three digits and a unit."""
    for unit, scale in (("s", 1e9), ("ms", 1e6), ("us", 1e3)):
        if nanoseconds >= scale:
            return f"{nanoseconds / scale:.3g} {unit}"
    return f"{nanoseconds:.3g} ns"


def size(count: float) -> str:
    for unit, scale in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if count >= scale:
            return f"{count / scale:.4g} {unit}"
    return f"{count:.0f} bytes"


def bounded(text: str, limit: int = ITEM_CHARACTERS) -> str:
    """Printable, and at most about `limit` characters: what is in the middle is left out, and how much is said."""
    text = printable(text)
    if len(text) <= limit:
        return text
    head, tail = limit * 3 // 4, limit // 4
    return f"{text[:head]} [{len(text) - head - tail} characters left out] {text[len(text) - tail :]}"


def one_line(text: str, limit: int = LINE_CHARACTERS) -> str:
    """The same on one line."""
    return bounded(" ".join(text.split()), limit)


def printable(text: str) -> str:
    """Without terminal escapes, and other control and formatting characters than tabs and newlines."""
    text = re.sub(r"\x1b\[[0-9;?]*[ -/]*[@-~]", "", text.replace("\r\n", "\n").replace("\r", "\n"))
    return "".join(c for c in text if c in "\n\t" or unicodedata.category(c)[0] != "C")
