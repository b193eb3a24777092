"""kernelevo.load and kernelevo.patch: on CPU tensors, where PyTorch answers, and on the emulated GPU."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.nn import functional

import kernelevo
from kernelevo.errors import UsageError

GALLERY = Path(__file__).resolve().parents[2] / "db" / "gallery.sqlite"
PROGRAMS = Path(__file__).with_name("emulated_programs.py")


@pytest.mark.slow
@pytest.mark.nvcc
@pytest.mark.parametrize("program", ["load", "patch", "refuse"])
def test_on_the_emulated_gpu(program: str, run_in_process: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    done = run_in_process(str(PROGRAMS), program, str(GALLERY))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def rmsnorm() -> kernelevo.export.load.Kernel:
    return kernelevo.load("rmsnorm", archive=GALLERY)


def test_a_kernel_is_exported_once_and_answers_on_the_cpu_through_pytorch(rmsnorm: Callable[..., torch.Tensor]) -> None:
    x, weight = torch.randn(3, 8, requires_grad=True), torch.rand(8)
    y = rmsnorm(x, weight, 1e-5)
    torch.testing.assert_close(y, functional.rms_norm(x, (8,), weight, 1e-5))
    y.sum().backward()
    assert x.grad is not None
    again = kernelevo.load("rmsnorm", archive=GALLERY)
    assert again == rmsnorm
    assert (again.folder / "VERIFICATION.md").exists() and "cpu" in str(again.why_not(x, weight, 1e-5))


def test_what_cannot_be_loaded_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown device 'gpu'"):
        kernelevo.load("rmsnorm", archive=GALLERY, device="gpu")
    with pytest.raises(UsageError, match="no_such_task"):
        kernelevo.load("no_such_task", archive=GALLERY)
    kernelevo.open_archive(tmp_path / "empty.sqlite").close()
    with pytest.raises(UsageError, match="no correct candidate of rmsnorm"):
        kernelevo.load("rmsnorm", archive=tmp_path / "empty.sqlite")


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = torch.nn.SiLU(), torch.nn.Sequential(torch.nn.SiLU(), torch.nn.Tanh())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.relu(self.second(self.first(x)))


@pytest.mark.parametrize(
    ("key", "function", "count"),
    [
        (torch.nn.SiLU, functional.silu, 2),
        ("first", functional.silu, 1),
        ("second.0", functional.silu, 1),
        ("*.1", torch.tanh, 1),
        (functional.relu, torch.relu, 1),
    ],
)
def test_modules_by_class_name_and_pattern_and_functions(
    key: object, function: Callable[..., torch.Tensor], count: int
) -> None:
    net, x, calls = Net(), torch.randn(4, 4), []
    expected = net(x)

    def counted(given: torch.Tensor, **_: object) -> torch.Tensor:
        calls.append(1)
        return function(given)

    with kernelevo.patch(net, {key: counted}) as patched:
        torch.testing.assert_close(net(x), expected)
        net(x)
    assert len(patched.places) == count and len(calls) == 2 * count
    net(x)
    assert len(calls) == 2 * count  # restored


@pytest.mark.parametrize(
    ("replacements", "says"),
    [
        ({"frist": torch.relu}, "no module of the model is 'frist'"),
        ({torch.nn.LSTM: torch.relu}, "LSTM"),
        ({3: torch.relu}, "3 names nothing"),
        ({torch.nn.SiLU: "no_such_task"}, "no_such_task"),
    ],
)
def test_what_cannot_be_patched_is_said_and_nothing_changes(replacements: dict[object, object], says: str) -> None:
    net = Net()
    with pytest.raises(UsageError, match=says):
        kernelevo.patch(net, {"first": functional.silu, **replacements}, archive=GALLERY)
    assert type(net.first) is torch.nn.SiLU


def test_a_module_without_the_kernels_arguments_is_refused(rmsnorm: Callable[..., torch.Tensor]) -> None:
    net = torch.nn.Sequential(torch.nn.RMSNorm(8, eps=None))
    with pytest.raises(UsageError, match=r"0 \(RMSNorm\) has no eps, which rmsnorm takes"):
        kernelevo.patch(net, {torch.nn.RMSNorm: rmsnorm})


def test_an_own_function_that_is_wrong_is_refused() -> None:
    net = Net()
    with kernelevo.patch(net, {"first": torch.tanh}), pytest.raises(UsageError, match="first: tanh does not compute"):
        net(torch.randn(3, 3))
    with (
        kernelevo.patch(net, {"first": lambda x: x.double()}),
        pytest.raises(UsageError, match=r"\[3, 3\] float64, not"),
    ):
        net(torch.randn(3, 3))


def test_patches_are_undone_in_the_reverse_of_their_order() -> None:
    net = Net()
    first = kernelevo.patch(net, {"first": functional.silu})
    second = kernelevo.patch(net, {torch.nn.SiLU: functional.silu, "first": functional.silu})
    with pytest.raises(UsageError, match="SiLU was patched again since"):
        first.restore()
    second.restore()
    first.restore()
    first.restore()
    assert type(net.first) is torch.nn.SiLU and type(net.second[0]) is torch.nn.SiLU


def test_another_mode_is_compared_again() -> None:
    """Dropout that evaluates gives its input; one that trains does not."""
    net, x = torch.nn.Sequential(torch.nn.Dropout(0.5)), torch.rand(64, 64)
    with kernelevo.patch(net, {torch.nn.Dropout: torch.clone}):
        assert torch.equal(net.eval()(x), x)
        with pytest.raises(UsageError, match="does not compute the same"):
            net.train()(x)


def test_a_patched_model_is_not_pickled_by_mistake(tmp_path: Path) -> None:
    net = Net()
    with kernelevo.patch(net, {"first": functional.silu}), pytest.raises(Exception, match="not the same object"):
        torch.save(net, tmp_path / "net.pt")
