"""Reading a candidate out of a reply. The replies lie in replies/, each with what is expected of it at its head."""

from __future__ import annotations

import time
import tomllib
from pathlib import Path
from typing import Any

import pytest
import tree_sitter_cuda
from hypothesis import given, settings
from hypothesis import strategies as st
from tree_sitter import Language, Parser

from kernelevo.propose import read_candidate, read_source, read_tunables
from kernelevo.propose.source import code_of, is_whole
from kernelevo.records import Candidate, Diagnostic, Message, Operator, Prompt, Reply, Rewrite

REPLIES = Path(__file__).parent / "replies"
CORPUS = sorted(path.stem for path in REPLIES.glob("*.md"))
SEEDS = sorted((Path(__file__).parent.parent / "tasks").glob("*/seed.cu"))
MODULE = "__global__ void k() {}\nPYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {}\n"
OTHER = "// another\n" + MODULE
PARENT = (REPLIES / "parents" / "softmax.cu").read_text()


def read_expectation(name: str) -> tuple[dict[str, Any], str]:
    """The head of a recorded reply, and the reply."""
    _, head, text = (REPLIES / f"{name}.md").read_text().split("+++\n", 2)
    expected = tomllib.loads(head)
    return expected, text.replace("\n", "\r\n") if expected.get("line_ends") == "crlf" else text


def prompted(parent: str | None) -> Prompt:
    return Prompt(
        operator=Operator.TRANSLATE if parent is None else Operator.OPTIMIZE,
        messages=(Message(role="user", text="x"),),
        parents=() if parent is None else (Candidate(source=parent, entry="forward"),),
        template="x.j2",
        seed=1,
    )


def replied(text: str, finish_reason: str = "stop") -> Reply:
    return Reply(model="m", text=text, seconds=1.0, finish_reason=finish_reason)


@pytest.mark.parametrize("name", CORPUS)
def test_a_recorded_reply_is_read_as_expected(name: str) -> None:
    expected, text = read_expectation(name)
    parent = (REPLIES / "parents" / f"{expected['parent']}.cu").read_text() if "parent" in expected else None
    reply = replied(text, expected.get("finish_reason", "stop"))
    found = read_candidate(reply, prompted(parent), entry="forward")
    if "reason" in expected:
        assert isinstance(found, Diagnostic), found
        assert (found.severity, found.stage, found.line) == ("error", "read", expected.get("line"))
        assert [words for words in expected["reason"] if words not in found.text] == [], found.text
        assert len(found.text) < 3000
        return
    assert isinstance(found, Candidate), found
    lines = found.source.split("\n")
    assert (lines[0], lines[-2:], len(lines) - 1) == (expected["begins"], [expected["ends"], ""], expected["lines"])
    assert [words for words in expected.get("contains", []) if words not in found.source] == []
    assert [words for words in expected.get("lacks", []) if words in found.source] == []
    assert list(found.tunables) == expected.get("tunables", list(found.tunables))
    assert is_whole(found.source)
    assert not Parser(Language(tree_sitter_cuda.language())).parse(found.source.encode()).root_node.has_error


def test_the_corpus_is_large_and_holds_both_kinds() -> None:
    refused = ["reason" in read_expectation(name)[0] for name in CORPUS]
    assert len(CORPUS) >= 80
    assert min(refused.count(True), refused.count(False)) >= 30


@pytest.mark.parametrize(
    "text",
    [
        MODULE,
        MODULE.replace("\n", "\r\n"),
        f"Here it is:\n```cuda\n{MODULE}```\nIt is fast.",
        f"```\n{MODULE}```",
        f"```cpp\r\n{MODULE}```\r\n",
        f"A helper:\n```python\nprint(1)\n```\nand\n```cuda\n{MODULE}```",
        f"```cuda\n{MODULE}```\nand once more\n```cuda\n{MODULE}```",
        f"``` This is the file\n```cuda\n{MODULE}```",
        f"<code>\n{MODULE}</code>",
        f"<code>\n{MODULE}",
        '{"code": "' + MODULE.replace("\n", "\\n") + '"}',
    ],
)
def test_the_one_module_in_a_reply_is_found(text: str) -> None:
    assert read_source(text) == MODULE


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("I cannot do that.", "declines"),
        ("Done.", "neither"),
        ("", "empty"),
        ("```cuda\n__global__ void k() {}\n```", "kernels, but no function forward"),
        ("```text\nplan\n```", "none of the reply's 1 fenced blocks"),
        (f"```cuda\n{MODULE}```\nor\n```cuda\n{OTHER}```", "2 different blocks"),
        ("x" * 1_000_001, "1,000,001 characters"),
        ('{"code": "' + MODULE.replace("\n", "\\ud800\\n") + '"}', "surrogate"),
        ("```cuda\n" + MODULE.replace("k", "\0") + "```", "NUL"),
        ("\n".join("<<<<<<< SEARCH\na\n=======\nb\n>>>>>>> REPLACE" for _ in range(65)), "65 edits"),
        ("```cuda\n" + "".join(f"// tunable: T{i} = 1, 2\n" for i in range(33)) + MODULE + "```", "more than 32"),
    ],
)
def test_a_reply_without_exactly_one_module_says_why(text: str, reason: str) -> None:
    found = read_candidate(replied(text), prompted(PARENT), entry="forward")
    assert isinstance(found, Diagnostic)
    assert found.stage == "read"
    assert reason in found.text


