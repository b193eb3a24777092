"""What VERIFICATION.md says: the verdict of an archive in words, with every case, time, version and hash it rests on.

Takes chosen candidates; gives the values that the template is filled with. A time that is missing stays missing.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import platform
from datetime import date
from typing import TYPE_CHECKING, Any

import torch

from kernelevo.export.choose import Chosen
from kernelevo.mangled import kernel_name
from kernelevo.prompt.words import duration
from kernelevo.records import Candidate, CaseVerdict, Evaluation, TimingKind

if TYPE_CHECKING:
    from kernelevo.archive import Archive
    from kernelevo.archive.answers import Ancestry


def evidence(archive: Archive, chosen: Chosen, backward: Chosen | None) -> dict[str, Any]:
    """The template's values beside those that all templates have."""
    kernels = [("The kernel", chosen), *([("The kernel of its gradients", backward)] if backward else [])]
    evaluation = chosen.evaluation
    return {
        "where": where(evaluation),
        "emulated": any(part.evaluation.device == "emulator" for _, part in kernels),
        "source_sha256": sha256(chosen.candidate),
        "gradient_kernel": backward
        and {"candidate": backward.candidate.id, "source_sha256": sha256(backward.candidate)},
        "today": date.today().isoformat(),
        "kernelevo_version": importlib.metadata.version("kernelevo"),
        "versions": f"exported with PyTorch {torch.__version__}, Python {platform.python_version()}",
        "parts": [part_of(archive, heading, part) for heading, part in kernels],
        "lineage": [lineage_line(one) for _, part in kernels for one in archive.lineage(part.candidate.id).walk()],
    }


def where(evaluation: Evaluation) -> str:
    """The machine, in words."""
    timing = evaluation.timing
    if evaluation.device != "emulator":
        return timing.device if timing else evaluation.device
    return f"kernelevo's CPU emulator of an {timing.target if timing else 'NVIDIA GPU'}"


def sha256(candidate: Candidate) -> str:
    return hashlib.sha256(candidate.source.encode()).hexdigest()


def part_of(archive: Archive, heading: str, part: Chosen) -> dict[str, Any]:
    """One kernel: how it was built, what each stage and case found, how long it takes."""
    evaluation = part.evaluation
    build, timing, verdict = evaluation.build, evaluation.timing, evaluation.verdict
    assert verdict is not None
    return {
        "heading": f"{heading}: {part.candidate.id}",
        "compiler": build.compiler,
        "target": build.target,
        "flags": f" with `{' '.join(build.flags)}`" if build.flags else "",
        "kernels": [
            {
                "name": kernel_name(kernel.kernel),
                "registers": kernel.registers,
                "shared_bytes": kernel.shared_bytes,
                "spill_bytes": kernel.spill_store_bytes + kernel.spill_load_bytes,
            }
            for kernel in build.resources
        ],
        "stages": [
            {"name": s.name, "outcome": s.outcome, "seconds": s.seconds, "text": cell(s.text)}
            for s in evaluation.stages
        ],
        "kind": timing and f"{timing.kind.value.upper()} for {timing.target}",
        "method": timing and timing.method,
        "gain": timing and gain(archive, part),
        "times": timing
        and [
            {
                "case": time.case.name,
                "median": duration(time.median_ns),
                "low": duration(time.low_ns),
                "high": duration(time.high_ns),
                "bottleneck": cell(time.bottleneck or ""),
            }
            for time in timing.cases
        ],
        "no_time": evaluation.timing_reason or "there is none in the archive",
        "tolerance_factor": f"{part.task.tolerance_factor:g}",
        "cases": [case_line(case) for case in verdict.cases],
        "findings": [cell(f"{case.case.name}: {f.kind}: {f.text}") for case in verdict.cases for f in case.findings],
    }


def case_line(verdict: CaseVerdict) -> dict[str, str]:
    return {
        "name": verdict.case.name,
        "purpose": verdict.case.purpose.value,
        "outcome": verdict.outcome.value,
        "error": "-" if verdict.error is None else f"{verdict.error:.2g}",
        "allowed": "-" if verdict.allowed is None else f"{verdict.allowed:.2g}",
    }


def gain(archive: Archive, part: Chosen) -> str:
    """Against the task's own kernel, where the archive has a time for it that compares."""
    timing = part.evaluation.timing
    if timing is None or part.task.seed_source is None:
        return ""
    seed = Candidate(source=part.task.seed_source, entry=part.task.entry)
    known = archive.known(seed.id, part.task, part.evaluation.device)
    if known is None or known.timing is None or seed.id == part.candidate.id:
        return ""
    other = known.timing
    if (other.kind, other.target, other.method) != (timing.kind, timing.target, timing.method):
        return ""
    what = "predicted" if timing.kind is TimingKind.PREDICTED else "measured"
    return f"; {other.score_ns / timing.score_ns:.2f} times faster than the task's own kernel {seed.id}, as {what}"


def lineage_line(one: Ancestry) -> dict[str, str]:
    made = one.operator.value if one.operator else "evaluated by hand"
    if one.rewrites:
        made += ": " + ", ".join(str(rewrite) for rewrite in one.rewrites)
    if one.model:
        made += f" by {one.model}"
    if one.run:
        made += f" in {one.run}"
    return {"candidate": one.candidate, "how": made, "parents": ", ".join(p.candidate for p in one.parents)}


def cell(text: str) -> str:
    """Text that stays within one cell of a table in Markdown, and runs nothing."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
