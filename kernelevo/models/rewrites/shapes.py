"""The shapes of CUDA code that several rewrites start from.

Partitions (loops whose iterations the threads of a block, a grid or a warp share out), guards (one element per
thread), array accesses with unit stride, and the tree reduction in shared memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

from tree_sitter import Node

from kernelevo.models.rewrites.syntax import (
    Edit,
    Function,
    Loop,
    Unit,
    ancestors,
    arguments,
    callee,
    canonical,
    constant,
    contains,
    counted_loop,
    declarations,
    declared_type,
    definition,
    field,
    find,
    has_qualifier,
    identifiers,
    in_block,
    indentation,
    is_barrier,
    operator,
    statements,
    strip,
    terms,
    text,
    written,
)

GLOBAL_INDEX = "((blockDim.x * blockIdx.x) + threadIdx.x)"
GRID_THREADS = "(blockDim.x * gridDim.x)"


class Partition(Enum):
    """Who shares a loop's iterations."""

    BLOCK = "block"  # i = threadIdx.x; i += blockDim.x
    GRID = "grid"  # i = blockIdx.x * blockDim.x + threadIdx.x; i += gridDim.x * blockDim.x
    WARP = "warp"  # i = threadIdx.x % 32; i += 32
    NONE = "none"  # i = 0; ++i: every thread runs all of them


def partition(unit: Unit, function: Function, loop: Loop) -> Partition | None:
    start = canonical(unit, function, loop.start)
    step = canonical(unit, function, loop.step) if loop.step is not None else "1"
    if start == "threadIdx.x" and (step == "blockDim.x" or is_block_size(unit, function, loop.step)):
        return Partition.BLOCK
    if start == GLOBAL_INDEX and step == GRID_THREADS:
        return Partition.GRID
    if start in ("(threadIdx.x % 32)", "(threadIdx.x & 31)") and step == "32":
        return Partition.WARP
    if start == "0" and step == "1":
        return Partition.NONE
    return None


def is_block_size(unit: Unit, function: Function, node: Node | None) -> bool:
    """Whether an expression is the x size of every block the function is launched with."""
    value = constant(unit, function, node) if node is not None else None
    return value is not None and value == block_size(unit, function)


def block_size(unit: Unit, kernel: Function) -> int | None:
    """Threads per block, when every launch of the kernel gives the same known one-dimensional size."""
    sizes = {
        constant(unit, launch.host, launch.configuration[1]) if len(launch.configuration) > 1 else None
        for launch in unit.launches_of(kernel)
    }
    return sizes.pop() if len(sizes) == 1 else None


@dataclass(frozen=True, slots=True)
class Guard:
    """int index = blockIdx.x * blockDim.x + threadIdx.x; if (index < bound) body, and nothing after it."""

    declaration: Node
    statement: Node  # the if
    index: str
    type: str
    start: Node
    bound: Node
    body: tuple[Node, ...]  # statements that run for an index below the bound
    end: Node  # last node of the construct


def guard(unit: Unit, kernel: Function) -> Guard | None:
    """The guard at the top of a kernel with one element per thread, or None."""
    top = statements(kernel.body)
    for position, statement in enumerate(top):
        if statement.type != "declaration":
            continue
        declared = list(declarations(statement))
        if len(declared) != 1 or position + 1 >= len(top):
            continue
        name, _, start = declared[0]
        if start is None:
            continue
        if canonical(unit, kernel, start) != GLOBAL_INDEX or name in written(kernel.body):
            continue
        test = top[position + 1]
        if test.type != "if_statement" or test.child_by_field_name("alternative") is not None:
            return None
        condition, consequence = strip(field(test, "condition")), field(test, "consequence")
        if condition.type != "binary_expression" or text(strip(field(condition, "left"))) != name:
            return None
        bound = field(condition, "right")
        type_ = declared_type(statement)
        if operator(condition) == "<" and position + 2 == len(top):
            return Guard(statement, test, name, type_, start, bound, statements(consequence), test)
        is_return = [s.type for s in statements(consequence)] == ["return_statement"]
        if operator(condition) == ">=" and is_return and position + 2 < len(top):
            return Guard(statement, test, name, type_, start, bound, top[position + 2 :], top[-1])
        return None
    return None


