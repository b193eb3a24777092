"""Prompt to Reply to Candidate.

`read_candidate` accepts a whole CUDA file, fenced or not. What holds no usable kernel is a Diagnostic with a reason.

Not covered: SEARCH/REPLACE replies.
"""

from __future__ import annotations

import re

from kernelevo.errors import ModelError
from kernelevo.models import Model
from kernelevo.records import Candidate, Diagnostic, Prompt, Reply

FENCE = re.compile(r"^[ \t]*```[ \t]*([\w+-]*)[ \t]*\r?\n(.*?)^[ \t]*```[ \t]*\r?$", re.MULTILINE | re.DOTALL)
TUNABLE = re.compile(r"^\s*//\s*tunable:\s*(\w+)\s*=\s*(\d+(?:\s*,\s*\d+)*)\s*$", re.MULTILINE)
MODULE = "PYBIND11_MODULE"


def propose(prompt: Prompt, model: Model) -> Reply:
    """The model's reply. Raises ModelError, naming the model, for what retrying cannot mend."""
    try:
        return model.propose(prompt)
    except ModelError as error:
        raise ModelError(f"{model.name}: {error.args[0]}", next_step=error.next_step) from error


def read_candidate(reply: Reply, prompt: Prompt, *, entry: str) -> Candidate | Diagnostic:
    """The candidate a reply holds, or why it holds none."""
    source = read_source(reply.text)
    if isinstance(source, Diagnostic):
        return source
    history = prompt.parents[0].rewrites if prompt.parents and reply.rewrites else ()
    return Candidate(
        source=source,
        entry=entry,
        parents=tuple(parent.id for parent in prompt.parents),
        rewrites=history + reply.rewrites,
        tunables=read_tunables(source),
    )


def read_source(text: str) -> str | Diagnostic:
    """The one CUDA file in a text: the text itself, or its only fenced block that defines a module."""
    blocks = [body for _, body in FENCE.findall(text)]
    if not blocks:
        if MODULE in text:
            return normalise(text)
        return unreadable("the reply holds neither a fenced block nor a PYBIND11_MODULE")
    modules = list(dict.fromkeys(body for body in blocks if MODULE in body))
    if len(modules) == 1:
        return normalise(modules[0])
    if not modules:
        return unreadable(f"none of the reply's {len(blocks)} fenced blocks has a PYBIND11_MODULE")
    return unreadable(f"{len(modules)} different fenced blocks have a PYBIND11_MODULE; exactly one is wanted")


def read_tunables(source: str) -> dict[str, tuple[int, ...]]:
    """Declared tunables: `// tunable: BLOCK = 64, 128, 256`."""
    return {name: tuple(int(value) for value in values.split(",")) for name, values in TUNABLE.findall(source)}


def normalise(source: str) -> str:
    """Unix line ends and one newline at the end, so that equal sources have equal ids."""
    return source.replace("\r\n", "\n").strip("\n") + "\n"


def unreadable(text: str) -> Diagnostic:
    return Diagnostic(severity="error", line=None, column=None, text=text, stage="read")