@pytest.mark.parametrize("path", [*SEEDS, *sorted((REPLIES / "parents").glob("*.cu"))], ids=str)
def test_a_file_and_nothing_else_is_itself(path: Path) -> None:
    source = path.read_text()
    assert read_source(source) == source
    assert read_source(f"```cuda\n{source}```", finish_reason="length") == source


@pytest.mark.parametrize("path", SEEDS, ids=lambda path: path.parent.name)
def test_a_file_that_is_cut_off_anywhere_is_never_taken_for_whole(path: Path) -> None:
    source = path.read_text()
    end = source.rindex("}")
    for size in range(0, end, 13):
        for text in (source[:size], f"Here:\n```cuda\n{source[:size]}"):
            assert isinstance(read_source(text, finish_reason="length"), Diagnostic), source[:size]


def test_edits_that_a_parent_does_not_hold_leave_it_out_of_the_candidate() -> None:
    edit = "<<<<<<< SEARCH\n    const int threads = 256;\n=======\n    const int threads = 128;\n>>>>>>> REPLACE"
    candidate = read_candidate(replied(edit), prompted(PARENT), entry="forward")
    assert isinstance(candidate, Candidate)
    assert candidate.source == PARENT.replace("threads = 256", "threads = 128")
    assert candidate.parents == (Candidate(source=PARENT, entry="forward").id,)


LINES = PARENT.split("\n")
MARKS = r"""
```|```cuda|~~~~|````|<<<<<<< SEARCH|=======|>>>>>>> REPLACE|@@ -3,4 +3,4 @@|--- a|+++ b|<code>|</code>|<think>|</think>
{"code": "|"}|/*|*/|R"(|)"|"|'|\|{|}|(|// tunable: A = 1, 2|PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {}|&lt;&lt;&lt;
final version:|import torch|```json|{"a": "b"}|// ... rest unchanged|__global__ void k() {}|torch::Tensor forward() {
"""
PIECES = st.one_of(
    st.sampled_from([mark for line in MARKS.strip().split("\n") for mark in line.split("|")]),
    st.sampled_from(LINES),
    st.text(max_size=20),
)


@settings(max_examples=400, deadline=2000)
@given(
    pieces=st.lists(PIECES, max_size=40),
    glue=st.sampled_from(["\n", "\r\n", " ", ""]),
    finish=st.sampled_from(["stop", "length", "refusal"]),
    parent=st.sampled_from([None, PARENT, MODULE, ""]),
)
def test_whatever_a_model_says_is_a_candidate_or_a_reason(
    pieces: list[str], glue: str, finish: str, parent: str | None
) -> None:
    found = read_candidate(replied(glue.join(pieces), finish), prompted(parent), entry="forward")
    if isinstance(found, Diagnostic):
        found.text.encode()
        assert found.text
        assert len(found.text) < 10_000
    else:
        assert "PYBIND11_MODULE" in code_of(found.source)
        assert found.id
        assert read_source(f"```cuda\n{found.source}```") in (found.source, None) or "```" in found.source


@settings(max_examples=200, deadline=2000)
@given(first=st.integers(0, len(LINES) - 2), size=st.integers(1, 8), drift=st.integers(0, 12), crlf=st.booleans())
def test_lines_copied_from_the_parent_apply_at_their_place_or_are_ambiguous(
    first: int, size: int, drift: int, crlf: bool
) -> None:
    sought = LINES[first : first + size]
    lines = [" " * drift + line.strip() for line in sought] if drift else sought
    text = "\n".join(["<<<<<<< SEARCH", *lines, "=======", "// here", ">>>>>>> REPLACE"])
    found = read_source(text.replace("\n", "\r\n") if crlf else text, parent=PARENT)
    if isinstance(found, Diagnostic):
        assert (
            any(words in found.text for words in ("places, on lines", "no PYBIND11_MODULE"))
            or not "".join(sought).strip()
        )
    else:
        kept = [line for line in found.split("\n") if line.strip() != "// here"]
        assert "\n".join(kept).split() == "\n".join(LINES[:first] + LINES[first + size :]).split()


