// Honest: parameters go to constant memory before each launch.
#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAException.h>
#include <torch/extension.h>

__constant__ float constants[2];

__global__ void gelu_kernel(const float* x, float* y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) {
        y[i] = constants[0] * x[i] * (1.0f + erff(x[i] * constants[1]));
    }
}

static torch::Tensor own_gelu(const torch::Tensor& x) {
    auto y = torch::empty_like(x);
    const int n = x.numel();
    gelu_kernel<<<(n + 255) / 256, 256, 0, at::cuda::getCurrentCUDAStream()>>>(
        x.data_ptr<float>(), y.data_ptr<float>(), n);
    C10_CUDA_KERNEL_LAUNCH_CHECK();
    return y;
}

torch::Tensor forward(torch::Tensor x) {
    const float values[2] = {0.5f, 0.70710678f};
    C10_CUDA_CHECK(cudaMemcpyToSymbolAsync(
        constants, values, sizeof values, 0, cudaMemcpyHostToDevice, at::cuda::getCurrentCUDAStream()));
    return own_gelu(x);
}

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {
    m.def("forward", &forward);
}
