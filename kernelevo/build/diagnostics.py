"""What compilers say, in the candidate's own lines.

Takes the output of nvcc, ptxas, clang++ or g++ and the text that was compiled, gives Diagnostics. Messages keep the
compiler's words. An error inside a header is placed at the line of the candidate that led there. Notes are dropped,
unless nothing else is left, and at most 20 diagnostics are kept, errors first.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

from kernelevo.build.split import Text
from kernelevo.records import Diagnostic

LIMIT = 20
TEXT_LIMIT = 600  # characters; messages about templates can be pages long
SOURCE_NAME = "candidate.cu"  # what #line calls every text that is compiled

_NVCC = re.compile(
    r"^(?P<file>[^\s(][^(]*)\((?P<line>\d+)\): "
    r"(?P<severity>catastrophic error|error|warning)(?: #[\w-]+)?: (?P<text>.*)"
)
_CLANG = re.compile(
    r"^(?P<file>[^\s:][^:]*):(?P<line>\d+):(?:(?P<column>\d+):)? "
    r"(?P<severity>fatal error|error|warning|note): (?P<text>.*)"
)
_REQUIRED = re.compile(rf"^{re.escape(SOURCE_NAME)}:(\d+):(\d+):   required from")
_INSTANTIATED = re.compile(rf"at line (\d+) of \"?/?{re.escape(SOURCE_NAME)}")
_PTXAS = re.compile(r"^ptxas (?P<file>\S+, line \d+; )?(?P<severity>fatal|error|warning)\s*: (?P<text>.*)")
_LINKER = re.compile(r"^(?:\S*ld(?:\.lld)?\S*|collect2): (?:error: )?(?P<text>.*)")


def read_nvcc(output: str, text: Text | None, stage: str) -> list[Diagnostic]:
    """Diagnostics of the device pass."""
    found = []
    lines = output.splitlines()
    for index, line in enumerate(lines):
        match = _NVCC.match(line)
        if match is None:
            fatal = re.match(r"^(?:nvcc|cicc)?\s*(?:fatal|error)\s*: (.*)", line) or _CLANG.match(line)
            if fatal and "detected in the compilation" not in line:
                found.append(_from_nvcc_line(line, fatal, text, stage))
            continue
        message, column, place = match["text"], None, None
        # The message may go on; then come the source line, a caret below it, and where templates were instantiated.
        for offset, following in enumerate(lines[index + 1 : index + 40], 1):
            if _NVCC.match(following):
                break
            if re.fullmatch(r" +\^", following):
                column = _column(lines[index + offset - 1], len(following) - 1, text, int(match["line"]))
            instantiated = _INSTANTIATED.search(following)
            if instantiated:
                place = int(instantiated.group(1))  # the last is the outermost: where the candidate began
        number: int | None = int(match["line"])
        if not _is_source(match["file"]):
            message = f"{match['file'].rsplit('/', 1)[-1]}: {message}"
            number, column = place, None
        found.append(
            _placed("warning" if match["severity"] == "warning" else "error", number, column, message, text, stage)
        )
    return found


def _column(printed: str, caret: int, text: Text | None, number: int) -> int | None:
    """Column, from 1, of what the caret points at. nvcc prints the line with its macros expanded and tabs as spaces."""
    if text is None:
        return None
    line = text.line(number).replace("\t", " ").rstrip()
    rest = printed[caret:].rstrip()
    if rest and line.endswith(rest):
        return len(line) - len(rest) + 1
    word = re.match(r"\w+|\W", rest)
    found = [match.start() for match in re.finditer(rf"(?<!\w){re.escape(word.group())}(?!\w)", line)] if word else []
    return found[0] + 1 if len(found) == 1 else None


def _is_source(file: str) -> bool:
    return file.removeprefix("/") == SOURCE_NAME


def _from_nvcc_line(line: str, match: re.Match[str], text: Text | None, stage: str) -> Diagnostic:
    """A line of the preprocessor, which is gcc's, or of nvcc itself."""
    if "file" in match.groupdict():
        here = _is_source(match["file"])
        severity = "error" if "error" in match["severity"] else match["severity"]
        column = int(match["column"]) if match["column"] and here else None
        return _placed(severity, int(match["line"]) if here else None, column, match["text"], text, stage)
    return _placed("error", None, None, match.group(1), text, stage)


def read_host(output: str, text: Text | None, stage: str = "host") -> list[Diagnostic]:
    """Diagnostics of clang++ or g++."""
    found: list[Diagnostic] = []
    required: tuple[int, int] | None = None  # g++ says where a template was needed before it says what is wrong
    for line in output.splitlines():
        before = _REQUIRED.match(line)
        if before:
            required = int(before.group(1)), int(before.group(2))
            continue
        match = _CLANG.match(line)
        if match is None:
            continue
        severity = match["severity"].removeprefix("fatal ")
        number, column = int(match["line"]), int(match["column"]) if match["column"] else None
        if severity == "note":
            # clang++ says afterwards where a template was needed.
            if match["file"] == SOURCE_NAME and found and found[-1].line is None:
                place = text.place(number, column) if text else (number, column)
                found[-1] = replace(found[-1], line=place[0], column=place[1])
            continue
        message = match["text"]
        if match["file"] != SOURCE_NAME:
            message = f"{match['file'].rsplit('/', 1)[-1]}: {message}"
            if required:
                found.append(_placed(severity, *required, message, text, stage))
            else:
                found.append(_placed(severity, None, None, message, text, stage))
        else:
            found.append(_placed(severity, number, column, message, text, stage))
        required = None
    return found


def read_ptxas(output: str) -> list[Diagnostic]:
    """Diagnostics of ptxas; they speak of kernels, not of lines."""
    found = []
    for line in output.splitlines():
        match = _PTXAS.match(line)
        if match and "Ptx assembly aborted" not in match["text"]:
            severity = "warning" if match["severity"] == "warning" else "error"
            found.append(Diagnostic(severity=severity, line=None, column=None, text=match["text"], stage="ptxas"))
    return found


def read_linker(output: str) -> list[Diagnostic]:
    """Diagnostics of the link."""
    texts = [match["text"] for match in map(_LINKER.match, output.splitlines()) if match]
    return [Diagnostic(severity="error", line=None, column=None, text=text, stage="link") for text in texts]


def unread(output: str, stage: str) -> Diagnostic:
    """A compiler failed in words that are not understood: the end of them."""
    words = " ".join(output.split())[-TEXT_LIMIT:] or "failed without a word"
    return Diagnostic(severity="error", line=None, column=None, text=words, stage=stage)


def trim(diagnostics: Iterable[Diagnostic]) -> tuple[Diagnostic, ...]:
    """Errors before warnings, no repetitions, at most LIMIT."""
    found = list(dict.fromkeys(diagnostics))
    ordered = [d for d in found if d.severity == "error"] + [d for d in found if d.severity != "error"]
    return tuple(ordered[:LIMIT])


def _placed(
    severity: str, line: int | None, column: int | None, message: str, text: Text | None, stage: str
) -> Diagnostic:
    if text is not None and line is not None:
        line, column = text.place(line, column)
    if len(message) > TEXT_LIMIT:
        message = message[:TEXT_LIMIT] + " ..."
    return Diagnostic(severity=severity, line=line, column=column, text=message, stage=stage)
