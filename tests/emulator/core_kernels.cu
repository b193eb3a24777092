// Kernels for test_core.py: each shows one thing that the emulator must get right. extern "C": the names are looked up.
#include <cassert>
#include <cstdio>
#include <cstdint>

#define KERNEL extern "C" __global__ void

KERNEL add_with_tail(const float* a, const float* b, float* c, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) c[i] = a[i] + b[i];
}

KERNEL thread_numbers(int* out) {
  int t = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
  int b = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  int n = blockDim.x * blockDim.y * blockDim.z;
  out[b * n + t] = ((threadIdx.x * 100 + threadIdx.y) * 100 + threadIdx.z) * 10 + blockIdx.x + 2 * blockIdx.y + 4 * blockIdx.z;
}

KERNEL collatz(const int* start, int* steps, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  long long x = start[i];
  int count = 0;
  while (x != 1) {
    if (x % 2 == 0) x /= 2;
    else x = 3 * x + 1;
    count++;
  }
  steps[i] = count;
}

KERNEL nested_branches(const int* x, int* out, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  int v = x[i], r = 0;
  for (int k = 0; k < (v & 7); k++) {
    if (v & (1 << k)) {
      if (k % 3 == 0) { r += 5; if (v > 50) continue; r *= 2; }
      else if (v > 90) break;
      else r -= k;
    } else {
      r ^= v;
    }
    r += 1;
  }
  out[i] = r;
}

KERNEL local_array(const int* index, int* out, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  int table[16];
  for (int k = 0; k < 16; k++) table[k] = k * k + i;
  table[index[i] & 15] += 1000;
  int sum = 0;
  for (int k = 0; k < 16; k++) sum += table[(index[i] * k) & 15];
  out[i] = sum;
}

__constant__ float weights[8] = {1, 2, 3, 4, 5, 6, 7, 8};
__constant__ int uploaded[4];
__device__ int counter;
__device__ const char* words = "words";
KERNEL constants(float* out) {
  int i = threadIdx.x;
  out[i] = weights[i & 7] * weights[3] + uploaded[i & 3];
  atomicAdd(&counter, 1);
}

KERNEL reverse_dynamic_shared(float* x, int n) {
  extern __shared__ float tile[];
  int i = threadIdx.x;
  tile[i] = x[blockIdx.x * n + i];
  __syncthreads();
  x[blockIdx.x * n + i] = tile[n - 1 - i];
}

KERNEL vectors(const float4* a, float4* b, const float2* c, float2* d, const uchar4* e, uchar4* f, const short2* g, short2* h) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  float4 v = a[i];
  b[i] = make_float4(v.w, v.z, v.y, v.x);
  float2 u = c[i];
  d[i] = make_float2(u.y, u.x + 1);
  uchar4 w = e[i];
  f[i] = make_uchar4(w.y, w.x, w.w, w.z);
  short2 s = g[i];
  h[i] = make_short2(s.y, -s.x);
}

KERNEL narrow_types(const signed char* a, const unsigned char* b, const short* c, int* out, unsigned char* low) {
  int i = threadIdx.x;
  out[i] = a[i] * 1000 + b[i] + c[i];
  low[i] = (unsigned char)(a[i] + b[i]);
}

KERNEL generic_pointers(const float* a, float* out, int n) {
  __shared__ float tile[64];
  int i = threadIdx.x;
  tile[i] = 2 * a[i];
  __syncthreads();
  const float* p = (a[i] > 0) ? tile : a;
  out[i] = p[(i + 1) % n];
}

struct Pair { int a; double b; short c[3]; };
KERNEL struct_parameter(Pair p, double* out, char tag) {
  out[threadIdx.x] = p.a + p.b + p.c[threadIdx.x % 3] + tag;
}

KERNEL dense_switch(const int* x, int* out, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  int v = x[i], r;
  switch (v) {
    case 0: r = v + 11; break;
    case 1: r = i * 3; break;
    case 2: r = i ^ 5; break;
    case 3: r = i - 77; break;
    case 4: r = i * i; break;
    case 5: r = -i; break;
    case 6: r = 1 << (i & 15); break;
    case 7: r = i / 3; break;
    default: r = -1;
  }
  out[i] = r;
}

