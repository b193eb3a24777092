// Known-bad kernels for the memory checker, each above its honest twin; tests/emulator/checkers says how they are read.
#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAException.h>
#include <torch/extension.h>

#include <functional>

using torch::Tensor;

// --- global memory ---------------------------------------------------------------------------------------------------

// The last block is not full.
__global__ void bad_tail(const float* x, float* y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    y[i] = 2.0f * x[i];  // finds: out of bounds in block 3, threads 233-255
}

__global__ void good_tail(const float* x, float* y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] = 2.0f * x[i];
}

// Grid-stride loop, one round too many.
__global__ void bad_last_element(const float* x, float* y, int n) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i <= n; i += gridDim.x * blockDim.x) {
        y[i] = 1.0f;  // finds: out of bounds in block 0, thread 105
    }
}

__global__ void good_last_element(const float* x, float* y, int n) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) {
        y[i] = 1.0f;
    }
}

// The first element has no left neighbour.
__global__ void bad_left_neighbour(const float* x, float* y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) {
        float left = x[i - 1];  // finds: out of bounds in block 0, thread 0
        y[i] = x[i] - left;
    }
}

__global__ void good_left_neighbour(const float* x, float* y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) {
        float left = i > 0 ? x[i - 1] : 0.0f;
        y[i] = x[i] - left;
    }
}

// One row of seven per block; the rows are dense, not padded to a multiple of 32.
__global__ void bad_pitch(const float* x, float* y, int n) {
    int cols = n / gridDim.x;
    int pitch = (cols + 31) / 32 * 32;
    int col = threadIdx.x;
    if (col < cols) {
        y[blockIdx.x * pitch + col] = 1.0f;  // finds: out of bounds in block 6, threads 41-142
    }
}

__global__ void good_pitch(const float* x, float* y, int n) {
    int cols = n / gridDim.x;
    int pitch = cols;
    int col = threadIdx.x;
    if (col < cols) {
        y[blockIdx.x * pitch + col] = 1.0f;
    }
}

// The length is not a multiple of the vector's.
__global__ void bad_vector_tail(const float* x, float* y, int n) {
    for (int i = threadIdx.x; i < (n + 3) / 4; i += blockDim.x) {
        float4 v = reinterpret_cast<const float4*>(x)[i];  // finds: out of bounds in block 0, thread 122
        y[4 * i] = v.x + v.y + v.z + v.w;
    }
}

__global__ void good_vector_tail(const float* x, float* y, int n) {
    for (int i = threadIdx.x; i < n / 4; i += blockDim.x) {
        float4 v = reinterpret_cast<const float4*>(x)[i];
        y[4 * i] = v.x + v.y + v.z + v.w;
    }
}

// Indices that come from memory.
__global__ void bad_gather(const float* x, float* y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) {
        int from = static_cast<int>(x[i]) + 1;
        y[i] = x[from];  // finds: out of bounds in block 3, thread 232
    }
}

__global__ void good_gather(const float* x, float* y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) {
        int from = static_cast<int>(x[i]);
        y[i] = x[from];
    }
}

// A histogram whose last bin was forgotten, so to speak: the largest value has no place.
__global__ void bad_scatter(const float* x, float* y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) {
        int bin = static_cast<int>(x[i]) + 1;
        atomicAdd(&y[bin], 1.0f);  // finds: out of bounds in block 3, thread 232
    }
}

__global__ void good_scatter(const float* x, float* y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) {
        int bin = static_cast<int>(x[i]);
        atomicAdd(&y[bin], 1.0f);
    }
}

// Two tensors that are thought to lie one behind the other.
__global__ void bad_two_tensors(const float* both, float* y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) {
        y[i] = both[i] + both[n + i];  // finds: out of bounds in block 0-3, threads 0-255
    }
}

__global__ void good_two_tensors(const float* both, float* y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) {
        y[i] = both[i] + both[n + i];
    }
}

// --- shared and local memory -----------------------------------------------------------------------------------------

