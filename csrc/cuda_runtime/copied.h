// Bytes that the program moved between host and device since they were last reset. Thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>

#include "errors.h"

namespace kernelevo::runtime {

enum class Side { kHost, kDevice, kBoth };  // kBoth: managed memory, of which nobody knows where it is

struct Copied {
  std::uint64_t in_bytes = 0;   // from host to device
  std::uint64_t out_bytes = 0;  // from device to host
};

KERNELEVO_API void count_copy(Side from, Side to, std::size_t bytes);
Copied copied();
void reset_copied();

}  // namespace kernelevo::runtime
