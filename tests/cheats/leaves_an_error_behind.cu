// Cheat 50: spoils the context of its process for whoever comes next, and asks nobody about errors.
#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAException.h>
#include <torch/extension.h>

__global__ void trap_kernel() { asm volatile("trap;"); }

torch::Tensor forward(torch::Tensor x) {
    trap_kernel<<<1, 1, 0, at::cuda::getCurrentCUDAStream()>>>();
    return torch::empty_like(x);
}

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {
    m.def("forward", &forward);
}
