#pragma once
// Stands for c10/util/Exception.h in the device pass: checks take any arguments and do nothing, since only device code
// is kept.

#include <torch/headeronly/macros/Macros.h>
#include <torch/headeronly/util/Exception.h>

#include <exception>
#include <string>

namespace c10 {
class Error : public std::exception {
 public:
  explicit Error(std::string message);
  const char* what() const noexcept override;
  const std::string& msg() const;
};
using IndexError = Error;
using ValueError = Error;
using TypeError = Error;
using NotImplementedError = Error;

template <class... Messages>
[[noreturn]] void kernelevo_fail(const Messages&...);
template <class... Messages>
void kernelevo_warn(const Messages&...);
template <class... Parts>
std::string str(const Parts&...);
}  // namespace c10

#define KERNELEVO_CHECK(condition, ...)                                           \
  do {                                                                            \
    if (!(condition)) ::c10::kernelevo_fail(__VA_ARGS__);                         \
  } while (0)
#define TORCH_CHECK(...) KERNELEVO_CHECK(__VA_ARGS__)
#define TORCH_CHECK_ARG(condition, argument, ...) KERNELEVO_CHECK(condition, argument, ##__VA_ARGS__)
#define TORCH_CHECK_INDEX(...) KERNELEVO_CHECK(__VA_ARGS__)
#define TORCH_CHECK_VALUE(...) KERNELEVO_CHECK(__VA_ARGS__)
#define TORCH_CHECK_TYPE(...) KERNELEVO_CHECK(__VA_ARGS__)
#define TORCH_CHECK_LINALG(...) KERNELEVO_CHECK(__VA_ARGS__)
#define TORCH_CHECK_NOT_IMPLEMENTED(...) KERNELEVO_CHECK(__VA_ARGS__)
#define TORCH_INTERNAL_ASSERT(...) KERNELEVO_CHECK(__VA_ARGS__)
#define TORCH_INTERNAL_ASSERT_DEBUG_ONLY(...) KERNELEVO_CHECK(__VA_ARGS__)
#define TORCH_WARN(...) ::c10::kernelevo_warn(__VA_ARGS__)
#define TORCH_WARN_ONCE(...) ::c10::kernelevo_warn(__VA_ARGS__)
#define AT_ASSERT(...) KERNELEVO_CHECK(__VA_ARGS__)
#define AT_ASSERTM(...) KERNELEVO_CHECK(__VA_ARGS__)
#define AT_ERROR(...) ::c10::kernelevo_fail(__VA_ARGS__)
