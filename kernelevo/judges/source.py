"""A candidate's source as its judges see it: data. No comment, no invisible character, and no way out of its block.

Takes the source, gives the text between two delimiters and the mark that is in both. The mark is a hash that the source
does not contain; the judge's answer repeats it, so an answer that stands in the source, in a string or an identifier,
and is quoted by the judge, is not taken for the judge's own.

Not covered: code that is never compiled (`#if 0`) and strings stay, as data: hiding them would hide what is judged.
"""

from __future__ import annotations

import ast
import io
import itertools
import re
import tokenize

from kernelevo.records import digest

_SPLICE = (
    r"(?:\\[ \t]*\r?\n)*"  # a comment's two characters may be on two lines: [lex.phases], and what GCC takes for it
)
_TOKEN = re.compile(
    rf"""
      (?P<comment> /{_SPLICE}/(?:\\[ \t]*\r?\n|[^\n])* | /{_SPLICE}\*.*?(?:\*{_SPLICE}/|\Z) )
    | (?P<raw>     (?:u8|[uUL])?R"(?P<delimiter>[^()\\\s]{{0,16}})\(.*?(?:\)(?P=delimiter)"|\Z) )
    | (?P<string>  "(?:\\.|[^"\\\n])*"? )
    | (?P<char>    '(?:\\.|[^'\\\n])*'? )
    | (?P<number>  \.?\d(?:[eEpP][+-]|'[0-9a-zA-Z_]|[\w.])* )
    | (?P<word>    [A-Za-z_]\w* )
    """,
    re.VERBOSE | re.DOTALL,
)


def shown_source(source: str) -> str:
    """The block that a prompt holds: delimiters with the mark, and between them the source with its line numbers.

    Comments are gone; what is neither printable ASCII nor a line end or tab is written as an escape.
    """
    text = without_comments(source).encode("ascii", errors="backslashreplace").decode()
    text = re.sub(r"[\x00-\x08\x0b-\x1f\x7f]", lambda match: f"\\x{ord(match.group()):02x}", text.replace("\r\n", "\n"))
    lines = [f"{number:4}| {line}".rstrip() for number, line in enumerate(text.rstrip("\n").split("\n"), 1)]
    mark = mark_of(source)
    return "\n".join((f"<source {mark}>", *lines, f"</source {mark}>"))


def mark_of(source: str) -> str:
    """Eight hexadecimal digits that do not occur in the source, the same each time."""
    marks = (digest("judge", str(attempt), source, tag="m", length=8)[2:] for attempt in itertools.count())
    return next(mark for mark in marks if mark not in source)


def without_comments(source: str) -> str:
    """The source with a space for each comment; lines keep their numbers. Of Python, also without docstrings."""
    if "ModelNew" in source:
        try:
            return _python_without_comments(source)
        except (SyntaxError, ValueError, RecursionError, MemoryError, tokenize.TokenError):
            pass  # CUDA that has this name, or Python that cannot be read as such
    return _cuda_without_comments(source)


def _cuda_without_comments(source: str) -> str:
    return _TOKEN.sub(lambda match: _blank(match.group()) if match["comment"] else match.group(), source)


def _python_without_comments(source: str) -> str:
    """Python with CUDA in its strings: comments of both languages go. Raises what `ast` and `tokenize` raise."""
    source = source.replace("\r\n", "\n")
    lines = io.StringIO(source).readlines()
    starts = [0, *itertools.accumulate(len(line) for line in lines)]

    def offset(line: int, column_bytes: int) -> int:
        return starts[line - 1] + len(lines[line - 1].encode()[:column_bytes].decode())

    remarks = [
        range(offset(node.lineno, node.col_offset), offset(node.end_lineno or 0, node.end_col_offset or 0))
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    ]
    pieces, end = [], 0
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in (tokenize.COMMENT, tokenize.STRING):
            continue
        start = starts[token.start[0] - 1] + token.start[1]
        text, quotes = token.string, token.string[-3:]
        if token.type == tokenize.COMMENT:
            text = _blank(text)
        elif any(start in remark for remark in remarks):
            text = '""' + _blank(text)
        elif quotes in ('"""', "'''"):
            head = text.index(quotes) + 3
            text = text[:head] + _cuda_without_comments(text[head:-3]) + quotes
        pieces += [source[end:start], text]
        end = start + len(token.string)
    return "".join((*pieces, source[end:]))


def _blank(text: str) -> str:
    return " " + "\n" * text.count("\n")