__device__ __noinline__ float polynomial(float x, const float* c, int n) {
  if (n == 0) return 0;
  float s = 0;
  for (int k = n - 1; k >= 0; k--) s = s * x + c[k];
  return s;
}
struct Two { float low, high; };
__device__ __noinline__ Two both(float x, const float* c) {
  return {polynomial(x, c, 2), polynomial(x, c, 4)};
}
KERNEL device_functions(const float* x, const float* c, float* out, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  Two t = both(x[i], c);
  out[i] = (i % 3) ? t.high : polynomial(t.low, c, i % 4);
}

KERNEL prints(int n) {
  if (threadIdx.x < n) printf("lane %d of %s: %5.2f %lld%%\n", threadIdx.x, "warp", threadIdx.x * 0.5, 1ll << 40);
}

KERNEL asserts(const int* x) { assert(x[threadIdx.x] > 0); }

KERNEL traps(const int* x) {
  if (x[threadIdx.x] == 7) __trap();
}

KERNEL block_sum(const float* x, float* out) {
  __shared__ float part[32];
  float s = x[blockIdx.x * blockDim.x + threadIdx.x];
  for (int o = 16; o; o >>= 1) s += __shfl_down_sync(~0u, s, o);
  if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = s;
  __syncthreads();
  if (threadIdx.x < 32) {
    s = threadIdx.x < blockDim.x / 32 ? part[threadIdx.x] : 0;
    for (int o = 16; o; o >>= 1) s += __shfl_down_sync(~0u, s, o);
    if (threadIdx.x == 0) out[blockIdx.x] = s;
  }
}

KERNEL barrier_votes(const int* x, int* out) {
  int i = threadIdx.x;
  int count = __syncthreads_count(x[i] > 10);
  int all = __syncthreads_and(x[i] > 0);
  int any = __syncthreads_or(x[i] > 100);
  out[i] = count * 4 + (all ? 2 : 0) + (any ? 1 : 0);
}

// Both sides of a divergent branch reach the same barrier, at different places.
KERNEL barrier_in_both_branches(const int* x, int* out) {
  __shared__ int s[128];
  int i = threadIdx.x;
  s[i] = x[i];
  if (x[i] & 1) {
    s[i] += 1;
    __syncthreads();
    out[i] = s[(i + 1) % blockDim.x];
  } else {
    s[i] *= 2;
    __syncthreads();
    out[i] = -s[(i + 1) % blockDim.x];
  }
}

KERNEL barrier_after_exits(const int* x, int* out) {
  __shared__ int s[128];
  int i = threadIdx.x;
  s[i] = 0;
  __syncthreads();
  if (i % 5 == 0) return;
  s[i] = x[i];
  __syncthreads();
  out[i] = s[i] + s[i / 5 * 5];
}

KERNEL named_barriers(float* x) {
  __shared__ float queue[64];
  int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  if (warp == 0) {
    for (int k = 0; k < 4; k++) {
      queue[lane + 32 * (k & 1)] = x[k * 32 + lane] * 2;
      asm volatile("bar.arrive 1, 64;" ::: "memory");
      asm volatile("bar.sync 2, 64;" ::: "memory");
    }
  } else {
    for (int k = 0; k < 4; k++) {
      asm volatile("bar.sync 1, 64;" ::: "memory");
      x[k * 32 + lane] = queue[(31 - lane) + 32 * (k & 1)];
      asm volatile("bar.arrive 2, 64;" ::: "memory");
    }
  }
}

KERNEL lock_per_lane(int* lock, int* total) {
  bool done = false;
  while (!done) {
    if (atomicCAS(lock, 0, 1) == 0) {
      *(volatile int*)total = *(volatile int*)total + 1;
      __threadfence();
      atomicExch(lock, 0);
      done = true;
    }
  }
}

KERNEL spin_until_lock(int* lock, int* total) {
  while (atomicCAS(lock, 0, 1) != 0) {}
  *(volatile int*)total = *(volatile int*)total + 1;
  __threadfence();
  atomicExch(lock, 0);
}

// Every block waits for all others: works only if all are resident at once.
KERNEL grid_barrier(int* arrived, const int* x, int* out, int* sum) {
  atomicAdd(sum, x[blockIdx.x * blockDim.x + threadIdx.x]);
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) {
    atomicAdd(arrived, 1);
    while (*(volatile int*)arrived < gridDim.x) {}
  }
  __syncthreads();
  out[blockIdx.x * blockDim.x + threadIdx.x] = *(volatile int*)sum;
}

