"""Numbers in words, with their units; what is missing is said, never drawn as 0. Takes values, gives text."""

from __future__ import annotations

import html

from kernelevo.prompt.words import duration as short_duration
from kernelevo.report.credit import Credit
from kernelevo.report.gather import History

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
    if value >= 1 or not value:
        return f"{value:.3g} s"
    return f"{value * 1e3:.3g} ms" if value >= 0.001 else "< 1 ms"


def moment(written: str | None) -> str:
    """A time of day of the archive, to the minute."""
    return NOTHING if written is None else f"{written[:10]} {written[11:16]} UTC"


def times_faster(ratio: float | None) -> str:
    return NOTHING if ratio is None else f"{ratio:.3g}×" if ratio >= 10 else f"{ratio:.2f}×"  # noqa: RUF001


def dollars(usd: float, *, unknown: int, requests: int) -> str:
    """US dollars of some requests; `unknown`: how many costs are not in it, because nobody knows them."""
    if not requests:
        return "nothing asked"
    known = f"${usd:,.2f}" if usd >= 1 else f"${usd:.3g}" if usd else "free"
    if not unknown:
        return known
    return f"{known} + {unknown} not known" if usd else "not known"


def cost_of(credit: Credit) -> str:
    return dollars(credit.cost_usd, unknown=credit.unknown_costs, requests=credit.requests)


def cost_of_run(history: History) -> str:
    """The same in the fewest words; what is not in it is said beside it."""
    cost = history.cost
    unknown = cost.calls_of_unknown_cost + cost.calls_under_way
    known = dollars(cost.cost_usd, unknown=0, requests=cost.calls)
    return known if not unknown else f"{known} + ?" if cost.cost_usd else "not known"


def counted(number: int, noun: str) -> str:
    """ "1 request", "2 requests"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def stated(outcome: str) -> str:
    """An outcome as a status."""
    more = {"best": "passed", "no time": "passed, no time", "other timing": "passed, timed otherwise"}
    return more.get(outcome, outcome)


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
