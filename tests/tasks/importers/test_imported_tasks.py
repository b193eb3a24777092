"""Tasks of other formats, read as they are: signatures, sizes, data and references, without building anything."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from kernelevo.devices import Arguments
from kernelevo.errors import TaskError, UsageError
from kernelevo.records import Case, Purpose, Task
from kernelevo.tasks import hidden_cases, load_task
from kernelevo.tasks.imported import ladder
from kernelevo.tasks.load import entry_of, identity
from kernelevo.tasks.native import write_native
from kernelevo.verify.oracle import compute_expected, run_reference

HERE = Path(__file__).parent
PROBLEMS = HERE / "kernelbench"
FOLDERS = HERE / "robust_kbench"


@pytest.fixture(scope="module")
def linear() -> Task:
    return load_task(PROBLEMS / "linear_shift_relu.py")


@pytest.fixture(scope="module")
def loss() -> Task:
    return load_task(PROBLEMS / "token_loss.py")


@pytest.fixture(scope="module")
def norm() -> Task:
    return load_task(FOLDERS / "row_norm")


def judged(task: Task) -> list[Case]:
    return [case for case in task.cases if case.purpose is Purpose.TEST]


def drawn(task: Task, case: Case) -> tuple:
    return task.inputs(case, torch.Generator().manual_seed(case.seed))


# KernelBench


def test_a_cuda_candidate_takes_inputs_then_parameters_in_the_models_order(linear: Task) -> None:
    assert linear.signature == (
        "forward(x: Tensor[batch_size, in_features], shift: Tensor[out_features], "
        "linear_weight: Tensor[out_features, in_features], linear_bias: Tensor[out_features]) "
        "-> Tensor[batch_size, out_features]"
    )
    x, shift, weight, bias = drawn(linear, judged(linear)[0])
    expected = torch.relu(torch.nn.functional.linear(x, weight, bias) + shift)
    torch.testing.assert_close(linear.reference(x, shift, weight, bias), expected)


def test_the_oracle_is_float64_although_the_module_was_made_in_float32(linear: Task) -> None:
    x, shift, weight, bias = (value.double() for value in drawn(linear, judged(linear)[0]))
    found = linear.reference(x, shift, weight, bias)
    assert found.dtype is torch.float64
    torch.testing.assert_close(
        found, torch.relu(torch.nn.functional.linear(x, weight, bias) + shift), rtol=1e-13, atol=1e-13
    )


def test_large_sizes_are_scaled_down_and_the_task_says_so(linear: Task) -> None:
    (bench,) = (case for case in linear.cases if case.purpose is Purpose.BENCH)
    assert bench.sizes == {"batch_size": 512, "in_features": 512, "out_features": 1024}
    said = "batch_size 1024 to 512, in_features 4096 to 512, out_features 8192 to 1024"
    assert f"Scaled down for the emulator: {said}" in linear.description
    assert any(said in hint for hint in linear.hints)


def test_sizes_that_fit_stay_as_the_file_says() -> None:
    task = load_task(PROBLEMS / "mixed_distance.py")
    (bench,) = (case for case in task.cases if case.purpose is Purpose.BENCH)
    assert bench.sizes == {"size_256": 256, "size_1000": 1000}
    assert not task.hints


def test_halving_takes_the_largest_size_first_and_leaves_small_ones() -> None:
    levels = ladder({"batch": 4, "rows": 32, "width": 20, "stride": 3}, ["batch", "rows", "width"])
    assert levels[1] == {"batch": 4, "rows": 16, "width": 20, "stride": 3}
    assert levels[-1] == {"batch": 2, "rows": 8, "width": 5, "stride": 3}


def test_a_size_that_the_candidate_cannot_see_is_never_varied() -> None:
    task = load_task(PROBLEMS / "window_sum.py")
    assert task.hidden_sizes["window"] == (11, 11)
    assert {case.sizes["window"] for case in task.cases} == {11}
    low, high = task.hidden_sizes["length"]
    assert low < high


def test_a_model_with_dropout_is_judged_in_evaluation_mode_and_the_task_says_so() -> None:
    task = load_task(PROBLEMS / "window_sum.py")
    values = drawn(task, judged(task)[0])
    assert torch.equal(task.reference(*values), task.reference(*values))
    assert "evaluation mode" in task.description


def test_zeros_that_the_file_puts_into_an_input_stay_under_every_distribution() -> None:
    task = load_task(PROBLEMS / "window_sum.py")
    for case in (*judged(task), *hidden_cases(task, 3, count=6)):
        (x,) = drawn(task, case)
        assert torch.equal(x, x.tril()), case.name


def test_integer_inputs_and_a_scalar_output_are_drawn_by_the_file(loss: Task) -> None:
    tokens, target, table, temperature = drawn(loss, judged(loss)[0])
    assert tokens.dtype is target.dtype is torch.int64
    assert loss.signature.endswith("-> Tensor[]")
    assert loss.distributions == ("own",), "no float input could be replaced"
    assert loss.reference(tokens, target, table, temperature).shape == ()


def test_constant_parameters_are_drawn_as_well_so_that_no_kernel_can_ignore_them(loss: Task) -> None:
    own, uniform = (next(case for case in judged(loss) if case.initialisation == kind) for kind in ("own", "uniform"))
    assert drawn(loss, own)[3].unique().tolist() == [1.0]
    assert len(drawn(loss, uniform)[3].unique()) > 10


def test_only_distributions_that_keep_the_reference_finite_are_used(tmp_path: Path) -> None:
    path = tmp_path / "log.py"
    path.write_text(
        "import torch\nfrom torch import nn\n\nclass Model(nn.Module):\n    def forward(self, x):\n"
        "        return torch.log(x)\n\nrows = 40\n\ndef get_inputs():\n    return [torch.rand(rows, 50) + 0.1]\n"
    )
    task = load_task(path)
    assert task.distributions == ("own", "constant")


def test_the_same_case_draws_the_same_values_and_leaves_torchs_generator_alone(linear: Task) -> None:
    case = judged(linear)[1]
    before = torch.get_rng_state()
    first, second = drawn(linear, case), drawn(linear, case)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("def get_inputs():\n    return []\n", "defines no Model"),
        ("class Model(:\n", "problem.py:1: invalid syntax"),
        (
            "import torch\nclass Model(torch.nn.Module):\n    def forward(self, x):\n        return x @ x\n"
            "def get_inputs():\n    return [torch.zeros(20, 30)]\n",
            "the reference runs at none of the sizes tried, from size_20=5 size_30=7 to size_20=20 size_30=30",
        ),
        (
            "import torch\nclass Model(torch.nn.Module):\n    def forward(self, x):\n"
            "        return x + torch.rand(30)\n"
            "def get_inputs():\n    return [torch.zeros(20, 30)]\n",
            "the reference gives different outputs for equal inputs",
        ),
    ],
)
def test_a_problem_that_cannot_be_used_is_refused_with_the_reason(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "problem.py"
    path.write_text(text)
    with pytest.raises(TaskError) as error:
        load_task(path)
    assert complaint in str(error.value)


# robust-kbench


def test_a_forward_candidate_takes_what_fn_is_given_and_every_configuration_is_judged() -> None:
    task = load_task(FOLDERS / "scale_rows")
    assert task.signature == "forward(x: Tensor[rows, cols], weight: Tensor[cols], eps: float) -> Tensor[rows, cols]"
    assert task.seed_source is not None
    configurations = {}
    for case in judged(task):
        configurations[case.sizes["configuration"]] = drawn(task, case)[2]
    assert configurations == {1: 1e-6, 2: 1e-6, 3: 1e-6, 4: 1e-6, 5: 1e-6, 6: 1e-3, 7: 1e-3, 8: 1e-3}


def test_a_reference_that_narrows_to_float32_is_float64_in_the_oracle() -> None:
    task = load_task(FOLDERS / "scale_rows")
    x, weight, eps = drawn(task, judged(task)[0])
    found = task.reference(x.double(), weight.double(), eps)
    exact = x.double() / (x.double().abs().amax(dim=-1, keepdim=True) + eps) * weight.double()
    assert torch.equal(found, exact)


def test_a_backward_candidate_takes_and_returns_what_autograd_function_says(norm: Task) -> None:
    assert norm.name == "row_norm_backward"
    assert norm.entry == "backward"
    assert norm.signature == (
        "backward(grad_output: Tensor[rows, cols], x: Tensor[rows, cols], weight: Tensor[cols], "
        "(saved_5: Tensor[rows, 1], saved_6: Tensor[rows, 1]), (cols,)) "
        "-> (Tensor[cols], Tensor[cols], Tensor[rows, cols])"
    )


def test_expected_gradients_are_those_of_autograd_in_float64(norm: Task) -> None:
    case = next(case for case in judged(norm) if case.initialisation == "uniform")
    expected = compute_expected(norm, case)
    x, weight, bias, eps, gradient, *_ = expected.inputs
    leaves = [value.double().requires_grad_() for value in (x, weight, bias)]
    out = torch.nn.functional.layer_norm(leaves[0], (x.shape[1],), leaves[1], leaves[2], eps)
    grad_x, grad_weight, grad_bias = torch.autograd.grad(out, leaves, gradient.double())
    for found, wanted in zip(expected.oracle, (grad_weight, grad_bias, grad_x), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)


def test_saved_values_follow_the_inputs_they_were_computed_from(norm: Task) -> None:
    values = drawn(norm, judged(norm)[0])
    changed = Arguments((values[0] + 1.0, *values[1:]), values.layout)
    refreshed = norm.inputs.__self__.refreshed(changed)
    torch.testing.assert_close(refreshed[5], values[5] + 1.0)
    assert refreshed.layout == values.layout


def test_a_tuple_that_is_handed_on_arrives_as_one() -> None:
    task = load_task(FOLDERS / "cube")
    values = drawn(task, judged(task)[0])
    assert isinstance(values, Arguments)
    assert json.loads(values.layout)["arguments"] == [{"tuple": [0]}, 1]


def test_the_file_of_a_direction_chooses_it_and_the_folder_means_forward() -> None:
    folder = FOLDERS / "mean_loss"
    assert (entry_of(folder), load_task(folder).name) == ("forward", "mean_loss")
    assert (entry_of(folder / "func_backward.py"), identity(folder / "func_backward.py")[0]) == (
        "backward",
        "mean_loss_backward",
    )


def test_gradients_of_class_indices_are_none_and_not_asked_for() -> None:
    task = load_task(FOLDERS / "mean_loss" / "func_backward.py")
    case = judged(task)[0]
    gradient, predictions, targets = (drawn(task, case)[i] for i in (2, 0, 1))
    (found,) = run_reference(task, drawn(task, case))
    exact = (torch.softmax(predictions, 1) - torch.nn.functional.one_hot(targets, predictions.shape[1])) * gradient
    torch.testing.assert_close(found, exact / len(targets))


@pytest.mark.parametrize(
    ("file", "old", "new", "complaint"),
    [
        ("func_backward.py", "return grad_x, ", "return grad_x * 2, ", "cannot be followed: it returns other things"),
        ("func_backward.py", "return fn(", "return 2 * fn(", "expected `return fn(...)`"),
        ("func_backward.py", "def get_inputs", "def other_inputs", "defines no get_inputs"),
        ("config_backward.json", "[{}]", '[{"depth": 3}]', "depth = 3: Model takes no such argument"),
        ("config_backward.json", "}", "", "not valid JSON"),
    ],
)
def test_a_folder_that_cannot_be_used_is_refused_with_the_reason(
    tmp_path: Path, file: str, old: str, new: str, complaint: str
) -> None:
    folder = tmp_path / "row_norm"
    shutil.copytree(FOLDERS / "row_norm", folder)
    text = (folder / file).read_text()
    assert old in text
    (folder / file).write_text(text.replace(old, new))
    with pytest.raises(TaskError) as error:
        load_task(folder)
    assert complaint in str(error.value)


# both


def test_what_is_no_task_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"holds no task\.toml"):
        load_task(tmp_path)
    with pytest.raises(UsageError, match="there is no such file"):
        load_task("no_such_problem.py")


def test_name_and_entry_are_known_without_torch() -> None:
    code = (
        "import sys; from kernelevo.tasks.load import entry_of, identity\n"
        f"paths = [{str(PROBLEMS / '1_Scaled_Softsign.py')!r}, {str(FOLDERS / 'row_norm')!r}]\n"
        "print([(entry_of(p), identity(p)[0]) for p in paths], 'torch' in sys.modules)"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.strip() == "[('forward', 'k1_scaled_softsign'), ('backward', 'row_norm_backward')] False"


def test_the_digest_follows_the_files_of_the_task(tmp_path: Path) -> None:
    path = tmp_path / "problem.py"
    text = (PROBLEMS / "mixed_distance.py").read_text()
    path.write_text(text)
    first = identity(path)[1]
    assert load_task(path).digest == first
    path.write_text(text + "\n")
    assert identity(path)[1] != first


@pytest.mark.parametrize("path", [PROBLEMS / "token_loss.py", FOLDERS / "row_norm"], ids=["kernelbench", "robust"])
def test_a_native_folder_draws_and_computes_the_same(path: Path, tmp_path: Path) -> None:
    task = load_task(path)
    native = load_task(write_native(path, tmp_path / task.name))
    assert native.name == task.name
    assert native.cases == task.cases
    assert (native.hidden_sizes, native.reduction, native.signature) == (
        task.hidden_sizes,
        task.reduction,
        task.signature,
    )
    case = judged(task)[-1]
    here, there = compute_expected(task, case), compute_expected(native, case)
    assert getattr(here.inputs, "layout", None) == getattr(there.inputs, "layout", None)
    assert all(torch.equal(a, b) for a, b in zip(here.oracle, there.oracle, strict=True))


def test_a_native_folder_never_overwrites(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="already exists"):
        write_native(PROBLEMS / "token_loss.py", tmp_path)
