"""Splits a candidate into what the device pass and the host pass compile.

Takes a CUDA C++ source, gives a `Split`: two texts, each of which knows where its every byte came from. Both texts
keep the candidate's line numbers.

- The device text is the source with internal linkage taken away from what the host must find by name: `static` is
  dropped from kernels and device variables, and `namespace {` becomes an inline namespace of the name that the host
  compilers mangle unnamed namespaces with. So entry names in the PTX do not depend on file names.
- The host text is for an ordinary C++ compiler. Launches become calls (host/kernelevo/launch.h says how), kernel
  bodies become launch stubs, and functions for the device only go away.

Edits are made on the tree-sitter syntax tree, never by pattern. CUDA's qualifiers are found by a scan over the
tokens first, through the object-like macros that hide them, and blanked for the parse: what remains is C++ with
`<<<>>>`. What cannot be split with certainty (kernels defined by macros, launches that the tree does not hold,
`__managed__`, extended lambdas) raises SplitError; the standard build takes it.
"""

from __future__ import annotations

import functools
import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import tree_sitter_cuda
from tree_sitter import Language, Node, Parser

QUALIFIERS = frozenset({b"__global__", b"__device__", b"__host__", b"__constant__", b"__shared__", b"__managed__"})
# Words that mean nothing to the grammar once their qualifier is gone; blanked with it, kept in the texts.
DECORATIONS = frozenset({b"__forceinline__", b"__noinline__", b"__restrict__", b"__restrict", b"__grid_constant__"})
KNOWN_QUALIFIER_MACROS = {
    b"C10_HOST_DEVICE": frozenset({b"__host__", b"__device__"}),
    b"C10_DEVICE": frozenset({b"__device__"}),
    b"C10_HOST": frozenset({b"__host__"}),
    b"GPU_LAMBDA": frozenset({b"__host__", b"__device__", b"lambda"}),
}
# Headers that only nvcc can read and that only device code needs.
_DEVICE_INCLUDE = re.compile(
    rb'[<"](cub/|ATen/cuda/cub|mma\.h|curand_kernel\.h|cuda_pipeline\.h|cuda/(pipeline|barrier|ptx))'
)
EXPORTED = b' __attribute__((noinline, used, visibility("default"))) '
UNNAMED_NAMESPACE = b"inline namespace _GLOBAL__N_1 "  # gcc and clang mangle `namespace {` as 12_GLOBAL__N_1


class SplitError(Exception):
    """The source cannot be split with certainty. `line` is where, from 1."""

    def __init__(self, reason: str, line: int) -> None:
        super().__init__(reason)
        self.line = line


@dataclass(frozen=True, slots=True)
class Piece:
    """A run of bytes of a text, and where it comes from."""

    data: bytes
    origin: int  # offset in the source of its first byte
    copied: bool  # whether byte i comes from origin + i; otherwise the whole piece belongs to `origin`


class Text:
    """A rewritten source that can place its own positions in the original."""

    def __init__(self, source: bytes, pieces: Iterable[Piece]) -> None:
        self._pieces = [piece for piece in pieces if piece.data]
        self.data = b"".join(piece.data for piece in self._pieces)
        self._starts = _running_sum(len(piece.data) for piece in self._pieces)
        self._lines = _line_starts(self.data)
        self._source_lines = _line_starts(source)

    def line(self, number: int) -> str:
        """One line of the text, from 1; empty when there is no such line."""
        lines = self.data.splitlines()
        return lines[number - 1].decode(errors="replace") if 1 <= number <= len(lines) else ""

    def place(self, line: int, column: int | None) -> tuple[int, int | None]:
        """(line, column) of the source for a position of this text, from 1. Lines are equal by construction."""
        if column is None or not 1 <= line <= len(self._lines):
            return line, column
        offset = min(self._lines[line - 1] + column - 1, len(self.data) - 1)
        index = bisect_right(self._starts, offset) - 1
        if index < 0:
            return line, column
        piece = self._pieces[index]
        origin = piece.origin + (offset - self._starts[index] if piece.copied else 0)
        row = bisect_right(self._source_lines, origin) - 1
        return row + 1, origin - self._source_lines[row] + 1


