"""device="cuda" tensors on a torch without CUDA: what a candidate, or a PyTorch module, does with them."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from kernelevo.emulator import runtime

from .forked import emulated


def same(result: torch.Tensor, expected: torch.Tensor) -> None:
    assert result.device.type == "cuda"
    torch.testing.assert_close(result.cpu(), expected)


@emulated
def test_a_tensor_is_created_where_it_is_asked_for() -> None:
    x = torch.zeros(3, device="cuda")
    assert x.is_cuda
    assert x.device == torch.device("cuda", 0)
    assert repr(x) == "tensor([0., 0., 0.], device='cuda:0')"
    assert torch.tensor([1, 2], device="cuda").sum().item() == 3
    assert torch.arange(4, device="cuda:0").tolist() == [0, 1, 2, 3]


@emulated
def test_values_survive_the_way_to_the_device_and_back() -> None:
    for dtype in (torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.uint8, torch.bool):
        x = torch.randint(0, 2, (5, 7)).to(dtype)
        assert torch.equal(x.cuda().cpu(), x)
        assert torch.equal(x.t().to("cuda").to("cpu"), x.t())
    assert torch.ones(2).cuda().half().dtype is torch.float16


@emulated
def test_views_share_memory_and_copies_do_not() -> None:
    x = torch.arange(24.0, device="cuda").view(4, 6)
    x[1:, ::2].zero_()
    expected = torch.arange(24.0).view(4, 6)
    expected[1:, ::2] = 0
    same(x, expected)
    assert x.t().data_ptr() == x.data_ptr()
    assert x.t().contiguous().data_ptr() != x.data_ptr()
    same(x.unfold(1, 2, 2), expected.unfold(1, 2, 2))
    assert x.unfold(1, 2, 2).data_ptr() == x.data_ptr()
    same(x.permute(1, 0).reshape(3, 8), expected.permute(1, 0).reshape(3, 8))


OPERATORS = {
    "add": lambda x, w: x + 2 * x,
    "matmul": lambda x, w: x @ w,
    "softmax": lambda x, w: torch.softmax(x, -1),
    "layer_norm": lambda x, w: F.layer_norm(x, (16,)),
    "group_norm": lambda x, w: F.group_norm(x[None], 4),
    "gelu": lambda x, w: F.gelu(x, approximate="tanh"),
    "conv2d": lambda x, w: F.conv2d(x.view(1, 2, 4, 16), w[:, :8].reshape(4, 2, 4, 4)),
    "conv_transpose2d": lambda x, w: F.conv_transpose2d(x.view(1, 2, 4, 16), w[:, :8].reshape(2, 4, 4, 4)),
    "max_pool2d": lambda x, w: F.max_pool2d(x.view(1, 2, 4, 16), 2),
    "cross_entropy": lambda x, w: F.cross_entropy(x, x.argmax(-1)),
    "sort": lambda x, w: x.sort(descending=True)[0],
    "topk": lambda x, w: x.topk(3)[0],
    "cumsum": lambda x, w: x.cumsum(1),
    "where": lambda x, w: torch.where(x > 0, x, torch.zeros((), device=x.device)),
    "index": lambda x, w: x[x > 0],
    "gather": lambda x, w: x.gather(1, x.argsort(1)),
    "einsum": lambda x, w: torch.einsum("ij,jk->ki", x, w),
    "norm": lambda x, w: x.norm(dim=1),
    "cat": lambda x, w: torch.cat([x, x * 2], 1),
    "stack": lambda x, w: torch.stack([x, x]).sum(0),
    "attention": lambda x, w: F.scaled_dot_product_attention(x[None, None], x[None, None], x[None, None]),
    "embedding": lambda x, w: F.embedding(torch.tensor([1, 0], device=x.device), w),
    "interpolate": lambda x, w: F.interpolate(x[None, None], scale_factor=2, mode="bilinear"),
    "svd values": lambda x, w: torch.linalg.svdvals(x),
    "addmm": lambda x, w: torch.addmm(torch.ones(16, device=x.device), x, w),
    "bmm": lambda x, w: torch.bmm(x[None], w[None]),
    "std": lambda x, w: x.std(1),
    "scatter_add": lambda x, w: torch.zeros_like(x).scatter_add_(1, x.argsort(1), x),
    "complex": lambda x, w: torch.fft.rfft(x).abs(),
    "allclose": lambda x, w: torch.tensor(torch.allclose(x, x), device=x.device),
    "foreach": lambda x, w: torch._foreach_add([x, x], 1.0)[1],
    "pad": lambda x, w: F.pad(x, (1, 2)),
    "batch_norm": lambda x, w: F.batch_norm(x, None, None, training=True),
    "clamp": lambda x, w: x.clamp(-0.5, 0.5),
    "tril": lambda x, w: x.tril(),
    "repeat": lambda x, w: x.repeat(2, 2).flip(0),
}


@pytest.mark.parametrize("name", OPERATORS)
@emulated
def test_operators_compute_what_they_compute_on_the_cpu(name: str) -> None:
    torch.manual_seed(0)
    x, w = torch.randn(8, 16), torch.randn(16, 16)
    same(OPERATORS[name](x.cuda(), w.cuda()), OPERATORS[name](x, w))


@emulated
def test_in_place_and_out_variants_return_and_resize_their_argument() -> None:
    x = torch.ones(3, device="cuda")
    assert x.add_(1) is x
    out = torch.empty(0, device="cuda")
    assert torch.add(x, 1, out=out) is out
    same(out, torch.full((3,), 3.0))
    same(x.resize_(5)[:3], torch.full((3,), 2.0))


@emulated
def test_a_cpu_tensor_among_device_tensors_is_refused_as_on_a_gpu() -> None:
    x = torch.ones(3, device="cuda")
    with pytest.raises(RuntimeError, match="Expected all tensors to be on the same device"):
        x + torch.ones(3)
    same(x + torch.tensor(2.0), torch.full((3,), 3.0))
    same(x[torch.tensor([0, 2])], torch.ones(2))


@emulated
def test_gradients_flow_through_modules_and_optimisers() -> None:
    def trained(device: str) -> torch.Tensor:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.GELU(), nn.Linear(8, 2)).to(device)
        optimiser = torch.optim.Adam(model.parameters(), lr=0.1)
        x = torch.linspace(-1, 1, 24).view(4, 6).to(device)
        for _ in range(3):
            optimiser.zero_grad()
            model(x).pow(2).mean().backward()
            optimiser.step()
        return model(x).detach()

    same(trained("cuda"), trained("cpu"))


@emulated
def test_random_numbers_follow_their_seed_and_generator() -> None:
    torch.manual_seed(3)
    first = torch.randn(4, device="cuda")
    torch.manual_seed(3)
    assert torch.equal(torch.randn(4, device="cuda"), first)
    torch.cuda.manual_seed_all(3)
    assert torch.equal(torch.randn(4, device="cuda"), first)
    generator = torch.Generator("cuda").manual_seed(5)
    again = torch.Generator("cuda").manual_seed(5)
    drawn = torch.rand(4, device="cuda", generator=generator)
    assert torch.equal(torch.rand(4, device="cuda", generator=again), drawn)
    assert not torch.equal(torch.rand(4, device="cuda", generator=generator), drawn)


@emulated
def test_torch_cuda_answers() -> None:
    assert torch.cuda.is_available()
    assert torch.cuda.device_count() == 1
    assert torch.cuda.get_device_capability() == (9, 0)
    assert "emulated" in torch.cuda.get_device_name()
    assert torch.cuda.get_device_properties(0).multi_processor_count == 132
    with torch.cuda.device(0):
        torch.cuda.synchronize()
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated()
    x = torch.empty(1000, device="cuda")
    assert torch.cuda.memory_allocated() - before == 4000
    assert torch.ones(2).pin_memory().is_pinned()
    assert not x.cpu().is_pinned()
    with pytest.raises(torch.AcceleratorError, match="one device"):
        torch.cuda.set_device(1)


@emulated
def test_streams_and_events_of_torch_cuda() -> None:
    side = torch.cuda.Stream()
    assert torch.cuda.current_stream() == torch.cuda.default_stream() != side
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    with torch.cuda.stream(side):
        assert torch.cuda.current_stream() == side
        start.record()
        torch.ones(8, device="cuda").mul_(2)
        end.record()
    assert torch.cuda.current_stream() != side
    assert not end.query() or end.query()  # each question lets one piece of work finish
    side.synchronize()
    assert end.query()
    assert start.elapsed_time(end) >= 0
    torch.cuda.current_stream().wait_stream(side)


@emulated
def test_fresh_memory_holds_the_poison() -> None:
    runtime.poison(0x5A)
    assert torch.empty(64, dtype=torch.uint8, device="cuda").eq(0x5A).all()
    assert torch.empty_strided((3, 4), (1, 3), dtype=torch.uint8, device="cuda").eq(0x5A).all()


@emulated
def test_a_write_next_to_a_tensor_is_found_and_described() -> None:
    import ctypes

    x = torch.zeros(10, device="cuda")
    ctypes.c_float.from_address(x.data_ptr() + 4 * 10).value = 1.0
    ctypes.c_float.from_address(x.data_ptr() - 4).value = 1.0
    after, before = sorted(runtime.redzone_findings(), key=lambda found: -found.offset)
    assert str(after) == "wrote 4 bytes past the end of a tensor of 40 bytes, 0 bytes behind it"
    assert (before.offset, before.bytes) == (-4, 4)
    assert runtime.redzone_findings() == ()
    address = x.data_ptr()
    del x
    ctypes.c_float.from_address(address).value = 1.0
    (late,) = runtime.redzone_findings()
    assert late.after_release


@emulated
def test_memory_is_bounded_and_running_out_of_it_is_torchs_own_error() -> None:
    runtime.memory_limit(1 << 20)
    kept = torch.empty(900_000, dtype=torch.uint8, device="cuda")
    with pytest.raises(torch.OutOfMemoryError, match="Tried to allocate"):
        torch.empty(900_000, dtype=torch.uint8, device="cuda")
    del kept
    torch.empty(900_000, dtype=torch.uint8, device="cuda")


def test_it_may_start_before_and_after_torch_is_used() -> None:
    code = """
import os, sys
if sys.argv[1] == "before":
    import torch
    torch.nn.Linear(3, 3)(torch.ones(3)).sum().item()
from kernelevo.emulator import runtime
runtime.start()
runtime.start(threads=1)
import torch
x = torch.ones(3, device="cuda", requires_grad=True)
(x * 2).sum().backward()
assert x.grad.tolist() == [2, 2, 2]
os._exit(0)  # torch's autograd thread may still want Python's lock, which ends badly while the interpreter closes
"""
    for when in ("before", "after"):
        subprocess.run([sys.executable, "-c", code, when], check=True, timeout=120)


def test_starting_creates_no_thread() -> None:
    code = """
import os, torch
before = len(os.listdir("/proc/self/task"))
from kernelevo.emulator import runtime
runtime.start()
assert len(os.listdir("/proc/self/task")) == before
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
