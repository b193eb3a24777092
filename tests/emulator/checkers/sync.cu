// Known-bad kernels for the sync checker, each above its honest twin; tests/emulator/checkers says how they are read.
#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAException.h>
#include <torch/extension.h>

#include <functional>

using torch::Tensor;

// --- barriers of a block ---------------------------------------------------------------------------------------------

// Some threads wait inside a branch, the others at the next barrier.
__global__ void bad_barrier_in_branch(const float* x, float* y, int n) {
    __shared__ float tile[128];
    int t = threadIdx.x;
    tile[t] = x[t];
    if (t < 64) {
        __syncthreads();  // finds: divergent barrier in block 0, threads 0-127
        y[t] = tile[63 - t];
    }
    __syncthreads();  // finds: divergent barrier in block 0, threads 0-127
    y[128 + t] = tile[127 - t];
}

__global__ void good_barrier_in_branch(const float* x, float* y, int n) {
    __shared__ float tile[128];
    int t = threadIdx.x;
    tile[t] = x[t];
    __syncthreads();
    if (t < 64) {
        y[t] = tile[63 - t];
    }
    __syncthreads();
    y[128 + t] = tile[127 - t];
}

// The same within one warp: odd lanes wait elsewhere than even ones.
__global__ void bad_barrier_in_warp(const float* x, float* y, int n) {
    __shared__ float tile[64];
    int t = threadIdx.x;
    if (t % 2 == 0) {
        tile[t] = x[t];
        __syncthreads();  // finds: divergent barrier in block 0, threads 0-63
    } else {
        tile[t] = -x[t];
        __syncthreads();  // finds: divergent barrier in block 0, threads 0-63
        y[t] = 1.0f;
    }
    y[64 + t] = tile[63 - t];
}

__global__ void good_barrier_in_warp(const float* x, float* y, int n) {
    __shared__ float tile[64];
    int t = threadIdx.x;
    if (t % 2 == 0) {
        tile[t] = x[t];
    } else {
        tile[t] = -x[t];
        y[t] = 1.0f;
    }
    __syncthreads();
    y[64 + t] = tile[63 - t];
}

// A grid-stride loop whose last round only some threads enter, and a barrier behind it.
__global__ void bad_barrier_in_loop(const float* x, float* y, int n) {
    __shared__ float tile[256];
    int t = threadIdx.x;
    float sum = 0.0f;
    for (int i = t; i < n; i += 256) {
        tile[t] = x[i];
        __syncthreads();  // finds: divergent barrier in block 0, threads 0-255
        sum += tile[t ^ 1];
        __syncthreads();  // finds: divergent barrier in block 0, threads 0-255
    }
    tile[t] = sum;
    __syncthreads();  // finds: divergent barrier in block 0, threads 0-255
    y[t] = tile[255 - t];
}

__global__ void good_barrier_in_loop(const float* x, float* y, int n) {
    __shared__ float tile[256];
    int t = threadIdx.x;
    float sum = 0.0f;
    for (int i = t; i < (n + 255) / 256 * 256; i += 256) {
        tile[t] = i < n ? x[i] : 0.0f;
        __syncthreads();
        sum += tile[t ^ 1];
        __syncthreads();
    }
    tile[t] = sum;
    __syncthreads();
    y[t] = tile[255 - t];
}

// The same loop, behind which threads are done. The compiler makes two loops of it, by the number of rounds, and the lanes
// of the last warp wait in both.
__global__ void bad_barrier_in_last_round(const float* x, float* y, int n) {
    __shared__ float tile[256];
    int t = threadIdx.x;
    for (int i = t; i < n; i += 256) {
        tile[t] = x[i];
        __syncthreads();  // finds: divergent barrier in block 0, threads 0-255
        y[i] = tile[t & ~1];
        __syncthreads();  // finds: divergent barrier in block 0, threads 0-255
    }
}

__global__ void good_barrier_in_last_round(const float* x, float* y, int n) {
    __shared__ float tile[256];
    int t = threadIdx.x;
    for (int i = t; i < (n + 255) / 256 * 256; i += 256) {
        tile[t] = i < n ? x[i] : 0.0f;
        __syncthreads();
        if (i < n) y[i] = tile[t & ~1];
        __syncthreads();
    }
}

