// ATen operators of device="cuda" tensors: creation, views, copies and resizing here, everything else by running the CPU's
// kernel on tensors that share the memory (device memory is host memory), so nothing is copied but results.
//
// An operator first waits for the current stream, as its kernel would. Under a side stream its own work is done at
// once, not deferred: only kernels and runtime calls are.

#include <ATen/EmptyTensor.h>
#include <ATen/core/Tensor.h>
#include <ATen/native/CPUFallback.h>
#include <ATen/native/Resize.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/copy.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/_local_scalar_dense.h>
#include <ATen/ops/set_native.h>
#include <ATen/ops/unfold_native.h>
#include <ATen/ops/view_native.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

#include <cstring>
#include <unordered_map>

#include "../cuda_runtime/allocations.h"
#include "../cuda_runtime/copied.h"
#include "../cuda_runtime/streams.h"
#include "generator.h"
#include "memory.h"

namespace kernelevo::tensors {
namespace {

using at::Tensor;
using c10::IValue;
using Stack = torch::jit::Stack;

constexpr c10::DispatchKeySet kCuda{c10::DispatchKey::CUDA};
constexpr c10::DispatchKeySet kCpu{c10::DispatchKey::CPU};

void wait_for_current_stream() {
  if (runtime::work_is_pending()) c10::cuda::getCurrentCUDAStream().synchronize();
  // A kernel that faulted has left the device unusable. A refused launch that the candidate has yet to ask about has not.
  C10_CUDA_CHECK(runtime::context_error());
}

// CPU tensors over the memory of device tensors. Tensors that share a storage share the alias's storage too.
class Aliases {
 public:
  Tensor of(const Tensor& tensor) {
    if (!tensor.defined() || !tensor.is_cuda()) return tensor;
    const c10::Storage& storage = tensor.storage();
    auto [it, is_new] = storages_.try_emplace(storage.unsafeGetStorageImpl());
    if (is_new)
      it->second = c10::Storage(c10::Storage::use_byte_size_t(), storage.nbytes(),
                                c10::DataPtr(storage.mutable_data(), c10::kCPU), c10::GetCPUAllocator(),
                                /*resizable=*/true);
    Tensor alias = at::detail::make_tensor<c10::TensorImpl>(c10::Storage(it->second), kCpu, tensor.dtype());
    c10::TensorImpl* impl = alias.unsafeGetTensorImpl();
    impl->set_sizes_and_strides(tensor.sizes(), tensor.strides(), tensor.storage_offset());
    if (tensor.unsafeGetTensorImpl()->is_wrapped_number()) impl->set_wrapped_number(true);
    impl->_set_conj(tensor.is_conj());
    impl->_set_neg(tensor.is_neg());
    return alias;
  }

