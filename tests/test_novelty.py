"""How like two sources are, against sets of runs of words counted exactly."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernelevo.build.canonical import code_tokens
from kernelevo.novelty import FIRST_CAPACITY, SHINGLE, SIZE, Novelty, signature, similarity

SOURCES = {path.parent.name: path.read_text() for path in (Path(__file__).parent.parent / "tasks").glob("*/seed.cu")}
WORDS = st.lists(st.sampled_from(["a", "b", "int", "=", "é", "\ud800", "x" * 50]), max_size=30).map("\n".join)


def words(text: str) -> list[str]:
    return text.split("\n")


def exact(first: Sequence[str], second: Sequence[str]) -> float:
    """The Jaccard index of the runs of two texts."""
    a, b = ({tuple(w[i : i + SHINGLE]) for i in range(max(1, len(w) - SHINGLE + 1))} for w in (first, second))
    return len(a & b) / len(a | b)


def changed(text: Sequence[str], count: int, rng: random.Random) -> list[str]:
    """The words with some replaced by new ones."""
    result = list(text)
    for position in rng.sample(range(len(result)), min(count, len(result))):
        result[position] = f"new_{rng.getrandbits(32)}"
    return result


def test_nothing_is_nearest_among_none() -> None:
    assert Novelty(code_tokens).nearest("int a;") is None


@pytest.mark.parametrize("name", SOURCES)
def test_a_source_with_other_comments_and_spaces_is_the_same(name: str) -> None:
    seen = Novelty(code_tokens)
    for other, source in SOURCES.items():
        seen.add(other, source)
    disguised = "// mine\n" + SOURCES[name].replace("    ", "\t").replace(";\n", ";  // indeed\n\n")
    assert seen.nearest(disguised) == (name, 1.0)


def test_kernels_of_different_tasks_are_unlike() -> None:
    seen = Novelty(code_tokens)
    seen.add("gelu", SOURCES["gelu"])
    found = seen.nearest(SOURCES["rmsnorm_backward"])
    assert found is not None
    assert found[1] < 0.5


def test_one_changed_number_leaves_a_kernel_near() -> None:
    seen = Novelty(code_tokens)
    seen.add("seed", SOURCES["softmax"])
    found = seen.nearest(SOURCES["softmax"].replace("threads = 256", "threads = 128"))
    assert found is not None
    assert 0.9 < found[1] <= 1.0


@given(first=WORDS, second=WORDS)
def test_a_similarity_is_symmetric_and_between_0_and_1_and_1_for_itself(first: str, second: str) -> None:
    there, back = Novelty(words), Novelty(words)
    there.add("c-1", first)
    back.add("c-2", second)
    assert there.nearest(first) == ("c-1", 1.0)
    forth, fro = there.nearest(second), back.nearest(first)
    assert forth is not None
    assert fro is not None
    assert forth[1] == fro[1]
    assert 0.0 <= forth[1] <= 1.0


@given(sources=st.lists(WORDS, min_size=1, max_size=8, unique=True), asked=WORDS, rng=st.randoms())
def test_the_order_of_coming_decides_only_between_equals(sources: list[str], asked: str, rng: random.Random) -> None:
    ids = {source: f"c-{number}" for number, source in enumerate(sources)}
    seen, again = Novelty(words), Novelty(words)
    for source in sources:
        seen.add(ids[source], source)
    rng.shuffle(sources)
    for source in sources:
        again.add(ids[source], source)
    first, second = seen.nearest(asked), again.nearest(asked)
    assert first is not None
    assert second is not None
    assert first[1] == second[1]


def test_estimates_are_as_far_from_the_truth_as_their_standard_error_says() -> None:
    rng = random.Random(7)
    text = code_tokens(SOURCES["layernorm"])
    errors: list[float] = []
    for _ in range(600):
        other = changed(text, rng.randint(0, 200), rng)
        seen = Novelty(words)
        seen.add("c", "\n".join(text))
        found, truth = seen.nearest("\n".join(other)), exact(text, other)
        assert found is not None
        if 0.02 < truth < 0.98:
            errors.append((found[1] - truth) / (truth * (1 - truth) / SIZE) ** 0.5)
    assert len(errors) > 400
    assert abs(statistics.fmean(errors)) < 4 / len(errors) ** 0.5  # no bias
    assert 0.85 < statistics.pstdev(errors) < 1.15  # in standard errors


def test_the_nearest_of_many_is_found_after_the_first_capacity_is_full() -> None:
    rng = random.Random(3)
    text = code_tokens(SOURCES["gelu"])
    seen = Novelty(words)
    for number in range(FIRST_CAPACITY + 5):
        seen.add(f"c-{number}", "\n".join(changed(text, 60, rng)))
    near = changed(text, 60, rng)
    seen.add("c-near", "\n".join(near))
    seen.add("c-near", "another source under an id that is known")
    assert len(seen) == FIRST_CAPACITY + 6
    found = seen.nearest("\n".join(changed(near, 2, rng)))
    assert found is not None
    assert found[0] == "c-near"


def test_no_match_and_all_matches_are_0_and_1() -> None:
    assert similarity(0) == 0.0
    assert similarity(SIZE) == 1.0


def test_a_hundred_thousand_sources_are_scanned_in_milliseconds() -> None:
    seen = Novelty(words)
    text = "\n".join(code_tokens(SOURCES["softmax"]))
    values = np.random.default_rng(1)
    seen.add("c-0", text)
    seen._rows = np.concatenate([seen._rows[:, :1], values.integers(0, 256, (SIZE, 99_999), dtype=np.uint8)], axis=1)
    seen._columns |= {f"c-{number}": number for number in range(1, 100_000)}
    times = []
    for _ in range(20):
        started = time.thread_time()
        assert seen.nearest(text) == ("c-0", 1.0)
        times.append(time.thread_time() - started)
    assert min(times) < 0.015, times


def test_a_signature_is_the_same_in_every_process() -> None:
    assert signature(np.array([1, 2, 3], np.uint32))[:8].tolist() == [77, 212, 48, 172, 244, 130, 241, 71]


def test_among_some_the_nearest_is_one_of_them_and_the_earliest_of_equals() -> None:
    seen = Novelty(code_tokens)
    for name, source in SOURCES.items():
        seen.add(name, source)
    seen.add("gelu again", SOURCES["gelu"])
    assert "gelu" in seen and "relu" not in seen and len(seen) == len(SOURCES) + 1
    assert seen.nearest(SOURCES["gelu"], among=["softmax", "gelu again", "gelu"]) == ("gelu again", 1.0)
    found = seen.nearest(SOURCES["gelu"], among=["softmax", "rmsnorm"])
    assert found is not None and found[0] in ("softmax", "rmsnorm") and found[1] < 1.0
    assert seen.nearest(SOURCES["gelu"], among=[]) is None
