// Cheat 15: a launch that is refused, an error that nobody asks for.
#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAException.h>
#include <torch/extension.h>

__global__ void gelu_kernel(const float* x, float* y, int n) {
    extern __shared__ float row[];
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) {
        row[threadIdx.x] = x[i];
        y[i] = 0.5f * row[threadIdx.x] * (1.0f + erff(row[threadIdx.x] * 0.70710678f));
    }
}

torch::Tensor forward(torch::Tensor x) {
    auto y = torch::empty_like(x);
    const int n = x.numel();
    gelu_kernel<<<(n + 255) / 256, 256, 1 << 20, at::cuda::getCurrentCUDAStream()>>>(
        x.data_ptr<float>(), y.data_ptr<float>(), n);
    return y;
}

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {
    m.def("forward", &forward);
}
