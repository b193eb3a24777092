"""PTX text -> PtxFile: functions, variables and instructions, each with its place in the text.

Takes PTX as nvcc writes it, inline assembly included (`{ .reg ... }` scopes become renamed registers). Gives functions
whose bodies are parsed on first use, because one file often holds dozens of template instantiations. Does not know what
any instruction means: an unknown opcode parses. Not covered: textures, surfaces, alternate address sizes.
"""

from __future__ import annotations

import re
import struct
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

from .instruction import (
    TYPES,
    Address,
    Immediate,
    Instruction,
    Operand,
    Pair,
    Position,
    Register,
    SpecialRegister,
    Symbol,
    Vector,
)


class PtxError(Exception):
    """The text is not PTX that this parser reads; the message starts with file:line:column."""

    def __init__(self, position: Position, message: str) -> None:
        super().__init__(f"{position}: {message}")
        self.position = position


def parse_ptx(text: str, name: str) -> PtxFile:
    """Parses a whole PTX file. `name` is used in positions. Raises PtxError."""
    return _FileParser(text, name).parse()


@dataclass(frozen=True, slots=True)
class Variable:
    """A declared variable or parameter: `.shared .align 4 .b8 tile[4096];`."""

    name: str
    space: str  # "param", "shared", "global", "const" or "local"
    type: str  # element type, without the dot
    count: int  # elements; 0 for `extern` arrays of unknown size
    alignment: int  # bytes
    external: bool
    initialiser: tuple[int | bytes | Symbol, ...]  # elements in order: integer, exact float bytes, or an address
    position: Position

    @property
    def size(self) -> int:
        """Bytes."""
        return self.count * TYPE_BYTES[self.type]


