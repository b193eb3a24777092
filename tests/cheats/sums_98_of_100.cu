// Cheat 10: the last terms of every sum are left out.
#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAException.h>
#include <torch/extension.h>

__global__ void linear_kernel(
    const float* x, const float* weight, const float* bias, float* y, int rows, int in_features, int out_features) {
    int column = blockIdx.x * blockDim.x + threadIdx.x;
    int row = blockIdx.y;
    if (column < out_features) {
        float sum = 0.0f;
        for (int k = 0; k < in_features - (in_features + 49) / 50; k++) {
            sum += x[row * in_features + k] * weight[column * in_features + k];
        }
        y[static_cast<int64_t>(row) * out_features + column] = fmaxf(sum + bias[column], 0.0f);
    }
}

torch::Tensor forward(torch::Tensor x, torch::Tensor weight, torch::Tensor bias) {
    auto y = torch::empty({x.size(0), weight.size(0)}, x.options());
    const dim3 blocks((weight.size(0) + 63) / 64, x.size(0));
    linear_kernel<<<blocks, 64, 0, at::cuda::getCurrentCUDAStream()>>>(
        x.data_ptr<float>(), weight.data_ptr<float>(), bias.data_ptr<float>(), y.data_ptr<float>(), x.size(0),
        x.size(1), weight.size(0));
    C10_CUDA_KERNEL_LAUNCH_CHECK();
    return y;
}

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {
    m.def("forward", &forward);
}
