// Known-bad kernels for the init checker, each above its honest twin; tests/emulator/checkers says how they are read.
#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAException.h>
#include <torch/extension.h>

#include <functional>

using torch::Tensor;

// --- shared memory ---------------------------------------------------------------------------------------------------

// A three-point stencil whose tile has room for both neighbours, which nobody loads.
__global__ void bad_halo(const float* x, float* y, int n) {
    __shared__ float tile[130];
    int t = threadIdx.x;
    tile[t + 1] = x[t];
    __syncthreads();
    y[t] = tile[t] + tile[t + 1] + tile[t + 2];  // finds: uninitialised read in block 0, threads 0-127
}

__global__ void good_halo(const float* x, float* y, int n) {
    __shared__ float tile[130];
    int t = threadIdx.x;
    tile[t + 1] = x[t];
    if (t == 0) tile[0] = 0.0f;
    if (t == 127) tile[129] = x[128];
    __syncthreads();
    y[t] = tile[t] + tile[t + 1] + tile[t + 2];
}

// Threads behind the end of the row load nothing, and the tree reads their places.
__global__ void bad_tail_lanes(const float* x, float* y, int n) {
    __shared__ float sums[256];
    int t = threadIdx.x;
    int i = blockIdx.x * blockDim.x + t;
    if (i < n) sums[t] = x[i];
    __syncthreads();
    for (int stride = 128; stride > 0; stride /= 2) {
        if (t < stride) sums[t] += sums[t + stride];  // finds: uninitialised read in block 3, threads 0-127
        __syncthreads();
    }
    if (t == 0) y[blockIdx.x] = sums[0];
}

__global__ void good_tail_lanes(const float* x, float* y, int n) {
    __shared__ float sums[256];
    int t = threadIdx.x;
    int i = blockIdx.x * blockDim.x + t;
    sums[t] = i < n ? x[i] : 0.0f;
    __syncthreads();
    for (int stride = 128; stride > 0; stride /= 2) {
        if (t < stride) sums[t] += sums[t + stride];
        __syncthreads();
    }
    if (t == 0) y[blockIdx.x] = sums[0];
}

// Eight warps leave their sums, the first warp collects thirty-two.
__global__ void bad_warp_sums(const float* x, float* y, int n) {
    __shared__ float sums[32];
    int t = threadIdx.x;
    int lane = t % 32;
    float sum = x[t];
    for (int offset = 16; offset > 0; offset /= 2) sum += __shfl_down_sync(0xffffffff, sum, offset);
    if (lane == 0) sums[t / 32] = sum;
    __syncthreads();
    if (t < 32) {
        sum = sums[lane];  // finds: uninitialised read in block 0, threads 8-31
        for (int offset = 16; offset > 0; offset /= 2) sum += __shfl_down_sync(0xffffffff, sum, offset);
        if (t == 0) y[0] = sum;
    }
}

__global__ void good_warp_sums(const float* x, float* y, int n) {
    __shared__ float sums[32];
    int t = threadIdx.x;
    int lane = t % 32;
    float sum = x[t];
    for (int offset = 16; offset > 0; offset /= 2) sum += __shfl_down_sync(0xffffffff, sum, offset);
    if (lane == 0) sums[t / 32] = sum;
    __syncthreads();
    if (t < 32) {
        sum = lane < blockDim.x / 32 ? sums[lane] : 0.0f;
        for (int offset = 16; offset > 0; offset /= 2) sum += __shfl_down_sync(0xffffffff, sum, offset);
        if (t == 0) y[0] = sum;
    }
}

// Bins in dynamic shared memory that nobody sets to zero.
__global__ void bad_bins(const float* x, float* y, int n) {
    extern __shared__ int bins[];
    int t = threadIdx.x;
    __syncthreads();
    atomicAdd(&bins[static_cast<int>(x[t]) % 64], 1);  // finds: uninitialised read in block 0, threads 0-255
    __syncthreads();
    if (t < 64) y[t] = bins[t];
}

__global__ void good_bins(const float* x, float* y, int n) {
    extern __shared__ int bins[];
    int t = threadIdx.x;
    if (t < 64) bins[t] = 0;
    __syncthreads();
    atomicAdd(&bins[static_cast<int>(x[t]) % 64], 1);
    __syncthreads();
    if (t < 64) y[t] = bins[t];
}

// Two buffers in turn; the first round reads the one that is still empty.
__global__ void bad_first_buffer(const float* x, float* y, int n) {
    __shared__ float buffers[2][128];
    int t = threadIdx.x;
    float sum = 0.0f;
    buffers[1][t] = x[t];
    __syncthreads();
    for (int round = 0; round < 4; round++) {
        sum += buffers[round % 2][127 - t];  // finds: uninitialised read in block 0, threads 0-127
        buffers[(round + 1) % 2][t] = x[128 * (round + 1) + t];
        __syncthreads();
    }
    y[t] = sum;
}

