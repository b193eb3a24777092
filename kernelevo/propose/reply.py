"""The one CUDA file in the text of a reply. Takes text and the first parent, gives a source, or a reason for the model.

Around the file may stand, in this order: thoughts in <think> tags, HTML escapes (undone only where no raw <<< is),
the > of a quotation, a JSON object of which one string is the file, prose, fences of backticks or tildes, tags such
as <code>. What counts:

- A block counts as the file when it has a PYBIND11_MODULE. Equal blocks count once, and a block that repeats the
  parent does not count beside another one or beside edits.
- Of several different files the last one counts if the words between it and the block before it call it the final,
  corrected, revised or fixed version, or say that it replaces what came before; otherwise none does.
- Edits (see edits.py) are applied to the parent. Where a reply holds edits and a file, both must come to the same.
- A block that is not ended, and the text of a reply that was cut off (CUT_OFF), count only when the file in them is
  whole. Edits of a reply that was cut off are not applied: more may have been meant.
- Outside of fences and tags, the file is what stands between prose before its first directive or comment and prose
  behind its module.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from kernelevo.propose.edits import Edit, apply_edits, read_edits
from kernelevo.propose.source import (
    clip,
    code_of,
    defined_function,
    ends_in_comment,
    find_fault,
    has_module,
    is_python,
    is_whole,
    module_end,
    normalise,
    unix_lines,
    unreadable,
)
from kernelevo.records import Diagnostic

LARGEST = 1_000_000  # characters of a reply
CUT_OFF = frozenset({"length", "max_tokens", "max_output_tokens", "model_context_window_exceeded", "budget"})
DECLINED = frozenset({"refusal", "content_filter"})

_FENCE = re.compile(r"([ \t]*+)(`{3,}+|~{3,}+)([^`\n]*+)$")
_CUDA = frozenset({"", "cuda", "cu", "cpp", "c++", "cc", "c", "cuda-cpp", "cuda_cpp", "cudac++", "cxx", "hpp", "cuh"})
_GLUED_FENCE = re.compile(r"[;}][ \t]*+(?:```|~~~)[ \t]*+$", re.MULTILINE)
_TAGS = "code|kernel|cuda|cuda_code|kernel_code|source|answer|solution|file|program|candidate"
_TAG = re.compile(
    rf"(?m:^)[ \t]*+(?:<pre>)?<({_TAGS})(?:[ \t][^>\n]{{0,200}})?>(?:<!\[CDATA\[)?|(?:\]\]>)?</({_TAGS})>"
)
_QUOTED = re.compile(r"(?:[ \t]*+(?:>[^\n]*+)?(?:\n|\Z))++\Z")
_THOUGHT = re.compile(r"\s*+<think(?:ing)?>")
_THOUGHT_ENDS = re.compile(r".*</think(?:ing)?>", re.DOTALL)
_ESCAPED = {"&lt;": "<", "&gt;": ">", "&amp;": "&", "&quot;": '"', "&#39;": "'", "&#x27;": "'", "&apos;": "'"}
_ESCAPE = re.compile("|".join(_ESCAPED))
_CODE_BEGINS = re.compile(r"[ \t]*+(?:#[ \t]*+(?:include|define|pragma|if|ifdef|ifndef|undef|error)\b|//|/\*)")
_ONLY_DIRECTIVES = re.compile(
    r"(?:[ \t]*+(?:#[ \t]*+(?:include|define|pragma|if|ifdef|ifndef|undef|endif|else)\b.*+)?\n?)*+\Z"
)
_FINAL = re.compile(
    r"\b(?:final|corrected|revised|fixed)(?:[\s,*_`]+(?:and|full|complete|whole|cuda|optimi[sz]ed|improved|final|corrected))"
    r"{0,3}[\s,*_`]+(?:version|code|kernel|file|implementation|source|answer|solution)\b"
    r"|\b(?:this|it|which)\s+(?:replaces|supersedes)\b|\b(?:ignore|disregard)\s+(?:the|that)\s+(?:above|previous|first)\b",
    re.IGNORECASE,
)
_DECLINING = re.compile(
    r"\b(?:I\s+can(?:no|['\u2019])t|I(?:\s+a|['\u2019])m\s+(?:sorry|unable|not\s+able)|I\s+won['\u2019]t)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A part of a reply that is set apart as code."""

    language: str  # first word behind the fence, in small letters; "" for tags
    body: str
    before: str  # what stands between the block before it and this one
    line: int  # of the reply, from 1, of its first line
    ended: bool  # whether its closing fence or tag is there


