"""A language model behind an API: what is the same for every provider. anthropic.py and openai.py are the rest.

Takes a prompt and gives a reply, read as it streams, with its tokens and its cost. It stops in the middle when the
reply has become too dear, asks again what asking again can mend (retry.py), and keeps the key out of all text.

Decisions:
- A reply that was paid for is a Reply, whatever is in it: one cut at its token limit ("length"), one stopped for its
  cost ("budget"), and a refusal ("refusal"; its text is the model's refusal, or the provider's reason for one).
- A stream without an end is a failed call, kind "cut off": its text may not be whole, and it is asked for again.
  Once the reason to stop was told, the reply is whole, even if the usage that should follow never comes.
- For the decision to stop, and for nothing else, tokens that were not told yet are guessed as characters / 4. Hidden
  reasoning cannot be seen, so a reply may cost more than its limit by what was thought before the first word.
"""

from __future__ import annotations

import random
import ssl
import time
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Protocol

import httpx2

from kernelevo.errors import ModelError
from kernelevo.models import Failed, unwatched
from kernelevo.models.prices import Usage, cost_of
from kernelevo.models.retry import SHAPELESS, Failure, StreamError, explain, retried
from kernelevo.records import FailedCall, Message, Price, Prompt, Reply

CHARACTERS_PER_TOKEN = 4  # a guess, for the decision to stop only
CONNECT_SECONDS = 10.0
SILENCE_SECONDS = 300.0  # longest wait for the next byte: models that think do not write meanwhile
TOTAL_SECONDS = 1800.0  # longest time for one reply, however steadily it comes

FINISHES = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "max_output_tokens": "length",
    "model_context_window_exceeded": "length",
    "content_filter": "refusal",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """What one event of a stream said."""

    text: str = ""  # of the reply
    thought: str = ""  # reasoning that is shown: paid for, and no part of the reply
    usage: Usage | None = None  # all that is known so far
    finish: str | None = None  # why the model stopped, in the provider's words
    reason: str = ""  # of a refusal, in the provider's words


class Api(Protocol):
    """One provider's API."""

    @property
    def errors(self) -> type[Exception]:
        """Base of what its SDK raises."""
        ...

    @property
    def variable(self) -> str | None:
        """Environment variable that the key came from."""
        ...

    def stream(self, prompt: Prompt) -> Generator[Piece, None, None]:
        """Sends one request and gives what comes, until the provider's end or an error."""
        ...

    def adapt(self, failure: Failure) -> bool:
        """Whether the next request will leave out what this one was refused for."""
        ...


class LanguageModel:
    """A Model (see kernelevo.models) over an Api. `sleep` waits before a retry; what it raises ends the proposal."""

    free = False

    def __init__(
        self,
        name: str,
        api: Api,
        *,
        redact: Callable[[str], str],
        price: Price | None = None,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.perf_counter,
        rng: random.Random | None = None,
    ) -> None:
        self.name = name
        self.price = price
        self._api = api
        self._redact = redact
        self._sleep = sleep
        self._clock = clock
        self._rng = rng or random.Random()

    def propose(self, prompt: Prompt, *, limit_usd: float | None = None, failed: Failed = unwatched) -> Reply:
        """The model's reply. The limit binds all requests of this call together. Raises ModelError."""
        spent = 0.0

        def ask() -> Reply | Failure:
            nonlocal spent
            started = self._clock()
            reading = Reading(prompt, self.price, None if limit_usd is None else limit_usd - spent)
            failure = self._read(prompt, reading)
            seconds = self._clock() - started
            if failure is None:
                return self._reply(reading, seconds)
            failed(self._failed_call(failure, reading, seconds))
            if not failure.unbilled:
                spent += reading.estimate_usd() or 0.0
            if not failure.mendable and self._api.adapt(failure):
                return replace(failure, mendable=True, retry_after_seconds=0.0)
            again = spent + (Reading(prompt, self.price, None).estimate_usd() or 0.0)
            if failure.mendable and limit_usd is not None and again > limit_usd:
                text = f"{failure.text} (asking again would cost more than the limit of {limit_usd:g} US dollars)"
                return replace(failure, mendable=False, text=text)
            return failure

        outcome = retried(ask, sleep=self._sleep, rng=self._rng)
        if isinstance(outcome, Reply):
            return outcome
        raise ModelError(outcome.text, next_step=next_step(outcome, self._api.variable))

    def _read(self, prompt: Prompt, reading: Reading) -> Failure | None:
        """Reads one stream into `reading`; why that gave no reply, or None when it did.

        The failure's text holds no key. The exception ends here: its request, with the key, is not passed on.
        """
        try:
            with closing(self._api.stream(prompt)) as pieces:
                for piece in pieces:
                    reading.add(piece)
                    if reading.too_dear():
                        return None
        except (self._api.errors, StreamError, httpx2.HTTPError, httpx2.StreamError, *SHAPELESS) as error:
            if reading.finish is not None:
                return None
            failure = explain(error, began=reading.began)
            return replace(failure, text=self._redact(storable(failure.text)))
        if reading.finish is not None:
            return None
        if not reading.began:
            return Failure(kind="malformed", text="the response holds no event of a stream", mendable=True)
        return Failure(kind="cut off", text="the stream ended before the reply did", mendable=True)

    def _reply(self, reading: Reading, seconds: float) -> Reply:
        assert reading.finish is not None
        return Reply(
            model=self.name,
            text=self._redact(storable("".join(reading.text) or reading.reason)),
            cost_usd=cost_of(reading.usage, self.price),
            seconds=seconds,
            finish_reason=self._redact(storable(FINISHES.get(reading.finish, reading.finish))),
            **tokens(reading.usage),
        )

    def _failed_call(self, failure: Failure, reading: Reading, seconds: float) -> FailedCall:
        return FailedCall(
            model=self.name,
            kind=failure.kind,
            text=failure.text,
            cost_usd=0.0 if failure.unbilled else cost_of(reading.usage, self.price),
            seconds=seconds,
            **tokens(reading.usage),
        )


