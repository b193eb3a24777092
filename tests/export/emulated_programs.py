"""What users do with kernels, on the emulated GPU: each function is run in a process of its own.

python emulated_programs.py FUNCTION GALLERY
"""

from __future__ import annotations

import copy
import sys
import warnings

import torch
from torch.nn import functional

import kernelevo
from kernelevo.errors import UsageError


class Block(torch.nn.Module):
    """Modules with parameters, without, and functions: a Python one and a built-in one."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = torch.nn.RMSNorm(64, eps=1e-6)
        self.linear = torch.nn.Linear(64, 64)
        self.act = torch.nn.GELU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.gelu(self.act(self.linear(self.norm(x)))) + functional.softmax(x, dim=-1)


def load(gallery: str) -> None:
    rmsnorm = kernelevo.load("rmsnorm", archive=gallery, device="emulator")
    x, weight = torch.randn(8, 64, device="cuda", requires_grad=True), torch.ones(64, device="cuda", requires_grad=True)
    exact = rmsnorm.operation.reference(x.detach().double(), weight.detach().double(), 1e-5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # PyTorch answers nothing here
        y = rmsnorm(x, weight, 1e-5)
        y.sum().backward()
    assert (y.double() - exact).abs().max() < 1e-5
    assert x.grad is not None and weight.grad is not None

    other = 3e-6
    assert "eps = 3e-06" in str(rmsnorm.why_not(x, weight, other))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        rmsnorm(x, weight, other)
        rmsnorm(x, weight, other)
    assert ["PyTorch answers" in str(w.message) for w in said] == [True]
    assert rmsnorm.extend(x, weight, other)["error"] < 1e-5
    assert rmsnorm.why_not(x, weight, other) is None

    compiled = torch.compile(lambda a, b: rmsnorm(a * 2, b, 1e-5).relu(), fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(x, weight), rmsnorm(x * 2, weight, 1e-5).relu())
    again = kernelevo.load("rmsnorm", archive=gallery, device="emulator")
    assert again.function is rmsnorm.function

    # Two kernels in one process: the emulator must not take one's module for the other's.
    softmax = kernelevo.load("softmax", archive=gallery, device="emulator")
    assert torch.allclose(softmax(x), torch.softmax(x, dim=-1), atol=1e-6)


def patch(gallery: str) -> None:
    rmsnorm = kernelevo.load("rmsnorm", archive=gallery, device="emulator")
    model = torch.nn.Sequential(Block(), Block()).cuda()
    x = torch.randn(2, 3, 64, device="cuda")
    expected = model(x)
    expected.sum().backward()
    grads = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    names = list(model.state_dict())
    replacements = {
        torch.nn.RMSNorm: rmsnorm,
        "*.act": "gelu",
        functional.softmax: "softmax",
        functional.gelu: "gelu",
    }
    with kernelevo.patch(model, replacements, archive=gallery, device="emulator") as patched:
        assert [place.name for place in patched.places] == ["0.norm", "1.norm", "0.act", "1.act", "softmax", "gelu"]
        for _ in range(2):  # the first call compares, the next ones do not
            assert (model(x) - expected).abs().max() < 1e-5
        assert all(place.checked for place in patched.places)
        assert rmsnorm.why_not(x[0], model[0].norm.weight, 1e-6) is None  # what the first call showed to be right
        model.zero_grad()
        model(x).sum().backward()
        for one, two in zip([p.grad for p in model.parameters()], grads, strict=True):
            assert one is not None and (one - two).abs().max() < 1e-3
        compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
        assert (compiled(x) - expected).abs().max() < 1e-5
        twin = copy.deepcopy(model)
        with torch.no_grad():
            twin[0].norm.weight.zero_()
        assert (twin(x) - expected).abs().max() > 1e-3 and (model(x) - expected).abs().max() < 1e-5
        assert list(model.state_dict()) == names
        assert isinstance(model[0].norm, torch.nn.RMSNorm) and type(model[0].norm) is not torch.nn.RMSNorm
    assert type(model[0].norm) is torch.nn.RMSNorm and type(model) is torch.nn.Sequential
    assert torch.equal(model(x), expected)


def refuse(gallery: str) -> None:
    """A kernel that computes something else is found out by the first call, whatever was checked before."""
    softmax = kernelevo.load("softmax", archive=gallery, device="emulator")
    x = torch.randn(4, 5, 6, device="cuda")
    gelus = torch.nn.Sequential(torch.nn.GELU()).cuda()
    with kernelevo.patch(gelus, {torch.nn.GELU: softmax}) as patched:
        try:
            gelus(x)
        except UsageError as error:
            assert "0: softmax does not compute the same: output 0 is off by" in str(error)
        else:
            raise AssertionError("a wrong kernel was taken")
        assert not patched.places[0].checked

    relus = torch.nn.Sequential(torch.nn.ReLU()).cuda()
    with kernelevo.patch(relus, {torch.nn.ReLU: "gelu"}, archive=gallery, device="emulator") as patched:
        zeros = torch.zeros(4, 6, device="cuda")
        assert torch.equal(relus(zeros), zeros) and not patched.places[0].checked  # zeros show nothing
        try:
            relus(x)
        except UsageError as error:
            assert "gelu does not compute the same" in str(error)
        else:
            raise AssertionError("a wrong kernel was taken")

    class Over(torch.nn.Module):
        def forward(self, x: torch.Tensor, dim: int) -> torch.Tensor:
            return functional.softmax(x, dim=dim)

    model = Over()
    with kernelevo.patch(model, {functional.softmax: softmax}):
        assert torch.allclose(model(x, -1), torch.softmax(x, -1), atol=1e-6)
        assert torch.allclose(model(x[0], 1), torch.softmax(x[0], 1), atol=1e-6)
        for given in ((x, 1), (x, 0)):  # dim=1 was right of a matrix, and is not of this
            try:
                model(*given)
            except UsageError as error:
                assert "softmax does not compute the same" in str(error)
            else:
                raise AssertionError("a wrong kernel was taken")


if __name__ == "__main__":
    {"load": load, "patch": patch, "refuse": refuse}[sys.argv[1]](sys.argv[2])
