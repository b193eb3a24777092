"""NVIDIA's own tools on one call of a candidate: ncu counts events, compute-sanitizer watches accesses.

    profile(build, entry, inputs, ...)   -> text that a model can use, or why there is none
    sanitize(build, entry, inputs, ...)  -> findings

Each tool runs python -m kernelevo.devices.one_call, which loads the candidate and calls it once. That process is not
confined: the tools inject themselves into it and talk to it, which the sandbox forbids. So give them verified
candidates only. What the tools print is read by read_profile and read_sanitizer, whose formats are those of Nsight
Compute's CSV output (page "details") and of compute-sanitizer's report, as their documentation describes them.
"""

from __future__ import annotations

import csv
import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kernelevo.records import Build, Finding

if TYPE_CHECKING:
    from kernelevo.devices import Value

SECTIONS = (
    "SpeedOfLight", "MemoryWorkloadAnalysis", "ComputeWorkloadAnalysis", "SchedulerStats", "WarpStateStats",
    "LaunchStats", "Occupancy",
)  # fmt: skip
# Of the metrics in these sections, the ones that say what binds a kernel.
METRICS = (
    "Duration", "DRAM Throughput", "Memory Throughput", "Compute (SM) Throughput", "L1/TEX Hit Rate", "L2 Hit Rate",
    "Executed Ipc Active", "Issue Slots Busy", "No Eligible", "Warp Cycles Per Issued Instruction",
    "Registers Per Thread", "Dynamic Shared Memory Per Block", "Static Shared Memory Per Block", "Waves Per SM",
    "Theoretical Occupancy", "Achieved Occupancy",
)  # fmt: skip
MAX_KERNELS = 4
RULE_CHARACTERS = 300
MAX_TEXT = 4000
PROFILE_SECONDS = 180.0

