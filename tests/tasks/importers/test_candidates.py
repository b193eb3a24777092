"""Kernels for imported tasks, on the emulator: right ones pass, wrong ones are rejected for their own reason."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from kernelevo.build import build
from kernelevo.devices.emulator import EmulatorDevice
from kernelevo.records import Build, Candidate, Outcome, Purpose, Task, Verdict
from kernelevo.tasks import hidden_cases, load_task
from kernelevo.toolchain import find_toolchain
from kernelevo.verify import verify

pytestmark = pytest.mark.nvcc

HERE = Path(__file__).parent
PROBLEMS = HERE / "kernelbench"
FOLDERS = HERE / "robust_kbench"
CANDIDATES = HERE / "candidates"

Judge = Callable[[Path, str], tuple[Build, Verdict | None]]


@pytest.fixture(scope="module")
def judge(emulator: EmulatorDevice, cache_folder: Path) -> Judge:
    """Builds a source for a task and verifies it on its TEST and four HIDDEN cases."""
    toolchain = find_toolchain()
    tasks: dict[Path, Task] = {}

    def judged(path: Path, source: str) -> tuple[Build, Verdict | None]:
        task = tasks.setdefault(path, load_task(path))
        candidate = Candidate(source=source, entry=task.entry)
        built = build(candidate, target=emulator.target, toolchain=toolchain, cache=cache_folder)
        if not built.succeeded:
            return built, None
        cases = [case for case in task.cases if case.purpose is Purpose.TEST] + [*hidden_cases(task, 11, count=4)]
        return built, verify(task, built, emulator, cases=cases, entropy=5, timeout_seconds=60.0)

    return judged


def outcome(verdict: Verdict | None) -> tuple[str, str]:
    assert verdict is not None
    return verdict.outcome.value, verdict.reason or ""


def changed(path: Path, old: str, new: str) -> str:
    text = path.read_text()
    assert old in text
    return text.replace(old, new)


# Python candidates


@pytest.mark.parametrize(
    ("problem", "candidate"),
    [("1_Scaled_Softsign", "softsign"), ("linear_shift_relu", "linear"), ("mixed_distance", "distance")],
    ids=["elementwise", "tiled-product-in-two-calls", "reduction-with-its-own-module"],
)
def test_a_python_candidate_that_is_right_passes(judge: Judge, problem: str, candidate: str) -> None:
    _, verdict = judge(PROBLEMS / f"{problem}.py", (CANDIDATES / f"{candidate}.py").read_text())
    assert outcome(verdict) == ("passed", "")


def test_a_python_candidate_that_is_wrong_is_wrong(judge: Judge) -> None:
    source = changed(CANDIDATES / "linear.py", "self.linear.bias, self.shift)", "self.linear.bias, self.linear.bias)")
    _, verdict = judge(PROBLEMS / "linear_shift_relu.py", source)
    found, reason = outcome(verdict)
    assert found == "wrong"
    assert reason.startswith("wrong value: output 0 [")


def test_plain_pytorch_is_a_library_call(judge: Judge) -> None:
    _, verdict = judge(PROBLEMS / "1_Scaled_Softsign.py", (CANDIDATES / "plain.py").read_text())
    found, reason = outcome(verdict)
    assert found == "cheating"
    assert reason.startswith("library call: ")
    assert "launched no kernel of its own" in reason


def test_a_kernel_for_show_beside_pytorch_is_a_library_call(judge: Judge) -> None:
    pytest.importorskip("kernelevo.devices._operators", reason="the extension that sees operators was not built")
    source = changed(
        CANDIDATES / "softsign.py",
        "return self.softsign.softsign_cuda(x)",
        "self.softsign.softsign_cuda(x)\n        return 1.5 * x / (1.0 + x.abs())",
    )
    _, verdict = judge(PROBLEMS / "1_Scaled_Softsign.py", source)
    found, reason = outcome(verdict)
    assert found == "cheating"
    assert reason.startswith("library call: ran compute operators of PyTorch: aten::abs")


def test_inheriting_the_references_forward_is_refused_before_anything_runs(judge: Judge) -> None:
    built, _ = judge(PROBLEMS / "1_Scaled_Softsign.py", (CANDIDATES / "inherits.py").read_text())
    (error,) = built.diagnostics
    assert (error.line, error.stage) == (10, "read")
    assert error.text.startswith("ModelNew takes its forward from Model")


@pytest.mark.parametrize(
    ("old", "new", "line", "text"),
    [
        ("const int n = x.numel();\n    soft", "const int n = x.numel()\n    soft", 19, "expected a"),
        ("class ModelNew(nn.Module):", "class ModelNew(Model):", 37, "NameError: name 'Model' is not defined"),
        ("class ModelNew(nn.Module):", "class ModelNew(nn.Module:", 37, "not valid Python: invalid syntax"),
        ('functions=["softsign_cuda"]', 'functions=["sofsign_cuda"]', None, "sofsign_cuda"),
        ("#include <cuda_runtime.h>\n", "#include </etc/passwd>\n", 7, "a header outside the include paths"),
        ("    def forward(self", "    def backward(self", 37, "ModelNew defines no forward"),
    ],
    ids=["cuda", "import", "syntax", "function", "header", "no-forward"],
)
def test_what_does_not_build_is_told_at_the_line_of_the_python_file(
    judge: Judge, old: str, new: str, line: int | None, text: str
) -> None:
    built, verdict = judge(PROBLEMS / "1_Scaled_Softsign.py", changed(CANDIDATES / "softsign.py", old, new))
    assert verdict is None
    errors = [d for d in built.diagnostics if d.severity == "error"]
    assert any(text in error.text and (line is None or error.line == line) for error in errors), errors


def test_flags_that_are_not_used_are_told(judge: Judge) -> None:
    built, _ = judge(PROBLEMS / "1_Scaled_Softsign.py", (CANDIDATES / "softsign.py").read_text())
    assert [d.text for d in built.diagnostics if d.severity == "warning"] == [
        "flag --use_fast_math of load_inline is ignored"
    ]


def test_parameters_that_are_not_the_references_are_named(judge: Judge) -> None:
    source = changed(
        CANDIDATES / "linear.py", "nn.Linear(in_features, out_features)", "nn.Linear(in_features, out_features + 1)"
    )
    _, verdict = judge(PROBLEMS / "linear_shift_relu.py", source)
    found, reason = outcome(verdict)
    assert found == "crashed"
    assert "MismatchError: ModelNew has the parameters shift [129], linear.weight [129, 64]" in reason


@pytest.mark.parametrize(
    ("statement", "text"),
    [
        ("import os; os._exit(3)", "exited"),
        ("open('/tmp/kernelevo_was_here', 'w')", "PermissionError"),
        ("while True: pass", "did not return within"),
    ],
)
def test_what_the_file_does_when_it_is_imported_happens_in_a_sandbox(
    judge: Judge, statement: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kernelevo.devices.recorder.TIMEOUT_SECONDS", 5.0)
    built, _ = judge(PROBLEMS / "1_Scaled_Softsign.py", f"{statement}\n" + (CANDIDATES / "plain.py").read_text())
    (error,) = built.diagnostics
    assert text in error.text
    assert not Path("/tmp/kernelevo_was_here").exists()


# CUDA candidates


def test_a_kernel_that_reads_every_argument_passes_and_one_that_ignores_the_weight_does_not(judge: Judge) -> None:
    kernel = FOLDERS / "scale_rows" / "forward.cu"
    assert outcome(judge(FOLDERS / "scale_rows", kernel.read_text())[1]) == ("passed", "")
    found, reason = outcome(judge(FOLDERS / "scale_rows", changed(kernel, " * weight[i]", ""))[1])
    assert found == "wrong"
    assert "weights uniform" in reason or "configuration=6" in reason, "fresh weights are ones: only others show it"


def test_gradients_with_saved_tensors_and_a_shape_pass_and_means_without_the_weight_do_not(judge: Judge) -> None:
    kernel = FOLDERS / "row_norm" / "backward.cu"
    assert outcome(judge(FOLDERS / "row_norm", kernel.read_text())[1]) == ("passed", "")
    wrong = changed(kernel, "const float gw = g[row * cols + i] * w[i];", "const float gw = g[row * cols + i];")
    found, reason = outcome(judge(FOLDERS / "row_norm", wrong)[1])
    assert found == "wrong"
    assert reason.startswith("wrong value: output 2 [")
    assert "weights uniform" in reason


def test_a_tuple_of_saved_tensors_is_what_a_candidate_gets(judge: Judge) -> None:
    assert outcome(judge(FOLDERS / "cube", (FOLDERS / "cube" / "kernel.cu").read_text())[1]) == ("passed", "")


def test_integer_inputs_buffers_and_a_scalar_output(judge: Judge) -> None:
    kernel = PROBLEMS / "token_loss.cu"
    assert outcome(judge(PROBLEMS / "token_loss.py", kernel.read_text())[1]) == ("passed", "")
    found, reason = outcome(judge(PROBLEMS / "token_loss.py", changed(kernel, "/ temperature[c]", ""))[1])
    assert found == "wrong"
    assert "weights uniform" in reason


def test_an_evaluation_of_an_imported_task_goes_through_all_stages(emulator: EmulatorDevice) -> None:
    from kernelevo.evaluate import evaluate_file

    evaluation = evaluate_file(PROBLEMS / "1_Scaled_Softsign.py", CANDIDATES / "softsign.py", device=emulator)
    assert evaluation.passed, evaluation.feedback
    assert evaluation.timing is not None, evaluation.timing_reason
    (timed,) = evaluation.timing.cases
    assert timed.case.sizes == {"batch_size": 512, "dim": 3072}
    assert evaluation.verdict is not None
    assert {case.outcome for case in evaluation.verdict.cases} == {Outcome.PASSED}
    assert evaluation.task == "k1_scaled_softsign"
