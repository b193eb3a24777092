"""The error rule in numbers: what it allows on each case of a task. Takes a task, gives one row per case and output.

The rule and its reasons are in rule.py; e_ref, the error of the reference in the task's dtype, comes from oracle.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from kernelevo.records import Case, Purpose, Task
from kernelevo.verify.oracle import compute_expected
from kernelevo.verify.rule import finite_errors, floor, reduction_length


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """What one output of one case may be off by, all relative to max |oracle|."""

    case: Case
    output: int
    reference: float | None  # error of the reference on the inputs as they are; None where it is not finite
    floor: float  # accepted whatever the reference's error
    allowed: float  # max(k * e_ref, floor), where e_ref is the largest of several runs on perturbed inputs

    @property
    def is_floor(self) -> bool:
        """Whether the floor decides, not the reference."""
        return self.allowed <= self.floor


def allowances(task: Task, cases: Sequence[Case] | None = None) -> tuple[Allowance, ...]:
    """One row for each floating output of each case, by default of the TEST cases.

    Raises TaskError when the reference fails on a case.
    """
    rows = []
    for case in cases or [case for case in task.cases if case.purpose is Purpose.TEST]:
        expected = compute_expected(task, case)
        length = reduction_length(task.reduction, case.sizes)
        for number, output in enumerate(expected.reference):
            if not output.dtype.is_floating_point:
                continue
            known = finite_errors(output, expected.oracle[number])
            rows.append(
                Allowance(
                    case=case,
                    output=number,
                    reference=None if known is None or not math.isfinite(known[0]) else known[0],
                    floor=floor(output.dtype, length),
                    allowed=expected.allowed[number].error,
                )
            )
    return tuple(rows)


def markdown(tasks: Sequence[Task]) -> str:
    """The table of tasks/README.md: what the rule gives over the TEST cases of each task."""
    lines = [
        "| task | k | error of the reference | floor | allowed | widest on | decided by the floor |",
        "|---|---|---|---|---|---|---|",
    ]
    for task in tasks:
        rows = allowances(task)
        widest = max(rows, key=lambda row: row.allowed)
        known = [row.reference for row in rows if row.reference is not None]
        cells = [
            f"`{task.name}`",
            f"{task.tolerance_factor:g}",
            f"up to {max(known):.0e}",
            _range([row.floor for row in rows]),
            _range([row.allowed for row in rows]),
            widest.case.name,
            f"{sum(row.is_floor for row in rows)} of {len(rows)}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _range(values: Sequence[float]) -> str:
    low, high = f"{min(values):.0e}", f"{max(values):.0e}"
    return low if low == high else f"{low} .. {high}"