// A barrier of 256 threads, of which a quarter has left. One without a number would wait for those that are still there.
__global__ void bad_early_return(const float* x, float* y, int n) {
    __shared__ float tile[256];
    int t = threadIdx.x;
    tile[t] = x[t];
    if (t >= 192) return;
    asm volatile("bar.sync 1, 256;" ::: "memory");  // finds: exited before barrier in block 0, threads 0-191
    y[t] = tile[191 - t];
}

__global__ void good_early_return(const float* x, float* y, int n) {
    __shared__ float tile[256];
    int t = threadIdx.x;
    tile[t] = x[t];
    if (t >= 192) return;
    asm volatile("bar.sync 1, 192;" ::: "memory");
    y[t] = tile[191 - t];
}

// Producers and consumers name different barriers.
__global__ void bad_barrier_names(const float* x, float* y, int n) {
    __shared__ float tile[64];
    int t = threadIdx.x;
    if (t < 64) {
        tile[t] = x[t];
        asm volatile("bar.arrive 1, 128;" ::: "memory");
    } else {
        asm volatile("bar.sync 2, 128;" ::: "memory");  // finds: divergent barrier in block 0, threads 64-127
        y[t] = tile[t - 64];
    }
}

__global__ void good_barrier_names(const float* x, float* y, int n) {
    __shared__ float tile[64];
    int t = threadIdx.x;
    if (t < 64) {
        tile[t] = x[t];
        asm volatile("bar.arrive 1, 128;" ::: "memory");
    } else {
        asm volatile("bar.sync 1, 128;" ::: "memory");
        y[t] = tile[t - 64];
    }
}

// --- masks -----------------------------------------------------------------------------------------------------------

// A mask of sixteen lanes, given by thirty-two.
__global__ void bad_half_mask(const float* x, float* y, int n) {
    float sum = x[threadIdx.x];
    unsigned mask = (1u << (n / 62)) - 1;
    for (int offset = 8; offset > 0; offset /= 2) {
        sum += __shfl_xor_sync(mask, sum, offset);  // finds: wrong mask in block 0, threads 16-31
    }
    y[threadIdx.x] = sum;
}

__global__ void good_half_mask(const float* x, float* y, int n) {
    float sum = x[threadIdx.x];
    unsigned mask = ((1u << (n / 62)) - 1) << (threadIdx.x / 16 * 16);
    for (int offset = 8; offset > 0; offset /= 2) {
        sum += __shfl_xor_sync(mask, sum, offset);
    }
    y[threadIdx.x] = sum;
}

// A mask of C lanes by a shift that wraps around when C is 32: no lanes are left.
__global__ void bad_wrapped_mask(const float* x, float* y, int n) {
    int lanes = n / 31;
    unsigned mask = (1u << (lanes & 31)) - 1;
    if (threadIdx.x < lanes) {
        y[threadIdx.x] = __shfl_sync(mask, x[threadIdx.x], 0);  // finds: wrong mask in block 0, threads 0-31
    }
}

__global__ void good_wrapped_mask(const float* x, float* y, int n) {
    int lanes = n / 31;
    unsigned mask = 0xffffffffu >> (32 - lanes);
    if (threadIdx.x < lanes) {
        y[threadIdx.x] = __shfl_sync(mask, x[threadIdx.x], 0);
    }
}

// All lanes are named, some are elsewhere.
__global__ void bad_shuffle_in_branch(const float* x, float* y, int n) {
    float sum = x[threadIdx.x];
    if (threadIdx.x < 16) {
        for (int offset = 8; offset > 0; offset /= 2) {
            sum += __shfl_down_sync(0xffffffff, sum, offset, 16);  // finds: wrong mask in block 0, threads 0-31
        }
    }
    y[threadIdx.x] = sum;
}

__global__ void good_shuffle_in_branch(const float* x, float* y, int n) {
    float sum = x[threadIdx.x];
    if (threadIdx.x < 16) {
        for (int offset = 8; offset > 0; offset /= 2) {
            sum += __shfl_down_sync(0x0000ffff, sum, offset, 16);
        }
    }
    y[threadIdx.x] = sum;
}

// The last warp is not full: 1001 = 31 * 32 + 9. All lanes vote afterwards.
__global__ void bad_shuffle_in_tail(const float* x, float* y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    unsigned mask = 0xffffffff;
    float before = 0.0f;
    if (i < n) before = __shfl_up_sync(mask, x[i], 1);  // finds: wrong mask in block 7, threads 96-127
    int rising = __popc(__ballot_sync(0xffffffff, i < n && x[i] > before));
    if (i < n) y[i] = rising;
}

