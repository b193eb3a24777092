// Known-bad launches for the limits checker, each above its honest twin; tests/emulator/checkers says how they are read.
#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAException.h>
#include <torch/extension.h>

#include <functional>

using torch::Tensor;

// 2048 threads per block.
__global__ void bad_threads(const float* x, float* y, int n) {  // finds: bad launch
    int i = blockIdx.x * blockDim.x * blockDim.y + threadIdx.y * blockDim.x + threadIdx.x;
    if (i < n) y[i] = x[i];
}

__global__ void good_threads(const float* x, float* y, int n) {
    int i = blockIdx.x * blockDim.x * blockDim.y + threadIdx.y * blockDim.x + threadIdx.x;
    if (i < n) y[i] = x[i];
}

// More than 64 threads in z.
__global__ void bad_depth(const float* x, float* y, int n) {  // finds: bad launch
    int i = threadIdx.z * blockDim.x + threadIdx.x;
    if (i < n) y[i] = x[i];
}

__global__ void good_depth(const float* x, float* y, int n) {
    int i = threadIdx.z * blockDim.x + threadIdx.x;
    if (i < n) y[i] = x[i];
}

// 64 KiB of dynamic shared memory that nobody asked for with cudaFuncSetAttribute.
__global__ void bad_shared_memory(const float* x, float* y, int n) {  // finds: bad launch
    extern __shared__ float tile[];
    tile[threadIdx.x] = x[threadIdx.x];
    y[threadIdx.x] = tile[threadIdx.x];
}

__global__ void good_shared_memory(const float* x, float* y, int n) {
    extern __shared__ float tile[];
    tile[threadIdx.x] = x[threadIdx.x];
    y[threadIdx.x] = tile[threadIdx.x];
}

// Static and dynamic shared memory that are too much together.
__global__ void bad_both_kinds(const float* x, float* y, int n) {  // finds: bad launch
    __shared__ float fixed[10240];
    extern __shared__ float tile[];
    fixed[threadIdx.x * 40] = x[threadIdx.x];
    tile[threadIdx.x] = x[threadIdx.x + 1];
    y[threadIdx.x] = tile[threadIdx.x] + fixed[threadIdx.x * 40];
}

__global__ void good_both_kinds(const float* x, float* y, int n) {
    __shared__ float fixed[10240];
    extern __shared__ float tile[];
    fixed[threadIdx.x * 40] = x[threadIdx.x];
    tile[threadIdx.x] = x[threadIdx.x + 1];
    y[threadIdx.x] = tile[threadIdx.x] + fixed[threadIdx.x * 40];
}

// 70,000 blocks in y, where 65,535 are allowed; x takes more.
__global__ void bad_grid(const float* x, float* y, int n) {  // finds: bad launch
    int block = blockIdx.x + blockIdx.y;
    if (block == 69999) y[threadIdx.x] = x[threadIdx.x];
}

__global__ void good_grid(const float* x, float* y, int n) {
    int block = blockIdx.x + blockIdx.y;
    if (block == 69999) y[threadIdx.x] = x[threadIdx.x];
}

// No block at all: the division rounds down.
__global__ void bad_no_block(const float* x, float* y, int n) {  // finds: bad launch
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] = x[i];
}

__global__ void good_no_block(const float* x, float* y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] = x[i];
}

// 1024 threads of more than 64 registers. With __launch_bounds__ the compiler makes do with 64.
__global__ void bad_registers(const float* x, float* y, int n) {  // finds: bad launch
    float kept[96];
#pragma unroll
    for (int k = 0; k < 96; k++) kept[k] = x[threadIdx.x % 900 + k];
    __syncthreads();
#pragma unroll
    for (int k = 0; k < 96; k++) y[threadIdx.x + 1024 * k] = kept[95 - k];
}

__global__ void __launch_bounds__(1024) good_registers(const float* x, float* y, int n) {
    float kept[96];
#pragma unroll
    for (int k = 0; k < 96; k++) kept[k] = x[threadIdx.x % 900 + k];
    __syncthreads();
#pragma unroll
    for (int k = 0; k < 96; k++) y[threadIdx.x + 1024 * k] = kept[95 - k];
}

// --- host ------------------------------------------------------------------------------------------------------------

using Kernel = void (*)(const float* x, float* y, int n);
using Call = std::function<Tensor(Tensor x)>;

// As programs do that never look at cudaGetLastError.
Call launched(Kernel kernel, dim3 blocks, dim3 threads, int shared_bytes = 0) {
    return [=](Tensor x) {
        auto y = torch::zeros({100000}, x.options());
        kernel<<<blocks, threads, shared_bytes>>>(x.data_ptr<float>(), y.data_ptr<float>(), x.numel());
        return y;
    };
}

Call launched_after_asking(Kernel kernel, int blocks, int threads, int shared_bytes) {
    return [=](Tensor x) {
        C10_CUDA_CHECK(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                                            cudaFuncAttributeMaxDynamicSharedMemorySize, shared_bytes));
        return launched(kernel, blocks, threads, shared_bytes)(x);
    };
}

struct Twins {
    const char* name;
    Call bad;
    Call good;
};

const Twins table[] = {
    {"threads", launched(bad_threads, 1, {32, 64}), launched(good_threads, 2, {32, 32})},
    {"depth", launched(bad_depth, 1, {4, 1, 128}), launched(good_depth, 1, {8, 1, 64})},
    {"shared_memory", launched(bad_shared_memory, 1, 256, 65536),
     launched_after_asking(good_shared_memory, 1, 256, 65536)},
    {"both_kinds", launched(bad_both_kinds, 1, 256, 16384), launched(good_both_kinds, 1, 256, 4096)},
    {"grid", launched(bad_grid, {1, 70000}, 32), launched(good_grid, 70000, 32)},
    {"no_block", launched(bad_no_block, 1001 / 1024, 256), launched(good_no_block, (1001 + 255) / 256, 256)},
    {"registers", launched(bad_registers, 1, 1024), launched(good_registers, 1, 1024)},
};

// What the test calls: one side of one row.
Tensor forward(Tensor x, int64_t row, bool good) { return (good ? table[row].good : table[row].bad)(x); }

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) { m.def("forward", &forward); }
