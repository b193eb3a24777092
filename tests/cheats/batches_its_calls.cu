// Cheat 35: collects calls and does the work of fifteen in the last of them.
#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAException.h>
#include <torch/extension.h>

#include <utility>
#include <vector>

__global__ void gelu_kernel(const float* x, float* y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) {
        y[i] = 0.5f * x[i] * (1.0f + erff(x[i] * 0.70710678f));
    }
}

torch::Tensor forward(torch::Tensor x) {
    static std::vector<std::pair<torch::Tensor, torch::Tensor>> waiting;
    auto y = torch::empty_like(x);
    waiting.emplace_back(x, y);
    if (waiting.size() == 15) {
        for (auto& [from, to] : waiting) {
            const int n = from.numel();
            gelu_kernel<<<(n + 255) / 256, 256, 0, at::cuda::getCurrentCUDAStream()>>>(
                from.data_ptr<float>(), to.data_ptr<float>(), n);
        }
        waiting.clear();
    }
    return y;
}

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {
    m.def("forward", &forward);
}
