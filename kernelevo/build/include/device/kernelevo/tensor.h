#pragma once
// Stands for ATen/ATen.h and what it includes in the device pass: declarations only. Methods of Tensor and functions of
// `at` that the candidate names are taken from the installed torch's own headers (build/declarations.py) and arrive
// here as two generated files, so that every operator of torch can be called and none is parsed for nothing.

#include <kernelevo/array_ref.h>
#include <kernelevo/exception.h>
#include <kernelevo/scalar_types.h>
#include <kernelevo_standard_headers.inc>
#include <torch/headeronly/core/DeviceType.h>
#include <torch/headeronly/core/Layout.h>
#include <torch/headeronly/core/MemoryFormat.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include <ATen/core/TensorAccessor.h>

namespace caffe2 {
class TypeMeta {
 public:
  c10::ScalarType toScalarType() const;
  size_t itemsize() const;
  std::string_view name() const;
  template <typename T>
  static TypeMeta Make();
  template <typename T>
  bool Match() const;
};
bool operator==(TypeMeta, TypeMeta);
bool operator!=(TypeMeta, TypeMeta);
bool operator==(TypeMeta, c10::ScalarType);
bool operator!=(TypeMeta, c10::ScalarType);
bool operator==(c10::ScalarType, TypeMeta);
bool operator!=(c10::ScalarType, TypeMeta);
}  // namespace caffe2

namespace c10 {

using DeviceIndex = int8_t;
using string_view = std::string_view;
using StreamId = int64_t;
using std::nullopt;
using std::nullopt_t;
using std::optional;

struct Device {
  Device(DeviceType, DeviceIndex = -1);
  Device(const std::string&);
  bool operator==(const Device&) const;
  bool operator!=(const Device&) const;
  DeviceType type() const;
  DeviceIndex index() const;
  bool has_index() const;
  bool is_cuda() const;
  bool is_cpu() const;
  std::string str() const;
};
std::ostream& operator<<(std::ostream&, const Device&);

class SymInt {
 public:
  SymInt(int64_t);
};
using SymIntArrayRef = ArrayRef<SymInt>;
using OptionalSymIntArrayRef = OptionalArrayRef<SymInt>;

class Scalar {
 public:
  Scalar();
  template <typename T, std::enable_if_t<std::is_arithmetic_v<T>, int> = 0>
  Scalar(T);
  Scalar(Half);
  Scalar(BFloat16);
  template <typename T>
  T to() const;
  double toDouble() const;
  float toFloat() const;
  int64_t toLong() const;
  int toInt() const;
  bool toBool() const;
  bool isFloatingPoint() const;
  bool isIntegral(bool includeBool) const;
};

struct TensorOptions {
  TensorOptions();
  TensorOptions(Layout);
  TensorOptions(Device);
  TensorOptions(DeviceType);
  TensorOptions(caffe2::TypeMeta);
  TensorOptions(ScalarType);
  TensorOptions device(std::optional<Device>) const;
  TensorOptions device(DeviceType, DeviceIndex = -1) const;
  TensorOptions device_index(DeviceIndex) const;
  TensorOptions dtype(std::optional<ScalarType>) const;
  TensorOptions dtype(caffe2::TypeMeta) const;
  template <typename T>
  TensorOptions dtype() const;
  TensorOptions layout(std::optional<Layout>) const;
  TensorOptions requires_grad(std::optional<bool>) const;
  TensorOptions pinned_memory(std::optional<bool>) const;
  TensorOptions memory_format(std::optional<MemoryFormat>) const;
  Device device() const;
  caffe2::TypeMeta dtype() const;
  Layout layout() const;
  bool requires_grad() const;
};
TensorOptions dtype(ScalarType);
TensorOptions dtype(caffe2::TypeMeta);
TensorOptions device(Device);
TensorOptions layout(Layout);

class Storage;

struct DeviceGuard {
  explicit DeviceGuard(Device);
};
struct OptionalDeviceGuard {
  OptionalDeviceGuard();
  explicit OptionalDeviceGuard(std::optional<Device>);
};

}  // namespace c10

