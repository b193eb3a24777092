"""What a strategy decides, and what every strategy promises."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Protocol

from kernelevo.records import Operator, Population


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What to do next."""

    operator: Operator
    parents: tuple[str, ...]  # candidate ids
    island: int | None
    inspirations: tuple[str, ...] = ()  # candidate ids that the prompt shows beside the parents
    model: str | None = None  # one of Population.models; None: none is asked (tune), or none was offered
    temperature: float | None = None  # None: the provider's default


class Strategy(Protocol):
    """Decides what comes next. The contract, checked for every strategy by tests/selection/test_strategies.py:

    - `choose` is a function of its arguments: the same population, numbers and generator state give the same choice,
      whatever was asked before. (What a strategy keeps between calls makes it faster, and nothing else.)
    - It chooses candidates of the population and models of the population, and never raises, whatever is in there.
    - It needs the candidates in the order of their iterations, each once, and trials likewise.
    """

    name: str

    def choose(self, population: Population, *, iteration: int, generation: int, rng: random.Random) -> Choice: ...
