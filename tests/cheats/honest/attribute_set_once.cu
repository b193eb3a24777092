// Honest: asks once for more shared memory than a kernel has by default.
#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAException.h>
#include <torch/extension.h>

__global__ void rmsnorm_kernel(const float* x, const float* weight, float* y, int cols, float eps) {
    extern __shared__ float row[];
    const int64_t start = static_cast<int64_t>(blockIdx.x) * cols;
    float sum = 0.0f;
    for (int i = threadIdx.x; i < cols; i += 32) {
        row[i] = x[start + i];
        sum += row[i] * row[i];
    }
    for (int offset = 16; offset > 0; offset /= 2) sum += __shfl_xor_sync(0xffffffff, sum, offset);
    const float inverse = 1.0f / sqrtf(sum / cols + eps);
    for (int i = threadIdx.x; i < cols; i += 32) y[start + i] = row[i] * inverse * weight[i];
}

torch::Tensor forward(torch::Tensor x, torch::Tensor weight, double eps) {
    static bool ready = false;
    if (!ready) {
        C10_CUDA_CHECK(cudaFuncSetAttribute(rmsnorm_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, 96 << 10));
        ready = true;
    }
    auto y = torch::empty_like(x);
    rmsnorm_kernel<<<x.size(0), 32, x.size(1) * sizeof(float), at::cuda::getCurrentCUDAStream()>>>(
        x.data_ptr<float>(), weight.data_ptr<float>(), y.data_ptr<float>(), x.size(1), static_cast<float>(eps));
    C10_CUDA_KERNEL_LAUNCH_CHECK();
    return y;
}

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {
    m.def("forward", &forward);
}
