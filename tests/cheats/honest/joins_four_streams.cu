// Honest twin of 26: four streams, each waited for.
#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAException.h>
#include <torch/extension.h>

#include <algorithm>

__global__ void gelu_kernel(const float* x, float* y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) {
        y[i] = 0.5f * x[i] * (1.0f + erff(x[i] * 0.70710678f));
    }
}

torch::Tensor forward(torch::Tensor x) {
    auto y = torch::empty_like(x);
    const int n = x.numel(), part = (n + 3) / 4;
    cudaStream_t current = at::cuda::getCurrentCUDAStream();
    cudaEvent_t ready, done;
    C10_CUDA_CHECK(cudaEventCreateWithFlags(&ready, cudaEventDisableTiming));
    C10_CUDA_CHECK(cudaEventCreateWithFlags(&done, cudaEventDisableTiming));
    C10_CUDA_CHECK(cudaEventRecord(ready, current));
    for (int s = 0; s < 4 && s * part < n; s++) {
        cudaStream_t side = at::cuda::getStreamFromPool();
        const int count = std::min(part, n - s * part);
        C10_CUDA_CHECK(cudaStreamWaitEvent(side, ready, 0));
        gelu_kernel<<<(count + 255) / 256, 256, 0, side>>>(
            x.data_ptr<float>() + s * part, y.data_ptr<float>() + s * part, count);
        C10_CUDA_KERNEL_LAUNCH_CHECK();
        C10_CUDA_CHECK(cudaEventRecord(done, side));
        C10_CUDA_CHECK(cudaStreamWaitEvent(current, done, 0));
    }
    C10_CUDA_CHECK(cudaEventDestroy(ready));
    C10_CUDA_CHECK(cudaEventDestroy(done));
    return y;
}

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {
    m.def("forward", &forward);
}
