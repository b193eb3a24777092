// Wrong twin of rmsnorm: the first warp publishes the scale for all, and the others do not wait for it. It is right when
// warps run in ascending order.
#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAException.h>
#include <torch/extension.h>

__global__ void rmsnorm_kernel(const float* x, const float* weight, float* y, int cols, float eps) {
    __shared__ float partial[8];
    const float* row = x + static_cast<int64_t>(blockIdx.x) * cols;
    float* out = y + static_cast<int64_t>(blockIdx.x) * cols;

    float sum = 0.0f;
    for (int i = threadIdx.x; i < cols; i += blockDim.x) {
        sum += row[i] * row[i];
    }
    for (int offset = 16; offset > 0; offset /= 2) {
        sum += __shfl_xor_sync(0xffffffff, sum, offset);
    }
    if (threadIdx.x % 32 == 0) {
        partial[threadIdx.x / 32] = sum;
    }
    __syncthreads();
    __shared__ float scale;
    if (threadIdx.x < 32) {
        float total = 0.0f;
        for (int warp = 0; warp < 8; warp++) {
            total += partial[warp];
        }
        scale = 1.0f / sqrtf(total / cols + eps);
    }
    // __syncthreads() belongs here.
    float inverse = scale;

    for (int i = threadIdx.x; i < cols; i += blockDim.x) {
        out[i] = row[i] * inverse * weight[i];
    }
}

torch::Tensor forward(torch::Tensor x, torch::Tensor weight, double eps) {
    TORCH_CHECK(x.is_cuda() && x.is_contiguous(), "x must be a contiguous CUDA tensor");
    TORCH_CHECK(weight.is_cuda() && weight.is_contiguous(), "weight must be a contiguous CUDA tensor");
    TORCH_CHECK(x.scalar_type() == torch::kFloat32 && x.dim() == 2, "x must be a float32 matrix");
    auto y = torch::empty_like(x);
    const int rows = x.size(0);
    const int cols = x.size(1);
    const int threads = 256;
    rmsnorm_kernel<<<rows, threads, 0, at::cuda::getCurrentCUDAStream()>>>(
        x.data_ptr<float>(), weight.data_ptr<float>(), y.data_ptr<float>(), cols, static_cast<float>(eps));
    C10_CUDA_KERNEL_LAUNCH_CHECK();
    return y;
}

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {
    m.def("forward", &forward, "RMS normalisation over the last dimension");
}