class Use(Enum):
    READ = "read"
    WRITE = "write"  # plain assignment
    UPDATE = "update"  # compound assignment, ++


@dataclass(frozen=True, slots=True)
class Access:
    """array[index] where the index is a loop variable plus something that does not depend on it."""

    node: Node  # what to replace: the subscript, or the __ldg call around it
    array: str
    base: str  # the address of element 0, as text: "row" or "&x[row * cols]"
    use: Use


def accesses(unit: Unit, function: Function, body: tuple[Node, ...], variable: str) -> list[Access] | None:
    """All unit-stride accesses to global memory that every iteration of a loop's body makes.

    None when an array that the body stores to is also reached in another way, so that nothing may be moved.
    """
    local = {name for s in body for name, _, _ in declarations(s)}
    found: list[Access] = []
    other: set[str] = set()  # arrays with accesses of another kind
    for statement in body:
        for subscript in find(statement, "subscript_expression"):
            array, index = field(subscript, "argument"), _index(subscript)
            if array.type != "identifier" or index is None:
                other |= identifiers(array)
                continue
            name = text(array)
            use, node = _use(subscript)
            base = _base(unit, function, body, index, variable, local) if name not in local else None
            if use is None or base is None or element_type(function, name) is None or _is_conditional(subscript, body):
                other.add(name)
                continue
            found.append(Access(node, name, name if base == "0" else f"&{name}[{base}]", use))
        for pointer in find(statement, "pointer_expression"):
            if operator(pointer) == "*":
                other |= identifiers(pointer)
    stored = {access.array for access in found if access.use is not Use.READ}
    bases: dict[str, set[str]] = {}
    for access in found:
        bases.setdefault(access.array, set()).add(access.base)
    if any(name in other or len(bases[name]) > 1 for name in stored):
        return None
    return found


def _is_conditional(subscript: Node, body: tuple[Node, ...]) -> bool:
    """Whether an iteration may leave the element alone, perhaps because it is not there."""
    inner = subscript
    for node in ancestors(subscript):
        if inner in body:
            return False
        if node.type == "conditional_expression" and inner != node.child_by_field_name("condition"):
            return True
        if node.type == "binary_expression" and operator(node) in ("&&", "||") and inner == field(node, "right"):
            return True
        if node.type in ("for_statement", "while_statement", "switch_statement"):
            return True
        if node.type == "if_statement" and inner != node.child_by_field_name("condition"):
            return True
        inner = node
    return False


def _index(subscript: Node) -> Node | None:
    indices = field(subscript, "indices").named_children
    return indices[0] if len(indices) == 1 else None


def _use(subscript: Node) -> tuple[Use | None, Node]:
    """How a subscript is used, and the node that stands for it."""
    parent = subscript.parent
    assert parent is not None
    if parent.type == "assignment_expression" and parent.child_by_field_name("left") == subscript:
        return (Use.WRITE if operator(parent) == "=" else Use.UPDATE), subscript
    if parent.type == "update_expression":
        return Use.UPDATE, subscript
    if parent.type == "pointer_expression":
        call = parent.parent.parent if parent.parent is not None else None
        if call is not None and call.type == "call_expression" and callee(call) == "__ldg":
            return Use.READ, call
        return None, subscript
    if parent.type == "field_expression":
        return None, subscript
    return Use.READ, subscript


def _base(
    unit: Unit, function: Function, body: tuple[Node, ...], index: Node, variable: str, local: set[str]
) -> str | None:
    """The rest of an index that is `variable` plus something invariant, as text; None for any other index."""
    seen = 0
    rest: list[str] = []

    def take(node: Node) -> bool:
        nonlocal seen
        for term in terms(node):
            if term.type == "identifier" and text(term) == variable:
                seen += 1
                continue
            names = identifiers(term)
            if term.type == "identifier" and text(term) in local:
                inner = definition(unit, function, text(term))
                if inner is None or not any(contains(s, inner) for s in body) or not take(inner):
                    return False
                continue
            if variable in names or names & local or find(term, "call_expression", "subscript_expression"):
                return False
            if any(names & written(s) for s in body):
                return False
            rest.append(text(term) if term.type in ("identifier", "number_literal") else f"({text(term)})")
        return True

    if not take(index) or seen != 1:
        return None
    return " + ".join(rest) or "0"