def unchanged(source: str) -> Text:
    """A source as a text in which nothing was rewritten."""
    data = source.encode()
    return Text(data, [Piece(data, 0, copied=True)])


@dataclass(frozen=True, slots=True)
class Split:
    """What the two passes compile."""

    device: Text
    host: Text
    kernels: frozenset[str]  # unqualified names of the kernels defined in the source
    device_spans: tuple[tuple[int, int], ...]  # first and last line of each function that only the device pass compiles

    def device_lines(self) -> frozenset[int]:
        """Lines whose code only the device pass compiles."""
        return frozenset(line for first, last in self.device_spans for line in range(first, last + 1))


def split(source: str) -> Split:
    """Splits one candidate. Raises SplitError when that cannot be done with certainty."""
    data = source.encode()
    reading = _Reading(data)
    return Split(
        device=Text(data, _apply(data, reading.device_edits)),
        host=Text(data, _apply(data, reading.host_edits)),
        kernels=frozenset(name.decode() for name in reading.kernels),
        device_spans=tuple(reading.device_spans),
    )


def parse(data: bytes) -> Node:
    """Root of the syntax tree of a CUDA source."""
    return _parser().parse(data).root_node


@functools.cache
def _parser() -> Parser:
    return Parser(Language(tree_sitter_cuda.language()))


# --- tokens ---------------------------------------------------------------------------------------------------------

_TOKEN = re.compile(
    rb"""
      (?P<comment> //(?:\\\r?\n|[^\n])* | /\*.*?(?:\*/|\Z) )
    | (?P<raw>     (?:u8|[uUL])?R"(?P<delimiter>[^()\\\s]{0,16})\(.*?\)(?P=delimiter)" )
    | (?P<string>  (?:u8|[uUL])?"(?:\\.|[^"\\\n])*" )
    | (?P<char>    (?:u8|[uUL])?'(?:\\.|[^'\\\n])+' )
    | (?P<number>  \.?\d(?:[eEpP][+-]|'[0-9a-fA-F]|[\w.])* )
    | (?P<word>    [A-Za-z_]\w* )
    | (?P<launch>  <<< )
    """,
    re.VERBOSE | re.DOTALL,
)


_MACRO_HEAD = re.compile(rb"[ \t]*#[ \t]*define[ \t]+\w+(?:\([^)]*\))?")


@dataclass(frozen=True, slots=True)
class Token:
    """One word, or the start of a launch configuration."""

    start: int
    end: int
    text: bytes


def tokens(data: bytes) -> Iterator[Token]:
    """Words and `<<<` of a source, outside comments, strings and numbers."""
    for match in _TOKEN.finditer(data):
        if match.lastgroup in ("word", "launch"):
            yield Token(match.start(), match.end(), match.group())


def code_text(source: str) -> str:
    """A source whose comments are spaces; lines keep their numbers, strings stay."""
    data = source.encode(errors="replace")
    blanked = bytearray(data)
    for match in _TOKEN.finditer(data):
        if match.lastgroup == "comment":
            blanked[match.start() : match.end()] = re.sub(rb"[^\n]", b" ", match.group())
    return blanked.decode()


# --- reading --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Edit:
    """Replaces [start, end) by pieces."""

    start: int
    end: int
    pieces: tuple[Piece, ...]


@dataclass(slots=True)
class Function:
    """One function definition that carries CUDA qualifiers."""

    node: Node
    outer: Node  # with its template header
    qualifiers: frozenset[bytes]
    name: bytes  # b"" for operators and conversions, which are called without a name
    constexpr: bool
    virtual: bool