 private:
  std::unordered_map<c10::StorageImpl*, c10::Storage> storages_;
};

// For checked launches: the host has written this tensor's bytes. Where they are not one piece, the whole allocation counts.
void mark_written(const Tensor& tensor) {
  if (!tensor.defined() || !tensor.is_cuda() || tensor.numel() == 0) return;
  if (tensor.is_non_overlapping_and_dense()) {
    runtime::mark_written(tensor.mutable_data_ptr(), tensor.nbytes());
  } else {
    runtime::mark_all_written(tensor.storage().mutable_data());
  }
}

// A device tensor with the values, shape and strides of a CPU tensor.
Tensor to_device(const Tensor& cpu) {
  if (!cpu.defined() || !cpu.is_cpu()) return cpu;
  TORCH_CHECK_NOT_IMPLEMENTED(cpu.layout() == c10::kStrided, cpu.layout(),
                              " tensors are not supported on the emulated device");
  Tensor result = Tensor(at::detail::empty_strided_generic(cpu.sizes(), cpu.strides(), device_allocator(), kCuda,
                                                           cpu.scalar_type()));
  Aliases().of(result).copy_(cpu);
  mark_written(result);
  return result;
}

// Gives `original` what a kernel did to its alias beyond writing values: new memory, size or strides.
void take_over(const Tensor& original, const Tensor& alias) {
  if (!original.defined() || !original.is_cuda() || !alias.defined()) return;
  mark_written(original);
  const c10::Storage& to = original.storage();
  const c10::Storage& from = alias.storage();
  if (from.data() != to.data()) {
    c10::DataPtr memory = device_allocator()->allocate(from.nbytes());
    if (from.nbytes() != 0) std::memcpy(memory.get(), from.data(), from.nbytes());
    to.unsafeGetStorageImpl()->set_data_ptr_noswap(std::move(memory));
    to.unsafeGetStorageImpl()->set_nbytes(from.nbytes());
    runtime::mark_all_written(to.data());
  }
  if (original.sizes() != alias.sizes() || original.strides() != alias.strides() ||
      original.storage_offset() != alias.storage_offset())
    original.unsafeGetTensorImpl()->set_sizes_and_strides(alias.sizes(), alias.strides(), alias.storage_offset());
}

// Operators that take CPU tensors beside device tensors on a real GPU as well.
bool accepts_mixed_devices(const std::string& name) {
  for (const char* part : {"index", "pack_padded", "ctc_loss", "_foreach", "tensor_split", "repeat_interleave"})
    if (name.find(part) != std::string::npos) return true;
  return false;
}

void check_devices(const c10::OperatorHandle& op, const std::vector<Tensor>& tensors) {
  bool any_device = false, any_cpu = false;
  for (const Tensor& t : tensors) {
    any_device |= t.defined() && t.is_cuda();
    any_cpu |= t.defined() && t.is_cpu() && t.dim() > 0;
  }
  if (!any_device || !any_cpu || accepts_mixed_devices(op.operator_name().name)) return;
  TORCH_CHECK(false, "Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu! (",
              op.operator_name().name, ")");
}

bool is_generator(const c10::TypePtr& type) {
  if (type->kind() == c10::TypeKind::GeneratorType) return true;
  auto optional = type->cast<c10::OptionalType>();
  return optional && optional->getElementType()->kind() == c10::TypeKind::GeneratorType;
}

// An argument of a device operator, and what stands for it in the call of the CPU's kernel.
struct Argument {
  IValue original;
  IValue alias;
};

IValue alias_of(const IValue& value, const c10::TypePtr& type, Aliases& aliases, std::vector<Tensor>& tensors) {
  if (value.isTensor()) {
    tensors.push_back(value.toTensor());
    return aliases.of(value.toTensor());
  }
  if (value.isTensorList()) {
    c10::List<Tensor> list;
    for (const Tensor& t : value.toTensorVector()) {
      tensors.push_back(t);
      list.push_back(aliases.of(t));
    }
    return list;
  }
  if (value.isOptionalTensorList()) {
    c10::List<std::optional<Tensor>> list;
    for (const std::optional<Tensor>& t : value.toOptionalTensorList().vec()) {
      if (t) tensors.push_back(*t);
      list.push_back(t ? std::optional<Tensor>(aliases.of(*t)) : std::nullopt);
    }
    return list;
  }
  if (value.isDevice() && value.toDevice().is_cuda()) return c10::Device(c10::kCPU);
  if (is_generator(type)) {
    at::Generator generator = value.isNone() ? default_generator() : value.toGenerator();
    if (auto* device = dynamic_cast<DeviceGenerator*>(generator.unsafeGetGeneratorImpl())) return device->cpu();
  }
  return value;
}

// The device result for one result of the CPU's kernel: the argument itself where the schema says so (out=, in-place).
IValue result_of(const IValue& value, const c10::Argument& schema, const std::vector<Argument>& arguments) {
  if (value.isTensor()) {
    const Tensor& tensor = value.toTensor();
    if (schema.alias_info() != nullptr && schema.alias_info()->isWrite())
      for (const Argument& argument : arguments)
        if (argument.alias.isTensor() && argument.alias.toTensor().is_same(tensor)) return argument.original;
    return to_device(tensor);
  }
  if (value.isTensorList()) {
    c10::List<Tensor> list;
    for (const Tensor& t : value.toTensorVector()) list.push_back(to_device(t));
    return list;
  }
  return value;
}

void run_on_cpu(const c10::OperatorHandle& op, Stack* stack) {
  wait_for_current_stream();
  const c10::FunctionSchema& schema = op.schema();
  std::size_t count = schema.arguments().size();
  Aliases aliases;
  std::vector<Tensor> tensors;
  std::vector<Argument> arguments;
  arguments.reserve(count);
  for (std::size_t i = 0; i < count; ++i) {
    IValue& value = (*stack)[stack->size() - count + i];
    arguments.push_back({value, alias_of(value, schema.arguments()[i].type(), aliases, tensors)});
    value = arguments.back().alias;
  }
  check_devices(op, tensors);
  op.redispatchBoxed(kCpu, stack);
  for (std::size_t i = 0; i < count; ++i) {
    const auto* alias_info = schema.arguments()[i].alias_info();
    if (alias_info == nullptr || !alias_info->isWrite()) continue;
    const Argument& argument = arguments[i];
    if (argument.original.isTensor()) {
      take_over(argument.original.toTensor(), argument.alias.toTensor());
    } else if (argument.original.isTensorList()) {
      auto originals = argument.original.toTensorVector(), changed = argument.alias.toTensorVector();
      for (std::size_t k = 0; k < originals.size(); ++k) take_over(originals[k], changed[k]);
    }
  }
  std::size_t results = schema.returns().size();
  for (std::size_t i = 0; i < results; ++i) {
    IValue& value = (*stack)[stack->size() - results + i];
    value = result_of(value, schema.returns()[i], arguments);
  }
}

// --- creation

Tensor empty(at::IntArrayRef size, std::optional<at::ScalarType> dtype, std::optional<at::Layout>,
             std::optional<at::Device>, std::optional<bool>, std::optional<at::MemoryFormat> format) {
  return at::detail::empty_generic(size, device_allocator(), kCuda, c10::dtype_or_default(dtype), format);
}

Tensor empty_strided(at::IntArrayRef size, at::IntArrayRef stride, std::optional<at::ScalarType> dtype,
                     std::optional<at::Layout>, std::optional<at::Device>, std::optional<bool>) {
  return at::detail::empty_strided_generic(size, stride, device_allocator(), kCuda, c10::dtype_or_default(dtype));
}

// --- copies, between devices too

Tensor& copy_(Tensor& self, const Tensor& from, bool /*non_blocking*/) {
  wait_for_current_stream();
  Aliases aliases;
  aliases.of(self).copy_(aliases.of(from));
  mark_written(self);
  auto side = [](const Tensor& t) { return t.is_cuda() ? runtime::Side::kDevice : runtime::Side::kHost; };
  runtime::count_copy(side(from), side(self), from.nbytes());
  return self;
}

Tensor copy_from(const Tensor& self, const Tensor& to, bool non_blocking) {
  Tensor target = to;
  return copy_(target, self, non_blocking);
}

Tensor copy_from_and_resize(const Tensor& self, const Tensor& to) {
  Tensor target = to;
  if (target.sizes() != self.sizes()) target.resize_(self.sizes());
  return copy_(target, self, false);
}

at::Scalar local_scalar_dense(const Tensor& self) {
  wait_for_current_stream();
  runtime::count_copy(runtime::Side::kDevice, runtime::Side::kHost, self.element_size());
  return at::_local_scalar_dense(Aliases().of(self));
}

// --- sizes and views: no memory is read

const Tensor& resize_(const Tensor& self, at::IntArrayRef size, std::optional<at::MemoryFormat> format) {
  c10::TensorImpl* impl = self.unsafeGetTensorImpl();
  auto count = static_cast<std::size_t>(c10::multiply_integers(size));
  std::size_t needed = (count + static_cast<std::size_t>(self.storage_offset())) * self.element_size();
  const c10::Storage& storage = self.storage();
  if (storage.nbytes() < needed) {
    c10::DataPtr memory = device_allocator()->allocate(needed);
    if (storage.nbytes() != 0) std::memcpy(memory.get(), storage.data(), storage.nbytes());
    runtime::mark_written(memory.get(), storage.nbytes());
    storage.unsafeGetStorageImpl()->set_data_ptr_noswap(std::move(memory));
    storage.unsafeGetStorageImpl()->set_nbytes(needed);
  }
  impl->set_sizes_contiguous(size);
  if (format && *format != at::MemoryFormat::Preserve) impl->empty_tensor_restride(*format);
  return self;
}

Tensor as_strided(const Tensor& self, at::IntArrayRef size, at::IntArrayRef stride, std::optional<int64_t> offset) {
  return at::native::as_strided_tensorimpl(self, size, stride, offset);
}

Tensor view(const Tensor& self, at::IntArrayRef size) { return at::native::view(self, size); }

Tensor reshape_alias(const Tensor& self, at::IntArrayRef size, at::IntArrayRef stride) {
  return at::native::_reshape_alias(self, size, stride);
}

Tensor unfold(const Tensor& self, int64_t dimension, int64_t size, int64_t step) {
  return at::native::unfold(self, dimension, size, step);
}

Tensor& set_storage(Tensor& self, at::Storage storage, int64_t offset, at::IntArrayRef size, at::IntArrayRef stride) {
  return at::native::set_storage_cpu_(self, std::move(storage), offset, size, stride);
}

Tensor& set_empty(Tensor& self) {
  c10::Storage storage(c10::Storage::use_byte_size_t(), 0, device_allocator()->allocate(0), device_allocator(), true);
  return set_storage(self, std::move(storage), 0, {0}, {});
}

Tensor& set_source(Tensor& self, at::Storage storage) {
  auto count = static_cast<int64_t>(storage.nbytes() / self.element_size());
  return set_storage(self, std::move(storage), 0, {count}, {});
}

Tensor& set_tensor(Tensor& self, const Tensor& from) {
  return set_storage(self, from.storage(), from.storage_offset(), from.sizes(), from.strides());
}

bool is_set_to(const Tensor& self, const Tensor& other) {
  return self.storage().unsafeGetStorageImpl() == other.storage().unsafeGetStorageImpl() &&
         self.storage_offset() == other.storage_offset() && self.sizes() == other.sizes() &&
         self.strides() == other.strides();
}

// Memory is given back only when no stream has work left.
void record_stream(Tensor&, c10::Stream) {}

}  // namespace

TORCH_LIBRARY_IMPL(aten, CUDA, m) {
  m.impl("empty.memory_format", empty);
  m.impl("empty_strided", empty_strided);
  m.impl("copy_", copy_);
  m.impl("_copy_from", copy_from);
  m.impl("_copy_from_and_resize", copy_from_and_resize);
  m.impl("_local_scalar_dense", local_scalar_dense);
  m.impl("resize_", resize_);
  m.impl("as_strided", as_strided);
  m.impl("view", view);
  m.impl("_reshape_alias", reshape_alias);
  m.impl("unfold", unfold);
  m.impl("set_", set_empty);
  m.impl("set_.source_Storage", set_source);
  m.impl("set_.source_Storage_storage_offset", set_storage);
  m.impl("set_.source_Tensor", set_tensor);
  m.impl("is_set_to", is_set_to);
  m.impl("record_stream", record_stream);
  // These would choose a library of CUDA's by the tensors' device; on CPU tensors they choose one that is here.
  m.impl("convolution", torch::CppFunction::makeFromBoxedFunction<&run_on_cpu>());
  m.impl("convolution_backward", torch::CppFunction::makeFromBoxedFunction<&run_on_cpu>());
}

TORCH_LIBRARY_IMPL(_, CUDA, m) { m.fallback(torch::CppFunction::makeFromBoxedFunction<&run_on_cpu>()); }

}  // namespace kernelevo::tensors
