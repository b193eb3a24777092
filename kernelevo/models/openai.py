"""`openai:MODEL`: OpenAI's Responses API; with `@URL`, Chat Completions of a compatible server.

Takes a prompt, gives its stream (see language.py). At OpenAI it is Responses: the API that its reasoning models are
made for, whose last event says why the reply ended and holds the usage, in one. Compatible servers (vLLM, llama.cpp,
Ollama and the like) have Chat Completions in common, and not all of it: an optional parameter that a server refuses by
its name is left out from then on, and where no usage comes, tokens are unknown. The seed is sent where the API has one.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from typing import Any

import openai

from kernelevo.models.language import Piece, count, http_options, system_and_user
from kernelevo.models.prices import Usage
from kernelevo.models.retry import Failure, StreamError
from kernelevo.records import Prompt, digest

URL = "https://api.openai.com/v1"
VARIABLE = "OPENAI_API_KEY"
OPTIONAL = ("stream_options", "temperature", "seed", "prompt_cache_key", "store")  # nobody asked for them by name


class Client:
    """What both APIs share: the SDK's client, and which optional parameters the server does not take."""

    errors = openai.OpenAIError

    def __init__(
        self,
        model: str,
        *,
        url: str,
        key: str | None,
        variable: str | None,
        silence_seconds: float,
        total_seconds: float,
        max_tokens: int | None = None,
        effort: str | None = None,
    ) -> None:
        self.variable = variable
        options = http_options(silence_seconds=silence_seconds, total_seconds=total_seconds)
        self._client = openai.OpenAI(
            api_key=key or "none",  # without one the SDK would look for one in the environment
            base_url=url,
            max_retries=0,
            timeout=options["timeout"],
            http_client=openai.DefaultHttpxClient(**options),
        )
        self._model = model
        self._max_tokens = max_tokens
        self._effort = effort
        self._refused: set[str] = set()

    def adapt(self, failure: Failure) -> bool:
        """Leaves out the optional parameters that a refusal names."""
        if failure.status not in (400, 422):
            return False
        named = {name for name in OPTIONAL if re.search(rf"\b{name}\b", failure.text)} - self._refused
        self._refused |= named
        return bool(named)

    def _arguments(self, **given: Any) -> dict[str, Any]:
        """The parameters to send: without those that have no value or are refused."""
        return {name: value for name, value in given.items() if value is not None and name not in self._refused}


class Responses(Client):
    """An Api (see language.py) over Responses."""

    def __init__(self, model: str, **arguments: Any) -> None:
        super().__init__(model, **arguments)
        self._create: Any = self._client.responses.create  # here: the SDK imports on first use, which can take seconds

    def stream(self, prompt: Prompt) -> Generator[Piece, None, None]:
        system, rest = system_and_user(prompt)
        instructions = "\n\n".join(message.text for message in system)
        arguments = self._arguments(
            instructions=instructions or None,
            max_output_tokens=self._max_tokens,
            reasoning=None if self._effort is None else {"effort": self._effort},
            temperature=prompt.temperature,
            prompt_cache_key=digest(instructions, tag="k"),  # prompts that begin alike are sent to one cache
            store=False,  # the archive keeps replies; the provider need not
        )
        asked = [{"role": "user", "content": message.text} for message in rest]
        refused = False
        with self._create(model=self._model, input=asked, stream=True, **arguments) as events:
            for event in events:
                match event.type:
                    case "response.output_text.delta":
                        yield Piece(text=event.delta)
                    case "response.refusal.delta":
                        refused = True
                        yield Piece(text=event.delta)
                    case "response.reasoning_summary_text.delta" | "response.reasoning_text.delta":
                        yield Piece(thought=event.delta)
                    case "response.completed":
                        yield Piece(usage=responses_usage(event.response), finish="refusal" if refused else "stop")
                        return
                    case "response.incomplete":
                        details = event.response.incomplete_details
                        reason = (details and details.reason) or "incomplete"
                        yield Piece(usage=responses_usage(event.response), finish=reason)
                        return
                    case "response.failed":
                        error = event.response.error
                        if usage := responses_usage(event.response):
                            yield Piece(usage=usage)
                        raise StreamError(error.code if error else "", error.message if error else "it failed")
                    case "error":
                        raise StreamError(event.code or "", event.message)


class Chat(Client):
    """An Api (see language.py) over Chat Completions."""

    def __init__(self, model: str, **arguments: Any) -> None:
        super().__init__(model, **arguments)
        self._create: Any = self._client.chat.completions.create

    def stream(self, prompt: Prompt) -> Generator[Piece, None, None]:
        arguments = self._arguments(
            max_tokens=self._max_tokens,  # its newer name, max_completion_tokens, is not known to all servers
            reasoning_effort=self._effort,
            temperature=prompt.temperature,
            seed=prompt.seed,
            stream_options={"include_usage": True},
        )
        system, rest = system_and_user(prompt)
        messages = [{"role": "system", "content": message.text} for message in system]
        messages += [{"role": "user", "content": message.text} for message in rest]
        refused = False
        with self._create(model=self._model, messages=messages, stream=True, **arguments) as chunks:
            for chunk in chunks:
                usage = chat_usage(chunk.usage) if chunk.usage else None
                if not chunk.choices:
                    yield Piece(usage=usage)
                    continue
                choice = chunk.choices[0]
                delta = choice.delta
                refusal = (delta and delta.refusal) or ""
                refused = refused or bool(refusal)
                yield Piece(
                    text=((delta and delta.content) or "") + refusal,
                    thought=shown_reasoning(delta),
                    usage=usage,
                    finish="refusal" if refused and choice.finish_reason else choice.finish_reason,
                )


def shown_reasoning(delta: Any) -> str:
    """What servers add to the API for models that think aloud: vLLM and llama.cpp under two names."""
    return getattr(delta, "reasoning_content", None) or getattr(delta, "reasoning", None) or ""


def responses_usage(response: Any) -> Usage | None:
    usage = response.usage
    if usage is None:
        return None
    read, thought = usage.input_tokens_details, usage.output_tokens_details
    return Usage(
        input_tokens=count(usage.input_tokens),
        cached_tokens=count(getattr(read, "cached_tokens", None)),
        written_tokens=count(getattr(read, "cache_write_tokens", None)),
        output_tokens=count(usage.output_tokens),
        reasoning_tokens=count(getattr(thought, "reasoning_tokens", None)),
    )


def chat_usage(usage: Any) -> Usage:
    read, thought = usage.prompt_tokens_details, usage.completion_tokens_details
    return Usage(
        input_tokens=count(usage.prompt_tokens),
        cached_tokens=count(getattr(read, "cached_tokens", None)),
        written_tokens=count(getattr(read, "cache_write_tokens", None)),
        output_tokens=count(usage.completion_tokens),
        reasoning_tokens=count(getattr(thought, "reasoning_tokens", None)),
    )
