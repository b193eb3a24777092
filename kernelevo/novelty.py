"""How like the sources of a run a new one is. Takes sources, gives the nearest one seen before and a similarity.

The similarity is that of Jaccard: of all runs of SHINGLE words that two sources have between them, the share that both
have. What a word is, the caller says: with kernelevo.build.canonical.code_tokens, sources that differ in comments and
spaces only have similarity 1. It is estimated by MinHash (Broder 1997) from SIZE bytes per source, eight bits of each
minimum (Li and Koenig 2010): the standard error is sqrt(s (1 - s) / SIZE), 0.02 at s = 0.95. Signatures depend on the
sources alone, not on the process or the order in which they came.

Not covered: what a source means. Renaming a variable makes two sources unlike; so does moving code about, but little.
"""

from __future__ import annotations

import threading
import zlib
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

SHINGLE = 5  # words; a changed number then costs 5 of a kernel's several hundred runs
SIZE = 128  # hash functions; a byte counts their matches
FIRST_CAPACITY = 1024  # sources

Bytes = npt.NDArray[np.uint8]
Hashes = npt.NDArray[np.uint32]

_MIX = tuple(np.uint32(number) for number in (0x7FEB352D, 0x846CA68B))  # of lowbias32 (C. Wellons, hash-prospector)
_SEEDS = np.random.default_rng(20_250_101).integers(0, 2**32, size=(SIZE, 1), dtype=np.uint32)


class Novelty:
    """Signatures of the sources of one run, each made once. Threads may share it."""

    def __init__(self, words: Callable[[str], Sequence[str]]) -> None:
        """words: a source to its words, in their order."""
        self._words = words
        self._lock = threading.Lock()
        self._columns: dict[str, int] = {}
        self._rows: Bytes = np.empty((SIZE, FIRST_CAPACITY), np.uint8)  # one column per source: a scan reads in order

    def __len__(self) -> int:
        return len(self._columns)

    def __contains__(self, candidate: str) -> bool:
        return candidate in self._columns

    def add(self, candidate: str, source: str) -> None:
        """Remembers a source under a candidate's id; an id that is known already stays as it is."""
        if candidate in self._columns:
            return
        made = signature(shingles(self._words(source)))
        with self._lock:
            if candidate in self._columns:
                return
            count = len(self._columns)
            if count == self._rows.shape[1]:
                self._rows = np.concatenate([self._rows, np.empty_like(self._rows)], axis=1)
            self._rows[:, count] = made
            self._columns[candidate] = count

    def nearest(self, source: str, *, among: Sequence[str] | None = None) -> tuple[str, float] | None:
        """Id of the likest source, the earliest of equals, and how like it is, from 0 to 1. None: there is no other.

        among: ids that are known, in their order; by default all, in the order in which they came.
        """
        wanted = signature(shingles(self._words(source)))
        with self._lock:
            ids = list(self._columns if among is None else among)
            rows = self._rows[:, : len(ids)] if among is None else self._rows[:, [self._columns[one] for one in ids]]
            matches, equal = np.zeros((2, len(ids)), np.uint8)
            for row, value in zip(rows, wanted, strict=True):
                np.equal(row, value, out=equal.view(np.bool_))
                np.add(matches, equal, out=matches)
        if not ids:
            return None
        best = int(matches.argmax())
        return ids[best], similarity(int(matches[best]))


def similarity(matches: int) -> float:
    """The similarity that a number of equal bytes speaks for: unlike minima agree in one of 256 bytes, too."""
    return max(0.0, (matches / SIZE - 1 / 256) / (1 - 1 / 256))


def shingles(words: Sequence[str]) -> Hashes:
    """Hashes of all runs of SHINGLE words, each once; a shorter text is one run."""
    hashes = np.array([zlib.crc32(word.encode(errors="replace")) for word in words] or [0], np.uint32)
    count = max(1, len(hashes) - SHINGLE + 1)
    runs = np.zeros(count, np.uint32)
    for offset in range(min(SHINGLE, len(hashes))):
        runs = _mixed(runs + hashes[offset : offset + count])
    return np.unique(runs)


def signature(hashes: Hashes) -> Bytes:
    """The lowest byte of the least value that each of SIZE hash functions gives to any of the hashes."""
    least: Hashes = _mixed(hashes ^ _SEEDS).min(axis=1)
    return least.astype(np.uint8)


def _mixed(values: Hashes) -> Hashes:
    """Each bit of a result hangs on all bits of its value. Changes its argument."""
    values ^= values >> np.uint32(16)
    values *= _MIX[0]
    values ^= values >> np.uint32(15)
    values *= _MIX[1]
    values ^= values >> np.uint32(16)
    return values
