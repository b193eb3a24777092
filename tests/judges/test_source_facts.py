"""Static facts of a source: counted where they are, not where they are talked about."""

from __future__ import annotations

import math

import pytest

from kernelevo.judges.facts import COUNTED, source_facts
from kernelevo.tasks import load_task

EXAMPLES = {
    "lines": "a\n\n b\n  \n",
    "kernels": "__global__ void a() {} template <int N> __global__ void b() {}",
    "launches": "a<<<1, 2>>>(x); cudaLaunchKernelExC(&c, k, 0);",
    "shared arrays": "__shared__ float a[2]; extern __shared__ char b[];",
    "barriers": '__syncthreads(); asm("bar.sync 0;");',
    "shuffles": "__shfl_xor_sync(m, x, 1); __reduce_add_sync(m, x);",
    "atomics": 'atomicAdd(&x, 1); asm("red.global.add.f32 [%0], %1;");',
    "vector accesses": "reinterpret_cast<const float4*>(x)[i]; reinterpret_cast<half2*>(y)[i];",
    "tensor cores": 'wmma::fragment<a> f; asm("mma.sync.aligned.m16n8k8");',
    "asynchronous copies": 'asm("cp.async.cg.shared.global"); cuda::memcpy_async(a);',
    "assembly": 'asm volatile("a"); asm("b");',
    "fast intrinsics": "__expf(x) + __frcp_rn(y)",
    "narrow types": "half a; __nv_bfloat162 b;",
    "templates": "template <int N> struct A; template<class T> struct B;",
}


@pytest.mark.parametrize("name", COUNTED)
def test_each_fact_is_counted_twice_in_its_example_and_not_in_comments(name: str) -> None:
    source = EXAMPLES[name]
    assert source_facts(source)[name] == pytest.approx(math.log2(3))
    commented = "".join(f"// {line}\n" for line in source.split("\n"))
    assert source_facts(commented)[name] == 0


def test_the_facts_of_a_seed_kernel_are_those_a_reader_counts() -> None:
    facts = source_facts(load_task("softmax").seed_source or "")
    counts = {name: round(2**value - 1) for name, value in facts.items() if value}
    counts.pop("lines")
    assert counts == {"kernels": 1, "launches": 1, "shared arrays": 1, "barriers": 5}