# First line of a report of compute-sanitizer -> kind of the finding, as the emulator's checkers name them.
KINDS = (
    (re.compile(r"^Invalid __(global|shared|local)__ (read|write|atomic)"), "out of bounds"),
    (re.compile(r"^Uninitialized (__\w+__ )?memory read"), "uninitialised read"),
    (re.compile(r"^(Error: |Warning: )?(Race reported|Potential (RAW|WAR|WAW) hazard)"), "race"),
    (re.compile(r"^Barrier error detected"), "bad barrier"),
    (re.compile(r"^(Invalid device side|Host API memory access|Out-of-range)"), "out of bounds"),
    (re.compile(r"^Program hit (cudaError\w+|CUDA_ERROR_\w+)"), "CUDA error"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelProfile:
    """What ncu says of one launch."""

    kernel: str
    grid: str
    block: str
    metrics: tuple[tuple[str, str, str], ...]  # name, value, unit
    rules: tuple[str, ...]  # ncu's advice

    @property
    def text(self) -> str:
        lines = [f"{self.kernel} grid {self.grid} block {self.block}"]
        lines += [f"  {name}: {value} {unit}".rstrip() for name, value, unit in self.metrics]
        return "\n".join([*lines, *(f"  ncu: {rule}" for rule in self.rules)])


def profile(build: Build, *, entry: str, inputs: Sequence[Value], gpu: str) -> str:
    """The profile of the kernels of one call, at most MAX_TEXT characters, or one line that says why there is none.

    gpu: UUID. Counters may need a privilege (ERR_NVGPUCTRPERM), which is then the line.
    """
    tool = shutil.which("ncu")
    if tool is None:
        return "no profile: ncu (Nsight Compute) is not on the PATH"
    # What a candidate is given here is copied before; only its own kernels have names from its PTX.
    options = ["--csv", "--page", "details", "--print-units", "base", "--target-processes", "all"]
    options += ["--clock-control", "none", "--launch-count", str(4 * MAX_KERNELS), "--kernel-name-base", "mangled"]
    if kernels := [re.escape(kernel.kernel) for kernel in build.resources]:
        options += ["--kernel-name", f"regex:^({'|'.join(kernels)})$"]
    options += [part for section in SECTIONS for part in ("--section", section)]
    output = _run([tool, *options], build, entry, inputs, gpu)
    if isinstance(output, str):
        return f"no profile: {output}"
    profiles = read_profile(output.stdout)
    if not profiles:
        return f"no profile: {_last_line(output.stdout + output.stderr)}"
    return "\n".join(found.text for found in profiles[:MAX_KERNELS])[:MAX_TEXT]


def sanitize(
    build: Build, *, entry: str, inputs: Sequence[Value], gpu: str, tool: str = "memcheck"
) -> tuple[Finding, ...] | str:
    """Findings of one tool of compute-sanitizer (memcheck, racecheck, initcheck, synccheck), or why there are none."""
    program = shutil.which("compute-sanitizer")
    if program is None:
        return "compute-sanitizer is not on the PATH"
    command = [program, "--tool", tool, "--print-limit", "100", "--target-processes", "all"]
    output = _run(command, build, entry, inputs, gpu)
    if isinstance(output, str):
        return output
    if "ERROR SUMMARY" not in output.stdout and "RACECHECK SUMMARY" not in output.stdout:
        return f"{tool} did not finish: {_last_line(output.stdout + output.stderr)}"
    return read_sanitizer(output.stdout)


def read_profile(text: str) -> tuple[KernelProfile, ...]:
    """Launches in ncu's CSV (page "details"); lines before its header are the program's own."""
    start = re.search(r'^"ID",', text, re.MULTILINE)
    if start is None:
        return ()
    launches: dict[str, dict[str, Any]] = {}
    for row in csv.DictReader(io.StringIO(text[start.start() :])):
        if not (row.get("ID") or "").isdigit():
            continue
        launch = launches.setdefault(
            row["ID"],
            {
                "kernel": row["Kernel Name"],
                "grid": row["Grid Size"],
                "block": row["Block Size"],
                "metrics": [],
                "rules": [],
            },
        )
        if (name := row.get("Metric Name")) in METRICS:
            launch["metrics"].append((name, row["Metric Value"], row["Metric Unit"]))
        if words := " ".join((row.get("Rule Description") or "").split()):
            launch["rules"].append(words[:RULE_CHARACTERS])
    return tuple(
        KernelProfile(
            kernel=launch["kernel"],
            grid=launch["grid"],
            block=launch["block"],
            metrics=tuple(sorted(set(launch["metrics"]), key=lambda metric: METRICS.index(metric[0]))),
            rules=tuple(dict.fromkeys(launch["rules"])),
        )
        for launch in launches.values()
    )


def read_sanitizer(text: str) -> tuple[Finding, ...]:
    """Findings in a report of compute-sanitizer, each place and kind once."""
    found: dict[tuple[str, str | None, int | None], Finding] = {}
    for report in _reports(text):
        kind = next((kind for pattern, kind in KINDS if pattern.search(report[0])), None)
        if kind is None:
            continue
        body = " ".join(report)
        place = re.search(
            r"\bat (?:0x[0-9a-f]+ in )?(.+?)(?:\+0x[0-9a-f]+)?(?: in (\S+?):(\d+))?(?:$| by | and )", body
        )
        thread = re.search(r"by thread \((\d+),\s*(\d+),\s*(\d+)\) in block \((\d+),\s*(\d+),\s*(\d+)\)", body)
        address = re.search(r"Address 0x([0-9a-f]+)", body)
        nearest = re.search(r"(\d[\d,]* bytes (?:after|before|inside)[^=]*? size [\d,]+ bytes)", body)
        size = re.search(r"of size ([\d,]+) bytes", report[0])
        numbers = tuple(int(number) for number in thread.groups()) if thread else None
        line = int(place[3]) if place and place[3] else None
        kernel = place[1].strip() if place else None
        finding = Finding(
            kind=kind,
            text=" ".join(body.split())[:RULE_CHARACTERS],
            kernel=kernel,
            line=line,
            thread=(numbers[0], numbers[1], numbers[2]) if numbers else None,
            block=(numbers[3], numbers[4], numbers[5]) if numbers else None,
            address=int(address[1], 16) if address else None,
            allocation=nearest[1] if nearest else None,
            access_bytes=int(size[1].replace(",", "")) if size else None,
        )
        found.setdefault((kind, kernel, line), finding)
    return tuple(found.values())


def _reports(text: str) -> Iterator[list[str]]:
    """The lines of each report, without their marks; a report begins with a line that is not indented."""
    report: list[str] = []
    for line in text.splitlines():
        mark = re.match(r"^=========(\s?)(\s*)(.*)$", line)
        words = mark[3].strip() if mark else ""
        if mark is None or not words or not mark[2]:
            if report:
                yield report
            report = [words] if words else []
        elif report:
            report.append(words)
    if report:
        yield report


def _run(
    tool: Sequence[str], build: Build, entry: str, inputs: Sequence[Value], gpu: str
) -> subprocess.CompletedProcess[str] | str:
    import torch

    if build.artifact is None:
        return f"candidate {build.candidate} has no artifact"
    with tempfile.TemporaryDirectory(prefix="kernelevo-tool-") as folder:
        values = Path(folder, "inputs.pt")
        torch.save(list(inputs), values)
        cubin = build.artifact.with_name("candidate.cubin")
        parts = [str(build.artifact), str(cubin if cubin.exists() else build.ptx or ""), entry, str(values)]
        command = [*tool, sys.executable, "-P", "-m", "kernelevo.devices.one_call", *parts]
        environment = {
            name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH", "PYTHONPATH") if name in os.environ
        }
        environment |= {"CUDA_VISIBLE_DEVICES": gpu, "HOME": folder, "TMPDIR": folder}
        try:
            return subprocess.run(
                command,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=PROFILE_SECONDS,
                check=False,
                env=environment,
                cwd=folder,
            )
        except subprocess.TimeoutExpired:
            return f"{Path(tool[0]).name} took more than {PROFILE_SECONDS:.0f} s and was ended"
        except OSError as error:
            return f"{tool[0]} cannot be run: {error}"


def _last_line(text: str) -> str:
    lines = [line.strip("= ").strip() for line in text.splitlines() if line.strip("= ").strip()]
    return lines[-1][:RULE_CHARACTERS] if lines else "it said nothing"
