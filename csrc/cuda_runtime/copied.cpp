#include "copied.h"

#include <atomic>

namespace kernelevo::runtime {
namespace {

std::atomic<std::uint64_t> in_bytes{0};
std::atomic<std::uint64_t> out_bytes{0};

}  // namespace

void count_copy(Side from, Side to, std::size_t bytes) {
  if (from == Side::kHost && to == Side::kDevice) in_bytes += bytes;
  if (from == Side::kDevice && to == Side::kHost) out_bytes += bytes;
}

Copied copied() { return {in_bytes, out_bytes}; }

void reset_copied() { in_bytes = out_bytes = 0; }

}  // namespace kernelevo::runtime
