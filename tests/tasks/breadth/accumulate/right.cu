#include <ATen/cuda/CUDAContext.h>
#include <torch/extension.h>

template <typename T>
__global__ void accumulate_kernel(T* total, const T* x, float scale, int n) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) total[i] = static_cast<T>(static_cast<float>(total[i]) + scale * static_cast<float>(x[i]));
}

template <typename T>
void launch(torch::Tensor& total, const torch::Tensor& x, double scale) {
    const int n = total.numel();
    accumulate_kernel<T><<<(n + 127) / 128, 128, 0, at::cuda::getCurrentCUDAStream()>>>(
        total.data_ptr<T>(), x.data_ptr<T>(), static_cast<float>(scale), n);
}

void forward(torch::Tensor total, torch::Tensor x, double scale) {
    torch::Tensor target = total;  // MUTATED
    if (total.scalar_type() == torch::kBFloat16) launch<c10::BFloat16>(target, x, scale);
    else launch<float>(target, x, scale);
}

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) { m.def("forward", &forward, "total += scale * x"); }
