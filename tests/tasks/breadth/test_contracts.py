"""What a task may declare: in-place arguments, strided inputs, several outputs, dtypes other than float32."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from kernelevo.build import build
from kernelevo.devices.emulator import EmulatorDevice
from kernelevo.errors import TaskError
from kernelevo.records import Candidate, Purpose
from kernelevo.tasks import hidden_cases, load_task
from kernelevo.tasks.layouts import is_strided, strided
from kernelevo.toolchain import find_toolchain
from kernelevo.verify import verify
from kernelevo.verify.oracle import compute_expected

HERE = Path(__file__).parent
Judge = Callable[[str, str], tuple[str, str]]


@pytest.fixture(scope="module")
def judge(emulator: EmulatorDevice, cache_folder: Path) -> Judge:
    """Outcome and reason of a kernel on the TEST and four HIDDEN cases of a task."""
    toolchain = find_toolchain()

    def judged(name: str, source: str) -> tuple[str, str]:
        task = load_task(HERE / name) if (HERE / name).exists() else load_task(name)
        candidate = Candidate(source=source, entry=task.entry)
        built = build(candidate, target=emulator.target, toolchain=toolchain, cache=cache_folder)
        assert built.succeeded, built.diagnostics
        cases = [case for case in task.cases if case.purpose is Purpose.TEST] + [*hidden_cases(task, 11, count=4)]
        verdict = verify(task, built, emulator, cases=cases, entropy=5, timeout_seconds=60.0)
        return verdict.outcome.value, verdict.reason or ""

    return judged


def kernel(name: str, old: str = "", new: str = "") -> str:
    text = (HERE / name / "right.cu").read_text()
    assert old in text
    return text.replace(old, new) if old else text


# in place


def test_what_is_in_a_mutated_input_afterwards_is_what_is_expected() -> None:
    task = load_task(HERE / "accumulate")
    case = task.cases[0]
    expected = compute_expected(task, case)
    total, x, scale = expected.inputs
    assert expected.mutated == (0,)
    torch.testing.assert_close(expected.reference[0], total + scale * x)
    assert torch.equal(total, task.inputs(case, torch.Generator().manual_seed(case.seed))[0]), "inputs stay as drawn"


@pytest.mark.nvcc
def test_a_kernel_that_writes_its_argument_in_place_passes(judge: Judge) -> None:
    assert judge("accumulate", kernel("accumulate")) == ("passed", "")


@pytest.mark.nvcc
def test_a_kernel_that_writes_a_copy_instead_is_wrong(judge: Judge) -> None:
    found, reason = judge("accumulate", kernel("accumulate", "target = total;", "target = total.clone();"))
    assert (found, reason[:22]) == ("wrong", "wrong value: output 0 ")


@pytest.mark.nvcc
def test_an_input_that_is_not_declared_must_stay_as_it_was(judge: Judge) -> None:
    spoiled = "if (i < n) const_cast<T*>(x)[i] = static_cast<T>(static_cast<float>(x[i]) + 1.0f);\n}"
    source = kernel(
        "accumulate", "scale * static_cast<float>(x[i]));\n}", f"scale * static_cast<float>(x[i]));\n{spoiled}"
    )
    found, reason = judge("accumulate", source)
    assert (found, reason[:18]) == ("cheating", "input 1 changed at")


def test_a_reference_that_returns_what_it_mutates_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "accumulate"
    folder.mkdir()
    for file in ("task.toml", "reference.py"):
        (folder / file).write_text((HERE / "accumulate" / file).read_text())
    text = (folder / "reference.py").read_text()
    (folder / "reference.py").write_text(text.replace("total += scale * x", "total += scale * x\n    return total"))
    with pytest.raises(TaskError, match="reference returns an input that it mutates: return None"):
        load_task(folder)
    (folder / "task.toml").write_text((folder / "task.toml").read_text().replace('["total"]', '["sum"]'))
    with pytest.raises(TaskError, match=r"mutates: 'sum': expected arguments of reference: \['total', 'x', 'scale'\]"):
        load_task(folder)


# several outputs and layouts


@pytest.mark.nvcc
def test_three_outputs_of_two_dtypes_from_strided_inputs_pass(judge: Judge) -> None:
    assert judge("row_extremes", kernel("row_extremes")) == ("passed", "")


@pytest.mark.nvcc
def test_a_kernel_for_contiguous_inputs_only_is_found_by_a_strided_case(judge: Judge) -> None:
    found, reason = judge("row_extremes", kernel("row_extremes", "x.stride(0), x.stride(1)", "cols, 1"))
    assert found == "wrong"
    assert reason.endswith(" strided)")


@pytest.mark.nvcc
@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("places[row] = place;", "places[row] = place + (row == 1);", "wrong value: output 1 [1]: expected "),
        ("*total = sum;", "*total = sum * 0.999f;", "wrong value: output 2 []: expected "),
        ("return {values, places, total};", "return {values, places};", "wrong number of outputs: expected 3, got 2"),
        (".dtype(torch::kInt64)", ".dtype(torch::kFloat64)", "wrong dtype: output 1 is float64, expected int64"),
    ],
    ids=["integer", "scalar", "number", "dtype"],
)
def test_each_output_is_judged(judge: Judge, old: str, new: str, reason: str) -> None:
    source = kernel("row_extremes", old, new)
    if "kFloat64" in new:
        source = source.replace("places.data_ptr<int64_t>()", "reinterpret_cast<int64_t*>(places.data_ptr<double>())")
    found, why = judge("row_extremes", source)
    assert found == "wrong"
    assert why.startswith(reason)


def test_half_of_the_hidden_cases_and_one_of_each_test_size_are_strided() -> None:
    task = load_task(HERE / "row_extremes")
    tests = [case for case in task.cases if case.purpose is Purpose.TEST]
    assert [is_strided(case) for case in tests] == [False, False, False, True]
    hidden = hidden_cases(task, 1, count=40)
    assert 10 < sum(map(is_strided, hidden)) < 30
    for case in (*tests, *hidden):
        (x,) = task.inputs(case, torch.Generator().manual_seed(case.seed))
        if min(x.shape) > 1:
            assert x.is_contiguous() is not is_strided(case), case.name


@pytest.mark.parametrize("transposed", [False, True])
def test_strided_values_are_the_same_values(transposed: bool) -> None:
    x = torch.randn(4, 5, 6)
    y = strided(x, transposed=transposed)
    assert torch.equal(x, y)
    assert not y.is_contiguous()
    assert strided(3, transposed=transposed) == 3


# dtypes


@pytest.mark.nvcc
def test_a_task_in_three_dtypes_takes_its_seed_and_no_arithmetic_in_half_precision(judge: Judge) -> None:
    task = load_task("silu_mul")
    assert task.dtypes == ("float32", "float16", "bfloat16")
    assert task.seed_source is not None
    assert judge("silu_mul", task.seed_source) == ("passed", "")
    line = "y[i] = static_cast<T>(g / (1.0f + expf(-g)) * static_cast<float>(up[i]));"
    assert line in task.seed_source
    through_half = (
        "c10::Half e = static_cast<c10::Half>(expf(-g)); "
        "y[i] = static_cast<T>(g / (1.0f + static_cast<float>(e)) * static_cast<float>(up[i]));"
    )
    found, reason = judge("silu_mul", task.seed_source.replace(line, through_half))
    assert found == "wrong"
    assert "float32" in reason
