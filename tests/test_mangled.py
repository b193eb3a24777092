"""Names of kernels as people read them."""

from __future__ import annotations

import pytest

from kernelevo.mangled import kernel_name


@pytest.mark.parametrize(
    ("symbol", "name"),
    [
        ("_Z14softmax_kernelPKfPfi", "softmax_kernel"),
        ("_ZN12_GLOBAL__N_111gelu_kernelEPKfPfi", "gelu_kernel"),
        ("_Z6kernelILi4EEvPKf", "kernel<4>"),
        ("_ZN2at6kernelIfLin1ELb1EEEvPT_", "kernel<float, -1, true>"),
        ("_Z6kernelI6float4EvPT_", "kernel<float4>"),
        ("_ZN12_GLOBAL__N_16kernelILNS_4ModeE1EN2at4HalfEEEvPKT0_", "kernel<(Mode)1, at::Half>"),
        ("plain", "plain"),
        ("a copy (4 bytes)", "a copy (4 bytes)"),
    ],
)
def test_a_kernel_is_named_as_in_its_source(symbol: str, name: str) -> None:
    assert kernel_name(symbol) == name