def element_type(function: Function, array: str) -> str | None:
    """Type of what a pointer parameter or pointer variable points to; None for shared and local arrays."""
    parameter = function.parameter(array)
    if parameter is not None:
        return parameter.type if parameter.is_pointer else None
    found = list(declarations(function.body, array))
    if len(found) != 1:
        return None
    declaration = found[0][1]
    declarators = declaration.children_by_field_name("declarator")
    inner: Node | None = declarators[0]
    if declarators[0].type == "init_declarator":
        inner = declarators[0].child_by_field_name("declarator")
    if inner is None or inner.type != "pointer_declarator" or len(declarators) != 1:
        return None
    type_ = declared_type(declaration)
    return None if type_ == "auto" else type_


def is_constant_pointer(function: Function, array: str) -> bool:
    parameter = function.parameter(array)
    if parameter is not None:
        return parameter.is_const
    return any(has_qualifier(declaration, "const") for _, declaration, _ in declarations(function.body, array))


def pointer_root(unit: Unit, function: Function, array: str) -> str:
    """The pointer parameter that a pointer variable is computed from, or the name itself."""
    for _ in range(8):
        value = definition(unit, function, array)
        pointers = [n for n in sorted(identifiers(value)) if element_type(function, n)] if value is not None else []
        if len(pointers) != 1:
            break
        array = pointers[0]
    return array


@dataclass(frozen=True, slots=True)
class Reduction:
    """A tree over shared memory: S[tid] = value; barrier; then halves are combined until S[0] holds the result."""

    array: str  # in shared memory
    type: str  # of its elements
    operation: str  # "sum" or "max" or "min"
    value: Node  # what each thread contributes
    first: Node  # S[tid] = value;
    last: Node  # the for statement


def tree_reductions(unit: Unit, function: Function) -> list[Reduction]:
    """All tree reductions over a block, in source order."""
    found = []
    for node in find(function.body, "for_statement"):
        reduction = _tree_reduction(unit, function, node)
        if reduction is not None:
            found.append(reduction)
    return found


def _tree_reduction(unit: Unit, function: Function, node: Node) -> Reduction | None:
    if not in_block(node) or not _halves(unit, function, node):
        return None
    start = field(node, "initializer")
    stride = next(name for name, _, _ in declarations(start))
    body = [s for s in statements(field(node, "body"))]
    if len(body) != 2 or body[0].type != "if_statement" or not is_barrier(body[1]):
        return None
    condition = strip(field(body[0], "condition"))
    step = [s for s in statements(field(body[0], "consequence"))]
    if canonical(unit, function, condition) != f"(threadIdx.x < {stride})" or len(step) != 1:
        return None
    if body[0].child_by_field_name("alternative") is not None or step[0].type != "expression_statement":
        return None
    combine = strip(step[0].named_children[0])
    if combine.type != "assignment_expression":
        return None
    target = strip(field(combine, "left"))
    if target.type != "subscript_expression" or field(target, "argument").type != "identifier":
        return None
    array = text(field(target, "argument"))
    own, other = f"{array}[threadIdx.x]", f"{array}[({' + '.join(sorted((stride, 'threadIdx.x')))})]"
    if canonical(unit, function, target) != own:
        return None
    operation = _operation(unit, function, combine, own, other)
    before = node.parent
    assert before is not None
    siblings = statements(before)
    place = siblings.index(node)
    if operation is None or place < 2 or not is_barrier(siblings[place - 1]):
        return None
    first = siblings[place - 2]
    store = first.named_children[0] if first.type == "expression_statement" and first.named_children else first
    if store.type != "assignment_expression" or operator(store) != "=":
        return None
    if canonical(unit, function, field(store, "left")) != own or array in identifiers(field(store, "right")):
        return None
    type_ = array_type(function, array)
    return Reduction(array, type_, operation, field(store, "right"), first, node) if type_ is not None else None


