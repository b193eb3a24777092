#include "streams.h"

#include <atomic>
#include <chrono>
#include <deque>
#include <mutex>
#include <unordered_map>
#include <utility>

#include "allocations.h"

namespace kernelevo::runtime {
namespace {

struct Item {
  std::string label;
  Work work;
};

struct Queue {
  bool blocking = true;
  int priority = 0;
  std::uint64_t id = 0;
  std::uint64_t issued = 0;    // number of items ever queued
  std::uint64_t finished = 0;  // number of items that have run
  std::deque<Item> items;
  bool busy = false;  // one of its items is running
};

using QueuePtr = std::shared_ptr<Queue>;

// Where an event was recorded: it has happened when `queue` (null: it has) has finished `ticket` items.
struct Stamp {
  QueuePtr queue;
  std::uint64_t ticket = 0;
  std::chrono::steady_clock::time_point time;
  bool done = false;
};

}  // namespace
}  // namespace kernelevo::runtime

struct CUstream_st {
  kernelevo::runtime::QueuePtr queue;
};

struct CUevent_st {
  unsigned flags = 0;
  std::shared_ptr<kernelevo::runtime::Stamp> stamp;  // of the last record
};

namespace kernelevo::runtime {
namespace {

struct State {
  std::recursive_mutex mutex;  // recursive: host functions run inside and may call in
  std::unordered_map<cudaStream_t, std::unique_ptr<CUstream_st>> streams;
  std::unordered_map<cudaEvent_t, std::unique_ptr<CUevent_st>> events;
  std::vector<QueuePtr> queues;  // of live streams, and of destroyed ones that still hold work; in order of creation
  QueuePtr per_thread;
  std::uint64_t next_id = 1;
  std::atomic<std::size_t> pending{0};
  std::uint64_t random = 0;  // of a schedule; 0: streams run only when somebody waits for them
  bool stepping = false;     // a schedule's turn is being run
};

State& state() {
  static State* instance = new State;  // leaked: candidates' destructors may still call in at exit
  return *instance;
}

void (*lock_waiter)(std::recursive_mutex&) = [](std::recursive_mutex& mutex) { mutex.lock(); };

class Lock {
 public:
  explicit Lock(std::recursive_mutex& mutex) : mutex_(mutex) {
    if (!mutex_.try_lock()) lock_waiter(mutex_);
  }
  ~Lock() { mutex_.unlock(); }
  Lock(const Lock&) = delete;
  Lock& operator=(const Lock&) = delete;

