// Functions of libcuda.so.1, found when they are first needed: this library must load where there is no driver.
#pragma once

#include <stdexcept>
#include <string>

#include "cuda_api.h"

namespace kernelevo::cuda {

// One row per function: return type is CUresult for all. The exported name may carry a version.
#define KERNELEVO_DRIVER_FUNCTIONS(X)                                                                          \
  X(cuInit, "cuInit", (unsigned flags))                                                                        \
  X(cuDriverGetVersion, "cuDriverGetVersion", (int* version))                                                  \
  X(cuDevicePrimaryCtxRetain, "cuDevicePrimaryCtxRetain", (CUcontext * context, CUdevice device))              \
  X(cuCtxGetCurrent, "cuCtxGetCurrent", (CUcontext * context))                                                 \
  X(cuCtxSetCurrent, "cuCtxSetCurrent", (CUcontext context))                                                   \
  X(cuCtxSynchronize, "cuCtxSynchronize", ())                                                                  \
  X(cuModuleLoadDataEx, "cuModuleLoadDataEx",                                                                  \
    (CUmodule * module, const void* image, unsigned count, int* options, void** values))                       \
  X(cuModuleGetFunction, "cuModuleGetFunction", (CUfunction * function, CUmodule module, const char* name))    \
  X(cuModuleGetGlobal, "cuModuleGetGlobal_v2",                                                                 \
    (CUdeviceptr * address, std::size_t* bytes, CUmodule module, const char* name))                            \
  X(cuFuncGetAttribute, "cuFuncGetAttribute", (int* value, int attribute, CUfunction function))                \
  X(cuFuncSetAttribute, "cuFuncSetAttribute", (CUfunction function, int attribute, int value))                 \
  X(cuFuncSetCacheConfig, "cuFuncSetCacheConfig", (CUfunction function, int config))                           \
  X(cuLaunchKernel, "cuLaunchKernel",                                                                          \
    (CUfunction function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,        \
     unsigned shared, CUstream stream, void** parameters, void** extra))                                       \
  X(cuLaunchCooperativeKernel, "cuLaunchCooperativeKernel",                                                    \
    (CUfunction function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,        \
     unsigned shared, CUstream stream, void** parameters))                                                     \
  X(cuLaunchKernelEx, "cuLaunchKernelEx",                                                                      \
    (const CUlaunchConfig* config, CUfunction function, void** parameters, void** extra))                      \
  X(cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags, "cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags", \
    (int* blocks, CUfunction function, int threads, std::size_t shared, unsigned flags))                       \
  X(cuOccupancyAvailableDynamicSMemPerBlock, "cuOccupancyAvailableDynamicSMemPerBlock",                        \
    (std::size_t * bytes, CUfunction function, int blocks, int threads))                                       \
  X(cuMemAlloc, "cuMemAlloc_v2", (CUdeviceptr * address, std::size_t bytes))                                   \
  X(cuMemFree, "cuMemFree_v2", (CUdeviceptr address))                                                          \
  X(cuMemsetD8Async, "cuMemsetD8Async",                                                                        \
    (CUdeviceptr address, unsigned char value, std::size_t bytes, CUstream stream))                            \
  X(cuMemcpyDtoHAsync, "cuMemcpyDtoHAsync_v2",                                                                 \
    (void* to, CUdeviceptr from, std::size_t bytes, CUstream stream))                                          \
  X(cuStreamCreate, "cuStreamCreate", (CUstream * stream, unsigned flags))                                     \
  X(cuStreamSynchronize, "cuStreamSynchronize", (CUstream stream))                                             \
  X(cuStreamQuery, "cuStreamQuery", (CUstream stream))                                                         \
  X(cuStreamGetFlags, "cuStreamGetFlags", (CUstream stream, unsigned* flags))                                  \
  X(cuStreamWaitEvent, "cuStreamWaitEvent", (CUstream stream, CUevent event, unsigned flags))                  \
  X(cuEventCreate, "cuEventCreate", (CUevent * event, unsigned flags))                                         \
  X(cuEventRecord, "cuEventRecord", (CUevent event, CUstream stream))                                          \
  X(cuThreadExchangeStreamCaptureMode, "cuThreadExchangeStreamCaptureMode", (int* mode))                       \
  X(cuGetErrorString, "cuGetErrorString", (CUresult error, const char** text))

struct Driver {
#define KERNELEVO_MEMBER(name, symbol, parameters) CUresult(*name) parameters = nullptr;
  KERNELEVO_DRIVER_FUNCTIONS(KERNELEVO_MEMBER)
#undef KERNELEVO_MEMBER
};

// Names the libraries to use instead of "libcuda.so.1" and the CUDA runtime that this process has. Empty: the default.
void set_libraries(std::string driver, std::string runtime);

// The driver's functions; throws std::runtime_error naming what is missing.
const Driver& driver();

// A function of the CUDA runtime that this process has loaded, or nullptr.
void* runtime_function(const char* name);

// Makes the primary context of the device current on this thread when no other is.
void ensure_context();

// "invalid argument (CUDA error 1)"
std::string words(CUresult error);

struct Failure : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Throws Failure saying what failed, unless the call succeeded.
void check(CUresult result, const char* what);

}  // namespace kernelevo::cuda
