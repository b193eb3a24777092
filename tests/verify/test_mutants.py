"""Mutants: one mistake each, in kernels and launches, and nowhere else."""

import pytest

from kernelevo.tasks import list_tasks, load_task
from kernelevo.verify.mutants import mutants

NAMES = [task.name for task in list_tasks()]


def of(name):
    return mutants(load_task(name).seed_source)


@pytest.mark.parametrize("name", NAMES)
def test_each_mutant_differs_from_the_seed_in_one_place_and_from_all_others(name):
    source = load_task(name).seed_source
    found = of(name)
    assert len(found) >= 10
    assert len({mutant.source for mutant in found}) == len(found)
    for mutant in found:
        include, _, rest = mutant.source.rpartition("#include <cuda_fp16.h>\n")
        assert rest != source
        assert not include
        assert rest.replace(mutant.after, mutant.before).count("\n") == source.count("\n")


@pytest.mark.parametrize("name", NAMES)
def test_the_contract_of_the_host_function_is_left_alone(name):
    start = load_task(name).seed_source.index("PYBIND11_MODULE")
    binding = load_task(name).seed_source[start:]
    for mutant in of(name):
        assert mutant.source.endswith(binding)
        assert mutant.source.count("TORCH_CHECK") == load_task(name).seed_source.count("TORCH_CHECK")


def test_the_mistakes_are_those_that_people_make():
    operators = {mutant.operator for name in NAMES for mutant in of(name)}
    assert operators == {
        "drop barrier",
        "bound off by one",
        "drop term",
        "drop factor",
        "confuse operator",
        "confuse index",
        "confuse function",
        "keep only the last",
        "half accumulator",
        "constant nearly right",
        "skip the tail",
    }


def test_a_mutant_names_its_line_and_change():
    texts = [str(mutant) for mutant in of("gelu")]
    assert "line 8: bound off by one: 'i < n' -> 'i < n - 1'" in texts
