"""kernelevo.load and kernelevo.patch: on CPU tensors, where PyTorch answers, and on the emulated GPU."""

from __future__ import annotations

import copy
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

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


@pytest.mark.parametrize("order", [(0, 1), (1, 0), (0, 0, 1, 1)])
def test_patches_are_undone_in_any_order_and_in_copies(order: tuple[int, ...]) -> None:
    net, x, calls = Net(), torch.randn(4, 4), []
    expected = net(x)

    def counted(given: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        return functional.silu(given)

    patches = [kernelevo.patch(net, {"first": counted}), kernelevo.patch(net, {torch.nn.SiLU: counted})]
    torch.testing.assert_close(net(x), expected)
    twin = copy.deepcopy(net)
    assert calls
    for one in order:
        patches[one].restore()
    calls.clear()
    for model in (net, twin):
        torch.testing.assert_close(model(x), expected)
    assert not calls and type(net.second[0]) is torch.nn.SiLU


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


# --- what an adversarial reading found ------------------------------------------------------------------------------


def differs(net: torch.nn.Module, replacements: dict[Any, Any], *calls: tuple[Any, ...], says: str) -> None:
    """All calls but the last are right; the last one raises."""
    with kernelevo.patch(net, replacements, archive=GALLERY):
        for one in calls[:-1]:
            net(*one)
        with pytest.raises(UsageError, match=says):
            net(*calls[-1])


def same(net: torch.nn.Module, replacements: dict[Any, Any], *calls: tuple[tuple[Any, ...], dict[str, Any]]) -> None:
    """All calls give what they give without the patch."""
    expected = [net(*args, **named) for args, named in calls]
    with kernelevo.patch(net, replacements, archive=GALLERY):
        for (args, named), result in zip(calls, expected, strict=True):
            torch.testing.assert_close(net(*args, **named), result)


class Calls(torch.nn.Module):
    """A model of one module, or function."""

    def __init__(self, inner: Callable[..., Any]) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.inner(*args, **kwargs)


class Gate(torch.nn.Module):
    def forward(self, gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
        return functional.silu(gate) * up


def test_gradients_of_gradients_count_each_way_once() -> None:
    silu_mul = kernelevo.load("silu_mul", archive=GALLERY)
    x = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    found = torch.autograd.grad(silu_mul(x, x).sum(), x, create_graph=True)[0]
    expected = torch.autograd.grad((functional.silu(x) * x).sum(), x, create_graph=True)[0]
    torch.testing.assert_close(found, expected)
    second = [torch.autograd.grad(one.square().sum(), x)[0] for one in (found, expected)]
    torch.testing.assert_close(*second)


def test_forward_mode_has_the_references_derivative() -> None:
    silu_mul, x = kernelevo.load("silu_mul", archive=GALLERY), torch.randn(3, 4)
    found = torch.func.jvp(lambda a: silu_mul(a, a), (x,), (torch.ones_like(x),))
    expected = torch.func.jvp(lambda a: functional.silu(a) * a, (x,), (torch.ones_like(x),))
    torch.testing.assert_close(found, expected)


def test_an_index_beyond_its_dimension_is_outside_of_the_domain() -> None:
    domain = kernelevo.load("cross_entropy", archive=GALLERY).operation.domain
    assert [argument.bounds for argument in domain.arguments] == [None, (0, "classes")]
    sizes = {"rows": 2, "classes": 5}
    logits = torch.rand(2, 5)
    assert domain._other_values((logits, torch.tensor([0, 4])), sizes) is None
    for wrong in (-100, 5):
        said = domain._other_values((logits, torch.tensor([0, wrong])), sizes)
        assert said == "target holds values outside of 0 to 4"


def test_arguments_by_name_are_not_mistaken_for_each_other() -> None:
    gate, up = torch.randn(4, 4), torch.randn(4, 4)
    model = Calls(Gate())
    same(model, {"inner": "silu_mul"}, ((gate, up), {}), ((), {"up": up, "gate": gate}), ((gate,), {"up": up}))


def test_another_operation_is_found_out_in_half_precision_too() -> None:
    x = torch.randn(512, 512, dtype=torch.bfloat16) * 2
    outlier = torch.randn(64, 64)
    outlier[0, 0] = 60
    for module in (torch.nn.ReLU(), torch.nn.GELU("tanh")):
        for given in (x, outlier):
            differs(
                torch.nn.Sequential(module), {type(module): "gelu"}, (given,), says="gelu does not compute the same"
            )


def test_a_module_with_a_parameter_that_the_kernel_does_not_take_is_refused() -> None:
    with pytest.raises(UsageError, match="has bias, which rmsnorm does not take"):
        kernelevo.patch(torch.nn.Sequential(torch.nn.LayerNorm(8)), {torch.nn.LayerNorm: "rmsnorm"}, archive=GALLERY)


@pytest.mark.parametrize("nothing", [torch.full((4, 4), float("nan")), torch.zeros(4, 4), torch.zeros(0, 4)])
def test_a_call_that_shows_nothing_is_no_evidence(nothing: torch.Tensor) -> None:
    net = torch.nn.Sequential(torch.nn.ReLU())
    differs(net, {torch.nn.ReLU: "gelu"}, (nothing,), (torch.randn(4, 4),), says="gelu does not compute the same")


def test_two_outputs_must_both_show_something() -> None:
    class Two(torch.nn.Module):
        def forward(self, x: torch.Tensor, z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return x.tanh(), z.relu()

    x = torch.randn(4, 4)
    wrong = {"inner": lambda x, z: (x.tanh(), z * 2)}
    differs(Calls(Two()), wrong, (x, torch.zeros(4, 4)), (x, torch.randn(4, 4)), says="output 1 is off")


def test_lists_and_objects_among_the_arguments_are_left_to_the_original() -> None:
    class Masked(torch.nn.Module):
        def forward(self, x: torch.Tensor, masks: list[torch.Tensor]) -> torch.Tensor:
            return torch.softmax(x, -1) * masks[0]

    x, half = torch.randn(4, 6), torch.ones(4, 6)
    half[2] = 0
    same(Calls(Masked()), {"inner": "softmax"}, ((x, [torch.ones(4, 6)]), {}), ((x, [half]), {}))


def test_what_writes_in_place_gives_tuples_or_has_no_gradients_is_refused() -> None:
    x = torch.randn(4, 4)
    differs(Calls(torch.nn.ReLU(inplace=True)), {torch.nn.ReLU: torch.relu}, (x.clone(),), says="writes in place")

    class Tuple(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor]:
            return (x.tanh(),)

    differs(Calls(Tuple()), {"inner": torch.tanh}, (x,), says="another number of outputs")
    with_gradients = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.SiLU())
    detached = {torch.nn.SiLU: lambda x: functional.silu(x.detach())}
    differs(with_gradients, detached, (x,), says="gives no gradients")


def test_settings_of_a_module_that_change_are_compared_again() -> None:
    net, x = torch.nn.Sequential(torch.nn.GELU()), torch.randn(16, 16)
    with kernelevo.patch(net, {torch.nn.GELU: "gelu"}, archive=GALLERY):
        net(x)
        net[0].approximate = "tanh"
        with pytest.raises(UsageError, match="gelu does not compute the same"):
            net(x)


def test_a_module_with_a_forward_of_its_own_is_refused_and_one_with_two_names_is_found() -> None:
    net = torch.nn.Sequential(torch.nn.SiLU())
    net[0].forward = functional.silu
    with pytest.raises(UsageError, match="has a forward of its own"):
        kernelevo.patch(net, {torch.nn.SiLU: functional.silu})
    net = torch.nn.Sequential()
    net.a = net.b = torch.nn.SiLU()
    with kernelevo.patch(net, {"b": functional.silu}) as patched:
        assert [place.name for place in patched.places] == ["b"]
    with kernelevo.patch(net, {torch.nn.SiLU: functional.silu}) as patched:
        assert [place.name for place in patched.places] == ["a"]
