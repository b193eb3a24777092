// Compiles when what csrc/cuda_device declares of CUDA agrees with NVIDIA's own headers: arity and kind of every
// parameter of the driver's functions, names that they are exported by, values of constants, layout of structures.
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>
#include <type_traits>

namespace ours {
#include "../../csrc/cuda_device/driver.h"
}  // namespace ours

// Last, since it renames functions that have versions, and with them members of the table.
#include <cuda.h>
#include <cuda_runtime_api.h>

template <typename T>
constexpr int kind = std::is_pointer_v<T> ? 1 : std::is_integral_v<T> || std::is_enum_v<T> ? 2 : 3;

template <typename A, typename B>
constexpr bool alike = sizeof(A) == sizeof(B) &&
                       (kind<A> == kind<B> ||
                        // CUdeviceptr is a number here and there; handles are pointers.
                        (std::is_integral_v<A> && std::is_integral_v<B>));

template <typename A, typename B>
struct Agree : std::false_type {};
template <typename R1, typename... A, typename R2, typename... B>
struct Agree<R1 (*)(A...), R2 (*)(B...)> {
  static constexpr bool check() {
    if constexpr (sizeof...(A) != sizeof...(B)) return false;
    else return alike<R1, R2> && (alike<A, B> && ...);
  }
  static constexpr bool value = check();
};

