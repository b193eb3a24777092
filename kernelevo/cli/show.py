"""Records to text: the words, tables and trees that several commands print."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from kernelevo.prompt import words
from kernelevo.records import Candidate, Evaluation, Finding, Outcome, Timing, TimingKind

if TYPE_CHECKING:
    from kernelevo.archive import Ancestry
    from kernelevo.report.gather import Step

# Lines of a file or pipe stay whole, whatever the width of the terminal is.
console = Console(highlight=False) if sys.stdout.isatty() else Console(highlight=False, width=1000, soft_wrap=True)

STYLES = {
    Outcome.PASSED.value: "green",
    Outcome.WRONG.value: "red",
    Outcome.CRASHED.value: "red",
    Outcome.TIMED_OUT.value: "red",
    Outcome.CHEATING.value: "red",
    Outcome.UNSUPPORTED.value: "yellow",
    "build failed": "red",
}


def duration(nanoseconds: float | None) -> str:
    """A time with three digits and a unit; "-" when there is none."""
    return "-" if nanoseconds is None else words.duration(nanoseconds)


def kind_of_time(timing: Timing) -> str:
    """ "PREDICTED for H100 SXM" or "MEASURED on ...": printed beside every time."""
    if timing.kind is TimingKind.PREDICTED:
        return f"PREDICTED for {timing.target}"
    return f"MEASURED on {timing.device}"


def status(words: str) -> Text:
    """A status in its colour."""
    return Text(words, style=STYLES.get(words, ""))


def score(evaluation: Evaluation) -> float | None:
    return evaluation.timing.score_ns if evaluation.timing else None


def evaluation_lines(evaluation: Evaluation) -> list[str]:
    """What `evaluate` prints, line by line."""
    lines = [f"{evaluation.candidate}  {evaluation.task} on {evaluation.device}: {evaluation.status}"]
    build = evaluation.build
    if evaluation.shared_from:
        lines.append(f"  the evaluation of {evaluation.shared_from}, which is the same kernel")
    if not build.succeeded:
        lines += [
            f"  {d.severity} at line {d.line}: {d.text}" if d.line else f"  {d.severity}: {d.text}"
            for d in build.diagnostics[:10]
        ]
        return [*lines, *stage_lines(evaluation)]
    verdict = evaluation.verdict
    if verdict is not None:
        passed = sum(case.outcome is Outcome.PASSED for case in verdict.cases)
        worst = max((c.error / c.allowed for c in verdict.cases if c.error is not None and c.allowed), default=None)
        margin = f", worst error {worst:.0%} of what is allowed" if worst is not None and evaluation.passed else ""
        lines.append(f"  {passed} of {len(verdict.cases)} cases passed{margin}")
        if verdict.reason:
            lines.append(f"  {verdict.reason}")
        for case in verdict.cases:
            for finding in case.findings:
                lines.append(f"  {finding.kind}{place_of(finding)}: {finding.text}")
    if evaluation.timing is not None:
        timing = evaluation.timing
        lines.append(f"  {duration(timing.score_ns)} {kind_of_time(timing)} ({timing.method})")
        for timed in timing.cases:
            interval = f"{duration(timed.low_ns)} .. {duration(timed.high_ns)}"
            lines.append(f"    {timed.case.name}: {duration(timed.median_ns)} ({interval})")
            if timed.bottleneck:
                lines.append(f"      {timed.bottleneck}")
    elif evaluation.timing_reason:
        lines.append(f"  no time: {evaluation.timing_reason}")
    registers = max((r.registers for r in build.resources), default=None)
    if registers is not None:
        lines.append(f"  {registers} registers per thread, built by {build.compiler}")
    return [*lines, *stage_lines(evaluation)]


def stage_lines(evaluation: Evaluation) -> list[str]:
    """One line per stage that was reached: how it ended, how long it took, what it found."""
    return [f"  {s.name:<11} {s.outcome.value:<7} {s.seconds:7.3f} s  {s.text}".rstrip() for s in evaluation.stages]


def place_of(finding: Finding) -> str:
    """Where in the source, and by which thread, as far as it is known: " (line 31, block 2,0,0, thread 33,0,0)"."""
    parts = [f"line {finding.line}"] if finding.line else []
    parts += [f"{name} {x},{y},{z}" for name, (x, y, z) in named(finding)]
    return f" ({', '.join(parts)})" if parts else ""


def named(finding: Finding) -> list[tuple[str, tuple[int, int, int]]]:
    pairs = (("block", finding.block), ("thread", finding.thread))
    return [(name, index) for name, index in pairs if index is not None]


def lineage_tree(ancestry: Ancestry) -> Tree:
    """A candidate above its parents, above theirs; what was shown before is not unfolded again."""
    tree = Tree(ancestor(ancestry))
    add_parents(tree, ancestry, {ancestry.candidate})
    return tree


def add_parents(branch: Tree, ancestry: Ancestry, seen: set[str]) -> None:
    for parent in ancestry.parents:
        known = parent.candidate in seen
        seen.add(parent.candidate)
        child = branch.add(Text.assemble(ancestor(parent), (" (above)", "dim")) if known else ancestor(parent))
        if not known:
            add_parents(child, parent, seen)


def ancestor(ancestry: Ancestry) -> Text:
    """One line: id, how it was made, status and time."""
    made = ", ".join(str(rewrite) for rewrite in ancestry.rewrites)
    operator = ancestry.operator.value if ancestry.operator else "evaluated by hand"
    return Text.assemble(
        (ancestry.candidate, "bold"),
        f"  {operator}{': ' + made if made else ''}  ",
        status(ancestry.status or "not evaluated"),
        f"  {duration(ancestry.score_ns)}",
    )


BARS = "▁▂▃▄▅▆▇█"
COLUMNS = 40  # of the line of bars, at most


def progress_lines(steps: Sequence[Step], basis: str) -> list[str]:
    """How far a run came, in a line of bars, and where its iterations ended. basis: of its times, in words."""
    from kernelevo.report.credit import best_so_far, failures

    best = [p.best_ns for p in best_so_far(steps) if p.best_ns is not None]
    lines = []
    if best:
        every = max(1, -(-len(best) // COLUMNS))
        lines.append(
            f"best so far  {duration(best[0])} {bars([*best[:-1:every], best[-1]])} {duration(best[-1])}, {basis}"
        )
    ended = [f"{count} {outcome} in {stage}" for (stage, outcome), count in failures(steps).items()]
    return [*lines, *([f"without a time  {', '.join(ended)}"] if ended else [])]


def bars(values: Sequence[float]) -> str:
    """A bar for each value, from the lowest to the highest of them."""
    low, span = min(values), max(values) - min(values)
    return "".join(BARS[round((v - low) / span * (len(BARS) - 1)) if span else 0] for v in values)


def diff(old: Candidate, new: Candidate) -> Text:
    """Unified diff of two sources."""
    lines = difflib.unified_diff(old.source.splitlines(), new.source.splitlines(), old.id, new.id, lineterm="", n=2)
    styles = {"+": "green", "-": "red", "@": "cyan"}
    return Text("\n").join(Text(line, style=styles.get(line[:1], "")) for line in lines)


def rows(
    title: str, columns: Sequence[str], cells: Sequence[Sequence[str | Text]], *, right: Sequence[int] = ()
) -> Table:
    """A plain table; `right` are the columns to align right."""
    table = Table(title=title or None, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index in right else "left")
    for row in cells:
        table.add_row(*row)
    return table
