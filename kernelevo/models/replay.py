"""Replies that were recorded, given again: a run can be repeated without a key, a network or money.

Takes the replies of one model by the prompts that they answered, gives each for its prompt. A prompt that was never
answered means that the run has gone another way, and ends it. Failed calls are not repeated.
"""

from __future__ import annotations

from collections.abc import Mapping

from kernelevo.errors import ModelError
from kernelevo.models import Failed, unwatched
from kernelevo.records import Prompt, Reply, digest


class Replay:
    """A Model (see kernelevo.models) that answers what was answered before."""

    free = False

    def __init__(self, name: str, replies: Mapping[str, Reply]) -> None:
        """name: of the model whose replies these are. replies: by `prompt_key` of their prompts."""
        self.name = name
        self._replies = replies

    def propose(self, prompt: Prompt, *, limit_usd: float | None = None, failed: Failed = unwatched) -> Reply:
        """The recorded reply, as it was, whatever it cost then. Raises ModelError for a prompt without one."""
        key = prompt_key(prompt)
        reply = self._replies.get(key)
        if reply is None:
            raise ModelError(
                f"no reply to prompt {key} is recorded ({prompt.operator.value}, template {prompt.template or 'none'}, "
                f"seed {prompt.seed}, {len(prompt.parents)} parents)",
                next_step="replay with the version of kernelevo, the task and the device that the run was made with",
            )
        return reply


def prompt_key(prompt: Prompt) -> str:
    """Equal for prompts that say the same with the same seed: "p-" and 16 hexadecimal digits."""
    messages = [part for message in prompt.messages for part in (message.role, message.text)]
    return digest(str(prompt.seed), *messages, tag="p")
