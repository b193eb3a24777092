// What CUDA's own libraries make of warps, atomics, fp8 and packed integers; see test_libraries.py.

#include <cooperative_groups.h>
#include <cooperative_groups/reduce.h>
#include <cooperative_groups/scan.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_fp8.h>

#include <cub/cub.cuh>
#include <cuda/atomic>
#include <cuda/functional>

namespace cg = cooperative_groups;

extern "C" __global__ void block_reduce(const float* a, float* out) {
  using Reduce = cub::BlockReduce<float, 128>;
  __shared__ typename Reduce::TempStorage shared;
  float sum = Reduce(shared).Sum(a[threadIdx.x]);
  if (threadIdx.x == 0) *out = sum;
}

extern "C" __global__ void block_scan(const int* a, int* out) {
  using Scan = cub::BlockScan<int, 128>;
  __shared__ typename Scan::TempStorage shared;
  int value;
  Scan(shared).InclusiveSum(a[threadIdx.x], value);
  out[threadIdx.x] = value;
}

extern "C" __global__ void block_sort(const unsigned* a, unsigned* out) {
  using Sort = cub::BlockRadixSort<unsigned, 128, 4>;
  __shared__ typename Sort::TempStorage shared;
  unsigned keys[4];
  for (int k = 0; k < 4; k++) keys[k] = a[threadIdx.x * 4 + k];
  Sort(shared).Sort(keys);
  for (int k = 0; k < 4; k++) out[threadIdx.x * 4 + k] = keys[k];
}

extern "C" __global__ void warp_scan(const float* a, float* out) {
  using Scan = cub::WarpScan<float>;
  __shared__ typename Scan::TempStorage shared[4];
  float value;
  Scan(shared[threadIdx.x / 32]).InclusiveScan(a[threadIdx.x], value, cuda::maximum<>{});
  out[threadIdx.x] = value;
}

extern "C" __global__ void standard_atomics(int* ints, float* floats) {
  cuda::atomic_ref<int, cuda::thread_scope_device> counter(ints[0]), highest(ints[1]), once(ints[2]);
  counter.fetch_add(1, cuda::memory_order_relaxed);
  highest.fetch_max(threadIdx.x * 7 % 100);
  int expected = 3;
  if (once.compare_exchange_strong(expected, 4)) counter.fetch_add(1000, cuda::memory_order_acq_rel);
  cuda::atomic_ref<float, cuda::thread_scope_device> sum(floats[0]);
  sum.fetch_add(0.5f);
  cuda::atomic_thread_fence(cuda::memory_order_seq_cst);
  cuda::atomic_ref<int, cuda::thread_scope_system> flag(ints[3]);
  flag.store(11, cuda::memory_order_release);
  ints[4] = flag.load(cuda::memory_order_acquire);
}

extern "C" __global__ void groups(const int* a, int* out) {
  auto block = cg::this_thread_block();
  auto warp = cg::tiled_partition<32>(block);
  int i = block.thread_rank(), x = a[i];
  out[i] = cg::inclusive_scan(warp, x, cg::plus<int>());
  auto labelled = cg::labeled_partition(warp, x & 3);
  out[128 + i] = cg::reduce(labelled, x, cg::less<int>());
  auto positive = cg::binary_partition(warp, x > 0);
  out[256 + i] = positive.size();
  out[384 + i] = labelled.shfl(x, 0);
}

extern "C" __global__ void fp8(const float* a, unsigned char* bits, float* values, int n) {
  int i = threadIdx.x;
  __nv_fp8_e4m3 x(a[i]);
  __nv_fp8_e5m2 y(a[i]);
  bits[2 * i] = x.__x;
  bits[2 * i + 1] = y.__x;
  values[2 * i] = float(x);
  values[2 * i + 1] = float(y);
}

extern "C" __global__ void packed(const int* a, const int* b, int* out) {
  int i = threadIdx.x, x = a[i], y = b[i];
  out[i] = __viaddmax_s32(x, y, 5);
  out[32 + i] = __vimax3_s32(x, 3, y);
  out[64 + i] = __vimin3_u16x2(x, y, 0x00090009);
  out[96 + i] = __vimax_s32_relu(x, -3);
  out[128 + i] = __vimax3_s16x2_relu(x, y, 5);
  out[160 + i] = __viaddmin_s16x2(x, y, 3);
  out[192 + i] = __vmaxs4(x, y);
  out[224 + i] = __vsads4(x, y);
  out[256 + i] = __vcmpgtu4(x, y);
  out[288 + i] = __vavgu4(x, y);
  out[320 + i] = __vaddss2(x, y);
  out[352 + i] = __vseteq2(x, x & 0xffff);
  out[384 + i] = __dp2a_lo(x, y, 2);
}

extern "C" __global__ void half_integers(const __half* a, const __nv_bfloat16* b, int* out) {
  int i = threadIdx.x;
  out[i] = __half2int_rd(a[i]);
  out[32 + i] = (int)__half2ll_rz(a[i]);
  out[64 + i] = __half2short_rz(a[i]);
  out[96 + i] = __bfloat162int_rz(b[i]);
  out[128 + i] = (int)__bfloat162uint_rn(__habs(b[i]));
  out[160 + i] = __half_as_ushort(__int2half_rn(i * 4099));
  out[192 + i] = __bfloat16_as_ushort(__int2bfloat16_rn(i * 4099));
  out[224 + i] = __half_as_ushort(__double2half(i * 0.1));
  out[256 + i] = __half_as_ushort(__hfma_sat(a[i], a[i], a[i]));
}
