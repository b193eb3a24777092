"""A small run-time bound of nested loops becomes a template argument for its likely values.

The compiler then unrolls the loops completely. Other values take the instance that reads the bound at run time.
"""

from __future__ import annotations

from collections.abc import Iterator

from kernelevo.models.rewrites.rule import Rule, Site
from kernelevo.models.rewrites.shapes import Partition, partition
from kernelevo.models.rewrites.syntax import (
    Edit,
    Function,
    Unit,
    dedented,
    find,
    fresh,
    identifiers,
    indentation,
    indented,
    is_integer_type,
    loops,
    replace,
    strip,
    text,
    written,
)

VALUES = (3, 5, 7)  # of windows and filters


def sites(unit: Unit) -> Iterator[Site]:
    """One site per kernel and parameter that bounds two loops, one inside the other."""
    for kernel in unit.kernels:
        if kernel.outer != kernel.node:
            continue  # a template already
        for parameter in kernel.parameters:
            nested = [
                (outer, inner)
                for outer in loops(kernel)
                for inner in loops(kernel)
                if outer is not inner
                and outer.body.start_byte <= inner.node.start_byte < outer.body.end_byte
                and all(text(strip(loop.bound)) == parameter.name for loop in (outer, inner))
                and all(partition(unit, kernel, loop) is Partition.NONE for loop in (outer, inner))
            ]
            plain = is_integer_type(parameter.type) and not parameter.is_pointer
            if nested and plain and parameter.name not in written(kernel.body):
                edits = _edits(unit, kernel, parameter.name, parameter.type)
                if edits is not None:
                    values = ",".join(map(str, VALUES))
                    yield Site(f"{kernel.name} {parameter.name}={values}", edits)


def _edits(unit: Unit, kernel: Function, name: str, type_: str) -> tuple[Edit, ...] | None:
    fixed, given = fresh(unit, f"fixed_{name}"), fresh(unit, f"{name}_at_run_time")
    position = [p.name for p in kernel.parameters].index(name)
    parameter = kernel.parameters[position]
    declared = next(n for n in find(parameter.node, "identifier") if text(n) == name)
    margin = indentation(kernel.body.named_children[0]) if kernel.body.named_children else "    "
    edits = [
        Edit(kernel.node.start_byte, kernel.node.start_byte, f"template <int {fixed}>  // 0: known at run time only\n"),
        replace(declared, given),
        Edit(
            kernel.body.start_byte + 1,
            kernel.body.start_byte + 1,
            f"\n{margin}const {type_} {name} = {fixed} > 0 ? {fixed} : {given};",
        ),
    ]
    for launch in unit.launches_of(kernel):
        statement = launch.node.parent
        function = launch.node.child_by_field_name("function")
        if statement is None or statement.type != "expression_statement" or function is None:
            return None
        if function.type != "identifier" or len(launch.arguments) != len(kernel.parameters):
            return None
        value = launch.arguments[position]
        if not identifiers(value) or find(value, "call_expression"):
            return None
        call = dedented(statement).removeprefix(kernel.name)
        instances = {v: indented(f"{kernel.name}<{v}>{call}", "    ") for v in (*VALUES, 0)}
        code = "".join(f"if ({text(value)} == {v}) {{\n{instances[v]}\n}} else " for v in VALUES)
        code += f"{{\n{instances[0]}\n}}"
        edits.append(replace(statement, indented(code, indentation(statement)).lstrip()))
    return tuple(edits)


RULE = Rule(name="specialize", weight=6.0, sites=sites)
