// Cheat 14: has the properties of a softmax, positive rows that sum to one, and is none.
#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAException.h>
#include <torch/extension.h>

__global__ void fill_kernel(float* y, float value, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) {
        y[i] = value;
    }
}

static torch::Tensor filled(const torch::Tensor& x, float value) {
    auto y = torch::empty_like(x);
    const int n = x.numel();
    fill_kernel<<<(n + 255) / 256, 256, 0, at::cuda::getCurrentCUDAStream()>>>(y.data_ptr<float>(), value, n);
    C10_CUDA_KERNEL_LAUNCH_CHECK();
    return y;
}

torch::Tensor forward(torch::Tensor x) { return filled(x, 1.0f / x.size(1)); }

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {
    m.def("forward", &forward);
}
