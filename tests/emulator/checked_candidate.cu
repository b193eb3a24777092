// What checked and stubbed calls are tried with. `what` says which of the programs below runs.
#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAException.h>
#include <torch/extension.h>

__global__ void add_shifted(const float* x, const float* z, float* y, int n, int shift) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] = x[i] + z[i + shift];
}

__global__ void write_number(float* y, float number) { y[threadIdx.x] = number; }

// 0: right. 1: the second input is read one element too far.
static void add(const torch::Tensor& x, const torch::Tensor& z, torch::Tensor& y, int shift) {
    int n = static_cast<int>(x.numel());
    add_shifted<<<(n + 63) / 64, 64>>>(x.data_ptr<float>(), z.data_ptr<float>(), y.data_ptr<float>(), n, shift);
    C10_CUDA_KERNEL_LAUNCH_CHECK();
}

// 2: bytes that cross between host and device, beside some that do not.
static void copy(const torch::Tensor& x, torch::Tensor& y) {
    std::vector<float> host(x.numel(), x[0].item<float>());                                             // 4 out
    C10_CUDA_CHECK(cudaMemcpy(y.data_ptr(), host.data(), 4 * host.size(), cudaMemcpyHostToDevice));     // all in
    y.add_(x.cpu().to(y.device()));                                                                     // all out, all in
    C10_CUDA_CHECK(cudaMemcpy(y.data_ptr(), x.data_ptr(), 4, cudaMemcpyDeviceToDevice));
}

// 3: two streams write the same memory, and only the host waits for them.
static void race_of_streams(torch::Tensor& y) {
    cudaStream_t streams[2];
    for (int k = 0; k < 2; k++) {
        C10_CUDA_CHECK(cudaStreamCreate(&streams[k]));
        write_number<<<1, 32, 0, streams[k]>>>(y.data_ptr<float>(), 1.0f + k);
    }
    C10_CUDA_CHECK(cudaDeviceSynchronize());
    for (cudaStream_t stream : streams) C10_CUDA_CHECK(cudaStreamDestroy(stream));
}

torch::Tensor forward(torch::Tensor x, int64_t what, torch::Tensor z) {
    auto y = torch::empty_like(x);
    if (what <= 1) add(x, z, y, static_cast<int>(what));
    if (what == 2) copy(x, y);
    if (what == 3) race_of_streams(y);
    return y;
}

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) { m.def("forward", &forward); }