 private:
  std::recursive_mutex& mutex_;
};

QueuePtr new_queue(State& s, bool blocking, int priority) {
  auto queue = std::make_shared<Queue>();
  queue->blocking = blocking;
  queue->priority = priority;
  queue->id = s.next_id++;
  s.queues.push_back(queue);
  return queue;
}

// The queue of a stream, or null for the legacy default stream and for handles that are not streams.
QueuePtr queue_of(State& s, cudaStream_t stream) {
  if (is_legacy(stream)) return nullptr;
  if (stream == cudaStreamPerThread) {
    if (!s.per_thread) s.per_thread = new_queue(s, true, 0);
    return s.per_thread;
  }
  auto it = s.streams.find(stream);
  return it == s.streams.end() ? nullptr : it->second->queue;
}

cudaError_t run(State& s, const Work& work) {
  cudaError_t error = context_error();  // after a fault, nothing runs any more
  if (error == cudaSuccess) {
    error = work();
    if (error != cudaSuccess) corrupt_context(error);
  }
  if (s.pending.load() == 0) collect_released();
  return error;
}

cudaError_t run_next(State& s, const QueuePtr& queue) {
  Item item = std::move(queue->items.front());
  queue->items.pop_front();
  --s.pending;
  const bool was_busy = std::exchange(queue->busy, true);
  cudaError_t error = run(s, item.work);
  queue->busy = was_busy;
  ++queue->finished;
  return error;
}

// A GPU may run a stream's work at any time from its launch on. Under a schedule, some of it runs now.
void run_some(State& s) {
  if (s.random == 0 || s.stepping || s.pending.load() == 0) return;
  s.stepping = true;
  std::vector<QueuePtr> queues = s.queues;
  for (const QueuePtr& queue : queues) {
    s.random ^= s.random << 13;  // xorshift64 (Marsaglia 2003)
    s.random ^= s.random >> 7;
    s.random ^= s.random << 17;
    if ((s.random >> 33 & 1) != 0 && !queue->items.empty() && !queue->busy) run_next(s, queue);
  }
  s.stepping = false;
}

cudaError_t drain_until(State& s, const QueuePtr& queue, std::uint64_t ticket) {
  cudaError_t result = context_error();
  while (queue->finished < ticket && !queue->items.empty()) {
    run_some(s);
    if (queue->finished >= ticket || queue->items.empty()) break;
    if (cudaError_t error = run_next(s, queue); result == cudaSuccess) result = error;
  }
  return result;
}

cudaError_t drain_blocking(State& s) {
  cudaError_t result = context_error();
  std::vector<QueuePtr> queues = s.queues;
  for (const QueuePtr& queue : queues) {
    if (!queue->blocking) continue;
    if (cudaError_t error = drain_until(s, queue, queue->issued); result == cudaSuccess) result = error;
  }
  return result;
}

void forget_idle_destroyed(State& s) {
  std::erase_if(s.queues, [&](const QueuePtr& queue) { return queue->items.empty() && queue.use_count() == 1; });
}

cudaError_t wait_for(State& s, const std::shared_ptr<Stamp>& stamp) {
  if (!stamp || stamp->done || !stamp->queue) return context_error();
  return drain_until(s, stamp->queue, stamp->ticket);
}

}  // namespace

void set_lock_waiter(void (*wait)(std::recursive_mutex&)) { lock_waiter = wait; }

bool is_legacy(cudaStream_t stream) { return stream == nullptr || stream == cudaStreamLegacy; }

cudaError_t check_stream(cudaStream_t stream) {
  if (is_legacy(stream) || stream == cudaStreamPerThread) return cudaSuccess;
  State& s = state();
  Lock lock(s.mutex);
  return s.streams.contains(stream) ? cudaSuccess : cudaErrorInvalidResourceHandle;
}

cudaError_t enqueue(cudaStream_t stream, std::string label, Work work) {
  State& s = state();
  Lock lock(s.mutex);
  if (cudaError_t error = check_stream(stream); error != cudaSuccess) return error;
  run_some(s);
  QueuePtr queue = queue_of(s, stream);
  if (!queue) {
    cudaError_t error = drain_blocking(s);
    return error != cudaSuccess ? error : run(s, work);
  }
  ++s.pending;
  ++queue->issued;
  queue->items.push_back({std::move(label), std::move(work)});
  return context_error();
}

cudaError_t drain(cudaStream_t stream) {
  State& s = state();
  Lock lock(s.mutex);
  if (cudaError_t error = check_stream(stream); error != cudaSuccess) return error;
  QueuePtr queue = queue_of(s, stream);
  return queue ? drain_until(s, queue, queue->issued) : drain_blocking(s);
}

cudaError_t drain_all() {
  State& s = state();
  Lock lock(s.mutex);
  cudaError_t result = context_error();
  std::vector<QueuePtr> queues = s.queues;
  for (const QueuePtr& queue : queues) {
    if (cudaError_t error = drain_until(s, queue, queue->issued); result == cudaSuccess) result = error;
  }
  queues.clear();
  forget_idle_destroyed(s);
  return result;
}

void schedule_streams(std::uint64_t seed) {
  State& s = state();
  Lock lock(s.mutex);
  s.random = seed == 0 ? 0 : seed * 0x9e3779b97f4a7c15 | 1;
}

bool work_is_pending() noexcept { return state().pending.load() != 0; }

std::vector<PendingWork> pending_work() {
  State& s = state();
  Lock lock(s.mutex);
  std::vector<PendingWork> result;
  for (const QueuePtr& queue : s.queues)
    for (const Item& item : queue->items) result.push_back({queue->id, queue->blocking, item.label});
  return result;
}

void discard_pending_work() {
  State& s = state();
  Lock lock(s.mutex);
  for (const QueuePtr& queue : s.queues) {
    s.pending -= queue->items.size();
    queue->finished += queue->items.size();
    queue->items.clear();
  }
  forget_idle_destroyed(s);
  if (s.pending.load() == 0) collect_released();
}

}  // namespace kernelevo::runtime

