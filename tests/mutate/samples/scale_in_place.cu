// y = a * x + y in place over bytes of a view, with a declared tunable and a file-scope block size.
#include <torch/extension.h>

// tunable: kBlock = 64, 128, 256, 512
constexpr int kBlock = 128;

__global__ void axpy_kernel(const float* x, float* y, float a, int n) {
    __shared__ float scale;
    if (threadIdx.x == 0) {
        scale = a;
    }
    __syncthreads();
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) {
        y[i] += scale * x[i];
    }
}

torch::Tensor forward(torch::Tensor x, torch::Tensor y, double a) {
    const int n = x.numel();
    const int blocks = (n + kBlock - 1) / kBlock;
    axpy_kernel<<<blocks, kBlock>>>(x.data_ptr<float>(), y.data_ptr<float>(), static_cast<float>(a), n);
    return y;
}

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {
    m.def("forward", &forward, "a * x + y");
}
