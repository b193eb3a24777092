"""Questions to ask, and edits to make, on the tree-sitter syntax tree of one CUDA source.

Takes source text, gives functions, launches, counted loops and array accesses in a CUDA programmer's words, and new
source text from byte-range edits. It reads one file as written: it expands no macro, follows no include and knows no
types beyond what a declaration spells. Where it cannot tell, it answers None, and the rewrite is not offered.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import tree_sitter_cuda
from tree_sitter import Language, Node, Parser

CUDA = Language(tree_sitter_cuda.language())

ASSIGNMENTS = ("=", "+=", "-=", "*=", "/=", "%=", "<<=", ">>=", "&=", "|=", "^=")
CASTS = ("static_cast", "int", "unsigned", "size_t", "int64_t", "long")


@dataclass(frozen=True, slots=True)
class Edit:
    """Replaces the bytes [start, end) of a source by text."""

    start: int
    end: int
    text: str


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a function."""

    node: Node  # parameter_declaration
    name: str
    type: str  # as written, without const, pointer and __restrict__: "float", "scalar_t"
    is_pointer: bool
    is_const: bool  # the pointee, for pointers
    is_restrict: bool


@dataclass(frozen=True, slots=True)
class Function:
    """One function definition: kernel, device function or host function."""

    node: Node  # function_definition
    name: str
    body: Node  # compound_statement
    parameters: tuple[Parameter, ...]
    is_kernel: bool

    def parameter(self, name: str) -> Parameter | None:
        return next((p for p in self.parameters if p.name == name), None)

    @property
    def outer(self) -> Node:
        """The definition with its template header, when it has one."""
        parent = self.node.parent
        return parent if parent is not None and parent.type == "template_declaration" else self.node

    @property
    def first(self) -> Node:
        """Where the definition begins for a reader: at the comment lines right above it, when it has some."""
        first = self.outer
        while (above := first.prev_named_sibling) is not None and above.type == "comment":
            on_own_line = above.start_point.column == len(indentation(above))
            if not on_own_line or above.end_point.row + 1 != first.start_point.row:
                break
            first = above
        return first


@dataclass(frozen=True, slots=True)
class Launch:
    """One kernel<<<grid, block, ...>>>(arguments) of a host function."""

    node: Node  # call_expression
    kernel: str
    configuration: tuple[Node, ...]  # grid, block, dynamic shared bytes, stream: as many as are written
    arguments: tuple[Node, ...]
    host: Function  # where it stands


@dataclass(frozen=True, slots=True)
class Loop:
    """for (type variable = start; variable < bound; variable += step) body."""

    node: Node  # for_statement
    variable: str
    type: str
    start: Node
    bound: Node
    step: Node | None  # None: one (++i)
    body: Node

    @property
    def statements(self) -> tuple[Node, ...]:
        return statements(self.body)


@dataclass(frozen=True, slots=True)
class Unit:
    """One parsed source. Make it with `parse`, which remembers the last few."""

    source: str
    root: Node
    functions: tuple[Function, ...]
    launches: tuple[Launch, ...]

    @property
    def kernels(self) -> tuple[Function, ...]:
        return tuple(f for f in self.functions if f.is_kernel)

    def launches_of(self, kernel: Function) -> tuple[Launch, ...]:
        return tuple(launch for launch in self.launches if launch.kernel == kernel.name)


def parse(source: str) -> Unit:
    """Reads one source. Syntax errors stay in the tree as ERROR nodes; functions that hold one are left out."""
    root = Parser(CUDA).parse(source.encode()).root_node
    functions = tuple(f for node in find(root, "function_definition") if (f := _function(node)) is not None)
    return Unit(source, root, functions, tuple(_launches(functions)))


def apply_edits(source: str, edits: Iterable[Edit]) -> str:
    """New source. The edits must not overlap; several insertions at one place keep their order."""
    data = source.encode()
    pieces: list[bytes] = []
    position = 0
    for edit in sorted(edits, key=lambda e: (e.start, e.end)):
        if edit.start < position:
            raise ValueError(f"edits overlap at byte {edit.start}: {edit.text[:40]!r}")
        pieces += [data[position : edit.start], edit.text.encode()]
        position = edit.end
    return b"".join([*pieces, data[position:]]).decode()


