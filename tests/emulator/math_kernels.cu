// Device math functions, half types, shuffles, atomics and bit intrinsics, one kernel each; see test_math.py.

#include <cooperative_groups.h>
#include <cooperative_groups/reduce.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>

namespace cg = cooperative_groups;

#define INDEX (blockIdx.x * blockDim.x + threadIdx.x)

// --- float and double functions: out[i] = f(a[i]) or f(a[i], b[i])

#define UNARY(name, type, expression)                                                      \
  extern "C" __global__ void name(const type* a, type* out, int n) {                       \
    int i = INDEX;                                                                         \
    if (i < n) { type x = a[i]; out[i] = expression; }                                     \
  }

#define BINARY(name, type, expression)                                                     \
  extern "C" __global__ void name(const type* a, const type* b, type* out, int n) {        \
    int i = INDEX;                                                                         \
    if (i < n) { type x = a[i], y = b[i]; out[i] = expression; }                           \
  }

UNARY(f_exp, float, expf(x))
UNARY(f_exp2, float, exp2f(x))
UNARY(f_exp10, float, exp10f(x))
UNARY(f_expm1, float, expm1f(x))
UNARY(f_log, float, logf(x))
UNARY(f_log2, float, log2f(x))
UNARY(f_log10, float, log10f(x))
UNARY(f_log1p, float, log1pf(x))
UNARY(f_tanh, float, tanhf(x))
UNARY(f_sinh, float, sinhf(x))
UNARY(f_cosh, float, coshf(x))
UNARY(f_erf, float, erff(x))
UNARY(f_erfc, float, erfcf(x))
UNARY(f_normcdf, float, normcdff(x))
UNARY(f_sqrt, float, sqrtf(x))
UNARY(f_rsqrt, float, rsqrtf(x))
UNARY(f_cbrt, float, cbrtf(x))
UNARY(f_sin, float, sinf(x))
UNARY(f_cos, float, cosf(x))
UNARY(f_tan, float, tanf(x))
UNARY(f_asin, float, asinf(x))
UNARY(f_acos, float, acosf(x))
UNARY(f_atan, float, atanf(x))
UNARY(f_round, float, roundf(x))
UNARY(f_rint, float, rintf(x))
UNARY(f_trunc, float, truncf(x))
UNARY(f_floor, float, floorf(x))
UNARY(f_ceil, float, ceilf(x))
UNARY(f_tgamma, float, tgammaf(x))
UNARY(f_lgamma, float, lgammaf(x))
UNARY(f_gelu, float, 0.5f * x * (1.0f + erff(x * 0.70710678f)))
UNARY(f_sigmoid, float, 1.0f / (1.0f + expf(-x)))
UNARY(f_silu_fast, float, x* __frcp_rn(1.0f + __expf(-x)))
UNARY(fast_exp, float, __expf(x))
UNARY(fast_log, float, __logf(x))
UNARY(fast_sin, float, __sinf(x))
UNARY(fast_cos, float, __cosf(x))
UNARY(fast_tanh, float, __tanhf(x))
UNARY(f_add_directed, float, (__fadd_rd(x, 1e-20f) == nextafterf(x, -1e30f)) + 2.0f * (__fadd_ru(x, 1e-20f) > x))
BINARY(f_pow, float, powf(x, y))
BINARY(f_fmod, float, fmodf(x, y))
BINARY(f_remainder, float, remainderf(x, y))
BINARY(f_hypot, float, hypotf(x, y))
BINARY(f_atan2, float, atan2f(x, y))
BINARY(f_div, float, x / y)
BINARY(fast_divide, float, __fdividef(x, y))
BINARY(fast_pow, float, __powf(x, y))
BINARY(f_mul_rz, float, __fmul_rz(x, y))
BINARY(f_div_ru, float, __fdiv_ru(x, y))
UNARY(d_exp, double, exp(x))
UNARY(d_log, double, log(x))
UNARY(d_tanh, double, tanh(x))
UNARY(d_erf, double, erf(x))
UNARY(d_sin, double, sin(x))
UNARY(d_cos, double, cos(x))
UNARY(d_sqrt, double, sqrt(x))
UNARY(d_rsqrt, double, rsqrt(x))
UNARY(d_cbrt, double, cbrt(x))
BINARY(d_pow, double, pow(x, y))
BINARY(d_div, double, x / y)
BINARY(d_add_rd, double, __dadd_rd(x, y))
BINARY(d_fmod, double, fmod(x, y))

