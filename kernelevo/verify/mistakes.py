"""The mistakes that people and models make in kernels: one operator each, on the syntax tree of a CUDA source.

An operator takes a node and gives what could stand there instead: (node to replace, text) pairs, often none. KERNEL
holds those for device code, LAUNCH those for where host code sizes and calls it. All are small enough for a kernel to
compile and to be nearly right.

Left out, because a right kernel may do them: fewer threads where the kernel asks blockDim, another order of a sum, a
narrower integer that no size here overflows, `__restrict__` and other promises that change no value.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping

from tree_sitter import Node

Edits = Iterator[tuple[Node, str]]
Operator = Callable[[Node], Edits]

BARRIERS = ("__syncthreads", "__syncwarp", "__threadfence")
OTHER_FUNCTION = {
    **{"fmaxf": "fminf", "fminf": "fmaxf", "max": "min", "min": "max", "fmax": "fmin", "fmin": "fmax"},
    **{"expf": "exp2f", "__expf": "exp2f", "exp2f": "expf", "logf": "log2f", "__logf": "__log2f", "log2f": "logf"},
    **{"sqrtf": "cbrtf", "rsqrtf": "sqrtf", "erff": "tanhf", "tanhf": "erff", "fabsf": "floorf"},
    **{"__shfl_down_sync": "__shfl_up_sync", "__shfl_xor_sync": "__shfl_down_sync"},
    **{"atomicAdd": "atomicExch", "atomicMax": "atomicMin", "atomicMin": "atomicMax"},
}
DROPPABLE = ("sqrtf", "rsqrtf", "fabsf", "expf", "exp2f", "logf", "erff", "tanhf", "__expf", "__logf", "log2f")
SHUFFLES = ("__shfl_sync", "__shfl_down_sync", "__shfl_up_sync", "__shfl_xor_sync")
FLIPPED = {"<": ">=", ">": "<=", "<=": ">", ">=": "<", "==": "!=", "!=": "=="}


def drop_barrier(node: Node) -> Edits:
    if node.type == "expression_statement" and text(node).startswith(BARRIERS):
        yield node, ";"


def bound_too_small(node: Node) -> Edits:
    """i < n -> i < n - 1, i >= n -> i >= n - 1; the other way for > and <=."""
    if operator(node) in ("<", ">=") and not _is_shift(node):
        yield node, f"{left(node)} {operator(node)} {right(node)} - 1"
    elif operator(node) in (">", "<="):
        yield node, f"{left(node)} {operator(node)} {right(node)} {'+' if operator(node) == '>' else '-'} 1"


def bound_too_large(node: Node) -> Edits:
    """i < n -> i <= n, i >= n -> i > n."""
    changed = {"<": "<=", "<=": "<", ">": ">=", ">=": ">"}
    if operator(node) in changed and not _is_shift(node):
        yield node, f"{left(node)} {changed[operator(node)]} {right(node)}"


def flip_comparison(node: Node) -> Edits:
    """In loops this would end them at once or never; dropping the loop is another mistake."""
    if operator(node) in FLIPPED and not _is_shift(node) and not (node.parent and node.parent.type == "for_statement"):
        yield node, f"{left(node)} {FLIPPED[operator(node)]} {right(node)}"


def drop_guard(node: Node) -> Edits:
    """if (i < n) -> if (true); an early return -> none."""
    if node.type == "if_statement" and node.child_by_field_name("alternative") is None:
        condition, body = node.child_by_field_name("condition"), node.child_by_field_name("consequence")
        if condition is not None and body is not None:
            returns = text(body).strip("{} \n").startswith("return")
            yield condition, "(false)" if returns else "(true)"


def drop_condition(node: Node) -> Edits:
    if operator(node) in ("&&", "||"):
        yield node, left(node)
        yield node, right(node)


def drop_term(node: Node) -> Edits:
    if operator(node) in ("+", "-") and not _is_step(node):
        yield node, left(node)


def confuse_signs(node: Node) -> Edits:
    if operator(node) in ("+", "-") and not is_index(node):
        yield node, f"{left(node)} {'-' if operator(node) == '+' else '+'} {right(node)}"


def swap_operands(node: Node) -> Edits:
    if operator(node) in ("-", "/") and not is_index(node):
        yield node, f"({right(node)}) {operator(node)} ({left(node)})"


def drop_factor(node: Node) -> Edits:
    if operator(node) in ("*", "/") and not is_index(node):
        yield node, left(node)


def confuse_division(node: Node) -> Edits:
    """Index arithmetic: i / width -> i % width and the reverse."""
    if operator(node) in ("/", "%") and is_index(node):
        yield node, f"{left(node)} {'%' if operator(node) == '/' else '/'} {right(node)}"


def wrong_stride(node: Node) -> Edits:
    """Index arithmetic: row * cols -> row * (cols + 1)."""
    if operator(node) == "*" and is_index(node):
        yield node, f"{left(node)} * ({right(node)} + 1)"


def neighbour(node: Node) -> Edits:
    """x[i] -> x[i + 1]"""
    if node.type == "subscript_argument_list" and len(node.named_children) == 1:
        index = node.named_children[0]
        yield index, f"{text(index)} + 1"


def confuse_function(node: Node) -> Edits:
    name = callee(node)
    if name in OTHER_FUNCTION:
        yield node, OTHER_FUNCTION[name] + text(node)[len(name) :]


def drop_function(node: Node) -> Edits:
    if callee(node) in DROPPABLE and len(arguments(node)) == 1:
        yield node, f"({text(arguments(node)[0])})"


def drop_argument(node: Node) -> Edits:
    """fmaxf(a, b) -> a: a clamp or a running maximum forgotten."""
    if callee(node) in ("fmaxf", "fminf", "max", "min", "fmax", "fmin") and len(arguments(node)) == 2:
        yield node, f"({text(arguments(node)[0])})"
        yield node, f"({text(arguments(node)[1])})"


def keep_only_the_last(node: Node) -> Edits:
    if operator(node) == "+=" and not _is_step(node) and not is_index(node):
        yield node, f"{left(node)} = {right(node)}"


def half_accumulator(node: Node) -> Edits:
    if operator(node) == "+=" and not _is_step(node) and not is_index(node):
        yield node, f"{left(node)} = __half2float(__float2half({left(node)} + ({right(node)})))"


def wrong_constant(node: Node) -> Edits:
    """A floating constant that is off by one percent, or not quite zero."""
    literal = text(node).lower()
    if node.type == "number_literal" and literal.endswith("f") and literal[:2] != "0x" and not is_index(node):
        value = float(literal.rstrip("f"))
        yield node, f"{value * 1.01 if value else 0.01:.6g}f"


def wrong_start(node: Node) -> Edits:
    """A maximum that starts at zero; a sum that starts at one."""
    value = node.child_by_field_name("value")
    if node.type == "init_declarator" and value is not None and not is_index(value):
        if "INFINITY" in text(value) or "FLT_MAX" in text(value):
            yield value, "0.0f"
        elif text(value) in ("0.0f", "0.f", "0.0"):
            yield value, "1.0f"


def late_start(node: Node) -> Edits:
    """for (int i = threadIdx.x; ...) -> for (int i = threadIdx.x + 1; ...)"""
    if node.type == "init_declarator" and node.parent is not None and node.parent.parent is not None:
        loop, value = node.parent.parent, node.child_by_field_name("value")
        if loop.type == "for_statement" and value is not None:
            yield value, f"{text(value)} + 1"


def wrong_step(node: Node) -> Edits:
    if node.parent is not None and node.parent.type == "for_statement":
        if node.type == "assignment_expression" and operator(node) in ("+=", "-="):
            yield node, f"{left(node)} {operator(node)} {right(node)} + 1"
        elif node.type == "assignment_expression" and operator(node) in ("/=", "*=", ">>=", "<<="):
            yield node, f"{left(node)} {operator(node)} {right(node)} * 2"
        elif node.type == "update_expression":
            name = text(node.child_by_field_name("argument"))
            yield node, f"{name} += 2" if "++" in text(node) else f"{name} -= 2"


def confuse_axis(node: Node) -> Edits:
    """threadIdx.x -> threadIdx.y or blockIdx.x, and the like. Not blockDim: many launches have square blocks."""
    base, _, axis = text(node).partition(".")
    if node.type == "field_expression" and base in ("threadIdx", "blockIdx") and axis in ("x", "y"):
        yield node, f"{base}.{'y' if axis == 'x' else 'x'}"
        yield node, f"{'blockIdx' if base == 'threadIdx' else 'threadIdx'}.{axis}"


def wrong_pointer(node: Node) -> Edits:
    """weight[i] -> x[i]: one input where another was meant."""
    if node.type != "subscript_expression" or _is_written(node):
        return
    base = node.child_by_field_name("argument")
    pointers = _pointers(node)
    if base is not None and text(base) in pointers:
        kind = pointers[text(base)]
        others = [name for name, other in pointers.items() if other == kind and name != text(base)]
        if others:
            names = list(pointers)
            yield base, min(others, key=lambda name: abs(names.index(name) - names.index(text(base))))


def drop_atomic(node: Node) -> Edits:
    """atomicAdd(p, v) -> *p += v"""
    if callee(node) == "atomicAdd" and len(arguments(node)) == 2:
        place, value = (text(argument) for argument in arguments(node))
        yield node, f"*({place}) += {value}"


def wrong_shuffle(node: Node) -> Edits:
    """A lane beside the one that was meant."""
    if callee(node) in SHUFFLES and len(arguments(node)) >= 3:
        lane = arguments(node)[2]
        yield lane, f"({text(lane)}) + 1"


def wrong_mask(node: Node) -> Edits:
    """A shuffle or vote that leaves half of the warp out."""
    if callee(node).endswith("_sync") and len(arguments(node)) > 1:
        mask = arguments(node)[0]
        yield mask, f"({text(mask)} & 0x0000ffff)"


def drop_statement(node: Node) -> Edits:
    """An assignment or an update through a pointer that is not made."""
    if node.type == "expression_statement" and node.named_children:
        inner = node.named_children[0]
        if inner.type == "assignment_expression" or callee(inner).startswith("atomic"):
            yield node, ";"


def skip_the_tail(node: Node) -> Edits:
    """(n + threads - 1) / threads -> n / threads, but at least one block."""
    if operator(node) == "/" and "+" in left(node) and "- 1" in left(node):
        count, threads = left(node).strip("()").split("+")[0].strip(), right(node)
        yield node, f"({count} < {threads} ? 1 : {count} / {threads})"


def too_few_blocks(node: Node) -> Edits:
    """One block less, where there is more than one."""
    if node.type == "kernel_call_syntax" and node.named_children:
        grid = node.named_children[0]
        if grid.type == "identifier" and text(grid) not in _dim3s(node):
            yield grid, f"({text(grid)} > 1 ? {text(grid)} - 1 : 1)"


def swap_arguments(node: Node) -> Edits:
    """Neighbouring arguments of a launch that have the same form."""
    if node.type == "call_expression" and any(child.type == "kernel_call_syntax" for child in node.children):
        given = arguments(node)
        for one, two in itertools.pairwise(given):
            if _form(one) == _form(two):
                span = node.child_by_field_name("arguments")
                if span is not None and span.text is not None:
                    begin, middle = one.start_byte - span.start_byte, one.end_byte - span.start_byte
                    again, end = two.start_byte - span.start_byte, two.end_byte - span.start_byte
                    whole = span.text
                    swapped = whole[:begin] + (two.text or b"") + whole[middle:again] + (one.text or b"") + whole[end:]
                    yield span, swapped.decode()


KERNEL: Mapping[str, Operator] = {
    "drop barrier": drop_barrier,
    "bound too small": bound_too_small,
    "bound too large": bound_too_large,
    "flip comparison": flip_comparison,
    "drop guard": drop_guard,
    "drop condition": drop_condition,
    "drop term": drop_term,
    "confuse + and -": confuse_signs,
    "swap operands": swap_operands,
    "drop factor": drop_factor,
    "confuse / and %": confuse_division,
    "wrong stride": wrong_stride,
    "neighbour's element": neighbour,
    "confuse function": confuse_function,
    "drop function": drop_function,
    "drop argument": drop_argument,
    "keep only the last": keep_only_the_last,
    "half accumulator": half_accumulator,
    "wrong constant": wrong_constant,
    "wrong start value": wrong_start,
    "late start": late_start,
    "wrong step": wrong_step,
    "confuse axis": confuse_axis,
    "wrong pointer": wrong_pointer,
    "drop atomic": drop_atomic,
    "wrong shuffle": wrong_shuffle,
    "wrong mask": wrong_mask,
    "drop statement": drop_statement,
}
LAUNCH: Mapping[str, Operator] = {
    "skip the tail": skip_the_tail,
    "too few blocks": too_few_blocks,
    "swap arguments": swap_arguments,
}


# --- reading the tree -----------------------------------------------------------------------------------------------


def text(node: Node | None) -> str:
    return node.text.decode() if node is not None and node.text is not None else ""


def operator(node: Node) -> str:
    """Of a binary or an assignment expression, else ""."""
    kinds = ("binary_expression", "assignment_expression")
    return text(node.child_by_field_name("operator")) if node.type in kinds else ""


def left(node: Node) -> str:
    return text(node.child_by_field_name("left"))


def right(node: Node) -> str:
    return text(node.child_by_field_name("right"))


def callee(node: Node) -> str:
    """Name of the called function, else ""."""
    return text(node.child_by_field_name("function")) if node.type == "call_expression" else ""


def arguments(node: Node) -> list[Node]:
    inside = node.child_by_field_name("arguments")
    return [child for child in inside.named_children if child.type != "comment"] if inside is not None else []


def is_index(node: Node) -> bool:
    """True inside a subscript, an integer declaration, a pointer offset or the head of a loop."""
    parent: Node | None = node
    while parent is not None and parent.type not in ("compound_statement", "function_definition"):
        if parent.type == "subscript_argument_list":
            return True
        if parent.type == "for_statement":
            body = parent.child_by_field_name("body")
            return body is None or not (body.start_byte <= node.start_byte and node.end_byte <= body.end_byte)
        if parent.type == "declaration":
            kind = text(parent.child_by_field_name("type"))
            return kind not in ("float", "double") or "*" in text(parent).split("=")[0]
        parent = parent.parent
    return False


def _is_step(node: Node) -> bool:
    """Whether an assignment is the step of a loop."""
    return node.parent is not None and node.parent.type == "for_statement" and node.type == "assignment_expression"


def _is_shift(node: Node) -> bool:
    return "<<" in left(node)


def _is_written(node: Node) -> bool:
    parent = node.parent
    return parent is not None and parent.type == "assignment_expression" and text(node) == left(parent)


def _function(node: Node) -> Node | None:
    parent: Node | None = node
    while parent is not None and parent.type != "function_definition":
        parent = parent.parent
    return parent


def _pointers(node: Node) -> dict[str, str]:
    """Pointers to read from in the enclosing function: name -> element type, parameters and locals."""
    function = _function(node)
    found: dict[str, str] = {}
    stack = [function] if function is not None else []
    while stack:
        here = stack.pop()
        if here.type in ("parameter_declaration", "declaration") and here.start_byte < node.start_byte:
            declarator = here.child_by_field_name("declarator")
            if declarator is not None and declarator.type == "init_declarator":
                declarator = declarator.child_by_field_name("declarator")
            if declarator is not None and declarator.type == "pointer_declarator" and "const" in text(here):
                names = [child for child in declarator.named_children if child.type == "identifier"]
                if names:
                    found[text(names[-1])] = text(here.child_by_field_name("type"))
        stack += reversed(here.children)
    return found


def _dim3s(node: Node) -> set[str]:
    """Variables of type dim3 in the enclosing function: not numbers."""
    function = _function(node)
    found: set[str] = set()
    stack = [function] if function is not None else []
    while stack:
        here = stack.pop()
        if here.type == "declaration" and text(here.child_by_field_name("type")) == "dim3":
            found |= {text(child).split("(")[0] for child in here.named_children}
        stack += here.children
    return found


def _form(node: Node) -> str:
    """What makes two arguments interchangeable for a compiler: `a.data_ptr<float>()` twice, or two names."""
    if node.type == "identifier":
        return "name"
    function = node.child_by_field_name("function")
    return f"call of {text(function).partition('.')[2]}" if node.type == "call_expression" and function else text(node)
