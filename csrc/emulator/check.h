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
  uint32_t element = 0;      // bytes
  uint32_t count = 0;        // elements per lane
  uint32_t used = 0;         // bit k: what element k is read for is used
  uint32_t line = 0;         // findings of one kind are the same when their lines are: 0 is no line
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

class Checker final : public Watcher {
 public:
  Checker(std::vector<CheckedSite> sites, uint32_t local_bytes, uint32_t local_stride,
          std::vector<MemoryRange> variables);

  // What generated code gets as its observer: the caches, then this object.
  struct View {
    SiteCache* caches;
    Checker* checker;
  };
  const View* view() const { return &view_; }
  const std::vector<CheckFinding>& findings() const { return findings_; }

  // Lanes of `mask` that may go on; marks what they write, and looks whether what they read was written.
  uint32_t access(WarpState& warp, uint32_t site, uint32_t mask, const uint64_t* addresses);
  // Lanes that read where the shadow has zeros.
  void unwritten(WarpState& warp, uint32_t site, uint32_t mask, const uint64_t* addresses);

  void start(BlockState& block) override;
  void released(BlockState& block, int barrier) override;
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

  // False when a finding of this kind and line is there already.
  bool is_new(const char* kind, uint32_t site);
  CheckFinding& add(const char* kind, uint32_t site, const WarpState& warp, int lane);
  static std::string thread_name(const WarpState& warp, int lane);

  std::vector<CheckedSite> sites_;
  std::vector<SiteCache> caches_;
  View view_;
  uint32_t local_bytes_, local_stride_;
  DeviceMemory memory_;
  std::vector<CheckFinding> findings_;
  std::set<std::pair<std::string, uint32_t>> reported_;  // kind and line, or without a line site + 2^31
};

}  // namespace kernelevo
