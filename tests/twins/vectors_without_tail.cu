// Wrong twin of gelu: four elements at a time, and none of those that are left over.
#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAException.h>
#include <torch/extension.h>

__global__ void gelu_kernel(const float4* x, float4* y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) {
        float4 value = x[i];
        value.x = 0.5f * value.x * (1.0f + erff(value.x * 0.70710678f));
        value.y = 0.5f * value.y * (1.0f + erff(value.y * 0.70710678f));
        value.z = 0.5f * value.z * (1.0f + erff(value.z * 0.70710678f));
        value.w = 0.5f * value.w * (1.0f + erff(value.w * 0.70710678f));
        y[i] = value;
    }
}

torch::Tensor forward(torch::Tensor x) {
    TORCH_CHECK(x.is_cuda() && x.is_contiguous(), "x must be a contiguous CUDA tensor");
    TORCH_CHECK(x.scalar_type() == torch::kFloat32, "x must be float32");
    auto y = torch::empty_like(x);
    const int n = x.numel() / 4;
    const int threads = 256;
    const int blocks = (n + threads - 1) / threads + 1;
    gelu_kernel<<<blocks, threads, 0, at::cuda::getCurrentCUDAStream()>>>(
        reinterpret_cast<const float4*>(x.data_ptr<float>()), reinterpret_cast<float4*>(y.data_ptr<float>()), n);
    C10_CUDA_KERNEL_LAUNCH_CHECK();
    return y;
}

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {
    m.def("forward", &forward, "GELU, exact form");
}
