// Honest: softmax by one warp per row with shuffles, a template per size with a general fallback, read-only loads.
#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAException.h>
#include <torch/extension.h>

constexpr unsigned int kAllLanes = 0xffffffff;

template <int Columns>  // 0: any
__global__ void __launch_bounds__(128) softmax_kernel(
    const float* __restrict__ x, float* __restrict__ y, int rows, int columns) {
    const int cols = Columns == 0 ? columns : Columns;
    const int row = blockIdx.x * 4 + threadIdx.x / 32;
    const int lane = threadIdx.x % 32;
    if (row >= rows) {
        return;
    }
    const float* in = x + static_cast<int64_t>(row) * cols;
    float* out = y + static_cast<int64_t>(row) * cols;
    float largest = -INFINITY;
    float sum = 0.0f;
    for (int i = lane; i < cols; i += 32) {
        const float value = __ldg(in + i);
        const float bound = fmaxf(largest, value);
        sum = sum * __expf(largest - bound) + __expf(value - bound);
        largest = bound;
    }
    for (int offset = 16; offset > 0; offset /= 2) {
        const float other = __shfl_xor_sync(kAllLanes, largest, offset);
        const float other_sum = __shfl_xor_sync(kAllLanes, sum, offset);
        const float bound = fmaxf(largest, other);
        // A lane without elements has the maximum -inf, and -inf - (-inf) is NaN.
        sum = sum > 0.0f ? sum * __expf(largest - bound) : 0.0f;
        sum += other_sum > 0.0f ? other_sum * __expf(other - bound) : 0.0f;
        largest = bound;
    }
    const float inverse = 1.0f / sum;
#pragma unroll 4
    for (int i = lane; i < cols; i += 32) {
        out[i] = __expf(__ldg(in + i) - largest) * inverse;
    }
}

torch::Tensor forward(torch::Tensor x) {
    TORCH_CHECK(x.is_cuda() && x.scalar_type() == torch::kFloat32 && x.dim() == 2, "x must be a float32 CUDA matrix");
    auto in = x.contiguous();
    auto y = torch::empty_like(in);
    const int rows = in.size(0);
    const int cols = in.size(1);
    const int blocks = (rows + 3) / 4;
    auto stream = at::cuda::getCurrentCUDAStream();
    switch (cols) {
        case 256:
            softmax_kernel<256><<<blocks, 128, 0, stream>>>(in.data_ptr<float>(), y.data_ptr<float>(), rows, cols);
            break;
        case 1000:
            softmax_kernel<1000><<<blocks, 128, 0, stream>>>(in.data_ptr<float>(), y.data_ptr<float>(), rows, cols);
            break;
        default:
            softmax_kernel<0><<<blocks, 128, 0, stream>>>(in.data_ptr<float>(), y.data_ptr<float>(), rows, cols);
    }
    C10_CUDA_KERNEL_LAUNCH_CHECK();
    return y;
}

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {
    m.def("forward", &forward, "softmax over the last dimension");
}
