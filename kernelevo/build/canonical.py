"""When two sources are one kernel. Takes PTX and sources, gives texts that are equal only for the same program.

    canonical_ptx(ptx)               the device's side: equal texts compute the same, instruction by instruction
    canonical_source(source, ptx)    both sides: equal texts are one candidate, whatever its names and comments

In canonical PTX every name that only the device code knows is replaced by its kind and a number in the order of
appearance: registers (by their type), labels, parameters, shared and local variables, device functions. Comments, white
space and what only places lines (.loc, .file, debug sections, register counts) go away. A kernel keeps the part of its
mangled name that says its types; names of global and constant variables, by which the host finds them, stay, and
so do external functions and every number. Each renaming is one to one, so no two different programs meet; two that are
equal but ordered otherwise are not recognised.

Canonical PTX says nothing of the host: how large a grid is launched, or with which arguments. Who asks whether two
candidates are one must compare both sides; the second function does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from kernelevo.build.python import is_python
from kernelevo.build.split import SplitError, split
from kernelevo.build.symbols import own_name
from kernelevo.records import digest


def canonical_ptx(text: str) -> str:
    """A PTX module without the names, comments and places that a compiler or an author chose."""
    plain = _DEBUG.sub("", _PLACES.sub("", _without_comments(text)))
    return _lines(_Module(_TOKEN.findall(plain)).renamed())


def canonical_source(source: str, ptx: str) -> str | None:
    """Both sides of a candidate: its canonical PTX and its host code, with the kernels' names replaced alike.

    None where the host code cannot be told from the device code with certainty, or asks for its own line numbers. A
    kernel's name that occurs in the host code other than in its launches stays as it is: it might mean something else
    there, such as a function of a library.
    """
    try:
        host = _without_kernels(code_tokens(split(source).host.data.decode()))
    except SplitError:
        return None
    if "__LINE__" in host:
        return None
    order = dict.fromkeys(own_name(name) for name in _entries(_TOKEN.findall(_without_comments(ptx))))
    numbers = {name: f"<kernel {number}>" for number, name in enumerate(order)}
    kept = {name for name in numbers if _means_more(name, host)}
    written = [numbers[token] if token in numbers and token not in kept else token for token in host]
    names = [f"{numbers[name]} is {name}" for name in sorted(kept)]
    return "\n".join([canonical_ptx(ptx), *names, *written])


def kernel_key(source: str, ptx: str) -> str | None:
    """A short hash of `canonical_source`, tagged "k"; None where that is None."""
    text = None if is_python(source) else canonical_source(source, ptx)
    return None if text is None else digest(text, tag="k")


# --- the host's side ------------------------------------------------------------------------------------------------

_WORD = re.compile(r"[A-Za-z_]\w*")
_CODE = re.compile(
    r"""
      ^[ \t]*\#(?:\\\r?\n|[^\n])*                                          # a directive, with its continued lines
    | (?:u8|[uUL])?R"(?P<delimiter>[^()\\\s]{0,16})\(.*?\)(?P=delimiter)"
    | (?:u8|[uUL])?"(?:\\.|[^"\\\n])*"
    | (?:u8|[uUL])?'(?:\\.|[^'\\\n])+'
    | \.?\d(?:[eEpP][+-]|'[0-9a-fA-F]|[\w.])*
    | [A-Za-z_]\w*
    | [()\[\]{};,]
    | [^\w\s"'()\[\]{};,]+                                                # operators, as they are written together
    | \S
    """,
    re.VERBOSE | re.DOTALL | re.MULTILINE,
)
_COMMENT = re.compile(
    r"""
      (?P<comment> //(?:\\\r?\n|[^\n])* | /\*.*?(?:\*/|\Z) )
    | (?:u8|[uUL])?R"(?P<delimiter>[^()\\\s]{0,16})\(.*?\)(?P=delimiter)"
    | (?:u8|[uUL])?"(?:\\.|[^"\\\n])*"
    | (?:u8|[uUL])?'(?:\\.|[^'\\\n])+'
    | \d(?:'[0-9a-fA-F]|[\w.])*                                            # its separators are no quotes
    """,
    re.VERBOSE | re.DOTALL,
)


def code_tokens(text: str) -> list[str]:
    """Tokens of C++ without comments; a directive is one token, with single spaces where it holds no text.

    Joined by line ends they are the same program again: by spaces a directive would take in what follows it.
    """
    plain = _COMMENT.sub(lambda match: match.group() if match.group("comment") is None else " ", text)
    return [
        _directive(token.replace("\\\n", " ")) if token.lstrip().startswith("#") else token
        for token in (match.group() for match in _CODE.finditer(plain))
    ]


def _directive(line: str) -> str:
    return line.strip() if '"' in line or "'" in line else " ".join(line.split())


def _without_kernels(host: Sequence[str]) -> list[str]:
    """Leaves out what the split build made of kernels: their types are in the PTX. Default arguments are not."""
    kept: list[str] = []
    index = 0
    while index < len(host):
        end = index + 1
        if host[index] == "__global__":
            depth = 0
            while end < len(host) and not (depth == 0 and host[end] in (";", "}")):
                depth += {"{": 1, "(": 1, "}": -1, ")": -1}.get(host[end], 0)
                if depth == 0 and host[end] == "}":
                    break
                end += 1
            end += 1
        if host[index] != "__global__" or any("=" in token for token in host[index:end]):
            kept += host[index:end]
        index = end
    return kept


def _means_more(name: str, host: Sequence[str]) -> bool:
    """True when the name stands in the host code other than as the kernel of a launch."""
    for index, token in enumerate(host):
        if token.startswith("#") and name in _WORD.findall(token):
            return True
        if token == name and not _is_launch(host, index):
            return True
    return False


def _is_launch(host: Sequence[str], index: int) -> bool:
    """Whether the split build wrote `(::kernelevo::configure(...), ` in front."""
    if index < 2 or host[index - 1] != "," or host[index - 2] != ")":
        return False
    depth = 0
    for position in range(index - 2, 0, -1):
        depth += {")": 1, "(": -1}.get(host[position], 0)
        if depth == 0:
            return tuple(host[max(0, position - 3) : position]) == ("kernelevo", "::", "configure")
    return False


# --- the device's side ----------------------------------------------------------------------------------------------

_PTX_COMMENT = re.compile(r'"(?:\\.|[^"\\\n])*"|//[^\n]*|/\*.*?(?:\*/|\Z)', re.DOTALL)
_PLACES = re.compile(r"^[ \t]*\.(?:loc|file)\b[^\n]*$", re.MULTILINE)
_DEBUG = re.compile(r"^[ \t]*\.section\s+\.debug\w*\s*\{[^{}]*\}", re.MULTILINE)
_TOKEN = re.compile(r'"(?:\\.|[^"\\\n])*"|[%$A-Za-z_][\w$]*|\.[A-Za-z_]\w*|\d[\w.]*|\S')
_NAME = re.compile(r"[%$A-Za-z_]")
_STATEMENT_STARTS = frozenset({"", ";", "{", "}", ":"})
_VARIABLES = {".param": "parameter", ".shared": "shared", ".local": "local"}


def _without_comments(ptx: str) -> str:
    return _PTX_COMMENT.sub(lambda match: match.group() if match.group().startswith('"') else " ", ptx)


def _entries(tokens: Sequence[str]) -> Iterator[str]:
    """Mangled names of the kernels, in their order."""
    for index, token in enumerate(tokens[:-1]):
        if token == ".entry":
            yield tokens[index + 1]


@dataclass(slots=True)
class _Function:
    """What one function of the module has named so far."""

    types: dict[str, str] = field(default_factory=dict)  # register, or prefix of a range of them -> its type
    variables: dict[str, str] = field(default_factory=dict)  # parameter, shared or local variable -> its kind
    labels: frozenset[str] = frozenset()
    numbers: dict[tuple[str, str], int] = field(default_factory=dict)  # (kind, name) -> number within the kind
    counts: dict[str, int] = field(default_factory=dict)  # kind -> how many have a number

    def name(self, kind: str, name: str) -> str:
        if (kind, name) not in self.numbers:
            self.numbers[kind, name] = self.counts.get(kind, 0)
            self.counts[kind] = self.numbers[kind, name] + 1
        return f"<{kind} {self.numbers[kind, name]}>"


class _Module:
    """One walk over the tokens of a module."""

    def __init__(self, tokens: list[str]) -> None:
        self.tokens = tokens
        self.shared: dict[str, str] = {}  # shared variables of the module -> canonical name
        self.functions: dict[str, str] = {}  # device functions and kernels -> canonical name
        self._name_functions()

    def renamed(self) -> Iterator[str]:
        position = 0
        while position < len(self.tokens):
            if self.tokens[position] in (".entry", ".func"):
                end = self._end_of_function(position)
                yield from self._function(position, end)
            else:
                end = self._end_of_statement(position)
                yield from self._statement(position, end)
            position = end

    def _name_functions(self) -> None:
        kernels = dict.fromkeys(own_name(name) for name in _entries(self.tokens))
        order = {name: number for number, name in enumerate(kernels)}
        external: set[str] = set()
        for position, token in enumerate(self.tokens):
            if token == ".entry":
                mangled = self.tokens[position + 1]
                name = own_name(mangled)
                spelled = name if mangled == name else f"{len(name)}{name}"
                start = mangled.rfind(spelled)
                self.functions[mangled] = f"{mangled[:start]}<kernel {order[name]}>{mangled[start + len(spelled) :]}"
            elif token == ".func":
                name = self._function_name(position)
                if ".extern" in self.tokens[max(0, position - 2) : position]:
                    external.add(name)
                elif name not in self.functions:
                    self.functions[name] = f"<function {len(self.functions)}>"
        for name in external:
            self.functions.pop(name, None)

    def _function_name(self, position: int) -> str:
        """The name after `.func` and, in parentheses, what it returns."""
        position += 1
        if self.tokens[position] == "(":
            position = self.tokens.index(")", position) + 1
        return self.tokens[position]

    def _end_of_statement(self, position: int) -> int:
        """After a module-level statement: its semicolon, or where the next function or directive begins."""
        start = position
        while position < len(self.tokens):
            token = self.tokens[position]
            if position > start and token in (".entry", ".func"):
                return position
            position += 1
            if token == ";":
                return position
        return position

    def _end_of_function(self, position: int) -> int:
        depth = 0
        while position < len(self.tokens):
            token = self.tokens[position]
            position += 1
            depth += {"{": 1, "}": -1}.get(token, 0)
            if depth == 0 and token in ("}", ";"):
                break
        return position

    def _statement(self, start: int, end: int) -> Iterator[str]:
        tokens = self.tokens[start:end]
        if ".shared" in tokens:
            for name in (token for token in tokens[tokens.index(".shared") :] if _NAME.match(token)):
                self.shared.setdefault(name, f"<shared of the module {len(self.shared)}>")
        for token in tokens:
            yield self.shared.get(token) or self.functions.get(token) or token

    def _function(self, start: int, end: int) -> Iterator[str]:
        function = _Function(
            labels=frozenset(
                self.tokens[index]
                for index in range(start, end - 1)
                if self.tokens[index + 1] == ":" and _NAME.match(self.tokens[index])
            )
        )
        depth, before = 0, ""
        index = start
        while index < end:
            token = self.tokens[index]
            depth += {"{": 1, "}": -1}.get(token, 0)
            starts = before in _STATEMENT_STARTS or (depth == 0 and before in ("(", ","))
            if token == ".reg" and starts:
                stop = self.tokens.index(";", index) + 1
                ranges = self._registers(function, index, stop)
                if depth == 1 and ranges:  # a count of registers; what an author declares in a scope of its own stays
                    index, before = stop, ";"
                    continue
            elif token in _VARIABLES and starts:
                self._variable(function, index, _VARIABLES[token])
            yield self._renamed(function, token)
            before = token
            index += 1

    def _registers(self, function: _Function, start: int, stop: int) -> bool:
        """Notes the registers that one declaration has; True when all of them are numbered ranges."""
        kind = " ".join(token[1:] for token in self.tokens[start + 1 : stop] if token.startswith("."))
        ranges = True
        for index in range(start + 1, stop):
            name = self.tokens[index]
            if not _NAME.match(name):
                continue
            if self.tokens[index + 1] == "<":
                function.types[name + "<"] = kind
            else:
                function.types[name] = kind
                ranges = False
        return ranges

    def _variable(self, function: _Function, index: int, kind: str) -> None:
        """Notes the variable or parameter that a declaration at `index` has."""
        for token in self.tokens[index + 1 :]:
            if token in (";", ",", ")", "["):
                return
            if _NAME.match(token):
                function.variables[token] = kind
                return

    def _renamed(self, function: _Function, token: str) -> str:
        if not _NAME.match(token):
            return token
        if token in function.types:
            return function.name(function.types[token], token)
        prefix = token.rstrip("0123456789")
        if prefix != token and prefix + "<" in function.types:
            return function.name(function.types[prefix + "<"], token)
        if token in function.variables:
            return function.name(function.variables[token], token)
        if token in function.labels:
            return function.name("label", token)
        return self.shared.get(token) or self.functions.get(token) or token


def _lines(tokens: Iterator[str]) -> str:
    """One statement a line, so that two canonical texts can be read side by side."""
    lines: list[str] = []
    line: list[str] = []
    for token in tokens:
        line.append(token)
        if token in (";", "{", "}", ":"):
            lines.append(" ".join(line))
            line = []
    return "\n".join([*lines, *([" ".join(line)] if line else [])]) + "\n"
