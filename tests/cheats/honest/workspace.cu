// Honest: a workspace that is kept between calls, grown when needed, and never given away.
#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAException.h>
#include <torch/extension.h>

__global__ void squares_kernel(const float* x, float* sums, int cols) {
    const float* row = x + static_cast<int64_t>(blockIdx.x) * cols;
    float sum = 0.0f;
    for (int i = threadIdx.x; i < cols; i += 32) sum += row[i] * row[i];
    for (int offset = 16; offset > 0; offset /= 2) sum += __shfl_xor_sync(0xffffffff, sum, offset);
    if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

__global__ void scale_kernel(
    const float* x, const float* weight, const float* sums, float* y, int cols, int n, float eps) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] = x[i] / sqrtf(sums[i / cols] / cols + eps) * weight[i % cols];
}

torch::Tensor forward(torch::Tensor x, torch::Tensor weight, double eps) {
    static torch::Tensor sums;
    if (!sums.defined() || sums.numel() < x.size(0)) sums = torch::empty({x.size(0)}, x.options());
    auto y = torch::empty_like(x);
    const int rows = x.size(0), cols = x.size(1), n = x.numel();
    auto stream = at::cuda::getCurrentCUDAStream();
    squares_kernel<<<rows, 32, 0, stream>>>(x.data_ptr<float>(), sums.data_ptr<float>(), cols);
    C10_CUDA_KERNEL_LAUNCH_CHECK();
    scale_kernel<<<(n + 255) / 256, 256, 0, stream>>>(
        x.data_ptr<float>(), weight.data_ptr<float>(), sums.data_ptr<float>(), y.data_ptr<float>(), cols, n,
        static_cast<float>(eps));
    C10_CUDA_KERNEL_LAUNCH_CHECK();
    return y;
}

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {
    m.def("forward", &forward);
}