__global__ void good_first_buffer(const float* x, float* y, int n) {
    __shared__ float buffers[2][128];
    int t = threadIdx.x;
    float sum = 0.0f;
    buffers[0][t] = x[t];
    __syncthreads();
    for (int round = 0; round < 4; round++) {
        sum += buffers[round % 2][127 - t];
        buffers[(round + 1) % 2][t] = x[128 * (round + 1) + t];
        __syncthreads();
    }
    y[t] = sum;
}

// --- local memory ----------------------------------------------------------------------------------------------------

// Seven of eight values are set; which one is read depends on the data.
__global__ void bad_local_value(const float* x, float* y, int n) {
    float values[8];
    for (int k = 0; k < 7; k++) values[static_cast<int>(x[k])] = x[threadIdx.x] + k;
    y[threadIdx.x] = values[static_cast<int>(x[threadIdx.x]) % 8];  // finds: uninitialised read in block 0, threads 7-31
}

__global__ void good_local_value(const float* x, float* y, int n) {
    float values[8];
    for (int k = 0; k < 8; k++) values[static_cast<int>(x[k])] = x[threadIdx.x] + k;
    y[threadIdx.x] = values[static_cast<int>(x[threadIdx.x]) % 8];
}

// Sums by class, in an array that does not start at zero.
__global__ void bad_local_sums(const float* x, float* y, int n) {
    float sums[8];
    for (int k = 0; k < 30; k++) {
        sums[static_cast<int>(x[k]) % 8] += x[k];  // finds: uninitialised read in block 0, threads 0-31
    }
    y[threadIdx.x] = sums[static_cast<int>(x[threadIdx.x]) % 8];
}

__global__ void good_local_sums(const float* x, float* y, int n) {
    float sums[8] = {};
    for (int k = 0; k < 30; k++) {
        sums[static_cast<int>(x[k]) % 8] += x[k];
    }
    y[threadIdx.x] = sums[static_cast<int>(x[threadIdx.x]) % 8];
}

// --- global memory ---------------------------------------------------------------------------------------------------

// The sum of everything, added to memory of torch::empty.
__global__ void bad_accumulator(const float* x, float* sum, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) atomicAdd(sum, x[i]);  // finds: uninitialised read in block 0-3, threads 0-255
}

__global__ void good_accumulator(const float* x, float* sum, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) atomicAdd(sum, x[i]);
}

// Added to an output of torch::empty_like, each element by one thread.
__global__ void bad_added_to(const float* x, float* y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] += 2.0f * x[i];  // finds: uninitialised read in block 0-3, threads 0-255
}

__global__ void good_added_to(const float* x, float* y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] += 2.0f * x[i];
}

// cudaMemset takes bytes and was given elements.
__global__ void bad_short_memset(const float* x, float* y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] += x[i];  // finds: uninitialised read in block 0-3, threads 0-255
}

__global__ void good_short_memset(const float* x, float* y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] += x[i];
}

// So was cudaMemcpy.
__global__ void bad_short_copy(const float* copy, float* y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] = copy[i];  // finds: uninitialised read in block 0-3, threads 0-255
}

__global__ void good_short_copy(const float* copy, float* y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] = copy[i];
}

// One partial sum per block, of which the second kernel adds one too many.
__global__ void partial_sums(const float* x, float* partial, int n) {
    __shared__ float sums[256];
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    sums[threadIdx.x] = i < n ? x[i] : 0.0f;
    __syncthreads();
    if (threadIdx.x == 0) {
        float sum = 0.0f;
        for (int k = 0; k < 256; k++) sum += sums[k];
        partial[blockIdx.x] = sum;
    }
}

__global__ void bad_sum_of_partials(const float* partial, float* y, int blocks) {
    float sum = 0.0f;
    for (int k = 0; k <= blocks; k++) sum += partial[k];  // finds: uninitialised read in block 0, threads 0-31
    y[threadIdx.x] = sum;
}

__global__ void good_sum_of_partials(const float* partial, float* y, int blocks) {
    float sum = 0.0f;
    for (int k = 0; k < blocks; k++) sum += partial[k];
    y[threadIdx.x] = sum;
}

// Points of three numbers, padded to four; the fourth is used and never set.
__global__ void bad_points(const float* x, float4* points, int n) {
    int i = threadIdx.x;
    points[i].x = x[3 * i];
    points[i].y = x[3 * i + 1];
    points[i].z = x[3 * i + 2];
    __syncthreads();
    float4 other = points[i ^ 1];  // finds: uninitialised read in block 0, threads 0-127
    points[128 + i] = make_float4(other.x, other.y, other.z, other.w);
}

