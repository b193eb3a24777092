// Kernels for test_matrix.py: warp-level matrix instructions, one warp each. extern "C": the names are looked up.
#include <cstdint>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <mma.h>

#define KERNEL extern "C" __global__ void
using namespace nvcuda;

// a: 16 x 16 row-major, b: 16 x 8 row-major, c: 16 x 8.
KERNEL mma_f16(const __half* a, const __half* b, const float* c, float* d) {
  __shared__ __align__(16) __half sa[16][16], sb[16][8];
  int l = threadIdx.x, g = l / 4, t = l % 4;
  for (int k = l; k < 256; k += 32) sa[k / 16][k % 16] = a[k];
  for (int k = l; k < 128; k += 32) sb[k / 8][k % 8] = b[k];
  __syncwarp();
  unsigned x[4], y[2];
  unsigned pa = (unsigned)__cvta_generic_to_shared(&sa[l % 16][l / 16 * 8]);
  unsigned pb = (unsigned)__cvta_generic_to_shared(&sb[l % 16][0]);
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];" : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3]) : "r"(pa));
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0,%1}, [%2];" : "=r"(y[0]), "=r"(y[1]) : "r"(pb));
  float s[4] = {c[g * 8 + 2 * t], c[g * 8 + 2 * t + 1], c[(g + 8) * 8 + 2 * t], c[(g + 8) * 8 + 2 * t + 1]};
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
               : "+f"(s[0]), "+f"(s[1]), "+f"(s[2]), "+f"(s[3]) : "r"(x[0]), "r"(x[1]), "r"(x[2]), "r"(x[3]), "r"(y[0]), "r"(y[1]));
  d[g * 8 + 2 * t] = s[0];
  d[g * 8 + 2 * t + 1] = s[1];
  d[(g + 8) * 8 + 2 * t] = s[2];
  d[(g + 8) * 8 + 2 * t + 1] = s[3];
}

KERNEL mma_f16_accumulators(const __half2* a, const __half2* b, __half2* d) {
  int l = threadIdx.x, g = l / 4, t = l % 4;  // a: 16 x 16, b: 8 x 16 (columns), d: 16 x 8, as pairs
  unsigned x[4], y[2], s[2] = {0, 0};
  const unsigned *pa = (const unsigned*)a, *pb = (const unsigned*)b;
  for (int k = 0; k < 4; k++) x[k] = pa[(g + 8 * (k % 2)) * 8 + t + 4 * (k / 2)];
  for (int k = 0; k < 2; k++) y[k] = pb[g * 8 + t + 4 * k];
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f16.f16.f16.f16 {%0,%1}, {%2,%3,%4,%5}, {%6,%7}, {%0,%1};"
               : "+r"(s[0]), "+r"(s[1]) : "r"(x[0]), "r"(x[1]), "r"(x[2]), "r"(x[3]), "r"(y[0]), "r"(y[1]));
  ((unsigned*)d)[g * 4 + t] = s[0];
  ((unsigned*)d)[(g + 8) * 4 + t] = s[1];
}

KERNEL mma_tf32(const float* a, const float* b, float* d) {
  int l = threadIdx.x, g = l / 4, t = l % 4;  // a: 16 x 8, b: 8 x 8, d: 16 x 8
  unsigned x[4] = {__float_as_uint(a[g * 8 + t]), __float_as_uint(a[(g + 8) * 8 + t]), __float_as_uint(a[g * 8 + t + 4]), __float_as_uint(a[(g + 8) * 8 + t + 4])};
  unsigned y[2] = {__float_as_uint(b[t * 8 + g]), __float_as_uint(b[(t + 4) * 8 + g])};
  float s[4] = {};
  asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
               : "+f"(s[0]), "+f"(s[1]), "+f"(s[2]), "+f"(s[3]) : "r"(x[0]), "r"(x[1]), "r"(x[2]), "r"(x[3]), "r"(y[0]), "r"(y[1]));
  for (int k = 0; k < 4; k++) d[(g + 8 * (k / 2)) * 8 + 2 * t + k % 2] = s[k];
}