// `theirs` is what NVIDIA's header declares under the plain name, whatever version that stands for.
#define SAME(name, theirs) \
  static_assert(Agree<decltype(ours::kernelevo::cuda::Driver::name), decltype(&theirs)>::value, #name)

#undef cuModuleGetGlobal
#undef cuMemAlloc
#undef cuMemFree
SAME(cuInit, ::cuInit);
SAME(cuDriverGetVersion, ::cuDriverGetVersion);
SAME(cuDevicePrimaryCtxRetain, ::cuDevicePrimaryCtxRetain);
SAME(cuCtxGetCurrent, ::cuCtxGetCurrent);
SAME(cuCtxSetCurrent, ::cuCtxSetCurrent);
SAME(cuCtxSynchronize, ::cuCtxSynchronize);
SAME(cuModuleLoadDataEx, ::cuModuleLoadDataEx);
SAME(cuModuleGetFunction, ::cuModuleGetFunction);
SAME(cuModuleGetGlobal, ::cuModuleGetGlobal_v2);
SAME(cuFuncGetAttribute, ::cuFuncGetAttribute);
SAME(cuFuncSetAttribute, ::cuFuncSetAttribute);
SAME(cuFuncSetCacheConfig, ::cuFuncSetCacheConfig);
SAME(cuLaunchKernel, ::cuLaunchKernel);
SAME(cuLaunchCooperativeKernel, ::cuLaunchCooperativeKernel);
SAME(cuLaunchKernelEx, ::cuLaunchKernelEx);
SAME(cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags, ::cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags);
SAME(cuOccupancyAvailableDynamicSMemPerBlock, ::cuOccupancyAvailableDynamicSMemPerBlock);
SAME(cuMemAlloc, ::cuMemAlloc_v2);
SAME(cuMemFree, ::cuMemFree_v2);
#undef cuMemsetD8Async
#undef cuMemcpyDtoHAsync
SAME(cuMemsetD8Async, ::cuMemsetD8Async);
SAME(cuMemcpyDtoHAsync, ::cuMemcpyDtoHAsync_v2);
SAME(cuStreamCreate, ::cuStreamCreate);
SAME(cuStreamSynchronize, ::cuStreamSynchronize);
SAME(cuStreamQuery, ::cuStreamQuery);
SAME(cuStreamGetFlags, ::cuStreamGetFlags);
SAME(cuStreamWaitEvent, ::cuStreamWaitEvent);
SAME(cuEventCreate, ::cuEventCreate);
SAME(cuEventRecord, ::cuEventRecord);
SAME(cuThreadExchangeStreamCaptureMode, ::cuThreadExchangeStreamCaptureMode);
SAME(cuGetErrorString, ::cuGetErrorString);

#define EQUAL(name) static_assert(static_cast<int>(ours::name) == static_cast<int>(::name), #name)
EQUAL(CUDA_SUCCESS);
EQUAL(CUDA_ERROR_INVALID_VALUE);
EQUAL(CUDA_ERROR_OUT_OF_MEMORY);
EQUAL(CUDA_ERROR_NOT_INITIALIZED);
EQUAL(CUDA_ERROR_NO_BINARY_FOR_GPU);
EQUAL(CUDA_ERROR_NOT_FOUND);
EQUAL(CUDA_ERROR_NOT_READY);
EQUAL(CU_STREAM_NON_BLOCKING);
EQUAL(CU_EVENT_DISABLE_TIMING);
EQUAL(CU_STREAM_CAPTURE_MODE_RELAXED);
EQUAL(CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK);
EQUAL(CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES);
EQUAL(CU_FUNC_ATTRIBUTE_CONST_SIZE_BYTES);
EQUAL(CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES);
EQUAL(CU_FUNC_ATTRIBUTE_NUM_REGS);
EQUAL(CU_FUNC_ATTRIBUTE_PTX_VERSION);
EQUAL(CU_FUNC_ATTRIBUTE_BINARY_VERSION);
EQUAL(CU_FUNC_ATTRIBUTE_CACHE_MODE_CA);
EQUAL(CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES);
EQUAL(CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT);
static_assert(CU_JIT_ERROR_LOG_BUFFER == 5 && CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES == 6);
// What runtime.cpp passes on from one interface to the other.
static_assert(cudaErrorInvalidConfiguration == ours::CUDA_ERROR_INVALID_CONFIGURATION_RUNTIME);
static_assert(cudaErrorInvalidDeviceFunction == 98);
static_assert(cudaErrorInvalidValue == ::CUDA_ERROR_INVALID_VALUE && cudaErrorLaunchOutOfResources == ::CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES);
static_assert(cudaFuncAttributeMaxDynamicSharedMemorySize == ::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES);
static_assert(cudaFuncAttributePreferredSharedMemoryCarveout == ::CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT);

#define OFFSET(structure, theirs, field) \
  static_assert(offsetof(ours::structure, field) == offsetof(theirs, field), #structure "." #field)
OFFSET(CUlaunchConfig, ::CUlaunchConfig, gridDimX);
OFFSET(CUlaunchConfig, ::CUlaunchConfig, blockDimZ);
OFFSET(CUlaunchConfig, ::CUlaunchConfig, sharedMemBytes);
OFFSET(CUlaunchConfig, ::CUlaunchConfig, hStream);
OFFSET(CUlaunchConfig, ::CUlaunchConfig, attrs);
OFFSET(CUlaunchConfig, ::CUlaunchConfig, numAttrs);
OFFSET(cudaLaunchConfig_t, ::cudaLaunchConfig_t, blockDim);
OFFSET(cudaLaunchConfig_t, ::cudaLaunchConfig_t, dynamicSmemBytes);
OFFSET(cudaLaunchConfig_t, ::cudaLaunchConfig_t, stream);
OFFSET(cudaLaunchConfig_t, ::cudaLaunchConfig_t, attrs);
OFFSET(cudaLaunchConfig_t, ::cudaLaunchConfig_t, numAttrs);
OFFSET(cudaFuncAttributes, ::cudaFuncAttributes, sharedSizeBytes);
OFFSET(cudaFuncAttributes, ::cudaFuncAttributes, localSizeBytes);
OFFSET(cudaFuncAttributes, ::cudaFuncAttributes, maxThreadsPerBlock);
OFFSET(cudaFuncAttributes, ::cudaFuncAttributes, numRegs);
OFFSET(cudaFuncAttributes, ::cudaFuncAttributes, cacheModeCA);
OFFSET(cudaFuncAttributes, ::cudaFuncAttributes, maxDynamicSharedSizeBytes);
OFFSET(cudaFuncAttributes, ::cudaFuncAttributes, preferredShmemCarveout);
static_assert(sizeof(ours::LaunchAttribute) == sizeof(::CUlaunchAttribute));
static_assert(sizeof(ours::LaunchAttribute) == sizeof(::cudaLaunchAttribute));
static_assert(offsetof(::CUlaunchAttribute, value) == offsetof(::cudaLaunchAttribute, val));
