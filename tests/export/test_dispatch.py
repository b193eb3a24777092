"""Who answers a call. Tensors are on "meta" or the CPU here: what a kernel does on a GPU is in test_package.py."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from kernelevo.export.package import dispatch
from kernelevo.export.package.dispatch import Argument, Domain, NotEqualError, Operation, gradients, relative_error

DOMAIN = Domain(
    arguments=(
        Argument(name="x", dims=("rows", "cols")),
        Argument(name="weight", dims=("cols", "1")),
        Argument(name="eps", dims=None, values=(1e-5,)),
    ),
    dtypes=(("float32", "float32"), ("float16", "float32")),
    sizes={"rows": (1, 64), "cols": (2, 32)},
    reduction=("cols", "rows*cols"),
)


@pytest.fixture
def anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets kernels have CPU tensors: there is no GPU here, and what is tested is what comes before and after."""

    def other_kind(self: Domain, values: Any) -> str | None:
        tensors = [v for v in values if isinstance(v, torch.Tensor)]
        dtypes = tuple(str(t.dtype).removeprefix("torch.") for t in tensors)
        return None if dtypes in self.dtypes else f"dtypes {dtypes}"

    monkeypatch.setattr(Domain, "_other_kind", other_kind)

    class Here:
        def __init__(self, device: torch.device) -> None: ...
        def __enter__(self) -> None: ...
        def __exit__(self, *_: object) -> None: ...

    monkeypatch.setattr(torch.cuda, "device", Here)


def inputs(rows: int = 3, cols: int = 4, eps: float = 1e-5, **options: Any) -> list[Any]:
    return [torch.rand(rows, cols, **options), torch.rand(cols, 1, **options), eps]


def test_what_was_verified_is_inside(anywhere: None) -> None:
    assert DOMAIN.why_not(inputs()) is None
    assert DOMAIN.why_not(inputs(1, 2)) is None and DOMAIN.why_not(inputs(64, 32)) is None


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (inputs(65, 4), "rows = 65; verified: 1 to 64"),
        (inputs(3, 1), "cols = 1; verified: 2 to 32"),
        (inputs(0, 4), "rows = 0; verified: 1 to 64"),
        (inputs(eps=1e-6), "eps = 1e-06; verified: 1e-05"),
        ([torch.rand(3, 4), torch.rand(5, 1), 1e-5], "weight has 5 where cols is 4"),
        ([torch.rand(3, 4), torch.rand(4, 2), 1e-5], "weight has 2 where 1 is 1"),
        ([torch.rand(3, 4, 5), torch.rand(4, 1), 1e-5], "x has 3 dimensions, not 2"),
        (inputs(dtype=torch.float64), "dtypes"),
    ],
)
def test_what_was_not_verified_is_outside_and_said(values: list[Any], says: str, anywhere: None) -> None:
    assert says in str(DOMAIN.why_not(values))


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (inputs(), "tensors on cpu; verified: on one GPU"),
        (inputs(device="meta"), "tensors on meta"),
        ([torch.rand(3, 4), 1e-5], "2 arguments, not 3"),
        ([torch.rand(3, 4), 1.0, 1e-5], "weight is not a tensor"),
        ([torch.rand(3, 4), torch.rand(4, 1), torch.tensor(1e-5)], "eps is a tensor"),
    ],
)
def test_another_kind_of_arguments_is_outside(values: list[Any], says: str) -> None:
    assert says in str(DOMAIN.why_not(values))


