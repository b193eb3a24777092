// Honest: rmsnorm with 16-byte loads where the rows allow them, and a row kept in dynamic shared memory.
#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAException.h>
#include <torch/extension.h>

__device__ __forceinline__ float block_sum(float value, float* scratch) {
    for (int offset = 16; offset > 0; offset /= 2) {
        value += __shfl_down_sync(0xffffffff, value, offset);
    }
    if (threadIdx.x % 32 == 0) {
        scratch[threadIdx.x / 32] = value;
    }
    __syncthreads();
    float total = 0.0f;
    for (int warp = 0; warp < blockDim.x / 32; warp++) {
        total += scratch[warp];
    }
    return total;
}

__global__ void rmsnorm_kernel(const float* x, const float* weight, float* y, int cols, float eps, bool wide) {
    extern __shared__ float row[];
    __shared__ float scratch[32];
    const float* in = x + static_cast<int64_t>(blockIdx.x) * cols;
    float* out = y + static_cast<int64_t>(blockIdx.x) * cols;
    const int vectors = wide ? cols / 4 : 0;
    float sum = 0.0f;
    for (int i = threadIdx.x; i < vectors; i += blockDim.x) {
        const float4 value = reinterpret_cast<const float4*>(in)[i];
        reinterpret_cast<float4*>(row)[i] = value;
        sum = fmaf(value.x, value.x, fmaf(value.y, value.y, fmaf(value.z, value.z, fmaf(value.w, value.w, sum))));
    }
    for (int i = 4 * vectors + threadIdx.x; i < cols; i += blockDim.x) {
        row[i] = in[i];
        sum = fmaf(in[i], in[i], sum);
    }
    const float inverse = rsqrtf(block_sum(sum, scratch) / cols + eps);
    for (int i = threadIdx.x; i < cols; i += blockDim.x) {
        out[i] = row[i] * inverse * weight[i];
    }
}

torch::Tensor forward(const torch::Tensor& x, const torch::Tensor& weight, double eps) {
    TORCH_CHECK(x.is_cuda() && x.is_contiguous() && x.dtype() == torch::kFloat32, "x must be contiguous float32");
    auto y = torch::empty_like(x);
    const int rows = static_cast<int>(x.size(0));
    const int cols = static_cast<int>(x.size(1));
    const size_t shared_bytes = (cols + 3) / 4 * 4 * sizeof(float);
    static bool configured = [] {
        constexpr auto attribute = cudaFuncAttributeMaxDynamicSharedMemorySize;
        return cudaFuncSetAttribute(rmsnorm_kernel, attribute, 64 * 1024) == cudaSuccess;
    }();
    TORCH_CHECK(configured, "no 64 KiB of shared memory");
    const bool wide = cols % 4 == 0 && reinterpret_cast<uintptr_t>(x.data_ptr<float>()) % 16 == 0;
    rmsnorm_kernel<<<rows, 128, shared_bytes, at::cuda::getCurrentCUDAStream()>>>(
        x.data_ptr<float>(), weight.data_ptr<float>(), y.data_ptr<float>(), cols, static_cast<float>(eps), wide);
    C10_CUDA_KERNEL_LAUNCH_CHECK();
    return y;
}

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {
    m.def("forward", &forward, "RMS normalisation over the last dimension");
}