// --- integers

BINARY(i_div, int, x / y)
BINARY(i_mod, int, x % y)
BINARY(u_div, unsigned, x / y)
BINARY(l_div, long long, x / y)
BINARY(l_mod, long long, x % y)
BINARY(ul_mulhi, unsigned long long, __umul64hi(x, y))
BINARY(i_mulhi, int, __mulhi(x, y))
BINARY(u_bits, unsigned, __clz(x) * 1000000 + __popc(x) * 1000 + __ffs(x) + (__brev(y) & 1) * 100000000)
BINARY(u_perm, unsigned, __byte_perm(x, y, 0x2507) ^ __byte_perm(x, y, y))
BINARY(u_funnel, unsigned, __funnelshift_l(x, y, 7) ^ __funnelshift_rc(x, y, y & 63))
BINARY(i_dot, int, __dp4a(x, y, 5))
BINARY(u_sad, unsigned, __sad(x, y, 7u) + __usad(x, y, 1u) + __uhadd(x, y))
BINARY(u_bytes, unsigned, __vadd4(x, y) ^ __vabsdiffu4(x, y) ^ __vmaxs2(x, y))

// --- half and bfloat16

BINARY(h_add, __half, __hadd(x, y))
BINARY(h_mul, __half, __hmul(x, y))
BINARY(h_fma, __half, __hfma(x, y, x))
BINARY(h_div, __half, __hdiv(x, y))
BINARY(h_max, __half, __hmax(x, y))
BINARY(h_min_nan, __half, __hmin_nan(x, y))
BINARY(h_less, __half, __float2half(__hlt(x, y) ? 1.0f : __hgeu(x, y) ? 2.0f : 3.0f))
BINARY(h_fma_relu, __half, __hfma_relu(x, y, x))
UNARY(h_exp, __half, hexp(x))
UNARY(h_log, __half, hlog(x))
UNARY(h_sqrt, __half, hsqrt(x))
UNARY(h_rsqrt, __half, hrsqrt(x))
UNARY(h_rcp, __half, hrcp(x))
UNARY(h_sin, __half, hsin(x))
UNARY(h_tanh, __half, htanh(x))
UNARY(h_floor, __half, hfloor(x))
BINARY(h_operators, __half, (x + y) * (x - y) / y)
BINARY(b_add, __nv_bfloat16, __hadd(x, y))
BINARY(b_mul, __nv_bfloat16, __hmul(x, y))
BINARY(b_fma, __nv_bfloat16, __hfma(x, y, x))
BINARY(b_div, __nv_bfloat16, __hdiv(x, y))
UNARY(b_exp, __nv_bfloat16, hexp(x))
BINARY(b_max, __nv_bfloat16, __hmax(x, y))
BINARY(b_operators, __nv_bfloat16, (x + y) * (x - y))

extern "C" __global__ void h2_all(const __half2* a, const __half2* b, __half2* out, int n) {
  int i = INDEX;
  if (i < n) {
    __half2 x = a[i], y = b[i];
    __half2 sum = __hadd2(x, y);
    __half2 fused = __hfma2(x, y, sum);
    out[4 * i] = sum;
    out[4 * i + 1] = fused;
    out[4 * i + 2] = __hmax2(__lowhigh2highlow(x), y);
    out[4 * i + 3] = __hgt2(x, y);
  }
}

extern "C" __global__ void conversions(const float* a, int* out, int n) {
  int i = INDEX;
  if (i < n) {
    float x = a[i];
    out[12 * i + 0] = __half_as_ushort(__float2half_rn(x));
    out[12 * i + 1] = __half_as_ushort(__float2half_rz(x));
    out[12 * i + 2] = __half_as_ushort(__float2half_ru(x));
    out[12 * i + 3] = __half_as_ushort(__float2half_rd(x));
    out[12 * i + 4] = __bfloat16_as_ushort(__float2bfloat16_rn(x));
    out[12 * i + 5] = __bfloat16_as_ushort(__float2bfloat16_rz(x));
    out[12 * i + 6] = __bfloat16_as_ushort(__float2bfloat16_ru(x));
    out[12 * i + 7] = __float2int_rz(x);
    out[12 * i + 8] = __float2int_rn(x);
    out[12 * i + 9] = (int)__float2uint_rd(x);
    out[12 * i + 10] = __half2int_rn(__float2half_rn(x));
    out[12 * i + 11] = (int)(signed char)x + ((int)(unsigned char)__float2uint_rz(fabsf(x)) << 8);
  }
}

