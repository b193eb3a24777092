"""Models propose. This module is the protocol; each other file is one model or family of models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from kernelevo.records import FailedCall, Prompt, Reply

Failed = Callable[[FailedCall], None]


def unwatched(call: FailedCall) -> None:
    """Failed calls that nobody writes down."""


class Model(Protocol):
    """Turns a prompt into a reply. The contract, checked for every model by tests/contract/test_model.py:

    - The reply's text is the model's own words; reading a candidate out of it is not the model's business.
    - What is unknown (tokens, cost) is None.
    - `propose` may be called from several threads at once.
    - What retrying can mend it retries itself, and hands each call that failed to `failed`, before the next one.
    - It raises ModelError, in the provider's words, for what retrying cannot mend or did not.
    - It stops reading a reply that has become dearer than `limit_usd`, with finish_reason "budget". Without a price it
      cannot know, and reads on.
    - A model that can be seeded gives the same reply for the same prompt.
    """

    name: str  # as given on the command line, for example "mutate" or "anthropic:MODEL"
    free: bool  # asking costs neither money nor a wait, and the same prompt gives the same reply

    def propose(self, prompt: Prompt, *, limit_usd: float | None = None, failed: Failed = unwatched) -> Reply: ...
