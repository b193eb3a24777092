"""A thread's inner product over global memory becomes a product of tiles staged in shared memory.

    for (k = 0; k < K; ++k) sum += a[row, k] * b[column, k]

in a kernel with one output element per thread of a two-dimensional grid. Each block then loads every operand once per
tile instead of once per output; each thread computes `each` x `each` outputs, so that a value from shared memory serves
several products. Rows, columns and products beyond the end are loaded as zero and not stored.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tree_sitter import Node

from kernelevo.models.rewrites.device_code import vector_type
from kernelevo.models.rewrites.rule import Rule, Site
from kernelevo.models.rewrites.shapes import element_type, unused_after
from kernelevo.models.rewrites.syntax import (
    Edit,
    Function,
    Launch,
    Loop,
    Unit,
    arguments,
    atom,
    callee,
    canonical,
    contains,
    counted_loop,
    declarations,
    declared_type,
    dedented,
    definition,
    field,
    find,
    fresh,
    identifiers,
    indentation,
    indented,
    leaves_early,
    operator,
    replace,
    statements,
    strip,
    substitute,
    terms,
    text,
    written,
)

# (outputs per thread in each dimension, depth of a tile, weight): 4x4 outputs balance reuse against registers and
# blocks enough to fill 132 multiprocessors; 1 is the textbook tile.
CHOICES = ((4, 16, 4.0), (4, 8, 2.0), (8, 8, 1.5), (2, 16, 1.5), (2, 32, 1.0), (1, 16, 0.5), (1, 32, 0.5))


@dataclass(frozen=True, slots=True)
class Product:
    """What was recognised."""

    column: str  # variable of blockIdx.x * blockDim.x + threadIdx.x
    row: str
    type: str  # of both indices
    bounds: dict[str, Node]  # of row and column
    first: Node  # from here ...
    last: Node  # ... to here the kernel's body is replaced
    before: tuple[Node, ...]  # statements before the loop, for one output
    loop: Loop
    after: tuple[Node, ...]
    total: str  # accumulator
    total_type: str
    by_row: Node  # operand that depends on the row
    by_column: Node
    by_row_first: bool  # in the product


def sites(unit: Unit) -> Iterator[Site]:
    for kernel in unit.kernels:
        launches = unit.launches_of(kernel)
        found = _product(unit, kernel)
        if found is None or len(launches) != 1 or len(launches[0].arguments) != len(kernel.parameters):
            continue
        for each, depth, weight in CHOICES:
            edits = _edits(unit, kernel, launches[0], found, each, depth)
            if edits is not None:
                yield Site(f"{kernel.name} each={each} depth={depth}", edits, weight)


def _product(unit: Unit, kernel: Function) -> Product | None:
    top = statements(kernel.body)
    if len(top) < 3 or any(s.type != "declaration" for s in top[:2]):
        return None
    index: dict[str, tuple[str, str]] = {}
    for statement in top[:2]:
        for name, declaration, value in declarations(statement):
            for axis in ("x", "y"):
                if value is not None and canonical(unit, kernel, value) == (
                    f"((blockDim.{axis} * blockIdx.{axis}) + threadIdx.{axis})"
                ):
                    index[axis] = (name, declared_type(declaration))
    if {"blockIdx.z", "threadIdx.z", "gridDim.z"} & {text(n) for n in find(kernel.body, "field_expression")}:
        return None  # a batch, which the new grid would lose
    if set(index) != {"x", "y"} or top[2].type != "if_statement":
        return None
    if top[2].child_by_field_name("alternative") is not None:
        return None
    column, row = index["x"][0], index["y"][0]
    condition = strip(field(top[2], "condition"))
    consequence = statements(field(top[2], "consequence"))
    if condition.type != "binary_expression" or index["x"][1] != index["y"][1]:
        return None
    wanted = "<" if operator(condition) == "&&" else ">="
    bounds: dict[str, Node] = {}
    for side in ("left", "right"):
        test = strip(field(condition, side))
        if test.type != "binary_expression" or operator(test) != wanted:
            return None
        bounds[text(strip(field(test, "left")))] = field(test, "right")
    if set(bounds) != {column, row}:
        return None
    if operator(condition) == "&&" and len(top) == 3:
        body = consequence
    elif operator(condition) == "||" and [s.type for s in consequence] == ["return_statement"]:
        body = top[3:]
    else:
        return None
    loops = [(i, loop) for i, s in enumerate(body) if (loop := counted_loop(s)) is not None]
    if len(loops) != 1 or any(leaves_early(s) for s in body) or {row, column} & written(kernel.body):
        return None
    place, loop = loops[0]
    multiplied = _multiplied(unit, kernel, loop)
    if multiplied is None:
        return None
    total, left, right = multiplied
    found = [d for s in body[:place] for d in declarations(s, total)]
    dependence = [_depends(unit, kernel, operand) & {row, column} for operand in (left, right)]
    if len(found) != 1 or found[0][2] is None or dependence not in ([{row}, {column}], [{column}, {row}]):
        return None
    if any(total in written(s) for s in body[:place]):
        return None
    by_row_first = dependence[0] == {row}
    return Product(
        column, row, index["x"][1], bounds, top[0], top[-1], body[:place], loop, body[place + 1 :], total,
        declared_type(found[0][1]), *((left, right) if by_row_first else (right, left)), by_row_first,
    )  # fmt: skip


def _multiplied(unit: Unit, kernel: Function, loop: Loop) -> tuple[str, Node, Node] | None:
    """(sum, a, b) of a loop whose body is only sum += a * b, in any of its spellings, with a and b array elements."""
    body = loop.statements
    if loop.step is not None or canonical(unit, kernel, loop.start) != "0" or len(body) != 1:
        return None
    statement = body[0].named_children[0] if body[0].type == "expression_statement" else body[0]
    if statement.type != "assignment_expression":
        return None
    total, right = text(field(statement, "left")), strip(field(statement, "right"))
    product: Node | None = None
    if operator(statement) == "+=":
        product = right
    elif operator(statement) == "=" and right.type == "binary_expression" and operator(right) == "+":
        sides = [strip(field(right, side)) for side in ("left", "right")]
        if text(sides[0]) == total:
            product = sides[1]
        elif text(sides[1]) == total:
            product = sides[0]
    elif operator(statement) == "=" and right.type == "call_expression" and callee(right) in ("fmaf", "__fmaf_rn"):
        a, b, c = arguments(right)
        return (total, strip(a), strip(b)) if text(c) == total and _element(kernel, a) and _element(kernel, b) else None
    if product is None or product.type != "binary_expression" or operator(product) != "*":
        return None
    left, right = strip(field(product, "left")), strip(field(product, "right"))
    return (total, left, right) if _element(kernel, left) and _element(kernel, right) else None


def _element(kernel: Function, node: Node) -> Node | None:
    """The subscript of a global array that an operand is, perhaps through __ldg."""
    node = strip(node)
    if node.type == "call_expression" and callee(node) == "__ldg" and len(arguments(node)) == 1:
        node = strip(strip(arguments(node)[0]).named_children[0])
    if node.type != "subscript_expression" or field(node, "argument").type != "identifier":
        return None
    return node if element_type(kernel, text(field(node, "argument"))) is not None else None


def _depends(unit: Unit, kernel: Function, node: Node, depth: int = 0) -> frozenset[str]:
    """Names that an expression depends on, through the variables that it is computed from."""
    names = identifiers(node)
    for name in tuple(names):
        inner = definition(unit, kernel, name)
        if inner is not None and depth < 8:
            names |= _depends(unit, kernel, inner, depth + 1)
    return names


def _inlined(unit: Unit, kernel: Function, node: Node, names: dict[str, str], inside: tuple[Node, ...]) -> str | None:
    """The expression's text with names replaced, and variables declared in `inside` replaced by what they stand for."""
    replaced = dict(names)
    for name in identifiers(node) - set(names):
        if any(True for s in inside for _ in declarations(s, name)):
            inner = definition(unit, kernel, name)
            code = _inlined(unit, kernel, inner, names, inside) if inner is not None else None
            if code is None:
                return None
            replaced[name] = f"({code})"
    return substitute(node, replaced)