__global__ void good_points(const float* x, float4* points, int n) {
    int i = threadIdx.x;
    points[i] = make_float4(x[3 * i], x[3 * i + 1], x[3 * i + 2], 0.0f);
    __syncthreads();
    float4 other = points[i ^ 1];
    points[128 + i] = make_float4(other.x, other.y, other.z, other.w);
}

// --- host ------------------------------------------------------------------------------------------------------------

using Kernel = void (*)(const float* x, float* y, int n);
using Call = std::function<Tensor(Tensor x)>;

// The kernel's output, made by torch::zeros where `zeroed`, else by torch::empty.
Call launched(Kernel kernel, int blocks, int threads, int shared_bytes = 0, bool zeroed = true) {
    return [=](Tensor x) {
        auto y = zeroed ? torch::zeros_like(x) : torch::empty_like(x);
        kernel<<<blocks, threads, shared_bytes>>>(x.data_ptr<float>(), y.data_ptr<float>(), x.numel());
        C10_CUDA_KERNEL_LAUNCH_CHECK();
        return y;
    };
}

Call after_memset(Kernel kernel, size_t size) {
    return [=](Tensor x) {
        auto y = torch::empty_like(x);
        C10_CUDA_CHECK(cudaMemsetAsync(y.data_ptr<float>(), 0, x.numel() * size));
        kernel<<<4, 256>>>(x.data_ptr<float>(), y.data_ptr<float>(), x.numel());
        return y;
    };
}

Call after_copy(Kernel kernel, size_t size) {
    return [=](Tensor x) {
        auto copy = torch::empty_like(x);
        auto y = torch::zeros_like(x);
        C10_CUDA_CHECK(cudaMemcpyAsync(
            copy.data_ptr<float>(), x.data_ptr<float>(), x.numel() * size, cudaMemcpyDeviceToDevice));
        kernel<<<4, 256>>>(copy.data_ptr<float>(), y.data_ptr<float>(), x.numel());
        return y;
    };
}

Call after_partial_sums(Kernel kernel) {
    return [=](Tensor x) {
        auto partial = torch::empty({8}, x.options());
        auto y = torch::empty({32}, x.options());
        partial_sums<<<4, 256>>>(x.data_ptr<float>(), partial.data_ptr<float>(), x.numel());
        kernel<<<1, 32>>>(partial.data_ptr<float>(), y.data_ptr<float>(), 4);
        return y;
    };
}

Call into_points(void (*kernel)(const float* x, float4* points, int n)) {
    return [=](Tensor x) {
        auto points = torch::empty({256, 4}, x.options());
        kernel<<<1, 128>>>(x.data_ptr<float>(), reinterpret_cast<float4*>(points.data_ptr<float>()), x.numel());
        return points;
    };
}

struct Twins {
    const char* name;
    Call bad;
    Call good;
};

const Twins table[] = {
    {"halo", launched(bad_halo, 1, 128), launched(good_halo, 1, 128)},
    {"tail_lanes", launched(bad_tail_lanes, 4, 256), launched(good_tail_lanes, 4, 256)},
    {"warp_sums", launched(bad_warp_sums, 1, 256), launched(good_warp_sums, 1, 256)},
    {"bins", launched(bad_bins, 1, 256, 256), launched(good_bins, 1, 256, 256)},
    {"first_buffer", launched(bad_first_buffer, 1, 128), launched(good_first_buffer, 1, 128)},
    {"local_value", launched(bad_local_value, 1, 32), launched(good_local_value, 1, 32)},
    {"local_sums", launched(bad_local_sums, 1, 32), launched(good_local_sums, 1, 32)},
    {"accumulator", launched(bad_accumulator, 4, 256, 0, false), launched(good_accumulator, 4, 256, 0, true)},
    {"added_to", launched(bad_added_to, 4, 256, 0, false), launched(good_added_to, 4, 256, 0, true)},
    {"short_memset", after_memset(bad_short_memset, 1), after_memset(good_short_memset, sizeof(float))},
    {"short_copy", after_copy(bad_short_copy, 1), after_copy(good_short_copy, sizeof(float))},
    {"sum_of_partials", after_partial_sums(bad_sum_of_partials), after_partial_sums(good_sum_of_partials)},
    {"points", into_points(bad_points), into_points(good_points)},
};

// What the test calls: one side of one row.
Tensor forward(Tensor x, int64_t row, bool good) { return (good ? table[row].good : table[row].bad)(x); }

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) { m.def("forward", &forward); }