def read_source(
    text: str, *, parent: str | None = None, entry: str = "forward", finish_reason: str = "stop"
) -> str | Diagnostic:
    """The source that a reply's text stands for.

    parent: source that edits are applied to.
    entry: function that the file must export; for the words of reasons.
    finish_reason: of the reply, in its provider's words.
    """
    if len(text) > LARGEST:
        return unreadable(f"the reply has {len(text):,} characters; at most {LARGEST:,} are read")
    cut = finish_reason in CUT_OFF
    source = _unchecked(unix_lines(text).replace("\ufeff", ""), parent, entry, finish_reason, cut)
    if isinstance(source, Diagnostic):
        return source
    source = normalise(source)
    return find_fault(source, parent=parent) or source


def _unchecked(text: str, parent: str | None, entry: str, finish_reason: str, cut: bool) -> str | Diagnostic:
    """A source that has not been looked at more closely than was needed to find it."""
    if _is_only_code(text):
        return text
    unwrapped = _unwrap(text)
    if isinstance(unwrapped, Diagnostic):
        return unwrapped
    text = unwrapped
    if re.search(r"[\0\ud800-\udfff]", text):
        return unreadable(
            "the reply holds characters that no source file can hold (NUL, or halves of a surrogate pair)"
        )
    edits = read_edits(text)
    if isinstance(edits, Diagnostic):
        return _cut_off(edits.text) if cut else edits
    changes, rest = edits
    files = _files(rest, cut=cut, parent=parent, among_edits=bool(changes))
    if isinstance(files, Diagnostic):
        return files
    if not changes:
        return files[-1] if files else _nothing(text, entry, finish_reason, cut=cut)
    if cut:
        return _cut_off("its edits are not applied, for more may have been meant")
    edited = _edited(parent, changes)
    if isinstance(edited, Diagnostic) or not files:
        return edited
    if _words(files[-1]) != _words(edited):
        return unreadable(
            "the reply holds edits and a whole file, and they do not come to the same; send one of the two"
        )
    return files[-1]


# --- what is around -------------------------------------------------------------------------------------------------


def _is_only_code(text: str) -> bool:
    """Whether a reply is a file and nothing else: then nothing in it means anything but C++."""
    code = code_of(text)
    end = module_end(code)
    return (
        _CODE_BEGINS.match(text) is not None
        and end is not None
        and "`" not in code
        and "\n<<<<" not in code
        and not _is_prose(text[end:], code[end:])
        and is_whole(text)
        and not is_python(text)
        and re.search(r"[\0\ud800-\udfff]", text) is None
    )


def _is_prose(text: str, code: str) -> bool:
    """Whether what follows a module is no code. `code` is the text without comments and literals."""
    return not (_ONLY_DIRECTIVES.match(code) or re.search(r"[{}]|;[ \t]*$", code, re.MULTILINE)) and bool(text.strip())


def _unwrap(text: str) -> str | Diagnostic:
    """The text without thoughts, HTML escapes, marks of quotation and JSON."""
    if (thoughts := _THOUGHT_ENDS.match(text)) is not None:
        text = text[thoughts.end() :]
    elif _THOUGHT.match(text):
        return unreadable("the reply ends within its <think> part; think less, and answer with the file")
    if "&lt;&lt;&lt;" in text and "<<<" not in text:
        text = _ESCAPE.sub(lambda found: _ESCAPED[found.group()], text)
    if _QUOTED.match(text):
        text = re.sub(r"(?m:^)[ \t]*+> ?", "", text)
    for wrapped in (text, *(block.body for block in _blocks(text) if block.language == "json")):
        held = list(dict.fromkeys(_strings(wrapped)))
        if len(held) > 1:
            return unreadable(f"{len(held)} different strings of the JSON object hold code; exactly one is wanted")
        if held:
            return unix_lines(held[0]).replace("\ufeff", "")
    return text