def reference(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    return x * weight.reshape(-1) / (x.square().mean() + eps)


def operation(kernel: Any) -> Operation:
    return Operation(name="op", domain=DOMAIN, kernel=lambda: kernel, reference=reference)


def test_the_kernel_gets_contiguous_aligned_tensors_and_answers_inside(anywhere: None) -> None:
    seen: list[list[Any]] = []

    def kernel(*values: Any) -> torch.Tensor:
        seen.append(list(values))
        return torch.zeros(1)

    shifted = torch.rand(4 * 8 + 1)[1:].reshape(8, 4)
    assert shifted.is_contiguous() and shifted.data_ptr() % dispatch.ALIGNMENT
    operation(kernel)(shifted, torch.rand(1, 4).T, 1e-5)
    operation(kernel)(torch.rand(4, 8).T, torch.rand(4, 1), 1e-5)
    for values in seen:
        tensors = values[:2]
        assert all(t.is_contiguous() and t.data_ptr() % dispatch.ALIGNMENT == 0 for t in tensors)
    assert torch.equal(seen[0][0], shifted)


def test_pytorch_answers_outside_in_memory_of_its_own() -> None:
    def identity(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
        return x.T

    never = Operation(name="op", domain=DOMAIN, kernel=lambda: pytest.fail("asked for"), reference=identity)
    x = torch.rand(3, 1)
    result = never(x, torch.rand(4, 1), 1e-5)
    assert torch.equal(result, x.T) and result.is_contiguous()
    assert result.untyped_storage().data_ptr() != x.untyped_storage().data_ptr()
    fake = never.fake(torch.empty(3, 5, device="meta"), torch.empty(4, 1, device="meta"), 1e-5)
    assert fake.shape == (5, 3) and fake.is_contiguous()


def test_extending_verifies_first(anywhere: None) -> None:
    calls: list[int] = []

    def kernel(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
        calls.append(1)
        result = reference(x, weight, eps)
        return result if x.shape[0] < 1000 else result * 1.001

    op = operation(kernel)
    given = inputs(100, 4, eps=1e-3)
    assert op.domain.why_not(given) is not None
    found = op.extend(*given)
    assert calls == [1] and found["error"] <= found["allowed"] < 1e-3
    assert op.domain.why_not(given) is None and op.domain.why_not(inputs(65, 4)) is None
    assert op.domain.why_not(inputs(101, 4)) is not None
    with pytest.raises(NotEqualError, match=r"is off by 0\.001"):
        op.extend(*inputs(1000, 4))
    assert op.domain.why_not(inputs(1000, 4)) is not None
    with pytest.raises(ValueError, match="takes no such arguments"):
        op.extend(*inputs(dtype=torch.float64))


def test_errors_are_relative_to_the_largest_value_and_what_is_not_finite_must_agree() -> None:
    oracle = torch.tensor([1.0, -4.0], dtype=torch.float64)
    assert relative_error(torch.tensor([1.0, -3.0]), oracle) == 0.25
    assert relative_error(torch.tensor([math.nan, -4.0]), oracle) == math.inf
    endless = torch.tensor([math.inf, 2.0, math.nan], dtype=torch.float64)
    assert relative_error(torch.tensor([math.inf, 2.0, math.nan]), endless) == 0.0
    assert relative_error(torch.tensor([-math.inf, 2.0, math.nan]), endless) == math.inf
    assert relative_error(torch.tensor([math.inf, 2.0, 3.0]), endless) == math.inf
    assert relative_error(torch.tensor([1, 2]), torch.tensor([1, 2])) == 0.0
    assert relative_error(torch.tensor([1, 3]), torch.tensor([1, 2])) == math.inf
    assert relative_error(torch.empty(0), torch.empty(0, dtype=torch.float64)) == 0.0


def test_gradients_by_pytorch_are_those_of_autograd() -> None:
    x, weight = (torch.rand(3, 4, dtype=torch.float64, requires_grad=True) for _ in range(2))
    grad = torch.rand(3, 4, dtype=torch.float64)
    output = (x * weight).sin()
    expected = torch.autograd.grad(output, [x, weight], grad)
    found = gradients(lambda a, b, _: (a * b).sin(), (x, weight, 2.0), (grad,), (True, True, False))
    assert found[2] is None
    for one, two in zip(found[:2], expected, strict=True):
        assert one is not None
        torch.testing.assert_close(one, two)
    only = gradients(lambda a, b, _: (a * b).sin(), (x, weight, 2.0), (grad,), (False, True, False))
    assert only[0] is None and only[1] is not None


def test_what_shows_nothing_extends_nothing(anywhere: None) -> None:
    op = operation(reference)
    nothing = [torch.zeros(100, 4), torch.full((100, 4), math.nan), torch.rand(0, 4)]
    for x in nothing:
        with pytest.raises(ValueError, match="nothing"):
            op.extend(x, torch.rand(4, 1), 7.0)
    assert op.domain == DOMAIN


def test_gradients_where_an_output_needs_none() -> None:
    x, w = torch.rand(3), torch.rand(3)
    grads = (torch.ones(3), torch.ones(3), None)
    found = gradients(lambda x, w: (x * 2, w * 2, x.argsort()), (x, w), grads, (True, False))
    assert found[0] is not None and found[1] is None
    torch.testing.assert_close(found[0], torch.full((3,), 2.0))


def test_autocast_does_not_choose_other_dtypes_than_the_kernel() -> None:
    linear = Operation(
        name="op", domain=DOMAIN, kernel=lambda: None, reference=lambda x, w, eps: torch.nn.functional.linear(x, w.T)
    )
    with torch.autocast("cpu", torch.bfloat16):
        assert linear(*inputs(4, 4)).dtype is torch.float32
