#pragma once
// Stands for c10/cuda/*.h and ATen/cuda/{CUDAContext,Exceptions,...}.h in the device pass: declarations for host
// code that is parsed only so that its launches instantiate the kernels.

#include <cuda.h>
#include <cuda_runtime.h>
#include <kernelevo/exception.h>
#include <kernelevo/tensor.h>

#include <optional>

namespace c10 {

class DataPtr {
 public:
  void* get() const;
  void* mutable_get();
  explicit operator bool() const;
  Device device() const;
};

class Stream {
 public:
  Device device() const;
  DeviceIndex device_index() const;
};

namespace cuda {

class CUDAStream {
 public:
  explicit CUDAStream(Stream);
  operator cudaStream_t() const;
  operator Stream() const;
  cudaStream_t stream() const;
  Stream unwrap() const;
  Device device() const;
  DeviceIndex device_index() const;
  int64_t id() const;
  bool query() const;
  void synchronize() const;
};
bool operator==(const CUDAStream&, const CUDAStream&);

CUDAStream getCurrentCUDAStream(DeviceIndex = -1);
CUDAStream getDefaultCUDAStream(DeviceIndex = -1);
CUDAStream getStreamFromPool(bool isHighPriority = false, DeviceIndex = -1);
CUDAStream getStreamFromExternal(cudaStream_t, DeviceIndex);
void setCurrentCUDAStream(CUDAStream);
DeviceIndex current_device();
DeviceIndex device_count();
void set_device(DeviceIndex);
void device_synchronize();
void stream_synchronize(cudaStream_t);

void kernelevo_check(cudaError_t);

namespace CUDACachingAllocator {
struct CUDAAllocator {
  DataPtr allocate(size_t);
  void* raw_allocate(size_t);
  void raw_deallocate(void*);
};
CUDAAllocator* get();
void* raw_alloc(size_t);
void* raw_alloc_with_stream(size_t, cudaStream_t);
void raw_delete(void*);
void* getBaseAllocation(void*, size_t*);
void recordStream(const DataPtr&, CUDAStream);
void emptyCache();
}  // namespace CUDACachingAllocator

}  // namespace cuda

}  // namespace c10

namespace at {
namespace cuda {
using namespace c10::cuda;
cudaDeviceProp* getCurrentDeviceProperties();
cudaDeviceProp* getDeviceProperties(c10::DeviceIndex);
int warp_size();
bool is_available();
struct CUDAEvent {
  explicit CUDAEvent(unsigned flags = 0);
  void record();
  void record(const CUDAStream&);
  void block(const CUDAStream&);
  void synchronize() const;
  float elapsed_time(const CUDAEvent&) const;
};
}  // namespace cuda
}  // namespace at

#define C10_CUDA_CHECK(expression) ::c10::cuda::kernelevo_check(expression)
#define C10_CUDA_CHECK_WARN(expression) ::c10::cuda::kernelevo_check(expression)
#define C10_CUDA_ERROR_HANDLED(expression) expression
#define C10_CUDA_IGNORE_ERROR(expression) (void)(expression)
#define C10_CUDA_CLEAR_ERROR() (void)cudaGetLastError()
#define C10_CUDA_KERNEL_LAUNCH_CHECK() C10_CUDA_CHECK(cudaGetLastError())
#define AT_CUDA_CHECK(expression) C10_CUDA_CHECK(expression)
#define TORCH_CUDA_CHECK(expression) C10_CUDA_CHECK(expression)
