"""Mutants: one mistake each, in kernels and launches, and nowhere else."""

import pytest

from kernelevo.tasks import list_tasks, load_task
from kernelevo.verify.mutants import HALF, OPERATORS, mutants

NAMES = [task.name for task in list_tasks()]

# What no seed has: one kernel that uses the rest of the operators.
WARPS = """
__global__ void warps(const float* x, float* y, int n) {
    float sum = 0.0f;
    for (int i = threadIdx.x; i < n; i += 32) { sum += x[i]; }
    for (int offset = 16; offset > 0; offset /= 2) { sum += __shfl_down_sync(0xffffffff, sum, offset); }
    if (threadIdx.x == 0) { atomicAdd(&y[0], sum); }
}
"""


def of(name):
    return mutants(load_task(name).seed_source)


def changes(source, operator):
    return [mutant.after for mutant in mutants(source) if mutant.operator == operator]


@pytest.mark.parametrize("name", NAMES)
def test_each_mutant_differs_from_the_seed_in_one_place_and_from_all_others(name):
    source = load_task(name).seed_source
    found = of(name)
    assert len(found) >= 20
    assert len({mutant.source for mutant in found}) == len(found)
    for mutant in found:
        rest = mutant.source.removeprefix(HALF)
        assert rest != source
        places = [n for n in range(len(rest)) if rest.startswith(mutant.after, n)]
        assert source in [rest[:n] + mutant.before + rest[n + len(mutant.after) :] for n in places]


@pytest.mark.parametrize("name", NAMES)
def test_the_contract_of_the_host_function_is_left_alone(name):
    start = load_task(name).seed_source.index("PYBIND11_MODULE")
    binding = load_task(name).seed_source[start:]
    for mutant in of(name):
        assert mutant.source.endswith(binding)
        assert mutant.source.count("TORCH_CHECK") == load_task(name).seed_source.count("TORCH_CHECK")


def test_every_operator_has_a_place_in_some_kernel_and_there_are_many():
    used = {mutant.operator for name in NAMES for mutant in of(name)} | {m.operator for m in mutants(WARPS)}
    assert used == set(OPERATORS)
    assert len(OPERATORS) >= 25


@pytest.mark.parametrize(
    ("operator", "expected"),
    [
        ("drop atomic", ["*(&y[0]) += sum"]),
        ("wrong shuffle", ["(offset) + 1"]),
        ("wrong mask", ["(0xffffffff & 0x0000ffff)"]),
        ("confuse function", ["__shfl_up_sync(0xffffffff, sum, offset)", "atomicExch(&y[0], sum)"]),
        ("wrong start value", ["1.0f"]),
        ("late start", ["threadIdx.x + 1", "16 + 1"]),
        ("wrong step", ["i += 32 + 1", "offset /= 2 * 2"]),
        ("bound too small", ["i < n - 1", "offset > 0 + 1"]),
        ("bound too large", ["i <= n", "offset >= 0"]),
        ("flip comparison", ["threadIdx.x != 0"]),
        ("drop guard", ["(true)"]),
        ("neighbour's element", ["i + 1", "0 + 1"]),
    ],
)
def test_an_operator_makes_the_mistake_it_is_named_after(operator, expected):
    assert changes(WARPS, operator) == expected


def test_an_early_return_is_a_guard_too_and_a_shift_is_no_comparison():
    source = "__global__ void k(float* y, int n) { if (threadIdx.x >= n) return; y[1 << n] = 0.0f; }"
    assert changes(source, "drop guard") == ["(false)"]
    assert not [after for after in changes(source, "bound too large") if "1 <" in after]


def test_an_input_is_read_where_a_parameter_was_meant():
    source = "__global__ void k(const float* x, const float* weight, float* y) { y[0] = x[0] * weight[0]; }"
    assert changes(source, "wrong pointer") == ["weight", "x"]


def test_arguments_of_a_launch_trade_places_where_a_compiler_would_not_mind():
    source = "void f() { k<<<rows, 256>>>(x.data_ptr<float>(), y.data_ptr<float>(), t.data_ptr<int>(), n, 3); }"
    assert changes(source, "swap arguments") == ["(y.data_ptr<float>(), x.data_ptr<float>(), t.data_ptr<int>(), n, 3)"]
    assert changes(source, "too few blocks") == ["(rows > 1 ? rows - 1 : 1)"]


def test_a_mutant_names_its_line_and_change_and_shows_it_as_a_diff():
    mutant = next(mutant for mutant in of("gelu") if mutant.operator == "bound too small")
    assert str(mutant) == "line 8: bound too small: 'i < n' -> 'i < n - 1'"
    diff = mutant.diff(load_task("gelu").seed_source, "gelu.cu").splitlines()
    assert diff[:2] == ["--- gelu.cu", "+++ gelu.cu: bound too small"]
    assert "-    if (i < n) {" in diff and "+    if (i < n - 1) {" in diff


def test_a_sum_in_half_precision_brings_its_header_which_is_no_part_of_the_diff():
    mutant = next(mutant for mutant in of("rmsnorm") if mutant.operator == "half accumulator")
    assert mutant.source.startswith(HALF)
    assert "cuda_fp16" not in mutant.diff(load_task("rmsnorm").seed_source)