__global__ void good_shuffle_in_tail(const float* x, float* y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    unsigned mask = __ballot_sync(0xffffffff, i < n);
    float before = 0.0f;
    if (i < n) before = __shfl_up_sync(mask, x[i], 1);
    int rising = __popc(__ballot_sync(0xffffffff, i < n && x[i] > before));
    if (i < n) y[i] = rising;
}

// Lanes that go around a barrier of the warp are named in it. Had they left, they would not count.
__global__ void bad_absent_lanes(const float* x, float* y, int n) {
    __shared__ float tile[32];
    int t = threadIdx.x;
    if (x[t] < 24.0f) {
        tile[t] = x[t];
        __syncwarp();  // finds: wrong mask in block 0, threads 0-31
        y[t] = tile[23 - t];
    }
    y[32 + t] = x[t];
}

__global__ void good_absent_lanes(const float* x, float* y, int n) {
    __shared__ float tile[32];
    int t = threadIdx.x;
    if (x[t] < 24.0f) {
        tile[t] = x[t];
        __syncwarp(0x00ffffff);
        y[t] = tile[23 - t];
    }
    y[32 + t] = x[t];
}

// A vote of half the lanes, cast by all.
__global__ void bad_ballot_mask(const float* x, float* y, int n) {
    unsigned votes = __ballot_sync(0x0000ffff, x[threadIdx.x] > 8.0f);  // finds: wrong mask in block 0, threads 16-31
    y[threadIdx.x] = __popc(votes);
}

__global__ void good_ballot_mask(const float* x, float* y, int n) {
    unsigned votes = __ballot_sync(0xffffffff, x[threadIdx.x] > 8.0f);
    y[threadIdx.x] = __popc(votes);
}

// A vote in a loop that lanes leave one after the other.
__global__ void bad_vote_in_loop(const float* x, float* y, int n) {
    int rounds = 0;
    for (int k = 0; k < threadIdx.x; k++) {
        if (__any_sync(0xffffffff, x[k] > 20.0f)) rounds++;  // finds: wrong mask in block 0, threads 0-31
    }
    y[threadIdx.x] = rounds;
}

__global__ void good_vote_in_loop(const float* x, float* y, int n) {
    int rounds = 0;
    for (int k = 0; k < 32; k++) {
        if (__any_sync(0xffffffff, x[k] > 20.0f)) rounds++;
    }
    y[threadIdx.x] = rounds;
}

// The mask of a moment that has passed: it was taken before the branch.
__global__ void bad_stale_mask(const float* x, float* y, int n) {
    unsigned mask = __activemask();
    float v = x[threadIdx.x];
    if (static_cast<int>(v) % 3 != 0) {
        y[threadIdx.x] = __shfl_sync(mask, v, 1);  // finds: wrong mask in block 0, threads 0-31
    }
    y[32 + threadIdx.x] = v;
}

__global__ void good_stale_mask(const float* x, float* y, int n) {
    float v = x[threadIdx.x];
    unsigned mask = __ballot_sync(0xffffffff, static_cast<int>(v) % 3 != 0);
    if (static_cast<int>(v) % 3 != 0) {
        y[threadIdx.x] = __shfl_sync(mask, v, 1);
    }
    y[32 + threadIdx.x] = v;
}

// Lanes that execute together and do not agree on who they are.
__global__ void bad_masks_of_groups(const float* x, float* y, int n) {
    unsigned mask = threadIdx.x < 8 ? 0x000000ffu : 0xffffffffu;
    y[threadIdx.x] = __shfl_xor_sync(mask, x[threadIdx.x], 1);  // finds: wrong mask in block 0, threads 0-31
}

__global__ void good_masks_of_groups(const float* x, float* y, int n) {
    unsigned mask = threadIdx.x < 8 ? 0x000000ffu : 0xffffff00u;
    y[threadIdx.x] = __shfl_xor_sync(mask, x[threadIdx.x], 1);
}

// The sum of integers in one instruction, with the mask of a branch that ends before it.
__global__ void bad_reduce_mask(const float* x, float* y, int n) {
    unsigned mask = __ballot_sync(0xffffffff, x[threadIdx.x] < 10.0f);
    int sum = 0;
    if (x[threadIdx.x] < 10.0f) {
        y[32 + threadIdx.x] = 1.0f;
    }
    sum = __reduce_add_sync(mask, static_cast<int>(x[threadIdx.x]));  // finds: wrong mask in block 0, threads 10-31
    y[threadIdx.x] = sum;
}

