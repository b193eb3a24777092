"""Cases: which are declared, which are hidden, and what their inputs hold."""

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kernelevo.records import Case, Purpose
from kernelevo.tasks import DISTRIBUTIONS, INITIALISATIONS, hidden_cases, load_task, sample, sample_parameter


def case(distribution="normal", initialisation="normal", dtype="float32"):
    return Case(
        name="case",
        sizes={},
        dtype=dtype,
        distribution=distribution,
        initialisation=initialisation,
        seed=1,
        purpose=Purpose.TEST,
    )


def draw(distribution, shape=(50, 40), dtype="float32", seed=1):
    return sample(shape, case(distribution, dtype=dtype), torch.Generator().manual_seed(seed))


# Declared


def test_each_size_and_initialisation_meets_three_distributions_and_normal_among_them():
    task = load_task("rmsnorm")
    groups = {}
    for one in task.cases:
        if one.purpose is Purpose.TEST:
            groups.setdefault((tuple(one.sizes.items()), one.initialisation), []).append(one.distribution)
    assert len(groups) == 6 * 2
    for distributions in groups.values():
        assert len(set(distributions)) == 3
        assert "normal" in distributions


def test_declared_seeds_are_the_same_every_time_and_differ_between_cases():
    first, second = load_task("softmax"), load_task("softmax")
    assert first.cases == second.cases
    assert len({one.seed for one in first.cases}) == len(first.cases)


# Hidden


def test_hidden_cases_follow_from_the_entropy_alone():
    task = load_task("layernorm")
    assert hidden_cases(task, 11, 6) == hidden_cases(task, 11, 6)
    assert hidden_cases(task, 11, 6) != hidden_cases(task, 12, 6)


@given(entropy=st.integers(0, 2**128))
@settings(max_examples=50, deadline=None)
def test_hidden_sizes_lie_in_their_ranges_and_names_and_seeds_are_unique(entropy):
    task = TASKS["depthwise_conv2d"]
    cases = hidden_cases(task, entropy, 12)
    assert len({one.name for one in cases}) == len({one.seed for one in cases}) == 12
    for one in cases:
        assert one.purpose is Purpose.HIDDEN
        assert set(one.sizes) == set(task.hidden_sizes)
        assert all(low <= one.sizes[name] <= high for name, (low, high) in task.hidden_sizes.items())


@given(entropy=st.integers(0, 2**64))
@settings(max_examples=30, deadline=None)
def test_six_hidden_cases_meet_a_smallest_a_largest_a_prime_and_sizes_beside_32_and_128(entropy):
    cols = [one.sizes["cols"] for one in hidden_cases(TASKS["rmsnorm"], entropy, 6)]
    assert min(cols) == 1
    assert max(cols) == 1100
    assert any(n % 32 in (1, 31) for n in cols)
    assert any(n % 128 in (1, 127) for n in cols)
    assert any(n % 4 for n in cols)


def test_hidden_cases_rotate_through_distributions_initialisations_and_dtypes():
    task = dataclasses.replace(TASKS["rmsnorm"], dtypes=("float32", "float16"))
    cases = hidden_cases(task, 3, len(DISTRIBUTIONS))
    assert {one.distribution for one in cases} == set(DISTRIBUTIONS)
    assert {one.initialisation for one in cases} == {"normal", "ones"}
    assert {one.dtype for one in cases} == {"float32", "float16"}


# Inputs


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_every_distribution_is_finite_repeatable_and_of_the_dtype(distribution, dtype):
    for shape in ((), (1,), (7,), (3, 5, 2)):
        values = draw(distribution, shape, dtype)
        assert values.shape == shape
        assert values.dtype == getattr(torch, dtype)
        assert values.is_contiguous()
        assert bool(torch.isfinite(values).all())
        assert torch.equal(values, draw(distribution, shape, dtype))


def test_distributions_are_what_they_are_named():
    assert abs(float(draw("normal").mean())) < 0.1
    assert abs(float(draw("offset").mean()) - 3.0) < 0.1
    assert float(draw("tiny").abs().max()) < 1e-3
    assert float(draw("huge").abs().max()) > 1e3
    assert 0.8 < float((draw("sparse") == 0).double().mean()) < 0.97
    assert torch.equal((draw("spike") == 1000.0).sum(dim=-1), torch.ones(50, dtype=torch.int64))
    assert int((draw("spike") != 0).sum()) == 50
    assert len(draw("constant").unique()) == 1
    assert bool((draw("sorted").diff(dim=-1) >= 0).all())
    negative = draw("negative")
    assert bool((negative <= 0).all())
    assert float(negative[::2].max()) <= -110.0 and float(negative[1::2].max()) > -1.0
    tiny = torch.finfo(torch.float32).tiny
    denormal = draw("denormal")
    assert bool(((denormal != 0) & (denormal.abs() < tiny)).any())
    assert float(denormal.abs().max()) > 1.0


def test_spikes_are_at_random_places_and_with_enough_rows_at_all():
    assert torch.equal(draw("spike", (37, 37)).argmax(dim=-1).sort().values, torch.arange(37))
    one, two = (draw("spike", (37, 37), seed=seed).argmax(dim=-1) for seed in (1, 2))
    assert not torch.equal(one, two)
    assert draw("spike", (5, 0)).shape == (5, 0)


@pytest.mark.parametrize("name", ["softmax", "cross_entropy"])
def test_every_column_holds_the_maximum_of_some_row_where_a_kernel_takes_one(name):
    task = load_task(name)
    (spike, *_) = [c for c in task.cases if c.distribution == "spike" and c.sizes["rows"] == 320]
    logits = task.inputs(spike, torch.Generator().manual_seed(spike.seed))[0]
    assert logits.shape[1] > 256
    assert len(logits.argmax(dim=-1).unique()) == logits.shape[1]


def test_different_seeds_draw_different_values():
    for distribution in DISTRIBUTIONS:
        assert not torch.equal(draw(distribution, seed=1), draw(distribution, seed=2)), distribution


@pytest.mark.parametrize("initialisation", INITIALISATIONS)
def test_parameters_are_repeatable_and_of_the_dtype(initialisation):
    values = [
        sample_parameter((33,), case(initialisation=initialisation), torch.Generator().manual_seed(4)) for _ in range(2)
    ]
    assert torch.equal(*values)
    assert values[0].dtype == torch.float32
    assert (len(values[0].unique()) == 1) is (initialisation == "ones")


def test_an_unknown_distribution_is_an_error_that_names_the_known_ones():
    with pytest.raises(ValueError, match="unknown distribution 'odd': expected one of normal"):
        draw("odd")


TASKS = {name: load_task(name) for name in ("rmsnorm", "depthwise_conv2d")}
