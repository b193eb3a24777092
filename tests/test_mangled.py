"""Names of kernels as people read them."""

from __future__ import annotations

import pytest

from kernelevo.mangled import plain_name


@pytest.mark.parametrize(
    ("mangled", "name"),
    [
        ("_Z14softmax_kernelPKfPfi", "softmax_kernel"),
        ("_ZN12_GLOBAL__N_111gelu_kernelEPKfPfi", "gelu_kernel"),
        ("_Z6kernelILi4EEvPKf", "kernel<4>"),
        ("_ZN2at6kernelIfLin1ELb1EEEvPT_", "kernel<float, -1, true>"),
        ("_Z6kernelI6float4EvPT_", "kernel"),
        ("plain", "plain"),
    ],
)
def test_a_kernel_is_named_as_in_its_source(mangled: str, name: str) -> None:
    assert plain_name(mangled) == name
