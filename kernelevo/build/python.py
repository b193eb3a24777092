"""Python candidates: a file with `class ModelNew` and CUDA in strings given to torch's load_inline, as KernelBench has.

Takes such a source, gives one CUDA source that the ordinary build compiles. The Python is executed in a sandboxed
worker only (devices/recorder.py), which tells what load_inline was asked for. The CUDA source keeps the lines of the
Python file where there is room, so that compilers and checkers speak of those; elsewhere diagnostics are moved. Its
entry is an object that carries the whole Python source, in base64, and calls ModelNew in the worker
(devices/python_candidate.py).

Not covered: sources in files (`load`), load_inline inside functions, flags other than -D (-O3, --use_fast_math: a
warning), and names that mean different things in two calls' macros.
"""

from __future__ import annotations

import ast
import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from kernelevo.devices.recorder import Recording
from kernelevo.records import Candidate, Diagnostic

_CLASS = re.compile(r"^class\s+ModelNew\b[^{;]*:", re.MULTILINE)
_IMPORT = re.compile(r"^(import|from)\s+\w", re.MULTILINE)
_INCLUDE = re.compile(r"^[ \t]*#[ \t]*include\b.*$", re.MULTILINE)
_MODULE = re.compile(r"PYBIND11_MODULE\s*\(\s*\w+\s*,\s*(\w+)\s*\)\s*\{")
_PRELUDE = ("#include <torch/extension.h>", "#include <cuda_runtime.h>")
_WITHOUT_MEANING = re.compile(r"^(-O\d|-std=.*|-lineinfo|-w|-v|--ptxas-options=.*|-Xptxas.*|--expt-.*|-arch=.*|)$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Generated:
    """The CUDA source of a Python candidate."""

    source: str
    lines: Mapping[int, int]  # of `source` -> of the Python file; both from 1
    warnings: tuple[Diagnostic, ...]


def is_python(source: str) -> bool:
    """Whether a candidate is Python: CUDA sources have no import statements and no class that ends in a colon."""
    return _CLASS.search(source) is not None and _IMPORT.search(source) is not None


def read_python(candidate: Candidate) -> tuple[Diagnostic, ...]:
    """What is certainly wrong with a Python candidate, from its text."""
    try:
        tree = ast.parse(candidate.source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = getattr(error, "lineno", None)
        return (_error(line, f"not valid Python: {getattr(error, 'msg', error)}"),)
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    if "ModelNew" not in classes:
        return (_error(None, "no class ModelNew at the top level of the file"),)
    return _inherits_forward(classes)


def generate(source: str, entry: str, recording: Recording) -> Generated | tuple[Diagnostic, ...]:
    """One CUDA source for everything that was recorded, or why there is none."""
    if recording.error is not None:
        return (_error(recording.line, f"when it is imported: {recording.error}"),)
    literals = _literals(source)
    pieces: list[tuple[str, int | None]] = []  # line of the result, and of the Python file
    exports: list[str] = []
    included: list[str] = list(_PRELUDE)
    several = len(recording.calls) > 1
    warnings = []
    for number, call in enumerate(recording.calls):
        warnings += [
            _warning(f"flag {flag} of load_inline is ignored")
            for flag in call.flags
            if not flag.startswith("-D") and not _WITHOUT_MEANING.match(flag)
        ]
        included += [f"#define {flag[2:].replace('=', ' ', 1)}" for flag in call.flags if flag.startswith("-D")]
        texts = [*call.cuda_sources, *(text for text in call.cpp_sources if "{" in text)]
        modules = [text for text in texts if _MODULE.search(text)]
        if several and modules:
            return (_error(None, "two calls of load_inline, of which one defines a PYBIND11_MODULE"),)
        if several:
            pieces.append((f"namespace kernelevo_inline_{number} {{", None))
        for text in texts:
            if several:
                included += [match.group() for match in _INCLUDE.finditer(text)]
                text = _INCLUDE.sub("", text)
                start = literals.get(_INCLUDE.sub("", text)) or _start(literals, text)
            else:
                start = literals.get(text)
            pieces += [(line, start and start + offset) for offset, line in enumerate(text.split("\n"))]
        if several:
            pieces.append(("}", None))
        if not modules:
            scope = f"kernelevo_inline_{number}::" if several else ""
            exports.append(_exports(number, call.functions, scope, several))
    made = 'pybind11::module_::import("kernelevo.devices.python_candidate").attr("entry")'
    payload = f'm.attr("{entry}") = {made}(m, "{base64.b64encode(source.encode()).decode()}");'
    if not any(_MODULE.search(line) for line, _ in pieces):
        pieces.append((f"PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {{ {' '.join(exports)} {payload} }}", None))
        return _laid_out(included, pieces, tuple(warnings))
    placed = []
    for line, place in pieces:
        match = _MODULE.search(line)
        if match is not None:
            mine = payload.replace("m.attr", f"{match[1]}.attr", 1).replace("(m, ", f"({match[1]}, ", 1)
            line = f"{line[: match.end()]} {mine} {line[match.end() :]}"
        placed.append((line, place))
    return _laid_out(included, placed, tuple(warnings))


def moved(diagnostics: Sequence[Diagnostic], lines: Mapping[int, int]) -> tuple[Diagnostic, ...]:
    """Diagnostics of the CUDA source at the lines of the Python file; those of our own lines have no place."""
    return tuple(replace(d, line=None if d.line is None else lines.get(d.line)) for d in diagnostics)


def _laid_out(
    included: Sequence[str], pieces: Sequence[tuple[str, int | None]], warnings: tuple[Diagnostic, ...]
) -> Generated:
    """Each line at its own number in the Python file where the lines before leave room for that."""
    text: list[str] = list(dict.fromkeys(included))
    lines: dict[int, int] = {}
    for line, place in pieces:
        if place is not None:
            text += [""] * (place - 1 - len(text))
            lines[len(text) + 1] = place
        text.append(line)
    return Generated(source="\n".join(text) + "\n", lines=lines, warnings=warnings)


def _exports(number: int, functions: Sequence[str], scope: str, several: bool) -> str:
    module = f"m{number}" if several else "m"
    made = f'auto m{number} = m.def_submodule("inline_{number}"); ' if several else ""
    return made + " ".join(f'{module}.def("{name}", &{scope}{name}, "{name}");' for name in functions)


def _inherits_forward(classes: Mapping[str, ast.ClassDef]) -> tuple[Diagnostic, ...]:
    """An error when ModelNew takes its forward from the reference, or has none."""
    node, seen = classes["ModelNew"], {"ModelNew"}
    while not any(isinstance(part, ast.FunctionDef) and part.name == "forward" for part in node.body):
        bases = [base.id for base in node.bases if isinstance(base, ast.Name)]
        base = next((name for name in bases if name in classes and name not in seen), None)
        if base == "Model" or "Model" in bases:
            text = "ModelNew takes its forward from Model: the reference's own computation is no candidate"
            return (_error(classes["ModelNew"].lineno, text),)
        if base is None:
            return (_error(classes["ModelNew"].lineno, "ModelNew defines no forward"),)
        seen.add(base)
        node = classes[base]
    return ()


def _literals(source: str) -> dict[str, int]:
    """Text of each string literal whose lines are those of the file -> its first line."""
    found: dict[str, int] = {}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            last = node.end_lineno or node.lineno
            if last - node.lineno == node.value.count("\n"):
                found.setdefault(node.value, node.lineno)
    return found


def _start(literals: Mapping[str, int], text: str) -> int | None:
    """First line of the literal that is `text` once its includes are blank."""
    return next((line for literal, line in literals.items() if _INCLUDE.sub("", literal) == text), None)


def _error(line: int | None, text: str) -> Diagnostic:
    return Diagnostic(severity="error", line=line, column=None, text=text, stage="read")


def _warning(text: str) -> Diagnostic:
    return Diagnostic(severity="warning", line=None, column=None, text=text, stage="read")
