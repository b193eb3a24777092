"""Prompt to Reply to Candidate: what a model answered, made into one CUDA source or into a reason the model can act on.

`read_candidate` is the way in. reply.py finds the file or the edits in a reply's text, edits.py applies edits to the
first parent, source.py says what can be told of a CUDA text without a compiler. None of them ever raises for what a
model wrote, and all take time linear in its length.

Not covered: Python candidates (a reply must be one .cu file), and whether the source compiles.
"""

from __future__ import annotations

from kernelevo.errors import ModelError
from kernelevo.models import Failed, Model, unwatched
from kernelevo.propose.reply import read_source
from kernelevo.propose.source import read_tunables
from kernelevo.records import Candidate, Diagnostic, Prompt, Reply

__all__ = ["propose", "read_candidate", "read_source", "read_tunables", "words_of"]


def propose(prompt: Prompt, model: Model, *, limit_usd: float | None = None, failed: Failed = unwatched) -> Reply:
    """The model's reply. Raises ModelError, naming the model, for what retrying cannot mend."""
    try:
        return model.propose(prompt, limit_usd=limit_usd, failed=failed)
    except ModelError as error:
        raise ModelError(f"{model.name}: {error.args[0]}", next_step=error.next_step) from error


def read_candidate(reply: Reply, prompt: Prompt, *, entry: str) -> Candidate | Diagnostic:
    """The candidate a reply holds, or why it holds none. Edits are applied to the prompt's first parent."""
    first = prompt.parents[0] if prompt.parents else None
    source = read_source(
        reply.text, parent=first.source if first else None, entry=entry, finish_reason=reply.finish_reason
    )
    if isinstance(source, Diagnostic):
        return source
    tunables = read_tunables(source)
    if isinstance(tunables, Diagnostic):
        return tunables
    return Candidate(
        source=source,
        entry=entry,
        parents=tuple(parent.id for parent in prompt.parents),
        rewrites=(first.rewrites if first and reply.rewrites else ()) + reply.rewrites,
        tunables=tunables,
    )


def words_of(diagnostic: Diagnostic) -> str:
    """Why a reply was of no use, for who wrote it."""
    return f"line {diagnostic.line} of your file: {diagnostic.text}" if diagnostic.line else diagnostic.text