namespace at {

using namespace c10;
using c10::Device;
using c10::DeviceType;
using c10::Scalar;
using c10::ScalarType;
using c10::SymInt;
using c10::TensorOptions;

class Tensor;
struct Generator;
struct Dimname;
using DimnameList = ArrayRef<Dimname>;
using TensorList = ArrayRef<Tensor>;
using ITensorListRef = ArrayRef<Tensor>;
struct Stream;
class OptionalTensorRef;
namespace indexing {
enum class EllipsisIndexType { Ellipsis };
constexpr EllipsisIndexType Ellipsis = EllipsisIndexType::Ellipsis;
constexpr std::nullopt_t None = std::nullopt;
struct Slice {
  Slice(std::optional<int64_t> start = std::nullopt, std::optional<int64_t> stop = std::nullopt,
        std::optional<int64_t> step = std::nullopt);
};
struct TensorIndex {
  TensorIndex(std::nullopt_t);
  TensorIndex(EllipsisIndexType);
  TensorIndex(const char*);
  TensorIndex(int64_t);
  TensorIndex(int);
  TensorIndex(bool);
  TensorIndex(Slice);
  TensorIndex(const Tensor&);
};
}  // namespace indexing

class Tensor {
 public:
  Tensor();
  Tensor(const Tensor&);
  Tensor(Tensor&&);
  ~Tensor();
  Tensor& operator=(const Tensor&);
  Tensor& operator=(Tensor&&);
  Tensor& operator=(const Scalar&);
  Tensor& operator+=(const Tensor&);
  Tensor& operator+=(const Scalar&);
  Tensor& operator-=(const Tensor&);
  Tensor& operator-=(const Scalar&);
  Tensor& operator*=(const Tensor&);
  Tensor& operator*=(const Scalar&);
  Tensor& operator/=(const Tensor&);
  Tensor& operator/=(const Scalar&);
  Tensor operator-() const;
  Tensor operator[](int64_t) const;
  Tensor operator[](const Tensor&) const;
  Tensor operator[](const Scalar&) const;

  bool defined() const;
  void reset();
  bool is_same(const Tensor&) const;
  int64_t dim() const;
  int64_t ndimension() const;
  int64_t numel() const;
  int64_t size(int64_t) const;
  int64_t stride(int64_t) const;
  IntArrayRef sizes() const;
  IntArrayRef strides() const;
  int64_t storage_offset() const;
  size_t nbytes() const;
  size_t itemsize() const;
  int64_t element_size() const;
  size_t use_count() const;
  ScalarType scalar_type() const;
  caffe2::TypeMeta dtype() const;
  Layout layout() const;
  Device device() const;
  DeviceIndex get_device() const;
  TensorOptions options() const;
  MemoryFormat suggest_memory_format(bool channels_last_strides_exact_match = false) const;
  bool is_cuda() const;
  bool is_cpu() const;
  bool is_meta() const;
  bool is_sparse() const;
  bool is_quantized() const;
  bool is_complex() const;
  bool is_floating_point() const;
  bool is_signed() const;
  bool is_contiguous(MemoryFormat = MemoryFormat::Contiguous) const;
  bool is_non_overlapping_and_dense() const;
  bool has_storage() const;
  const Storage& storage() const;
  std::string toString() const;
  void print() const;

  void* data_ptr() const;
  const void* const_data_ptr() const;
  void* mutable_data_ptr() const;
  template <typename T>
  T* data_ptr() const;
  template <typename T>
  const T* const_data_ptr() const;
  template <typename T>
  T* mutable_data_ptr() const;
  template <typename T>
  T* data() const;
  template <typename T>
  T item() const;
  Scalar item() const;

