"""A thread's inner product over global memory becomes a product of tiles staged in shared memory.

    for (k = 0; k < K; ++k) sum += a[row, k] * b[column, k]

in a kernel with one output element per thread of a two-dimensional grid. Each block then loads every operand once per
tile instead of once per output; each thread computes `each` x `each` outputs, so that a value from shared memory serves
several products. Rows, columns and products beyond the end are loaded as zero and not stored.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tree_sitter import Node

from kernelevo.models.rewrites.rule import Rule, Site
from kernelevo.models.rewrites.shapes import array_type, element_type
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
    pragma_of,
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
    if set(index) != {"x", "y"} or top[2].type != "if_statement" or top[2].child_by_field_name("alternative") is not None:
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


def _depends(unit: Unit, kernel: Function, node: Node, depth: int = 0) -> set[str]:
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
    name = {n: fresh(unit, n) for n in ("TILE_THREADS", "TILE_EACH", "TILE_DEPTH", "tile", "thread", "first_row",
                                        "first_column", "first_product", "totals")}  # fmt: skip
    loads = []
    arrays = []
    for operand, index, first in (
        (found.by_row, found.row, name["first_row"]),
        (found.by_column, found.column, name["first_column"]),
    ):
        element = _element(kernel, operand)
        assert element is not None
        array = text(field(element, "argument"))
        staged = fresh(unit, f"{array}_tile")
        if _is_contiguous(unit, kernel, operand, found.loop.variable):
            split = (f"e / {name['TILE_DEPTH']}", f"e % {name['TILE_DEPTH']}")
        else:
            split = (f"e % {name['tile']}", f"e / {name['tile']}")
        code = _inlined(unit, kernel, operand, {}, (*found.before,))
        bound = _inlined(unit, kernel, found.loop.bound, {}, (*found.before,))
        type_ = array_type(kernel, array) if kernel.parameter(array) else element_type(kernel, array)
        if code is None or bound is None or type_ is None or "e" in identifiers(operand):
            return None
        arrays.append((staged, type_))
        k = found.loop.variable
        loads.append(
            f"for (int e = {name['thread']}; e < {name['tile']} * {name['TILE_DEPTH']}; "
            f"e += {name['TILE_THREADS']} * {name['TILE_THREADS']}) {{\n"
            f"    const {found.type} {index} = {first} + {split[0]};\n"
            f"    const {found.loop.type} {k} = {name['first_product']} + {split[1]};\n"
            f"    {staged}[{split[1]}][{split[0]}] = {index} < {text(found.bounds[index])} && {k} < {bound}"
            f" ? {code} : {type_}(0);\n}}"
        )
    (row_tile, row_type), (column_tile, column_type) = arrays
    product = "row_values[r] * column_values[c]" if found.by_row_first else "column_values[c] * row_values[r]"
    bound = _inlined(unit, kernel, found.loop.bound, {}, (*found.before,))
    threads, per_thread, tile = name["TILE_THREADS"], name["TILE_EACH"], name["tile"]
    before, after = ("\n".join(dedented(s) for s in part) for part in (_needed(found), found.after))
    inner = indented(f"{before}\n{found.total} += {name['totals']}[r][c];\n{after}", " " * 12)
    padding = f"{name['tile']} + 32 / {name['TILE_DEPTH']}"
    new = f"""\
constexpr int {tile} = {threads} * {per_thread};
__shared__ {row_type} {row_tile}[{name['TILE_DEPTH']}][{padding}];
__shared__ {column_type} {column_tile}[{name['TILE_DEPTH']}][{padding}];
const int {name['thread']} = threadIdx.y * {threads} + threadIdx.x;
const {found.type} {name['first_row']} = blockIdx.y * {tile};
const {found.type} {name['first_column']} = blockIdx.x * {tile};
{found.total_type} {name['totals']}[{per_thread}][{per_thread}] = {{}};
for ({found.loop.type} {name['first_product']} = 0; {name['first_product']} < {bound}; \
{name['first_product']} += {name['TILE_DEPTH']}) {{
{indented(loads[0], '    ')}
{indented(loads[1], '    ')}
    __syncthreads();
    #pragma unroll
    for (int d = 0; d < {name['TILE_DEPTH']}; ++d) {{
        {row_type} row_values[{per_thread}];
        {column_type} column_values[{per_thread}];
        #pragma unroll
        for (int t = 0; t < {per_thread}; ++t) {{
            row_values[t] = {row_tile}[d][threadIdx.y + t * {threads}];
            column_values[t] = {column_tile}[d][threadIdx.x + t * {threads}];
        }}
        #pragma unroll
        for (int r = 0; r < {per_thread}; ++r) {{
            #pragma unroll
            for (int c = 0; c < {per_thread}; ++c) {{
                {name['totals']}[r][c] += {product};
            }}
        }}
    }}
    __syncthreads();
}}
#pragma unroll
for (int r = 0; r < {per_thread}; ++r) {{
    #pragma unroll
    for (int c = 0; c < {per_thread}; ++c) {{
        const {found.type} {found.row} = {name['first_row']} + threadIdx.y + r * {threads};
        const {found.type} {found.column} = {name['first_column']} + threadIdx.x + c * {threads};
        if ({found.row} < {text(found.bounds[found.row])} && {found.column} < {text(found.bounds[found.column])}) {{
{inner}
        }}
    }}
}}"""
    constants = f"""\
// Tiles of {kernel.name}: {threads} x {threads} threads, each with {per_thread} x {per_thread} outputs.
// tunable: {per_thread} = 1, 2, 4, 8
// tunable: {name['TILE_DEPTH']} = 8, 16, 32
constexpr int {threads} = 16;
constexpr int {per_thread} = {each};
constexpr int {name['TILE_DEPTH']} = {depth};

"""
    launch_edits = _launch_edits(unit, kernel, launch, found, threads, per_thread)
    if launch_edits is None:
        return None
    margin = indentation(found.first)
    start = kernel.outer.start_byte
    return (
        Edit(start, start, constants),
        Edit(found.first.start_byte, found.last.end_byte, indented(new, margin).lstrip()),
        *launch_edits,
    )


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
    return edits


def _in_grid(launch: Launch, node: Node) -> bool:
    """Whether a node stands in the declaration of the launch's grid variable, which is about to be replaced."""
    grid = strip(launch.configuration[0])
    return any(contains(d, node) for _, d, _ in declarations(launch.host.body, text(grid)))


RULE = Rule(name="tile", weight=10.0, sites=sites)
