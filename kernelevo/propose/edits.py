"""Edits in a reply, and what they make of the parent. Takes text, gives Edits and sources, or a reason for the model.

Two forms are read. SEARCH/REPLACE blocks, whose markers stand on lines of their own:

    <<<<<<< SEARCH
    lines of the parent
    =======
    lines in their place
    >>>>>>> REPLACE

and, where there are none, the hunks of a unified diff; the counts in their @@ lines are not believed. All edits are
applied, or none. Each is looked for in the parent as it was, not as the edits before it left it:

1. as whole lines that are equal but for spaces at their ends;
2. a SEARCH also as whole lines that are equal but for any white space;
3. a SEARCH also as part of a line, or from the middle of one line to the middle of another.

The first of these that finds anything decides, and it must find one place. Of several places that a hunk fits, the
one its @@ line names is taken. An empty SEARCH stands for the whole file.
"""

from __future__ import annotations

import difflib
import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from kernelevo.propose.source import clip, unreadable
from kernelevo.records import Diagnostic

MOST = 64  # edits of one reply
COMPARED = 1000  # lines of the parent, character by character, where none is equal to one sought
SHOWN = 12  # lines of the parent in a message, beside what an edit seeks ...
AROUND = 2  # ... and before and behind these
PROBLEMS = 3  # edits in a message
PLACES = 5  # places in a message where something ambiguous was found

