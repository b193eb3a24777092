#pragma once
#include <cstdint>
#include <tuple>
#include <string>
#include <initializer_list>
#include <algorithm>
namespace c10 { enum class ScalarType { Float }; }
namespace torch { constexpr auto kFloat32=c10::ScalarType::Float; constexpr auto kInt64=c10::ScalarType::Float;
struct TensorOptions{}; 
struct Tensor { bool is_cuda() const; bool is_contiguous() const; c10::ScalarType scalar_type() const; int64_t dim() const, size(int) const, numel() const; template<class T> T* data_ptr() const; TensorOptions options() const; };
Tensor empty_like(const Tensor&); Tensor empty(std::initializer_list<int64_t>, TensorOptions); }
#define TORCH_CHECK(...) do { } while (0)
#define AT_DISPATCH_FLOATING_TYPES(a,b,...) do { { using scalar_t = float; (__VA_ARGS__)(); } { using scalar_t = double; (__VA_ARGS__)(); } } while (0)
struct Mod { template<class F> void def(const char*, F, const char* = ""); };
#define TORCH_EXTENSION_NAME ext
#define PYBIND11_MODULE(n, m) void init_##n(Mod& m)
