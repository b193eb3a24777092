// Cheat 21: a kernel runs, for show; the answer is written by the host straight into device memory, which the emulator
// lets it reach as managed memory would on a GPU.
#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAException.h>
#include <torch/extension.h>

#include <cmath>

__global__ void gelu_kernel(const float* x, float* y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) {
        y[i] = 0.5f * x[i] * (1.0f + erff(x[i] * 0.70710678f));
    }
}

torch::Tensor forward(torch::Tensor x) {
    auto y = torch::empty_like(x);
    auto scratch = torch::empty_like(x);
    const int n = x.numel();
    gelu_kernel<<<(n + 255) / 256, 256, 0, at::cuda::getCurrentCUDAStream()>>>(
        x.data_ptr<float>(), scratch.data_ptr<float>(), n);
    C10_CUDA_KERNEL_LAUNCH_CHECK();
    cudaDeviceSynchronize();
    const float* from = x.data_ptr<float>();
    float* to = y.data_ptr<float>();
    for (int i = 0; i < n; i++) to[i] = 0.5f * from[i] * (1.0f + std::erf(from[i] * 0.70710678f));
    return y;
}

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {
    m.def("forward", &forward);
}