__global__ void good_reduce_mask(const float* x, float* y, int n) {
    unsigned mask = __ballot_sync(0xffffffff, x[threadIdx.x] < 10.0f);
    int sum = 0;
    if (x[threadIdx.x] < 10.0f) {
        y[32 + threadIdx.x] = 1.0f;
        sum = __reduce_add_sync(mask, static_cast<int>(x[threadIdx.x]));
    }
    y[threadIdx.x] = sum;
}

// --- lanes to read from ----------------------------------------------------------------------------------------------

// Sixteen lanes add up as if they were thirty-two.
__global__ void bad_down_too_far(const float* x, float* y, int n) {
    float sum = x[threadIdx.x];
    if (threadIdx.x < 16) {
        for (int offset = 16; offset > 0; offset /= 2) {
            sum += __shfl_down_sync(0x0000ffff, sum, offset);  // finds: inactive lane in block 0, threads 0-15
        }
        if (threadIdx.x == 0) y[0] = sum;
    }
}

__global__ void good_down_too_far(const float* x, float* y, int n) {
    float sum = x[threadIdx.x];
    if (threadIdx.x < 16) {
        for (int offset = 8; offset > 0; offset /= 2) {
            sum += __shfl_down_sync(0x0000ffff, sum, offset);
        }
        if (threadIdx.x == 0) y[0] = sum;
    }
}

// The lane that holds the value has taken the other branch.
__global__ void bad_owner_elsewhere(const float* x, float* y, int n) {
    float v = x[threadIdx.x];
    bool takes_part = v > 3.0f;
    unsigned mask = __ballot_sync(0xffffffff, takes_part);
    if (takes_part) {
        y[threadIdx.x] = __shfl_sync(mask, v, 0);  // finds: inactive lane in block 0, threads 4-31
    }
}

__global__ void good_owner_elsewhere(const float* x, float* y, int n) {
    float v = x[threadIdx.x];
    bool takes_part = v > 3.0f;
    unsigned mask = __ballot_sync(0xffffffff, takes_part);
    if (takes_part) {
        y[threadIdx.x] = __shfl_sync(mask, v, __ffs(mask) - 1);
    }
}

// Neighbours exchanged by lanes of which every third stays out.
__global__ void bad_missing_partner(const float* x, float* y, int n) {
    int t = threadIdx.x;
    unsigned mask = __ballot_sync(0xffffffff, t % 3 != 2);
    if (t % 3 != 2) {
        y[t] = __shfl_xor_sync(mask, x[t], 1);  // finds: inactive lane in block 0, threads 0-31
    }
}

__global__ void good_missing_partner(const float* x, float* y, int n) {
    int t = threadIdx.x;
    unsigned mask = __ballot_sync(0xffffffff, t % 4 < 2);
    if (t % 4 < 2) {
        y[t] = __shfl_xor_sync(mask, x[t], 1);
    }
}

// --- right, however it looks -----------------------------------------------------------------------------------------

// Whole warps leave; the others only talk among themselves.
__global__ void good_warps_leave(const float* x, float* y, int n) {
    int warp = (blockIdx.x * blockDim.x + threadIdx.x) / 32;
    if (warp >= 5) return;
    float sum = x[warp * 32 + threadIdx.x % 32];
    for (int offset = 16; offset > 0; offset /= 2) sum += __shfl_down_sync(0xffffffff, sum, offset);
    if (threadIdx.x % 32 == 0) y[warp] = sum;
}

// Threads that have left are not waited for, neither by the block's barrier nor by what the warp does.
__global__ void good_threads_leave(const float* x, float* y, int n) {
    __shared__ float tile[256];
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    tile[threadIdx.x] = x[i];
    __syncthreads();
    float before = __shfl_up_sync(0xffffffff, tile[threadIdx.x & ~1], 1);
    __syncwarp();
    y[i] = before;
}

// One addition per group of lanes that happen to be together.
__global__ void good_active_lanes(const float* x, float* y, int n) {
    if (static_cast<int>(x[threadIdx.x]) % 5 == 0) {
        unsigned mask = __activemask();
        int leader = __ffs(mask) - 1;
        if (threadIdx.x % 32 == leader) atomicAdd(y, static_cast<float>(__popc(mask)));
        __syncwarp(mask);
    }
}

