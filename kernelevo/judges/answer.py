"""A judge's reply in, its answer out: accepts or not, how sure, and why.

The answer is one JSON object. It may be fenced, stand in prose, come after thoughts, be written as Python would write
it, or say "yes" and "90 %". What is in doubt is no answer: none at all, several that contradict each other, an object
that says a thing twice, or, with anything around it, an object without the candidate's mark: that may be quoted from
the candidate itself (see source.py).
"""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

REASON_LENGTH = 300  # characters of a reason that are kept
_THOUGHTS = re.compile(r"\A\s*<think>.*?</think>", re.DOTALL)  # as open models write them before their answer
_FENCED = re.compile(r"\A```\w*\s*(\{.*\})\s*```\Z", re.DOTALL)
_FLAT = re.compile(r"\{[^{}]*\}")
_LAST_COMMA = re.compile(r",\s*\}\Z")
_WORDS = {"true": True, "yes": True, "accept": True, "false": False, "no": False, "reject": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What one reply says."""

    accepts: bool | None  # None: it could not be read, and `reason` says why
    confidence: float | None  # from 0 to 1, of being right; None: not said, or not so that it could be read
    reason: str  # one line


def read_answer(text: str, mark: str) -> Answer:
    """The answer in a reply about the candidate of that mark."""
    answer = _THOUGHTS.sub("", text).strip()
    said = [entry for entry in _objects(answer) if "accepts" in entry]
    marked = [entry for entry in said if str(entry.get("mark", "")).strip().lower() == mark]
    alone = _FENCED.fullmatch(answer) or (answer.startswith("{") and answer.endswith("}"))
    if alone and len(said) == 1 and "mark" not in said[0]:
        marked = said
    if not marked:
        why = "its answer lacks the candidate's mark" if said else "the reply holds no answer"
        return Answer(accepts=None, confidence=None, reason=why)
    votes = [_accepts(entry["accepts"]) for entry in marked]
    if None in votes:
        return Answer(accepts=None, confidence=None, reason="its answer is neither yes nor no")
    if len(set(votes)) > 1:
        return Answer(accepts=None, confidence=None, reason="the reply contradicts itself")
    last = marked[-1]
    reason = " ".join(str(last.get("reason", "")).split())[:REASON_LENGTH]
    return Answer(accepts=votes[0], confidence=_confidence(last.get("confidence")), reason=reason)


def _objects(text: str) -> Iterator[dict[str, Any]]:
    """JSON objects in a text, outermost ones, with their keys in lower case; so are those that Python would read."""
    decoder = json.JSONDecoder(object_pairs_hook=_keys_once)
    position = text.find("{")
    while position >= 0:
        end = position + 1
        try:
            found, end = decoder.raw_decode(text, position)
            yield found
        except (ValueError, RecursionError):
            if flat := _FLAT.match(text, position):
                loose = _loosely(flat.group())
                if loose is not None:
                    yield loose
                    end = flat.end()
        position = text.find("{", end)


def _keys_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entry = {key.lower(): value for key, value in pairs}
    if len(entry) < len(pairs):
        return {"accepts": None, **({"mark": entry["mark"]} if "mark" in entry else {})}
    return entry


def _loosely(text: str) -> dict[str, Any] | None:
    """An object with a comma too many, or in Python's words."""
    text = _LAST_COMMA.sub("}", text)
    try:
        return dict(json.loads(text, object_pairs_hook=_keys_once))
    except (ValueError, RecursionError):
        pass
    try:
        tree = ast.parse(text, mode="eval").body
        if not isinstance(tree, ast.Dict) or None in tree.keys:
            return None
        return _keys_once(
            [(str(ast.literal_eval(k)), ast.literal_eval(v)) for k, v in zip(tree.keys, tree.values, strict=True) if k]
        )
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return None


def _accepts(value: Any) -> bool | None:
    return value if isinstance(value, bool) else _WORDS.get(str(value).strip().lower())


def _confidence(value: Any) -> float | None:
    """From 0 to 1: a number, or a text that holds one, perhaps in percent."""
    if isinstance(value, bool):
        return None
    try:
        percent = isinstance(value, str) and value.strip().endswith("%")
        number = float(value.strip().removesuffix("%")) / 100 if percent else float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) and 0 <= number <= 1 else None
