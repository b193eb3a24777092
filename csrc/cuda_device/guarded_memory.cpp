#include "guarded_memory.h"

#include <algorithm>
#include <map>
#include <mutex>
#include <utility>

#include "driver.h"
#include "streams.h"

namespace kernelevo::cuda {
namespace {

constexpr std::size_t kRedzone = 512;  // bytes on each side; keeps the alignment of allocations
constexpr unsigned char kCanary = 0xC7;

struct Block {
  CUdeviceptr base = 0;
  std::size_t size = 0;   // that was asked for
  std::size_t total = 0;  // with both redzones
  bool freed = false;
};

struct State {
  std::mutex mutex;
  std::map<CUdeviceptr, Block> blocks;  // by the address that was handed out
  unsigned char poison = 0xA5;
  std::size_t limit = SIZE_MAX;
  std::size_t used = 0;
  std::vector<Overrun> found;
};

State& state() {
  static State* instance = new State;
  return *instance;
}

// Allocations by torch may happen while the candidate captures a graph.
class RelaxedCapture {
 public:
  RelaxedCapture() { driver().cuThreadExchangeStreamCaptureMode(&mode_); }
  ~RelaxedCapture() { driver().cuThreadExchangeStreamCaptureMode(&mode_); }

 private:
  int mode_ = CU_STREAM_CAPTURE_MODE_RELAXED;
};

void fill(CUdeviceptr address, unsigned char value, std::size_t bytes) {
  if (bytes != 0) check(driver().cuMemsetD8Async(address, value, bytes, own_stream()), "cuMemsetD8Async");
}

// Damage in [start, start + bytes) of canaries, `offset` bytes from the start of the allocation; repairs it.
void look(State& s, const Block& block, CUdeviceptr start, std::size_t bytes, std::ptrdiff_t offset) {
  std::vector<unsigned char> held(bytes);
  check(driver().cuMemcpyDtoHAsync(held.data(), start, bytes, own_stream()), "cuMemcpyDtoHAsync");
  check(driver().cuStreamSynchronize(own_stream()), "cuStreamSynchronize");
  auto damaged = [](unsigned char byte) { return byte != kCanary; };
  auto first = std::find_if(held.begin(), held.end(), damaged);
  if (first == held.end()) return;
  auto count = static_cast<std::size_t>(std::count_if(held.begin(), held.end(), damaged));
  s.found.push_back({block.size, offset + (first - held.begin()), count});
  fill(start, kCanary, bytes);
}

void look_at_all(State& s) {
  for (auto it = s.blocks.begin(); it != s.blocks.end();) {
    const Block& block = it->second;
    look(s, block, block.base, kRedzone, -static_cast<std::ptrdiff_t>(kRedzone));
    look(s, block, it->first + block.size, block.total - kRedzone - block.size,
         static_cast<std::ptrdiff_t>(block.size));
    if (!block.freed) {
      ++it;
      continue;
    }
    check(driver().cuMemFree(block.base), "cuMemFree");
    s.used -= block.total;
    it = s.blocks.erase(it);
  }
}

}  // namespace

void set_poison(unsigned char byte) {
  std::lock_guard lock(state().mutex);
  state().poison = byte;
}

void set_memory_limit(std::size_t bytes) {
  std::lock_guard lock(state().mutex);
  state().limit = bytes;
}

std::vector<Overrun> take_overruns() {
  State& s = state();
  std::lock_guard lock(s.mutex);
  look_at_all(s);
  return std::exchange(s.found, {});
}

}  // namespace kernelevo::cuda

using namespace kernelevo::cuda;

extern "C" {

void* kernelevo_guarded_malloc(std::ptrdiff_t size, int /*device*/, CUstream /*stream*/) {
  if (size <= 0) return nullptr;
  ensure_context();
  RelaxedCapture relaxed;
  State& s = state();
  std::lock_guard lock(s.mutex);
  Block block;
  block.size = static_cast<std::size_t>(size);
  block.total = kRedzone + (block.size + kRedzone - 1) / kRedzone * kRedzone + kRedzone;
  if (block.total > s.limit || s.used > s.limit - block.total) {
    check(driver().cuCtxSynchronize(), "cuCtxSynchronize");  // then what was freed can go
    look_at_all(s);
  }
  if (block.total > s.limit || s.used > s.limit - block.total)
    throw Failure("out of memory: " + std::to_string(block.size) + " bytes more than the " + std::to_string(s.used) +
                  " in use would exceed the limit of " + std::to_string(s.limit));
  check(driver().cuMemAlloc(&block.base, block.total), "out of memory: cuMemAlloc");
  CUdeviceptr address = block.base + kRedzone;
  fill(block.base, kCanary, block.total);
  fill(address, s.poison, block.size);
  check(driver().cuStreamSynchronize(own_stream()), "cuStreamSynchronize");
  s.used += block.total;
  s.blocks[address] = block;
  return reinterpret_cast<void*>(address);
}

// Kept until its canaries were looked at: work that uses it may still be queued.
void kernelevo_guarded_free(void* address, std::ptrdiff_t /*size*/, int /*device*/, CUstream /*stream*/) {
  State& s = state();
  std::lock_guard lock(s.mutex);
  if (auto it = s.blocks.find(reinterpret_cast<CUdeviceptr>(address)); it != s.blocks.end()) it->second.freed = true;
}
}