// A branch that all threads of the block take alike may hold a barrier.
__global__ void good_uniform_branch(const float* x, float* y, int n) {
    __shared__ float tile[128];
    int t = threadIdx.x;
    tile[t] = x[t];
    if (x[blockIdx.x] > 1.0f) {
        __syncthreads();
        y[128 * blockIdx.x + t] = tile[127 - t];
    } else {
        y[128 * blockIdx.x + t] = tile[t];
    }
}

// A trip count that comes from memory, the same for the whole block.
__global__ void good_loop_of_block(const float* x, float* y, int n) {
    __shared__ float tile[128];
    int t = threadIdx.x;
    float sum = 0.0f;
    for (int k = 0; k < static_cast<int>(x[blockIdx.x + 2]); k++) {
        tile[t] = x[k + t];
        __syncthreads();
        sum += tile[127 - t];
        __syncthreads();
    }
    y[128 * blockIdx.x + t] = sum;
}

// --- host ------------------------------------------------------------------------------------------------------------

using Kernel = void (*)(const float* x, float* y, int n);
using Call = std::function<Tensor(Tensor x)>;

Call launched(Kernel kernel, int blocks, int threads) {
    return [=](Tensor x) {
        auto y = torch::zeros_like(x);
        kernel<<<blocks, threads>>>(x.data_ptr<float>(), y.data_ptr<float>(), x.numel());
        C10_CUDA_KERNEL_LAUNCH_CHECK();
        return y;
    };
}

struct Twins {
    const char* name;
    Call bad;
    Call good;
};

const Twins table[] = {
    {"barrier_in_branch", launched(bad_barrier_in_branch, 1, 128), launched(good_barrier_in_branch, 1, 128)},
    {"barrier_in_warp", launched(bad_barrier_in_warp, 1, 64), launched(good_barrier_in_warp, 1, 64)},
    {"barrier_in_loop", launched(bad_barrier_in_loop, 1, 256), launched(good_barrier_in_loop, 1, 256)},
    {"barrier_in_last_round", launched(bad_barrier_in_last_round, 1, 256),
     launched(good_barrier_in_last_round, 1, 256)},
    {"early_return", launched(bad_early_return, 1, 256), launched(good_early_return, 1, 256)},
    {"barrier_names", launched(bad_barrier_names, 1, 128), launched(good_barrier_names, 1, 128)},
    {"half_mask", launched(bad_half_mask, 1, 32), launched(good_half_mask, 1, 32)},
    {"wrapped_mask", launched(bad_wrapped_mask, 1, 32), launched(good_wrapped_mask, 1, 32)},
    {"shuffle_in_branch", launched(bad_shuffle_in_branch, 1, 32), launched(good_shuffle_in_branch, 1, 32)},
    {"shuffle_in_tail", launched(bad_shuffle_in_tail, 8, 128), launched(good_shuffle_in_tail, 8, 128)},
    {"absent_lanes", launched(bad_absent_lanes, 1, 32), launched(good_absent_lanes, 1, 32)},
    {"ballot_mask", launched(bad_ballot_mask, 1, 32), launched(good_ballot_mask, 1, 32)},
    {"vote_in_loop", launched(bad_vote_in_loop, 1, 32), launched(good_vote_in_loop, 1, 32)},
    {"stale_mask", launched(bad_stale_mask, 1, 32), launched(good_stale_mask, 1, 32)},
    {"masks_of_groups", launched(bad_masks_of_groups, 1, 32), launched(good_masks_of_groups, 1, 32)},
    {"reduce_mask", launched(bad_reduce_mask, 1, 32), launched(good_reduce_mask, 1, 32)},
    {"down_too_far", launched(bad_down_too_far, 1, 32), launched(good_down_too_far, 1, 32)},
    {"owner_elsewhere", launched(bad_owner_elsewhere, 1, 32), launched(good_owner_elsewhere, 1, 32)},
    {"missing_partner", launched(bad_missing_partner, 1, 32), launched(good_missing_partner, 1, 32)},
    {"warps_leave", nullptr, launched(good_warps_leave, 2, 128)},
    {"threads_leave", nullptr, launched(good_threads_leave, 4, 256)},
    {"active_lanes", nullptr, launched(good_active_lanes, 1, 64)},
    {"uniform_branch", nullptr, launched(good_uniform_branch, 4, 128)},
    {"loop_of_block", nullptr, launched(good_loop_of_block, 4, 128)},
};

// What the test calls: one side of one row.
Tensor forward(Tensor x, int64_t row, bool good) { return (good ? table[row].good : table[row].bad)(x); }

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) { m.def("forward", &forward); }
