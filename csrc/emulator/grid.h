// Runs a grid of thread blocks whose kernel was translated by kernelevo/emulator/translate.py.
//
// Takes a Kernel (native code that advances one warp), a LaunchConfig and the packed parameters; gives a LaunchReport.
// Knows nothing of PTX, Python or CUDA's own API: runtime and bindings call it. Addresses are host addresses.
#pragma once

#include <cstddef>
#include <cstdint>

namespace kernelevo {

constexpr int kWarpSize = 32;
constexpr int kBarriers = 16;

// What a warp function returns. Mirrored in kernelevo/emulator/layout.py.
enum class WarpStatus : int32_t {
  kExited = 0,     // no lane has anything left to do
  kBarrier = 1,    // every lane that has not exited waits at a block barrier
  kDiverged = 2,   // go on in `diverged`: next[] and the register slots are stored
  kConverged = 3,  // go on in `converged` at `resume`: all 32 lanes are together
  kYielded = 4,    // many back edges without a barrier: let others run, then go on
  kTrapped = 5,    // trap
  kAsserted = 6,   // __assertfail; the arguments are in WarpState::message
  kArrived = 7,    // bar.arrive: counts the lanes in barrier_predicate, then goes on
};

// Lane states in WarpState::next: a block number, or one of these bits.
constexpr int32_t kWarpWait = 0x20000000;  // waits for lanes named in a membermask
constexpr int32_t kBlockWait = 0x40000000;  // waits at a block barrier
constexpr int32_t kLaneExited = 0x7fffffff;

struct BlockState;

// One warp. Register slots follow at kernel->frame_header. Offsets are mirrored in kernelevo/emulator/layout.py.
struct alignas(64) WarpState {
  BlockState* block;
  char* local;                      // local memory of lane 0; lane l is at l * kernel->local_bytes
  int32_t resume;                   // where `converged` goes on; 0 is the start
  int32_t budget;                   // back edges until `tick`
  int32_t bias;                     // block number that `diverged` prefers to run first
  int32_t site;                     // block number where the warp stopped
  int32_t barrier_id;               // converged warps: the barrier waited at
  int32_t barrier_count;            // threads that take part, 0 for all
  uint32_t barrier_predicate;       // bar.red: the predicate of each lane
  uint32_t barrier_result;          // bar.red: what the block agreed on
  int32_t index;                    // warp number in the block
  int32_t barrier_operation;        // 0 sync, 1 popc, 2 and, 3 or
  int64_t message;                  // address of a lane's arguments to __assertfail
  int32_t next[kWarpSize];          // offset 64
  int32_t barrier_of[kWarpSize];    // offset 192: lane's barrier while it waits
  int32_t tid[3][kWarpSize];        // offset 320
};

// What all warps of a running block share. Offsets are mirrored in kernelevo/emulator/layout.py.
struct BlockState {
  char* shared;
  const char* params;
  const uint64_t* globals;   // addresses of module variables, in the order of Module.variables
  void* const* functions;    // called by generated code: 0 tick, 1 vprintf, 2 malloc, 3 free, then the observer's hooks
  void* observer;            // first argument of every hook
  uint32_t ctaid[3];
  uint32_t nctaid[3];
  uint32_t dynamic_shared_bytes;
  uint32_t total_shared_bytes;
  uint64_t linear_index;
  uint32_t may_converge;     // 0: stay in `diverged`
  uint64_t workspace;        // of a cooperative launch: zeros for grid.sync(); %envreg1 and 2
  // Watched launches only: which bytes of shared and local memory have been written, as bytes this far behind them.
  uint64_t shared_shadow;
  uint64_t local_shadow;
  char sink[16];             // where accesses go that must not happen
  void* watch;               // what a Watcher keeps of this block
};

// Is told how the blocks of a launch fare. A watched launch runs on the threads it is given like any other.
class Watcher {
 public:
  virtual ~Watcher() = default;
  virtual void start(BlockState& block) = 0;                      // a block is about to run, its shadows are zeros
  virtual void released(BlockState& block, int barrier, uint32_t warps) = 0;  // these warps go on; a bit for each
  virtual void stuck(BlockState& block, uint32_t live_threads) = 0;  // nothing can run any more
  virtual void finish(BlockState& block) = 0;                     // all threads have exited
};

using WarpFunction = int32_t (*)(WarpState*);

struct Kernel {
  WarpFunction converged;      // null: every warp runs `diverged` (variants that observe)
  WarpFunction diverged;       // null: made on first need by compile_diverged
  WarpFunction (*compile_diverged)(void* context);  // may take Python's lock; null on failure
  void* context;
  const uint64_t* globals;
  uint32_t frame_bytes;        // WarpState and register slots
  uint32_t shared_bytes;       // static
  uint32_t local_bytes;        // per thread
  uint32_t params_bytes;
  uint32_t block[3];
  uint32_t grid_limit[3];      // larger grids void assumptions of `converged`, so they run `diverged`
  bool fixed_order = false;    // the result depends on the order of blocks: one thread unless the launch names a number
};

struct LaunchConfig {
  uint32_t grid[3];
  uint32_t dynamic_shared_bytes = 0;
  int threads = 0;                          // 0: all cores, or one for kernels of a fixed order
  double time_limit_seconds = 0;            // 0: none
  const uint64_t* sample_blocks = nullptr;  // linear block numbers to run; null: all
  uint64_t sample_count = 0;
  void* const* hooks = nullptr;             // functions that the observed code calls
  uint32_t hook_count = 0;
  void* observer = nullptr;
  bool cooperative = false;                 // the kernel may call grid.sync()
  // In which order warps and blocks run, where a GPU promises none. 0: ascending. Otherwise blocks are taken in
  // descending order from a seeded place on; the warps of every other block run in descending order, those of the rest
  // in a seeded order that does not begin with warp 0; all is drawn anew after each barrier.
  uint64_t schedule = 0;
  Watcher* watcher = nullptr;
};

enum class LaunchStatus : int32_t {
  kDone = 0,
  kTrapped = 1,
  kAsserted = 2,
  kTimedOut = 3,
  kBarrierDeadlock = 4,
  kCompileFailed = 5,
  kOutOfMemory = 6,
  kIllegalAddress = 7,
};

struct LaunchReport {
  LaunchStatus status = LaunchStatus::kDone;
  int32_t site = 0;            // index into the compiled kernel's sites; -1 when not known
  uint32_t ctaid[3] = {};
  uint32_t warp = 0;
  uint64_t blocks_run = 0;
  uint64_t address = 0;        // that was illegal
  char message[512] = {};      // of an assertion
};

// Blocks until the grid is done. Safe to call from several threads; launches then run one after another.
LaunchReport run_grid(const Kernel& kernel, const LaunchConfig& config, const void* params);

}  // namespace kernelevo
