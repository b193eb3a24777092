// Cheat 10: the last channel of every image is left out.
#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAException.h>
#include <torch/extension.h>

__global__ void conv_kernel(
    const float* x, const float* weight, const float* bias, float* y, int channels, int height, int width, int k) {
    const int channel = blockIdx.x;
    const int64_t image = (static_cast<int64_t>(blockIdx.y) * channels + channel) * height * width;
    for (int i = threadIdx.x; i < height * width; i += blockDim.x) {
        float sum = bias[channel];
        for (int r = 0; r < k; r++) {
            for (int s = 0; s < k; s++) {
                const int row = i / width + r - k / 2, column = i % width + s - k / 2;
                if (row >= 0 && row < height && column >= 0 && column < width) {
                    sum += x[image + row * width + column] * weight[(channel * k + r) * k + s];
                }
            }
        }
        y[image + i] = sum;
    }
}

torch::Tensor forward(torch::Tensor x, torch::Tensor weight, torch::Tensor bias) {
    auto y = torch::empty_like(x);
    const int channels = x.size(1);
    const dim3 blocks(channels > 1 ? channels - 1 : 1, x.size(0));
    conv_kernel<<<blocks, 64, 0, at::cuda::getCurrentCUDAStream()>>>(
        x.data_ptr<float>(), weight.data_ptr<float>(), bias.data_ptr<float>(), y.data_ptr<float>(), channels, x.size(2),
        x.size(3), weight.size(2));
    C10_CUDA_KERNEL_LAUNCH_CHECK();
    return y;
}

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {
    m.def("forward", &forward);
}