class _Reading:
    """Everything learned from one walk over the tree, as edits."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.kernels: set[bytes] = set()
        self.device_spans: list[tuple[int, int]] = []
        self.device_edits: list[Edit] = []
        self.host_edits: list[Edit] = []
        self._tokens = list(tokens(data))
        self._macros = _qualifier_macros(data, self._tokens)
        self._qualified: list[tuple[int, frozenset[bytes]]] = []  # offset -> qualifiers there, sorted
        self._parsed = self._blank_qualifiers()
        self._functions: list[Function] = []
        self._launches: set[int] = set()  # offsets of `<<<` that were rewritten
        self._used_qualifiers: set[int] = set()  # offsets of __global__ that belong to something understood
        self._walk(parse(self._parsed))
        self._take_macros()
        self._finish_functions()
        self._check_complete()

    def _blank_qualifiers(self) -> bytes:
        """The source with CUDA's qualifiers blanked, remembering where they were."""
        text = bytearray(self.data)
        definitions = _directive_spans(self.data)
        for index, token in enumerate(self._tokens):
            meaning = frozenset({token.text}) if token.text in QUALIFIERS else self._macros.get(token.text)
            launch_bounds = token.text in (b"__launch_bounds__", b"__cluster_dims__", b"__maxnreg__")
            if meaning is None and token.text not in DECORATIONS and not launch_bounds:
                continue
            end: int | None = token.end
            if launch_bounds:
                end = _closing_parenthesis(self.data, token.end)
                if end is None:
                    raise SplitError(f"{token.text.decode()} without its arguments", self._line(token.start))
            if meaning and _inside(definitions, token.start):
                if self._tokens[index - 1].text == b"define":
                    continue  # the name of the macro being defined
                if b"__global__" in meaning and not self._is_macro_value(token.start):
                    raise SplitError("a kernel is defined by a macro", self._line(token.start))
                continue
            if meaning:
                if b"__managed__" in meaning:
                    raise SplitError("__managed__ variables live on both sides", self._line(token.start))
                if b"lambda" in meaning:
                    raise SplitError("extended lambda", self._line(token.start))
                self._qualified.append((token.start, meaning))
            text[token.start : end] = blank(self.data[token.start : end])
        for start, stop in definitions:  # comments of the same extent, so that declarations do not reach over them
            text[start:stop] = b"/*" + blank(self.data[start + 2 : stop - 2]).replace(b"\\", b" ") + b"*/"
        return bytes(text)

    def _is_macro_value(self, offset: int) -> bool:
        """Whether an offset lies in the value of one of the qualifier macros."""
        line_start = self.data.rfind(b"\n", 0, offset) + 1
        match = re.match(rb"[ \t]*#[ \t]*define[ \t]+(\w+)[ \t]", self.data[line_start:offset])
        return match is not None and match.group(1) in self._macros

    def _qualifiers_between(self, start: int, end: int) -> frozenset[bytes]:
        low = bisect_right(self._qualified, start - 1, key=lambda item: item[0])
        found: set[bytes] = set()
        while low < len(self._qualified) and self._qualified[low][0] < end:
            found |= self._qualified[low][1]
            self._used_qualifiers.add(self._qualified[low][0])
            low += 1
        return frozenset(found)

    def _line(self, offset: int) -> int:
        return self.data.count(b"\n", 0, offset) + 1

    # The walk. Definitions are collected, since their fate depends on who names them; the rest is edited at once.

    def _walk(self, root: Node) -> None:
        stack = [root]
        while stack:
            node = stack.pop()
            kind = node.type
            if kind == "function_definition" and self._take_function(node):
                continue
            if kind in ("declaration", "field_declaration") and self._take_declaration(node):
                continue
            if kind == "namespace_definition" and node.child_by_field_name("name") is None:
                self._name_namespace(node)
            elif kind == "call_expression":
                self._take_launch(node, 0)
            elif kind == "preproc_include" and _DEVICE_INCLUDE.search(node.text or b""):
                self._blank_on_host(node.start_byte, node.end_byte)
            elif kind == "template_instantiation":
                self._qualifiers_between(node.start_byte, node.end_byte)
            elif kind == "lambda_expression":
                self._refuse_device_lambda(node)
            stack.extend(node.children)

    def _take_function(self, node: Node) -> bool:
        """Collects a definition with CUDA qualifiers; True when its inside must not be walked."""
        body = node.child_by_field_name("body")
        start = _declaration_start(node, self._parsed)
        if body is None:  # `= default`, `= delete`
            self._qualifiers_between(start, node.end_byte)
            return False
        # A lambda in a default argument may hold qualifiers too; only what stands outside parentheses counts.
        qualifiers = self._qualifiers_between(start, body.start_byte)
        if not qualifiers & {b"__global__", b"__device__"}:
            return False
        outer = node.parent if node.parent is not None and node.parent.type == "template_declaration" else node
        header = self._parsed[start : body.start_byte]
        self._functions.append(
            Function(
                node=node,
                outer=outer,
                qualifiers=qualifiers,
                name=_function_name(node),
                constexpr=re.search(rb"\b(constexpr|consteval)\b", header) is not None,
                virtual=re.search(rb"\b(virtual|override)\b", header) is not None,
            )
        )
        return True

    def _take_declaration(self, node: Node) -> bool:
        """Edits a declaration with CUDA qualifiers; True when its inside must not be walked."""
        start = _declaration_start(node, self._parsed)
        declarator = node.child_by_field_name("declarator")
        end = declarator.end_byte if declarator is not None else node.end_byte
        qualifiers = self._qualifiers_between(start, end)
        if not qualifiers:
            return False
        if _is_function(declarator):
            if declarator is not None and declarator.type == "init_declarator":
                # What a definition becomes when its body does not parse.
                raise SplitError("a function that the syntax tree does not hold", self._line(node.start_byte))
            if b"__global__" in qualifiers:
                self._export(node)
            elif b"__host__" not in qualifiers:
                outer = node.parent if node.parent is not None and node.parent.type == "template_declaration" else node
                self._blank_on_host(_declaration_start(outer, self._parsed), outer.end_byte)
            return True
        if qualifiers & {b"__constant__", b"__device__"}:
            self._export(node)
        return False

    def _name_namespace(self, node: Node) -> None:
        body = node.child_by_field_name("body")
        if body is None:
            return
        keyword = next((child for child in node.children if child.type == "namespace"), node)
        piece = Piece(UNNAMED_NAMESPACE, keyword.start_byte, copied=False)
        edit = Edit(keyword.start_byte, keyword.end_byte, (piece,))
        self.device_edits.append(edit)
        self.host_edits.append(edit)

    def _export(self, node: Node) -> None:
        """Takes `static` away from what the host finds by name."""
        for child in node.children:
            if child.type == "storage_class_specifier" and child.text == b"static":
                edit = self._blanked(child.start_byte, child.end_byte)
                self.device_edits.append(edit)
                self.host_edits.append(edit)

    def _take_launch(self, node: Node, shift: int) -> None:
        """Rewrites `k<<<configuration>>>(arguments)`. `shift` places the node when it was parsed out of a macro."""
        configuration = next((child for child in node.children if child.type == "kernel_call_syntax"), None)
        function = node.child_by_field_name("function")
        if configuration is None or function is None:
            return
        if configuration.has_error or function.has_error:
            raise SplitError("a launch that cannot be read", self._line(configuration.start_byte + shift))
        start, end = configuration.start_byte + shift, configuration.end_byte + shift
        opening, closing = configuration.children[0], configuration.children[-1]
        inner_start, inner_end = opening.end_byte + shift, closing.start_byte + shift
        first = function.start_byte + shift
        self.host_edits.append(
            Edit(
                first,
                first,
                (
                    Piece(b"(::kernelevo::configure(", first, copied=False),
                    Piece(_one_line(self.data[inner_start:inner_end]), inner_start, copied=True),
                    Piece(b"), ", first, copied=False),
                ),
            )
        )
        self.host_edits.append(Edit(start, end, (Piece(blank(self.data[start:end]), start, copied=True),)))
        closed = node.end_byte + shift
        self.host_edits.append(Edit(closed, closed, (Piece(b")", max(closed - 1, 0), copied=False),)))
        self._launches.add(start)

    def _take_macros(self) -> None:
        """Rewrites launches in the values of macros. Definitions are blanked for the parse of the whole source, where
        the grammar takes their values for plain text; here each value is parsed as the body of a function."""
        for start, end in _directive_spans(self.data):
            head = _MACRO_HEAD.match(self.data, start, end)
            if head is None or b"<<<" not in self.data[head.end() : end]:
                continue
            value = re.sub(rb"\\(?=\r?\n)", b" ", self.data[head.end() : end])
            prefix = b"void f() {"
            stack = [parse(prefix + value + b"\n;}")]
            while stack:
                node = stack.pop()
                if node.type == "call_expression":
                    self._take_launch(node, head.end() - len(prefix))
                stack.extend(node.children)

    def _refuse_device_lambda(self, node: Node) -> None:
        body = node.child_by_field_name("body")
        if body is not None and self._qualifiers_between(node.start_byte, body.start_byte):
            raise SplitError("extended lambda", self._line(node.start_byte))

    # What happens to each definition.

    def _finish_functions(self) -> None:
        kernels = [function for function in self._functions if b"__global__" in function.qualifiers]
        others = [function for function in self._functions if b"__global__" not in function.qualifiers]
        named = self._named_by_host()
        for function in self._functions:
            node = function.node if b"__global__" in function.qualifiers else function.outer
            if b"__host__" not in function.qualifiers:
                self.device_spans.append((node.start_point.row + 1, node.end_point.row + 1))
        for function in kernels:
            self._stub(function)
        for function in others:
            called = not function.name or function.name in named
            both = b"__host__" in function.qualifiers
            if called and (both or (function.constexpr and function.name)):
                # Stays whole; launches do not occur in it.
                continue
            if function.virtual or (called and function.name):
                self._trap(function)
            else:
                self._blank_on_host(_declaration_start(function.outer, self._parsed), function.outer.end_byte)

    def _named_by_host(self) -> set[bytes]:
        """Words that host code uses, through the device functions that it uses in turn."""
        spans = sorted((_declaration_start(f.outer, self._parsed), f.outer.end_byte) for f in self._functions)
        named = {token.text for token in self._tokens if not _inside(spans, token.start)}
        waiting = [f for f in self._functions if b"__global__" not in f.qualifiers]
        # Signatures of kernels remain, and so do operators for both sides.
        for function in self._functions:
            body = function.node.child_by_field_name("body")
            start = function.outer.start_byte
            if b"__global__" in function.qualifiers and body is not None:
                named |= _words(self._parsed[start : body.start_byte])
            elif not function.name and b"__host__" in function.qualifiers:
                named |= _words(self._parsed[start : function.outer.end_byte])
        changed = True
        while changed:
            changed = False
            for function in list(waiting):
                kept = b"__host__" in function.qualifiers or function.constexpr
                if function.name in named and kept:
                    waiting.remove(function)
                    named |= _words(self._parsed[function.outer.start_byte : function.outer.end_byte])
                    changed = True
        return named

    def _stub(self, function: Function) -> None:
        """Replaces a kernel's body by its launch stub and makes it a symbol that the linker can name."""
        node, body = function.node, function.node.child_by_field_name("body")
        assert body is not None
        if not function.name:
            raise SplitError("a kernel without a name", self._line(node.start_byte))
        self.kernels.add(function.name)
        self._export(node)
        start = _declaration_start(node, self._parsed)
        self.host_edits.append(Edit(start, start, (Piece(EXPORTED, start, copied=False),)))
        arguments = []
        for parameter in _parameters(node):
            name = _declared_name(parameter)
            if name is None and parameter.text != b"void":
                # Unnamed: an int4 nobody reads still takes its place in the argument list.
                place = _unnamed_place(parameter)
                name = b"kernelevo_unnamed_%d" % parameter.start_byte
                self.host_edits.append(Edit(place, place, (Piece(b" " + name, place, copied=False),)))
            if name is not None:
                pack = parameter.type == "variadic_parameter_declaration"
                arguments.append(name + b"..." if pack else name)
        call = b"{ ::kernelevo::enqueue(" + b", ".join(arguments) + b"); "
        rest = blank(self.data[body.start_byte + 1 : body.end_byte - 1])
        self.host_edits.append(
            Edit(
                body.start_byte,
                body.end_byte,
                (
                    Piece(call, body.start_byte, copied=False),
                    Piece(rest, body.start_byte + 1, copied=True),
                    Piece(b"}", body.end_byte - 1, copied=True),
                ),
            )
        )

    def _trap(self, function: Function) -> None:
        """Keeps a device function's declaration: host code names it, and may take no more than that."""
        body = function.node.child_by_field_name("body")
        assert body is not None
        rest = blank(self.data[body.start_byte + 1 : body.end_byte - 1])
        self.host_edits.append(
            Edit(
                body.start_byte,
                body.end_byte,
                (
                    Piece(b"{ __builtin_trap(); ", body.start_byte, copied=False),
                    Piece(rest, body.start_byte + 1, copied=True),
                    Piece(b"}", body.end_byte - 1, copied=True),
                ),
            )
        )

    def _blank_on_host(self, start: int, end: int) -> None:
        self.host_edits.append(self._blanked(start, end))

    def _blanked(self, start: int, end: int) -> Edit:
        return Edit(start, end, (Piece(blank(self.data[start:end]), start, copied=True),))

    def _check_complete(self) -> None:
        """Every launch and every __global__ must have been understood."""
        removed = [
            (_declaration_start(function.outer, self._parsed), function.outer.end_byte) for function in self._functions
        ]
        for token in self._tokens:
            inside = _inside(removed, token.start)
            if token.text == b"<<<" and token.start not in self._launches:
                reason = "a launch from device code" if inside else "a launch that the syntax tree does not hold"
                raise SplitError(reason, self._line(token.start))
        for offset, meaning in self._qualified:
            if b"__global__" in meaning and offset not in self._used_qualifiers:
                raise SplitError("a kernel that the syntax tree does not hold", self._line(offset))


