// Cheat 50: a kernel that does not end.
#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAException.h>
#include <torch/extension.h>

__global__ void spin_kernel(const float* x, float* y, volatile int* flag) {
    while (*flag == 0) {
    }
    y[0] = x[0];
}

torch::Tensor forward(torch::Tensor x) {
    auto y = torch::empty_like(x);
    auto flag = torch::zeros({1}, x.options().dtype(torch::kInt32));
    spin_kernel<<<1, 1, 0, at::cuda::getCurrentCUDAStream()>>>(
        x.data_ptr<float>(), y.data_ptr<float>(), flag.data_ptr<int>());
    return y;
}

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {
    m.def("forward", &forward);
}
