"""Another value for a declared tunable: `// tunable: BLOCK = 64, 128, 256` beside `constexpr int BLOCK = 128;`.

A declaration is a comment that ends its line, values in decimal. What it names is a const or constexpr variable, or a
macro, whose value is written as a number. Where the name is defined several times, all of them change together, and
none does where they differ. kernelevo.propose.read_tunables reads the same comments, and refuses a source that declares
too much; tests/test_tune.py compares the two.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from kernelevo.models.rewrites.rule import Rule, Site
from kernelevo.models.rewrites.syntax import Edit, Unit, declarations, find, has_qualifier, integer, text

DECLARED = re.compile(
    r"//[ \t]*+tunable:[ \t]*+([A-Za-z_]\w*+)[ \t]*+=[ \t]*+([0-9]{1,9}+(?:[ \t]*+,[ \t]*+[0-9]{1,9}+)*+)[ \t]*+$",
    re.MULTILINE,
)
MACRO_VALUE = re.compile(r"\(?(\d[\w']*)\)?\s*(?://.*|/\*.*)?$")  # the grammar counts a comment behind it to the value


def sites(unit: Unit) -> Iterator[Site]:
    """One site per declared value that is not the present one: "BLOCK=256"."""
    declared = declared_values(unit.source)
    for name, present in present_values(unit).items():
        for choice in declared[name]:
            if choice != present:
                edits = tuple(Edit(start, end, str(choice)) for start, end, _ in _definitions(unit, name))
                yield Site(f"{name}={choice}", edits)


def declared_values(source: str) -> Mapping[str, tuple[int, ...]]:
    """Name -> values of every declaration, each value once."""
    return {
        name: tuple(dict.fromkeys(int(value) for value in values.split(",")))
        for name, values in DECLARED.findall(source)
    }


def present_values(unit: Unit) -> Mapping[str, int]:
    """Name -> value of every declared tunable that can be changed."""
    found = {name: {value for _, _, value in _definitions(unit, name)} for name in declared_values(unit.source)}
    return {name: value for name, values in found.items() if len(values) == 1 for value in values if value is not None}


def _definitions(unit: Unit, name: str) -> Iterator[tuple[int, int, int | None]]:
    """First byte, end and value of every number that defines the name; None: it is defined as something else."""
    for _, declaration, value in declarations(unit.root, name):
        if value is not None and has_qualifier(declaration, "const", "constexpr"):
            number = integer(text(value)) if value.type == "number_literal" else None
            yield value.start_byte, value.end_byte, number
    for macro in find(unit.root, "preproc_def"):
        defined, value = macro.child_by_field_name("name"), macro.child_by_field_name("value")
        if defined is None or value is None or text(defined) != name:
            continue
        match = MACRO_VALUE.match(text(value))
        if match is None:
            yield value.start_byte, value.end_byte, None
        else:
            start = value.start_byte + match.start(1)  # numbers are ASCII: characters before it are bytes
            yield start, start + len(match[1]), integer(match[1])


RULE = Rule(name="tunable", weight=3.0, sites=sites)