def _is_contiguous(unit: Unit, kernel: Function, operand: Node, variable: str) -> bool:
    """Whether neighbouring values of the variable are neighbouring elements."""
    element = _element(kernel, operand)
    assert element is not None
    index = field(element, "indices").named_children[0]
    return any(term.type == "identifier" and text(term) == variable for term in terms(index))


def _edits(
    unit: Unit, kernel: Function, launch: Launch, found: Product, each: int, depth: int
) -> tuple[Edit, ...] | None:
    names = {
        name: fresh(unit, name)
        for name in (
            "TILE_THREADS", "TILE_EACH", "TILE_DEPTH", "tile", "thread", "first_row", "first_column", "first_product",
            "totals", "row_values", "column_values", "padding", "loads", "load", "e", "d", "r", "c",
        )
    }  # fmt: skip
    vector = vector_type(unit)
    names["Vector"] = vector.name
    bound = _inlined(unit, kernel, found.loop.bound, {}, found.before)
    row = _operand(unit, kernel, found, found.by_row, found.before)
    column = _operand(unit, kernel, found, found.by_column, found.before)
    launch_edits = _launch_edits(unit, kernel, launch, found, names["TILE_THREADS"], names["TILE_EACH"])
    if bound is None or row is None or column is None or launch_edits is None:
        return None
    factors = ["row_values.lane[r]", "column_values.lane[c]"]
    product = " * ".join(factors if found.by_row_first else reversed(factors))
    values = {
        "INDEX": found.type, "COUNT": found.loop.type, "SUM": found.total_type,
        "K": found.loop.variable, "BOUND": bound,
        "ROW": found.row, "ROWS": text(found.bounds[found.row]), "A": row.tile, "A_TYPE": row.type, "A_CODE": row.code,
        "COLUMN": found.column, "COLUMNS": text(found.bounds[found.column]), "B": column.tile, "B_TYPE": column.type,
        "B_CODE": column.code, "KERNEL": kernel.name, "EACH": str(each), "DEPTH": str(depth),
        "A_LINE": LINE[row.is_contiguous], "A_PLACE": PLACE[row.is_contiguous],
        "B_LINE": LINE[column.is_contiguous], "B_PLACE": PLACE[column.is_contiguous],
    }  # fmt: skip
    code = filled(BODY.replace("PRODUCT", product), names, values)
    before, after = ("\n".join(dedented(s) for s in part) for part in (_needed(found), found.after))
    output = f"{before}\n{found.total} += {filled('totals[r][c]', names, values)};\n{after}".strip()
    code = code.replace(" " * 12 + "OUTPUT", indented(output, " " * 12))
    start = kernel.first.start_byte
    return (
        *vector.edits,
        Edit(start, start, filled(CONSTANTS, names, values)),
        Edit(found.first.start_byte, found.last.end_byte, indented(code, indentation(found.first)).lstrip()),
        *launch_edits,
    )


