// Who touched each piece of memory last, and whether that can have been at the same time as now.
//
// Order within a block: a vector clock per warp, advanced by barriers (also of some warps only), and within a warp a counter
// of the operations at which lanes met. Between blocks: nothing is ordered, except that a fence of a block after its access
// is taken to publish it, whoever finds out how (flags, counters of finished blocks, grid.sync()). A cell holds the last
// write and the last three readers of different warps or blocks, so some races are missed; those that are found are real
// in the sense that nothing the kernel does orders the two. Not thread-safe.
#pragma once

#include <cstdint>
#include <memory>
#include <unordered_map>
#include <utility>
#include <vector>

namespace kernelevo {

// How an access wants to be seen by others while they run.
enum class Strength : uint8_t { plain, relaxed, atomic };  // relaxed: volatile, relaxed, acquire, release

struct RaceAccess {
  uint32_t block = 0;   // ordinal of the block's start, from 1; 0: none
  uint32_t time = 0;    // of its warp
  uint32_t sync = 0;    // of its warp: meetings so far
  uint32_t fence = 0;   // fences of its block so far
  uint32_t site = 0;
  uint16_t thread = 0;  // number in the block
  Strength strength = Strength::plain;
  bool spins = false;   // looks again and again
};

struct RaceCell {
  RaceAccess write;
  RaceAccess reads[2];   // the last, and the last of another warp
  RaceAccess foreign;    // last reader of another block than the last
  uint64_t instance = 0; // number of the warp's access that wrote last
};

// Clocks of the warps of one running block.
class RaceClocks {
 public:
  static constexpr uint32_t kWarps = 32;

  void start(uint32_t ordinal, uint32_t warps);
  void meet(uint32_t warp, uint32_t lanes);          // lanes of a warp have met
  void arrive(int barrier, uint32_t warp);           // bar.arrive; -1: at any barrier
  void release(int barrier, uint32_t warps);         // bits: warps that go on
  bool ordered(const RaceAccess& before, uint32_t thread) const;  // of the same block

  uint32_t ordinal = 0;
  uint32_t time[kWarps] = {};
  uint32_t meetings[kWarps] = {};

 private:
  uint32_t warps_ = 0;
  uint32_t known_[kWarps][kWarps] = {};    // what a warp knows of the others' times
  uint32_t arrived_[16][kWarps] = {};      // what those who arrived at a barrier knew
  uint32_t met_[kWarps][32] = {};          // meetings of the warp when the lane met others last
};

// Cells of device memory, made as they are touched.
class RaceMemory {
 public:
  explicit RaceMemory(uint32_t granule) : granule_(granule) {}

  RaceCell* at(uint64_t address);  // null: too much memory is in use
  bool full() const { return full_; }

 private:
  static constexpr uint64_t kPage = 1024;                       // cells
  static constexpr size_t kMostPages = (size_t{1} << 29) / (kPage * sizeof(RaceCell));
  uint32_t granule_;
  std::unordered_map<uint64_t, std::unique_ptr<RaceCell[]>> pages_;
  uint64_t last_ = UINT64_MAX;
  RaceCell* last_page_ = nullptr;
  bool full_ = false;
};

}  // namespace kernelevo