KERNEL mma_s8(const signed char* a, const signed char* b, int* d) {
  int l = threadIdx.x, g = l / 4, t = l % 4, s[4] = {};  // a: 16 x 32, b: 8 x 32 (columns), d: 16 x 8
  unsigned x[4], y[2];
  for (int k = 0; k < 4; k++) x[k] = *(const unsigned*)(a + (g + 8 * (k % 2)) * 32 + 4 * t + 16 * (k / 2));
  for (int k = 0; k < 2; k++) y[k] = *(const unsigned*)(b + g * 32 + 4 * t + 16 * k);
  asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
               : "+r"(s[0]), "+r"(s[1]), "+r"(s[2]), "+r"(s[3]) : "r"(x[0]), "r"(x[1]), "r"(x[2]), "r"(x[3]), "r"(y[0]), "r"(y[1]));
  for (int k = 0; k < 4; k++) d[(g + 8 * (k / 2)) * 8 + 2 * t + k % 2] = s[k];
}

template <class T, class Sum, class LayoutA, class LayoutB, int K = 16, class Own = T>
__device__ void product(const Own* a, const Own* b, const Sum* c, Sum* d, int lda, int ldb) {
  wmma::fragment<wmma::matrix_a, 16, 16, K, T, LayoutA> fa;
  wmma::fragment<wmma::matrix_b, 16, 16, K, T, LayoutB> fb;
  wmma::fragment<wmma::accumulator, 16, 16, K, Sum> fc;
  wmma::load_matrix_sync(fa, a, lda);
  wmma::load_matrix_sync(fb, b, ldb);
  wmma::load_matrix_sync(fc, c, 16, wmma::mem_row_major);
  wmma::mma_sync(fc, fa, fb, fc);
  for (int k = 0; k < fc.num_elements; k++) fc.x[k] = fc.x[k] * (Sum)2;
  wmma::store_matrix_sync(d, fc, 16, wmma::mem_row_major);
}
using Rows = wmma::row_major;
using Columns = wmma::col_major;
KERNEL wmma_rows_columns(const __half* a, const __half* b, const float* c, float* d) { product<__half, float, Rows, Columns>(a, b, c, d, 16, 16); }
KERNEL wmma_columns_rows(const __half* a, const __half* b, const float* c, float* d) { product<__half, float, Columns, Rows>(a, b, c, d, 16, 16); }
KERNEL wmma_half_sums(const __half* a, const __half* b, const __half* c, __half* d) { product<__half, __half, Rows, Rows>(a, b, c, d, 16, 16); }
KERNEL wmma_bf16(const __nv_bfloat16* a, const __nv_bfloat16* b, const float* c, float* d) { product<__nv_bfloat16, float, Rows, Rows>(a, b, c, d, 16, 16); }
KERNEL wmma_tf32(const float* a, const float* b, const float* c, float* d) { product<wmma::precision::tf32, float, Rows, Rows, 8, float>(a, b, c, d, 8, 16); }

KERNEL matrix_round_trip(const unsigned* in, unsigned* out) {
  __shared__ __align__(16) unsigned s[4][32];
  int l = threadIdx.x;
  unsigned p = (unsigned)__cvta_generic_to_shared(&s[l / 8][l % 8 * 4]), x[4];
  for (int k = 0; k < 4; k++) x[k] = in[32 * k + l];
  asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1,%2,%3,%4};" ::"r"(p), "r"(x[0]), "r"(x[1]), "r"(x[2]), "r"(x[3]) : "memory");
  __syncwarp();
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];" : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3]) : "r"(p));
  for (int k = 0; k < 4; k++) {
    asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(x[k]) : "r"(x[k]));
    out[32 * k + l] = x[k];
  }
}
