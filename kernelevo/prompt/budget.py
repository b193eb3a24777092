"""How many items of each part a prompt shows. Takes lengths, gives counts; knows nothing of what is in them.

A token is taken to be four characters, which is about right for English and a little low for dense code; no tokeniser
of any provider is asked. Each part is sure of its share of the room. What parts leave of their shares is given away in
the order of PARTS, and the first part that it is not enough for ends that. So the last part loses first, down to its
share, then the one before it. Within a part the least useful items go first, and whole.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

CHARACTERS_PER_TOKEN = 4
ITEMS = 40  # of one part, whatever the budget: nobody needs the forty-first diagnostic

# Name of a part -> the share of what is left of the budget that it is sure of. First come first served with the rest.
PARTS: Mapping[str, float] = {
    "feedback": 0.30,
    "hints": 0.10,
    "tried": 0.15,
    "siblings": 0.10,
    "lessons": 0.15,
    "inspirations": 0.10,
    "examples": 0.10,
}


def fit(sizes: Mapping[str, Sequence[int]], room: int) -> dict[str, int] | None:
    """How many items of each part are shown; None when not even the words about what is left out have room.

    sizes: of each part in order of precedence, the characters of its text with 0, 1, ... of its items (counts_of).
    room: characters for all of them together.
    """
    room -= sum(lengths[0] for lengths in sizes.values())
    if room < 0:
        return None
    extra = {name: [length - lengths[0] for length in lengths] for name, lengths in sizes.items()}
    shown = {name: most(lengths, int(PARTS[name] * room)) for name, lengths in extra.items()}
    for name, lengths in extra.items():
        used = sum(extra[other][count] for other, count in shown.items() if other != name)
        shown[name] = most(lengths, room - used)
        if shown[name] < len(lengths) - 1:
            break
    return shown


def counts_of(items: Sequence[Any]) -> range:
    """How many items may be shown: 0, 1, ... up to all, but never more than ITEMS."""
    return range(min(len(items), ITEMS) + 1)


def most(lengths: Sequence[int], room: int) -> int:
    """The largest number of items whose length is within the room; 0 when none is."""
    return max((count for count, length in enumerate(lengths) if length <= room), default=0)


def estimate_tokens(characters: int) -> int:
    return math.ceil(characters / CHARACTERS_PER_TOKEN)
