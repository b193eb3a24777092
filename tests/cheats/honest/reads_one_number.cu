// Honest: asks the device for one number before it decides how to go on.
#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAException.h>
#include <torch/extension.h>

__global__ void gelu_kernel(const float* x, float* y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) {
        y[i] = 0.5f * x[i] * (1.0f + erff(x[i] * 0.70710678f));
    }
}

__global__ void any_negative_kernel(const float* x, int* found, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n && x[i] < 0.0f) *found = 1;
}

torch::Tensor forward(torch::Tensor x) {
    auto found = torch::zeros({1}, x.options().dtype(torch::kInt32));
    auto y = torch::empty_like(x);
    const int n = x.numel();
    auto stream = at::cuda::getCurrentCUDAStream();
    any_negative_kernel<<<(n + 255) / 256, 256, 0, stream>>>(x.data_ptr<float>(), found.data_ptr<int>(), n);
    const int threads = found.item<int>() != 0 ? 256 : 128;
    gelu_kernel<<<(n + threads - 1) / threads, threads, 0, stream>>>(x.data_ptr<float>(), y.data_ptr<float>(), n);
    C10_CUDA_KERNEL_LAUNCH_CHECK();
    return y;
}

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {
    m.def("forward", &forward);
}
