#pragma once
// Stands for torch/extension.h, torch/types.h and torch/all.h in the device pass. Like them it brings no CUDA header of
// torch: sources include ATen/cuda/CUDAContext.h and the like themselves.

#include <ATen/Dispatch.h>
#include <kernelevo/pybind.h>
#include <kernelevo/tensor.h>

namespace torch {
using namespace at;
using at::Tensor;
using std::nullopt;
using std::optional;
using Dtype = at::ScalarType;
constexpr auto kUInt8 = at::kByte;
constexpr auto kInt8 = at::kChar;
constexpr auto kInt16 = at::kShort;
constexpr auto kInt32 = at::kInt;
constexpr auto kInt64 = at::kLong;
constexpr auto kUInt16 = at::kUInt16;
constexpr auto kUInt32 = at::kUInt32;
constexpr auto kUInt64 = at::kUInt64;
constexpr auto kFloat16 = at::kHalf;
constexpr auto kFloat32 = at::kFloat;
constexpr auto kFloat64 = at::kDouble;
constexpr auto kU8 = kUInt8;
constexpr auto kI8 = kInt8;
constexpr auto kI16 = kInt16;
constexpr auto kI32 = kInt32;
constexpr auto kI64 = kInt64;
constexpr auto kF16 = kFloat16;
constexpr auto kF32 = kFloat32;
constexpr auto kF64 = kFloat64;
namespace autograd {
using Variable = at::Tensor;
}
namespace cuda {
bool is_available();
size_t device_count();
void synchronize(int64_t = -1);
}  // namespace cuda
}  // namespace torch