// --- warps

extern "C" __global__ void shuffles(const int* a, const double* d, const __half* h, int* out, double* dout, __half* hout) {
  int i = threadIdx.x;
  out[i] = __shfl_sync(0xffffffffu, a[i], 5);
  out[32 + i] = __shfl_up_sync(0xffffffffu, a[i], 3);
  out[64 + i] = __shfl_down_sync(0xffffffffu, a[i], 3, 16);
  out[96 + i] = __shfl_xor_sync(0xffffffffu, a[i], 7, 8);
  out[128 + i] = __shfl_sync(0xffffffffu, a[i], a[i] & 31);
  out[160 + i] = __shfl_sync(0xffffffffu, a[i], i + 1, 8);
  long long wide = (long long)a[i] << 33 | i;
  out[192 + i] = (int)(__shfl_xor_sync(0xffffffffu, wide, 1) >> 33);
  dout[i] = __shfl_down_sync(0xffffffffu, d[i], 1);
  hout[i] = __shfl_xor_sync(0xffffffffu, h[i], 16);
  int sum = a[i];
  for (int offset = 16; offset > 0; offset >>= 1) sum += __shfl_down_sync(0xffffffffu, sum, offset);
  out[224 + i] = __shfl_sync(0xffffffffu, sum, 0);
}

extern "C" __global__ void votes(const int* a, unsigned* out) {
  int i = threadIdx.x;
  out[i] = __ballot_sync(0xffffffffu, a[i] > 0);
  out[32 + i] = __any_sync(0xffffffffu, a[i] > 1000) * 2 + __all_sync(0xffffffffu, a[i] > -1000);
  out[64 + i] = __match_any_sync(0xffffffffu, a[i] & 3);
  out[96 + i] = __reduce_add_sync(0xffffffffu, (unsigned)a[i]);
  out[128 + i] = __reduce_max_sync(0xffffffffu, a[i]);
  unsigned peers = __match_any_sync(0xffffffffu, a[i] & 7);
  out[160 + i] = __reduce_min_sync(peers, a[i]);
  if (i % 3 == 0) {
    out[192 + i] = __activemask();
    auto group = cg::coalesced_threads();
    out[224 + i] = group.thread_rank() * 100 + group.size();
    out[256 + i] = cg::reduce(group, a[i], cg::plus<int>());
  }
  auto tile = cg::tiled_partition<8>(cg::this_thread_block());
  out[288 + i] = cg::reduce(tile, a[i], cg::greater<int>());
  out[320 + i] = tile.shfl(a[i], tile.thread_rank() ^ 1);
}

extern "C" __global__ void atomics(int* ints, unsigned* words, unsigned long long* wide, float* floats, double* doubles,
                                   __half2* halves, __nv_bfloat162* brains, __half* single, int n) {
  int i = INDEX;
  if (i >= n) return;
  atomicAdd(&ints[0], i);
  atomicSub(&ints[1], 2);
  atomicMax(&ints[2], i * 7 % 1000);
  atomicMin(&ints[3], -i);
  atomicExch(&ints[4], 99);
  atomicCAS(&ints[5], 0, i + 1);
  atomicAnd(&words[0], ~(1u << (i % 32)));
  atomicOr(&words[1], 1u << (i % 20));
  atomicXor(&words[2], i);
  words[16 + i] = atomicInc(&words[3], 6);
  atomicDec(&words[4], 5);
  atomicAdd(&wide[0], 1ull << 33);
  atomicMax(&wide[1], (unsigned long long)i << 35);
  atomicAdd(&floats[i % 4], 0.5f);
  atomicAdd(&doubles[0], 0.25);
  if (i < 100) atomicAdd(&halves[0], __floats2half2_rn(1.0f, 2.0f));
  if (i < 100) atomicAdd(&brains[0], __floats2bfloat162_rn(1.0f, 2.0f));
  if (i < 100) atomicAdd(&single[1], __float2half(1.0f));
  float* maximum = &floats[4];  // the usual loop for a float maximum
  float value = sinf((float)i) * 100.0f;
  int seen = __float_as_int(*maximum);
  while (value > __int_as_float(seen)) {
    int assumed = seen;
    seen = atomicCAS((int*)maximum, assumed, __float_as_int(value));
    if (seen == assumed) break;
  }
}
