// What the device-independent parts of torch ask about CUDA: that there is one device, its generators, pinned memory.

#include "hooks.h"

#include <ATen/detail/CUDAHooksInterface.h>
#include <c10/cuda/impl/CUDAGuardImpl.h>

#include <new>

#include "../cuda_runtime/allocations.h"
#include "generator.h"
#include "memory.h"

namespace runtime = kernelevo::runtime;

namespace at {
namespace {

struct EmulatedHooks final : CUDAHooksInterface {
  explicit EmulatedHooks(CUDAHooksArgs) {}

  void init() const override {}
  bool hasCUDA() const override { return true; }
  bool hasCUDART() const override { return true; }
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(DeviceIndex) const override { return true; }

  DeviceIndex deviceCount() const override { return 1; }
  DeviceIndex current_device() const override { return 0; }
  DeviceIndex getCurrentDevice() const override { return 0; }
  void setCurrentDevice(DeviceIndex device) const override { c10::cuda::set_device(device); }
  DeviceIndex exchangeDevice(DeviceIndex device) const override { return c10::cuda::ExchangeDevice(device); }
  DeviceIndex maybeExchangeDevice(DeviceIndex device) const override { return c10::cuda::MaybeExchangeDevice(device); }

  const Generator& getDefaultGenerator(DeviceIndex) const override { return kernelevo::tensors::default_generator(); }
  Generator getNewGenerator(DeviceIndex) const override { return kernelevo::tensors::new_generator(); }

  Device getDeviceFromPtr(void* pointer) const override {
    TORCH_CHECK(runtime::find_allocation(pointer), "the pointer is not memory of the emulated device");
    return {kCUDA, 0};
  }
  bool isPinnedPtr(const void* pointer) const override {
    auto found = runtime::find_allocation(pointer);
    return found && found->origin == runtime::Origin::kPinned;
  }
  Allocator* getPinnedMemoryAllocator() const override { return kernelevo::tensors::pinned_allocator(); }
  Allocator* getCUDADeviceAllocator() const override { return kernelevo::tensors::device_allocator(); }

  int getNumGPUs() const override { return 1; }
  void deviceSynchronize(DeviceIndex) const override { c10::cuda::device_synchronize(); }
};

}  // namespace

C10_REGISTER_CLASS(CUDAHooksRegistry, CUDAHooks, EmulatedHooks)

}  // namespace at

namespace kernelevo::tensors {

// torch asks the registry for hooks once, while it is imported, and keeps what it got for good. When it was imported before
// us it has the base class's hooks, an object without members: ours take its place at the same address.
void install_hooks() {
  auto& installed = const_cast<at::CUDAHooksInterface&>(at::detail::getCUDAHooks());
  if (installed.hasCUDA()) return;
  static_assert(sizeof(at::EmulatedHooks) == sizeof(at::CUDAHooksInterface));
  new (static_cast<void*>(&installed)) at::EmulatedHooks(at::CUDAHooksArgs{});
}

}  // namespace kernelevo::tensors

namespace c10::cuda::impl {
C10_REGISTER_GUARD_IMPL(CUDA, CUDAGuardImpl)
}
