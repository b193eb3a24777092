#pragma once
// Stands for c10/cuda/CUDAGuard.h in the device pass; see cuda.h beside this file.

#include <kernelevo/cuda.h>

namespace c10::cuda {

struct CUDAGuard {
  explicit CUDAGuard(DeviceIndex);
  explicit CUDAGuard(Device);
  void set_device(Device);
  void set_index(DeviceIndex);
};
struct OptionalCUDAGuard {
  OptionalCUDAGuard();
  explicit OptionalCUDAGuard(std::optional<Device>);
  explicit OptionalCUDAGuard(std::optional<DeviceIndex>);
  void set_device(Device);
  void set_index(DeviceIndex);
};
struct CUDAStreamGuard {
  explicit CUDAStreamGuard(Stream);
};

}  // namespace c10::cuda

namespace at::cuda {
using namespace c10::cuda;
}