KERNEL warp_flag(int* out) {
  __shared__ volatile int flag;
  if (threadIdx.x == 0) flag = 0;
  __syncthreads();
  if (threadIdx.x < 32) { while (flag == 0) {} out[threadIdx.x] = flag; }
  else if (threadIdx.x == 64) flag = 42;
}

// Unsigned arithmetic wraps between the lanes of one warp: base + lane overflows 32 bits inside the warp.
KERNEL wrapping_index(const float* table, float* out, unsigned start, int n) {
  unsigned i = threadIdx.x;
  unsigned h = start + i;
  out[blockIdx.x * blockDim.x + i] = table[h % 64] + (float)((unsigned long long)h >> 31);
}
KERNEL wrapping_address(const unsigned char* table, unsigned char* out, unsigned start) {
  unsigned h = (start + threadIdx.x) & 0xffffffffu;
  size_t wide = h;
  out[threadIdx.x] = table[wide > 0x80000000ull ? wide - 0xffffff00ull : wide + 256];
}
KERNEL signed_wrapping(const int* table, int* out, int start) {
  int i = start + threadIdx.x * 0x1000000;
  long long wide = i;
  out[threadIdx.x] = table[(wide >> 24) + 128];
}

KERNEL shuffles(const int* x, int* out) {
  int i = threadIdx.x, v = x[i];
  out[i] = __shfl_sync(~0u, v, 5);
  out[i + 32] = __shfl_sync(~0u, v, (i * 7) & 31);
  out[i + 64] = __shfl_xor_sync(~0u, v, 3);
  out[i + 96] = __shfl_up_sync(~0u, v, 2, 8);
  out[i + 128] = __ballot_sync(~0u, v & 1);
  out[i + 160] = __any_sync(~0u, v > 90) * 2 + __all_sync(~0u, v > 0);
  out[i + 192] = __shfl_sync(~0u, v, v & 31);
  out[i + 224] = __reduce_add_sync(~0u, v);
}

// Lanes reach the shuffle on different paths; the ones named in the mask must still meet.
KERNEL shuffle_after_loops(const int* x, int* out) {
  int i = threadIdx.x, v = x[i], k = 0;
  while (k < (v & 15)) k++;
  int other = __shfl_sync(~0u, k, i ^ 1);
  if (i & 1) {
    __syncwarp(0xaaaaaaaa);
    other += 100 * __shfl_sync(0xaaaaaaaa, k, (i + 2) & 31);
  }
  out[i] = other;
}

KERNEL active_lanes(const int* x, unsigned* out) {
  int i = threadIdx.x;
  if (x[i] & 1) out[i] = __activemask();
  else out[i] = ~__activemask();
}

KERNEL transpose(const float* in, float* out, int w, int h) {
  __shared__ float tile[32][33];
  int x = blockIdx.x * 32 + threadIdx.x, y = blockIdx.y * 32 + threadIdx.y;
  for (int j = 0; j < 32; j += 8) if (x < w && y + j < h) tile[threadIdx.y + j][threadIdx.x] = in[(y + j) * w + x];
  __syncthreads();
  x = blockIdx.y * 32 + threadIdx.x; y = blockIdx.x * 32 + threadIdx.y;
  for (int j = 0; j < 32; j += 8) if (x < h && y + j < w) out[(y + j) * h + x] = tile[threadIdx.x][threadIdx.y + j];
}

KERNEL matmul(const float* a, const float* b, float* c, int n) {
  __shared__ float sa[16][16], sb[16][16];
  int i = blockIdx.y * 16 + threadIdx.y, j = blockIdx.x * 16 + threadIdx.x;
  float s = 0;
  for (int k = 0; k < n; k += 16) {
    sa[threadIdx.y][threadIdx.x] = (i < n && k + threadIdx.x < n) ? a[i * n + k + threadIdx.x] : 0;
    sb[threadIdx.y][threadIdx.x] = (j < n && k + threadIdx.y < n) ? b[(k + threadIdx.y) * n + j] : 0;
    __syncthreads();
    for (int q = 0; q < 16; q++) s += sa[threadIdx.y][q] * sb[q][threadIdx.x];
    __syncthreads();
  }
  if (i < n && j < n) c[i * n + j] = s;
}