# --- small readers of the tree --------------------------------------------------------------------------------------


def blank(data: bytes) -> bytes:
    """The same bytes as spaces, keeping line ends and the backslashes that continue macros."""
    return re.sub(rb"[^\n\\]|\\(?!\r?\n)", b" ", data)


def _one_line(data: bytes) -> bytes:
    """A launch configuration on one line, byte for byte: comments and line ends become spaces."""
    text = bytearray(data)
    for match in _TOKEN.finditer(data):
        if match.lastgroup == "comment":
            text[match.start() : match.end()] = b" " * (match.end() - match.start())
    return re.sub(rb"\\(?=\r?\n)|[\r\n]", b" ", bytes(text))


def _declaration_start(node: Node, parsed: bytes) -> int:
    """Where a declaration starts, with the qualifiers that were blanked in front of it.

    They lie between the previous token of the tree and the node: after the sibling before it, or after the parent's
    opening bracket or template header. Only blanks and comments stand there.
    """
    previous = node.prev_sibling
    while previous is not None and previous.type == "comment":
        previous = previous.prev_sibling
    if previous is not None:
        start = previous.end_byte
    elif node.parent is None or node.parent.parent is None:
        start = 0  # the root starts at its first token, after what was blanked
    elif node.start_byte == node.parent.start_byte:
        return _declaration_start(node.parent, parsed)
    else:
        start = node.parent.start_byte
    # Step over comments and line ends that belong to what comes before.
    gap = parsed[start : node.start_byte]
    last = 0
    for match in _TOKEN.finditer(gap):
        last = match.end()
    return start + last


