// Depthwise 2-d convolution, stride 1, zero padding that keeps the size: one thread per output element.
#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAException.h>
#include <torch/extension.h>

__global__ void depthwise_conv2d_kernel(
    const float* x, const float* weight, const float* bias, float* y, int n, int channels, int height, int width,
    int kernel_size) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) {
        int column = i % width;
        int row = (i / width) % height;
        int plane = i / (width * height);
        int channel = plane % channels;
        int padding = kernel_size / 2;
        float sum = bias[channel];
        for (int r = 0; r < kernel_size; r++) {
            for (int s = 0; s < kernel_size; s++) {
                int source_row = row + r - padding;
                int source_column = column + s - padding;
                if (source_row >= 0 && source_row < height && source_column >= 0 && source_column < width) {
                    sum += x[(plane * height + source_row) * width + source_column]
                        * weight[(channel * kernel_size + r) * kernel_size + s];
                }
            }
        }
        y[i] = sum;
    }
}

torch::Tensor forward(torch::Tensor x, torch::Tensor weight, torch::Tensor bias) {
    TORCH_CHECK(x.is_cuda() && x.is_contiguous(), "x must be a contiguous CUDA tensor");
    TORCH_CHECK(weight.is_cuda() && weight.is_contiguous(), "weight must be a contiguous CUDA tensor");
    TORCH_CHECK(bias.is_cuda() && bias.is_contiguous(), "bias must be a contiguous CUDA tensor");
    TORCH_CHECK(x.scalar_type() == torch::kFloat32 && x.dim() == 4, "x must be a float32 tensor of four dimensions");
    auto y = torch::empty_like(x);
    const int n = x.numel();
    const int channels = x.size(1);
    const int height = x.size(2);
    const int width = x.size(3);
    const int kernel_size = weight.size(2);
    const int threads = 256;
    const int blocks = (n + threads - 1) / threads;
    depthwise_conv2d_kernel<<<blocks, threads, 0, at::cuda::getCurrentCUDAStream()>>>(
        x.data_ptr<float>(), weight.data_ptr<float>(), bias.data_ptr<float>(), y.data_ptr<float>(), n, channels, height,
        width, kernel_size);
    C10_CUDA_KERNEL_LAUNCH_CHECK();
    return y;
}

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {
    m.def("forward", &forward, "depthwise convolution, stride 1, same size");
}
