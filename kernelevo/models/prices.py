"""What a request costs: from a model's name to its price, and from tokens to US dollars.

Takes prices.toml beside this file and the user's own prices, gives a Price, or None where nobody said one: an unknown
price is never 0. Costs are those of standard processing; discounts, taxes, regions and the dearer rates of very long
prompts are not known here.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from kernelevo.records import Price

TABLE = Path(__file__).with_name("prices.toml")
SNAPSHOT = re.compile(r"-(\d{8}|\d{4}-\d{2}-\d{2})$")  # how both providers date a model's snapshots

# Input tokens that are written to a cache cost more than those that are not: 1.25 times the input price with Anthropic
# (cache of 5 minutes) and with OpenAI (since gpt-5.6; of models before it, it reports none).
WRITTEN = 1.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """The tokens of one request, as far as its provider has told them."""

    input_tokens: int | None = None  # all of them, cached and written ones included
    cached_tokens: int | None = None  # of these, read from the provider's cache
    written_tokens: int | None = None  # of these, written to the provider's cache
    output_tokens: int | None = None  # all of them, reasoning included
    reasoning_tokens: int | None = None


def price_of(name: str, own: Mapping[str, Price] | None = None) -> Price | None:
    """The price of the model with that name on the command line; None when it is not known.

    own: the user's prices, which come first, by name without options: "openai:qwen3@http://localhost:8000/v1".
    """
    if name == "mutate":
        return Price(input_usd=0.0, cached_usd=0.0, output_usd=0.0)
    target = name.partition("?")[0]
    prices = {**listed(), **(own or {})}
    return prices.get(target) or prices.get(SNAPSHOT.sub("", target))


def unknown_price(name: str) -> str:
    """The warning for a model without a price."""
    target = name.partition("?")[0]
    return (
        f"the price of {target} is not known, so neither is the cost of asking it, and a limit in US dollars does not "
        f'bind it; next: state it under [prices] in kernelevo.toml, in US dollars per million tokens:\n"{target}" = '
        "{ input = ..., cached = ..., output = ... }"
    )


def cost_of(usage: Usage, price: Price | None) -> float | None:
    """US dollars; None when the price, the input or the output is not known.

    Input that the provider does not call cached or written counts as neither.
    """
    if price is None or usage.input_tokens is None or usage.output_tokens is None:
        return None
    cached, written = usage.cached_tokens or 0, usage.written_tokens or 0
    dollars = (
        max(0, usage.input_tokens - cached - written) * price.input_usd
        + cached * price.cached_usd
        + written * price.input_usd * WRITTEN
        + usage.output_tokens * price.output_usd
    )
    return dollars / 1e6


@cache
def listed() -> dict[str, Price]:
    """prices.toml, by name: "anthropic:MODEL" or "openai:MODEL"."""
    return {
        f"{provider}:{model}": Price(input_usd=row["input"], cached_usd=row["cached"], output_usd=row["output"])
        for provider, section in tomllib.loads(TABLE.read_text()).items()
        for model, row in section["prices"].items()
    }
