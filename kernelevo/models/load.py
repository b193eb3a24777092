"""A model's name on the command line to the model.

    mutate                                      built in, needs no key
    anthropic:MODEL[?OPTIONS]                   Anthropic
    openai:MODEL[?OPTIONS]                      OpenAI
    anthropic:MODEL@URL[?OPTIONS]               a server that speaks Anthropic's Messages API
    openai:MODEL@URL[?OPTIONS]                  a server that speaks OpenAI's API: vLLM, llama.cpp, Ollama, a gateway

OPTIONS are joined by `&`, for example `openai:gpt-6.1-sol?effort=high&max_tokens=16000`:

| option | of | meaning |
|---|---|---|
| effort | both | how much to think: low, medium, high, xhigh, max; openai also none and minimal |
| thinking | anthropic | adaptive, disabled, or the number of tokens to think with, for models that take one |
| max_tokens | both | longest reply, thinking included; anthropic: 32000 by default |
| silence | both | seconds to wait for the next byte: 300 by default |
| timeout | both | seconds for a whole reply: 1800 by default |
| key | with @URL | environment variable that holds the server's key; by default none is sent |
| api | openai with @URL | chat (the default) or responses |

The key of a provider goes to that provider only: a name may come from someone else's archive, with a URL in it.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, get_args, get_type_hints
from urllib.parse import parse_qsl, urlsplit

from kernelevo.errors import UsageError
from kernelevo.models import Model
from kernelevo.records import Price

if TYPE_CHECKING:
    from kernelevo.models.language import Api

Keys = Callable[[str], str | None]  # environment variable -> the key in it

NAME = re.compile(r"(anthropic|openai):([^?]+?)(?:@(https?://[^?]*))?(?:\?(.*))?", re.DOTALL)
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
NEXT_STEP = "use mutate, anthropic:MODEL, openai:MODEL or openai:MODEL@URL; see kernelevo/models/load.py"
ELSEWHERE = {
    "agent": "kernelevo ask gives a job to an agent, and kernelevo tell takes what came of it",
    "replay": "kernelevo replay RUN repeats a run from its recorded replies",
}


def no_key(variable: str) -> str | None:
    """For callers that have no keys."""
    return None


def load_model(
    name: str,
    *,
    key: Keys = no_key,
    price: Price | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> Model:
    """The model of that name.

    key: environment variable -> the key in it. price: what the model's tokens cost, if known (prices.price_of).
    sleep: waits before a request is sent again; what it raises ends the proposal.

    Raises UsageError for an unknown kind, option or value, a URL that cannot be used, and a missing key.
    """
    if name == "mutate":
        from kernelevo.models.mutate import Mutate

        return Mutate()
    found = NAME.fullmatch(name)
    if found is None:
        kind = name.partition(":")[0]
        if kind in ELSEWHERE:
            raise UsageError(f"{kind} is not a model that can be asked: {name!r}", next_step=ELSEWHERE[kind])
        if kind in ("anthropic", "openai"):
            raise UsageError(f"model {name!r} names no model of {kind}", next_step=NEXT_STEP)
        raise UsageError(f"unknown model {name!r}", next_step=NEXT_STEP)
    provider, model, url, query = found.groups()
    if url is not None:
        check_url(name, url)
    elif "@" in model:
        raise UsageError(f"model {name!r}: no URL after @", next_step="begin it with http:// or https://")
    make = anthropic_api if provider == "anthropic" else openai_api
    from kernelevo.models.language import LanguageModel
    from kernelevo.models.redact import redactor

    api, secret = make(name, model, url, read_options(name, query), key)
    return LanguageModel(name, api, redact=redactor(secret), price=price, sleep=sleep)


def anthropic_api(
    name: str, model: str, url: str | None, options: Mapping[str, str], key: Keys
) -> tuple[Api, str | None]:
    """The Api that a name means, and the key that it sends."""
    from anthropic.types import OutputConfigParam

    from kernelevo.models import anthropic

    values = read_values(name, options, ["thinking", *(["key"] if url else [])], choices(OutputConfigParam, "effort"))
    thinking, longest = values.get("thinking"), values.get("max_tokens", anthropic.MAX_TOKENS)
    if thinking not in (None, "adaptive", "disabled") and not (thinking.isdecimal() and int(thinking) < longest):
        raise UsageError(
            f"model {name!r}: thinking is {thinking!r}",
            next_step=f"give adaptive, disabled, or a number of tokens below max_tokens ({longest})",
        )
    secret, variable = read_key(name, url, values.pop("key", None), anthropic.VARIABLE, key)
    return anthropic.Messages(model, url=url or anthropic.URL, key=secret, variable=variable, **values), secret


def openai_api(name: str, model: str, url: str | None, options: Mapping[str, str], key: Keys) -> tuple[Api, str | None]:
    """The Api that a name means, and the key that it sends."""
    from openai.types.shared_params import Reasoning

    from kernelevo.models import openai

    values = read_values(name, options, ["key", "api"] if url else [], choices(Reasoning, "effort"))
    kind = values.pop("api", "chat" if url else "responses")
    if kind not in ("chat", "responses"):
        raise UsageError(f"model {name!r}: api is {kind!r}", next_step="give chat or responses")
    secret, variable = read_key(name, url, values.pop("key", None), openai.VARIABLE, key)
    api = openai.Chat if kind == "chat" else openai.Responses
    return api(model, url=url or openai.URL, key=secret, variable=variable, **values), secret


def check_url(name: str, url: str) -> None:
    """Refuses a URL that cannot be used, or that would put a secret into every record of the run."""
    try:
        parts = urlsplit(url)
        usable = bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise UsageError(f"model {name!r}: {url!r} is no URL", next_step="give one like http://localhost:8000/v1")
    if parts.username is not None or parts.password is not None:
        raise UsageError(
            f"the URL of {name.partition('@')[0]} has a user or password in it, and names are kept in archives",
            next_step="put the secret into an environment variable and name it with ?key=VARIABLE",
        )
    if parts.fragment:
        raise UsageError(f"model {name!r}: {url!r} has a #fragment", next_step="leave it out")


def read_options(name: str, query: str | None) -> dict[str, str]:
    """`a=1&b=2` to names and values."""
    if query is None:
        return {}
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True)
    except ValueError:
        raise UsageError(f"model {name!r}: options are ?NAME=VALUE&NAME=VALUE", next_step=NEXT_STEP) from None
    if len({option for option, _ in pairs}) < len(pairs):
        raise UsageError(f"model {name!r} gives an option twice", next_step="give each once")
    return dict(pairs)


def read_values(name: str, options: Mapping[str, str], more: list[str], efforts: tuple[str, ...]) -> dict[str, Any]:
    """Options to arguments of an Api. more: the texts that this provider takes besides."""
    from kernelevo.models.language import SILENCE_SECONDS, TOTAL_SECONDS

    values: dict[str, Any] = {"silence_seconds": SILENCE_SECONDS, "total_seconds": TOTAL_SECONDS}
    for option, text in options.items():
        match option:
            case "effort" if text in efforts:
                values[option] = text
            case "effort":
                raise UsageError(f"model {name!r}: effort is {text!r}", next_step=f"give one of {', '.join(efforts)}")
            case "max_tokens":
                values[option] = int(positive(name, option, text, whole=True))
            case "silence":
                values["silence_seconds"] = positive(name, option, text)
            case "timeout":
                values["total_seconds"] = positive(name, option, text)
            case _ if option in more:
                values[option] = text
            case _:
                known = ", ".join(["effort", "max_tokens", "silence", "timeout", *more])
                raise UsageError(f"model {name!r} has no option {option!r} here", next_step=f"options are {known}")
    return values


def positive(name: str, option: str, text: str, *, whole: bool = False) -> float:
    try:
        number = int(text) if whole else float(text)
    except ValueError:
        number = 0
    if not 0 < number < float("inf"):
        raise UsageError(
            f"model {name!r}: {option} is {text!r}", next_step=f"give a {'whole ' if whole else ''}number above 0"
        )
    return number


def read_key(name: str, url: str | None, variable: str | None, own: str, key: Keys) -> tuple[str | None, str | None]:
    """The key to send, and the environment variable that it came from."""
    if url is not None and variable is None:
        return None, None
    variable = variable if url is not None else own
    assert variable is not None
    if not VARIABLE.fullmatch(variable):
        raise UsageError(
            f"model {name!r}: {variable!r} is not the name of an environment variable", next_step=NEXT_STEP
        )
    if url is not None and variable in ("ANTHROPIC_API_KEY", "OPENAI_API_KEY"):
        raise UsageError(
            f"model {name!r}: {variable} is sent to its own provider only",
            next_step="put the server's key into a variable of another name",
        )
    secret = key(variable)
    if secret is None:
        raise UsageError(
            f"model {name!r} needs a key, and environment variable {variable} is not set",
            next_step=f"export {variable}=..., or use mutate, which needs none",
        )
    if not (secret.isascii() and secret.isprintable()):
        raise UsageError(f"the value of {variable} holds characters that no key has", next_step="copy the key again")
    return secret, variable


def choices(parameters: type, option: str) -> tuple[str, ...]:
    """The values that an SDK's typed parameters allow for an option."""

    def literals(hint: object) -> list[str]:
        arguments = get_args(hint)
        return [hint] if isinstance(hint, str) else [text for argument in arguments for text in literals(argument)]

    return tuple(literals(get_type_hints(parameters)[option]))
