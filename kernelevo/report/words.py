"""Numbers in words, with their units; what is missing is said, never drawn as 0. Takes values, gives text."""

from __future__ import annotations

import html

from kernelevo.prompt.words import duration as short_duration
from kernelevo.report.credit import Credit
from kernelevo.report.gather import History, Step

NOTHING = "–"  # noqa: RUF001
PLAIN_CHARACTERS = 160


def duration(nanoseconds: float | None) -> str:
    """A time with three digits and a unit."""
    return NOTHING if nanoseconds is None else short_duration(nanoseconds).replace("us", "µs")


def seconds(value: float | None) -> str:
    """Wall-clock time, in the unit that a person would choose."""
    if value is None:
        return NOTHING
    if value >= 7200:
        return f"{value / 3600:.1f} h"
    if value >= 120:
        return f"{value / 60:.1f} min"
    return f"{value:.3g} s" if value >= 0.001 or not value else "< 1 ms"


def times_faster(ratio: float | None) -> str:
    return NOTHING if ratio is None else f"{ratio:.3g}×" if ratio >= 10 else f"{ratio:.2f}×"  # noqa: RUF001


def dollars(usd: float, *, unknown: int, requests: int) -> str:
    """US dollars of some requests, `unknown` iterations of which have no known cost."""
    if not requests:
        return "nothing asked"
    known = "free" if not usd else f"${usd:.4f}" if usd < 1 else f"${usd:.2f}"
    if not unknown:
        return known
    return "not known" if not usd else f"{known} + {unknown} not known"


def cost_of(credit: Credit) -> str:
    return dollars(credit.cost_usd, unknown=credit.unknown_costs, requests=credit.requests)


def cost_of_step(step: Step) -> str:
    return dollars(step.cost_usd or 0.0, unknown=int(step.cost_usd is None), requests=step.requests)


def cost_of_run(history: History) -> str:
    cost = history.cost
    if not cost.calls:
        return "no request"
    known = "free" if cost.calls == cost.free_calls else f"${cost.cost_usd:.4f}"
    if not cost.calls_of_unknown_cost:
        return known
    return "not known" if not cost.cost_usd else f"{known} + {cost.calls_of_unknown_cost} requests not known"


def count(value: float) -> str:
    """A large number with a prefix: 1.2 G."""
    for prefix, scale in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(value) >= scale:
            return f"{value / scale:.3g} {prefix}"
    return f"{value:.3g} "


def plain(text: str, *, characters: int = PLAIN_CHARACTERS) -> str:
    """Text that plotly shows as it is: its labels read a part of HTML."""
    line = " ".join(text.split())
    return html.escape(line if len(line) <= characters else line[: characters - 1] + "…")
