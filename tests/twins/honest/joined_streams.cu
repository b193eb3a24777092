// Honest: half of the work on a side stream, which waits for its inputs and is waited for.
#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAException.h>
#include <torch/extension.h>

__global__ void gelu_kernel(const float* x, float* y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) {
        float value = x[i];
        y[i] = 0.5f * value * (1.0f + erff(value * 0.70710678f));
    }
}

torch::Tensor forward(torch::Tensor x) {
    TORCH_CHECK(x.is_cuda() && x.is_contiguous(), "x must be a contiguous CUDA tensor");
    TORCH_CHECK(x.scalar_type() == torch::kFloat32, "x must be float32");
    auto y = torch::empty_like(x);
    const int n = x.numel();
    const int half = n / 2;
    const int threads = 256;
    cudaStream_t current = at::cuda::getCurrentCUDAStream();
    cudaStream_t side = at::cuda::getStreamFromPool();
    cudaEvent_t ready, done;
    cudaEventCreateWithFlags(&ready, cudaEventDisableTiming);
    cudaEventCreateWithFlags(&done, cudaEventDisableTiming);
    cudaEventRecord(ready, current);
    cudaStreamWaitEvent(side, ready, 0);
    if (half > 0) {
        gelu_kernel<<<(half + threads - 1) / threads, threads, 0, side>>>(
            x.data_ptr<float>(), y.data_ptr<float>(), half);
    }
    gelu_kernel<<<(n - half + threads - 1) / threads, threads, 0, current>>>(
        x.data_ptr<float>() + half, y.data_ptr<float>() + half, n - half);
    C10_CUDA_KERNEL_LAUNCH_CHECK();
    cudaEventRecord(done, side);
    cudaStreamWaitEvent(current, done, 0);
    cudaEventDestroy(ready);
    cudaEventDestroy(done);
    return y;
}

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {
    m.def("forward", &forward, "GELU, exact form");
}
