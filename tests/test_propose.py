"""Reading a candidate out of a reply."""

from __future__ import annotations

import pytest

from kernelevo.propose import read_candidate, read_source, read_tunables
from kernelevo.records import Candidate, Diagnostic, Message, Operator, Prompt, Reply, Rewrite

MODULE = "__global__ void k() {}\nPYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {}\n"
OTHER = "// another\n" + MODULE


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
    ],
)
def test_the_one_module_in_a_reply_is_found(text: str) -> None:
    assert read_source(text) == MODULE


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("I cannot do that.", "neither"),
        ("", "neither"),
        ("```cuda\n__global__ void k() {}\n```", "none of the reply's 1 fenced blocks"),
        (f"```cuda\n{MODULE}```\nor\n```cuda\n{OTHER}```", "2 different fenced blocks"),
    ],
)
def test_a_reply_without_exactly_one_module_says_why(text: str, reason: str) -> None:
    found = read_source(text)
    assert isinstance(found, Diagnostic)
    assert found.stage == "read"
    assert reason in found.text


def test_tunables_are_read_from_their_comments() -> None:
    source = "// tunable: BLOCK = 64, 128,256\nconstexpr int BLOCK = 64;\n// tunable: broken = x\n"
    assert read_tunables(source) == {"BLOCK": (64, 128, 256)}


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
