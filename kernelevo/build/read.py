"""What is wrong with a candidate that can be said before it is compiled.

Takes a source and the entry it must export, gives diagnostics of stage "read": only what is certain. When the module
is built by macros or functions of the candidate's own, the import of the artifact decides.
"""

from __future__ import annotations

import re

from kernelevo.build.python import is_python, read_python
from kernelevo.build.split import tokens
from kernelevo.records import Candidate, Diagnostic

_MODULE = re.compile(rb"PYBIND11_MODULE\s*\(\s*(\w+)\s*,\s*(\w+)\s*\)\s*(\{?)")
_DEFINITION = re.compile(rb"\.\s*def\s*\(\s*(?:\"([^\"\\\n]*)\")?")


def read(candidate: Candidate) -> tuple[Diagnostic, ...]:
    """Certain errors of the module definition; empty when it may be right."""
    if is_python(candidate.source):
        return read_python(candidate)
    source = candidate.source.encode()
    if b"\0" in source:
        return (_error(source, source.index(b"\0"), "the source holds a NUL byte"),)
    words = {token.text for token in tokens(source)}
    starts = [token.start for token in tokens(source) if token.text == b"PYBIND11_MODULE"]
    if not starts:
        if words & {b"TORCH_LIBRARY", b"TORCH_LIBRARY_FRAGMENT"}:
            text = "the source registers a TORCH_LIBRARY; a candidate exports its entry with PYBIND11_MODULE"
            return (_error(source, None, text),)
        if any(word.startswith(b"PyInit_") for word in words) or b"PyMODINIT_FUNC" in words:
            return ()
        text = f'no PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {{ m.def("{candidate.entry}", ...); }} in the source'
        return (_error(source, None, text),)
    match = _MODULE.match(source, starts[-1])
    if len(starts) > 1 or match is None or not match.group(3):
        return ()
    name, variable, body_start = match.group(1), match.group(2), match.end() - 1
    if name != b"TORCH_EXTENSION_NAME":
        if re.search(rb"#\s*define\s+" + name + rb"\b", source):
            return ()
        text = f"the module is named {name.decode()}; it must be PYBIND11_MODULE(TORCH_EXTENSION_NAME, ...)"
        return (_error(source, starts[0], text),)
    body = source[body_start : _closing_brace(source, body_start)]
    exported = [found.group(1) for found in _DEFINITION.finditer(body)]
    handed_on = re.search(rb"[(,&]\s*" + variable + rb"\s*[,)]", body)  # bind(m): more may be defined elsewhere
    macros = [word for word in (token.text for token in tokens(body)) if re.fullmatch(rb"[A-Z][A-Z0-9_]{2,}", word)]
    if None in exported or handed_on or macros or candidate.entry.encode() in exported:
        return ()
    names = ", ".join(sorted(name.decode() for name in exported if name is not None)) or "nothing"
    return (_error(source, starts[0], f'the module exports {names}, not the entry "{candidate.entry}"'),)


def _closing_brace(source: bytes, start: int) -> int:
    """Offset after the brace that closes the one at `start`; braces in strings are rare and balanced enough here."""
    depth = 0
    for offset in range(start, len(source)):
        depth += {123: 1, 125: -1}.get(source[offset], 0)
        if depth == 0:
            return offset + 1
    return len(source)


def _error(source: bytes, offset: int | None, text: str) -> Diagnostic:
    line = None if offset is None else source.count(b"\n", 0, offset) + 1
    return Diagnostic(severity="error", line=line, column=None, text=text, stage="read")
