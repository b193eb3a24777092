// Softmax as many people write it: a template, dynamic shared memory, aliases for indices, a device function.
#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAException.h>
#include <torch/extension.h>

namespace {

template <typename scalar_t>
__device__ __forceinline__ scalar_t reduce_sum(scalar_t value, scalar_t* shared) {
    const int tid = threadIdx.x;
    shared[tid] = value;
    __syncthreads();
    for (unsigned int s = blockDim.x >> 1; s > 0; s >>= 1) {
        if (tid < s) shared[tid] += shared[tid + s];
        __syncthreads();
    }
    return shared[0];
}

template <typename scalar_t>
__global__ void softmax_kernel(const scalar_t* __restrict__ input, scalar_t* __restrict__ output, const int cols) {
    extern __shared__ float shared[];
    const int row = blockIdx.x;
    const int tid = threadIdx.x;
    const int stride = blockDim.x;

    // for (int i = tid; i < cols; i += stride) is the loop of every pass
    float thread_max = -INFINITY;
    for (int i = tid; i < cols; i += stride) {
        thread_max = fmaxf(thread_max, static_cast<float>(input[row * cols + i]));
    }
    shared[tid] = thread_max;
    __syncthreads();
    for (unsigned int s = blockDim.x >> 1; s > 0; s >>= 1) {
        if (tid < s) {
            shared[tid] = fmaxf(shared[tid + s], shared[tid]);
        }
        __syncthreads();
    }
    const float row_max = shared[0];
    __syncthreads();

    float thread_sum = 0.f;
    for (int i = tid; i < cols; i += stride) {
        const float e = expf(static_cast<float>(input[row * cols + i]) - row_max);
        output[row * cols + i] = static_cast<scalar_t>(e);  // unnormalised
        thread_sum += e;
    }
    const float row_sum = reduce_sum(thread_sum, shared);
    for (int i = tid; i < cols; i += stride) {
        output[row * cols + i] = static_cast<scalar_t>(static_cast<float>(output[row * cols + i]) / row_sum);
    }
}

}  // namespace

torch::Tensor forward(torch::Tensor x) {
    TORCH_CHECK(x.is_cuda(), "x[i] = expf(x[i]) / sum needs a CUDA tensor");
    auto y = torch::empty_like(x);
    const int cols = x.size(1);
    constexpr int kThreads = 256;
    AT_DISPATCH_FLOATING_TYPES(x.scalar_type(), "softmax", [&] {
        softmax_kernel<scalar_t><<<x.size(0), kThreads, kThreads * sizeof(float)>>>(
            x.data_ptr<scalar_t>(), y.data_ptr<scalar_t>(), cols);
    });
    return y;
}

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {
    m.def("forward", &forward, "softmax");
}