def replace(node: Node, text_: str) -> Edit:
    return Edit(node.start_byte, node.end_byte, text_)


def insert_before(node: Node, text_: str) -> Edit:
    """A line of its own before a statement (before its #pragma, when it has one), at the statement's indentation."""
    first = pragma_of(node) or node
    margin = indentation(node)
    return Edit(first.start_byte, first.start_byte, f"{indented(text_, margin).lstrip()}\n{margin}")


def insert_after(node: Node, text_: str) -> Edit:
    return Edit(node.end_byte, node.end_byte, "\n" + indented(text_, indentation(node)))


def text(node: Node) -> str:
    assert node.text is not None
    return node.text.decode()


def atom(node: Node) -> str:
    """The expression's text, in parentheses unless it is one word."""
    simple = node.type in ("identifier", "number_literal", "parenthesized_expression")
    return text(node) if simple else f"({text(node)})"


def indentation(node: Node) -> str:
    """White space before the statement that node begins, taken from the statement's first line."""
    root = [node, *ancestors(node)][-1]
    before = (root.text or b"")[: node.start_byte - root.start_byte]
    line = before[before.rfind(b"\n") + 1 :].decode()
    return line[: len(line) - len(line.lstrip())]


def indented(block: str, by: str) -> str:
    """Every line that is not empty and not a preprocessor line of column 0, moved right by `by`."""
    return "\n".join(by + line if line.strip() else line for line in block.split("\n"))


def dedented(node: Node) -> str:
    """The node's text with the indentation of its first line taken off every line."""
    margin = indentation(node)
    first, *rest = text(node).split("\n")
    return "\n".join([first, *(line[len(margin) :] if line.startswith(margin) else line.lstrip() for line in rest)])


def find(node: Node, *types: str) -> tuple[Node, ...]:
    """All descendants of the types, node itself included, in source order."""
    return _find(node, frozenset(types))


@lru_cache(maxsize=4096)  # the same few questions come up again and again; a Node keeps its tree alive
def _find(node: Node, types: frozenset[str]) -> tuple[Node, ...]:
    found: list[Node] = []

    def visit(n: Node) -> None:
        if n.type in types:
            found.append(n)
        for child in n.named_children:
            visit(child)

    visit(node)
    return tuple(found)


def ancestors(node: Node) -> Iterator[Node]:
    while node.parent is not None:
        node = node.parent
        yield node


def contains(outer: Node, inner: Node) -> bool:
    return outer.start_byte <= inner.start_byte and inner.end_byte <= outer.end_byte


def statements(body: Node) -> tuple[Node, ...]:
    """Statements of a block, or the single statement that stands in a block's place."""
    if body.type != "compound_statement":
        return (body,)
    return tuple(child for child in body.named_children if child.type not in ("comment", "preproc_call"))


def contents(body: Node) -> list[Node]:
    """`statements` with comments and preprocessor lines."""
    return list(body.named_children) if body.type == "compound_statement" else [body]


def following(statement: Node) -> tuple[Node, ...]:
    """The statements after this one in its block."""
    if statement.parent is None or statement.parent.type != "compound_statement":
        return ()
    return tuple(s for s in statements(statement.parent) if s.start_byte >= statement.end_byte)


def statement_of(node: Node) -> Node:
    """The statement of a block that node is part of (the nearest one)."""
    while node.parent is not None and node.parent.type != "compound_statement":
        node = node.parent
    return node


def pragma_of(statement: Node) -> Node | None:
    """The #pragma unroll line right before a loop."""
    before = statement.prev_named_sibling
    if before is not None and before.type == "preproc_call" and "unroll" in text(before):
        return before
    return None


