"""What a prompt may show besides the task and the parents: records of other modules' findings, and nothing else.

Takes nothing, gives types. kernelevo/memory.py gathers them from an archive; tests make them by hand. Texts that come
from models, candidates or compilers are kept as they are: write_prompt delimits and bounds them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from kernelevo.records import Candidate, Evaluation, TimingKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """The GPU that times are for, and how they are had."""

    title: str  # "H100 SXM"
    target: str  # what nvcc compiles for: "sm_90"
    device: str  # where candidates run: "emulator" or "cuda"
    kind: TimingKind
    facts: Mapping[str, float] = field(default_factory=dict)  # names of emulator/gpus.toml, tables joined by a dot


@dataclass(frozen=True, slots=True, kw_only=True)
class Sibling:
    """One earlier child of a parent, and what became of it."""

    candidate: str  # candidate id; "" when the reply held none
    change: str  # rewrites, or the first line of the reply's plan, or the operator
    status: str  # Evaluation.status, or "no candidate"
    ratio: float | None  # the parent's time over its own: 1.2 is faster; None: one of the two has no time
    reason: str  # why it failed, one line; "" when it passed


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """One strategy of this task and how often it was proposed."""

    plan: str
    count: int
    passed: int  # of them correct
    best_ratio: float | None  # best time of the parent over the child's; None: no child has both


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesson:
    """What was learned from a stretch of one run, in words."""

    task: str  # name
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A verified kernel of a similar task."""

    task: str  # name
    title: str  # of the task; "" when it is not known
    source: str
    ratio: float | None  # time of that task's own seed kernel over this one's; None: not known


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """Everything a prompt may show. In each tuple the most useful comes first: the last is left out first."""

    evaluations: Mapping[str, Evaluation] = field(default_factory=dict)  # by candidate id, of parents and inspirations
    hints: tuple[str, ...] = ()  # a person's advice for this run, newest first
    tried: tuple[Tried, ...] = ()  # strategies, least tried first
    siblings: tuple[Sibling, ...] = ()
    lessons: tuple[Lesson, ...] = ()
    inspirations: tuple[Candidate, ...] = ()  # shown beside the parents
    examples: tuple[Example, ...] = ()
    retry: str = ""  # why the previous reply of this job was no use; "": it is the first
    gpu: Gpu | None = None
