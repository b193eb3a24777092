"""The error rule on single outputs."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kernelevo.verify.rule import Allowed, compare, floor, reduction_length

FLOOR = Allowed(error=floor(torch.float32, 1), error_l2=floor(torch.float32, 1))


def judge(output, oracle, allowed=FLOOR):
    oracle = torch.as_tensor(oracle, dtype=torch.float64)
    return compare(torch.as_tensor(output, dtype=torch.float32), oracle, oracle.float(), allowed)


def test_the_floor_is_a_few_roundings_plus_the_square_root_of_the_reduction():
    assert floor(torch.float32, 1) == pytest.approx(6 * 2.0**-23)
    assert floor(torch.float32, 10_000) == pytest.approx(204 * 2.0**-23)
    assert floor(torch.float16, 1) == pytest.approx(4 * 2.0**-10, rel=1e-3)


@pytest.mark.parametrize("reduction", [1, 100, 10_000])
def test_half_precision_rounding_is_never_within_the_float32_floor(reduction):
    values = torch.randn(1000, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    allowed = Allowed(error=floor(torch.float32, reduction), error_l2=floor(torch.float32, reduction))
    assert not judge(values.half().float(), values, allowed).accepted
    assert not judge(values.bfloat16().float(), values, allowed).accepted
    assert judge(values.float(), values, allowed).accepted


@given(n=st.integers(1, 500), seed=st.integers(0, 2**32 - 1), offset=st.sampled_from([0.0, 3.0, 1e3]))
@settings(max_examples=60, deadline=None)
def test_a_float32_sum_in_any_order_is_within_the_floor_of_its_length(n, seed, offset):
    terms = torch.randn(n, generator=torch.Generator().manual_seed(seed)) + offset
    total = torch.zeros(())
    for term in terms:  # one running sum, the worst of all orders
        total = total + term
    # Relative to the terms, not to a sum that may cancel: for those, e_ref of the perturbed runs takes over.
    assert abs(float(total) - float(terms.double().sum())) <= floor(torch.float32, n) * float(
        terms.double().abs().sum()
    )


def test_errors_are_relative_so_small_outputs_need_small_errors():
    assert not judge([0.0, 0.0], [1e-20, 2e-20]).accepted
    assert judge([1e-20, 2e-20], [1e-20, 2e-20]).accepted


def test_an_error_in_one_element_names_its_place_and_both_values():
    oracle = torch.ones(4, 20, dtype=torch.float64)
    output = oracle.float()
    output[3, 17] = 0.5
    result = judge(output, oracle)
    assert result.worst == "[3, 17]: expected 1, got 0.5"
    assert "1 of 80 elements are wrong, within [3, 17]" in result.reason


def test_the_reason_names_the_smallest_box_that_holds_all_wrong_elements():
    oracle = torch.ones(4, 20, dtype=torch.float64)
    output = oracle.float()
    output[:, 16:] = 0.0
    assert "16 of 80 elements are wrong, within [0:4, 16:20]" in judge(output, oracle).reason


def test_many_small_errors_are_caught_by_the_l2_rule_where_the_largest_hides_them():
    oracle = torch.full((10_000,), 1e-3, dtype=torch.float64)
    oracle[0] = 1.0
    output = oracle.float() * 1.0
    output[1:] = 1e-3 * (1 + 5e-4)
    result = judge(output, oracle, Allowed(error=1e-6, error_l2=1e-6))
    assert not result.accepted
    assert "relative L2 error" in result.reason


@pytest.mark.parametrize("expected", [math.inf, -math.inf, math.nan])
def test_non_finite_values_must_match_in_place_and_kind(expected):
    for value in (math.inf, -math.inf, math.nan, 0.0, 1.0):
        same = value == expected or (math.isnan(value) and math.isnan(expected))
        assert judge([1.0, value], [1.0, expected]).accepted is same


def test_a_non_finite_value_where_a_number_is_expected_is_wrong():
    for value in (math.inf, -math.inf, math.nan):
        result = judge([1.0, value, 2.0], [1.0, 1.5, 2.0])
        assert not result.accepted
        assert result.worst.startswith("[1]: expected 1.5, got")


def test_where_the_reference_overflows_and_the_oracle_does_not_either_is_accepted():
    oracle = torch.tensor([1.0, 1e30], dtype=torch.float64)
    reference = torch.tensor([1.0, math.inf])
    for value in (math.inf, 1e30):
        assert compare(torch.tensor([1.0, value]), oracle, reference, FLOOR).accepted
    assert not compare(torch.tensor([0.5, math.inf]), oracle, reference, FLOOR).accepted


def test_flushing_subnormals_to_zero_is_accepted():
    assert judge([0.0, 0.0], [1e-39, -5e-39]).accepted
    assert not judge([0.0, 0.0], [1e-30, -5e-30]).accepted


def test_integers_must_be_equal():
    oracle = torch.tensor([1, 2, 3])
    assert compare(torch.tensor([1, 2, 3]), oracle, oracle, Allowed(error=0.0, error_l2=0.0)).accepted
    result = compare(torch.tensor([1, 2, 4]), oracle, oracle, Allowed(error=0.0, error_l2=0.0))
    assert not result.accepted
    assert result.worst == "[2]: expected 3, got 4"


def test_where_zeros_are_expected_the_reason_says_so_instead_of_a_ratio():
    assert "[1]: expected 0, got 1.5; zeros are expected everywhere; 1 of 2" in judge([0.0, 1.5], [0.0, 0.0]).reason


def test_an_empty_output_is_right():
    assert judge(torch.empty(0, 5), torch.empty(0, 5)).accepted


def test_a_single_number_without_dimensions_is_judged_too():
    assert judge(2.5, 2.5).accepted
    assert judge(2.4, 2.5).worst == "[]: expected 2.5, got 2.4000001"


def test_the_longest_product_is_the_reduction_length():
    sizes = {"rows": 7, "cols": 5}
    assert reduction_length((), sizes) == 1
    assert reduction_length(("cols", "rows"), sizes) == 7
    assert reduction_length(("cols", "rows * cols"), sizes) == 35
