// Event counts of one launch of a counted kernel: which basic blocks ran with which lanes, and what each memory
// instruction touched. Not thread-safe: a counted launch runs on one thread, so its numbers are repeatable.
// Classes of instructions, names and scaling to the whole grid are Python's (kernelevo/emulator/count.py).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <unordered_map>
#include <vector>

#include "grid.h"

namespace kernelevo {

enum class Space : uint8_t { global, shared, local, generic };

// Static facts of one memory instruction.
struct Site {
  Space space;  // generic: global, or when it is the block's shared memory, the next site, which is its shared twin
  bool reads;
  bool writes;
  uint32_t bytes;  // per lane: element size x vector length
};

struct SiteCounts {
  uint64_t requests = 0;      // executions by a warp with at least one active lane
  uint64_t lanes = 0;       // active lanes over all requests
  uint64_t sectors = 0;       // distinct 32-byte sectors per request (global, local)
  uint64_t wavefronts = 0;    // 128-byte passes through the banks per request (shared)
  uint64_t ideal_wavefronts = 0;  // the same without bank conflicts
  uint64_t serial = 0;      // most lanes on one address per request (atomics: reads and writes)
};

struct BlockCounts {
  uint64_t executions = 0;  // by a warp
  uint64_t lanes = 0;     // active lanes over all executions
};

// Distinct sectors of one allocation, after the first half of the thread blocks that ran and after all of them.
struct Footprint {
  uint64_t bytes = 0;  // size of the allocation; 0 when unknown
  uint64_t read_half = 0;
  uint64_t read = 0;
  uint64_t written_half = 0;
  uint64_t written = 0;
};

// Reads of sectors that the same warp read before, by how many sectors it read in between: element b counts distances
// of b binary digits. A bound on what a cache of that many sectors, the warp's own, would serve.
constexpr std::size_t kDistances = 16;
using Reuse = std::array<uint64_t, kDistances>;

class Counter {
public:
  Counter(std::vector<Site> sites, std::size_t basic_blocks);

  void block(uint64_t thread_block, uint32_t basic_block, uint32_t mask);
  void access(const WarpState& warp, uint32_t site, uint32_t mask, const uint64_t* addresses);

  const std::vector<SiteCounts>& sites() const { return site_counts_; }
  const std::vector<BlockCounts>& blocks() const { return block_counts_; }
  uint64_t block_read_sectors() const { return block_read_sectors_; }  // distinct per thread block, summed
  // Atomics on the global address that has most of them: among addresses that one thread block used, and that several did.
  uint64_t hottest_of_one() const;
  uint64_t hottest_of_several() const;
  uint64_t warp_read_sectors() const { return warp_read_sectors_; }    // distinct per warp, summed
  const Reuse& reuse() const { return reuse_; }
  std::vector<Footprint> footprints() const;

private:
  // Numbers of thread blocks in the order in which they ran, from 1; 0 is none.
  struct Touch {
    uint64_t first_read = 0;
    uint64_t last_read = 0;
    uint64_t first_write = 0;
  };
  struct Atomics {
    uint64_t lanes = 0;
    uint64_t last_block = 0;
    bool several_blocks = false;
  };

  // What one warp of the running thread block has read, and when, in sectors.
  struct History {
    std::unordered_map<uint64_t, uint64_t> last;
    uint64_t now = 0;
  };

  void read(uint32_t warp, uint64_t sector);

  std::vector<Site> site_facts_;
  std::vector<SiteCounts> site_counts_;
  std::vector<BlockCounts> block_counts_;
  std::unordered_map<uint64_t, Touch> sectors_;
  std::unordered_map<uint64_t, Atomics> atomics_;
  std::vector<History> warps_;
  uint64_t block_read_sectors_ = 0;
  uint64_t warp_read_sectors_ = 0;
  Reuse reuse_{};
  uint64_t thread_block_ = 0;  // linear number in the grid of the one that runs
  uint64_t ordinal_ = 0;       // the same in the order in which they ran
};

}  // namespace kernelevo

// What counted kernels call.
extern "C" {
void kernelevo_count_block(kernelevo::Counter* counter, const kernelevo::WarpState* warp, uint32_t basic_block,
                           uint32_t mask);
void kernelevo_count_access(kernelevo::Counter* counter, const kernelevo::WarpState* warp, uint32_t site,
                            uint32_t mask, const uint64_t* addresses);
}
