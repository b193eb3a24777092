"""When a run ends early: arithmetic on what was spent, and nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernelevo.budget import Budget, Spent, budget_of, remaining_usd, why_stop
from kernelevo.errors import UsageError

NOTHING = Spent(
    usd=0.0,
    known=0,
    unknown=0,
    under_way=0,
    seconds=0.0,
    evaluations=0,
    speedup=None,
    roofline=None,
    since_best=None,
)


def test_without_a_budget_nothing_ends_a_run() -> None:
    far = Spent(
        usd=1e9,
        known=10,
        unknown=5,
        under_way=5,
        seconds=1e9,
        evaluations=10**9,
        speedup=1e9,
        roofline=1.0,
        since_best=10**9,
    )
    assert why_stop(Budget(), far) is None
    assert remaining_usd(Budget(), far) is None


@pytest.mark.parametrize(
    ("budget", "before", "reached", "words"),
    [
        (Budget(seconds=60), {"seconds": 59.9}, {"seconds": 60.0}, "60 of 60 seconds"),
        (Budget(evaluations=5), {"evaluations": 4}, {"evaluations": 5}, "5 of 5 evaluations"),
        (Budget(speedup=2), {"speedup": 1.99}, {"speedup": 2.0}, "2.00 times as fast"),
        (Budget(roofline=0.9), {"roofline": 0.89}, {"roofline": 0.9}, "90% of what DRAM"),
        (Budget(stagnation=3), {"since_best": 2}, {"since_best": 3}, "no new best in 3"),
        (Budget(usd=1), {"usd": 0.4, "known": 4}, {"usd": 0.95, "known": 5}, "0.9500 of 1.00 US dollars"),
    ],
)
def test_each_limit_ends_a_run_where_it_is_reached_and_says_so(
    budget: Budget, before: dict[str, float], reached: dict[str, float], words: str
) -> None:
    assert why_stop(budget, NOTHING) is None
    assert why_stop(budget, replace(NOTHING, **before)) is None  # type: ignore[arg-type]
    assert words in (why_stop(budget, replace(NOTHING, **reached)) or "")  # type: ignore[arg-type]


def test_requests_under_way_and_of_unknown_cost_count_at_the_mean_of_those_that_are_known() -> None:
    spent = replace(NOTHING, usd=0.4, known=4)
    budget = Budget(usd=0.8)
    assert why_stop(budget, replace(spent, under_way=2)) is None
    assert why_stop(budget, replace(spent, under_way=3)) is None  # 0.4 + 3 x 0.1 + the next 0.1 is just the budget
    assert why_stop(budget, replace(spent, under_way=4)) is not None
    assert why_stop(budget, replace(spent, under_way=2, unknown=2)) is not None
    assert remaining_usd(budget, replace(spent, under_way=2)) == pytest.approx(0.2)


@given(
    usd=st.floats(0.001, 100),
    costs=st.lists(st.floats(0, 1), max_size=30),
    under_way=st.integers(0, 8),
)
def test_a_run_whose_requests_cost_what_they_did_before_stays_below_its_budget(
    usd: float, costs: list[float], under_way: int
) -> None:
    spent = replace(NOTHING, usd=sum(costs), known=len(costs), under_way=under_way)
    if why_stop(Budget(usd=usd), spent) is None:
        assert spent.committed_usd + spent.mean_usd <= usd
        assert (remaining_usd(Budget(usd=usd), spent) or 0) >= spent.mean_usd - 1e-9


@pytest.mark.parametrize("name", Budget().limits())
@pytest.mark.parametrize("value", [0, -1, float("nan")])
def test_a_limit_that_nothing_could_keep_is_refused_by_name(name: str, value: float) -> None:
    with pytest.raises(UsageError, match=name):
        Budget(**{name: value})  # type: ignore[arg-type]


def test_a_budget_is_what_its_limits_say() -> None:
    budget = Budget(usd=5.0, evaluations=3, stagnation=4)
    assert budget_of(budget.given()) == budget
    assert budget.given() == {"usd": 5.0, "evaluations": 3, "stagnation": 4}
