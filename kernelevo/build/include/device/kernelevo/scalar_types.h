#pragma once
// Stands for c10/core/ScalarType.h, torch/headeronly/core/ScalarType.h, c10/util/complex.h and c10/util/Float8*.h in the
// device pass. Half and BFloat16 are torch's own; complex and 8-bit types are only named, since kernels here do not use
// them: one that does fails on an incomplete type and goes to the standard build.

#include <torch/headeronly/macros/Macros.h>
#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Half.h>

#include <cstdint>
#include <type_traits>

namespace c10 {

template <typename T>
struct alignas(sizeof(T) * 2) complex;
struct Float8_e4m3fn;
struct Float8_e4m3fnuz;
struct Float8_e5m2;
struct Float8_e5m2fnuz;
struct Float8_e8m0fnu;

// Order and values are torch's.
#define KERNELEVO_FOR_SCALAR_TYPES(_)                                                                              \
  _(Byte) _(Char) _(Short) _(Int) _(Long) _(Half) _(Float) _(Double) _(ComplexHalf) _(ComplexFloat)                \
  _(ComplexDouble) _(Bool) _(QInt8) _(QUInt8) _(QInt32) _(BFloat16) _(QUInt4x2) _(QUInt2x4) _(Bits1x8) _(Bits2x4)  \
  _(Bits4x2) _(Bits8) _(Bits16) _(Float8_e5m2) _(Float8_e4m3fn) _(Float8_e5m2fnuz) _(Float8_e4m3fnuz) _(UInt16)    \
  _(UInt32) _(UInt64) _(UInt1) _(UInt2) _(UInt3) _(UInt4) _(UInt5) _(UInt6) _(UInt7) _(Int1) _(Int2) _(Int3)       \
  _(Int4) _(Int5) _(Int6) _(Int7) _(Float8_e8m0fnu) _(Float4_e2m1fn_x2)

enum class ScalarType : int8_t {
#define KERNELEVO_ENUMERATOR(name) name,
  KERNELEVO_FOR_SCALAR_TYPES(KERNELEVO_ENUMERATOR)
#undef KERNELEVO_ENUMERATOR
  Undefined,
  NumOptions
};

#define KERNELEVO_CONSTANT(name) constexpr ScalarType k##name = ScalarType::name;
KERNELEVO_FOR_SCALAR_TYPES(KERNELEVO_CONSTANT)
#undef KERNELEVO_CONSTANT

template <typename T>
struct CppTypeToScalarType;

namespace impl {
template <ScalarType>
struct ScalarTypeToCPPType;
template <ScalarType N>
using ScalarTypeToCPPTypeT = typename ScalarTypeToCPPType<N>::type;
}  // namespace impl

#define KERNELEVO_CPP_TYPE(cpp_type, name)                                                                   \
  template <>                                                                                                \
  struct CppTypeToScalarType<cpp_type> : std::integral_constant<ScalarType, ScalarType::name> {};            \
  namespace impl {                                                                                           \
  template <>                                                                                                \
  struct ScalarTypeToCPPType<ScalarType::name> {                                                             \
    using type = cpp_type;                                                                                   \
    static type t;                                                                                           \
  };                                                                                                         \
  }
KERNELEVO_CPP_TYPE(uint8_t, Byte)
KERNELEVO_CPP_TYPE(int8_t, Char)
KERNELEVO_CPP_TYPE(int16_t, Short)
KERNELEVO_CPP_TYPE(int, Int)
KERNELEVO_CPP_TYPE(int64_t, Long)
KERNELEVO_CPP_TYPE(Half, Half)
KERNELEVO_CPP_TYPE(float, Float)
KERNELEVO_CPP_TYPE(double, Double)
KERNELEVO_CPP_TYPE(bool, Bool)
KERNELEVO_CPP_TYPE(BFloat16, BFloat16)
KERNELEVO_CPP_TYPE(uint16_t, UInt16)
KERNELEVO_CPP_TYPE(uint32_t, UInt32)
KERNELEVO_CPP_TYPE(uint64_t, UInt64)
#undef KERNELEVO_CPP_TYPE

const char* toString(ScalarType);
size_t elementSize(ScalarType);
bool isFloatingType(ScalarType);
bool isReducedFloatingType(ScalarType);
bool isIntegralType(ScalarType, bool includeBool);
bool isComplexType(ScalarType);
ScalarType promoteTypes(ScalarType, ScalarType);
ScalarType toUnderlying(ScalarType);

}  // namespace c10

namespace torch::headeronly {
using c10::ScalarType;
using c10::toString;
namespace impl {
using c10::impl::ScalarTypeToCPPTypeT;
}
}  // namespace torch::headeronly

namespace at {
using namespace c10;
}
