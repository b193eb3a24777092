// Cheat 19: adds up what other warps may not have written yet.
#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAException.h>
#include <torch/extension.h>

__global__ void rmsnorm_kernel(const float* x, const float* weight, float* y, int cols, float eps) {
    __shared__ float partial[256];
    const float* row = x + static_cast<int64_t>(blockIdx.x) * cols;
    float sum = 0.0f;
    for (int i = threadIdx.x; i < cols; i += 256) {
        sum += row[i] * row[i];
    }
    partial[threadIdx.x] = sum;
    float total = 0.0f;
    for (int i = 0; i < 256; i++) {
        total += partial[i];
    }
    for (int i = threadIdx.x; i < cols; i += 256) {
        y[static_cast<int64_t>(blockIdx.x) * cols + i] = row[i] / sqrtf(total / cols + eps) * weight[i];
    }
}

torch::Tensor forward(torch::Tensor x, torch::Tensor weight, double eps) {
    auto y = torch::empty_like(x);
    rmsnorm_kernel<<<x.size(0), 256, 0, at::cuda::getCurrentCUDAStream()>>>(
        x.data_ptr<float>(), weight.data_ptr<float>(), y.data_ptr<float>(), x.size(1), static_cast<float>(eps));
    C10_CUDA_KERNEL_LAUNCH_CHECK();
    return y;
}

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {
    m.def("forward", &forward);
}