def _strings(text: str) -> Iterator[str]:
    """Strings in a JSON object that hold a module, or else edits."""
    begin = re.search(r"(?m:^)[ \t]*+\{", text)
    if begin is None:
        return
    try:
        waiting = [json.loads(text[begin.start() : text.rfind("}") + 1], strict=False)]
    except (ValueError, RecursionError):
        return
    strings: list[str] = []
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            strings.append(value)
        elif isinstance(value, dict | list):
            waiting += value.values() if isinstance(value, dict) else value
    yield from [s for s in strings if has_module(s)] or [
        s for s in strings if re.search(r"(?m:^)[ \t]*+<{3,} *SEARCH", s)
    ]


# --- fences and tags ------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Open:
    """A block under way."""

    indentation: str
    fence: str
    language: str
    before: str
    line: int
    body: list[str] = field(default_factory=list)
    in_comment: bool = False

    def take(self, line: str) -> None:
        self.body.append(line.removeprefix(self.indentation))
        if self.language in _CUDA and self.language:
            self.in_comment = ends_in_comment(line, began_in_comment=self.in_comment)

    def block(self, *, ended: bool) -> Block:
        body = "\n".join(self.body)
        glued = None if ended else _GLUED_FENCE.search(body)
        if glued is not None:  # the fence stands behind the last brace, on its line
            body, ended = body[: glued.start() + 1], True
        return Block(language=self.language, body=body, before=self.before, line=self.line + 1, ended=ended)


def _blocks(text: str) -> list[Block]:
    """The fenced blocks of a text. As in CommonMark, but that an opening fence within a block ends it, and that a fence
    in a comment of a block said to be C++ or CUDA is part of it."""
    found: list[Block] = []
    prose: list[str] = []
    block: _Open | None = None
    for number, line in enumerate(text.split("\n"), 1):
        fence = _FENCE.match(line)
        if block is not None and (fence is None or block.in_comment or not _may_end(block.fence, fence[2])):
            block.take(line)
            continue
        if fence is None:
            prose.append(line)
            continue
        words = fence[3].split()
        if block is not None:
            found.append(block.block(ended=True))
            prose, block = [], None
            if not words:
                continue
        language = words[0].strip("{}.").lower() if words else ""
        block = _Open(fence[1], fence[2], language, "\n".join(prose), number)
    if block is not None:
        found.append(block.block(ended=False))
    return found


def _may_end(opening: str, fence: str) -> bool:
    return fence[0] == opening[0] and len(fence) >= len(opening)


def _tagged(text: str) -> list[Block]:
    """What stands between tags, innermost ones only."""
    found: list[Block] = []
    opened: re.Match[str] | None = None
    last, line, counted = 0, 1, 0  # end of the block before; line at the offset up to which lines are counted
    ends = [*((tag.start(), tag) for tag in _TAG.finditer(text)), (len(text), None)]
    for end, tag in ends:
        if opened is not None and (tag is None or tag[2] == opened[1]):
            line, counted = line + text.count("\n", counted, opened.end()), opened.end()
            body, before = text[opened.end() : end], text[last : opened.start()]
            found.append(Block(language="", body=body, before=before, line=line, ended=tag is not None))
            opened, last = None, end
        if tag is not None and tag[1]:
            opened = tag
    return found


def _inner(blocks: Sequence[Block]) -> Iterator[Block]:
    """Blocks, and in place of one that holds fences of its own (of a longer fence, or in a tag) what is in these."""
    for block in blocks:
        inside = _blocks(block.body) if block.language in ("", "markdown", "md", "text") else []
        yield from inside or [block]


# --- the file among the blocks --------------------------------------------------------------------------------------


