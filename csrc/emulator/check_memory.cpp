#include "check_memory.h"

#include <algorithm>
#include <utility>

#include "../cuda_runtime/allocations.h"

namespace kernelevo {
namespace {

// Addresses below are a null pointer with an index added: no memory of a process is that low.
constexpr uint64_t kNullEnd = uint64_t{1} << 22;
// An address this near to memory was probably meant for it.
constexpr uint64_t kNear = uint64_t{1} << 30;

std::string name_of(const runtime::KnownMemory& memory) {
  const std::string size = std::to_string(memory.allocation.size) + " bytes";
  if (!memory.name.empty()) return memory.name;
  if (memory.allocation.origin == runtime::Origin::kTensor) return "a tensor of " + size + " allocated by the candidate";
  return std::string(runtime::word_for(memory.allocation.origin)) + " of " + size;
}

}  // namespace

DeviceMemory::DeviceMemory(std::vector<MemoryRange> others) : others_(std::move(others)) { read_registry(); }

void DeviceMemory::read_registry() {
  version_ = runtime::memory_version();
  ranges_.clear();
  for (const MemoryRange& other : others_) {
    const uint64_t end = other.address + other.size;
    ranges_.push_back({other.address, end, other.address, end, false, other.writable, nullptr,
                       other.name + ", " + std::to_string(other.size) + " bytes"});
  }
  for (const runtime::KnownMemory& memory : runtime::known_memory()) {
    if (memory.allocation.origin == runtime::Origin::kModule) continue;  // among the others, with its name
    const uint64_t begin = memory.allocation.address;
    ranges_.push_back({begin, begin + memory.allocation.size, memory.room_begin, memory.room_end, memory.released, true,
                       memory.written, name_of(memory)});
  }
  std::sort(ranges_.begin(), ranges_.end(), [](const KnownRange& a, const KnownRange& b) { return a.begin < b.begin; });
}

Lookup DeviceMemory::find(uint64_t address, uint64_t bytes) {
  using Kind = Lookup::Kind;
  if (address < kNullEnd) return {Kind::null, nullptr};
  for (bool again : {true, false}) {
    const auto above = std::upper_bound(ranges_.begin(), ranges_.end(), address,
                                        [](uint64_t a, const KnownRange& range) { return a < range.begin; });
    const KnownRange* below = above == ranges_.begin() ? nullptr : &*(above - 1);
    const KnownRange* next = above == ranges_.end() ? nullptr : &*above;
    if (below && address < below->end) {
      if (below->released) return {Kind::released, below};
      return {address + bytes <= below->end ? Kind::inside : Kind::outside, below};
    }
    if (again && runtime::memory_version() != version_) {
      read_registry();
      continue;
    }
    if (next && address >= next->room_begin) return {Kind::outside, next};
    if (below && address < below->room_end) return {Kind::outside, below};
    const uint64_t past = below ? address - below->end : UINT64_MAX;
    const uint64_t before = next ? next->begin - address : UINT64_MAX;
    if (std::min(past, before) < kNear) return {Kind::outside, past <= before ? below : next};
    return {Kind::nowhere, nullptr};
  }
  return {};
}

}  // namespace kernelevo