def _closing_parenthesis(data: bytes, start: int) -> int | None:
    match = re.compile(rb"\s*\(").match(data, start)
    if match is None:
        return None
    depth, offset = 1, match.end()
    while offset < len(data) and depth:
        depth += {40: 1, 41: -1}.get(data[offset], 0)
        offset += 1
    return offset if depth == 0 else None


def _qualifier_macros(data: bytes, found: list[Token]) -> dict[bytes, frozenset[bytes]]:
    """Object-like macros of the source whose value holds CUDA qualifiers and nothing else but declaration words."""
    macros = dict(KNOWN_QUALIFIER_MACROS)
    for match in re.finditer(rb"^[ \t]*#[ \t]*define[ \t]+(\w+)[ \t]+((?:\\\r?\n|[^\n])*)", data, re.MULTILINE):
        words = _words(match.group(2))
        if re.search(rb"[({;<]", match.group(2)) and not re.search(rb"__attribute__|__launch_bounds__", match.group(2)):
            continue
        meaning = frozenset(words & QUALIFIERS).union(*(macros[word] for word in words if word in macros))
        if meaning:
            macros[match.group(1)] = frozenset(meaning)
    used = {token.text for token in found}
    return {name: meaning for name, meaning in macros.items() if name in used}


def _directive_spans(data: bytes) -> list[tuple[int, int]]:
    """Spans of #define lines with their continuations."""
    pattern = re.compile(rb"^[ \t]*#[ \t]*define\b(?:\\\r?\n|[^\n])*", re.MULTILINE)
    return [match.span() for match in pattern.finditer(data)]


