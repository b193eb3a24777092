// Calls that only advise a real device. They are accepted and change nothing here.

#include "errors.h"
#include "streams.h"

using namespace kernelevo::runtime;

extern "C" {

// Mostly the access policy window of the L2 cache.
KERNELEVO_API cudaError_t cudaStreamSetAttribute(cudaStream_t stream, int /*attribute*/, const void* /*value*/) {
  return set_error(check_stream(stream));
}

KERNELEVO_API cudaError_t cudaCtxResetPersistingL2Cache() { return set_error(cudaSuccess); }

KERNELEVO_API cudaError_t cudaDeviceSetCacheConfig(int /*config*/) { return set_error(cudaSuccess); }

KERNELEVO_API cudaError_t cudaProfilerStart() { return set_error(cudaSuccess); }

KERNELEVO_API cudaError_t cudaProfilerStop() { return set_error(cudaSuccess); }
}
