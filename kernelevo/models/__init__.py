"""Models propose. This module is the protocol; each other file is one model or family of models."""

from __future__ import annotations

from typing import Protocol

from kernelevo.records import Prompt, Reply


class Model(Protocol):
    """Turns a prompt into a reply. The contract, checked for every model by tests/contract/test_model.py:

    - The reply's text is the model's own words; reading a candidate out of it is not the model's business.
    - What is unknown (tokens, cost) is None.
    - `propose` may be called from several threads at once.
    - It raises ModelError for what retrying cannot mend; anything else it retries itself.
    - A model that can be seeded gives the same reply for the same prompt.
    """

    name: str  # as given on the command line, for example "mutate" or "anthropic:MODEL"

    def propose(self, prompt: Prompt) -> Reply: ...