using namespace kernelevo::runtime;

extern "C" {

KERNELEVO_API cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned flags, int priority) {
  if (stream == nullptr || (flags & ~cudaStreamNonBlocking) != 0) return set_error(cudaErrorInvalidValue);
  State& s = state();
  Lock lock(s.mutex);
  auto handle = std::make_unique<CUstream_st>();
  handle->queue = new_queue(s, (flags & cudaStreamNonBlocking) == 0, std::min(0, std::max(priority, -5)));
  *stream = handle.get();
  s.streams.emplace(*stream, std::move(handle));
  return set_error(cudaSuccess);
}

KERNELEVO_API cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  return cudaStreamCreateWithPriority(stream, flags, 0);
}

KERNELEVO_API cudaError_t cudaStreamCreate(cudaStream_t* stream) { return cudaStreamCreateWithPriority(stream, 0, 0); }

// Returns at once; the work that is queued still belongs to the device and runs when the device is waited for.
KERNELEVO_API cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  State& s = state();
  Lock lock(s.mutex);
  if (s.streams.erase(stream) == 0) return set_error(cudaErrorInvalidResourceHandle);
  forget_idle_destroyed(s);
  return set_error(cudaSuccess);
}

KERNELEVO_API cudaError_t cudaStreamGetPriority(cudaStream_t stream, int* priority) {
  State& s = state();
  Lock lock(s.mutex);
  if (priority == nullptr) return set_error(cudaErrorInvalidValue);
  if (cudaError_t error = check_stream(stream); error != cudaSuccess) return set_error(error);
  QueuePtr queue = queue_of(s, stream);
  *priority = queue ? queue->priority : 0;
  return set_error(cudaSuccess);
}

KERNELEVO_API cudaError_t cudaStreamGetFlags(cudaStream_t stream, unsigned* flags) {
  State& s = state();
  Lock lock(s.mutex);
  if (flags == nullptr) return set_error(cudaErrorInvalidValue);
  if (cudaError_t error = check_stream(stream); error != cudaSuccess) return set_error(error);
  QueuePtr queue = queue_of(s, stream);
  *flags = queue && !queue->blocking ? cudaStreamNonBlocking : 0;
  return set_error(cudaSuccess);
}

KERNELEVO_API cudaError_t cudaStreamSynchronize(cudaStream_t stream) { return set_error(drain(stream)); }

// A program may wait by asking again and again, so each question lets one piece of work finish.
KERNELEVO_API cudaError_t cudaStreamQuery(cudaStream_t stream) {
  State& s = state();
  Lock lock(s.mutex);
  if (cudaError_t error = check_stream(stream); error != cudaSuccess) return set_error(error);
  QueuePtr queue = queue_of(s, stream);
  if (!queue) return set_error(drain_blocking(s));
  if (queue->items.empty()) return set_error(cudaSuccess);
  cudaError_t error = run_next(s, queue);
  if (error == cudaSuccess && !queue->items.empty()) error = cudaErrorNotReady;
  return set_error(error);
}

KERNELEVO_API cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned /*flags*/) {
  State& s = state();
  Lock lock(s.mutex);
  if (!s.events.contains(event)) return set_error(cudaErrorInvalidResourceHandle);
  std::shared_ptr<Stamp> stamp = event->stamp;
  if (!stamp || stamp->done) return set_error(check_stream(stream));
  return set_error(enqueue(stream, "wait for an event", [stamp] { return wait_for(state(), stamp); }));
}

KERNELEVO_API cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void* argument) {
  if (function == nullptr) return set_error(cudaErrorInvalidValue);
  return set_error(enqueue(stream, "host function", [=] {
    function(argument);
    return cudaSuccess;
  }));
}

