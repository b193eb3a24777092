// SiLU of one tensor, times another, in three dtypes: one thread per element.
#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAException.h>
#include <torch/extension.h>

template <typename T>
__global__ void silu_mul_kernel(const T* gate, const T* up, T* y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) {
        float g = static_cast<float>(gate[i]);
        y[i] = static_cast<T>(g / (1.0f + expf(-g)) * static_cast<float>(up[i]));
    }
}

template <typename T>
void launch(const torch::Tensor& gate, const torch::Tensor& up, torch::Tensor& y) {
    const int n = gate.numel();
    const int threads = 256;
    const int blocks = (n + threads - 1) / threads;
    silu_mul_kernel<T><<<blocks, threads, 0, at::cuda::getCurrentCUDAStream()>>>(
        gate.data_ptr<T>(), up.data_ptr<T>(), y.data_ptr<T>(), n);
    C10_CUDA_KERNEL_LAUNCH_CHECK();
}

torch::Tensor forward(torch::Tensor gate, torch::Tensor up) {
    TORCH_CHECK(gate.is_cuda() && gate.is_contiguous(), "gate must be a contiguous CUDA tensor");
    TORCH_CHECK(up.is_cuda() && up.is_contiguous(), "up must be a contiguous CUDA tensor");
    TORCH_CHECK(gate.sizes() == up.sizes() && gate.scalar_type() == up.scalar_type(), "gate and up must be alike");
    auto y = torch::empty_like(gate);
    if (gate.scalar_type() == torch::kFloat32) {
        launch<float>(gate, up, y);
    } else if (gate.scalar_type() == torch::kHalf) {
        launch<c10::Half>(gate, up, y);
    } else {
        TORCH_CHECK(gate.scalar_type() == torch::kBFloat16, "gate must be float32, float16 or bfloat16");
        launch<c10::BFloat16>(gate, up, y);
    }
    return y;
}

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {
    m.def("forward", &forward, "silu(gate) * up");
}