def _files(text: str, *, cut: bool, parent: str | None, among_edits: bool) -> list[str] | Diagnostic:
    """The file of a reply, alone in a list; an empty list: there is none; or why it cannot be told which it is."""
    blocks = list(_inner(_blocks(text)))
    if not any(has_module(block.body) for block in blocks):
        blocks = list(_inner(_tagged(text))) or blocks
    if not blocks:
        bare = _bare(text)
        if bare is not None and cut and not is_whole(bare):
            return _cut_off(f"the file in it is not whole after {bare.count(chr(10)) + 1} lines")
        return [] if bare is None or among_edits else [bare]
    last = blocks[-1]
    if not last.ended and not is_whole(last.body) and ("__global__" in last.body or has_module(last.body)):
        lines = last.body.count("\n") + 1
        if cut:
            return _cut_off(f"the code that begins on line {last.line} of it is not whole after {lines} lines")
        return unreadable(f"the code block that begins on line {last.line} of the reply has no end, and is not whole")
    modules = [block for block in blocks if has_module(block.body) and not is_python(block.body)]
    distinct = {normalise("\n".join(map(str.rstrip, block.body.split("\n")))): block for block in reversed(modules)}
    quoted = _words(parent) if parent is not None else None
    others = [block for block in reversed(distinct.values()) if _words(block.body) != quoted]
    if not others:
        return [block.body for block in distinct.values()][: 0 if among_edits else 1]
    if len(others) == 1 or _FINAL.search(others[-1].before):
        body = others[-1].body
        if "<<<" in body and "__global__" not in body and any("__global__" in block.body for block in blocks):
            return unreadable(
                "the file launches kernels that are in another block; one block must hold all of the file"
            )
        return [body]
    places = ", ".join(str(block.line) for block in others[:8])
    return unreadable(
        f"{len(others)} different blocks have a PYBIND11_MODULE (lines {places} of the reply); exactly one is wanted"
    )


def _bare(text: str) -> str | None:
    """The file in a text without fences: prose before and behind it left out."""
    if not has_module(text) or is_python(text):
        return None
    lines = text.split("\n")
    first = next((index for index, line in enumerate(lines) if _CODE_BEGINS.match(line)), 0)
    if not re.search(r"[;{}]", "\n".join(lines[:first])):
        text = "\n".join(lines[first:])
    code = code_of(text)
    end = module_end(code)
    return text[:end] if end is not None and _is_prose(text[end:], code[end:]) else text


def _edited(parent: str | None, changes: Sequence[Edit]) -> str | Diagnostic:
    """What edits make of the parent."""
    if len(changes) == 1 and not changes[0].search:
        return "\n".join(changes[0].replace)
    if parent is None:
        return unreadable("the reply holds edits, and there is no kernel yet to apply them to; send the whole file")
    return apply_edits(parent, changes)


def _words(source: str) -> list[str]:
    return source.split()


# --- why there is none ----------------------------------------------------------------------------------------------


def _nothing(text: str, entry: str, finish_reason: str, *, cut: bool) -> Diagnostic:
    """Why a reply without edits and without a module is of no use."""
    if finish_reason in DECLINED:
        said = f": {clip(' '.join(text.split()), size=200)}" if text.strip() else ""
        return unreadable(f"the model declined to answer ({finish_reason}){said}")
    if not text.strip():
        return _cut_off("nothing of an answer is in it") if cut else unreadable("the reply is empty")
    blocks = list(_inner(_blocks(text))) or [Block(language="", body=text, before="", line=1, ended=True)]
    python = next((b for b in blocks if is_python(b.body) and re.search(r"load_inline|ModelNew|torch", b.body)), None)
    if python is not None:
        return unreadable(
            f"the code that begins on line {python.line} of the reply is Python; one .cu file in C++ is wanted, with a "
            "PYBIND11_MODULE in place of load_inline"
        )
    if cut:
        return _cut_off("no PYBIND11_MODULE is in it")
    code = [block for block in blocks if block.language in _CUDA]
    wanted = f'PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {{ m.def("{entry}", &{entry}); }}'
    for block in code:
        if (line := defined_function(block.body, entry)) is not None:
            place = block.line + line - 1
            return unreadable(
                f"function {entry} is there (line {place} of the reply), but no module exports it; end with\n{wanted}"
            )
    if any("__global__" in block.body for block in code):
        return unreadable(
            f"the reply holds kernels, but no function {entry} that launches them and no module; add both:\n{wanted}"
        )
    if (declining := _DECLINING.search(text)) is not None and "#include" not in text:
        sentence = " ".join(text[declining.start() :].split())
        return unreadable(f"the reply declines: {clip(sentence, size=200)}")
    if any(block.language in ("diff", "patch") for block in blocks):
        return unreadable(
            "the diff has no @@ lines to say where it belongs; send SEARCH/REPLACE blocks or the whole file"
        )
    if fenced := len(_blocks(text)):
        return unreadable(f"none of the reply's {fenced} fenced blocks has a PYBIND11_MODULE")
    return unreadable("the reply holds neither a fenced block nor a PYBIND11_MODULE")


def _cut_off(what: str) -> Diagnostic:
    return unreadable(f"the reply was cut off at its limit: {what}. Answer shorter: the code, and few words beside it")
