"""CUDA source to its colours: how long each run of one hue is. The text itself is not in it.

hues("int x;")    -> [2, 3, 0, 3]: three characters of HUES[2], then three of HUES[0]
"""

from __future__ import annotations

from typing import Any

from pygments.lexers import CudaLexer
from pygments.token import Comment, Keyword, Literal, Name, Number, String

HUES = ("plain", "keyword", "type", "comment", "directive", "string", "number", "function")
KINDS: tuple[tuple[Any, str], ...] = (  # the first that a token belongs to
    (Comment.Preproc, "directive"),
    (Comment.PreprocFile, "directive"),
    (Comment, "comment"),
    (Keyword.Type, "type"),
    (Keyword.Reserved, "keyword"),
    (Keyword, "keyword"),
    (Name.Builtin, "type"),
    (Name.Function, "function"),
    (Name.Class, "function"),
    (String, "string"),
    (Number, "number"),
    (Literal, "number"),
)
LEXER = CudaLexer(stripnl=False, stripall=False, ensurenl=False)


def hues(source: str) -> list[int]:
    """Index of HUES and number of characters, in turns. The lengths add up to that of the source."""
    runs: list[int] = []
    for _, kind, text in LEXER.get_tokens_unprocessed(source):
        hue = hue_of(kind) if text.strip() else (runs[-2] if runs else 0)  # spaces have no colour
        if runs and runs[-2] == hue:
            runs[-1] += len(text)
        else:
            runs += [hue, len(text)]
    return runs


_known: dict[Any, int] = {}


def hue_of(kind: Any) -> int:
    if kind not in _known:
        _known[kind] = HUES.index(next((name for parent, name in KINDS if kind in parent), "plain"))
    return _known[kind]