  template <typename T, size_t N>
  TensorAccessor<T, N> accessor() const;
  template <typename T, size_t N, template <typename U> class PtrTraits = DefaultPtrTraits, typename index_t = int64_t>
  GenericPackedTensorAccessor<T, N, PtrTraits, index_t> generic_packed_accessor() const;
  template <typename T, size_t N, template <typename U> class PtrTraits = DefaultPtrTraits>
  PackedTensorAccessor32<T, N, PtrTraits> packed_accessor32() const;
  template <typename T, size_t N, template <typename U> class PtrTraits = DefaultPtrTraits>
  PackedTensorAccessor64<T, N, PtrTraits> packed_accessor64() const;
  template <typename T, size_t N, template <typename U> class PtrTraits = DefaultPtrTraits, typename index_t = int64_t>
  GenericPackedTensorAccessor<T, N, PtrTraits, index_t> packed_accessor() const;

  Tensor contiguous(MemoryFormat = MemoryFormat::Contiguous) const;
  Tensor cpu() const;
  Tensor cuda() const;
  Tensor data() const;
  Tensor toType(ScalarType) const;
  Tensor tensor_data() const;
  Tensor variable_data() const;
  Tensor index(ArrayRef<indexing::TensorIndex>) const;
  Tensor index(std::initializer_list<indexing::TensorIndex>) const;
  Tensor& index_put_(ArrayRef<indexing::TensorIndex>, const Tensor&);
  Tensor& index_put_(std::initializer_list<indexing::TensorIndex>, const Tensor&);
  Tensor& index_put_(std::initializer_list<indexing::TensorIndex>, const Scalar&);
  bool requires_grad() const;
  const Tensor& set_requires_grad(bool) const;
  const Tensor& requires_grad_(bool = true) const;
  Tensor& mutable_grad() const;
  const Tensor& grad() const;
  void backward(const Tensor& = {}, std::optional<bool> = std::nullopt, bool = false) const;
  bool is_leaf() const;

#include <kernelevo_tensor_methods.inc>
};

std::ostream& operator<<(std::ostream&, const Tensor&);
#define KERNELEVO_OPERATOR(op)                        \
  Tensor operator op(const Tensor&, const Tensor&);   \
  Tensor operator op(const Tensor&, const Scalar&);   \
  Tensor operator op(const Scalar&, const Tensor&);
KERNELEVO_OPERATOR(+)
KERNELEVO_OPERATOR(-)
KERNELEVO_OPERATOR(*)
KERNELEVO_OPERATOR(/)
KERNELEVO_OPERATOR(%)
KERNELEVO_OPERATOR(<)
KERNELEVO_OPERATOR(<=)
KERNELEVO_OPERATOR(>)
KERNELEVO_OPERATOR(>=)
KERNELEVO_OPERATOR(==)
KERNELEVO_OPERATOR(!=)
KERNELEVO_OPERATOR(&)
KERNELEVO_OPERATOR(|)
KERNELEVO_OPERATOR(^)
#undef KERNELEVO_OPERATOR
Tensor operator~(const Tensor&);
Tensor operator!(const Tensor&);

Tensor from_blob(void*, IntArrayRef, const TensorOptions& = {});
Tensor from_blob(void*, IntArrayRef, IntArrayRef, const TensorOptions& = {});
template <typename T>
Tensor tensor(ArrayRef<T>, const TensorOptions& = {});
template <typename T>
Tensor tensor(std::initializer_list<T>, const TensorOptions& = {});
template <typename T>
Tensor tensor(const std::vector<T>&, const TensorOptions& = {});
template <typename T, std::enable_if_t<std::is_arithmetic_v<T>, int> = 0>
Tensor tensor(T, const TensorOptions& = {});

std::optional<Device> device_of(const Tensor&);

struct NoGradGuard {
  NoGradGuard();
};
struct AutoDispatchBelowADInplaceOrView {
  AutoDispatchBelowADInplaceOrView();
};

#include <kernelevo_functions.inc>

}  // namespace at

namespace detail {
c10::ScalarType scalar_type(caffe2::TypeMeta);
}
