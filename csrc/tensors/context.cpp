// at::cuda's device properties. Handles of cuBLAS, cuSOLVER and cuSPARSE are not here: a candidate that needs one does not
// load, and the error names the function.

#include <c10/core/Allocator.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAException.h>

#include "memory.h"

namespace at::cuda {

__attribute__((visibility("default"))) cudaDeviceProp* getDeviceProperties(c10::DeviceIndex device) {
  TORCH_CHECK(device == 0 || device == -1, "invalid device ordinal ", static_cast<int>(device));
  static cudaDeviceProp properties = [] {
    cudaDeviceProp p;
    C10_CUDA_CHECK(cudaGetDeviceProperties(&p, 0));
    return p;
  }();
  return &properties;
}

__attribute__((visibility("default"))) cudaDeviceProp* getCurrentDeviceProperties() { return getDeviceProperties(0); }

__attribute__((visibility("default"))) int warp_size() { return getCurrentDeviceProperties()->warpSize; }

__attribute__((visibility("default"))) bool canDeviceAccessPeer(c10::DeviceIndex, c10::DeviceIndex) { return false; }

__attribute__((visibility("default"))) c10::Allocator* getCUDADeviceAllocator() {
  return kernelevo::tensors::device_allocator();
}

}  // namespace at::cuda
