"""`mutate`: a proposer that needs no key and no network. It rewrites CUDA source on its syntax tree.

Takes the parents and the seed of a prompt, gives a whole new source and the names of the rewrites that made it. The
same prompt always gives the same source. It knows rules that are right on the code they recognise (rewrites/), not
which of them help: that is for evaluation to find, and where the tolerance matters, so is whether they are precise
enough. It cannot write a kernel from a reference, so it needs a parent.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from kernelevo.errors import ModelError
from kernelevo.models import Failed, unwatched
from kernelevo.models.rewrites import RULES, SIMPLIFICATIONS
from kernelevo.models.rewrites.rule import Rule, Site
from kernelevo.models.rewrites.syntax import apply_edits, parse
from kernelevo.records import Candidate, Operator, Prompt, Reply, Rewrite

COUNTS = (1, 2, 3)  # rewrites of one proposal ...
COUNT_WEIGHTS = (2, 3, 2)  # ... and how often: several at once, because few generations must suffice
ADJUSTMENTS = ("threads", "tunable")  # change what is there; twice in one proposal undoes the first time
WAITING = 0.1  # what is left of a rule's weight while a rule that it should follow applies


class Mutate:
    """A Model (see kernelevo.models) that proposes rewrites of the prompt's parents."""

    free = True

    def __init__(self, name: str = "mutate", *, clock: Callable[[], float] = time.perf_counter) -> None:
        self.name = name
        self._clock = clock

    def propose(self, prompt: Prompt, *, limit_usd: float | None = None, failed: Failed = unwatched) -> Reply:
        """A new source made from the parents'. Raises ModelError without a parent to start from."""
        started = self._clock()
        if not prompt.parents:
            raise ModelError(
                f"{self.name} rewrites kernels and cannot write the first one",
                next_step="give the task a seed.cu, or use a language model for the first kernel",
            )
        rng = random.Random(f"mutate {prompt.seed}")
        draft = Draft(prompt.parents[0])
        match prompt.operator:
            case Operator.CROSSOVER if len(prompt.parents) > 1:
                draft.replay(prompt.parents[1].rewrites)
                if not draft.done:
                    draft.rewrite(rng, RULES, 1)
            case Operator.SIMPLIFY | Operator.REPAIR:
                draft.rewrite(rng, SIMPLIFICATIONS, 1)
            case Operator.EXPLORE:
                draft.rewrite(rng, [flattened(rule) for rule in RULES], 1 + pick_count(rng))
            case _:
                draft.rewrite(rng, RULES, pick_count(rng))
        if not draft.done:
            draft.rewrite(rng, RULES, 1)
        return Reply(
            model=self.name,
            text=draft.source,
            rewrites=tuple(draft.done),
            cost_usd=0.0,
            seconds=self._clock() - started,
            finish_reason="stop" if draft.done else "nothing left to rewrite",
        )


@dataclass
class Draft:
    """A source under rewriting and what was done to it."""

    source: str
    history: tuple[Rewrite, ...]  # of the parent
    done: list[Rewrite]

    def __init__(self, parent: Candidate) -> None:
        self.source = parent.source
        self.history = parent.rewrites
        self.done = []

    def rewrite(self, rng: random.Random, rules: Sequence[Rule], count: int) -> None:
        """Applies up to `count` rewrites, each chosen among the rules that apply to what the last one left."""
        for _ in range(count):
            history = (*self.history, *self.done)
            options = applicable(self.source, rules, history)
            options = [(rule, sites) for rule, sites in options if rule.name not in ADJUSTMENTS or not self._did(rule)]
            if not options:
                return
            rule, sites = rng.choices(options, weights=weights(options, history))[0]
            self._take(rule, rng.choices(sites, weights=[s.weight for s in sites])[0])

    def _did(self, rule: Rule) -> bool:
        """Whether this proposal used the rule already."""
        return any(rewrite.name == rule.name for rewrite in self.done)

    def replay(self, rewrites: Iterable[Rewrite]) -> None:
        """Applies, in order, those of another candidate's rewrites that this source lacks and has the place for."""
        for rewrite in rewrites:
            if rewrite not in self.history and (site := find_site(self.source, rewrite)) is not None:
                self._take(RULE_OF[rewrite.name], site)

    def _take(self, rule: Rule, site: Site) -> None:
        self.source = apply_edits(self.source, site.edits)
        self.done.append(Rewrite(name=rule.name, argument=site.argument))


RULE_OF = {rule.name: rule for rule in (*RULES, *SIMPLIFICATIONS)}


def apply_rewrite(source: str, rewrite: Rewrite) -> str | None:
    """The source with one recorded rewrite applied, or None where it does not apply."""
    site = find_site(source, rewrite)
    return apply_edits(source, site.edits) if site is not None else None


def find_site(source: str, rewrite: Rewrite) -> Site | None:
    """The place in this source that a recorded rewrite names."""
    rule = RULE_OF.get(rewrite.name)
    found = rule.sites(parse(source)) if rule is not None else ()
    return next((site for site in found if site.argument == rewrite.argument), None)


def applicable(source: str, rules: Sequence[Rule], history: Sequence[Rewrite]) -> list[tuple[Rule, list[Site]]]:
    """Every rule with a place in the source, and its places; without rewrites that its history holds."""
    unit = parse(source)
    taken = frozenset(history)
    found = []
    for rule in rules:
        sites = [s for s in rule.sites(unit) if Rewrite(name=rule.name, argument=s.argument) not in taken]
        if sites:
            found.append((rule, sites))
    return found


def weights(options: Sequence[tuple[Rule, list[Site]]], history: Sequence[Rewrite]) -> list[float]:
    """Each rule's weight: small while a rule that should come first applies, and less with each time it was used."""
    names = {rule.name for rule, _ in options}
    return [
        rule.weight * (WAITING if names & set(rule.after) else 1.0) / (1 + sum(r.name == rule.name for r in history))
        for rule, _ in options
    ]


def flattened(rule: Rule) -> Rule:
    """The rule with every rule's weight: exploring means not knowing better."""
    return Rule(name=rule.name, weight=1.0, sites=rule.sites, after=rule.after)


def pick_count(rng: random.Random) -> int:
    return rng.choices(COUNTS, weights=COUNT_WEIGHTS)[0]
