// Checkers of one checked launch: what its accesses, barriers and warp operations did that they must not do.
//
// Takes calls from code that kernelevo/emulator/checking.py adds to a kernel's translation; gives findings, the first of each
// kind and source line. Fast tests are in that code: it calls `access` where a test failed, or for the first time, and
// goes on with the lanes that `access` allows. Not thread-safe: a checked launch runs on one thread, in the order of the
// schedule, so that its findings are the same every time.
#pragma once

#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "check_memory.h"
#include "check_race.h"
#include "grid.h"

namespace kernelevo {

// Static facts of one place in the kernel. Mirrored in kernelevo/emulator/checking.py.
struct CheckedSite {
  enum class Kind : uint8_t { none, access, barrier, warp, fence };
  enum class Region : uint8_t { global, shared, local, constant, generic };

  Kind kind = Kind::none;
  Region region = Region::global;
  bool reads = false;
  bool writes = false;
  bool strong = false;       // atomic, volatile or relaxed and stronger: meant for others to see at any time
  bool atomic = false;       // atom, red
  bool releases = false;     // a fence comes with it
  bool spins = false;        // in a loop that waits for others
  uint32_t element = 0;      // bytes
  uint32_t count = 0;        // elements per lane
  uint32_t used = 0;         // bit k: what element k is read for is used
  uint32_t line = 0;         // findings of one kind are the same when their lines are: 0 is no line

  // Barriers and operations that wait for lanes.
  enum class Shuffle : uint8_t { none, up, down, bfly, idx };
  int barrier = -1;          // its number; -1: not known beforehand, or whom it is for is
  bool counted = false;      // for a number of threads, not for all
  bool arrives = false;      // bar.arrive: does not wait
  int family = 0;            // of operations that may meet each other: shfl, vote, match, ...
  int starts = -1;           // the basic block that starts with it, where lanes wait for it; -1: none
  Shuffle shuffle = Shuffle::none;
  std::vector<uint32_t> behind;  // blocks that threads enter when they will not come here (again), and go on with others
};

// What the generated code tests before it calls `access`. Offsets are mirrored in checking.py.
struct SiteCache {
  uint64_t begin = 1;     // first byte of the memory that the site touched last; 1: none
  uint64_t limit = 0;     // largest offset at which an access is inside
  uint64_t shadow = 0;    // how far behind the memory its written bytes are kept; 0: all are written
  uint64_t spare = 0;
};

struct CheckFinding {
  std::string kind;
  uint32_t site = 0;
  uint32_t block[3] = {};
  uint32_t thread[3] = {};
  int64_t address = 0;      // offset in `allocation`, shared memory or the thread's frame
  bool has_address = false;
  std::string allocation;   // empty: none
  uint32_t bytes = 0;       // 0: no access
  std::string text;
};

// What is kept of the threads of one running block.
struct BlockWatch {
  static constexpr int kFamilies = 8;
  struct Warp {
    const WarpState* state = nullptr;
    int32_t waits_at[kWarpSize];              // site of the barrier that a lane waits at; -1: none
    uint32_t met[kFamilies][kWarpSize] = {};  // operations that wait for lanes, by family
    std::vector<uint32_t> left;               // per meeting: lanes that will not come (again)
    std::vector<uint32_t> arrivals;           // per barrier and lane
  };
  struct Barrier {
    uint32_t most = 0;             // arrivals of the thread that has most
    uint32_t fewest = UINT32_MAX;  // arrivals of the thread that has fewest, of those that will not come again
    uint32_t warp = 0, lane = 0;   // that thread
  };

  std::vector<Warp> warps;
  std::vector<Barrier> barriers;
  uint32_t open = 0;   // numbers of barriers that threads wait for or have arrived at
  RaceClocks clocks;
  std::vector<RaceCell> cells;  // of shared memory
};

class Checker final : public Watcher {
 public:
  // threads: dimensions of a block. races: look for them.
  Checker(std::vector<CheckedSite> sites, bool races, const uint32_t* threads, uint32_t local_bytes, uint32_t local_stride,
          std::vector<MemoryRange> variables);

  // What generated code gets as its observer: the caches, then this object.
  struct View {
    SiteCache* caches;
    Checker* checker;
  };
  const View* view() const { return &view_; }
  std::vector<CheckFinding> findings() const;

  // Lanes of `mask` that may go on; marks what they write, and looks whether what they read was written.
  uint32_t access(WarpState& warp, uint32_t site, uint32_t mask, const uint64_t* addresses);
  // Lanes that read where the shadow has zeros.
  void unwritten(WarpState& warp, uint32_t site, uint32_t mask, const uint64_t* addresses);

