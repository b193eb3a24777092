#include "allocations.h"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <mutex>
#include <utility>

#include "streams.h"

namespace kernelevo::runtime {
namespace {

constexpr std::size_t kAlignment = 512;         // what torch's caching allocator gives
constexpr std::size_t kRedzone = 4096;          // bytes on each side: one float per thread of the largest block
constexpr std::uint64_t kCanary = 0x9E3779B97F4A7C15;  // as float 8.9e-21, as int64 negative: easy to spot
constexpr std::size_t kQuarantine = 32 << 20;   // bytes of released memory kept to see late writes

struct Block {
  Allocation allocation;
  void* memory = nullptr;  // what to free; nullptr for adopted memory
  std::size_t memory_bytes = 0;
  std::uint8_t* written = nullptr;  // of tracked memory that is not known to be written as a whole
  std::string name = {};
};

struct Registry {
  std::mutex mutex;
  std::map<std::uintptr_t, Block> live;
  std::deque<Block> waiting;     // released while streams had work
  std::deque<Block> quarantine;  // released, filled with canary
  std::size_t quarantine_bytes = 0;
  std::vector<Overrun> overruns;
  std::uint64_t next_number = 1;
  std::size_t live_bytes = 0;
  std::size_t waiting_bytes = 0;
  std::size_t peak_bytes = 0;
  std::size_t limit = std::size_t{80} << 30;
  std::uint8_t poison = 0xA5;
  bool tracking = false;
  std::atomic<std::size_t> tracked{0};  // blocks with `written`
  std::uint64_t version = 0;
};

Registry& registry() {
  static Registry* instance = new Registry;  // leaked: tensors may outlive static destructors
  return *instance;
}

// The canary is a function of the address so that a copied redzone does not look intact.
std::uint64_t canary_at(std::uintptr_t word) { return kCanary ^ (word >> 3); }

std::uint8_t canary_byte(std::uintptr_t address) {
  std::uint64_t word = canary_at(address & ~std::uintptr_t{7});
  return static_cast<std::uint8_t>(word >> (8 * (address & 7)));
}

void fill_canary(std::uintptr_t begin, std::uintptr_t end) {
  for (; begin < end && (begin & 7); ++begin) *reinterpret_cast<std::uint8_t*>(begin) = canary_byte(begin);
  for (; begin + 8 <= end; begin += 8) *reinterpret_cast<std::uint64_t*>(begin) = canary_at(begin);
  for (; begin < end; ++begin) *reinterpret_cast<std::uint8_t*>(begin) = canary_byte(begin);
}

// First damaged byte and number of damaged bytes in [begin, end).
std::pair<std::uintptr_t, std::size_t> damage(std::uintptr_t begin, std::uintptr_t end) {
  std::uintptr_t first = 0;
  std::size_t count = 0;
  for (std::uintptr_t at = begin; at < end;) {
    if ((at & 7) == 0 && at + 8 <= end && *reinterpret_cast<std::uint64_t*>(at) == canary_at(at)) {
      at += 8;
      continue;
    }
    if (*reinterpret_cast<std::uint8_t*>(at) != canary_byte(at)) {
      if (count++ == 0) first = at;
    }
    ++at;
  }
  return {first, count};
}

void check_range(Registry& r, const Allocation& allocation, std::uintptr_t begin, std::uintptr_t end, bool released) {
  auto [first, count] = damage(begin, end);
  if (count == 0) return;
  auto offset = static_cast<std::ptrdiff_t>(first - allocation.address);
  r.overruns.push_back({allocation, offset, count, released});
  fill_canary(begin, end);  // report once
}

void check_redzones(Registry& r, const Block& block) {
  if (block.memory == nullptr) return;
  auto begin = reinterpret_cast<std::uintptr_t>(block.memory);
  const Allocation& a = block.allocation;
  check_range(r, a, begin, a.address, false);
  check_range(r, a, a.address + a.size, begin + block.memory_bytes, false);
}

void forget_written(Registry& r, Block& block) {
  if (block.written == nullptr) return;
  std::free(std::exchange(block.written, nullptr));
  --r.tracked;
}

// The block that an address lies in, or null.
Block* block_at(Registry& r, std::uintptr_t address) {
  auto it = r.live.upper_bound(address);
  if (it == r.live.begin()) return nullptr;
  Block& block = std::prev(it)->second;
  return address - block.allocation.address < std::max<std::size_t>(block.allocation.size, 1) ? &block : nullptr;
}

void evict(Registry& r, std::size_t keep) {
  while (r.quarantine_bytes > keep) {
    Block block = r.quarantine.front();
    r.quarantine.pop_front();
    r.quarantine_bytes -= block.memory_bytes;
    auto begin = reinterpret_cast<std::uintptr_t>(block.memory);
    check_range(r, block.allocation, begin, begin + block.memory_bytes, true);
    std::free(block.memory);
  }
}

void retire(Registry& r, const Block& block) {
  check_redzones(r, block);
  ++r.version;
  if (block.memory_bytes > kQuarantine / 4) {
    std::free(block.memory);
    return;
  }
  auto begin = reinterpret_cast<std::uintptr_t>(block.memory);
  fill_canary(begin, begin + block.memory_bytes);
  r.quarantine.push_back(block);
  r.quarantine_bytes += block.memory_bytes;
  evict(r, kQuarantine);
}

bool fits(const Registry& r, std::size_t size, std::size_t used) { return size <= r.limit && used <= r.limit - size; }

bool has_room(std::size_t size) {
  Registry& r = registry();
  std::lock_guard lock(r.mutex);
  return fits(r, size, r.live_bytes + r.waiting_bytes);
}

}  // namespace

void* allocate(std::size_t size, Origin origin) noexcept {
  if (!has_room(size) && work_is_pending()) drain_all();  // before our lock, as in `release`
  Registry& r = registry();
  std::lock_guard lock(r.mutex);
  if (!fits(r, size, r.live_bytes + r.waiting_bytes)) return nullptr;
  std::size_t padded = (size + kAlignment - 1) / kAlignment * kAlignment;
  std::size_t memory_bytes = kRedzone + padded + kRedzone;
  void* memory = std::aligned_alloc(kAlignment, memory_bytes);
  if (memory == nullptr) {
    evict(r, 0);
    memory = std::aligned_alloc(kAlignment, memory_bytes);
    if (memory == nullptr) return nullptr;
  }
  std::uintptr_t begin = reinterpret_cast<std::uintptr_t>(memory);
  std::uintptr_t address = begin + kRedzone;
  fill_canary(begin, address);
  std::memset(reinterpret_cast<void*>(address), r.poison, size);
  fill_canary(address + size, begin + memory_bytes);
  Block block{{r.next_number++, address, size, origin}, memory, memory_bytes};
  if (r.tracking && size != 0 && (origin == Origin::kTensor || origin == Origin::kDevice)) {
    block.written = static_cast<std::uint8_t*>(std::calloc(size, 1));
    if (block.written != nullptr) ++r.tracked;
  }
  r.live.emplace(address, std::move(block));
  ++r.version;
  r.live_bytes += size;
  r.peak_bytes = std::max(r.peak_bytes, r.live_bytes);
  return reinterpret_cast<void*>(address);
}

bool release(void* pointer) noexcept {
  bool busy = work_is_pending();  // before our lock: streams lock first, allocations second
  Registry& r = registry();
  std::lock_guard lock(r.mutex);
  auto it = r.live.find(reinterpret_cast<std::uintptr_t>(pointer));
  if (it == r.live.end() || it->second.memory == nullptr) return false;
  Block block = std::move(it->second);
  r.live.erase(it);
  ++r.version;
  forget_written(r, block);
  r.live_bytes -= block.allocation.size;
  if (busy) {
    r.waiting.push_back(block);
    r.waiting_bytes += block.allocation.size;
  } else {
    retire(r, block);
  }
  return true;
}

std::optional<Allocation> find_allocation(const void* pointer) {
  Registry& r = registry();
  std::lock_guard lock(r.mutex);
  auto address = reinterpret_cast<std::uintptr_t>(pointer);
  auto it = r.live.upper_bound(address);
  if (it == r.live.begin()) return std::nullopt;
  const Allocation& a = std::prev(it)->second.allocation;
  if (address - a.address < std::max<std::size_t>(a.size, 1)) return a;
  return std::nullopt;
}

const char* word_for(Origin origin) {
  switch (origin) {
    case Origin::kTensor: return "tensor";
    case Origin::kDevice: return "cudaMalloc";
    case Origin::kPinned: return "pinned host memory";
    case Origin::kManaged: return "managed memory";
    case Origin::kModule: return "module variable";
    case Origin::kHeap: return "memory from malloc in a kernel";
  }
  return "memory";
}

std::string describe_address(std::uintptr_t address) {
  constexpr std::uintptr_t kNear = std::uintptr_t{1} << 30;
  if (address < 4096) return "a null pointer";
  if (address == UINTPTR_MAX) return "an address that cannot exist";
  Registry& r = registry();
  std::lock_guard lock(r.mutex);
  auto above = r.live.upper_bound(address);
  auto name = [](const Allocation& a) {
    return std::string("a ") + word_for(a.origin) + " of " + std::to_string(a.size) + " bytes";
  };
  if (above != r.live.begin()) {
    const Allocation& a = std::prev(above)->second.allocation;
    std::uintptr_t past = address - a.address;
    if (past < a.size) return "byte " + std::to_string(past) + " of " + name(a);
    if (past - a.size < kNear) return std::to_string(past - a.size) + " bytes past the end of " + name(a);
  }
  if (above != r.live.end() && above->first - address < kNear)
    return std::to_string(above->first - address) + " bytes before " + name(above->second.allocation);
  return "no memory of the device";
}

void adopt(void* pointer, std::size_t size, Origin origin) {
  Registry& r = registry();
  std::lock_guard lock(r.mutex);
  auto address = reinterpret_cast<std::uintptr_t>(pointer);
  r.live.insert_or_assign(address, Block{{r.next_number++, address, size, origin}, nullptr, 0});
  ++r.version;
}

void abandon(void* pointer) {
  Registry& r = registry();
  std::lock_guard lock(r.mutex);
  auto it = r.live.find(reinterpret_cast<std::uintptr_t>(pointer));
  if (it == r.live.end() || it->second.memory != nullptr) return;
  r.live.erase(it);
  ++r.version;
}

void set_tracking(bool on) {
  Registry& r = registry();
  std::lock_guard lock(r.mutex);
  r.tracking = on;
}

void mark_written(const void* pointer, std::size_t size) {
  Registry& r = registry();
  if (r.tracked.load(std::memory_order_relaxed) == 0 || size == 0) return;
  std::lock_guard lock(r.mutex);
  auto address = reinterpret_cast<std::uintptr_t>(pointer);
  Block* block = block_at(r, address);
  if (block == nullptr || block->written == nullptr) return;
  std::size_t first = address - block->allocation.address;
  size = std::min(size, block->allocation.size - first);
  if (size == block->allocation.size) {
    forget_written(r, *block);
  } else {
    std::memset(block->written + first, 0xff, size);
  }
}

void mark_all_written(const void* pointer) {
  Registry& r = registry();
  if (r.tracked.load(std::memory_order_relaxed) == 0) return;
  std::lock_guard lock(r.mutex);
  if (Block* block = block_at(r, reinterpret_cast<std::uintptr_t>(pointer))) forget_written(r, *block);
}

void set_name(const void* pointer, std::string name) {
  Registry& r = registry();
  std::lock_guard lock(r.mutex);
  auto it = r.live.find(reinterpret_cast<std::uintptr_t>(pointer));
  if (it != r.live.end()) it->second.name = std::move(name);
}

std::vector<KnownMemory> known_memory() {
  Registry& r = registry();
  std::lock_guard lock(r.mutex);
  std::vector<KnownMemory> result;
  auto add = [&](const Block& block, bool released) {
    auto begin = reinterpret_cast<std::uintptr_t>(block.memory);
    std::uintptr_t end = begin + block.memory_bytes;
    if (block.memory == nullptr) {
      begin = block.allocation.address;
      end = begin + block.allocation.size;
    }
    result.push_back({block.allocation, begin, end, released, block.written, block.name});
  };
  for (const auto& [address, block] : r.live) add(block, false);
  for (const Block& block : r.waiting) add(block, true);
  for (const Block& block : r.quarantine) add(block, true);
  std::sort(result.begin(), result.end(), [](const KnownMemory& a, const KnownMemory& b) {
    return a.allocation.address < b.allocation.address;
  });
  return result;
}

std::uint64_t memory_version() {
  Registry& r = registry();
  std::lock_guard lock(r.mutex);
  return r.version;
}

void set_poison(std::uint8_t byte) {
  Registry& r = registry();
  std::lock_guard lock(r.mutex);
  r.poison = byte;
}

void set_memory_limit(std::size_t bytes) {
  Registry& r = registry();
  std::lock_guard lock(r.mutex);
  r.limit = bytes;
}

std::size_t memory_limit() {
  Registry& r = registry();
  std::lock_guard lock(r.mutex);
  return r.limit;
}

std::size_t live_bytes() {
  Registry& r = registry();
  std::lock_guard lock(r.mutex);
  return r.live_bytes;
}

std::size_t peak_bytes() {
  Registry& r = registry();
  std::lock_guard lock(r.mutex);
  return r.peak_bytes;
}

std::vector<Overrun> take_overruns() {
  Registry& r = registry();
  std::lock_guard lock(r.mutex);
  for (const auto& [address, block] : r.live) check_redzones(r, block);
  for (const Block& block : r.waiting) check_redzones(r, block);
  for (const Block& block : r.quarantine) {
    auto begin = reinterpret_cast<std::uintptr_t>(block.memory);
    check_range(r, block.allocation, begin, begin + block.memory_bytes, true);
  }
  return std::exchange(r.overruns, {});
}

std::vector<Allocation> live_allocations() {
  Registry& r = registry();
  std::lock_guard lock(r.mutex);
  std::vector<Allocation> result;
  result.reserve(r.live.size());
  for (const auto& [address, block] : r.live) result.push_back(block.allocation);
  return result;
}

void collect_released() {
  Registry& r = registry();
  std::lock_guard lock(r.mutex);
  for (const Block& block : r.waiting) retire(r, block);
  r.waiting.clear();
  r.waiting_bytes = 0;
}

}  // namespace kernelevo::runtime
