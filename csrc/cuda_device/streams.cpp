#include "streams.h"

#include <map>
#include <mutex>
#include <set>

#include "driver.h"

namespace kernelevo::cuda {
namespace {

constexpr std::uint64_t kSideStreamDelayNs = 50'000'000;

// Spins until the global timer has advanced by its argument.
constexpr const char* kDelayPtx = R"(
.version 7.0
.target sm_70
.address_size 64
.visible .entry kernelevo_delay(.param .u64 nanoseconds)
{
  .reg .pred %p;
  .reg .u64 %start, %now, %limit;
  ld.param.u64 %limit, [nanoseconds];
  mov.u64 %start, %globaltimer;
again:
  mov.u64 %now, %globaltimer;
  sub.u64 %now, %now, %start;
  setp.lt.u64 %p, %now, %limit;
  @%p bra again;
  ret;
}
)";

struct State {
  std::mutex mutex;
  std::set<CUstream> streams;
  std::map<CUstream, std::string> used;
  std::set<CUstream> delayed;
  CUevent gate = nullptr;  // of the window that is open
  CUfunction delay = nullptr;
  CUstream own = nullptr;
};

State& state() {
  static State* instance = new State;
  return *instance;
}

// cudaStreamLegacy and cudaStreamPerThread are 1 and 2.
bool is_named(CUstream stream) { return reinterpret_cast<std::uintptr_t>(stream) <= 2; }

}  // namespace

void stream_made(CUstream stream) {
  State& s = state();
  std::lock_guard lock(s.mutex);
  s.streams.insert(stream);
  if (s.gate != nullptr) driver().cuStreamWaitEvent(stream, s.gate, 0);
}

void stream_gone(CUstream stream) {
  State& s = state();
  std::lock_guard lock(s.mutex);
  s.streams.erase(stream);
  s.used.erase(stream);
  s.delayed.erase(stream);
}

void fork_streams(CUstream current, CUevent event) {
  State& s = state();
  std::lock_guard lock(s.mutex);
  s.gate = event;
  for (CUstream stream : s.streams)
    if (stream != current) check(driver().cuStreamWaitEvent(stream, event, 0), "cuStreamWaitEvent");
}

void join_streams(CUstream current) {
  State& s = state();
  std::lock_guard lock(s.mutex);
  s.gate = nullptr;
  static std::map<CUstream, CUevent> events;
  for (CUstream stream : s.streams) {
    if (stream == current) continue;
    CUevent& event = events[stream];
    if (event == nullptr) check(driver().cuEventCreate(&event, CU_EVENT_DISABLE_TIMING), "cuEventCreate");
    check(driver().cuEventRecord(event, stream), "cuEventRecord");
    check(driver().cuStreamWaitEvent(current, event, 0), "cuStreamWaitEvent");
  }
}

void stream_used(CUstream stream, const std::string& entry) {
  State& s = state();
  std::lock_guard lock(s.mutex);
  s.used[stream] = entry;
}

std::vector<std::string> busy_kernels() {
  State& s = state();
  std::lock_guard lock(s.mutex);
  std::vector<std::string> busy;
  for (const auto& [stream, entry] : s.used)
    if (driver().cuStreamQuery(stream) == CUDA_ERROR_NOT_READY) busy.push_back(entry);
  return busy;
}

void delay_side_stream(CUstream stream) {
  if (is_named(stream)) return;
  State& s = state();
  std::lock_guard lock(s.mutex);
  unsigned flags = 0;
  if (driver().cuStreamGetFlags(stream, &flags) != CUDA_SUCCESS || (flags & CU_STREAM_NON_BLOCKING) == 0) return;
  if (!s.delayed.insert(stream).second) return;
  if (s.delay == nullptr) {
    CUmodule module = nullptr;
    check(driver().cuModuleLoadDataEx(&module, kDelayPtx, 0, nullptr, nullptr), "loading the delay kernel");
    check(driver().cuModuleGetFunction(&s.delay, module, "kernelevo_delay"), "finding the delay kernel");
  }
  std::uint64_t nanoseconds = kSideStreamDelayNs;
  void* parameters[] = {&nanoseconds};
  driver().cuLaunchKernel(s.delay, 1, 1, 1, 1, 1, 1, 0, stream, parameters, nullptr);
}

void forget_stream_use() {
  State& s = state();
  std::lock_guard lock(s.mutex);
  s.used.clear();
  s.delayed.clear();
}

CUstream own_stream() {
  State& s = state();
  std::lock_guard lock(s.mutex);
  if (s.own == nullptr) check(driver().cuStreamCreate(&s.own, CU_STREAM_NON_BLOCKING), "cuStreamCreate");
  return s.own;
}

}  // namespace kernelevo::cuda