// Dynamic shared memory counted in elements where bytes are wanted.
__global__ void bad_dynamic_size(const float* x, float* y, int n) {
    extern __shared__ float tile[];
    tile[threadIdx.x] = x[threadIdx.x];  // finds: out of bounds in block 0, threads 64-255
    __syncthreads();
    y[threadIdx.x] = tile[threadIdx.x ^ 1];  // finds: out of bounds in block 0, threads 64-255
}

__global__ void good_dynamic_size(const float* x, float* y, int n) {
    extern __shared__ float tile[];
    tile[threadIdx.x] = x[threadIdx.x];
    __syncthreads();
    y[threadIdx.x] = tile[threadIdx.x ^ 1];
}

// Space for the left halo, none for the right one.
__global__ void bad_halo_space(const float* x, float* y, int n) {
    __shared__ float tile[257];
    int t = threadIdx.x;
    tile[t + 1] = x[t + 1];
    if (t == 0) tile[0] = x[0];
    if (t == 255) tile[t + 2] = x[t + 2];  // finds: out of bounds in block 0, thread 255
    __syncthreads();
    y[t] = tile[t] + tile[t + 1];
}

__global__ void good_halo_space(const float* x, float* y, int n) {
    __shared__ float tile[258];
    int t = threadIdx.x;
    tile[t + 1] = x[t + 1];
    if (t == 0) tile[0] = x[0];
    if (t == 255) tile[t + 2] = x[t + 2];
    __syncthreads();
    y[t] = tile[t] + tile[t + 1];
}

// The first thread reads before the tile.
__global__ void bad_before_tile(const float* x, float* y, int n) {
    __shared__ float tile[256];
    int t = threadIdx.x;
    tile[t] = x[t];
    __syncthreads();
    y[t] = tile[t] - tile[t - 1];  // finds: out of bounds in block 0, thread 0
}

__global__ void good_before_tile(const float* x, float* y, int n) {
    __shared__ float tile[256];
    int t = threadIdx.x;
    tile[t] = x[t];
    __syncthreads();
    y[t] = t > 0 ? tile[t] - tile[t - 1] : tile[t];
}

// Eight values per thread, written to nine places.
__global__ void bad_local_write(const float* x, float* y, int n) {
    float values[8];
    int count = n > 1000 ? 8 : 7;
    for (int k = 0; k < 8; k++) values[k] = 0.0f;
    for (int k = 0; k <= count; k++) {
        values[static_cast<int>(x[k])] = x[threadIdx.x];  // finds: out of bounds in block 0, threads 0-31
    }
    y[threadIdx.x] = values[static_cast<int>(x[threadIdx.x % 8])];
}

__global__ void good_local_write(const float* x, float* y, int n) {
    float values[8];
    int count = n > 1000 ? 8 : 7;
    for (int k = 0; k < 8; k++) values[k] = 0.0f;
    for (int k = 0; k < count; k++) {
        values[static_cast<int>(x[k])] = x[threadIdx.x];
    }
    y[threadIdx.x] = values[static_cast<int>(x[threadIdx.x % 8])];
}

// A small table that is read one entry too far by every ninth thread.
__global__ void bad_local_read(const float* x, float* y, int n) {
    float table[8];
    for (int k = 0; k < 8; k++) table[k] = x[k] * x[k];
    y[threadIdx.x] = table[static_cast<int>(x[threadIdx.x]) % 9];  // finds: out of bounds in block 0, threads 8-31
}

__global__ void good_local_read(const float* x, float* y, int n) {
    float table[8];
    for (int k = 0; k < 8; k++) table[k] = x[k] * x[k];
    y[threadIdx.x] = table[static_cast<int>(x[threadIdx.x]) % 8];
}

// --- life times, alignment, null and constant memory -----------------------------------------------------------------

// The workspace is freed by the host before the kernel is launched.
__global__ void bad_freed_workspace(const float* x, float* workspace, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) workspace[i] = x[i];  // finds: use after free in block 0-3, threads 0-255
}

__global__ void good_freed_workspace(const float* x, float* workspace, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) workspace[i] = x[i];
}