def _inside(spans: list[tuple[int, int]], offset: int) -> bool:
    return any(start <= offset < end for start, end in spans)


def _words(data: bytes) -> set[bytes]:
    return {token.text for token in tokens(data)}


def _function_declarator(node: Node | None) -> Node | None:
    """The declarator with the parameter list, below pointers and references of the return type."""
    while node is not None and node.type != "function_declarator":
        node = node.child_by_field_name("declarator") or next(
            (child for child in node.children if child.type.endswith("_declarator")), None
        )
    return node


def _is_function(declarator: Node | None) -> bool:
    found = _function_declarator(declarator)
    inner = found.child_by_field_name("declarator") if found is not None else None
    return inner is not None and inner.type != "parenthesized_declarator"  # not a pointer to a function


def _function_name(node: Node) -> bytes:
    """Unqualified name of a function definition; b"" for operators, conversions, constructors and destructors."""
    declarator = _function_declarator(node.child_by_field_name("declarator"))
    name = declarator.child_by_field_name("declarator") if declarator is not None else None
    if name is None or node.child_by_field_name("type") is None:
        return b""
    while name is not None and name.type in ("qualified_identifier", "template_function"):
        name = name.child_by_field_name("name")
    if name is None or name.type not in ("identifier", "field_identifier"):
        return b""
    return name.text or b""