CONSTANTS = """\
// Tiles of KERNEL: TILE_THREADS x TILE_THREADS threads, each with TILE_EACH x TILE_EACH outputs.
// tunable: TILE_EACH = 1, 2, 4, 8
// tunable: TILE_DEPTH = 8, 16, 32
constexpr int TILE_THREADS = 16;
constexpr int TILE_EACH = EACH;
constexpr int TILE_DEPTH = DEPTH;

"""

# Which line (row or column) and which place along the product an element of a tile has, so that neighbouring threads
# load neighbouring elements: by whether the operand is contiguous along the product.
LINE = {True: "e / TILE_DEPTH", False: "e % tile"}
PLACE = {True: "e % TILE_DEPTH", False: "e / tile"}

BODY = """\
constexpr int tile = TILE_THREADS * TILE_EACH;
constexpr int padding = TILE_EACH < 4 ? 4 : TILE_EACH;  // spreads a column over the banks, keeps vectors aligned
constexpr int loads = (tile * TILE_DEPTH + TILE_THREADS * TILE_THREADS - 1) / (TILE_THREADS * TILE_THREADS);
__shared__ alignas(sizeof(Vector<A_TYPE, TILE_EACH>)) A_TYPE A[TILE_DEPTH][tile + padding];
__shared__ alignas(sizeof(Vector<B_TYPE, TILE_EACH>)) B_TYPE B[TILE_DEPTH][tile + padding];
const unsigned int thread = threadIdx.y * TILE_THREADS + threadIdx.x;
const INDEX first_row = blockIdx.y * tile;
const INDEX first_column = blockIdx.x * tile;
SUM totals[TILE_EACH][TILE_EACH] = {};
for (COUNT first_product = 0; first_product < BOUND; first_product += TILE_DEPTH) {
    #pragma unroll
    for (int load = 0; load < loads; ++load) {
        const unsigned int e = thread + load * TILE_THREADS * TILE_THREADS;
        if (tile * TILE_DEPTH % (TILE_THREADS * TILE_THREADS) == 0 || e < tile * TILE_DEPTH) {
            const INDEX ROW = first_row + A_LINE;
            const COUNT K = first_product + A_PLACE;
            A[A_PLACE][A_LINE] = ROW < ROWS && K < BOUND ? A_CODE : A_TYPE(0);
        }
    }
    #pragma unroll
    for (int load = 0; load < loads; ++load) {
        const unsigned int e = thread + load * TILE_THREADS * TILE_THREADS;
        if (tile * TILE_DEPTH % (TILE_THREADS * TILE_THREADS) == 0 || e < tile * TILE_DEPTH) {
            const INDEX COLUMN = first_column + B_LINE;
            const COUNT K = first_product + B_PLACE;
            B[B_PLACE][B_LINE] = COLUMN < COLUMNS && K < BOUND ? B_CODE : B_TYPE(0);
        }
    }
    __syncthreads();
    #pragma unroll 4
    for (int d = 0; d < TILE_DEPTH; ++d) {
        const auto row_values = reinterpret_cast<const Vector<A_TYPE, TILE_EACH>*>(A[d])[threadIdx.y];
        const auto column_values = reinterpret_cast<const Vector<B_TYPE, TILE_EACH>*>(B[d])[threadIdx.x];
        #pragma unroll
        for (int r = 0; r < TILE_EACH; ++r) {
            #pragma unroll
            for (int c = 0; c < TILE_EACH; ++c) {
                totals[r][c] += PRODUCT;
            }
        }
    }
    __syncthreads();
}
#pragma unroll
for (int r = 0; r < TILE_EACH; ++r) {
    #pragma unroll
    for (int c = 0; c < TILE_EACH; ++c) {
        const INDEX ROW = first_row + threadIdx.y * TILE_EACH + r;
        const INDEX COLUMN = first_column + threadIdx.x * TILE_EACH + c;
        if (ROW < ROWS && COLUMN < COLUMNS) {
            OUTPUT
        }
    }
}"""


