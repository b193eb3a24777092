#include "device.h"

#include <algorithm>
#include <atomic>
#include <cstring>

#include "allocations.h"
#include "errors.h"
#include "streams.h"

using namespace kernelevo::runtime;

namespace {

// cudaDeviceAttr values, as in the CUDA Runtime API reference. Attributes of textures, surfaces, IPC, NUMA and
// graphics, which the emulator has not, are 0.
int attribute_value(int attribute, bool& known) {
  constexpr const DeviceLimits& d = kDevice;
  known = true;
  switch (attribute) {
    case 1: return d.max_threads_per_block;
    case 2: return d.max_block[0];
    case 3: return d.max_block[1];
    case 4: return d.max_block[2];
    case 5: return static_cast<int>(d.max_grid[0]);
    case 6: return static_cast<int>(d.max_grid[1]);
    case 7: return static_cast<int>(d.max_grid[2]);
    case 8: return static_cast<int>(d.shared_per_block);
    case 9: return static_cast<int>(d.constant_bytes);
    case 10: return d.warp_size;
    case 11: return 2147483647;  // MaxPitch
    case 12: return d.registers_per_block;
    case 13: return d.clock_khz;
    case 14: return 512;  // TextureAlignment
    case 15: return 1;    // GpuOverlap
    case 16: return d.multiprocessors;
    case 19: return 1;  // CanMapHostMemory
    case 31: return 1;  // ConcurrentKernels
    case 32: return 1;  // EccEnabled
    case 36: return d.memory_clock_khz;
    case 37: return d.memory_bus_bits;
    case 38: return static_cast<int>(d.l2_bytes);
    case 39: return d.max_threads_per_multiprocessor;
    case 40: return 3;  // AsyncEngineCount
    case 41: return 1;  // UnifiedAddressing
    case 51: return 32;  // TexturePitchAlignment
    case 75: return d.major;
    case 76: return d.minor;
    case 78: return 1;  // StreamPrioritiesSupported
    case 79: return 1;  // GlobalL1CacheSupported
    case 80: return 1;  // LocalL1CacheSupported
    case 81: return static_cast<int>(d.shared_per_multiprocessor);
    case 82: return d.registers_per_multiprocessor;
    case 83: return 1;  // ManagedMemory
    case 87: return 2;  // SingleToDoublePrecisionPerfRatio
    case 89: return 1;  // ConcurrentManagedAccess
    case 90: return 1;  // ComputePreemptionSupported
    case 95: return 1;  // CooperativeLaunch
    case 97: return static_cast<int>(d.shared_per_block_optin);
    case 99: return 1;  // HostRegisterSupported
    case 106: return d.max_blocks_per_multiprocessor;
    case 111: return static_cast<int>(d.shared_reserved_per_block);
    case 115: return 0;  // MemoryPoolsSupported: cudaMallocAsync works, pools do not
    case 120: return 0;  // ClusterLaunch: not emulated
    default: known = attribute > 0 && attribute < 148; return 0;
  }
}

}  // namespace