def _parameters(node: Node) -> list[Node]:
    declarator = _function_declarator(node.child_by_field_name("declarator"))
    listed = declarator.child_by_field_name("parameters") if declarator is not None else None
    if listed is None:
        return []
    return [child for child in listed.named_children if child.type.endswith("parameter_declaration")]


def _declared_name(parameter: Node) -> bytes | None:
    declarator = parameter.child_by_field_name("declarator")
    while declarator is not None and declarator.type != "identifier":
        if declarator.type.startswith("abstract"):
            return None
        declarator = declarator.child_by_field_name("declarator") or next(
            (child for child in declarator.named_children if child.type == "identifier" or "declarator" in child.type),
            None,
        )
    return declarator.text if declarator is not None else None


def _unnamed_place(parameter: Node) -> int:
    """Where the name of an unnamed parameter would stand."""
    default = parameter.child_by_field_name("default_value")
    if default is not None:
        equals = next((child for child in parameter.children if child.type == "="), default)
        return equals.start_byte
    return parameter.end_byte


# --- applying -------------------------------------------------------------------------------------------------------


def _apply(data: bytes, edits: list[Edit]) -> Iterator[Piece]:
    """The edited source as pieces. Edits do not overlap; of two at one place, the outer launch comes first."""
    position = 0
    for edit in sorted(edits, key=lambda edit: (edit.start, edit.end)):
        if edit.start < position:
            line = data.count(b"\n", 0, edit.start) + 1
            raise SplitError("two rewrites of one place", line)
        yield Piece(data[position : edit.start], position, copied=True)
        yield from edit.pieces
        position = edit.end
    yield Piece(data[position:], position, copied=True)


def _line_starts(data: bytes) -> list[int]:
    return [0, *(match.end() for match in re.finditer(rb"\n", data))]


def _running_sum(sizes: Iterable[int]) -> list[int]:
    total, sums = 0, []
    for size in sizes:
        sums.append(total)
        total += size
    return sums