def filled(template: str, names: Mapping[str, str], values: Mapping[str, str]) -> str:
    """The template with each word that is a name or a placeholder replaced, once."""
    # A_LINE and the like are made of words themselves, so values come first and names apply to them too, but not to
    # what comes from the source.
    template = "".join(values[w] if w.endswith(("_LINE", "_PLACE")) and w in values else w for w in words(template))
    return "".join(names.get(w, values.get(w, w)) for w in words(template))


def words(code: str) -> list[str]:
    """The code cut into identifiers and everything between them."""
    return [("".join(group)) for _, group in itertools.groupby(code, lambda c: c.isalnum() or c == "_")]


@dataclass(frozen=True, slots=True)
class Operand:
    """One factor of the product and its tile."""

    code: str  # the element, with variables that only the old body knew spelled out
    tile: str  # name of the shared array
    type: str
    is_contiguous: bool  # along the product


def _operand(unit: Unit, kernel: Function, found: Product, node: Node, inside: tuple[Node, ...]) -> Operand | None:
    element = _element(kernel, node)
    if element is None:
        return None
    array = text(field(element, "argument"))
    code = _inlined(unit, kernel, node, {}, inside)
    type_ = element_type(kernel, array)
    if code is None or type_ is None:
        return None
    contiguous = _is_contiguous(unit, kernel, node, found.loop.variable)
    return Operand(code, fresh(unit, f"{array}_tile"), type_, contiguous)


def _needed(found: Product) -> list[Node]:
    """The statements before the loop without declarations that only the loop used."""
    kept: list[Node] = []
    for statement in reversed(found.before):
        names = {name for name, _, _ in declarations(statement)}
        later = {n for s in (*kept, *found.after) for n in identifiers(s)} | {found.total}
        if statement.type != "declaration" or names & later:
            kept.insert(0, statement)
    return kept


def _launch_edits(
    unit: Unit, kernel: Function, launch: Launch, found: Product, threads: str, each: str
) -> list[Edit] | None:
    """The new grid and block: in the dim3 variables that the launch names, or in the launch itself."""
    given = {p.name: atom(a) for p, a in zip(kernel.parameters, launch.arguments, strict=True)}
    sizes = []
    for index in (found.column, found.row):
        bound = found.bounds[index]
        if identifiers(bound) - set(given):
            return None
        sizes.append(f"({substitute(bound, given)} + {threads} * {each} - 1) / ({threads} * {each})")
    edits = []
    for position, new in ((0, ", ".join(sizes)), (1, f"{threads}, {threads}")):
        node = strip(launch.configuration[position])
        declared = list(declarations(launch.host.body, text(node))) if node.type == "identifier" else []
        uses = [n for n in find(launch.host.body, "identifier") if text(n) == text(node)]
        value = declared[0][2] if len(declared) == 1 else None
        only = all(contains(launch.node, n) or contains(declared[0][1], n) or _in_grid(launch, n) for n in uses) if (
            declared
        ) else False  # fmt: skip
        if value is not None and value.type == "argument_list" and only:
            edits.append(replace(value, f"({new})"))
        else:
            edits.append(replace(launch.configuration[position], f"dim3({new})"))
            edits += unused_after(launch.host, launch.configuration[position : position + 1])
    return edits


def _in_grid(launch: Launch, node: Node) -> bool:
    """Whether a node stands in the declaration of the launch's grid variable, which is about to be replaced."""
    grid = strip(launch.configuration[0])
    return any(contains(d, node) for _, d, _ in declarations(launch.host.body, text(grid)))


RULE = Rule(name="tile", weight=10.0, sites=sites)