def strip(node: Node) -> Node:
    """The expression inside parentheses and integer casts."""
    while True:
        if node.type in ("parenthesized_expression", "condition_clause"):
            inner = node.child_by_field_name("value") or next(iter(node.named_children), None)
        elif node.type == "cast_expression" and is_integer_type(text(node.child_by_field_name("type") or node)):
            inner = node.child_by_field_name("value")
        elif node.type == "call_expression" and (cast := _static_cast(node)) is not None and is_integer_type(cast):
            inner = arguments(node)[0]
        else:
            return node
        if inner is None:
            return node
        node = inner


def is_integer_type(name: str) -> bool:
    words = set(name.replace("std::", "").split())
    return bool(words) and words <= {
        "int", "unsigned", "long", "short", "const", "constexpr", "size_t", "ptrdiff_t",
        "int32_t", "int64_t", "uint32_t", "uint64_t", "signed", "auto",
    }  # fmt: skip


def _static_cast(call: Node) -> str | None:
    function = call.child_by_field_name("function")
    if function is None or function.type != "template_function" or not text(function).startswith("static_cast"):
        return None
    found = function.child_by_field_name("arguments")
    return text(found)[1:-1] if found is not None else None


def arguments(call: Node) -> tuple[Node, ...]:
    found = call.child_by_field_name("arguments")
    return tuple(c for c in found.named_children if c.type != "comment") if found is not None else ()


def callee(call: Node) -> str:
    """Name of the called function without template arguments."""
    function = call.child_by_field_name("function")
    if function is None:
        return ""
    if function.type == "template_function":
        return text(function.child_by_field_name("name") or function)
    return text(function)


def field(node: Node, name: str) -> Node:
    """A field that the grammar promises."""
    found = node.child_by_field_name(name)
    if found is None:
        raise ValueError(f"{node.type} without {name}: {text(node)!r}")
    return found


def operator(node: Node) -> str:
    found = node.child_by_field_name("operator")
    return text(found) if found is not None else ""


def is_barrier(statement: Node) -> bool:
    return (
        statement.type == "expression_statement"
        and len(statement.named_children) == 1
        and statement.named_children[0].type == "call_expression"
        and callee(statement.named_children[0]) == "__syncthreads"
    )


def calls(node: Node) -> set[str]:
    return {callee(call) for call in find(node, "call_expression")}


@lru_cache(maxsize=4096)
def identifiers(node: Node) -> frozenset[str]:
    """Names of variables and functions that the code mentions."""
    return frozenset(text(n) for n in find(node, "identifier"))


@lru_cache(maxsize=4096)
def assigned(node: Node) -> frozenset[str]:
    """Names whose own value the code may change: unlike `written`, without p of p[i] = v."""
    names: set[str] = set()
    for found in find(node, "assignment_expression", "update_expression", "pointer_expression"):
        if found.type == "pointer_expression" and (operator(found) != "&" or _is_ldg(found)):
            continue
        target = found.child_by_field_name("left" if found.type == "assignment_expression" else "argument")
        while target is not None and target.type in ("field_expression", "parenthesized_expression"):
            target = target.child_by_field_name("argument") or next(iter(target.named_children), None)
        if target is not None and target.type == "identifier":
            names.add(text(target))
    return frozenset(names)


@lru_cache(maxsize=4096)
def written(node: Node) -> frozenset[str]:
    """Names that the code assigns, increments or takes the address of; for a[i] = v that is a."""
    names: set[str] = set()
    for found in find(node, "assignment_expression", "update_expression", "pointer_expression"):
        if found.type == "pointer_expression" and (operator(found) != "&" or _is_ldg(found)):
            continue
        target = found.child_by_field_name("left" if found.type == "assignment_expression" else "argument")
        while target is not None and target.type in ("subscript_expression", "field_expression", "pointer_expression",
                                                     "parenthesized_expression"):  # fmt: skip
            target = target.child_by_field_name("argument") or next(iter(target.named_children), None)
        if target is not None:
            names |= identifiers(target) if target.type != "identifier" else {text(target)}
    return frozenset(names)


