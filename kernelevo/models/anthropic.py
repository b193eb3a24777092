"""`anthropic:MODEL`: Anthropic's Messages API, or a server that speaks it.

Takes a prompt, gives its stream (see language.py). The system message is marked for the provider's cache, which keeps
it for 5 minutes: prompts of one run share it. Not sent: the prompt's temperature, which the API no longer takes (models
since claude-opus-4-7 answer 400, and this SDK has no such argument), and its seed, which the API never took.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import anthropic
from anthropic.types import MessageParam, TextBlockParam

from kernelevo.models.language import Piece, count, http_options, system_and_user
from kernelevo.models.prices import Usage
from kernelevo.models.retry import Failure
from kernelevo.records import Prompt

URL = "https://api.anthropic.com"
VARIABLE = "ANTHROPIC_API_KEY"
MAX_TOKENS = 32_000  # the API wants a limit: room for thinking and a long kernel


class Messages:
    """An Api (see language.py)."""

    errors = anthropic.AnthropicError

    def __init__(
        self,
        model: str,
        *,
        url: str,
        key: str | None,
        variable: str | None,
        silence_seconds: float,
        total_seconds: float,
        max_tokens: int = MAX_TOKENS,
        effort: str | None = None,
        thinking: str | None = None,
    ) -> None:
        """thinking: "adaptive", "disabled", or the number of tokens to think with."""
        self.variable = variable
        options = http_options(silence_seconds=silence_seconds, total_seconds=total_seconds)
        client = anthropic.Anthropic(
            api_key=key or "none",  # without one the SDK would look for one in the environment
            base_url=url,
            max_retries=0,
            timeout=options["timeout"],
            http_client=anthropic.DefaultHttpxClient(**options),
            open_telemetry=False,
        )
        self._create: Any = client.messages.create  # here: the SDK imports on first use, which can take seconds
        self._arguments: dict[str, Any] = {"model": model, "max_tokens": max_tokens, "stream": True}
        if effort is not None:
            self._arguments["output_config"] = {"effort": effort}
        if thinking is not None:
            self._arguments["thinking"] = (
                {"type": thinking}
                if thinking in ("adaptive", "disabled")
                else {"type": "enabled", "budget_tokens": int(thinking)}
            )

    def stream(self, prompt: Prompt) -> Generator[Piece, None, None]:
        system, rest = system_and_user(prompt)
        arguments = dict(self._arguments)
        if system:
            blocks: list[TextBlockParam] = [{"type": "text", "text": message.text} for message in system]
            blocks[-1]["cache_control"] = {"type": "ephemeral"}
            arguments["system"] = blocks
        messages: list[MessageParam] = [{"role": "user", "content": message.text} for message in rest]
        usage = Usage()
        with self._create(messages=messages, **arguments) as events:
            for event in events:
                match event.type:
                    case "message_start":
                        usage = read_input(event.message.usage)
                        yield Piece(usage=usage)
                    case "content_block_start":
                        yield Piece(text=getattr(event.content_block, "text", ""))
                    case "content_block_delta":
                        delta = event.delta
                        yield Piece(text=getattr(delta, "text", ""), thought=getattr(delta, "thinking", ""))
                    case "message_delta":
                        details = event.delta.stop_details
                        yield Piece(
                            usage=with_output(usage, event.usage),
                            finish=event.delta.stop_reason,
                            reason=(details.explanation if details else None) or "",
                        )
                    case "message_stop":
                        return

    def adapt(self, failure: Failure) -> bool:
        return False


def read_input(usage: Any) -> Usage:
    """What the first event knows. The API counts cached and written tokens beside the others; Usage counts all."""
    plain, cached = count(usage.input_tokens), count(usage.cache_read_input_tokens)
    written = count(usage.cache_creation_input_tokens)
    total = None if plain is None else plain + (cached or 0) + (written or 0)
    return Usage(input_tokens=total, cached_tokens=cached, written_tokens=written)


def with_output(usage: Usage, told: Any) -> Usage:
    """The tokens of the whole reply, which the last event tells."""
    details = told.output_tokens_details
    return Usage(
        input_tokens=usage.input_tokens,
        cached_tokens=usage.cached_tokens,
        written_tokens=usage.written_tokens,
        output_tokens=count(told.output_tokens),
        reasoning_tokens=count(details.thinking_tokens) if details else None,
    )
