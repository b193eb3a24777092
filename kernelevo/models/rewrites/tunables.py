"""Another value for a declared tunable: `// tunable: BLOCK = 64, 128, 256` beside `constexpr int BLOCK = 128;`."""

from __future__ import annotations

from collections.abc import Iterator

from kernelevo.models.rewrites.rule import Rule, Site
from kernelevo.models.rewrites.syntax import Unit, declarations, find, has_qualifier, integer, replace, text


def sites(unit: Unit) -> Iterator[Site]:
    """One site per declared value that is not the present one: "BLOCK=256"."""
    declared = dict(_declared(unit))
    for name, declaration, value in declarations(unit.root):
        if name not in declared or value is None or value.type != "number_literal":
            continue
        if has_qualifier(declaration, "const", "constexpr"):
            for choice in declared[name]:
                if choice != integer(text(value)):
                    yield Site(f"{name}={choice}", (replace(value, str(choice)),))


def _declared(unit: Unit) -> Iterator[tuple[str, tuple[int, ...]]]:
    """The lines of comments that declare tunables."""
    for comment in find(unit.root, "comment"):
        head, _, rest = text(comment).partition("tunable:")
        name, _, values = rest.partition("=")
        numbers = [integer(v.strip()) for v in values.split(",")]
        if head.strip() == "//" and name.strip().isidentifier() and None not in numbers:
            yield name.strip(), tuple(n for n in numbers if n is not None)


RULE = Rule(name="tunable", weight=3.0, sites=sites)
