"""The contract of Model (kernelevo/models/__init__.py), one suite over all of them.

Models behind an API talk to a real HTTP server on this machine (tests/providers), through the real SDKs.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from email.utils import formatdate

import pytest
from providers.server import (
    Answer,
    ProviderServer,
    Request,
    Script,
    Sent,
    anthropic_events,
    chat_events,
    error,
    reply,
    responses_events,
)

from kernelevo.errors import ModelError, UsageError
from kernelevo.models import Model
from kernelevo.models.language import LanguageModel
from kernelevo.models.load import load_model
from kernelevo.models.mutate import Mutate
from kernelevo.models.prices import WRITTEN, Usage, cost_of, listed, price_of, unknown_price
from kernelevo.models.retry import ATTEMPTS, LONGEST_RETRY_AFTER_SECONDS, LONGEST_WAIT_SECONDS, wait_seconds
from kernelevo.records import Candidate, FailedCall, Message, Operator, Price, Prompt, Reply
from kernelevo.tasks import load_task

PRICE = Price(input_usd=3.0, cached_usd=0.5, output_usd=15.0)
SYSTEM = "You write CUDA kernels. " * 10
APIS = ("anthropic", "chat", "responses")
NAMES = {
    "anthropic": "anthropic:claude-x@{url}",
    "chat": "openai:gpt-x@{url}/v1",
    "responses": "openai:gpt-x@{url}/v1?api=responses",
}
PARENT = Candidate(source=load_task("softmax").seed_source or "", entry="forward")


def prompt(text: str = "Make softmax faster.", *, seed: int = 7, temperature: float | None = None) -> Prompt:
    return Prompt(
        operator=Operator.OPTIMIZE,
        messages=(Message(role="system", text=SYSTEM), Message(role="user", text=text)),
        parents=(PARENT,),
        template="optimize",
        seed=seed,
        temperature=temperature,
    )


class Watched:
    """A model over a server, and what it did besides answering."""

    def __init__(
        self, api: str, script: Script, *, price: Price | None = PRICE, more: str = "", latency_seconds: float = 0.0
    ) -> None:
        self.server = ProviderServer(script, latency_seconds=latency_seconds)
        self.waits: list[float] = []
        self.failed: list[FailedCall] = []
        self.requests_at_failure: list[int] = []
        name = NAMES[api].format(url=self.server.url)
        name += f"{'&' if '?' in name else '?'}{more}" if more else ""
        self.model = load_model(name, price=price, sleep=self.waits.append)

    def propose(self, prompt: Prompt, *, limit_usd: float | None = None) -> Reply:
        return self.model.propose(prompt, limit_usd=limit_usd, failed=self.note)

    def note(self, call: FailedCall) -> None:
        self.failed.append(call)
        self.requests_at_failure.append(len(self.server.requests))

    @property
    def kinds(self) -> list[str]:
        return [call.kind for call in self.failed]


Watch = Callable[..., Watched]


@pytest.fixture
def watch() -> Iterator[Watch]:
    with ExitStack() as stack:

        def start(api: str, script: Script, **more: object) -> Watched:
            watched = Watched(api, script, **more)  # type: ignore[arg-type]
            stack.enter_context(watched.server)
            return watched

        yield start


@pytest.fixture(params=APIS)
def api(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=[*APIS, "mutate"])
def model(request: pytest.FixtureRequest, watch: Watch) -> Model:
    """Each model there is. Those behind an API say the user message backwards."""
    if request.param == "mutate":
        return Mutate()
    return watch(request.param, backwards).model


def backwards(request: Request) -> Answer:
    return reply(request.user[::-1])


# --- every model ------------------------------------------------------------------------------------------------------


def test_a_model_has_the_name_it_was_asked_for_by_and_so_has_its_reply(model: Model) -> None:
    assert model.propose(prompt()).model == model.name


def test_a_reply_holds_the_models_own_words_whole(model: Model) -> None:
    text = model.propose(prompt()).text
    assert text == (".retsaf xamtfos ekaM" if not isinstance(model, Mutate) else text)
    assert not isinstance(model, Mutate) or "PYBIND11_MODULE" in text


def test_a_reply_says_why_it_ended_and_how_long_it_took(model: Model) -> None:
    got = model.propose(prompt())
    assert got.finish_reason == "stop"
    assert got.seconds > 0


def test_several_threads_may_ask_at_once_and_each_gets_its_own_reply(model: Model) -> None:
    prompts = [prompt(f"number {n}") for n in range(8)]
    with ThreadPoolExecutor(8) as pool:
        texts = [got.text for got in pool.map(model.propose, prompts)]
    if isinstance(model, Mutate):
        assert len(set(texts)) == 1  # one seed
    else:
        assert texts == [f"{n} rebmun" for n in range(8)]


def test_the_same_prompt_gets_the_same_reply_from_a_model_that_can_be_seeded(model: Model) -> None:
    assert model.propose(prompt()).text == model.propose(prompt()).text


def test_only_what_costs_neither_money_nor_a_wait_is_free(model: Model) -> None:
    assert model.free == isinstance(model, Mutate)


def test_what_a_model_does_not_know_is_none() -> None:
    got = Mutate().propose(prompt())
    assert (got.input_tokens, got.cached_tokens, got.output_tokens, got.reasoning_tokens) == (None,) * 4


def test_a_limit_does_not_stop_a_model_without_a_price(model: Model) -> None:
    if isinstance(model, LanguageModel):
        model.price = None
    assert model.propose(prompt(), limit_usd=0.0).finish_reason == "stop"


# --- models behind an API: replies ------------------------------------------------------------------------------------


def test_tokens_and_cost_are_what_the_provider_billed(api: str, watch: Watch) -> None:
    watched = watch(api, [reply("x" * 400, reasoning_tokens=30)])
    for _ in range(2):  # the second reads its system message from the cache
        got = watched.propose(prompt())
        entry = watched.server.wait_for_log(len(watched.server.requests))[-1]
        assert got.input_tokens == entry.input_tokens
        assert got.cached_tokens == entry.cached_tokens
        assert got.output_tokens == entry.output_tokens == 130
        assert got.reasoning_tokens == 30
        plain = entry.input_tokens - entry.cached_tokens - entry.written_tokens
        dollars = plain * 3.0 + entry.cached_tokens * 0.5 + entry.written_tokens * 3.0 * WRITTEN + 130 * 15.0
        assert got.cost_usd == pytest.approx(dollars / 1e6, rel=1e-12)
    first, second = watched.server.log
    assert first.written_tokens > 0 == first.cached_tokens
    assert second.cached_tokens == first.written_tokens


def test_a_cost_without_a_price_is_unknown(api: str, watch: Watch) -> None:
    got = watch(api, [reply("hello")], price=None).propose(prompt())
    assert got.output_tokens == 2
    assert got.cost_usd is None


def test_tokens_that_are_not_told_are_unknown_and_so_is_the_cost(api: str, watch: Watch) -> None:
    got = watch(api, [reply("hello", usage=False)]).propose(prompt())
    assert got.text == "hello"
    assert got.output_tokens is None
    assert got.cost_usd is None


@pytest.mark.parametrize("told", ["10000000000000000000000000", "-1", "true", '"5"', "1.5", "[]", "null"])
def test_what_cannot_be_a_number_of_tokens_is_unknown(told: str, watch: Watch) -> None:
    body = (
        'data: {"choices": [{"index": 0, "delta": {"content": "ok"}, "finish_reason": "stop"}]}\n\n'
        f'data: {{"choices": [], "usage": {{"prompt_tokens": {told}, "completion_tokens": {told}}}}}\n\n'
        "data: [DONE]\n\n"
    )
    got = watch("chat", [Answer(body=body.encode(), content_type="text/event-stream")]).propose(prompt())
    assert (got.text, got.input_tokens, got.output_tokens, got.cost_usd) == ("ok", None, None, None)


def test_shown_reasoning_is_no_part_of_the_reply(api: str, watch: Watch) -> None:
    assert watch(api, [reply("kernel", thought="let me see")]).propose(prompt()).text == "kernel"


def test_a_reply_of_several_megabytes_arrives_whole(api: str, watch: Watch) -> None:
    text = "".join(f"line {n} \N{SNOWMAN}\r\n" for n in range(200_000))
    got = watch(api, [reply(text, pieces=500)]).propose(prompt(), limit_usd=100.0)
    assert got.text == text


def test_a_reply_cut_at_its_token_limit_is_a_reply(api: str, watch: Watch) -> None:
    got = watch(api, [reply("half a ker", finish="length")]).propose(prompt())
    assert (got.text, got.finish_reason) == ("half a ker", "length")
    assert got.cost_usd is not None


def test_a_refusal_in_a_reply_is_a_reply_that_was_paid_for(api: str, watch: Watch) -> None:
    watched = watch(api, [reply("I cannot help with that.", finish="refusal")])
    got = watched.propose(prompt())
    assert (got.text, got.finish_reason) == ("I cannot help with that.", "refusal")
    assert got.cost_usd is not None
    assert not watched.failed


def test_a_refusal_without_a_word_gives_the_providers_reason(watch: Watch) -> None:
    assert watch("anthropic", [reply("", finish="refusal")]).propose(prompt()).text == "it may do harm"


def test_a_reply_whose_end_was_told_is_whole_even_if_the_connection_breaks_after_it(watch: Watch) -> None:
    body = (
        b'data: {"choices": [{"index": 0, "delta": {"content": "all of it"}, "finish_reason": "stop"}]}\n\ndata: {"us'
    )
    got = watch("chat", [Answer(body=body, content_type="text/event-stream")]).propose(prompt())
    assert (got.text, got.finish_reason, got.output_tokens, got.cost_usd) == ("all of it", "stop", None, None)


def test_a_character_that_comes_in_two_halves_is_put_together(api: str, watch: Watch) -> None:
    text = "a \ud83d\ude00 b"  # as servers send it that cut a string between the halves of a character
    assert watch(api, [reply(text, pieces=len(text))]).propose(prompt()).text == "a \N{GRINNING FACE} b"


def test_what_an_archive_cannot_hold_is_replaced(api: str, watch: Watch) -> None:
    assert watch(api, [reply("a\0b\ud800c", pieces=1)]).propose(prompt()).text == "a\ufffdb\ufffdc"


# --- models behind an API: what is sent -------------------------------------------------------------------------------


def test_the_prompt_is_sent_as_system_and_user_message(api: str, watch: Watch) -> None:
    watched = watch(api, [reply("ok")])
    watched.propose(prompt("Do it."))
    [request] = watched.server.requests
    assert (request.system, request.user) == (SYSTEM, "Do it.")
    assert request.body["stream"] is True


def test_the_system_message_is_marked_for_anthropics_cache(watch: Watch) -> None:
    watched = watch("anthropic", [reply("ok")])
    watched.propose(prompt())
    [block] = watched.server.requests[0].body["system"]
    assert block["cache_control"] == {"type": "ephemeral"}


def test_temperature_is_sent_where_the_api_takes_one_and_the_prompt_has_one(api: str, watch: Watch) -> None:
    watched = watch(api, [reply("ok")])
    watched.propose(prompt())
    watched.propose(prompt(temperature=0.25))
    without, with_one = (request.body.get("temperature") for request in watched.server.requests)
    assert without is None
    assert with_one == (None if api == "anthropic" else 0.25)


def test_the_seed_is_sent_to_compatible_servers(watch: Watch) -> None:
    watched = watch("chat", [reply("ok")])
    watched.propose(prompt(seed=2**32 - 1))
    assert watched.server.requests[0].body["seed"] == 2**32 - 1


@pytest.mark.parametrize(
    ("api", "options", "sent"),
    [
        ("chat", "effort=high&max_tokens=500", {"reasoning_effort": "high", "max_tokens": 500}),
        ("responses", "effort=none&max_tokens=500", {"reasoning": {"effort": "none"}, "max_output_tokens": 500}),
        ("responses", "", {"store": False}),
        ("anthropic", "effort=max&max_tokens=500", {"output_config": {"effort": "max"}, "max_tokens": 500}),
        ("anthropic", "thinking=2000", {"thinking": {"type": "enabled", "budget_tokens": 2000}, "max_tokens": 32000}),
        ("anthropic", "thinking=adaptive", {"thinking": {"type": "adaptive"}}),
    ],
)
def test_options_of_the_name_are_sent(api: str, options: str, sent: dict[str, object], watch: Watch) -> None:
    watched = watch(api, [reply("ok")], more=options)
    watched.propose(prompt())
    assert sent.items() <= watched.server.requests[0].body.items()


# --- models behind an API: anything at all ----------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(8))
def test_whatever_bytes_arrive_there_is_a_reply_or_a_model_error(seed: int, api: str, watch: Watch) -> None:
    rng = random.Random(f"{api} {seed}")

    def damaged(request: Request) -> Answer:
        events = {"anthropic": anthropic_events, "chat": chat_events, "responses": responses_events}[request.api]
        answer = reply("some words", thought="hm", finish=rng.choice(["stop", "length", "refusal"]))
        body = bytearray("".join(map(str, events(request, answer, Sent()))).encode())
        for _ in range(rng.randrange(1, 6)):
            start = rng.randrange(len(body))
            part = body[start : start + rng.randrange(40)]
            other = rng.choice([b"", b"null", b"[]", b'"x"', b"-1", b"\n\n", b"\xff", b"{", b"data: ", bytes(part) * 2])
            body[start : start + len(part)] = other
        return Answer(body=bytes(body), content_type="text/event-stream")

    watched = watch(api, damaged)
    for _ in range(4):
        try:
            got = watched.propose(prompt(), limit_usd=1.0)
            assert isinstance(got.text, str)
            assert got.cost_usd is None or got.cost_usd >= 0
        except ModelError as raised:
            assert raised.next_step


@pytest.mark.parametrize("status", [400, 422])
def test_an_optional_parameter_that_a_server_refuses_by_name_is_left_out_from_then_on(
    status: int, watch: Watch
) -> None:
    def script(request: Request) -> Answer:
        for name in ("stream_options", "seed"):
            if name in request.body:
                return error(status, f"Unrecognized request argument supplied: {name}")
        return reply("ok")

    watched = watch("chat", script)
    assert watched.propose(prompt()).text == "ok"
    assert watched.kinds == ["refused", "refused"]
    assert [call.cost_usd for call in watched.failed] == [0.0, 0.0]
    assert max(watched.waits) <= 1
    watched.propose(prompt())
    assert len(watched.server.requests) == 4


# --- models behind an API: failures that asking again mends -----------------------------------------------------------

TRUNCATED = "x" * 100
MENDABLE = {
    "429": (error(429, "slow down"), "rate limited", "slow down"),
    "500": (error(500, "oops"), "server error", "oops"),
    "529": (error(529, "overloaded"), "server error", "overloaded"),
    "503 as a web page": (Answer(status=503, body=b"<html>Bad gateway</html>"), "server error", "<html>"),
    "error of another shape": (Answer(status=500, body=b'{"detail": "no memory"}'), "server error", "no memory"),
    "error as a text": (Answer(status=500, body=b'{"error": "llama died"}'), "server error", "llama died"),
    "dropped": (Answer(drop=True), "connection", "disconnected"),
    "broken off": (reply(TRUNCATED, cut="closed"), "cut off", "peer closed"),
    "ended without an end": (reply(TRUNCATED, cut="ended"), "cut off", "ended before"),
    "error in the stream": (reply(TRUNCATED, error=("server_error", "we broke")), "server error", "we broke"),
    "rate limit in the stream": (reply(TRUNCATED, error=("rate_limit_exceeded", "later")), "rate limited", "later"),
    "not JSON": (
        Answer(body=b"event: message_start\ndata: {not json\n\n", content_type="text/event-stream"),
        "malformed",
        "cannot be read",
    ),
    "not UTF-8": (
        Answer(body=b'event: message_start\ndata: {"a": "\xff"}\n\n', content_type="text/event-stream"),
        "malformed",
        "cannot be read",
    ),
    "JSON of another shape": (
        Answer(
            body=b'event: message_start\ndata: {"type": "message_start", "choices": 1, "message": 2}\n\n'
            b'data: {"type": "response.output_text.delta", "delta": 5}\n\n',
            content_type="text/event-stream",
        ),
        "malformed",
        "",
    ),
    "a reason that is no text": (
        Answer(
            body=b'event: message_delta\ndata: {"type": "message_delta", "delta": {"stop_reason": ["x"]}, "usage": {}, '
            b'"choices": [{"index": 0, "delta": {}, "finish_reason": ["x"]}]}\n\n'
            b'data: {"type": "response.incomplete", "response": {"incomplete_details": {"reason": ["x"]}}}\n\n',
            content_type="text/event-stream",
        ),
        "malformed",
        "",
    ),
    "a web page": (Answer(body=b"<html>Welcome</html>", content_type="text/html"), "malformed", ""),
}


@pytest.mark.parametrize("case", MENDABLE)
def test_what_asking_again_can_mend_is_asked_again(case: str, api: str, watch: Watch) -> None:
    answer, kind, words = MENDABLE[case]
    watched = watch(api, [answer, reply("well")])
    assert watched.propose(prompt()).text == "well"
    call, *more = watched.failed
    assert call.kind == kind
    assert words in call.text
    assert call.model == watched.model.name
    assert call.seconds > 0
    # On a busy machine the next request may find the connection that the server has just left.
    assert {one.kind for one in more} <= {"connection"} and len(more) <= 1
    assert len(watched.waits) == len(watched.failed)


def test_each_failed_call_is_handed_over_before_the_next_request(api: str, watch: Watch) -> None:
    watched = watch(api, [error(500), error(429), Answer(drop=True), reply("well")])
    watched.propose(prompt())
    assert watched.requests_at_failure == [1, 2, 3]


def test_a_failed_call_costs_nothing_when_an_error_status_answered_it(api: str, watch: Watch) -> None:
    watched = watch(api, [error(500), reply("well")])
    watched.propose(prompt())
    assert watched.failed[0].cost_usd == 0.0


def test_a_stream_that_broke_has_an_unknown_cost_and_the_tokens_that_were_told(watch: Watch) -> None:
    watched = watch("anthropic", [reply(TRUNCATED, cut="closed"), reply("well")])
    watched.propose(prompt())
    [call] = watched.failed
    assert call.cost_usd is None
    assert call.output_tokens is None
    assert call.input_tokens == watched.server.log[0].input_tokens


def test_silence_ends_in_a_timeout(api: str, watch: Watch) -> None:
    watched = watch(api, [reply("late", wait_seconds=5), reply("well")], more="silence=0.2")
    assert watched.propose(prompt()).text == "well"
    assert watched.kinds == ["timeout"]
    assert "timed out" in watched.failed[0].text


def test_silence_within_a_reply_ends_in_a_timeout(api: str, watch: Watch) -> None:
    watched = watch(api, [reply("late", pause_seconds=5), reply("well")], more="silence=0.2")
    assert watched.propose(prompt()).text == "well"
    assert watched.kinds == ["timeout"]


def test_pings_do_not_keep_a_reply_open_for_ever(api: str, watch: Watch) -> None:
    started = time.monotonic()
    watched = watch(api, [reply("late", ping_seconds=20), reply("well")], more="timeout=0.3&silence=5")
    assert watched.propose(prompt()).text == "well"
    assert watched.kinds == ["timeout"]
    assert "did not end within 0.3 s" in watched.failed[0].text
    assert time.monotonic() - started < 5


def test_a_slow_reply_within_its_time_is_read_to_its_end(api: str, watch: Watch) -> None:
    watched = watch(api, [reply("a slow reply", pause_seconds=0.15)], more="timeout=30&silence=2")
    assert watched.propose(prompt()).text == "a slow reply"
    assert not watched.failed


def test_nobody_listening_is_a_failed_connection_that_cost_nothing(watch: Watch, api: str) -> None:
    watched = watch(api, [reply("never")])
    watched.server.__exit__()
    with pytest.raises(ModelError, match="refused"):
        watched.propose(prompt())
    assert watched.kinds == ["connection"] * ATTEMPTS
    assert {call.cost_usd for call in watched.failed} == {0.0}


def test_after_the_last_attempt_the_failure_is_told_in_the_providers_words(api: str, watch: Watch) -> None:
    watched = watch(api, [error(529, "we are overloaded", kind="overloaded_error")])
    with pytest.raises(ModelError, match="529 overloaded_error: we are overloaded") as caught:
        watched.propose(prompt())
    assert "later" in (caught.value.next_step or "")
    assert len(watched.failed) == len(watched.server.requests) == ATTEMPTS


def test_the_wait_doubles_and_is_drawn_from_its_upper_half() -> None:
    rng = random.Random(1)
    for attempt in range(1, 40):
        longest = min(LONGEST_WAIT_SECONDS, 2.0 ** (attempt - 1))
        assert longest / 2 <= wait_seconds(attempt, None, rng) <= longest


@pytest.mark.parametrize(
    ("header", "shortest"), [("7", 7.0), ("0", 0.0), ("2.5", 2.5), ("86400", LONGEST_RETRY_AFTER_SECONDS)]
)
def test_retry_after_is_honoured_up_to_a_limit(header: str, shortest: float, api: str, watch: Watch) -> None:
    watched = watch(api, [error(429, retry_after=header), reply("well")])
    watched.propose(prompt())
    [wait] = watched.waits
    assert shortest <= wait <= shortest + 1


def test_retry_after_may_be_a_date(watch: Watch) -> None:
    watched = watch("chat", [error(503, retry_after=formatdate(time.time() + 30, usegmt=True)), reply("well")])
    watched.propose(prompt())
    assert 25 < watched.waits[0] <= 31


@pytest.mark.parametrize("header", ["soon", "nan", "inf", "-5", "Thu, 99 Foo 2026 99:99:99 GMT", ""])
def test_a_retry_after_that_says_nothing_is_passed_over(header: str, watch: Watch) -> None:
    watched = watch("chat", [error(429, retry_after=header), reply("well")])
    watched.propose(prompt())
    assert 0 <= watched.waits[0] <= 1


def test_what_sleep_raises_ends_the_proposal_after_the_failed_call_was_handed_over(watch: Watch) -> None:
    watched = watch("chat", [error(500)])

    def stop(seconds: float) -> None:
        raise KeyboardInterrupt

    watched.model = load_model(watched.model.name, sleep=stop)
    with pytest.raises(KeyboardInterrupt):
        watched.propose(prompt())
    assert len(watched.failed) == 1


# --- models behind an API: failures for good --------------------------------------------------------------------------

FOR_GOOD = {
    "400": (error(400, "max_tokens is too large", kind="invalid_request_error"), "max_tokens is too large", "options"),
    "401": (error(401, "invalid x-api-key", kind="authentication_error"), "invalid x-api-key", "key"),
    "402": (error(402, "your credit is too low", kind="billing_error"), "your credit is too low", "billing"),
    "403": (error(403, "not for you", kind="permission_error"), "not for you", "may use"),
    "404": (error(404, "model: gpt-y", kind="not_found_error"), "model: gpt-y", "model's name"),
    "a spent quota": (error(429, "you exceeded your quota", kind="insufficient_quota"), "quota", "billing"),
    "told not to retry": (error(500, "gone", x_should_retry="false"), "gone", "refuses"),
    "a redirect": (
        Answer(status=307, headers={"location": "http://127.0.0.1:9/"}, body=b"moved"),
        "moved",
        "redirects",
    ),
    "a policy in the stream": (reply("xxxx", error=("bio_policy", "not this")), "not this", "refuses"),
}


@pytest.mark.parametrize("case", FOR_GOOD)
def test_what_asking_again_cannot_mend_ends_at_once_in_the_providers_words(case: str, api: str, watch: Watch) -> None:
    answer, words, step = FOR_GOOD[case]
    watched = watch(api, [answer])
    with pytest.raises(ModelError, match=words) as caught:
        watched.propose(prompt())
    assert step in (caught.value.next_step or "")
    assert watched.kinds == ["refused"] if case != "a spent quota" else ["rate limited"]
    assert not watched.waits
    assert len(watched.server.requests) == 1


# --- models behind an API: the limit ----------------------------------------------------------------------------------


def test_a_reply_that_has_become_too_dear_is_not_read_further(api: str, watch: Watch) -> None:
    watched = watch(api, [reply("x" * 40_000, pieces=100, pause_seconds=0.01)])
    limit = 0.003  # of about 0.15 for all of it
    got = watched.propose(prompt(), limit_usd=limit)
    assert got.finish_reason == "budget"
    assert 0 < len(got.text) < 5000
    assert got.output_tokens is None
    assert got.cost_usd is None
    [entry] = watched.server.wait_for_log(1)
    assert not entry.delivered
    assert entry.output_tokens < 2000
    assert got.input_tokens == (entry.input_tokens if api == "anthropic" else None)  # it is told before the reply


def test_a_reply_within_its_limit_is_read_to_its_end(api: str, watch: Watch) -> None:
    watched = watch(api, [reply("x" * 4000, pieces=20)])
    got = watched.propose(prompt(), limit_usd=0.02)
    assert got.finish_reason == "stop"
    assert got.cost_usd is not None
    assert got.cost_usd < 0.02


def test_the_limit_binds_all_attempts_together(api: str, watch: Watch) -> None:
    watched = watch(api, [reply("x" * 8000, cut="closed"), reply("x" * 8000, pieces=20, pause_seconds=0.01)])
    got = watched.propose(prompt(), limit_usd=0.02)  # the half that broke off was about 0.015, the second would be 0.03
    assert watched.kinds == ["cut off"]
    assert got.finish_reason == "budget"
    assert len(got.text) < 2000


def test_nothing_is_asked_again_that_would_pass_the_limit_before_its_first_word(api: str, watch: Watch) -> None:
    watched = watch(api, [reply("x" * 8000, cut="closed", pieces=2, pause_seconds=0.1)])
    with pytest.raises(ModelError, match=r"more than the limit of 0\.0153 US dollars"):
        watched.propose(prompt(), limit_usd=0.0153)  # 0.0152 are spent, and the prompt alone costs 0.0002
    assert len(watched.failed) == len(watched.server.requests) == 1


# --- prices -----------------------------------------------------------------------------------------------------------


def test_an_unknown_price_is_none_and_says_what_to_write_where() -> None:
    name = "openai:qwen3:8b@http://localhost:11434/v1?effort=low"
    assert price_of(name) is None
    assert '"openai:qwen3:8b@http://localhost:11434/v1" = { input' in unknown_price(name)
    own = {"openai:qwen3:8b@http://localhost:11434/v1": PRICE}
    assert price_of(name, own) == PRICE


def test_a_price_is_found_by_name_without_options_and_by_dated_snapshot() -> None:
    price = price_of("anthropic:claude-opus-5-5")
    assert price is not None
    assert price_of("anthropic:claude-opus-5-5?effort=high") == price
    assert price_of("anthropic:claude-opus-5-5-20260922") == price
    assert price_of("openai:gpt-6-sol-2026-09-22") == price_of("openai:gpt-6-sol") is not None


def test_a_provider_price_is_not_taken_for_another_server_or_a_model_of_similar_name() -> None:
    assert price_of("anthropic:claude-opus-5-5@http://localhost:1") is None
    assert price_of("openai:gpt-6-sol-pro") is None
    assert price_of("openai:claude-opus-5-5") is None


def test_the_users_own_price_comes_first() -> None:
    assert price_of("openai:gpt-6-sol", {"openai:gpt-6-sol": PRICE}) == PRICE


def test_every_listed_price_is_positive_and_a_cache_is_cheaper_than_none() -> None:
    assert listed()
    for name, price in listed().items():
        assert 0 < price.cached_usd < price.input_usd < price.output_usd, name


def test_the_cost_of_unknown_tokens_is_unknown() -> None:
    assert cost_of(Usage(input_tokens=5), PRICE) is None
    assert cost_of(Usage(output_tokens=5), PRICE) is None
    assert cost_of(Usage(input_tokens=5, output_tokens=5), None) is None
    assert cost_of(Usage(input_tokens=10**6, output_tokens=10**6), PRICE) == 18.0


def test_no_cost_is_negative_whatever_a_server_tells() -> None:
    assert cost_of(Usage(input_tokens=1, cached_tokens=10**6, output_tokens=0), PRICE) == 0.5


# --- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("gpt-5", "unknown model 'gpt-5'"),
        ("mutate:fast", "unknown model"),
        ("anthropic:", "names no model"),
        ("openai:?effort=high", "names no model"),
        ("agent", "kernelevo ask"),
        ("replay:r-123", "kernelevo replay"),
        ("openai:m@localhost:8000/v1", "http://"),
        ("openai:m@http:///v1", "is no URL"),
        ("openai:m@http://host:99999/v1", "is no URL"),
        ("openai:m@http://host/v1#top", "fragment"),
        ("openai:m@http://h/v1?effort=huge", "none, minimal, low, medium, high, xhigh, max"),
        ("anthropic:m@http://h?effort=minimal", "low, medium, high, xhigh, max"),
        ("openai:m@http://h/v1?size=3", "options are effort, max_tokens, silence, timeout, key, api"),
        ("openai:m?api=chat", "has no option 'api' here"),
        ("openai:m@http://h/v1?effort", "NAME=VALUE"),
        ("openai:m@http://h/v1?effort=low&effort=high", "twice"),
        ("openai:m@http://h/v1?max_tokens=0", "whole number above 0"),
        ("openai:m@http://h/v1?max_tokens=1.5", "whole number above 0"),
        ("openai:m@http://h/v1?timeout=inf", "number above 0"),
        ("openai:m@http://h/v1?api=soap", "chat or responses"),
        ("anthropic:m@http://h?thinking=loud", "adaptive, disabled"),
        ("anthropic:m@http://h?thinking=9000&max_tokens=8000", "below max_tokens \\(8000\\)"),
        ("anthropic:m", "ANTHROPIC_API_KEY is not set"),
        ("openai:m", "OPENAI_API_KEY is not set"),
        ("openai:m@http://h/v1?key=MY_KEY", "MY_KEY is not set"),
        ("openai:m@http://h/v1?key=a-b", "not the name of an environment variable"),
    ],
)
def test_a_name_that_means_no_model_is_refused_with_what_to_do(name: str, words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        load_model(name)
    assert caught.value.next_step


def test_a_name_may_hold_what_names_of_models_hold() -> None:
    for name in ("openai:qwen3:8b@http://[::1]:11434/v1", "openai:org/m@x@https://h/v1", "anthropic:a@2025@http://h"):
        assert load_model(name).name == name


def test_requests_overlap(api: str, watch: Watch) -> None:
    watched = watch(api, [reply("ok")], latency_seconds=0.3)
    threads = [threading.Thread(target=watched.propose, args=(prompt(),)) for _ in range(4)]
    started = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert watched.server.most_open == 4
    assert time.monotonic() - started < 1.1