KERNEL softmax(const float* x, float* y, int n) {
  __shared__ float part[32];
  const float* row = x + (size_t)blockIdx.x * n;
  float m = -1e30f;
  for (int i = threadIdx.x; i < n; i += blockDim.x) m = fmaxf(m, row[i]);
  for (int o = 16; o; o >>= 1) m = fmaxf(m, __shfl_xor_sync(~0u, m, o));
  if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = m;
  __syncthreads();
  m = part[0];
  for (int i = 1; i < blockDim.x / 32; i++) m = fmaxf(m, part[i]);
  __syncthreads();
  float s = 0;
  for (int i = threadIdx.x; i < n; i += blockDim.x) s += expf(row[i] - m);
  for (int o = 16; o; o >>= 1) s += __shfl_xor_sync(~0u, s, o);
  if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = s;
  __syncthreads();
  s = 0;
  for (int i = 0; i < blockDim.x / 32; i++) s += part[i];
  for (int i = threadIdx.x; i < n; i += blockDim.x) y[(size_t)blockIdx.x * n + i] = expf(row[i] - m) / s;
}

KERNEL histogram(const unsigned char* x, int* bins, int n) {
  __shared__ int local[256];
  for (int i = threadIdx.x; i < 256; i += blockDim.x) local[i] = 0;
  __syncthreads();
  for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) atomicAdd(&local[x[i]], 1);
  __syncthreads();
  for (int i = threadIdx.x; i < 256; i += blockDim.x) atomicAdd(&bins[i], local[i]);
}

KERNEL missing_barrier(int* out) {
  if (threadIdx.x < 40) __syncthreads();
  else asm volatile("bar.sync 3;" ::: "memory");
  out[threadIdx.x] = 1;
}

KERNEL endless(volatile int* x) {
  while (x[0] == 0) {}
}
KERNEL endless_arithmetic(int* x, int n) {
  unsigned s = x[threadIdx.x];
  while (s != 1u) s = s * 4 + 2;
  x[threadIdx.x] = s;
}

KERNEL denormals(const float* x, float* out) { out[threadIdx.x] = x[threadIdx.x] * 0.5f; }

KERNEL count_blocks(unsigned long long* out) {
  if (threadIdx.x == 0 && (blockIdx.x & (blockIdx.x + 1)) == 0) atomicAdd(out, (unsigned long long)blockIdx.x + 1);
}

KERNEL same_address_store(int* out) { out[blockIdx.x] = threadIdx.x; }

KERNEL heap(int** out) {
  int* p = (int*)malloc(16 * sizeof(int));
  for (int k = 0; k < 16; k++) p[k] = threadIdx.x * k;
  int s = 0;
  for (int k = 0; k < 16; k++) s += p[k];
  out[threadIdx.x] = (int*)(size_t)s;
  free(p);
}

KERNEL copy_async(const float* x, float* y, int n) {
  __shared__ __align__(16) float tile[1024];
  unsigned to = (unsigned)__cvta_generic_to_shared(&tile[threadIdx.x * 4]);
  const float* from = x + blockIdx.x * blockDim.x * 4 + threadIdx.x * 4;
  int bytes = threadIdx.x == 3 ? 8 : 16;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(bytes));
  asm volatile("cp.async.commit_group;");
  asm volatile("cp.async.wait_group 0;");
  __syncthreads();
  for (int k = 0; k < 4; k++) y[blockIdx.x * blockDim.x * 4 + k * blockDim.x + threadIdx.x] = tile[k * blockDim.x + threadIdx.x];
}

// cp.async of 16 bytes per thread with each form of what may follow the size.
template <typename Copy>
__device__ void copy_with(int* y, Copy copy) {
  __shared__ __align__(16) int tile[256];
  int t = threadIdx.x;
  for (int k = 0; k < 4; k++) tile[t * 4 + k] = -1;
  __syncthreads();
  copy((unsigned)__cvta_generic_to_shared(&tile[t * 4]));
  asm volatile("cp.async.wait_all;");
  __syncthreads();
  for (int k = 0; k < 4; k++) y[t * 4 + k] = tile[t * 4 + k];
}

KERNEL copy_some_bytes(const int* x, int* y, int step) {
  copy_with(y, [&](unsigned to) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(x + threadIdx.x * 4), "r"(threadIdx.x * step % 17));
  });
}

