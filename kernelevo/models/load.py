"""A model's name on the command line to the model."""

from __future__ import annotations

from kernelevo.errors import UsageError
from kernelevo.models import Model

PLANNED = ("anthropic", "openai", "replay", "agent")


def load_model(name: str) -> Model:
    """The model of that name. Raises UsageError for an unknown one, and for those that are designed but not built."""
    if name == "mutate":
        from kernelevo.models.mutate import Mutate

        return Mutate()
    kind = name.partition(":")[0]
    if kind in PLANNED:
        raise UsageError(f"model {name!r}: {kind} is not part of this version", next_step="use mutate")
    raise UsageError(f"unknown model {name!r}", next_step="use mutate")
