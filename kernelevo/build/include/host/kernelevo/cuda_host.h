#pragma once
// What nvcc's own host pass declares and the CUDA headers leave out for other compilers.

#include <cuda_runtime.h>
#include <torch/headeronly/core/TensorAccessor.h>

#include <cmath>
#include <cstddef>
#include <type_traits>

#define __launch_bounds__(...)
#define __cluster_dims__(...)
#define __maxnreg__(...)

// torch declares it for nvcc only, but kernels' signatures name it.
namespace torch::headeronly {
template <typename T>
struct RestrictPtrTraits {
  typedef T* __restrict__ PtrType;
};
}  // namespace torch::headeronly
namespace at {
using torch::headeronly::RestrictPtrTraits;
}

// Named by using-directives and aliases at namespace scope; what is inside is for the device only.
namespace cooperative_groups {
namespace experimental {}
}  // namespace cooperative_groups
namespace cub {}
namespace nvcuda {
namespace wmma {}
namespace experimental {}
}  // namespace nvcuda

// crt/math_functions.h: min and max at global scope, with CUDA's choice of result types.
#define KERNELEVO_MIN_MAX(result, left, right)                                             \
  inline constexpr result min(left a, right b) { return (result)a < (result)b ? (result)a : (result)b; } \
  inline constexpr result max(left a, right b) { return (result)a > (result)b ? (result)a : (result)b; }
KERNELEVO_MIN_MAX(int, int, int)
KERNELEVO_MIN_MAX(unsigned, unsigned, unsigned)
KERNELEVO_MIN_MAX(unsigned, int, unsigned)
KERNELEVO_MIN_MAX(unsigned, unsigned, int)
KERNELEVO_MIN_MAX(long, long, long)
KERNELEVO_MIN_MAX(unsigned long, unsigned long, unsigned long)
KERNELEVO_MIN_MAX(unsigned long, long, unsigned long)
KERNELEVO_MIN_MAX(unsigned long, unsigned long, long)
KERNELEVO_MIN_MAX(long long, long long, long long)
KERNELEVO_MIN_MAX(unsigned long long, unsigned long long, unsigned long long)
KERNELEVO_MIN_MAX(unsigned long long, long long, unsigned long long)
KERNELEVO_MIN_MAX(unsigned long long, unsigned long long, long long)
KERNELEVO_MIN_MAX(float, float, float)
KERNELEVO_MIN_MAX(double, double, double)
KERNELEVO_MIN_MAX(double, float, double)
KERNELEVO_MIN_MAX(double, double, float)
#undef KERNELEVO_MIN_MAX

// Device functions that functions of both sides name. They are called on the device only, but for the first two.
inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
inline double rsqrt(double x) { return 1.0 / std::sqrt(x); }
float __fdividef(float, float);
float __frcp_rn(float);
float __fsqrt_rn(float);
float __frsqrt_rn(float);
float __fmaf_rn(float, float, float);
float __fmul_rn(float, float);
float __fadd_rn(float, float);
float __saturatef(float);
float __exp10f(float);
float normcdff(float);
template <class T>
T __ldg(const T*);

// cuda_runtime.h keeps these for nvcc. A kernel or device variable is named by its host address, which the runtime
// resolves with dladdr, as it does for launches.
template <class Function>
inline cudaError_t cudaFuncSetAttribute(Function* function, cudaFuncAttribute attribute, int value) {
  return ::cudaFuncSetAttribute(reinterpret_cast<const void*>(function), attribute, value);
}
template <class Function>
inline cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, Function* function) {
  return ::cudaFuncGetAttributes(attributes, reinterpret_cast<const void*>(function));
}
template <class Function>
inline cudaError_t cudaFuncSetCacheConfig(Function* function, cudaFuncCache config) {
  return ::cudaFuncSetCacheConfig(reinterpret_cast<const void*>(function), config);
}

template <class Symbol>
inline cudaError_t cudaMemcpyToSymbol(const Symbol& symbol, const void* source, std::size_t count,
                                      std::size_t offset = 0, cudaMemcpyKind kind = cudaMemcpyHostToDevice) {
  return ::cudaMemcpyToSymbol(static_cast<const void*>(&symbol), source, count, offset, kind);
}
template <class Symbol>
inline cudaError_t cudaMemcpyToSymbolAsync(const Symbol& symbol, const void* source, std::size_t count,
                                           std::size_t offset = 0, cudaMemcpyKind kind = cudaMemcpyHostToDevice,
                                           cudaStream_t stream = nullptr) {
  return ::cudaMemcpyToSymbolAsync(static_cast<const void*>(&symbol), source, count, offset, kind, stream);
}
template <class Symbol>
inline cudaError_t cudaMemcpyFromSymbol(void* destination, const Symbol& symbol, std::size_t count,
                                        std::size_t offset = 0, cudaMemcpyKind kind = cudaMemcpyDeviceToHost) {
  return ::cudaMemcpyFromSymbol(destination, static_cast<const void*>(&symbol), count, offset, kind);
}
template <class Symbol>
inline cudaError_t cudaGetSymbolAddress(void** address, const Symbol& symbol) {
  return ::cudaGetSymbolAddress(address, static_cast<const void*>(&symbol));
}
template <class Symbol>
inline cudaError_t cudaGetSymbolSize(std::size_t* size, const Symbol& symbol) {
  return ::cudaGetSymbolSize(size, static_cast<const void*>(&symbol));
}