def _is_ldg(pointer: Node) -> bool:
    call = pointer.parent.parent if pointer.parent is not None else None
    return call is not None and call.type == "call_expression" and callee(call) == "__ldg"


def declarations(node: Node, name: str | None = None) -> tuple[tuple[str, Node, Node | None], ...]:
    """(name, declaration, initialiser) of every variable declared inside node (of that name), in source order."""
    found = _declarations(node)
    return found if name is None else tuple(d for d in found if d[0] == name)


@lru_cache(maxsize=4096)
def _declarations(node: Node) -> tuple[tuple[str, Node, Node | None], ...]:
    return tuple(_each_declared(node))


def _each_declared(node: Node) -> Iterator[tuple[str, Node, Node | None]]:
    for declaration in find(node, "declaration"):
        for declarator in declaration.children_by_field_name("declarator"):
            value = declarator.child_by_field_name("value") if declarator.type == "init_declarator" else None
            inner = declarator
            while inner.type != "identifier":
                found = inner.child_by_field_name("declarator")
                if found is None:
                    found = next((c for c in inner.named_children if c.type != "type_qualifier"), None)
                if found is None:
                    break
                inner = found
            if inner.type == "identifier":
                yield text(inner), declaration, value


def declared_type(declaration: Node) -> str:
    return text(field(declaration, "type"))


def has_qualifier(declaration: Node, *names: str) -> bool:
    qualifiers = ("type_qualifier", "storage_class_specifier")
    return any(c.type in qualifiers and text(c) in names for c in declaration.children)


def definition(unit: Unit, function: Function, name: str) -> Node | None:
    """The one expression that a name stands for: initialiser of a local or file-scope variable never written again."""
    if function.parameter(name) is not None:
        return None
    local = list(declarations(function.body, name))
    if len(local) == 1:
        value = local[0][2]
        if value is None or value.type in ("argument_list", "initializer_list") or name in assigned(function.body):
            return None
        return value
    if local:
        return None
    for found, declaration, value in _file_declarations(unit):
        if found == name and has_qualifier(declaration, "const", "constexpr"):
            return value
    return None


def _file_declarations(unit: Unit) -> Iterator[tuple[str, Node, Node | None]]:
    def top(node: Node) -> Iterator[Node]:
        for child in node.named_children:
            if child.type == "declaration":
                yield child
            elif child.type in ("namespace_definition", "declaration_list", "linkage_specification"):
                yield from top(child)

    for declaration in top(unit.root):
        yield from declarations(declaration)


def file_constants(unit: Unit) -> Iterator[tuple[str, Node]]:
    """(name, number literal) of every file-scope `const` or `constexpr` integer given by a literal."""
    for name, declaration, value in _file_declarations(unit):
        literal = value is not None and value.type == "number_literal"
        if literal and value is not None and has_qualifier(declaration, "const", "constexpr"):
            yield name, value


def constant(unit: Unit, function: Function, node: Node) -> int | None:
    """Value of an integer expression known before run time."""
    node = strip(node)
    if node.type == "number_literal":
        return integer(text(node))
    if node.type == "identifier":
        if text(node) == "warpSize":
            return 32
        found = definition(unit, function, text(node))
        return constant(unit, function, found) if found is not None else None
    if node.type == "binary_expression":
        left, right = (constant(unit, function, field(node, side)) for side in ("left", "right"))
        if left is None or right is None:
            return None
        match operator(node):
            case "+":
                return left + right
            case "-":
                return left - right
            case "*":
                return left * right
            case "/" if right > 0 and left >= 0:
                return left // right
            case "<<" if 0 <= right < 31:
                return left << right
    return None


def integer(literal: str) -> int | None:
    try:
        return int(literal.rstrip("uUlL").replace("'", ""), 0)
    except ValueError:
        return None


def terms(node: Node) -> list[Node]:
    """a + (b + c) as [a, b, c]; anything else as itself."""
    node = strip(node)
    if node.type == "binary_expression" and operator(node) == "+":
        return terms(field(node, "left")) + terms(field(node, "right"))
    return [node]


