"""What comes next: a population and a random generator in, one choice out. Pure; nothing here reads or writes.

    choice.py      what is decided; the contract of a strategy
    islands.py     the strategy of this project
    baselines.py   those it must beat: best_of_n, random_parent, greedy
    standing.py    the grid of behaviour, and who is best
    parents.py     how likely each elite is to become a parent
    operators.py   when to tune, repair, simplify, explore; which model can
    bandit.py      which models and operators have made progress

A strategy sees only candidates of earlier generations, so that a generation's choices do not depend on the order in
which its evaluations end: same seed, same machine, same lineage.

Not covered: novelty (near-duplicates are refused before they cost an evaluation, not here), and temperatures: all
choices leave them to the provider.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from kernelevo.errors import UsageError
from kernelevo.selection.baselines import BestOfN, Greedy, RandomParent
from kernelevo.selection.choice import Choice, Strategy
from kernelevo.selection.islands import Islands, IslandsByRank, OneIsland
from kernelevo.selection.standing import best_of, ranked

__all__ = ["STRATEGIES", "Choice", "Strategy", "best_of", "load_strategy", "ranked"]

STRATEGIES: Mapping[str, Callable[[], Strategy]] = {
    s.name: s for s in (Islands, IslandsByRank, OneIsland, BestOfN, RandomParent, Greedy)
}


def load_strategy(name: str) -> Strategy:
    """The strategy of that name with its default settings; UsageError names those there are."""
    if name not in STRATEGIES:
        raise UsageError(f"unknown strategy {name!r}", next_step=f"choose one of {', '.join(STRATEGIES)}")
    return STRATEGIES[name]()
