#include "grid.h"

#include <unistd.h>

#include <atomic>
#include <bit>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <deque>
#include <memory>
#include <mutex>
#include <new>
#include <numeric>
#include <utility>
#include <vector>

#include "../cuda_runtime/allocations.h"
#include "access_fault.h"
#include "print.h"
#include "workers.h"

namespace kernelevo {
namespace {

static_assert(offsetof(WarpState, next) == 64 && offsetof(WarpState, barrier_of) == 192);
static_assert(offsetof(WarpState, tid) == 320 && sizeof(WarpState) == 704);
static_assert(offsetof(BlockState, ctaid) == 40 && offsetof(BlockState, linear_index) == 72);
static_assert(offsetof(BlockState, workspace) == 88 && offsetof(BlockState, sink) == 112);

using Clock = std::chrono::steady_clock;

// Seconds that this thread ran.
double ran_seconds() {
  timespec time{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

constexpr int32_t kBudget = 1 << 16;        // weighted back edges between ticks
constexpr int kStallRounds = 64;            // rounds in which warps only yield before another block is started
constexpr size_t kResidentBytes = 1 << 28;  // memory of suspended blocks per worker
constexpr int kPatience = 4;                // limits of time after which a launch ends on the busiest machine

thread_local double work_began = 0;  // ran_seconds() when this worker joined the launch

struct Launch {
  Launch(const Kernel& k, const LaunchConfig& c, const void* p) : kernel(k), config(c), params(p) {}

  const Kernel& kernel;
  const LaunchConfig& config;
  const void* params;
  std::vector<void*> functions;
  uint64_t total = 0;
  std::atomic<uint64_t> next{0};
  std::atomic<bool> stopped{false};
  Clock::time_point deadline, last_deadline;
  std::mutex mutex;  // report, lazy compilation
  std::atomic<WarpFunction> diverged{nullptr};
  LaunchReport report;
  std::atomic<uint64_t> blocks_run{0};
  alignas(64) char workspace[64] = {};  // cooperative groups keep the grid's barrier here

  // Where others have the cores, a worker gets the time that it would have had to itself.
  bool timed_out() const {
    if (config.time_limit_seconds <= 0) return false;
    const Clock::time_point now = Clock::now();
    return now > last_deadline || (now > deadline && ran_seconds() - work_began > config.time_limit_seconds);
  }
};

thread_local Launch* current_launch = nullptr;
thread_local const WarpState* current_warp = nullptr;  // the last that ran

// Called by converged code after kBudget weighted back edges. Non-zero: leave the converged code and yield.
int32_t tick(WarpState* warp, int32_t spinning) {
  warp->budget = kBudget;
  if (spinning || current_launch->stopped.load(std::memory_order_relaxed) || current_launch->timed_out()) return 1;
  return 0;
}

// Known to the registry so that checked kernels may use it.
void* device_malloc(uint64_t size) {
  void* pointer = std::malloc(size);
  if (pointer) runtime::adopt(pointer, size, runtime::Origin::kHeap);
  return pointer;
}

void device_free(void* pointer) {
  if (pointer) runtime::abandon(pointer);
  std::free(pointer);
}

struct Freer {
  void operator()(char* p) const { std::free(p); }
};
using Buffer = std::unique_ptr<char, Freer>;

// Throws std::bad_alloc.
Buffer allocate(size_t bytes) {
  Buffer buffer(static_cast<char*>(std::aligned_alloc(128, (bytes + 127) & ~size_t{127})));
  if (!buffer) throw std::bad_alloc();
  return buffer;
}

// A well mixed number for each input (splitmix64: Steele, Lea and Flood 2014).
uint64_t mixed(uint64_t x) {
  x += 0x9e3779b97f4a7c15;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

enum class Mode : uint8_t { kConverged, kDiverged, kDone };

// The warps, shared memory and barriers of one block; reused from block to block.
class ResidentBlock {
 public:
  enum class Step { kDone, kStalled, kStopped };

  explicit ResidentBlock(Launch& launch)
      : launch_(launch),
        threads_(launch.kernel.block[0] * launch.kernel.block[1] * launch.kernel.block[2]),
        warps_((threads_ + kWarpSize - 1) / kWarpSize),
        frame_stride_((launch.kernel.frame_bytes + 127) & ~127u),
        shared_bytes_(launch.kernel.shared_bytes + launch.config.dynamic_shared_bytes),
        modes_(warps_),
        order_(warps_) {
    std::iota(order_.begin(), order_.end(), 0);
    const Kernel& kernel = launch.kernel;
    const size_t shadows = launch.config.watcher ? 2 : 1;  // memory, and behind it which of its bytes were written
    shared_room_ = (shared_bytes_ + 128 + 127) & ~size_t{127};
    local_room_ = size_t{kernel.local_bytes} * warps_ * kWarpSize;
    frames_ = allocate(size_t{frame_stride_} * warps_);
    shared_ = allocate(shared_room_ * shadows);
    if (kernel.local_bytes) local_ = allocate(local_room_ * shadows);
    block_.shared_shadow = shared_room_;
    block_.local_shadow = local_room_;
    block_.shared = shared_.get();
    block_.params = static_cast<const char*>(launch.params);
    block_.globals = kernel.globals;
    block_.functions = launch.functions.data();
    block_.observer = launch.config.observer;
    if (launch.config.cooperative) block_.workspace = reinterpret_cast<uint64_t>(launch.workspace);
    for (int k = 0; k < 3; k++) block_.nctaid[k] = launch.config.grid[k];
    block_.dynamic_shared_bytes = launch.config.dynamic_shared_bytes;
    block_.total_shared_bytes = shared_bytes_;
    bool beyond = false;
    for (int k = 0; k < 3; k++) beyond = beyond || launch.config.grid[k] > kernel.grid_limit[k];
    always_diverged_ = beyond || !kernel.converged;
    block_.may_converge = !always_diverged_;
    std::memset(frames_.get(), 0, size_t{frame_stride_} * warps_);
    for (uint32_t w = 0; w < warps_; w++) {
      WarpState& warp = *frame(w);
      warp.block = &block_;
      warp.local = local_ ? local_.get() + size_t{w} * kWarpSize * kernel.local_bytes : nullptr;
      warp.index = static_cast<int32_t>(w);
      for (uint32_t lane = 0; lane < kWarpSize; lane++) {
        uint32_t t = w * kWarpSize + lane;
        warp.tid[0][lane] = static_cast<int32_t>(t % kernel.block[0]);
        warp.tid[1][lane] = static_cast<int32_t>(t / kernel.block[0] % kernel.block[1]);
        warp.tid[2][lane] = static_cast<int32_t>(t / (kernel.block[0] * kernel.block[1]) % kernel.block[2]);
      }
    }
  }

  size_t bytes() const {
    return size_t{frame_stride_} * warps_ + shared_room_ + local_room_;
  }

  void start(uint64_t linear) {
    const uint32_t* grid = launch_.config.grid;
    block_.linear_index = linear;
    block_.ctaid[0] = static_cast<uint32_t>(linear % grid[0]);
    block_.ctaid[1] = static_cast<uint32_t>(linear / grid[0] % grid[1]);
    block_.ctaid[2] = static_cast<uint32_t>(linear / grid[0] / grid[1]);
    if (shared_bytes_) std::memset(shared_.get(), 0xff, shared_bytes_);  // NaN: reads before writes show
    if (launch_.config.watcher) {
      std::memset(shared_.get() + shared_room_, 0, shared_bytes_);
      if (local_) std::memset(local_.get() + local_room_, 0, local_room_);
      launch_.config.watcher->start(block_);
    }
    live_threads_ = threads_;
    stalled_rounds_ = 0;
    barriers_released_ = 0;
    if (launch_.config.schedule) order_warps();
    for (Barrier& barrier : barriers_) barrier = {};
    for (uint32_t w = 0; w < warps_; w++) {
      WarpState& warp = *frame(w);
      warp.resume = 0;
      warp.budget = kBudget;
      warp.bias = 0;
      bool partial = (w + 1) * kWarpSize > threads_;
      modes_[w] = {always_diverged_ || partial ? Mode::kDiverged : Mode::kConverged, kWarpSize, false};
      if (partial) modes_[w].live = static_cast<uint8_t>(threads_ - w * kWarpSize);
      if (modes_[w].mode == Mode::kDiverged) {
        for (uint32_t lane = 0; lane < kWarpSize; lane++) {
          warp.next[lane] = w * kWarpSize + lane < threads_ ? 0 : kLaneExited;
        }
      }
    }
  }

  Step run() {
    while (live_threads_ > 0) {
      bool ran = false, only_yields = true;
      if (launch_.config.schedule && ordered_for_ != barriers_released_) order_warps();
      for (uint32_t w : order_) {
        if (modes_[w].mode == Mode::kDone || modes_[w].waiting) continue;
        ran = true;
        switch (run_warp(w)) {
          case WarpStatus::kExited: {
            modes_[w].mode = Mode::kDone;
            only_yields = false;
            lower_live(w, 0);
            break;
          }
          case WarpStatus::kBarrier:
            only_yields = false;
            arrive(w);
            break;
          case WarpStatus::kArrived: {
            const WarpState& warp = *frame(w);
            int id = warp.barrier_id & (kBarriers - 1);
            add(id, static_cast<uint32_t>(std::popcount(warp.barrier_predicate)), kWarpSize, warp.barrier_count, 0);
            try_release(id);
            only_yields = false;
            break;
          }
          case WarpStatus::kYielded:
            if (launch_.stopped.load(std::memory_order_relaxed)) return Step::kStopped;
            if (launch_.timed_out()) return stop(LaunchStatus::kTimedOut, w);
            rotate(*frame(w));
            break;
          case WarpStatus::kTrapped:
            return stop(LaunchStatus::kTrapped, w);
          case WarpStatus::kAsserted:
            return stop(LaunchStatus::kAsserted, w);
          default:
            return stop(LaunchStatus::kCompileFailed, w);
        }
      }
      if (!ran) return deadlock();
      stalled_rounds_ = only_yields ? stalled_rounds_ + 1 : 0;
      if (stalled_rounds_ >= kStallRounds) {
        stalled_rounds_ = 0;
        return Step::kStalled;
      }
    }
    if (launch_.config.watcher) launch_.config.watcher->finish(block_);
    return Step::kDone;
  }

 private:
  struct WarpMode {
    Mode mode;
    uint8_t live;  // lanes that have not exited, as of the last return
    bool waiting;  // at a barrier
  };
  struct Barrier {
    uint32_t lanes;   // that wait or have arrived
    uint32_t counted; // the same with whole warps counted as 32, as .count does
    uint32_t count;   // threads expected; 0: all that have not exited
    uint32_t ones;    // bar.red: lanes whose predicate is true
    bool used;
  };

  WarpState* frame(uint32_t w) const { return reinterpret_cast<WarpState*>(frames_.get() + size_t{w} * frame_stride_); }

  // A GPU promises no order between barriers. Descending finds what ascending hides; random orders find the rest.
  void order_warps() {
    ordered_for_ = barriers_released_;
    for (uint32_t k = 0; k < warps_; k++) order_[k] = warps_ - 1 - k;
    if (block_.linear_index % 2 == 0 || warps_ < 3) return;
    uint64_t random = mixed(launch_.config.schedule ^ mixed(block_.linear_index) ^ mixed(~barriers_released_));
    for (uint32_t k = warps_ - 1; k > 0; k--) {
      random = mixed(random);
      std::swap(order_[k], order_[random % (k + 1)]);
    }
    if (order_[0] == 0) std::swap(order_[0], order_[warps_ - 1]);
  }

  WarpStatus run_warp(uint32_t w) {
    WarpState* warp = frame(w);
    Mode& mode = modes_[w].mode;
    current_warp = warp;
    for (;;) {
      WarpStatus status;
      if (mode == Mode::kConverged) {
        status = static_cast<WarpStatus>(launch_.kernel.converged(warp));
        if (status == WarpStatus::kYielded) mode = Mode::kDiverged;
      } else {
        WarpFunction diverged = diverged_function();
        if (!diverged) return WarpStatus::kConverged;
        status = static_cast<WarpStatus>(diverged(warp));
      }
      if (status == WarpStatus::kDiverged) {
        mode = Mode::kDiverged;
      } else if (status == WarpStatus::kConverged) {
        mode = Mode::kConverged;
      } else {
        return status;
      }
    }
  }

  WarpFunction diverged_function() {
    WarpFunction known = launch_.diverged.load(std::memory_order_acquire);
    if (known) return known;
    std::lock_guard lock(launch_.mutex);
    if (!launch_.diverged.load() && launch_.kernel.compile_diverged) {
      launch_.diverged = launch_.kernel.compile_diverged(launch_.kernel.context);
    }
    return launch_.diverged;
  }

  void lower_live(uint32_t w, uint8_t live) {
    live_threads_ -= modes_[w].live - live;
    modes_[w].live = live;
    for (int id = 0; id < kBarriers; id++) try_release(id);
  }

  void arrive(uint32_t w) {
    WarpState& warp = *frame(w);
    modes_[w].waiting = true;
    if (modes_[w].mode == Mode::kConverged) {
      add(warp.barrier_id & (kBarriers - 1), kWarpSize, kWarpSize, warp.barrier_count,
          static_cast<uint32_t>(std::popcount(warp.barrier_predicate)));
      try_release(warp.barrier_id & (kBarriers - 1));
      return;
    }
    uint32_t per_barrier[kBarriers] = {}, ones[kBarriers] = {};
    uint8_t live = 0;
    for (int lane = 0; lane < kWarpSize; lane++) {
      if (warp.next[lane] == kLaneExited) continue;
      live++;
      if (!(warp.next[lane] & kBlockWait)) continue;
      int id = warp.barrier_of[lane] & (kBarriers - 1);
      if (warp.barrier_of[lane] & kAlreadyCounted) continue;
      warp.barrier_of[lane] |= kAlreadyCounted;
      per_barrier[id]++;
      ones[id] += warp.barrier_predicate >> lane & 1;
    }
    for (int id = 0; id < kBarriers; id++) {
      if (per_barrier[id]) add(id, per_barrier[id], per_barrier[id] == live ? kWarpSize : per_barrier[id], warp.barrier_count, ones[id]);
    }
    lower_live(w, live);
  }

  void add(int id, uint32_t lanes, uint32_t counted, int32_t count, uint32_t ones) {
    Barrier& barrier = barriers_[id];
    barrier.used = true;
    barrier.lanes += lanes;
    barrier.counted += counted;
    barrier.count = static_cast<uint32_t>(count);
    barrier.ones += ones;
  }

  void try_release(int id) {
    Barrier& barrier = barriers_[id];
    if (!barrier.used) return;
    if (barrier.count ? barrier.counted < barrier.count : barrier.lanes < live_threads_) return;
    if (launch_.config.watcher) launch_.config.watcher->released(block_, id, waiting_at(id));
    uint32_t lanes = barrier.lanes, ones = barrier.ones;
    barrier = {};
    barriers_released_++;
    for (uint32_t w = 0; w < warps_; w++) {
      if (!modes_[w].waiting) continue;
      WarpState& warp = *frame(w);
      if (modes_[w].mode == Mode::kConverged) {
        if ((warp.barrier_id & (kBarriers - 1)) != id) continue;
        modes_[w].waiting = false;
      } else {
        for (int lane = 0; lane < kWarpSize; lane++) {
          if (warp.next[lane] == kLaneExited || !(warp.next[lane] & kBlockWait)) continue;
          if ((warp.barrier_of[lane] & (kBarriers - 1)) != id) continue;
          warp.next[lane] &= ~kBlockWait;
          modes_[w].waiting = false;
        }
      }
      if (!modes_[w].waiting) {
        switch (warp.barrier_operation) {
          case 1: warp.barrier_result = ones; break;
          case 2: warp.barrier_result = ones == lanes; break;
          case 3: warp.barrier_result = ones > 0; break;
          default: break;
        }
      }
    }
  }

  // Warps with lanes that wait at a barrier.
  uint32_t waiting_at(int id) const {
    uint32_t bits = 0;
    for (uint32_t w = 0; w < warps_ && w < 32; w++) {
      if (!modes_[w].waiting) continue;
      const WarpState& warp = *frame(w);
      if (modes_[w].mode == Mode::kConverged) {
        if ((warp.barrier_id & (kBarriers - 1)) == id) bits |= 1u << w;
        continue;
      }
      for (int lane = 0; lane < kWarpSize; lane++) {
        const bool waits = warp.next[lane] != kLaneExited && warp.next[lane] & kBlockWait;
        if (waits && (warp.barrier_of[lane] & (kBarriers - 1)) == id) bits |= 1u << w;
      }
    }
    return bits;
  }

  // The warp ran long: prefer the lanes behind the ones that ran, then the first ones again. Spin locks need this.
  static void rotate(WarpState& warp) {
    if (warp.bias) {
      warp.bias = 0;
      return;
    }
    int32_t lowest = kLaneExited;
    for (int32_t next : warp.next) lowest = next < lowest ? next : lowest;
    if (lowest < kWarpWait) warp.bias = lowest + 1;
  }

  Step stop(LaunchStatus status, uint32_t w) {
    std::lock_guard lock(launch_.mutex);
    if (launch_.stopped.exchange(true)) return Step::kStopped;
    WarpState& warp = *frame(w);
    LaunchReport& report = launch_.report;
    report.status = status;
    report.site = warp.site;
    report.warp = w;
    for (int k = 0; k < 3; k++) report.ctaid[k] = block_.ctaid[k];
    if (status == LaunchStatus::kAsserted) describe_assertion(warp.message, report.message, sizeof report.message);
    return Step::kStopped;
  }

  Step deadlock() {
    if (launch_.config.watcher) launch_.config.watcher->stuck(block_, live_threads_);
    for (uint32_t w = 0; w < warps_; w++) {
      if (!modes_[w].waiting) continue;
      WarpState& warp = *frame(w);
      if (modes_[w].mode == Mode::kConverged) {
        warp.site = warp.resume - 2;  // the block that ends in the barrier comes before the one to go on at
      } else {
        for (int32_t next : warp.next) {
          if (next != kLaneExited && next & kBlockWait) warp.site = (next & ~kBlockWait) - 1;
        }
      }
      return stop(LaunchStatus::kBarrierDeadlock, w);
    }
    return stop(LaunchStatus::kBarrierDeadlock, 0);
  }

  static constexpr int32_t kAlreadyCounted = 0x100;

  Launch& launch_;
  uint32_t threads_, warps_, frame_stride_, shared_bytes_;
  size_t shared_room_ = 0, local_room_ = 0;
  std::vector<WarpMode> modes_;
  std::vector<uint32_t> order_;  // in which the warps get their turns
  Buffer frames_, shared_, local_;
  BlockState block_{};
  Barrier barriers_[kBarriers] = {};
  uint32_t live_threads_ = 0;
  int stalled_rounds_ = 0;
  uint64_t barriers_released_ = 0, ordered_for_ = 0;
  bool always_diverged_ = false;
};

bool take(Launch& launch, uint64_t& linear) {
  if (launch.stopped.load(std::memory_order_relaxed)) return false;
  if (launch.timed_out()) {
    std::lock_guard lock(launch.mutex);
    if (!launch.stopped.exchange(true)) {
      launch.report.status = LaunchStatus::kTimedOut;
      launch.report.site = -1;
    }
    return false;
  }
  uint64_t n = launch.next.fetch_add(1, std::memory_order_relaxed);
  if (n >= launch.total) return false;
  if (launch.config.schedule) n = launch.total - 1 - (n + mixed(launch.config.schedule) % launch.total) % launch.total;
  linear = launch.config.sample_blocks ? launch.config.sample_blocks[n] : n;
  return true;
}

// The blocks of one worker. Owned outside of the code that may fault, so that it is freed even then.
struct Resident {
  std::deque<std::unique_ptr<ResidentBlock>> running;
  std::unique_ptr<ResidentBlock> spare;
};

// Runs blocks until none is left. A block whose warps only spin is set aside while others run.
void work(Launch& launch, Resident& resident) {
  auto& [running, spare] = resident;
  size_t bytes = 0;
  bool more = true;
  auto start_another = [&] {
    uint64_t linear;
    if (!more || !(more = take(launch, linear))) return false;
    if (!spare) spare = std::make_unique<ResidentBlock>(launch);
    spare->start(linear);
    bytes += spare->bytes();
    running.push_front(std::move(spare));
    return true;
  };
  while (!running.empty() || start_another()) {
    ResidentBlock& block = *running.front();
    ResidentBlock::Step step = block.run();
    if (step == ResidentBlock::Step::kStopped) break;
    if (step == ResidentBlock::Step::kDone) {
      bytes -= block.bytes();
      spare = std::move(running.front());
      running.pop_front();
      launch.blocks_run.fetch_add(1, std::memory_order_relaxed);
    } else {
      running.push_back(std::move(running.front()));
      running.pop_front();
      if (bytes < kResidentBytes) start_another();
    }
  }
}

// As `work`, for kernels that may read and write where there is no memory, on machines that may have none left.
void work_guarded(Launch& launch) {
  Resident resident;
  bool out_of_memory = false;
  current_launch = &launch;
  current_warp = nullptr;
  work_began = ran_seconds();
  const AccessFault fault = catch_access_fault([&] {
    try {
      work(launch, resident);
    } catch (const std::bad_alloc&) {
      out_of_memory = true;
    }
  });
  current_launch = nullptr;
  if (!fault.happened && !out_of_memory) return;
  std::lock_guard lock(launch.mutex);
  if (launch.stopped.exchange(true)) return;
  LaunchReport& report = launch.report;
  report.status = out_of_memory ? LaunchStatus::kOutOfMemory : LaunchStatus::kIllegalAddress;
  report.site = -1;
  report.address = fault.address;
  if (out_of_memory || !current_warp) return;
  report.warp = static_cast<uint32_t>(current_warp->index);
  for (int k = 0; k < 3; k++) report.ctaid[k] = current_warp->block->ctaid[k];
}

}  // namespace

LaunchReport run_grid(const Kernel& kernel, const LaunchConfig& config, const void* params) {
  static_assert(sizeof(void*) == 8);
  Launch launch(kernel, config, params);
  launch.functions = {reinterpret_cast<void*>(&tick), reinterpret_cast<void*>(&device_printf),
                      reinterpret_cast<void*>(&device_malloc), reinterpret_cast<void*>(&device_free)};
  for (uint32_t k = 0; k < config.hook_count; k++) launch.functions.push_back(config.hooks[k]);
  launch.total = config.sample_blocks ? config.sample_count
                                      : uint64_t{config.grid[0]} * config.grid[1] * config.grid[2];
  const auto limit =
      std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(config.time_limit_seconds));
  launch.deadline = Clock::now() + limit;
  launch.last_deadline = Clock::now() + kPatience * limit;
  launch.diverged = kernel.diverged;
  const int threads = config.threads == 0 && kernel.fixed_order ? 1 : config.threads;
  run_on_workers(threads, launch.total, [&] { work_guarded(launch); });
  launch.report.blocks_run = launch.blocks_run;
  return launch.report;
}

}  // namespace kernelevo