def _factors(node: Node) -> list[Node]:
    node = strip(node)
    if node.type == "binary_expression" and operator(node) == "*":
        return _factors(field(node, "left")) + _factors(field(node, "right"))
    return [node]


def canonical(unit: Unit, function: Function, node: Node) -> str:
    """One spelling for expressions equal up to the order of + and *, parentheses, integer casts and named values."""
    node = strip(node)
    if node.type == "identifier":
        if text(node) == "warpSize":
            return "32"
        found = definition(unit, function, text(node))
        return canonical(unit, function, found) if found is not None else text(node)
    if node.type == "number_literal":
        value = integer(text(node))
        return str(value) if value is not None else text(node)
    if node.type == "binary_expression" and operator(node) in ("+", "*"):
        parts = terms(node) if operator(node) == "+" else _factors(node)
        return "(" + f" {operator(node)} ".join(sorted(_spellings(unit, function, parts, operator(node)))) + ")"
    if node.type == "binary_expression":
        left, right = (canonical(unit, function, field(node, side)) for side in ("left", "right"))
        return f"({left} {operator(node)} {right})"
    if not node.named_children:
        return text(node)
    parts_: list[str] = []
    for child in node.children:
        if child.type != "comment":
            parts_.append(canonical(unit, function, child) if child.is_named else text(child))
    return "".join(parts_)


def _spellings(unit: Unit, function: Function, parts: list[Node], op: str) -> list[str]:
    """Spelling of each operand, with named operands that are themselves sums (or products) taken apart."""
    spelled: list[str] = []
    for part in parts:
        part = strip(part)
        found = definition(unit, function, text(part)) if part.type == "identifier" else None
        inner = terms(found) if found is not None and op == "+" else _factors(found) if found is not None else [part]
        spelled += _spellings(unit, function, inner, op) if len(inner) > 1 else [canonical(unit, function, part)]
    return spelled


@lru_cache(maxsize=4096)
def counted_loop(node: Node) -> Loop | None:
    """Reads a for statement that counts upwards to an exclusive bound and leaves its counter alone, otherwise None."""
    if node.type != "for_statement":
        return None
    start, condition, update = (node.child_by_field_name(f) for f in ("initializer", "condition", "update"))
    body = node.child_by_field_name("body")
    if start is None or condition is None or update is None or body is None or start.type != "declaration":
        return None
    declared = list(declarations(start))
    if len(declared) != 1 or declared[0][2] is None or not is_integer_type(declared_type(start)):
        return None
    name, _, value = declared[0]
    if condition.type != "binary_expression" or operator(condition) != "<" or text(field(condition, "left")) != name:
        return None
    step: Node | None
    if update.type == "update_expression" and operator(update) == "++" and text(field(update, "argument")) == name:
        step = None
    elif update.type == "assignment_expression" and text(field(update, "left")) == name and operator(update) == "+=":
        step = field(update, "right")
        if text(step) == "1":
            step = None
    else:
        return None
    if name in written(body) or any(True for _ in declarations(body, name)):
        return None
    bound = field(condition, "right")
    if name in identifiers(bound) or identifiers(bound) & written(body):
        return None
    assert value is not None
    return Loop(node, name, declared_type(start), value, bound, step, body)


def loops(function: Function) -> list[Loop]:
    return [loop for node in find(function.body, "for_statement") if (loop := counted_loop(node)) is not None]


def header(loop: Loop) -> str:
    """for (...) without the body."""
    return text(loop.node)[: loop.body.start_byte - loop.node.start_byte].rstrip()


def leaves_early(body: Node) -> bool:
    """Whether the code may leave the enclosing loop or function, or meet other threads, part way."""
    if any(True for _ in find(body, "return_statement", "goto_statement", "break_statement", "continue_statement")):
        return True
    return any(name.startswith(("__sync", "__shfl", "__ballot", "__any", "__all", "atomic")) for name in calls(body))


