"""A request that failed: what happened, in the provider's words, and when asking again is worth it.

Takes what the SDKs and the HTTP library raise, gives a Failure. Both SDKs share the shape of their errors, so this
module knows neither. It retries itself (the SDKs' own retries are off), so that each failed request is seen and paid
requests are counted.

A failure can be mended by asking again: too many requests, a server's error, a timeout, a connection that broke, a
reply that is malformed or has no end. Anything else is for good.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

import httpx2
from tenacity import RetryCallState, Retrying, retry_if_result, stop_after_attempt

ATTEMPTS = 6  # requests per proposal
FIRST_WAIT_SECONDS = 1.0  # doubled with each attempt ...
LONGEST_WAIT_SECONDS = 60.0  # ... up to this; the wait is drawn between half of it and all of it
LONGEST_RETRY_AFTER_SECONDS = 300.0  # a provider that asks for more is asked again after this

LONGEST_TEXT = 2000  # characters of a provider's words: some answer with a whole web page

# Words in the type or code of an error that arrives inside a stream, whose status was 200.
PASSING = {
    "rate_limit": "rate limited",
    "overloaded": "server error",
    "api_error": "server error",
    "server_error": "server error",
    "internal": "server error",
    "unavailable": "server error",
    "timeout": "timeout",
}

# What reading a reply can raise that is not of the shape it should have: the SDKs do not check it.
SHAPELESS = (ValueError, TypeError, AttributeError, LookupError, RecursionError)

T = TypeVar("T")


class StreamError(Exception):
    """An error that a provider put into a stream that had begun."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why one request gave no reply."""

    kind: str  # of records.FailedCall
    text: str  # in the provider's words, with status and type where there are any
    mendable: bool  # asking again may help
    status: int | None = None  # of the HTTP response, when it was one of an error
    retry_after_seconds: float | None = None  # as the provider asked for
    unbilled: bool = False  # it was answered with an error status, or never reached the provider


def explain(error: Exception, *, began: bool, now: Callable[[], float] = time.time) -> Failure:
    """What an exception of an SDK, of the HTTP library or of reading means.

    began: whether a part of the reply had been read. now: for Retry-After given as a date.
    """
    cause = error if isinstance(error, httpx2.TransportError) else error.__cause__
    match cause:
        case httpx2.ConnectError() | httpx2.ConnectTimeout() | httpx2.UnsupportedProtocol() | httpx2.ProxyError():
            return Failure(kind="connection", text=words_of(cause), mendable=True, unbilled=True)
        case httpx2.TimeoutException():
            return Failure(kind="timeout", text=words_of(cause), mendable=True)
        case httpx2.TransportError():
            kind = "cut off" if began else "connection"
            return Failure(kind=kind, text=words_of(cause), mendable=True)
    status = getattr(error, "status_code", None)
    if isinstance(status, int) and status >= 300:
        return explain_status(error, status, now)
    if isinstance(error, StreamError) or hasattr(error, "body"):  # an SDK's error, without a status of its own
        code, message = provider_words(error)
        return explain_in_stream(code, message)
    if isinstance(error, SHAPELESS):
        return Failure(kind="malformed", text=f"the reply cannot be read: {words_of(error)}", mendable=True)
    return Failure(kind="connection", text=words_of(error), mendable=True)


def explain_status(error: Any, status: int, now: Callable[[], float]) -> Failure:
    """A response with an error status. A spent quota is told as 429 by OpenAI, and waiting does not fill it."""
    headers = error.response.headers
    code, message = provider_words(error)
    mendable = status in (408, 409, 429) or status >= 500
    mendable = {"true": True, "false": False}.get(headers.get("x-should-retry", ""), mendable)
    if "insufficient_quota" in code:
        mendable = False
    kind = {408: "timeout", 429: "rate limited"}.get(status, "server error" if mendable else "refused")
    return Failure(
        kind=kind,
        text=f"{status} {code}: {message}" if code else f"{status}: {message}",
        mendable=mendable,
        status=status,
        retry_after_seconds=read_retry_after(headers, now),
        unbilled=True,
    )


def explain_in_stream(code: str, message: str) -> Failure:
    text = f"{code}: {message}" if code else message
    for word, kind in PASSING.items():
        if word in code.lower():
            return Failure(kind=kind, text=text, mendable=True)
    if not code:
        return Failure(kind="server error", text=text, mendable=True)
    return Failure(kind="refused", text=text, mendable=False)


def provider_words(error: Any) -> tuple[str, str]:
    """Code or type, and message, of an SDK's error, from {"error": {...}}, {"error": text} or {"detail": text}."""
    if isinstance(error, StreamError):
        return error.code, str(error)[:LONGEST_TEXT]
    inner = error.body.get("error", error.body) if isinstance(error.body, dict) else error.body
    if not isinstance(inner, dict):
        return "", str(inner or error)[:LONGEST_TEXT].strip()
    code = next((inner[name] for name in ("code", "type") if isinstance(inner.get(name), str)), "")
    message = next((inner[name] for name in ("message", "detail") if inner.get(name)), error)
    return code, str(message)[:LONGEST_TEXT].strip()


def words_of(error: BaseException) -> str:
    return (str(error) or type(error).__name__)[:LONGEST_TEXT]


def read_retry_after(headers: Any, now: Callable[[], float]) -> float | None:
    """Seconds, from a Retry-After in seconds or as a date (RFC 9110, section 10.2.3); None when it says neither."""
    value = headers.get("retry-after", "")
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - now()
        except ValueError:
            return None
    return max(0.0, seconds) if seconds < float("inf") else None


def retried(
    ask: Callable[[], T | Failure], *, sleep: Callable[[float], None], rng: random.Random, attempts: int = ATTEMPTS
) -> T | Failure:
    """What `ask` gives, asked again after a wait while it gives a Failure that can be mended; its last answer."""

    def last(state: RetryCallState) -> T | Failure:
        assert state.outcome is not None
        return state.outcome.result()  # type: ignore[no-any-return]

    def wait(state: RetryCallState) -> float:
        outcome = last(state)
        assert isinstance(outcome, Failure)
        return wait_seconds(state.attempt_number, outcome.retry_after_seconds, rng)

    return Retrying(
        stop=stop_after_attempt(attempts),
        wait=wait,
        retry=retry_if_result(lambda outcome: isinstance(outcome, Failure) and outcome.mendable),
        retry_error_callback=last,
        sleep=sleep,
    )(ask)


def wait_seconds(attempt: int, retry_after_seconds: float | None, rng: random.Random) -> float:
    """How long to wait after the attempt of that number, from 1.

    What a provider asks for is waited for, and up to a second more: requests in flight were all told the same.
    """
    if retry_after_seconds is not None:
        return min(retry_after_seconds, LONGEST_RETRY_AFTER_SECONDS) + rng.uniform(0, 1)
    return min(LONGEST_WAIT_SECONDS, FIRST_WAIT_SECONDS * 2.0 ** (attempt - 1)) * rng.uniform(0.5, 1)