def array_type(function: Function, array: str) -> str | None:
    parameter = function.parameter(array)
    if parameter is not None:
        return parameter.type
    return next((declared_type(declaration) for _, declaration, _ in declarations(function.body, array)), None)


def _halves(unit: Unit, function: Function, node: Node) -> bool:
    """for (int s = blockDim.x / 2; s > 0; s /= 2), in any of its spellings."""
    start, condition, update = (node.child_by_field_name(f) for f in ("initializer", "condition", "update"))
    if start is None or condition is None or update is None or start.type != "declaration":
        return False
    declared = list(declarations(start))
    if len(declared) != 1:
        return False
    name, _, value = declared[0]
    if value is None:
        return False
    half = strip(value)
    if half.type != "binary_expression" or operator(half) + text(field(half, "right")) not in ("/2", ">>1"):
        constant_ = constant(unit, function, half)
        size = block_size(unit, function)
        if constant_ is None or size is None or constant_ * 2 != size:
            return False
    elif canonical(unit, function, field(half, "left")) != "blockDim.x" and not is_block_size(
        unit, function, field(half, "left")
    ):
        return False
    if text(condition).replace(" ", "") not in (f"{name}>0", f"{name}>=1", f"0<{name}", f"{name}!=0"):
        return False
    return text(update).replace(" ", "") in (
        f"{name}/=2", f"{name}>>=1", f"{name}={name}/2", f"{name}={name}>>1"
    )  # fmt: skip


def _operation(unit: Unit, function: Function, combine: Node, own: str, other: str) -> str | None:
    right = strip(field(combine, "right"))
    if operator(combine) == "+=":
        return "sum" if canonical(unit, function, right) == other else None
    if operator(combine) != "=":
        return None
    if right.type == "binary_expression" and operator(right) == "+":
        both = {canonical(unit, function, field(right, side)) for side in ("left", "right")}
        return "sum" if both == {own, other} else None
    if right.type == "call_expression" and len(arguments(right)) == 2:
        both = {canonical(unit, function, a) for a in arguments(right)}
        if both == {own, other}:
            return {"fmaxf": "max", "max": "max", "fmax": "max", "fminf": "min", "min": "min"}.get(callee(right))
    return None


def loop_label(loop: Loop) -> str:
    """How a loop is named in a rewrite's argument."""
    return f"{loop.variable}<{text(loop.bound).replace(' ', '')}"


def grid_node(unit: Unit, host: Function, node: Node) -> Node | None:
    """The integer expression of a one-dimensional grid, when it is one."""
    node = strip(node)
    if node.type == "identifier":
        found = list(declarations(host.body, text(node)))
        if len(found) == 1 and declared_type(found[0][1]) == "dim3":
            return None
    if node.type in ("call_expression", "initializer_list"):
        return None
    return node


def unused_after(host: Function, replaced: Sequence[Node]) -> list[Edit]:
    """Edits that delete plain host variables which nothing uses once these expressions are gone."""
    gone = list(replaced)
    edits: list[Edit] = []
    for _ in range(4):  # a deleted declaration may have been the last use of another variable
        for name, declaration, value in declarations(host.body):
            uses = [n for n in find(host.body, "identifier") if text(n) == name and not contains(declaration, n)]
            if declaration in gone or value is None or len(declarations(declaration)) != 1:
                continue
            inside = [n for n in uses if any(contains(g, n) for g in gone)]
            if not inside or len(inside) != len(uses) or find(value, "call_expression") or not in_block(declaration):
                continue
            gone.append(declaration)
            start = declaration.start_byte - len(indentation(declaration).encode()) - 1
            edits.append(Edit(start, declaration.end_byte, ""))
    return edits


def outermost_loops(function: Function) -> Iterator[Loop]:
    """Counted loops that are not inside another for statement."""
    for node in find(function.body, "for_statement"):
        outer = node.parent
        while outer is not None and outer != function.node and outer.type not in ("for_statement", "while_statement"):
            outer = outer.parent
        if outer == function.node and (loop := counted_loop(node)) is not None:
            yield loop