def substitute(node: Node, names: Mapping[str, str], *, replacing: Mapping[int, str] | None = None) -> str:
    """The node's text with identifiers replaced, and nodes replaced whole by their id. Layout and comments stay."""
    edits: list[Edit] = []

    def visit(n: Node) -> None:
        if replacing is not None and n.id in replacing:
            edits.append(replace(n, replacing[n.id]))
        elif n.type == "identifier" and text(n) in names:
            edits.append(replace(n, names[text(n)]))
        else:
            for child in n.named_children:
                visit(child)

    visit(node)
    base = node.start_byte
    return apply_edits(text(node), [Edit(e.start - base, e.end - base, e.text) for e in edits])


def block_text(
    nodes: Sequence[Node], names: Mapping[str, str] | None = None, *, replacing: Mapping[int, str] | None = None
) -> str:
    """`substitute` for the statements of a block, without their common indentation; comments stay on their lines."""
    code = ""
    for previous, node in zip([None, *nodes], nodes, strict=False):
        margin = indentation(node)
        head, *rest = substitute(node, names or {}, replacing=replacing).rstrip("\n").split("\n")
        lines = "\n".join([head, *(line.removeprefix(margin) for line in rest)])
        same_line = previous is not None and node.type == "comment" and (
            previous.end_point.row == node.start_point.row
        )  # fmt: skip
        code += ("  " if same_line else "\n" if code else "") + lines
    return code


def fresh(unit: Unit, name: str, *also: str) -> str:
    """The name, or the name with the first number that makes it unused in the file."""
    taken = names_of(unit.root) | set(also)
    number = 1
    candidate = name
    while candidate in taken:
        number += 1
        candidate = f"{name}_{number}"
    return candidate


@lru_cache(maxsize=64)
def names_of(node: Node) -> frozenset[str]:
    """Every name that the code mentions, of types and members too."""
    return frozenset(text(n) for n in find(node, "identifier", "type_identifier", "field_identifier"))


def in_block(statement: Node) -> bool:
    """Whether statements can be put before and after this one."""
    return statement.parent is not None and statement.parent.type == "compound_statement"


def has_errors(source: str) -> bool:
    return Parser(CUDA).parse(source.encode()).root_node.has_error


def _function(node: Node) -> Function | None:
    declarator = node.child_by_field_name("declarator")
    body = node.child_by_field_name("body")
    while declarator is not None and declarator.type in ("pointer_declarator", "reference_declarator"):
        declarator = declarator.child_by_field_name("declarator") or next(iter(declarator.named_children), None)
    if declarator is None or declarator.type != "function_declarator" or body is None or node.has_error:
        return None
    name = field(declarator, "declarator")
    found = declarator.child_by_field_name("parameters")
    parameters = tuple(
        p for n in (found.named_children if found else ()) if n.type == "parameter_declaration" and (p := _parameter(n))
    )
    before = text(node)[: body.start_byte - node.start_byte]
    is_kernel = "__global__" in before.split("(")[0]
    return Function(node, text(name), body, parameters, is_kernel)


def _parameter(node: Node) -> Parameter | None:
    declarator = node.child_by_field_name("declarator")
    if declarator is None:
        return None
    names = [n for n in find(declarator, "identifier")]
    if not names:
        return None
    return Parameter(
        node,
        text(names[-1]),
        text(field(node, "type")),
        declarator.type == "pointer_declarator",
        any(c.type == "type_qualifier" and text(c) == "const" for c in node.children),
        any(text(q) in ("__restrict__", "__restrict") for q in find(declarator, "type_qualifier")),
    )


def _launches(functions: tuple[Function, ...]) -> Iterator[Launch]:
    for function in functions:
        for syntax in find(function.body, "kernel_call_syntax"):
            call = syntax.parent
            if call is not None and call.type == "call_expression":
                configuration = tuple(c for c in syntax.named_children if c.type != "comment")
                yield Launch(call, callee(call), configuration, arguments(call), function)
