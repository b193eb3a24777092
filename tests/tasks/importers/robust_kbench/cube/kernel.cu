#include <ATen/cuda/CUDAContext.h>
#include <torch/extension.h>
__global__ void k(const float* x, const float* g, float* y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] = 3.0f * x[i] * x[i] * g[i];
}
torch::Tensor backward(std::tuple<torch::Tensor> saved, torch::Tensor g) {
    auto x = std::get<0>(saved);
    auto y = torch::empty_like(x);
    int n = x.numel();
    k<<<(n + 255) / 256, 256, 0, at::cuda::getCurrentCUDAStream()>>>(x.data_ptr<float>(), g.data_ptr<float>(), y.data_ptr<float>(), n);
    return y;
}
PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) { m.def("backward", &backward, "x"); }
