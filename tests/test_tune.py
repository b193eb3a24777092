"""Operator `tune`: what a source declares, which values are tried in which order, and that the winner is right."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernelevo.config import read_settings
from kernelevo.devices.emulator import EmulatorDevice
from kernelevo.models.mutate import apply_rewrite
from kernelevo.models.rewrites.syntax import parse
from kernelevo.models.rewrites.tunables import declared_values, present_values
from kernelevo.propose import read_tunables
from kernelevo.records import Candidate, Diagnostic, Rewrite
from kernelevo.tasks import load_task
from kernelevo.tune import EXHAUSTIVE, MOST, Configuration, budgets, configurations, configure, search, tune

TWO = """// tunable: BLOCK = 64, 128, 256
constexpr int BLOCK = 128;
#define WAYS 1  // tunable: WAYS = 1, 2
"""


def candidate(source: str) -> Candidate:
    return Candidate(source=source, entry="forward")


# --- what a source declares -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "declared"),
    [
        ("// tunable: BLOCK = 64, 128,256", {"BLOCK": (64, 128, 256)}),
        ("  //tunable:BLOCK=64", {"BLOCK": (64,)}),
        ("#define BLOCK 128  // tunable: BLOCK = 64, 128", {"BLOCK": (64, 128)}),
        ("// tunable: BLOCK = 64, 64, 32", {"BLOCK": (64, 32)}),
        ("// tunable: BLOCK = 64,\n 128", {}),
        ("// tunable: BLOCK = x", {}),
        ("// tunable: BLOCK = 64 or 128", {}),
        ("// tunable: 2BLOCK = 64", {}),
        ("// tunable: BLOCK = \u0663", {}),
        ("/* tunable: BLOCK = 64 */", {}),
    ],
)
def test_a_reply_and_a_rewrite_read_the_same_declarations(line: str, declared: dict[str, tuple[int, ...]]) -> None:
    assert declared_values(line) == declared
    assert read_tunables(line) == declared


def test_a_number_that_no_reply_may_declare_is_no_tunable_of_a_rewrite() -> None:
    line = "// tunable: BLOCK = 1" + "0" * 5000
    assert declared_values(line) == {}
    assert isinstance(read_tunables(line), Diagnostic)


@pytest.mark.parametrize(
    ("definition", "value"),
    [
        ("constexpr int BLOCK = 128;", 128),
        ("void f() { const unsigned BLOCK = 128u; }", 128),
        ("#define BLOCK 128", 128),
        ("#define BLOCK (128)  // threads", 128),
        ("#ifndef BLOCK\n#define BLOCK 128\n#endif", 128),
        ("int BLOCK = 128;", None),
        ("constexpr int BLOCK = 2 * 64;", None),
        ("#define BLOCK (2 * 64)", None),
        ("constexpr int OTHER = 128;", None),
    ],
)
def test_a_tunable_can_be_changed_where_it_is_defined_as_a_number(definition: str, value: int | None) -> None:
    source = f"// größer\n{definition}\n// tunable: BLOCK = 64, 256\n"
    assert present_values(parse(source)).get("BLOCK") == value
    changed = apply_rewrite(source, Rewrite(name="tunable", argument="BLOCK=64"))
    assert changed == (None if value is None else source.replace("128u", "128").replace("128", "64"))


def test_several_definitions_of_one_name_change_together() -> None:
    source = "// tunable: B = 1, 2\nvoid f() { const int B = 1; }\nvoid g() { const int B = 1; }\n"
    changed = apply_rewrite(source, Rewrite(name="tunable", argument="B=2"))
    assert changed == source.replace("B = 1;", "B = 2;")


def test_definitions_that_differ_leave_a_tunable_alone() -> None:
    assert (
        present_values(parse("// tunable: B = 1, 2\nvoid f() { const int B = 1; }\nvoid g() { const int B = 2; }\n"))
        == {}
    )


# --- configurations -------------------------------------------------------------------------------------------------


def test_configurations_are_all_combinations_with_the_candidates_own_first() -> None:
    found = configurations(candidate(TWO))
    assert found[0] == {"BLOCK": 128, "WAYS": 1}
    assert len(found) == 6
    assert {(c["BLOCK"], c["WAYS"]) for c in found} == {(b, w) for b in (64, 128, 256) for w in (1, 2)}


def test_the_candidates_own_values_are_tried_although_they_are_not_declared() -> None:
    found = configurations(candidate("// tunable: BLOCK = 64\nconstexpr int BLOCK = 100;\n"))
    assert found == [{"BLOCK": 100}, {"BLOCK": 64}]


def test_a_tunable_without_a_definition_is_left_out() -> None:
    assert configurations(candidate(TWO + "// tunable: OTHER = 1, 2\n")) == configurations(candidate(TWO))


def test_of_too_many_combinations_a_sample_is_tried_that_the_seed_repeats() -> None:
    many = candidate("".join(f"// tunable: T{i} = 1, 2, 3, 4\nconstexpr int T{i} = 1;\n" for i in range(60)))
    found = configurations(many, seed=7)
    assert len(found) == MOST
    assert set(found[0].values()) == {1}
    assert len({tuple(c.values()) for c in found}) == MOST
    assert found == configurations(many, seed=7)
    assert found != configurations(many, seed=8)


def test_a_configured_candidate_is_a_child_whose_rewrites_replay() -> None:
    before = Rewrite(name="restrict", argument="")
    parent = Candidate(source=TWO, entry="forward", rewrites=(before,))
    child = configure(parent, {"BLOCK": 256, "WAYS": 2})
    assert child.parents == (parent.id,)
    assert child.rewrites == (
        before,
        Rewrite(name="tunable", argument="BLOCK=256"),
        Rewrite(name="tunable", argument="WAYS=2"),
    )
    assert child.tunables == {"BLOCK": (64, 128, 256), "WAYS": (1, 2)}
    source = TWO
    for rewrite in child.rewrites[1:]:
        source = apply_rewrite(source, rewrite) or ""
    assert child.source == source == TWO.replace("= 128;", "= 256;").replace("WAYS 1", "WAYS 2")
    assert configure(parent, {"BLOCK": 128, "WAYS": 1}) is parent


def test_a_value_that_is_not_declared_is_refused() -> None:
    with pytest.raises(ValueError, match="no tunable BLOCK with the value 7"):
        configure(candidate(TWO), {"BLOCK": 7})


# --- the search -----------------------------------------------------------------------------------------------------


class Landscape:
    """Times of configurations on any number of cases, and how many times of a case were asked for."""

    def __init__(self, times: Sequence[float | None], cases: int) -> None:
        self.times, self.budgets = times, budgets(cases)
        self.timed: set[tuple[int, int]] = set()  # configuration and case
        self.rungs: list[int] = []

    def time_many(self, choices: Sequence[Configuration], rung: int) -> list[float | None]:
        self.rungs.append(rung)
        self.timed |= {(choice["n"], case) for choice in choices for case in range(self.budgets[rung])}
        return [self.times[choice["n"]] for choice in choices]

    def winners(self, *, margin: float = 0.0) -> list[int]:
        choices = [{"n": number} for number in range(len(self.times))]
        return search(choices, self.time_many, rungs=len(self.budgets), margin=margin)[0]


def exhaustive(times: Sequence[float | None]) -> int | None:
    """What timing everything would choose."""
    ranked = sorted((t, n) for n, t in enumerate(times) if t is not None)
    return ranked[0][1] if ranked and ranked[0][1] != 0 and ranked[0][0] != times[0] else None


def test_rungs_are_of_1_2_4_and_all_cases() -> None:
    assert [budgets(n) for n in (1, 2, 3, 4, 5, 9)] == [
        [1],
        [1, 2],
        [1, 2, 3],
        [1, 2, 4],
        [1, 2, 4, 5],
        [1, 2, 4, 8, 9],
    ]


def test_few_configurations_are_all_timed_on_all_cases_at_once() -> None:
    landscape = Landscape([5.0, 4.0, 3.0, 6.0, 9.0, 9.0, 9.0, 2.0], cases=4)
    assert landscape.winners() == [7, 2, 1]
    assert landscape.rungs == [2]
    assert len(landscape.timed) == EXHAUSTIVE * 4


def test_halving_finds_what_timing_everything_finds_for_less() -> None:
    times = [100.0 + abs(number - 40) for number in range(64)]
    landscape = Landscape(times, cases=4)
    assert landscape.winners()[0] == exhaustive(times) == 40
    assert landscape.rungs == [0, 1, 2]
    # 64 on one case, half of them and the default on a second, half of those and the default on the other two
    assert len(landscape.timed) == 64 + 33 + 2 * 18
    assert len(landscape.timed) < 64 * 4


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.one_of(st.none(), st.integers(1, 50).map(float)), min_size=1, max_size=80),
    st.integers(min_value=1, max_value=9),
)
def test_halving_loses_no_winner_where_one_case_ranks_like_all(times: list[float | None], cases: int) -> None:
    landscape = Landscape(times, cases)
    winners = landscape.winners()
    assert (winners[0] if winners else None) == exhaustive(times)
    assert len(landscape.timed) <= len(times) * cases
    assert landscape.rungs == sorted(set(landscape.rungs))


def test_a_tie_goes_to_the_default_and_then_to_the_earlier() -> None:
    assert Landscape([3.0, 3.0, 3.0], cases=1).winners() == []
    assert Landscape([3.0, 2.0, 2.0], cases=1).winners() == [1, 2]


def test_a_winner_must_beat_the_default_by_the_margin() -> None:
    assert Landscape([100.0, 99.5, 98.0], cases=1).winners(margin=0.01) == [2]


def test_the_default_stays_in_although_it_is_slow_on_the_first_case() -> None:
    landscape = Landscape([99.0, *(float(n) for n in range(1, 40))], cases=8)
    landscape.winners()
    assert {(0, case) for case in range(8)} <= landscape.timed


def test_without_a_time_of_the_default_whatever_has_one_wins() -> None:
    assert Landscape([None, None, 7.0], cases=2).winners() == [2]
    assert Landscape([None, None], cases=2).winners() == []


def test_the_package_is_imported_without_torch() -> None:
    """`evaluate` imports it while compilers work; the loop, which imports this module, must not do so before."""
    words = "import sys, kernelevo.tune; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


# --- on the emulator ------------------------------------------------------------------------------------------------

RMSNORM = load_task("rmsnorm")


def tunable_rmsnorm(block: str, step: str) -> Candidate:
    """The task's own kernel with tunables: a block size, and a step that is right only where it is 1."""
    source = RMSNORM.seed_source or ""
    for old, new in (
        (
            "__global__",
            f"// tunable: BLOCK = {block}\nconstexpr int BLOCK = 64;\n"
            f"#define STEP 1  // tunable: STEP = {step}\n__global__",
        ),
        ("partial[256]", "partial[BLOCK]"),
        ("threads = 256", "threads = BLOCK"),
        ("out[i] = row[i] * inverse", "out[i] = row[i / STEP * STEP] * inverse"),
    ):
        assert old in source
        source = source.replace(old, new, 1)
    return Candidate(source=source, entry="forward", tunables=declared_values(source))