// The pointer of a tensor that was a temporary. Inside the launch's own arguments it would live long enough.
__global__ void bad_temporary(const float* doubled, float* y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] = doubled[i];  // finds: use after free in block 0-3, threads 0-255
}

__global__ void good_temporary(const float* doubled, float* y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] = doubled[i];
}

// Vectors from an odd start.
__global__ void bad_odd_start(const float* x, float* y, int n) {
    const float4* from = reinterpret_cast<const float4*>(x + 1);
    float4 v = from[threadIdx.x];  // finds: misaligned in block 0, threads 0-63
    y[threadIdx.x] = v.x + v.y + v.z + v.w;
}

__global__ void good_odd_start(const float* x, float* y, int n) {
    const float4* from = reinterpret_cast<const float4*>(x + 4);
    float4 v = from[threadIdx.x];
    y[threadIdx.x] = v.x + v.y + v.z + v.w;
}

// Rows of a shared tile, padded against bank conflicts by an odd number, read as vectors.
__global__ void bad_padded_vector(const float* x, float* y, int n) {
    __shared__ float tile[32][33];
    for (int row = 0; row < 32; row++) tile[row][threadIdx.x] = x[row * 31 + threadIdx.x];
    __syncthreads();
    float2 v = *reinterpret_cast<const float2*>(tile[threadIdx.x]);  // finds: misaligned in block 0, threads 1-31
    y[threadIdx.x] = v.x + v.y;
}

__global__ void good_padded_vector(const float* x, float* y, int n) {
    __shared__ float tile[32][34];
    for (int row = 0; row < 32; row++) tile[row][threadIdx.x] = x[row * 31 + threadIdx.x];
    __syncthreads();
    float2 v = *reinterpret_cast<const float2*>(tile[threadIdx.x]);
    y[threadIdx.x] = v.x + v.y;
}

// An optional argument that is not there.
__global__ void bad_no_bias(const float* x, const float* bias, float* y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] = x[i] + bias[i];  // finds: null pointer in block 0-3, threads 0-255
}

__global__ void good_no_bias(const float* x, const float* bias, float* y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] = x[i] + (bias != nullptr ? bias[i] : 0.0f);
}

// Constant memory is the host's to write.
__constant__ float weights[64];

__global__ void bad_constant(const float* x, float* kept, int n) {
    kept[threadIdx.x] = x[threadIdx.x] + weights[1];  // finds: write to const in block 0, threads 0-63
}

__global__ void good_constant(const float* x, float* kept, int n) {
    kept[threadIdx.x] = x[threadIdx.x] + weights[1];
}

// --- host ------------------------------------------------------------------------------------------------------------

using Kernel = void (*)(const float* x, float* y, int n);
using Call = std::function<Tensor(Tensor x)>;

Call launched(Kernel kernel, int blocks, int threads, int shared_bytes = 0) {
    return [=](Tensor x) {
        auto y = torch::zeros_like(x);
        kernel<<<blocks, threads, shared_bytes>>>(x.data_ptr<float>(), y.data_ptr<float>(), x.numel());
        C10_CUDA_KERNEL_LAUNCH_CHECK();
        return y;
    };
}

Tensor two_tensors(Tensor x) {
    auto first = x.clone();
    auto second = x.clone();
    auto y = torch::zeros_like(x);
    bad_two_tensors<<<4, 256>>>(first.data_ptr<float>(), y.data_ptr<float>(), x.numel());
    return y;
}

Tensor one_tensor(Tensor x) {
    auto both = torch::zeros({2, x.numel()}, x.options());
    auto y = torch::zeros_like(x);
    good_two_tensors<<<4, 256>>>(both.data_ptr<float>(), y.data_ptr<float>(), x.numel());
    return y;
}

Tensor freed_early(Tensor x) {
    void* workspace = nullptr;
    C10_CUDA_CHECK(cudaMalloc(&workspace, x.numel() * sizeof(float)));
    C10_CUDA_CHECK(cudaFree(workspace));
    bad_freed_workspace<<<4, 256>>>(x.data_ptr<float>(), static_cast<float*>(workspace), x.numel());
    return x.clone();
}

