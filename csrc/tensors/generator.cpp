#include "generator.h"

namespace kernelevo::tensors {

DeviceGenerator::DeviceGenerator(at::Generator cpu)
    : GeneratorImpl(c10::Device(c10::kCUDA, 0), c10::DispatchKeySet(c10::DispatchKey::CUDA)), cpu_(std::move(cpu)) {}

void DeviceGenerator::set_state(const c10::TensorImpl& state) { cpu_.unsafeGetGeneratorImpl()->set_state(state); }

c10::intrusive_ptr<c10::TensorImpl> DeviceGenerator::get_state() const {
  return cpu_.unsafeGetGeneratorImpl()->get_state();
}

c10::GeneratorImpl* DeviceGenerator::clone_impl() const { return new DeviceGenerator(cpu_.clone()); }

const at::Generator& default_generator() {
  static auto* generator = new at::Generator(new_generator());  // leaked, as torch's own
  return *generator;
}

at::Generator new_generator() { return at::make_generator<DeviceGenerator>(at::detail::createCPUGenerator()); }

}  // namespace kernelevo::tensors
