"""A torch extension as kernelevo builds it, on the emulated device: c10::cuda, at::cuda and torch's autograd."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import pytest
import torch

from kernelevo.build import build
from kernelevo.emulator import runtime
from kernelevo.records import BuildMethod, Candidate
from kernelevo.toolchain import find_toolchain

from .forked import emulated

pytestmark = pytest.mark.nvcc


class Loader(NamedTuple):
    """Loads the extension; for a process of its own to call."""

    artifact: Path
    ptx: str
    registers: dict[str, int]
    objects: Path

    def __call__(self) -> ModuleType:
        return runtime.load(
            self.artifact, self.ptx, "candidate.ptx", registers=self.registers, object_cache=self.objects
        )


@pytest.fixture(scope="module")
def candidate(tmp_path_factory: pytest.TempPathFactory, cache_folder: Path) -> Loader:
    source = (Path(__file__).parent / "runtime_candidate.cu").read_text()
    chosen = Candidate(source=source, entry="forward")
    built = build(chosen, target="sm_90", toolchain=find_toolchain(), cache=cache_folder)
    assert built.artifact is not None and built.method is BuildMethod.SPLIT, built.diagnostics
    registers = {kernel.kernel: kernel.registers for kernel in built.resources}
    return Loader(built.artifact, built.ptx, registers, tmp_path_factory.mktemp("objects"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@emulated
def test_a_candidate_runs_with_constants_templates_and_guards(candidate: Loader, dtype: torch.dtype) -> None:
    x = torch.randn(1000, dtype=dtype)
    y = candidate().forward(x.cuda())
    assert y.is_cuda
    assert torch.equal(y.cpu(), x * torch.tensor([1, 10, 100], dtype=dtype).repeat(334)[:1000])
    (launch,) = runtime.launches()
    assert launch.finished
    assert launch.registers > 0
    assert runtime.faults() == runtime.redzone_findings() == runtime.unchecked_errors() == ()


@emulated
def test_a_launch_check_raises_and_the_device_goes_on(candidate: Loader) -> None:
    module = candidate()
    x = torch.zeros(64, device="cuda")
    with pytest.raises(torch.AcceleratorError, match="invalid configuration argument"):
        module.too_many_threads(x)
    assert runtime.unchecked_errors() == ()
    assert module.on_side_stream(x, True).sum().item() == 64


@emulated
def test_a_pool_stream_is_seen_only_when_it_is_joined(candidate: Loader) -> None:
    module = candidate()
    x = torch.zeros(64, device="cuda")
    assert module.on_side_stream(x, False).sum().item() == 0
    (pending,) = runtime.pending_work()
    assert not pending.blocking
    assert "add_one" in pending.what
    torch.cuda.synchronize()
    assert runtime.pending_work() == ()
    assert x.sum().item() == 64


@emulated
def test_torch_streams_carry_a_candidates_launches(candidate: Loader) -> None:
    module = candidate()
    side = torch.cuda.Stream()
    x = torch.ones(8, device="cuda")
    with torch.cuda.stream(side):
        y = module.forward(x)
        assert len(runtime.pending_work()) == 1
    torch.cuda.current_stream().wait_stream(side)
    assert y.sum().item() == 1 + 10 + 100 + 1 + 10 + 100 + 1 + 10


@emulated
def test_facts_of_device_kernels_and_allocator_reach_c10(candidate: Loader) -> None:
    assert candidate().facts() == [132, 32, 1, 0, 1024, 32, 1000]


def test_a_candidate_works_inside_autograd(candidate: Loader) -> None:
    """In a new process: autograd counts the devices once, which in this one may have happened."""
    process = multiprocessing.get_context("spawn").Process(target=differentiate, args=[candidate])
    process.start()
    process.join(120)
    assert process.exitcode == 0


def differentiate(candidate: Loader) -> None:
    runtime.start()
    module = candidate()

    class Weighted(torch.autograd.Function):
        @staticmethod
        def forward(context: object, x: torch.Tensor) -> torch.Tensor:
            return module.forward(x)

        @staticmethod
        def backward(context: object, gradient: torch.Tensor) -> torch.Tensor:
            return module.forward(gradient.contiguous())  # on autograd's own thread

    x = torch.ones(6, device="cuda", requires_grad=True)
    (Weighted.apply(x) * 2).sum().backward()
    assert x.grad is not None
    right = x.grad.tolist() == [2, 20, 200, 2, 20, 200]
    os._exit(not right)  # autograd's thread may still want Python's lock, which ends badly while the interpreter closes
