// Streams: queues of work that runs in order, and only when something waits for it. Work on a stream that nobody
// joined has not happened, as a correct program must assume on hardware. Under a schedule some of it has: the streams
// take turns as its seed says.
//
// The legacy default stream (nullptr or cudaStreamLegacy) runs its work at once, after all earlier work of the blocking
// streams; that includes cudaStreamPerThread, but not streams made with cudaStreamNonBlocking.
// All work of the process runs under one lock, on the thread that waits (kernels use the emulator's threads inside).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "errors.h"

namespace kernelevo::runtime {

// How to wait for the lock when another thread has it. A thread that holds Python's lock must let go of it meanwhile,
// because the work that runs may need it.
void set_lock_waiter(void (*wait)(std::recursive_mutex&));

// Does the work; what it returns other than cudaSuccess corrupts the context.
using Work = std::function<cudaError_t()>;

// Queues `work`, or runs it when `stream` is the legacy default stream. `label` says what it is, for reports.
cudaError_t enqueue(cudaStream_t stream, std::string label, Work work);

// Runs everything queued on the stream; for the legacy default stream, on all blocking streams.
cudaError_t drain(cudaStream_t stream);

// Runs everything queued anywhere.
cudaError_t drain_all();

// cudaErrorInvalidResourceHandle unless `stream` names a live stream.
cudaError_t check_stream(cudaStream_t stream);

bool is_legacy(cudaStream_t stream);

// True while any queue holds work.
KERNELEVO_API bool work_is_pending() noexcept;

struct PendingWork {
  std::uintptr_t stream = 0;
  bool blocking = false;  // false: cudaStreamNonBlocking
  std::string label;
};

// What is queued, in order, without running it.
std::vector<PendingWork> pending_work();

// 0: streams run only when somebody waits. Any other value seeds the turns that they take before.
void schedule_streams(std::uint64_t seed);

// Forgets what is queued, as when a process ends.
void discard_pending_work();

}  // namespace kernelevo::runtime
