// Twin of rmsnorm that cheats: the host computes, the result is copied to the device, and the only kernel does nothing.
#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAException.h>
#include <torch/extension.h>

#include <cmath>

__global__ void idle_kernel(float* y) {
    if (y == nullptr) {
        __trap();
    }
}

torch::Tensor forward(torch::Tensor x, torch::Tensor weight, double eps) {
    const torch::Tensor held = x.to(torch::kCPU);
    const torch::Tensor scale = weight.to(torch::kCPU);
    torch::Tensor result = torch::empty(x.sizes(), held.options());
    const int64_t cols = x.size(1);
    for (int64_t r = 0; r < x.size(0); r++) {
        const float* from = held.data_ptr<float>() + r * cols;
        float* to = result.data_ptr<float>() + r * cols;
        double sum = 0.0;
        for (int64_t c = 0; c < cols; c++) {
            sum += static_cast<double>(from[c]) * from[c];
        }
        const double inverse = 1.0 / std::sqrt(sum / static_cast<double>(cols) + eps);
        for (int64_t c = 0; c < cols; c++) {
            to[c] = static_cast<float>(from[c] * inverse * scale.data_ptr<float>()[c]);
        }
    }
    torch::Tensor y = torch::empty_like(x);
    y.copy_(result);
    idle_kernel<<<1, 32, 0, at::cuda::getCurrentCUDAStream()>>>(y.data_ptr<float>());
    C10_CUDA_KERNEL_LAUNCH_CHECK();
    return y;
}

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {
    m.def("forward", &forward, "RMS normalisation over the last dimension");
}