HOSTILE = {
    "quotes": '"\\' * 250_000,
    "raw strings": 'R"(' * 200_000,
    "raw string marks": 'R"abc(' * 100_000,
    "comments": "/*" * 400_000,
    "fences": "```\n" * 200_000,
    "opening fences": "```cuda\n" * 100_000,
    "fences of growing length": "\n".join("`" * n for n in range(3, 1200)),
    "newlines": "\n" * 900_000,
    "spaces": "```cuda" + " " * 900_000 + "x",
    "spaces in a tunable": "```cuda\n// tunable: A = 1" + " ," * 300_000 + f"\n{MODULE}```",
    "tunables": "```cuda\n" + "// tunable: A = 1, 2\n" * 40_000 + f"{MODULE}```",
    "values": "```cuda\n// tunable: A = " + "1, " * 300_000 + f"1\n{MODULE}```",
    "digits": "```cuda\n// tunable: A = " + "9" * 900_000 + f"\n{MODULE}```",
    "open tags": "<code>\n" * 120_000,
    "tags": "<code>\n</code>\n" * 60_000,
    "thoughts": "<think>" * 100_000,
    "search markers": "<<<<<<< SEARCH\n" * 60_000,
    "edits": "<<<<<<< SEARCH\nx\n=======\ny\n>>>>>>> REPLACE\n" * 18_000,
    "hunks": "@@ -1,1 +1,1 @@\n-x\n+y\n" * 40_000,
    "a long search": "<<<<<<< SEARCH\n" + "int a;\n" * 100_000 + "=======\ny\n>>>>>>> REPLACE\n",
    "a search of braces": "<<<<<<< SEARCH\n" + "}\n" * 300_000 + "=======\ny\n>>>>>>> REPLACE\n",
    "unlike searches": "".join(
        f"<<<<<<< SEARCH\n{'q7' * 90}{n}\n=======\ny\n>>>>>>> REPLACE\n" for n in range(60)
    ),
    "nested json": '{"a":' * 150_000,
    "json lists": '{"code": [' + "[" * 400_000,
    "json digits": '{"code": ' + "9" * 900_000 + "}",
    "modules": "PYBIND11_MODULE(" * 60_000,
    "modules in blocks": "".join(f"```cuda\n// {n}\n{MODULE}```\n" for n in range(9_000)),
    "functions": "```cuda\n" + "forward(" * 110_000 + "\n```",
    "finals": "final " * 160_000 + f"\n```cuda\n{MODULE}```\n```cuda\n{OTHER}```",
    "apologies": "I " * 450_000,
    "escapes": "&lt;&lt;&lt;" * 80_000,
    "left out": "```cuda\n" + "// ... " * 130_000 + f"\n{MODULE}```",
    "braces": "#include <x>\n" + "{" * 450_000 + "}" * 450_000 + MODULE,
    "odd characters": "```cuda\n" + "x ≠ " * 200_000 + f"\n{MODULE}```",
}  # fmt: skip


TAIL_COUNTS = ("finals", "modules in blocks")  # of which the end matters


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_reply_costs_little_time(kind: str) -> None:
    """Linear in its length: where something quadratic reads it, each of these takes minutes."""
    text = HOSTILE[kind][-500_000:] if kind in TAIL_COUNTS else HOSTILE[kind][:500_000]
    started = time.process_time()
    found = read_candidate(replied(text), prompted("}\n" * 60_000 + MODULE), entry="forward")
    assert time.process_time() - started < 5.0
    assert isinstance(found, Candidate) or len(found.text) < 10_000


def test_tunables_are_read_from_their_comments() -> None:
    source = "// tunable: BLOCK = 64, 128,256, 64\nconstexpr int BLOCK = 64;  // tunable: WARPS = 2 , 4\n"
    assert read_tunables(source + "// tunable: broken = x\n") == {"BLOCK": (64, 128, 256), "WARPS": (2, 4)}


def test_a_candidate_carries_its_parents_and_all_rewrites_since_the_seed() -> None:
    first = Rewrite(name="restrict", argument="")
    parent = Candidate(source=OTHER, entry="forward", rewrites=(first,))
    second = Rewrite(name="unroll", argument="4")
    reply = Reply(model="mutate", text=MODULE, rewrites=(second,), seconds=0.0, finish_reason="stop")
    prompt = Prompt(
        operator=Operator.OPTIMIZE,
        messages=(Message(role="user", text="x"),),
        parents=(parent,),
        template="optimize.j2",
        seed=1,
    )
    candidate = read_candidate(reply, prompt, entry="forward")
    assert isinstance(candidate, Candidate)
    assert candidate.parents == (parent.id,)
    assert candidate.rewrites == (first, second)


def test_ids_depend_on_source_and_entry_only() -> None:
    assert Candidate(source="ab", entry="c").id != Candidate(source="a", entry="bc").id
    assert Candidate(source="a", entry="c").id == Candidate(source="a", entry="c", parents=("c-1",)).id
