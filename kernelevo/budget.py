"""When a run ends before its last generation: what may be spent, and what is enough. Pure.

Takes what was spent, gives a sentence or None. Money counts what is under way at the mean of what is known, so that a
run does not begin what it could not pay for; requests of unknown cost count at that mean too. Not covered: requests
that providers bill and do not report. They are in the ledger as of unknown cost.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from kernelevo.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What ends a run early. None: nothing does."""

    usd: float | None = None  # US dollars, over all calls of evolve that went on with the run
    seconds: float | None = None  # wall-clock time of one call of evolve
    evaluations: int | None = None  # candidates told, the task's own kernel included
    speedup: float | None = None  # over the task's own kernel
    roofline: float | None = None  # share of the speed that DRAM bandwidth alone would allow, from 0 to 1
    stagnation: int | None = None  # iterations told since the best was found

    def __post_init__(self) -> None:
        for name, value in self.limits().items():
            if value is not None and not value > 0:
                raise UsageError(f"budget: {name} is {value}", next_step=f"give {name} above 0, or leave it out")

    def limits(self) -> dict[str, float | None]:
        """By name, as the archive keeps them."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def given(self) -> dict[str, float]:
        """Those that end anything."""
        return {name: value for name, value in self.limits().items() if value is not None}


def budget_of(limits: dict[str, float]) -> Budget:
    """The budget that `limits` made."""
    whole = ("evaluations", "stagnation")
    return Budget(**{name: int(value) if name in whole else value for name, value in limits.items()})  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """How far a run has come."""

    usd: float  # of the requests whose cost is known
    known: int  # how many these are
    unknown: int  # requests that have ended, of unknown cost
    under_way: int  # requests
    seconds: float
    evaluations: int
    speedup: float | None  # None: nothing to compare yet
    roofline: float | None
    since_best: int | None  # iterations; None: nothing passed yet

    @property
    def mean_usd(self) -> float:
        """Of one request; 0 while none is known."""
        return self.usd / self.known if self.known else 0.0

    @property
    def committed_usd(self) -> float:
        """Known costs, and every other request at their mean."""
        return self.usd + (self.unknown + self.under_way) * self.mean_usd


def why_stop(budget: Budget, spent: Spent) -> str | None:
    """Why nothing more is to be begun, or None."""
    if budget.usd is not None and spent.committed_usd + spent.mean_usd > budget.usd:
        others = spent.unknown + spent.under_way
        rest = f" and {others} requests under way or of unknown cost at {spent.mean_usd:.4f} each" if others else ""
        return f"budget: {spent.usd:.4f} of {budget.usd:.2f} US dollars are spent{rest}"
    if budget.seconds is not None and spent.seconds >= budget.seconds:
        return f"budget: {spent.seconds:.0f} of {budget.seconds:.0f} seconds have passed"
    if budget.evaluations is not None and spent.evaluations >= budget.evaluations:
        return f"budget: {spent.evaluations} of {budget.evaluations} evaluations are done"
    if budget.speedup is not None and spent.speedup is not None and spent.speedup >= budget.speedup:
        return f"reached: {spent.speedup:.2f} times as fast as the task's own kernel, {budget.speedup:.2f} were wanted"
    if budget.roofline is not None and spent.roofline is not None and spent.roofline >= budget.roofline:
        return f"reached: {spent.roofline:.0%} of what DRAM bandwidth allows, {budget.roofline:.0%} were wanted"
    if budget.stagnation is not None and spent.since_best is not None and spent.since_best >= budget.stagnation:
        return f"stagnation: no new best in {spent.since_best} iterations, {budget.stagnation} were allowed"
    return None


def remaining_usd(budget: Budget, spent: Spent) -> float | None:
    """What one more request may cost; None: whatever it likes."""
    return None if budget.usd is None else max(0.0, budget.usd - spent.committed_usd)