  // Lanes arrive at a barrier of the block.
  void barrier(WarpState& warp, uint32_t site, uint32_t mask);
  // Lanes execute an operation that waits for lanes. here: those that are at it, guarded out or not; next: what every lane
  // does next (WarpState::next), null when all lanes are here; members: each lane's mask; lanes, clamps: operands b and c
  // of a shuffle, else null.
  void meet(WarpState& warp, uint32_t site, uint32_t mask, uint32_t here, const int32_t* next, const uint32_t* members,
            const uint32_t* lanes, const uint32_t* clamps);
  // Lanes enter a basic block that is behind some site.
  void pass(WarpState& warp, uint32_t basic_block, uint32_t mask);

  // Lanes have met without waiting for each other in `meet`.
  void together(WarpState& warp, uint32_t mask);
  void fence(WarpState& warp);
  // Lanes are about to make an access that others may see. values: of a store, for each element 32 lanes; else null.
  void share(WarpState& warp, uint32_t site, uint32_t mask, const uint64_t* addresses, const char* values);

  // Whether races were not looked for in all that the launch did: it needs more cells, or compares more, than is allowed.
  bool races_left_out() const { return global_.full() || compared_ >= kMostCompared; }

  void start(BlockState& block) override;
  void released(BlockState& block, int barrier, uint32_t warps) override;
  void stuck(BlockState& block, uint32_t live_threads) override;
  void finish(BlockState& block) override;

 private:
  enum class Where : uint8_t { memory, shared, local };
  struct Outcome {
    bool allowed = false;
    Where where = Where::memory;
    const KnownRange* range = nullptr;  // of Where::memory
    uint64_t shadow = 0;                // distance; 0: all bytes count as written
  };

  Outcome judge(WarpState& warp, uint32_t site, int lane, uint64_t address);
  bool inside_window(WarpState& warp, uint32_t site, int lane, uint64_t address, Where where, Outcome& outcome);
  void report_memory(WarpState& warp, uint32_t site, int lane, uint64_t address, const Lookup& found);
  bool unwritten_lane(const CheckedSite& facts, uint64_t address, uint64_t shadow) const;
  void report_unwritten(WarpState& warp, uint32_t site, int lane, uint64_t address);
  // The description of an address: "offset 12 of input 0 [3] float32, ..."; fills in `finding` what it is.
  std::string describe(const WarpState& warp, int lane, uint64_t address, const CheckedSite& facts,
                       CheckFinding& finding);

  void report_apart(const WarpState& warp, int lane, uint32_t site, uint32_t thread_warp, int thread_lane);
  // Whether a lane whose next block is this waits at an operation of the family.
  bool waits_in(int32_t next, int family) const;
  void report_mask(const WarpState& warp, uint32_t site, int lane, const std::string& what);
  void check_sources(WarpState& warp, uint32_t site, uint32_t mask, const int32_t* next, const uint32_t* members,
                     const uint32_t* lanes, const uint32_t* clamps);

  void compare(WarpState& warp, uint32_t site, int lane, uint64_t address, RaceCell& cell, RaceAccess& now,
               const char* value, const char* values, uint64_t element, uint64_t within, uint32_t granule);
  void report_race(WarpState& warp, uint32_t site, int lane, uint64_t address, const RaceAccess& other,
                   bool other_writes);

  // False when a finding of this kind and line is there already.
  bool is_new(const char* kind, uint32_t site);
  uint32_t place(uint32_t site) const;  // the line, or without one the site
  CheckFinding& add(const char* kind, uint32_t site, const WarpState& warp, int lane);
  static std::string thread_name(const WarpState& warp, int lane);
  std::string at_line(uint32_t site) const;  // " on line 12", or nothing

  BlockWatch& watch(const BlockState& block) { return *static_cast<BlockWatch*>(block.watch); }

  std::vector<CheckedSite> sites_;
  std::vector<SiteCache> caches_;
  View view_;
  uint32_t local_bytes_, local_stride_;
  DeviceMemory memory_;
  uint32_t threads_[3];
  std::vector<std::unique_ptr<BlockWatch>> watches_, spare_watches_;
  std::vector<std::vector<uint32_t>> behind_;  // per basic block: the sites that it is behind
  std::vector<int> meets_;  // per basic block: the family of the operation that it starts with; -1: none waits for lanes
  std::vector<uint32_t> ordinals_;             // per site: its number among barriers, or among operations of warps
  uint32_t barriers_ = 0, meetings_ = 0;
  bool races_;
  uint32_t shared_granule_ = 4, global_granule_ = 4;  // bytes of a cell: those of the smallest access
  RaceMemory global_{4};
  std::vector<uint32_t> fences_{0};  // by ordinal of the block
  uint64_t instance_ = 0;
  static constexpr uint64_t kMostCompared = 32'000'000;  // cells: a few seconds
  uint64_t compared_ = 0;
  std::vector<CheckFinding> findings_;
  std::set<std::pair<std::string, uint32_t>> reported_;  // kind and line, or without a line site + 2^31
};

}  // namespace kernelevo
