"""Asking a paid model, with each request in the ledger before it is sent: for proposals and for judges alike.

Takes a job and a way to ask, gives the reply and the number of its request, which whoever keeps the reply ends.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

from kernelevo.budget import Budget, Spent, remaining_usd, why_stop
from kernelevo.errors import ModelError
from kernelevo.models import Failed
from kernelevo.records import FailedCall, Job, Reply
from kernelevo.site import Event, Site, Step


class Ask(Protocol):
    """One question to one model."""

    def __call__(self, *, limit_usd: float | None, failed: Failed) -> Reply: ...


def pay(site: Site, job: Job, model: str, ask: Ask, *, purpose: str = "propose") -> tuple[int, Reply]:
    """The request's number in the ledger, and its reply. Raises ModelError when there is none."""
    ledger = site.archive.ledger
    limit_usd = remaining_usd(site.budget, spent(site))
    call = ledger.begin(job, model, purpose=purpose)
    unsent = False  # whether `call` is a retry that may never be sent
    whose = "" if purpose == "propose" else f"{purpose}: "

    def failed(failure: FailedCall) -> None:
        nonlocal call, unsent
        ledger.fail(call, failure)
        site.watch(Event(step=Step.CALL_FAILED, job=job, text=f"{whose}{failure.kind}: {failure.text}"))
        call, unsent = ledger.begin(job, model, purpose=purpose), True

    try:
        reply = ask(limit_usd=limit_usd, failed=failed)
    except ModelError:
        if unsent:
            ledger.withdraw(call)
        raise
    return call, reply


def has_room(site: Site, *, requests: int = 0) -> bool:
    """Whether the budget in dollars has room for one more request.

    requests: under way at least, sent or about to be. While no cost is known, one at a time is sent.
    """
    if site.budget.usd is None:
        return True
    money = spent(site)
    money = replace(money, under_way=max(money.under_way, requests))
    if money.under_way and not money.known:
        return False
    return why_stop(Budget(usd=site.budget.usd), money) is None


def spent(site: Site) -> Spent:
    """The money of a run so far; the rest of Spent is for the loop to fill in."""
    cost = site.archive.ledger.cost(site.run.id)
    return Spent(
        usd=cost.cost_usd,
        known=cost.calls - cost.free_calls - cost.calls_under_way - cost.calls_of_unknown_cost,
        unknown=cost.calls_of_unknown_cost,
        under_way=cost.calls_under_way,
        seconds=0.0,
        evaluations=0,
        speedup=None,
        roofline=None,
        since_best=None,
    )
