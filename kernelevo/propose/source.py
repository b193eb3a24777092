"""What can be told of a CUDA source by its words alone. Takes text, gives offsets, tunables and reasons.

Comments and literals are told from code by a scan over the words; nothing is parsed, no macro is expanded, and the
branches of an #if count all. Each expression below takes time linear in the text: what a quote or a comment opens is
closed by the end of the line or of the text.
"""

from __future__ import annotations

import re
import unicodedata

from kernelevo.records import Diagnostic

TUNABLES = 32  # declared by one source
VALUES = 64  # of one tunable
DIGITS = 9  # of one value

_WORDS = re.compile(
    r"""
      (?P<comment> //(?:\\\n|[^\n])*+ | /\*.*?(?:\*/|\Z) )
    | (?P<literal> (?:u8|[uUL])?R"(?P<mark>[^()\\\s"]{0,16})\(.*?(?:\)(?P=mark)"|\Z)
                 | "(?:\\.|[^"\\\n])*+"?
                 | '(?:\\.|[^'\\\n])*+'? )
    | \d(?:'\w|[\w.])*+                                                   # its separators are no quotes
    | [A-Za-z_]\w*+
    """,
    re.VERBOSE | re.DOTALL,
)
_NOT_A_LINE_END = re.compile(r"[^\n]")
_MODULE = re.compile(r"\bPYBIND11_MODULE\s*+\(")
_TUNABLE = re.compile(
    r"//[ \t]*+tunable:[ \t]*+([A-Za-z_]\w*+)[ \t]*+=[ \t]*+([0-9]++(?:[ \t]*+,[ \t]*+[0-9]++)*+)[ \t]*+$", re.MULTILINE
)
_LEFT_OUT = re.compile(
    r"""[ \t]*+(?://|/\*)[ \t*]*+(?:
          (?:\.\.\.|…).{0,80}?\b(?:existing|unchanged|rest|remaining|same|omitted|as\ before|previous|other)\b
        | (?:the\ )?(?:rest|remainder)\ of\ (?:the\ )?(?:code|kernels?|file|functions?|source|program|implementation)\b
          .{0,40}?\b(?:unchanged|same|as\ before|omitted|here)\b )""",
    re.VERBOSE | re.IGNORECASE,
)
_PYTHON = re.compile(r"^[ \t]*+(?:import[ \t]+[\w.]+|from[ \t]+[\w.]+[ \t]+import\b)(?![^\n]*;)", re.MULTILINE)


def code_of(source: str) -> str:
    """The source with comments and literals blanked: offsets and lines stay where they are."""
    return _WORDS.sub(
        lambda word: (
            _NOT_A_LINE_END.sub(" ", word.group()) if word["comment"] or word["literal"] is not None else word.group()
        ),
        source,
    )


def ends_in_comment(line: str, *, began_in_comment: bool) -> bool:
    """Whether a /* comment is open at the end of a line."""
    if began_in_comment:
        _, closed, line = line.partition("*/")
        if not closed:
            return True
    if "/*" not in line:
        return False
    comments = [word["comment"] for word in _WORDS.finditer(line) if word["comment"]]
    return bool(comments) and comments[-1].startswith("/*") and not comments[-1][2:].endswith("*/")


def has_module(source: str) -> bool:
    return "PYBIND11_MODULE" in source and _MODULE.search(code_of(source)) is not None


def module_end(code: str) -> int | None:
    """Offset behind the body of the module in `code_of` a source; None where there is none, or it does not end."""
    found = _MODULE.search(code)
    depth = 0
    for bracket in re.finditer(r"[{}]", code[found.end() :]) if found else ():
        depth += 1 if bracket.group() == "{" else -1
        if depth <= 0:
            return found.end() + bracket.end() if found else None
    return None


def is_whole(source: str) -> bool:
    """Whether a source that may have been cut off is complete: it has a module, and every bracket is closed."""
    code = code_of(source)
    pairs = (("{", "}"), ("(", ")"), ("[", "]"))
    return module_end(code) is not None and all(code.count(opened) == code.count(closed) for opened, closed in pairs)


def is_python(source: str) -> bool:
    """Whether a text is Python: C++ ends its imports with a semicolon."""
    return _PYTHON.search(code_of(source)) is not None


def defined_function(source: str, name: str) -> int | None:
    """Line, from 1, of what looks like the definition of a function of this name."""
    code = code_of(source)
    found = re.search(rf"\b{re.escape(name)}\s*+\([^;{{}}]{{0,1000}}+\{{", code)
    return code.count("\n", 0, found.start()) + 1 if found else None


def find_fault(source: str, *, parent: str | None) -> Diagnostic | None:
    """What certainly makes a source useless and is better said to a model than what a compiler would say of it."""
    code = code_of(source)
    if _MODULE.search(code) is None:
        return unreadable("the file has no PYBIND11_MODULE(TORCH_EXTENSION_NAME, m)")
    known = set(parent.split("\n")) if parent else set()
    for line, words in enumerate(source.split("\n"), 1):
        if _LEFT_OUT.match(words) and words not in known:
            text = (
                f"`{clip(words.strip())}` stands for code that was left out; send all of it, or SEARCH/REPLACE blocks"
            )
            return unreadable(text, line=line)
    for found in re.finditer(r"[^\x00-\x7f]", code):
        if not ("a" + found.group()).isidentifier():
            name = unicodedata.name(found.group(), f"U+{ord(found.group()):04X}")
            line = code.count("\n", 0, found.start()) + 1
            column = found.start() - code.rfind("\n", 0, found.start())
            return unreadable(f"the code holds the character {name}; write it in ASCII", line=line, column=column)
    return None


def read_tunables(source: str) -> dict[str, tuple[int, ...]] | Diagnostic:
    """Declared tunables: `// tunable: BLOCK = 64, 128, 256`. Of several declarations of a name the last one counts."""
    found: dict[str, tuple[int, ...]] = {}
    for declaration in _TUNABLE.finditer(source):
        name, listed = declaration.groups()
        values = dict.fromkeys(value.strip() for value in listed.split(","))
        longest = max(values, key=len)
        reason = None
        if len(values) > VALUES:
            reason = f"tunable {clip(name)} has {len(values)} values; at most {VALUES} can be tried"
        elif len(longest) > DIGITS:
            reason = f"tunable {clip(name)} has the value {clip(longest)}; at most {DIGITS} digits are read"
        elif name not in found and len(found) == TUNABLES:
            reason = f"more than {TUNABLES} tunables are declared; keep those that matter"
        if reason is not None:
            return unreadable(reason, line=source.count("\n", 0, declaration.start()) + 1)
        found[name] = tuple(dict.fromkeys(int(value) for value in values))
    return found


def normalise(source: str) -> str:
    """Unix line ends and one newline at the end, so that equal sources have equal ids."""
    return unix_lines(source).strip("\n") + "\n"


def unix_lines(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


def clip(text: str, *, size: int = 120) -> str:
    """The beginning of a text, for a message."""
    return text if len(text) <= size else text[: size - 3] + "..."


def unreadable(text: str, *, line: int | None = None, column: int | None = None) -> Diagnostic:
    return Diagnostic(severity="error", line=line, column=column, text=text, stage="read")