Tensor freed_late(Tensor x) {
    void* workspace = nullptr;
    C10_CUDA_CHECK(cudaMalloc(&workspace, x.numel() * sizeof(float)));
    good_freed_workspace<<<4, 256>>>(x.data_ptr<float>(), static_cast<float*>(workspace), x.numel());
    C10_CUDA_CHECK(cudaFree(workspace));
    return x.clone();
}

Tensor expired_temporary(Tensor x) {
    auto y = torch::zeros_like(x);
    const float* cloned = x.clone().data_ptr<float>();
    bad_temporary<<<4, 256>>>(cloned, y.data_ptr<float>(), x.numel());
    return y;
}

Tensor temporary_argument(Tensor x) {
    auto y = torch::zeros_like(x);
    good_temporary<<<4, 256>>>(x.clone().data_ptr<float>(), y.data_ptr<float>(), x.numel());
    return y;
}

Call without_bias(void (*kernel)(const float* x, const float* bias, float* y, int n)) {
    return [=](Tensor x) {
        auto y = torch::zeros_like(x);
        kernel<<<4, 256>>>(x.data_ptr<float>(), nullptr, y.data_ptr<float>(), x.numel());
        return y;
    };
}

Tensor kept_in_constants(Tensor x) {
    void* kept = nullptr;
    C10_CUDA_CHECK(cudaGetSymbolAddress(&kept, weights));
    bad_constant<<<1, 64>>>(x.data_ptr<float>(), static_cast<float*>(kept), x.numel());
    return x.clone();
}

Tensor kept_in_a_tensor(Tensor x) {
    auto kept = torch::empty({64}, x.options());
    good_constant<<<1, 64>>>(x.data_ptr<float>(), kept.data_ptr<float>(), x.numel());
    return x.clone();
}

struct Twins {
    const char* name;
    Call bad;
    Call good;
};

const Twins table[] = {
    {"tail", launched(bad_tail, 4, 256), launched(good_tail, 4, 256)},
    {"last_element", launched(bad_last_element, 7, 128), launched(good_last_element, 7, 128)},
    {"left_neighbour", launched(bad_left_neighbour, 4, 256), launched(good_left_neighbour, 4, 256)},
    {"pitch", launched(bad_pitch, 7, 160), launched(good_pitch, 7, 160)},
    {"vector_tail", launched(bad_vector_tail, 1, 128), launched(good_vector_tail, 1, 128)},
    {"gather", launched(bad_gather, 4, 256), launched(good_gather, 4, 256)},
    {"scatter", launched(bad_scatter, 4, 256), launched(good_scatter, 4, 256)},
    {"two_tensors", two_tensors, one_tensor},
    {"dynamic_size", launched(bad_dynamic_size, 1, 256, 256), launched(good_dynamic_size, 1, 256, 1024)},
    {"halo_space", launched(bad_halo_space, 1, 256), launched(good_halo_space, 1, 256)},
    {"before_tile", launched(bad_before_tile, 1, 256), launched(good_before_tile, 1, 256)},
    {"local_write", launched(bad_local_write, 1, 32), launched(good_local_write, 1, 32)},
    {"local_read", launched(bad_local_read, 1, 32), launched(good_local_read, 1, 32)},
    {"freed_workspace", freed_early, freed_late},
    {"temporary", expired_temporary, temporary_argument},
    {"odd_start", launched(bad_odd_start, 1, 64), launched(good_odd_start, 1, 64)},
    {"padded_vector", launched(bad_padded_vector, 1, 32), launched(good_padded_vector, 1, 32)},
    {"no_bias", without_bias(bad_no_bias), without_bias(good_no_bias)},
    {"constant", kept_in_constants, kept_in_a_tensor},
};

// What the test calls: one side of one row.
Tensor forward(Tensor x, int64_t row, bool good) { return (good ? table[row].good : table[row].bad)(x); }

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) { m.def("forward", &forward); }
