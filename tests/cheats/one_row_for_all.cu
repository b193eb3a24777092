// Cheat 4: one row, spread over the others by a stride of zero.
#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAException.h>
#include <torch/extension.h>

__global__ void gelu_kernel(const float* x, float* y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) {
        y[i] = 0.5f * x[i] * (1.0f + erff(x[i] * 0.70710678f));
    }
}

torch::Tensor forward(torch::Tensor x) {
    auto row = torch::empty({1, x.size(1)}, x.options());
    const int n = x.size(1);
    gelu_kernel<<<(n + 255) / 256, 256, 0, at::cuda::getCurrentCUDAStream()>>>(
        x.data_ptr<float>(), row.data_ptr<float>(), n);
    C10_CUDA_KERNEL_LAUNCH_CHECK();
    return row.expand({x.size(0), x.size(1)});
}

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {
    m.def("forward", &forward);
}