KERNEL copy_some_bytes_with_policy(const int* x, int* y, long long policy) {
  copy_with(y, [&](unsigned to) {
    asm volatile("cp.async.cg.shared.global.L2::cache_hint [%0], [%1], 16, %2, %3;" ::"r"(to), "l"(x + threadIdx.x * 4),
                 "r"(12), "l"(policy));
  });
}

KERNEL copy_with_policy(const int* x, int* y, long long policy) {
  copy_with(y, [&](unsigned to) {
    asm volatile("cp.async.cg.shared.global.L2::cache_hint [%0], [%1], 16, %2;" ::"r"(to), "l"(x + threadIdx.x * 4), "l"(policy));
  });
}

KERNEL copy_unless_ignored(const int* x, int* y, int n) {
  copy_with(y, [&](unsigned to) {
    asm volatile("{ .reg .pred p; setp.ge.s32 p, %2, %3; cp.async.cg.shared.global [%0], [%1], 16, p; }" ::"r"(to),
                 "l"(x + threadIdx.x * 4), "r"((int)threadIdx.x), "r"(n));
  });
}

KERNEL left_neighbour(const int* x, int* out) {
  __shared__ int tile[64];
  int t = threadIdx.x, v = -5;
  tile[t] = x[t];
  __syncthreads();
  unsigned at = (unsigned)__cvta_generic_to_shared(tile) + t * 4;
  asm volatile("{ .reg .pred p; setp.ne.s32 p, %2, 0; @p ld.shared.u32 %0, [%1+-4]; }" : "+r"(v) : "r"(at), "r"(t) : "memory");
  out[t] = v;
}

KERNEL store_at(float* out) {
  extern __shared__ float scratch[];
  scratch[threadIdx.x] = 1;
  out[threadIdx.x] = scratch[threadIdx.x];
}

KERNEL float_sum(const float* x, float* sum, int n) {
  for (int i = threadIdx.x + blockIdx.x * blockDim.x; i < n; i += blockDim.x * gridDim.x) atomicAdd(sum, x[i]);
}

KERNEL float_sum_of_block(const float* x, float* sum) {
  __shared__ float own;
  if (threadIdx.x == 0) own = 0;
  __syncthreads();
  atomicAdd(&own, x[threadIdx.x]);
  __syncthreads();
  sum[blockIdx.x] = own;
}

KERNEL pointer_chase(const int* next, int* out, int steps) {
  int at = threadIdx.x;
  for (int k = 0; k < steps; k++) at = next[at];
  out[threadIdx.x] = at;
}

KERNEL uniform_trip_count_then_divergence(const int* x, int* out, int n) {
  int i = threadIdx.x, r = 0;
  for (int k = 0; k < n; k++) {
    if ((x[i] >> k) & 1) r += k;
    r = r * 3 + x[(i + k) & 31];
  }
  out[i] = r;
}

KERNEL doubles(const double* x, double* y, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) y[i] = sqrt(x[i]) / (1.0 + x[i]) + fma(x[i], 2.0, 1.0);
}

KERNEL long_grid_stride(const float* x, float* y, long long n) {
  for (long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x; i < n; i += (long long)gridDim.x * blockDim.x) y[i] = x[i] + 1;
}

__device__ __noinline__ int fibonacci(int n) { return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2); }
KERNEL recursive(int* out) { out[threadIdx.x] = fibonacci(threadIdx.x & 7); }

#include <cooperative_groups.h>
KERNEL grid_sync(const int* x, int* sum, int* out) {
  auto grid = cooperative_groups::this_grid();
  for (int round = 0; round < 3; round++) {
    atomicAdd(sum, x[grid.thread_rank()]);
    grid.sync();
    out[round * grid.size() + grid.thread_rank()] = *(volatile int*)sum;
    grid.sync();
  }
}

// Writes which turn each warp had in its block, before and after a barrier, and which turn each block had.
KERNEL turns(int* before, int* after, int* block_turn, int* blocks) {
  __shared__ int first, second;
  if (threadIdx.x == 0) first = second = 0;
  __syncthreads();
  int warp = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
  if (threadIdx.x % 32 == 0) before[warp] = atomicAdd(&first, 1);
  __syncthreads();
  if (threadIdx.x % 32 == 0) after[warp] = atomicAdd(&second, 1);
  if (threadIdx.x == 0) block_turn[blockIdx.x] = atomicAdd(blocks, 1);
}