@pytest.mark.nvcc
@pytest.mark.slow
def test_tuning_a_kernel_finds_the_fastest_values_that_are_right(emulator: EmulatorDevice) -> None:
    parent = tunable_rmsnorm("64, 128, 2048", "1, 2")
    result = tune(RMSNORM, parent, emulator, read_settings())
    tried = {t.configuration: t for t in result.tried}
    assert next(iter(tried)) == "BLOCK=64 STEP=1"
    assert len(tried) == 6
    assert result.best is not None
    assert result.best.parents == (parent.id,)
    assert [str(r) for r in result.best.rewrites] == ["tunable(BLOCK=128)"]
    assert "BLOCK=128 STEP=1 is 1." in result.reason
    fastest, own = tried["BLOCK=128 STEP=1"], tried["BLOCK=64 STEP=1"]
    assert fastest.cases == own.cases == 2
    assert fastest.score_ns is not None and own.score_ns is not None
    assert fastest.score_ns < own.score_ns
    too_many_threads = tried["BLOCK=2048 STEP=1"]
    assert too_many_threads.score_ns is None
    assert too_many_threads.reason


@pytest.mark.nvcc
@pytest.mark.slow
def test_a_faster_configuration_that_is_wrong_does_not_win(emulator: EmulatorDevice) -> None:
    source = tunable_rmsnorm("64", "1").source.replace("tunable: STEP = 1", "tunable: STEP = 1, 2")
    wrong = source.replace(
        "i < cols; i += blockDim.x) {\n        sum", "i < cols; i += blockDim.x * STEP) {\n        sum"
    )
    assert wrong != source
    result = tune(RMSNORM, candidate(wrong), emulator, read_settings())
    assert result.best is None
    assert result.reason == "none of 1 other configurations is right and faster"
    assert result.tried[0].score_ns is not None
    assert (result.tried[1].configuration, result.tried[1].score_ns) == ("BLOCK=64 STEP=2", None)
    assert "expected" in (result.tried[1].reason or "")


@pytest.mark.nvcc
@pytest.mark.slow
def test_many_configurations_are_halved_and_the_winner_is_the_same(emulator: EmulatorDevice) -> None:
    result = tune(RMSNORM, tunable_rmsnorm("32, 64, 128", "1, 2, 3"), emulator, read_settings())
    assert len(result.tried) == 9 > EXHAUSTIVE
    assert sorted(t.cases for t in result.tried).count(1) in (3, 4)  # of 9, five stay in, and the default
    assert result.best is not None
    assert result.best.rewrites[0].argument == "BLOCK=128"


def test_a_candidate_without_tunables_is_not_built(emulator: EmulatorDevice) -> None:
    result = tune(RMSNORM, candidate(RMSNORM.seed_source or ""), emulator, read_settings())
    assert (result.best, result.tried) == (None, ())
    assert result.reason == "no declared tunable has another value"
