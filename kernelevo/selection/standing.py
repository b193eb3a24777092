"""The grid of behaviour: where every candidate of a population stands. Scored candidates in, cells of elites out.

A cell is one island's candidates of one behaviour (what limits them, and their main technique), best first. What is
best is decided by time; of two that are equally fast the shorter source is better, then the older. Candidates that did
not pass or have no time are in no cell.

A run's population changes little from one decision to the next, so a standing is brought up to date rather than made
anew: a decision among 100,000 candidates costs what changed, and one comparison of two tuples.
"""

from __future__ import annotations

import random
from bisect import bisect_left, insort
from collections.abc import Iterable, Sequence
from itertools import zip_longest
from typing import NamedTuple, TypeVar

from kernelevo.records import Scored

T = TypeVar("T")

ELITES = 8  # of a cell that may become parents
CHUNK = 512  # candidates that are compared at once
NOWHERE = -1  # island of what belongs to all of them: the seed


class Cell(NamedTuple):
    """Where a candidate stands. The names are empty where nothing is known of its behaviour."""

    island: int
    limited_by: str
    technique: str

    @property
    def behaviour(self) -> tuple[str, str]:
        return (self.limited_by, self.technique)


class Rank(NamedTuple):
    """Smaller is better."""

    score_ns: float
    source_bytes: int
    iteration: int
    candidate: str


def ranked(scored: Iterable[Scored]) -> list[Scored]:
    """The candidates that passed and have a time, best first."""
    return sorted((s for s in scored if s.score_ns is not None), key=rank_of)


def best_of(scored: Iterable[Scored]) -> Scored | None:
    """The first of `ranked`, in one pass; None when none has a time."""
    return min((s for s in scored if s.score_ns is not None), key=rank_of, default=None)


def rank_of(s: Scored) -> Rank:
    assert s.score_ns is not None
    return Rank(s.score_ns, s.source_bytes, s.iteration, s.candidate)


def cell_of(s: Scored) -> Cell:
    island = NOWHERE if s.island is None else s.island
    return Cell(island, s.behaviour.limited_by, s.behaviour.technique) if s.behaviour else Cell(island, "", "")


class Standing:
    """Every candidate of one population by its id, and the timed ones by cell."""

    def __init__(self) -> None:
        self.scored: tuple[Scored, ...] = ()
        self.entries: dict[str, Scored] = {}
        self.cells: dict[Cell, list[Rank]] = {}  # best first; none is empty

    def update(self, scored: tuple[Scored, ...]) -> Standing:
        """This standing, of that population."""
        if scored == self.scored:  # a comparison of pointers where they are the same objects
            return self
        removed, added = differences(self.scored, scored)
        if len(added) + len(removed) > len(scored) // 8:
            self._make(scored)
        else:
            self._change(removed, added)
        self.scored = scored
        return self

    def best(self) -> Scored | None:
        heads = [ranks[0] for ranks in self.cells.values()]
        return self.entries[min(heads).candidate] if heads else None

    def any(self, rng: random.Random) -> Scored | None:
        """One of all, each as likely as any other; None when there is none. Cells are in the order of their names."""
        cells = sorted(self.cells)
        if not cells:
            return None
        ranks = self.cells[rng.choices(cells, weights=[len(self.cells[cell]) for cell in cells])[0]]
        return self.entries[rng.choice(ranks).candidate]

    def elites(self) -> list[Scored]:
        """The best of each cell, at most ELITES of it; best first."""
        ranks = [rank for cell_ranks in self.cells.values() for rank in cell_ranks[:ELITES]]
        return [self.entries[rank.candidate] for rank in sorted(ranks)]

    def best_before(self, generation: int) -> float | None:
        """The best time, in nanoseconds, that the generations before this one had shown."""
        found = None
        for ranks in self.cells.values():
            # What is better is newer than `generation`: for recent ones this ends soon.
            first = next((r.score_ns for r in ranks if self.entries[r.candidate].generation < generation), None)
            if first is not None and (found is None or first < found):
                found = first
        return found

    def _make(self, scored: Sequence[Scored]) -> None:
        self.entries = {s.candidate: s for s in scored}
        self.cells = {}
        for s in self.entries.values():
            if s.score_ns is not None:
                self.cells.setdefault(cell_of(s), []).append(rank_of(s))
        for ranks in self.cells.values():
            ranks.sort()

    def _change(self, removed: Iterable[Scored], added: Iterable[Scored]) -> None:
        for s in removed:
            del self.entries[s.candidate]
            if s.score_ns is not None:
                ranks = self.cells[cell_of(s)]
                del ranks[bisect_left(ranks, rank_of(s))]
                if not ranks:
                    del self.cells[cell_of(s)]
        for s in added:
            self.entries[s.candidate] = s
            if s.score_ns is not None:
                insort(self.cells.setdefault(cell_of(s), []), rank_of(s))


def differences(old: tuple[T, ...], new: tuple[T, ...]) -> tuple[list[T], list[T]]:
    """What is in `old` and not at the same place in `new`, and the reverse."""
    removed: list[T] = []
    added: list[T] = []
    for start in range(0, max(len(old), len(new)), CHUNK):
        before, after = old[start : start + CHUNK], new[start : start + CHUNK]
        if before != after:
            for a, b in zip_longest(before, after):
                if a is not b and a != b:
                    removed += [a] if a is not None else []
                    added += [b] if b is not None else []
    return removed, added
