// torch.Generator("cuda"): a generator of its own state that draws with the CPU's Mersenne Twister. Its numbers are not the
// ones a GPU's Philox generator gives for the same seed.
#pragma once

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/core/Generator.h>

namespace kernelevo::tensors {

class DeviceGenerator final : public c10::GeneratorImpl {
 public:
  explicit DeviceGenerator(at::Generator cpu);

  const at::Generator& cpu() const { return cpu_; }

  void set_current_seed(uint64_t seed) override { cpu_.set_current_seed(seed); }
  void set_offset(uint64_t offset) override { cpu_.set_offset(offset); }
  uint64_t get_offset() const override { return cpu_.get_offset(); }
  uint64_t current_seed() const override { return cpu_.current_seed(); }
  uint64_t seed() override { return cpu_.seed(); }
  void set_state(const c10::TensorImpl& state) override;
  c10::intrusive_ptr<c10::TensorImpl> get_state() const override;
  static c10::DeviceType device_type() { return c10::kCUDA; }

 private:
  c10::GeneratorImpl* clone_impl() const override;

  at::Generator cpu_;
};

const at::Generator& default_generator();
at::Generator new_generator();

}  // namespace kernelevo::tensors
