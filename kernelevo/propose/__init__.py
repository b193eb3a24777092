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

__all__ = ["propose", "read_candidate", "read_source", "read_tunables", "retry_message"]


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


def retry_message(diagnostic: Diagnostic) -> str:
    """What a model is told when its reply held no candidate: what was wrong, and the forms that can be read."""
    place = f"line {diagnostic.line} of your file: " if diagnostic.line else ""
    return f"""Your last reply could not be used, and nothing of it was compiled.
{place}{diagnostic.text}

Answer again in exactly one of these two forms:
1. The whole .cu file in one ```cuda block, with nothing left out, ending with PYBIND11_MODULE(TORCH_EXTENSION_NAME, m).
2. Only if you were shown a kernel: changes to it (to the first, if you were shown several), each as
<<<<<<< SEARCH
lines copied from the kernel as it was shown to you, enough of them to occur there only once
=======
the lines that replace them
>>>>>>> REPLACE
"""