class Reading:
    """A reply while it is being read."""

    def __init__(self, prompt: Prompt, price: Price | None, limit_usd: float | None) -> None:
        self.text: list[str] = []
        self.usage = Usage()
        self.finish: str | None = None
        self.reason = ""
        self.began = False
        self._price = price
        self._limit_usd = limit_usd
        self._sent = sum(len(message.text) for message in prompt.messages)
        self._received = 0

    def add(self, piece: Piece) -> None:
        self.began = True
        for said in (piece.text, piece.thought, piece.reason, piece.finish or ""):
            if not isinstance(said, str):
                raise TypeError(f"text was expected, not {type(said).__name__}")
        if piece.text:
            self.text.append(piece.text)
        self._received += len(piece.text) + len(piece.thought)
        self.usage = piece.usage or self.usage
        self.finish = piece.finish or self.finish
        self.reason = piece.reason or self.reason

    def too_dear(self) -> bool:
        """Whether to stop here. What has ended is read to its end: it costs nothing more."""
        if self._limit_usd is None or self.finish is not None:
            return False
        estimate = self.estimate_usd()
        if estimate is None or estimate <= self._limit_usd:
            return False
        self.finish = "budget"
        self.usage = replace(self.usage, output_tokens=None, reasoning_tokens=None)
        return True

    def estimate_usd(self) -> float | None:
        """What was read until now costs about this; None without a price."""
        guessed = self._received // CHARACTERS_PER_TOKEN
        known = self.usage
        if known.input_tokens is None:
            known = replace(known, input_tokens=self._sent // CHARACTERS_PER_TOKEN)
        return cost_of(replace(known, output_tokens=max(known.output_tokens or 0, guessed)), self._price)


def tokens(usage: Usage) -> dict[str, Any]:
    """The token counts that Reply and FailedCall share."""
    return {
        "input_tokens": usage.input_tokens,
        "cached_tokens": usage.cached_tokens,
        "output_tokens": usage.output_tokens,
        "reasoning_tokens": usage.reasoning_tokens,
    }


def count(value: object) -> int | None:
    """A number of tokens, or None for what cannot be one: servers that are only compatible send all kinds of things."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31 else None


def storable(text: str) -> str:
    """The text without what UTF-8 or a database cannot hold: lone surrogates and NUL become U+FFFD.

    A character outside the basic plane may come as two surrogates in two events; it is put together again.
    """
    whole = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return whole.replace("\0", "\N{REPLACEMENT CHARACTER}")


def next_step(failure: Failure, variable: str | None) -> str:
    """What to do about a failure that retrying did not mend."""
    key = f"environment variable {variable}" if variable else "key: name its variable with ?key=VARIABLE"
    match failure.status:
        case 401:
            return f"check the {key}"
        case 402 | 429 if not failure.mendable:
            return "see the provider's billing page: waiting does not mend this"
        case 403:
            return f"check that the {key} may use this model"
        case 404 | 405:
            return (
                "check the model's name, and the URL when one is given (openai: up to and with /v1; anthropic: without)"
            )
        case status if status is not None and 300 <= status < 400:
            return "give the URL that the server redirects to: a key is not sent on"
    if failure.kind == "timeout":
        return "give it longer with ?silence=SECONDS or ?timeout=SECONDS, or name another model"
    if failure.kind != "refused":
        return "try again later with --resume, or name another model"
    return "the provider refuses this request: change the model's options or the prompt"


def http_options(*, silence_seconds: float, total_seconds: float, clock: Callable[[], float] = time.monotonic) -> Any:
    """Arguments of the HTTP clients of both SDKs.

    Redirects are not followed: a header with the key would go along to another host.
    """

    def limit(response: httpx2.Response) -> None:
        assert isinstance(response.stream, httpx2.SyncByteStream)
        response.stream = Limited(response.stream, clock, clock() + total_seconds, total_seconds)

    return {
        "timeout": httpx2.Timeout(silence_seconds, connect=CONNECT_SECONDS),
        "follow_redirects": False,
        "verify": trusted(),
        "event_hooks": {"response": [limit]},
    }


@cache
def trusted() -> ssl.SSLContext:
    """Whom to trust, read once: it takes longer than all else that makes a client."""
    return httpx2.create_ssl_context()


class Limited(httpx2.SyncByteStream):
    """The body of a response that must end in time. Bytes that come steadily, such as pings, put no other limit off."""

    def __init__(
        self, stream: httpx2.SyncByteStream, clock: Callable[[], float], deadline: float, seconds: float
    ) -> None:
        self._stream = stream
        self._clock = clock
        self._deadline = deadline
        self._seconds = seconds

    def __iter__(self) -> Generator[bytes, None, None]:
        for chunk in self._stream:
            if self._clock() > self._deadline:
                raise httpx2.ReadTimeout(f"the reply did not end within {self._seconds:g} s")
            yield chunk

    def close(self) -> None:
        self._stream.close()


def system_and_user(prompt: Prompt) -> tuple[list[Message], list[Message]]:
    """A prompt's messages for those who instruct the model, and the rest."""
    system = [message for message in prompt.messages if message.role == "system"]
    return system, [message for message in prompt.messages if message.role != "system"]