extern "C" {

KERNELEVO_API cudaError_t cudaGetDeviceCount(int* count) {
  if (count == nullptr) return set_error(cudaErrorInvalidValue);
  *count = 1;
  return set_error(cudaSuccess);
}

KERNELEVO_API cudaError_t cudaGetDevice(int* device) {
  if (device == nullptr) return set_error(cudaErrorInvalidValue);
  *device = 0;
  return set_error(cudaSuccess);
}

KERNELEVO_API cudaError_t cudaSetDevice(int device) {
  return set_error(device == 0 ? cudaSuccess : cudaErrorInvalidDevice);
}

KERNELEVO_API cudaError_t cudaSetDeviceFlags(unsigned /*flags*/) { return set_error(cudaSuccess); }

KERNELEVO_API cudaError_t cudaDeviceReset() { return set_error(drain_all()); }

KERNELEVO_API cudaError_t cudaDeviceGetAttribute(int* value, int attribute, int device) {
  if (value == nullptr) return set_error(cudaErrorInvalidValue);
  if (device != 0) return set_error(cudaErrorInvalidDevice);
  bool known = false;
  int result = attribute_value(attribute, known);
  if (!known) return set_error(cudaErrorInvalidValue);
  *value = result;
  return set_error(cudaSuccess);
}

KERNELEVO_API cudaError_t cudaGetDeviceProperties(cudaDeviceProp* p, int device) {
  if (p == nullptr) return set_error(cudaErrorInvalidValue);
  if (device != 0) return set_error(cudaErrorInvalidDevice);
  constexpr const DeviceLimits& d = kDevice;
  std::memset(p, 0, sizeof *p);
  std::strncpy(p->name, d.name, sizeof p->name - 1);
  p->totalGlobalMem = d.global_bytes;
  p->sharedMemPerBlock = d.shared_per_block;
  p->regsPerBlock = d.registers_per_block;
  p->warpSize = d.warp_size;
  p->memPitch = 2147483647;
  p->maxThreadsPerBlock = d.max_threads_per_block;
  std::copy(std::begin(d.max_block), std::end(d.max_block), p->maxThreadsDim);
  std::copy(std::begin(d.max_grid), std::end(d.max_grid), p->maxGridSize);
  p->totalConstMem = d.constant_bytes;
  p->major = d.major;
  p->minor = d.minor;
  p->textureAlignment = 512;
  p->texturePitchAlignment = 32;
  p->multiProcessorCount = d.multiprocessors;
  p->canMapHostMemory = 1;
  p->concurrentKernels = 1;
  p->ECCEnabled = 1;
  p->asyncEngineCount = 3;
  p->unifiedAddressing = 1;
  p->memoryBusWidth = d.memory_bus_bits;
  p->l2CacheSize = static_cast<int>(d.l2_bytes);
  p->maxThreadsPerMultiProcessor = d.max_threads_per_multiprocessor;
  p->streamPrioritiesSupported = 1;
  p->globalL1CacheSupported = 1;
  p->localL1CacheSupported = 1;
  p->sharedMemPerMultiprocessor = d.shared_per_multiprocessor;
  p->regsPerMultiprocessor = d.registers_per_multiprocessor;
  p->managedMemory = 1;
  p->concurrentManagedAccess = 1;
  p->computePreemptionSupported = 1;
  p->sharedMemPerBlockOptin = d.shared_per_block_optin;
  p->maxBlocksPerMultiProcessor = d.max_blocks_per_multiprocessor;
  p->reservedSharedMemPerBlock = d.shared_reserved_per_block;
  p->hostRegisterSupported = 1;
  p->cooperativeLaunch = 1;
  p->hostNumaId = -1;
  return set_error(cudaSuccess);
}

KERNELEVO_API cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
  if (least != nullptr) *least = 0;
  if (greatest != nullptr) *greatest = -5;
  return set_error(cudaSuccess);
}

KERNELEVO_API cudaError_t cudaDeviceGetLimit(std::size_t* value, int limit) {
  if (value == nullptr) return set_error(cudaErrorInvalidValue);
  switch (limit) {
    case cudaLimitStackSize: *value = 1024; break;
    case cudaLimitPrintfFifoSize: *value = 1 << 20; break;
    case cudaLimitMallocHeapSize: *value = 8 << 20; break;
    default: return set_error(cudaErrorInvalidValue);
  }
  return set_error(cudaSuccess);
}

KERNELEVO_API cudaError_t cudaDeviceSetLimit(int /*limit*/, std::size_t /*value*/) { return set_error(cudaSuccess); }

KERNELEVO_API cudaError_t cudaMemGetInfo(std::size_t* free, std::size_t* total) {
  if (free == nullptr || total == nullptr) return set_error(cudaErrorInvalidValue);
  *total = memory_limit();
  *free = *total - std::min(*total, live_bytes());
  return set_error(cudaSuccess);
}

KERNELEVO_API cudaError_t cudaDriverGetVersion(int* version) {
  if (version == nullptr) return set_error(cudaErrorInvalidValue);
  *version = CUDART_VERSION;
  return set_error(cudaSuccess);
}

KERNELEVO_API cudaError_t cudaRuntimeGetVersion(int* version) { return cudaDriverGetVersion(version); }

KERNELEVO_API cudaError_t cudaDeviceCanAccessPeer(int* can, int /*device*/, int /*peer*/) {
  if (can == nullptr) return set_error(cudaErrorInvalidValue);
  *can = 0;
  return set_error(cudaSuccess);
}
}
