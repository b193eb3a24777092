"""The sources to rewrite, and what the tests of rewrites ask again and again."""

from __future__ import annotations

import random
from pathlib import Path

from kernelevo.models.mutate import RULE_OF, applicable, apply_rewrite
from kernelevo.models.rewrites import RULES, SIMPLIFICATIONS
from kernelevo.models.rewrites.rule import Site
from kernelevo.models.rewrites.syntax import Unit, find, parse
from kernelevo.records import Rewrite

HERE = Path(__file__).parent
TASKS = HERE.parent.parent / "tasks"

SEEDS = {path.parent.name: path.read_text() for path in sorted(TASKS.glob("*/seed.cu"))}
SAMPLES = {path.stem: path.read_text() for path in sorted((HERE / "samples").glob("*.cu"))}
SOURCES = {**SEEDS, **SAMPLES}

ALL_RULES = (*RULES, *SIMPLIFICATIONS)


def sites(name: str, source: str) -> dict[str, Site]:
    """argument -> site, for the rule of that name."""
    return {site.argument: site for site in RULE_OF[name].sites(parse(source))}


def rewritten(source: str, *steps: str) -> str:
    """The source after "name(argument)" or "name" steps, each of which must apply."""
    for step in steps:
        name, _, rest = step.partition("(")
        result = apply_rewrite(source, Rewrite(name=name, argument=rest.removesuffix(")")))
        assert result is not None, f"{step} does not apply; {name} applies to {list(sites(name, source))}"
        source = result
    return source


def random_rewrites(source: str, seed: int, count: int) -> list[tuple[Rewrite, str]]:
    """(rewrite, source after it) of a random walk over every rule, each place equally likely."""
    rng = random.Random(seed)
    walk: list[tuple[Rewrite, str]] = []
    for _ in range(count):
        options = applicable(source, ALL_RULES, [rewrite for rewrite, _ in walk])
        if not options:
            break
        rule, found = rng.choice(options)
        rewrite = Rewrite(name=rule.name, argument=rng.choice(found).argument)
        result = apply_rewrite(source, rewrite)
        assert result is not None
        source = result
        walk.append((rewrite, source))
    return walk


def quiet_ranges(unit: Unit) -> list[tuple[int, int]]:
    """Byte ranges of comments and string literals."""
    return [(n.start_byte, n.end_byte) for n in find(unit.root, "comment", "string_literal", "raw_string_literal")]


def rules_of(*tasks: str) -> list[tuple[str, str]]:
    """Every task with every rule that has a place in its seed kernel."""
    return [(task, rule.name) for task in tasks for rule in ALL_RULES if sites(rule.name, SEEDS[task])]


def one_place(task: str, name: str) -> str:
    """One rewrite of a rule on a task's seed kernel, as text: the same one each time."""
    argument = random.Random(f"{task} {name}").choice(sorted(sites(name, SEEDS[task])))
    return f"{name}({argument})"
