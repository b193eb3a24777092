// torch's allocator of CUDA memory, over the registry of the CUDA runtime (cuda_runtime/allocations.h). Nothing is cached: every
// tensor has its own allocation, redzones and poison.

#include <ATen/core/TensorBase.h>
#include <c10/core/Allocator.h>
#include <c10/cuda/CUDACachingAllocator.h>

#include <cstring>

#include "../cuda_runtime/allocations.h"
#include "memory.h"

namespace runtime = kernelevo::runtime;

namespace kernelevo::tensors {
namespace {

void free_tensor_memory(void* pointer) { runtime::release(pointer); }

class DeviceAllocator final : public c10::cuda::CUDACachingAllocator::CUDAAllocator {
 public:
  c10::DataPtr allocate(std::size_t size) override {
    void* pointer = raw_alloc(size);
    return {pointer, pointer, &free_tensor_memory, c10::Device(c10::kCUDA, 0)};
  }

  // A pointer for every size, so that empty tensors are distinct; torch passes nullptr of its own accord where it may.
  void* raw_alloc(std::size_t size) override {
    if (size == 0) return nullptr;
    void* pointer = runtime::allocate(size, runtime::Origin::kTensor);
    TORCH_CHECK_WITH(OutOfMemoryError, pointer != nullptr, "CUDA out of memory. Tried to allocate ", size,
                     " bytes on the emulated device, which has ", runtime::memory_limit(), " bytes in all and ",
                     runtime::live_bytes(), " in use.");
    return pointer;
  }

  void* raw_alloc_with_stream(std::size_t size, cudaStream_t) override { return raw_alloc(size); }
  void raw_delete(void* pointer) override { runtime::release(pointer); }
  c10::DeleterFnPtr raw_deleter() const override { return &free_tensor_memory; }
  void copy_data(void* to, const void* from, std::size_t count) const override {
    std::memcpy(to, from, count);
    runtime::mark_written(to, count);
  }

  bool initialized() override { return true; }
  void init(int) override {}
  void emptyCache(c10::MempoolId_t) override {}
  bool isEnabled() const override { return true; }
  void enable(bool) override {}
  std::string name() override { return "kernelevo"; }

  // Memory is given back only when no stream has work left, which is all that recordStream is for.
  void recordStream(const c10::DataPtr&, c10::cuda::CUDAStream) override {}

  c10::CachingDeviceAllocator::DeviceStats getDeviceStats(c10::DeviceIndex) override {
    c10::CachingDeviceAllocator::DeviceStats stats;
    auto& bytes = stats.allocated_bytes[0];
    bytes.current = static_cast<std::int64_t>(runtime::live_bytes());
    bytes.peak = static_cast<std::int64_t>(runtime::peak_bytes());
    return stats;
  }
  void resetAccumulatedStats(c10::DeviceIndex) override {}
  void resetPeakStats(c10::DeviceIndex) override {}
  double getMemoryFraction(c10::DeviceIndex) override { return 1.0; }
  void setMemoryFraction(double, c10::DeviceIndex) override {}
  void cacheInfo(c10::DeviceIndex, std::size_t* largest) override { *largest = 0; }

  void* getBaseAllocation(void* pointer, std::size_t* size) override {
    auto found = runtime::find_allocation(pointer);
    if (!found) return nullptr;
    if (size != nullptr) *size = found->size;
    return reinterpret_cast<void*>(found->address);
  }

  cudaError_t memcpyAsync(void* to, int, const void* from, int, std::size_t count, cudaStream_t stream,
                          bool) override {
    return cudaMemcpyAsync(to, from, count, cudaMemcpyDeviceToDevice, stream);
  }

  // Pools, graphs, sharing between processes and history are not emulated.
  std::vector<c10::cuda::CUDACachingAllocator::StreamSegmentSize> getExpandableSegmentSizes(
      c10::DeviceIndex) override {
    return {};
  }
  c10::cuda::CUDACachingAllocator::SnapshotInfo snapshot(c10::MempoolId_t, bool) override {
    return {};
  }
  void beginAllocateToPool(c10::DeviceIndex, c10::MempoolId_t,
                           std::function<bool(cudaStream_t)>) override {
    refuse("memory pools");
  }
  void endAllocateToPool(c10::DeviceIndex, c10::MempoolId_t) override {
    refuse("memory pools");
  }
  void releasePool(c10::DeviceIndex, c10::MempoolId_t) override { refuse("memory pools"); }
  c10::cuda::CUDACachingAllocator::ShareableHandle shareIpcHandle(void*) override {
    refuse("memory shared between processes");
  }
  std::shared_ptr<void> getIpcDevPtr(std::string) override { refuse("memory shared between processes"); }
  void recordHistory(bool, c10::CachingDeviceAllocator::CreateContextFn, std::size_t,
                     c10::CachingDeviceAllocator::RecordContext, bool, const std::vector<std::string>&) override {}
  void attachOutOfMemoryObserver(c10::cuda::CUDACachingAllocator::OutOfMemoryObserver) override {}
  void attachOomRejectionObserver(c10::cuda::CUDACachingAllocator::OomRejectionObserver) override {}
  void attachAllocatorTraceTracker(c10::CachingDeviceAllocator::AllocatorTraceTracker) override {}
  void enablePeerAccess(c10::DeviceIndex, c10::DeviceIndex) override {}
  std::shared_ptr<c10::cuda::CUDACachingAllocator::AllocatorState> getCheckpointState(
      c10::DeviceIndex, c10::MempoolId_t) override {
    refuse("checkpoints of memory pools");
  }
  c10::cuda::CUDACachingAllocator::CheckpointDelta setCheckpointPoolState(
      c10::DeviceIndex, std::shared_ptr<c10::cuda::CUDACachingAllocator::AllocatorState>) override {
    refuse("checkpoints of memory pools");
  }

 private:
  [[noreturn]] static void refuse(const char* what) {
    TORCH_CHECK_NOT_IMPLEMENTED(false, what, " are not emulated");
  }
};

// Page-locked host memory: what tensor.pin_memory() gives.
class PinnedAllocator final : public c10::Allocator {
 public:
  c10::DataPtr allocate(std::size_t size) override {
    void* pointer = size == 0 ? nullptr : runtime::allocate(size, runtime::Origin::kPinned);
    TORCH_CHECK_WITH(OutOfMemoryError, pointer != nullptr || size == 0, "out of pinned host memory: ", size, " bytes");
    return {pointer, pointer, &free_tensor_memory, c10::Device(c10::kCPU)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &free_tensor_memory; }
  void copy_data(void* to, const void* from, std::size_t count) const override { std::memcpy(to, from, count); }
};

}  // namespace

c10::Allocator* device_allocator() {
  static auto* allocator = new DeviceAllocator;  // leaked: tensors may outlive static destructors
  return allocator;
}

c10::Allocator* pinned_allocator() {
  static auto* allocator = new PinnedAllocator;
  return allocator;
}

void register_allocator() {
  c10::SetAllocator(c10::kCUDA, device_allocator());
  c10::cuda::CUDACachingAllocator::allocator.store(static_cast<DeviceAllocator*>(device_allocator()));
}

}  // namespace kernelevo::tensors

namespace c10::cuda::CUDACachingAllocator {
std::atomic<CUDAAllocator*> allocator{nullptr};
}