KERNELEVO_API cudaError_t cudaStreamAddCallback(cudaStream_t stream, cudaStreamCallback_t callback, void* argument,
                                                unsigned flags) {
  if (callback == nullptr || flags != 0) return set_error(cudaErrorInvalidValue);
  return set_error(enqueue(stream, "stream callback", [=] {
    callback(stream, cudaSuccess, argument);
    return cudaSuccess;
  }));
}

KERNELEVO_API cudaError_t cudaDeviceSynchronize() { return set_error(drain_all()); }

KERNELEVO_API cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags) {
  if (event == nullptr) return set_error(cudaErrorInvalidValue);
  State& s = state();
  Lock lock(s.mutex);
  auto handle = std::make_unique<CUevent_st>();
  handle->flags = flags;
  *event = handle.get();
  s.events.emplace(*event, std::move(handle));
  return set_error(cudaSuccess);
}

KERNELEVO_API cudaError_t cudaEventCreate(cudaEvent_t* event) { return cudaEventCreateWithFlags(event, 0); }

KERNELEVO_API cudaError_t cudaEventDestroy(cudaEvent_t event) {
  State& s = state();
  Lock lock(s.mutex);
  return set_error(s.events.erase(event) ? cudaSuccess : cudaErrorInvalidResourceHandle);
}

KERNELEVO_API cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  State& s = state();
  Lock lock(s.mutex);
  if (!s.events.contains(event)) return set_error(cudaErrorInvalidResourceHandle);
  if (cudaError_t error = check_stream(stream); error != cudaSuccess) return set_error(error);
  auto stamp = std::make_shared<Stamp>();
  stamp->queue = queue_of(s, stream);
  stamp->ticket = stamp->queue ? stamp->queue->issued + 1 : 0;
  event->stamp = stamp;
  return set_error(enqueue(stream, "record an event", [stamp] {
    stamp->time = std::chrono::steady_clock::now();
    stamp->done = true;
    return cudaSuccess;
  }));
}

KERNELEVO_API cudaError_t cudaEventRecordWithFlags(cudaEvent_t event, cudaStream_t stream, unsigned /*flags*/) {
  return cudaEventRecord(event, stream);
}

KERNELEVO_API cudaError_t cudaEventQuery(cudaEvent_t event) {
  State& s = state();
  Lock lock(s.mutex);
  if (!s.events.contains(event)) return set_error(cudaErrorInvalidResourceHandle);
  std::shared_ptr<Stamp> stamp = event->stamp;
  if (!stamp || stamp->done) return set_error(context_error());
  cudaError_t error = stamp->queue->items.empty() ? cudaSuccess : run_next(s, stamp->queue);
  if (error == cudaSuccess && !stamp->done) error = cudaErrorNotReady;
  return set_error(error);
}

KERNELEVO_API cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  State& s = state();
  Lock lock(s.mutex);
  if (!s.events.contains(event)) return set_error(cudaErrorInvalidResourceHandle);
  return set_error(wait_for(s, event->stamp));
}

// Time on the host's clock: how long the emulator took, not how long a GPU would.
KERNELEVO_API cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end) {
  State& s = state();
  Lock lock(s.mutex);
  if (milliseconds == nullptr) return set_error(cudaErrorInvalidValue);
  if (!s.events.contains(start) || !s.events.contains(end)) return set_error(cudaErrorInvalidResourceHandle);
  if ((start->flags | end->flags) & cudaEventDisableTiming) return set_error(cudaErrorInvalidResourceHandle);
  if (!start->stamp || !end->stamp) return set_error(cudaErrorInvalidResourceHandle);
  if (!start->stamp->done || !end->stamp->done) return set_error(cudaErrorNotReady);
  *milliseconds = std::chrono::duration<float, std::milli>(end->stamp->time - start->stamp->time).count();
  return set_error(cudaSuccess);
}

KERNELEVO_API cudaError_t cudaEventElapsedTime_v2(float* milliseconds, cudaEvent_t start, cudaEvent_t end) {
  return cudaEventElapsedTime(milliseconds, start, end);
}
}
