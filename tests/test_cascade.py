"""The stages of an evaluation: what each refuses, what equal kernels share, and how a new best is proven again."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from kernelevo.build import build
from kernelevo.build.canonical import canonical_source
from kernelevo.build.evidence import evidence, forbidden, source_key
from kernelevo.config import read_settings
from kernelevo.devices import Session
from kernelevo.devices.emulator import EmulatorDevice
from kernelevo.evaluate import evaluate
from kernelevo.records import STAGES, Build, Candidate, Case, Evaluation, Outcome, Purpose, Stage, StageOutcome, Task
from kernelevo.tasks import load_task
from kernelevo.toolchain import find_toolchain

TWINS = Path(__file__).parent / "twins"
GELU = load_task("gelu")
SEED = GELU.seed_source or ""
FEW = tuple(case for case in GELU.cases if case.purpose is Purpose.TEST)[:2]


def judged(source: str, device: EmulatorDevice, *, cases: tuple[Case, ...] | None = FEW, **asked: object) -> Evaluation:
    return evaluate(GELU, Candidate(source=source, entry=GELU.entry), device=device, cases=cases, **asked)  # type: ignore[arg-type]


def stage(evaluation: Evaluation, name: str) -> Stage:
    return next(stage for stage in evaluation.stages if stage.name == name)


def built(path: Path, device: EmulatorDevice) -> Build:
    settings = read_settings()
    candidate = Candidate(source=path.read_text(), entry="forward")
    toolchain = find_toolchain(settings.host_compiler)
    return build(candidate, target=device.target, toolchain=toolchain, cache=settings.cache)


# --- static ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ('#include "/proc/self/environ"', "outside the include paths"),
        ("# include </etc/passwd>", "outside the include paths"),
        ('#include "../../.env"', "outside the include paths"),
        ('#include "~/.netrc"', "outside the include paths"),
        ("#include HIDDEN", "named by a macro"),
        ("#include_next HIDDEN", "named by a macro"),
        ('#embed "/etc/passwd"', "reads a file"),
        ('asm(".incbin \\"/etc/passwd\\"");', ".incbin"),
    ],
)
def test_a_source_that_asks_the_compiler_for_other_files_is_never_compiled(
    emulator: EmulatorDevice, line: str, why: str
) -> None:
    evaluation = judged(SEED + line + "\n", emulator)
    assert evaluation.status == "build failed"
    assert [stage.name for stage in evaluation.stages] == ["read", "duplicate", "static"]
    assert stage(evaluation, "static").outcome is StageOutcome.FAILED
    assert why in stage(evaluation, "static").text
    assert evaluation.build.diagnostics[0].line == SEED.count("\n") + 1
    assert evaluation.build.artifact is None


def test_an_include_in_a_comment_or_of_an_ordinary_header_is_nothing_to_object_to() -> None:
    assert forbidden(SEED + '// #include "/proc/self/environ"\n/*\n#embed "x"\n*/\n#include <vector>\n') == ()


@pytest.mark.nvcc
def test_what_an_artifact_can_reach_is_read_from_its_symbols(emulator: EmulatorDevice) -> None:
    assert evidence(built(GELU.folder / "seed.cu", emulator)) == ()
    (streams,) = evidence(built(TWINS / "side_stream.cu", emulator))
    assert streams.startswith("side streams (")


# --- duplicates -----------------------------------------------------------------------------------------------------


def test_sources_with_equal_tokens_have_one_key() -> None:
    assert source_key(SEED) == source_key("// faster\n" + SEED.replace("\n", "\n\n").replace("{", "{ /* here */"))
    assert source_key(SEED) != source_key(SEED.replace("0.5f", "0.25f"))


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("#define HALF\nfloat half = 0.5f;\n", "#define HALF float half = 0.5f;\n"),
        ('auto text = "a  b";\n', 'auto text = "a b";\n'),
        ('#define TEXT "a  b"\n', '#define TEXT "a b"\n'),
        ("#define CALL (x)\n", "#define CALL(x)\n"),
    ],
    ids=["end of a directive", "spaces in a text", "spaces in the text of a directive", "a macro's parameters"],
)
def test_spaces_that_mean_something_make_another_key(one: str, two: str) -> None:
    assert source_key(SEED + one) != source_key(SEED + two)
    assert canonical_source(SEED + one, "") != canonical_source(SEED + two, "")


@pytest.mark.nvcc
def test_a_source_that_differs_in_comments_shares_the_evaluation_without_a_build(emulator: EmulatorDevice) -> None:
    first = judged(SEED, emulator)
    earlier = {first.source_key: first}
    second = judged("// faster\n" + SEED, emulator, known=earlier.get)
    assert second.candidate != first.candidate
    assert second.shared_from == first.candidate
    assert (second.verdict, second.timing) == (first.verdict, first.timing)
    assert [s.name for s in second.stages] == ["read", "duplicate"]
    assert stage(second, "duplicate").outcome is StageOutcome.SHARED
    assert stage(first, "duplicate").outcome is StageOutcome.SKIPPED


@pytest.mark.nvcc
def test_a_source_that_compiles_to_the_same_kernel_shares_the_evaluation_after_its_build(
    emulator: EmulatorDevice,
) -> None:
    first = judged(SEED, emulator)
    renamed = SEED.replace("gelu_kernel", "another_kernel")
    assert renamed != SEED
    second = judged(renamed, emulator, known={first.kernel_key: first}.get)
    assert second.shared_from == first.candidate
    assert second.build.candidate == second.candidate
    assert [s.name for s in second.stages] == ["read", "duplicate", "static", "build"]


@pytest.mark.nvcc
def test_the_same_kernel_launched_otherwise_is_judged_for_itself(emulator: EmulatorDevice) -> None:
    first = judged(SEED, emulator)
    other = SEED.replace("256", "128")
    assert other != SEED
    second = judged(other, emulator, known={first.kernel_key: first}.get)
    assert second.shared_from is None
    assert second.kernel_key != first.kernel_key
    assert stage(second, "duplicate").outcome is StageOutcome.PASSED


# --- promotion ------------------------------------------------------------------------------------------------------


@pytest.mark.nvcc
def test_who_beats_the_champion_is_verified_on_new_cases_and_timed_again(emulator: EmulatorDevice) -> None:
    evaluation = judged(SEED, emulator, champion_ns=math.inf)
    assert evaluation.promoted
    assert [s.name for s in evaluation.stages] == list(STAGES)
    assert evaluation.verdict is not None
    assert len(evaluation.verdict.cases) > len(FEW)
    assert {c.case.purpose for c in evaluation.verdict.cases[len(FEW) :]} == {Purpose.HIDDEN}


@pytest.mark.nvcc
def test_who_does_not_beat_the_champion_is_not_promoted(emulator: EmulatorDevice) -> None:
    evaluation = judged(SEED, emulator, champion_ns=1.0)
    assert evaluation.passed
    assert not evaluation.promoted
    assert evaluation.stages[-1].name == "measure"


class TurnsWrong:
    """A GPU on which another build runs from the fourth session on, like a kernel that waits until it is trusted."""

    checks = True

    def __init__(self, device: EmulatorDevice, later: Build) -> None:
        self.device = device
        self.later = later
        self.sessions = 0
        self.name, self.target = device.name, device.target
        self.timing_kind, self.timing_target = device.timing_kind, device.timing_target
        self.timing_method = device.timing_method

    def unavailable(self) -> str | None:
        return None

    def open(self, build: Build, *, entry: str, timeout_seconds: float, memory_bytes: int) -> Session:
        self.sessions += 1
        chosen = build if self.sessions <= 3 else self.later
        return self.device.open(chosen, entry=entry, timeout_seconds=timeout_seconds, memory_bytes=memory_bytes)

    def close(self) -> None:
        """The emulator stays open."""


@pytest.mark.nvcc
def test_a_kernel_that_is_right_only_until_it_is_trusted_fails_promotion(emulator: EmulatorDevice) -> None:
    device = TurnsWrong(emulator, built(TWINS / "vectors_without_tail.cu", emulator))
    candidate = Candidate(source=SEED, entry=GELU.entry)
    evaluation = evaluate(GELU, candidate, device=device, cases=FEW, champion_ns=math.inf)
    assert stage(evaluation, "measure").outcome is StageOutcome.PASSED
    assert stage(evaluation, "promotion").outcome is StageOutcome.FAILED
    assert "not written" in stage(evaluation, "promotion").text
    assert not evaluation.promoted
    assert evaluation.verdict is not None
    assert evaluation.verdict.outcome is Outcome.WRONG
    assert evaluation.timing is None


# --- the order ------------------------------------------------------------------------------------------------------


@pytest.mark.nvcc
def test_a_cheat_passes_correctness_and_fails_integrity(emulator: EmulatorDevice) -> None:
    softmax: Task = load_task("softmax")
    few = tuple(case for case in softmax.cases if case.purpose is Purpose.TEST)[:1]
    evaluation = evaluate(softmax, TWINS / "library_call.cu", device=emulator, cases=few)
    assert stage(evaluation, "correctness").outcome is StageOutcome.PASSED
    assert stage(evaluation, "integrity").outcome is StageOutcome.FAILED
    assert "calls compute operators" in stage(evaluation, "integrity").text
    assert evaluation.stages[-1].name == "integrity"


def test_a_stage_that_was_not_reached_has_no_row(emulator: EmulatorDevice) -> None:
    evaluation = judged("int main() {}", emulator)
    assert [(s.name, s.outcome) for s in evaluation.stages] == [("read", StageOutcome.FAILED)]