_SEARCH = re.compile(r"[ \t]*+<{3,}+[ \t]*+(?:SEARCH|ORIGINAL|HEAD)\b", re.IGNORECASE)
_DIVIDER = re.compile(r"[ \t]*+={4,12}+[ \t]*+$")
_REPLACE = re.compile(r"[ \t]*+>{3,}+[ \t]*+(?:REPLACE|UPDATED)|[ \t]*+>{5,}+[ \t]*+\w*+[ \t]*+$", re.IGNORECASE)
_HUNK = re.compile(r"@@(?:[ \t]*+-(\d{1,9})(?!\d))?")
_FENCE = re.compile(r"[ \t]*+(?:```|~~~)")
_NUMBERED = re.compile(r"[ \t]*+\d++ \|(?: |$)")
_Key = Callable[[str], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """One replacement."""

    search: tuple[str, ...]  # lines of the parent; none: the whole file
    replace: tuple[str, ...]  # lines in their place
    name: str  # for messages: "SEARCH block 2 (line 31 of the reply)"
    near: int | None = None  # line of the parent, from 1, that a hunk names
    exact: bool = False  # whether white space counts: in hunks


def read_edits(text: str) -> tuple[Sequence[Edit], str] | Diagnostic:
    """The edits of a reply, and the reply without them."""
    found: list[Edit] = []
    rest: list[str] = []
    sections: list[list[str]] = []  # of the block under way
    name = ""
    for number, line in enumerate(text.split("\n"), 1):
        if _SEARCH.match(line):
            if sections:
                return unreadable(f"{name} is not ended by >>>>>>> REPLACE before line {number} begins another")
            name = f"SEARCH block {len(found) + 1} (line {number} of the reply)"
            sections = [[]]
        elif not sections:
            rest.append(line)
        elif _DIVIDER.match(line):
            if len(sections) == 2:
                return unreadable(f"{name} has a second line of ====, on line {number}; send the whole file instead")
            sections.append([])
        elif _REPLACE.match(line):
            if len(sections) == 1:
                return unreadable(f"{name} has no ======= between what is sought and what replaces it")
            search, replace = (_without_numbers(_trimmed(section)) for section in sections)
            found.append(Edit(search=search, replace=replace, name=name))
            sections = []
        else:
            sections[-1].append(line)
    if sections:
        return unreadable(f"{name} is not ended by >>>>>>> REPLACE")
    if not found:
        found, rest = _hunks(text.split("\n"))
    if len(found) > MOST:
        return unreadable(f"the reply holds {len(found)} edits; at most {MOST} are read: send the whole file instead")
    return found, "\n".join(rest)


def apply_edits(parent: str, edits: Sequence[Edit]) -> str | Diagnostic:
    """The parent with all edits made, or what is wrong with each that cannot be."""
    text = _Parent(parent)
    changes: list[tuple[int, int, str, str]] = []  # first offset, end, new text, name of the edit
    problems: list[str] = []
    for edit in edits:
        found = text.find(edit)
        if not isinstance(found, str):
            changes.append((*found, edit.name))
            continue
        problems.append(found)
        if len(problems) == PROBLEMS:
            break
    changes.sort(key=lambda change: change[:2])
    for (_, end, _, name), (start, _, _, other) in itertools.pairwise(changes):
        if start < end:
            problems.append(
                f"{name} and {other} both change line {text.line_at(start)} of the parent; join them in one."
            )
    if problems:
        return unreadable(
            "\n".join([*problems[:PROBLEMS], "No edit was applied. Each is looked for in the parent as it was shown."])
        )
    made, last = [], 0
    for start, end, new, _ in changes:
        made += [parent[last:start], new]
        last = end
    edited = "".join([*made, parent[last:]])
    if edited.strip() == parent.strip():
        return unreadable("the edits change nothing: what replaces the parent's lines is equal to them")
    return edited


def _trimmed(lines: Sequence[str]) -> Sequence[str]:
    """Without blank lines, and without a pair of fences, around them."""
    first, end = 0, len(lines)
    while first < end and not lines[first].strip():
        first += 1
    while end > first and not lines[end - 1].strip():
        end -= 1
    if end - first >= 2 and _FENCE.match(lines[first]) and lines[end - 1].strip() in ("```", "~~~"):
        return lines[first + 1 : end - 1]
    return lines[first:end]


def _without_numbers(lines: Sequence[str]) -> tuple[str, ...]:
    """Without the line numbers of a message of ours, where a model has copied them with the lines."""
    numbered = all(_NUMBERED.match(line) for line in lines)
    return tuple(_NUMBERED.sub("", line) if numbered else line for line in lines)


def _hunks(lines: Sequence[str]) -> tuple[list[Edit], list[str]]:
    """The hunks of a unified diff, and the lines outside of them."""
    found: list[Edit] = []
    rest: list[str] = []
    index = 0
    while index < len(lines):
        header = _HUNK.match(lines[index])
        if header is None:
            rest.append(lines[index])
            index += 1
            continue
        name = f"hunk {len(found) + 1} (line {index + 1} of the reply)"
        index += 1
        body = list(_hunk(lines, index))
        index += len(body)
        while body and not body[-1]:  # blank lines behind the hunk, not of it
            body.pop()
        if not any(line[:1] in ("-", "+") for line in body):
            continue
        found.append(
            Edit(
                search=tuple(line[1:] for line in body if line[:1] in (" ", "-", "")),
                replace=tuple(line[1:] for line in body if line[:1] in (" ", "+", "")),
                name=name,
                near=int(header[1]) if header[1] else None,
                exact=True,
            )
        )
    return found, rest


def _hunk(lines: Sequence[str], index: int) -> Iterator[str]:
    """The lines of one hunk: up to what can be none of it."""
    while index < len(lines) and lines[index][:1] in (" ", "+", "-", "\\", ""):
        if lines[index].startswith("--- ") and lines[index + 1 : index + 2] and lines[index + 1].startswith("+++ "):
            return
        yield lines[index]
        index += 1


class _Parent:
    """The text that edits are made to, and where its lines are."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.lines = source.split("\n")
        self.starts = [0]
        for line in self.lines:
            self.starts.append(self.starts[-1] + len(line) + 1)

    def line_at(self, offset: int) -> int:
        return self.source.count("\n", 0, offset) + 1

    def find(self, edit: Edit) -> tuple[int, int, str] | str:
        """First offset, end and new text of the one place that an edit means, or why there is none."""
        if not edit.search:
            return f"{edit.name} has no line of the parent to say where it belongs."
        for key in (str.rstrip,) if edit.exact else (str.rstrip, _without_spaces):
            places = self._lines_like(edit.search, key)
            if edit.near is not None and edit.near - 1 in places:
                places = [edit.near - 1]
            if len(places) > 1:
                return self._ambiguous(edit, [(place + 1, place + len(edit.search)) for place in places])
            if places:
                return self._whole_lines(edit, places[0])
        return _absent(edit, self.lines) if edit.exact else self._part(edit)

    def _lines_like(self, search: Sequence[str], key: _Key) -> list[int]:
        """Indices at which the lines sought begin; at most PLACES."""
        text = "\n".join(["", *map(key, self.lines), ""])
        sought = "\n".join(["", *map(key, search), ""])
        places: list[int] = []
        offset = text.find(sought)
        while offset >= 0 and len(places) < PLACES:
            places.append(text.count("\n", 0, offset))
            offset = text.find(sought, offset + 1)
        return places

    def _whole_lines(self, edit: Edit, place: int) -> tuple[int, int, str]:
        start, end = self.starts[place], self.starts[place + len(edit.search)]
        if not edit.replace:
            return start, min(end, len(self.source)), ""
        had, given = _indentation(self.lines[place]), _indentation(edit.search[0])
        missing = had[: len(had) - len(given)] if had.endswith(given) else ""
        return start, end - 1, "\n".join(missing + line if line.strip() else line for line in edit.replace)

    def _part(self, edit: Edit) -> tuple[int, int, str] | str:
        sought = "\n".join(edit.search).strip()
        before, behind = (r"(?<!\w)" if sought[0].isalnum() else ""), (r"(?!\w)" if sought[-1].isalnum() else "")
        places = []
        for found in re.finditer(before + re.escape(sought) + behind, self.source):
            places.append(found.span())
            if len(places) == PLACES:
                break
        if not places:
            return _absent(edit, self.lines)
        if len(places) > 1:
            return self._ambiguous(edit, [(self.line_at(start), self.line_at(end)) for start, end in places])
        return (*places[0], "\n".join(edit.replace).strip())

    def _ambiguous(self, edit: Edit, places: Sequence[tuple[int, int]]) -> str:
        lines = ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in places)
        least = "at least " if len(places) == PLACES else ""
        return (
            f"{edit.name} matches the parent in {least}{len(places)} places, on lines {lines}; add neighbouring lines "
            "until it matches one."
        )


def _absent(edit: Edit, lines: Sequence[str]) -> str:
    """That an edit's lines are not in the parent, and what is there instead."""
    said = f"{edit.name} is not in the parent."
    place = _nearest(lines, edit.search)
    if place is None:
        return f"{said} Nothing in the parent is like `{clip(edit.search[0].strip())}`."
    first, end = max(0, place - AROUND), min(len(lines), place + min(len(edit.search), SHOWN) + AROUND)
    shown = [f"{number:5} | {clip(lines[number - 1])}" for number in range(first + 1, end + 1)]
    differs = next(
        (
            f"The first difference is on line {place + offset + 1}: the parent has `{clip(there.strip())}`, "
            f"the edit seeks `{clip(sought.strip())}`."
            for offset, (there, sought) in enumerate(zip(lines[place:], edit.search, strict=False))
            if _without_spaces(there) != _without_spaces(sought)
        ),
        "White space must be equal in a diff." if edit.exact else "The parent ends before the edit does.",
    )
    return "\n".join([f"{said} The nearest lines of the parent are:", *shown, differs])


def _nearest(lines: Sequence[str], search: Sequence[str]) -> int | None:
    """Index of the line at which the parent is most like what is sought: a third of it, or its longest line."""
    where: dict[str, list[int]] = {}
    for index, line in enumerate(lines):
        where.setdefault(_without_spaces(line), []).append(index)
    votes: dict[int, int] = {}
    for offset, line in enumerate(search):
        words = _without_spaces(line)
        for index in where.get(words, [])[:20] if words else []:
            place = max(0, index - offset)
            votes[place] = votes.get(place, 0) + len(words)
    best = max(votes, key=lambda place: (votes[place], -place), default=None)
    if best is not None and votes[best] * 3 >= sum(len(_without_spaces(line)) for line in search):
        return best
    offset = max(range(len(search)), key=lambda index: len(search[index].strip()))
    comparable = {clip(line.strip()): index for index, line in reversed(list(enumerate(lines[:COMPARED])))}
    near = difflib.get_close_matches(clip(search[offset].strip()), comparable, n=1, cutoff=0.5)
    return max(0, comparable[near[0]] - offset) if near else best


def _without_spaces(line: str) -> str:
    return "".join(line.split())


def _indentation(line: str) -> str:
    return line[: len(line) - len(line.lstrip())]