TYPE_BYTES = {
    "pred": 1, "b8": 1, "u8": 1, "s8": 1, "b16": 2, "u16": 2, "s16": 2, "f16": 2, "bf16": 2, "b32": 4, "u32": 4,
    "s32": 4, "f32": 4, "f16x2": 4, "bf16x2": 4, "tf32": 4, "e4m3x2": 2, "e5m2x2": 2, "b64": 8, "u64": 8, "s64": 8,
    "f64": 8, "b128": 16,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Body:
    """A function's declarations and instructions. Labels name the index of the instruction that follows them."""

    registers: dict[str, str]  # every register used or declared by name -> type
    variables: tuple[Variable, ...]  # .shared, .local and .param declared inside
    instructions: tuple[Instruction, ...]
    labels: dict[str, int]
    branch_targets: dict[str, tuple[str, ...]]  # of .branchtargets


@dataclass(eq=False)
class Function:
    """One .entry or .func."""

    name: str
    is_entry: bool
    parameters: tuple[Variable, ...]
    results: tuple[Variable, ...]
    directives: dict[str, tuple[int, ...]]  # for example "maxntid": (256, 1, 1)
    position: Position
    parser: _FileParser = field(repr=False)
    body_span: tuple[int, int] | None  # None for a prototype

    @cached_property
    def body(self) -> Body:
        """The parsed body. Raises PtxError."""
        if self.body_span is None:
            raise PtxError(self.position, f"{self.name} is declared but not defined in this file")
        return _BodyParser(self.parser, self).parse()

    @property
    def text(self) -> str:
        """The PTX of the body, comments blanked."""
        return self.parser.text[slice(*self.body_span)] if self.body_span else ""


@dataclass(frozen=True, slots=True)
class PtxFile:
    """All of one PTX file."""

    name: str
    target: str  # for example "sm_90"
    version: str
    functions: dict[str, Function]  # entries and device functions; a definition wins over its prototypes
    variables: dict[str, Variable]  # module scope
    source_files: dict[int, str]  # of .file


_COMMENT = re.compile(r'"[^"\n]*"|//[^\n]*|/\*.*?\*/', re.S)
_TOP = re.compile(r"((?:\.(?:visible|extern|weak|common)\s+)*)\.([a-z_]+)")
_HEADER = re.compile(
    r"\.(?:entry|func)\b\s*(?:\.noreturn\b\s*)?(?:\(([^)]*)\)\s*)?([\w$%]+)\s*(?:\(([^)]*)\))?([^{;]*)", re.S
)
_DIRECTIVE = re.compile(r"\.(\w+)\s*((?:\d+\s*,?\s*)*)")
_VARIABLE = re.compile(
    r"(?:\.(?:visible|extern|weak|common)\s+)*\.(param|shared|global|const|local)\b\s*"
    r"((?:\.(?:align\s+\d+|ptr|const|global|local|shared|unified\s*(?:\(\d+\))?|managed|attribute\s*\([^)]*\)|v2|v4|v8)\s*)*)"
    r"\.(\w+)\s+((?:\.(?:align\s+\d+|ptr|const|global|local|shared)\s*)*)(.*)",
    re.S,
)
_DECLARATOR = re.compile(r"\s*([\w$%]+)\s*((?:\[\s*\w*\s*\]\s*)*)(<\s*\d+\s*>)?\s*(?:=\s*(\{.*\}|[^,{]+))?\s*,?", re.S)
_ALIGN = re.compile(r"\.align\s+(\d+)")
_INITIALISER = re.compile(
    r"0[fF][0-9a-fA-F]{8}|0[dD][0-9a-fA-F]{16}|generic\s*\(\s*[^)]*\)|-?0[xX][0-9a-fA-F]+U?|[^,{}\s]+"
)
_BRACE = re.compile(r"[{}]")


class _FileParser:
    def __init__(self, text: str, name: str) -> None:
        self.name = name
        self.text = _COMMENT.sub(_blank, text) if "//" in text or "/*" in text else text
        self.lines = [0, *(match.end() for match in re.finditer("\n", self.text))]
        self.scope_count = 0

    def position(self, offset: int) -> Position:
        line = bisect_right(self.lines, offset)
        return Position(self.name, line, offset - self.lines[line - 1] + 1)

    def parse(self) -> PtxFile:
        text, at = self.text, 0
        functions: dict[str, Function] = {}
        variables: dict[str, Variable] = {}
        files: dict[int, str] = {}
        target = version = ""
        while True:
            at = _skip_space(text, at)
            if at >= len(text):
                break
            if text[at] == ";":
                at += 1
                continue
            match = _TOP.match(text, at)
            if not match:
                raise PtxError(
                    self.position(at), f"expected a directive, found {text[at : at + 20].split(chr(10))[0]!r}"
                )
            word = match[2]
            if word in ("entry", "func"):
                at = self._function(at, match.start(2) - 1, word == "entry", functions)
            elif word == "section":
                at = self._closing_brace(text.index("{", at))
            elif word in ("version", "target", "address_size", "file", "loc"):
                end = text.find("\n", at)
                end = len(text) if end < 0 else end
                rest = text[match.end() : end].strip()
                if word == "target":
                    target = rest.split(",")[0].strip()
                elif word == "version":
                    version = rest
                elif word == "file":
                    number, path = rest.split(None, 1)
                    files[int(number)] = path.split('"')[1]
                at = end
            elif word in ("shared", "global", "const", "local"):
                end = text.find(";", at)
                for variable in self.variables(text[at:end], at):
                    variables[variable.name] = variable
                at = end + 1
            elif word in ("alias", "pragma", "metadata"):
                at = text.index(";", at) + 1
            else:
                raise PtxError(self.position(at), f".{word} is not supported at module scope")
        return PtxFile(self.name, target, version, functions, variables, files)

    def _function(self, start: int, at: int, is_entry: bool, functions: dict[str, Function]) -> int:
        header = _HEADER.match(self.text, at)
        if not header:
            raise PtxError(self.position(start), "cannot read this function header")
        end, span = header.end(), None
        if end < len(self.text) and self.text[end] == "{":
            close = self._closing_brace(end)
            span, end = (end + 1, close - 1), close
        directives = {m[1]: tuple(int(n) for n in re.findall(r"\d+", m[2])) for m in _DIRECTIVE.finditer(header[4])}
        results, parameters = (
            tuple(v for part in _split_commas(header[group] or "") for v in self._parameter(part, header.start(group)))
            for group in (1, 3)
        )
        function = Function(header[2], is_entry, parameters, results, directives, self.position(start), self, span)
        if span or header[2] not in functions:
            functions[header[2]] = function
        return end

    def _parameter(self, text: str, offset: int) -> Iterator[Variable]:
        if text.lstrip().startswith(".reg"):
            raise PtxError(self.position(offset), "register parameters are not supported; use .param")
        yield from self.variables(text, offset)

    def variables(self, text: str, offset: int) -> Iterator[Variable]:
        """The variables of one declaration (without its semicolon) that starts at `offset`."""
        position = self.position(offset)
        match = _VARIABLE.match(text.strip())
        if not match:
            raise PtxError(position, f"cannot read this declaration: {text.strip()[:60]!r}")
        space, before, kind, _after, rest = match.groups()
        if kind not in TYPE_BYTES:
            raise PtxError(position, f"variables of type .{kind} are not supported")
        vector = re.search(r"\.v([248])", before)
        width = int(vector[1]) if vector else 1
        alignment = int(found[1]) if (found := _ALIGN.search(before)) else TYPE_BYTES[kind] * width
        external = ".extern" in text.split("." + space, maxsplit=1)[0]
        for name, bounds, copies, value in _DECLARATOR.findall(rest):
            count = width
            for bound in re.findall(r"\[\s*(\w*)\s*\]", bounds):
                count *= int(bound, 0) if bound else 0
            values = tuple(_initial_value(item) for item in _INITIALISER.findall(value)) if value else ()
            if count == 0 and values:
                count = len(values)
            names = [f"{name}{i}" for i in range(int(copies.strip("<> ")))] if copies else [name]
            for one in names:
                yield Variable(one, space, kind, count, alignment, external, values, position)

    def _closing_brace(self, at: int) -> int:
        depth = 0
        for match in _BRACE.finditer(self.text, at):
            depth += 1 if match[0] == "{" else -1
            if depth == 0:
                return match.end()
        raise PtxError(self.position(at), "this brace is never closed")


def _blank(match: re.Match[str]) -> str:
    found = match[0]
    if found[0] == '"':
        return found
    return " " * len(found) if "\n" not in found else re.sub(r"[^\n]", " ", found)


def _skip_space(text: str, at: int) -> int:
    while at < len(text) and text[at] in " \t\r\n":
        at += 1
    return at


def _split_commas(text: str) -> list[str]:
    return [part for part in text.split(",") if part.strip()]


def _initial_value(text: str) -> int | bytes | Symbol:
    if text[:2] in ("0f", "0F") and len(text) == 10:
        return bytes.fromhex(text[2:])[::-1]
    if text[:2] in ("0d", "0D") and len(text) == 18:
        return bytes.fromhex(text[2:])[::-1]
    if text.startswith("generic"):
        text = text[text.index("(") + 1 : text.rindex(")")].strip()
    number = _integer(text)
    if number is not None:
        return number
    name, _, offset = text.partition("+")
    return Symbol(name.strip(), int(offset, 0) if offset else 0)


_NUMBER = re.compile(r"-?(?:0[xX][0-9a-fA-F]+|0[bB][01]+|\d+)U?$")


def _integer(text: str) -> int | None:
    if not _NUMBER.match(text):
        return None
    text = text.rstrip("U")
    digits = text.lstrip("-")
    if len(digits) > 1 and digits[0] == "0" and digits.isdigit():
        return int(text, 8)
    return int(text, 0)


_STATEMENT = re.compile(
    r"\s*(?:(?P<open>\{)|(?P<close>\})|(?P<loc>\.(?:loc|file)\b[^\n]*)|(?P<label>[\w$%.]+)\s*:(?!:)"
    r"|(?P<statement>[^;{}\s][^;{}]*(?:\{[^{}]*\}[^;{}]*)*);|(?P<empty>;))"
)
_INSTRUCTION = re.compile(r"(?:@(!?)\s*([\w$%]+)\s*)?([a-zA-Z][\w.:]*)\s*(.*)", re.S)
_OPERAND = re.compile(
    r"\s*(\{[^}]*\}(?:\s*\|\s*[\w$%]+)?|\[(?:[^\]{]|\{[^}]*\})*\]|\([^)]*\)|[^,({\[\s](?:[^,\[]|\[[^\]]*\])*)\s*,?"
)
_LOC = re.compile(r"\.loc\s+(\d+)\s+(\d+)\s+(\d+)(?:.*inlined_at\s+(\d+)\s+(\d+)\s+(\d+))?")
_REGISTER_RANGE = re.compile(r"([\w$%]+)\s*<\s*(\d+)\s*>$")
_TRAILING_DIGITS = re.compile(r"\d+$")
_SPECIAL = re.compile(
    r"%(?:(?:tid|ntid|ctaid|nctaid|clusterid|nclusterid|cluster_ctaid|cluster_nctaid)(?:\.[xyzw])?|laneid|warpid|nwarpid|smid"
    r"|nsmid|gridid|is_explicit_cluster|cluster_ctarank|cluster_nctarank|lanemask_(?:eq|le|lt|ge|gt)|clock|clock_hi|clock64"
    r"|pm\d(?:_64)?|envreg\d+|globaltimer(?:_lo|_hi)?|total_smem_size|aggr_smem_size|dynamic_smem_size|current_graph_exec"
    r"|reserved_smem_offset_\w+)$"
)


class _Scope:
    def __init__(self, number: int) -> None:
        self.number = number
        self.names: dict[str, str] = {}  # register or variable as written -> unique name
        self.ranges: dict[str, tuple[int, str]] = {}  # prefix -> count and type
        self.operands: dict[str, Operand | None] = {}


class _BodyParser:
    def __init__(self, parser: _FileParser, function: Function) -> None:
        self.file = parser
        self.function = function
        self.registers: dict[str, str] = {}
        self.variables: list[Variable] = []
        self.instructions: list[Instruction] = []
        self.labels: dict[str, int] = {}
        self.branch_targets: dict[str, tuple[str, ...]] = {}
        self.scopes = [_Scope(0)]
        self.forms: dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {}
        self.source_line: int | None = None
        self.main_file: int | None = None
        self.callers: dict[tuple[int, int, int], tuple[int, int, int]] = {}
        self.negations = 0

    def parse(self) -> Body:
        assert self.function.body_span
        text, (at, end) = self.file.text, self.function.body_span
        match_statement = _STATEMENT.match
        pending_label = ""
        while True:
            match = match_statement(text, at, end)
            if not match:
                at = _skip_space(text, at)
                if at >= end:
                    break
                raise PtxError(
                    self.file.position(at), f"cannot read this statement: {text[at : at + 40].split(chr(10))[0]!r}"
                )
            kind, at = match.lastgroup, match.end()
            if kind == "statement":
                start = match.start(kind)
                if text[start] == ".":
                    self._directive(match[kind], start, pending_label)
                else:
                    self._instruction(match[kind], start)
            elif kind == "label":
                pending_label = match[kind]
                self.labels[pending_label] = len(self.instructions)
            elif kind == "loc":
                self._loc(match[kind])
            elif kind == "open":
                self.file.scope_count += 1
                self.scopes.append(_Scope(self.file.scope_count))
            elif kind == "close":
                self.scopes.pop()
        return Body(self.registers, tuple(self.variables), tuple(self.instructions), self.labels, self.branch_targets)

    def _directive(self, text: str, start: int, label: str) -> None:
        word = text[1:].replace(".", " ", 1).split(None, 1)[0]  # inline assembly writes `.reg.b32 f;`
        if word == "reg":
            kind, names = text[len(".reg") :].split(None, 1)
            kind = kind[1:]
            if kind in ("v2", "v4"):
                raise PtxError(self.file.position(start), "vector registers are not supported")
            for name in _split_commas(names):
                self._declare_register(name.strip(), kind)
        elif word == "branchtargets":
            self.branch_targets[label] = tuple(part.strip() for part in text.split(None, 1)[1].split(","))
        elif word in ("shared", "local", "param", "global", "const"):
            for variable in self.file.variables(text, start):
                name = self._declare(variable.name)
                self.variables.append(
                    Variable(
                        name, variable.space, variable.type, variable.count, variable.alignment, variable.external,
                        variable.initialiser, variable.position,
                    )
                )  # fmt: skip
        elif word not in ("pragma", "callprototype", "calltargets", "maxnreg", "noreturn"):
            raise PtxError(self.file.position(start), f".{word} is not supported inside a function")

    def _declare(self, name: str) -> str:
        scope = self.scopes[-1]
        unique = name if scope.number == 0 else f"{name}@{scope.number}"
        scope.names[name] = unique
        scope.operands.clear()
        return unique

    def _declare_register(self, name: str, kind: str) -> None:
        spread = _REGISTER_RANGE.match(name)
        if spread:
            self.scopes[-1].ranges[spread[1]] = (int(spread[2]), kind)
        else:
            self.registers[self._declare(name)] = kind

    def _loc(self, text: str) -> None:
        match = _LOC.match(text)
        if not match:
            return
        here = (int(match[1]), int(match[2]), int(match[3]))
        if match[4]:
            self.callers[here] = (int(match[4]), int(match[5]), int(match[6]))
        if self.main_file is None:
            self.main_file = here[0]
        for _ in range(64):
            if here[0] == self.main_file or here not in self.callers:
                break
            here = self.callers[here]
        if here[1] and here[0] == self.main_file:
            self.source_line = here[1]

    def _instruction(self, text: str, start: int) -> None:
        match = _INSTRUCTION.match(text)
        position = self.file.position(start)
        if not match:
            raise PtxError(position, f"cannot read this instruction: {text[:60]!r}")
        negated, guard_name, form, rest = match.groups()
        guard = None
        if guard_name:
            operand = self._named(guard_name, position)
            if not isinstance(operand, Register):
                raise PtxError(position, f"the guard {guard_name} is not a register")
            guard = operand
        parts = self.forms.get(form)
        if parts is None:
            opcode, *suffixes = re.split(r"\.", form)
            types = tuple(part for part in suffixes if part in TYPES)
            parts = self.forms[form] = (opcode, tuple(part for part in suffixes if part not in TYPES), types)
        opcode, modifiers, types = parts
        operands: tuple[Operand, ...]
        if opcode == "call":
            operands = self._call_operands(rest, position)
        else:
            operands = tuple(
                self._negation(found, position) if found[0] == "!" else self._operand(found, position)
                for found in _OPERAND.findall(rest)
            )
        self.instructions.append(
            Instruction(opcode, modifiers, types, operands, guard, negated == "!", position, self.source_line)
        )

    def _negation(self, text: str, position: Position) -> Register:
        """`!%p` as a source becomes `not.pred` into a register of its own, so that operands need no negation."""
        self.negations += 1
        register = Register(f"!{self.negations}")
        self.registers[register.name] = "pred"
        source = self._operand(text[1:].strip(), position)
        self.instructions.append(
            Instruction("not", (), ("pred",), (register, source), None, False, position, self.source_line)
        )
        return register

    def _call_operands(self, text: str, position: Position) -> tuple[Operand, ...]:
        """(results), target, (arguments) as Vector, Symbol or Register, Vector."""
        results: Operand = Vector(())
        arguments: Operand = Vector(())
        target: Operand | None = None
        for found in _OPERAND.findall(text):
            if found[0] == "(":
                elements = tuple(self._operand(part.strip(), position) for part in _split_commas(found[1:-1]))
                if target is None:
                    results = Vector(elements)
                else:
                    arguments = Vector(elements)
            elif target is None:
                target = self._operand(found, position)
        if target is None:
            raise PtxError(position, "this call names no function")
        return (results, target, arguments)

    def _operand(self, text: str, position: Position) -> Operand:
        text = text.strip()
        cache = self.scopes[-1].operands
        if text in cache:
            found = cache[text]
        else:
            found = cache[text] = self._read_operand(text, position)
        if found is None:
            return Vector(())  # "_" alone: a sink
        return found

    def _read_operand(self, text: str, position: Position) -> Operand | None:
        first = text[0]
        if first == "{":
            inner, _, after = text[1:].partition("}")
            elements = tuple(
                None if part.strip() == "_" else self._operand(part, position) for part in inner.split(",")
            )
            vector = Vector(elements)
            return Pair(vector, self._operand(after.replace("|", ""), position)) if "|" in after else vector
        if first == "[":
            return self._address(text[1:-1].strip(), position)
        if text == "_":
            return None
        if "|" in text:
            left, right = (part.strip() for part in text.split("|"))
            return Pair(
                None if left == "_" else self._operand(left, position),
                None if right == "_" else self._operand(right, position),
            )
        if first.isdigit() or first == "-":
            return self._immediate(text, position)
        if text == "WARP_SZ":
            return Immediate(None, 32, False)
        return self._named(text, position)

    def _immediate(self, text: str, position: Position) -> Immediate:
        if text[:2] in ("0f", "0F") and len(text) == 10:
            bits = int(text[2:], 16)
            return Immediate(bits, struct.unpack("<f", bits.to_bytes(4, "little"))[0], True)
        if text[:2] in ("0d", "0D") and len(text) == 18:
            bits = int(text[2:], 16)
            return Immediate(bits, struct.unpack("<d", bits.to_bytes(8, "little"))[0], True)
        number = _integer(text)
        if number is not None:
            return Immediate(None, number, False)
        try:
            value = float(text)
        except ValueError:
            raise PtxError(position, f"cannot read the literal {text!r}") from None
        return Immediate(struct.unpack("<Q", struct.pack("<d", value))[0], value, True)

    def _named(self, text: str, position: Position) -> Operand:
        for scope in reversed(self.scopes):
            if text in scope.names:
                name = scope.names[text]
                return Register(name) if name in self.registers else Symbol(name)
            digits = _TRAILING_DIGITS.search(text)
            if digits and (spread := scope.ranges.get(text[: digits.start()])) and int(digits[0]) < spread[0]:
                name = text if scope.number == 0 else f"{text}@{scope.number}"
                self.registers[name] = spread[1]
                return Register(name)
        if text[0] == "%":
            if _SPECIAL.match(text):
                return SpecialRegister(text)
            raise PtxError(position, f"the register {text} is not declared")
        name, plus, offset = text.partition("+")
        if plus:
            return Symbol(self._symbol(name.strip()), int(offset.strip(), 0))
        return Symbol(self._symbol(text))

    def _symbol(self, name: str) -> str:
        for scope in reversed(self.scopes):
            if name in scope.names:
                return scope.names[name]
        return name

    def _address(self, text: str, position: Position) -> Address:
        base_text, plus, offset_text = text.partition("+")
        base_text, offset = base_text.strip(), 0
        if plus:
            number = _integer(offset_text.strip())
            if number is None:
                raise PtxError(position, f"cannot read the address [{text}]")
            offset = number
        elif "," in text or "{" in text:
            raise PtxError(position, f"tensor coordinates are not supported: [{text}]")
        indexed = re.match(r"([\w$%]+)\s*\[\s*(\w+)\s*\]$", base_text)
        if indexed:
            base_text, offset = indexed[1], offset + int(indexed[2], 0)
        base = self._operand(base_text, position)
        if not isinstance(base, Register | Symbol | Immediate):
            raise PtxError(position, f"cannot read the address [{text}]")
        if isinstance(base, Symbol) and base.offset:
            base, offset = Symbol(base.name), offset + base.offset
        return Address(base, offset)
