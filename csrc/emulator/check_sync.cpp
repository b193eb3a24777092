// Barriers of the block and operations that wait for lanes of the warp.
//
// What counts as a mistake follows NVIDIA's documents. CUDA C++ Programming Guide, "Synchronization Functions": __syncthreads()
// in conditional code only where the whole block takes the condition alike; since Volta it waits for all threads that have
// not exited ("Independent Thread Scheduling"), so an early return is none. PTX ISA, bar.sync: the threads of a warp execute
// the same barrier instruction. "Warp Shuffle Functions", "__syncwarp": a lane names itself, and all named lanes that have not
// exited execute the operation with the same mask, perhaps elsewhere in the program; what is read from others is undefined.
// A thread that branches around an operation and then leaves without doing anything that the others do as well cannot be
// told from one that returned early, and is treated as such.
#include <algorithm>
#include <bit>

#include "check.h"

namespace kernelevo {
namespace {

constexpr uint32_t kAll = UINT32_MAX;

}  // namespace

void Checker::start(BlockState& block) {
  if (!block.watch) {
    watches_.push_back(std::make_unique<BlockWatch>());
    block.watch = watches_.back().get();
  }
  BlockWatch& all = watch(block);
  fences_.push_back(0);
  all.warps.resize((threads_[0] * threads_[1] * threads_[2] + kWarpSize - 1) / kWarpSize);
  for (BlockWatch::Warp& warp : all.warps) {
    warp = {};
    std::fill(std::begin(warp.waits_at), std::end(warp.waits_at), -1);
    warp.left.assign(meetings_, 0);
    warp.arrivals.assign(size_t{barriers_} * kWarpSize, 0);
  }
  all.barriers.assign(barriers_, {});
  all.open = 0;
  all.clocks.start(static_cast<uint32_t>(fences_.size() - 1), static_cast<uint32_t>(all.warps.size()));
  if (races_) all.cells.assign(block.total_shared_bytes / shared_granule_ + 1, {});
}

void Checker::finish(BlockState&) {}

// A thread of the block does not come to a barrier that others come to.
void Checker::report_apart(const WarpState& warp, int lane, uint32_t site, uint32_t absent_warp, int absent_lane) {
  if (!is_new("divergent barrier", site)) return;
  const BlockWatch::Warp& other = watch(*warp.block).warps[absent_warp];
  const WarpState& absent = other.state ? *other.state : warp;
  CheckFinding& finding = add("divergent barrier", site, absent, absent_lane);
  finding.text = thread_name(absent, absent_lane) + " does not come to the barrier" + at_line(site) + " that threadIdx " +
                 thread_name(warp, lane).substr(10) + " comes to: all threads of the block must, or none";
}

void Checker::barrier(WarpState& warp, uint32_t site, uint32_t mask) {
  if (mask == 0) return;
  const CheckedSite& facts = sites_[site];
  BlockWatch& all = watch(*warp.block);
  BlockWatch::Warp& own = all.warps[static_cast<uint32_t>(warp.index)];
  own.state = &warp;
  if (facts.barrier >= 0) all.open |= 1u << facts.barrier;
  if (facts.arrives) return all.clocks.arrive(facts.barrier, static_cast<uint32_t>(warp.index));
  BlockWatch::Barrier& here = all.barriers[ordinals_[site]];
  for (uint32_t left = mask; left != 0; left &= left - 1) {
    const int lane = std::countr_zero(left);
    own.waits_at[lane] = static_cast<int32_t>(site);
    const uint32_t arrivals = ++own.arrivals[size_t{ordinals_[site]} * kWarpSize + lane];
    here.most = std::max(here.most, arrivals);
    if (!facts.counted && arrivals > here.fewest) report_apart(warp, lane, site, here.warp, static_cast<int>(here.lane));
  }
  if (all.warps.size() == 1 && mask == kAll) released(*warp.block, facts.barrier, 1);  // such a block does not wait
}

void Checker::pass(WarpState& warp, uint32_t basic_block, uint32_t mask) {
  BlockWatch& all = watch(*warp.block);
  const auto number = static_cast<uint32_t>(warp.index);
  BlockWatch::Warp& own = all.warps[number];
  own.state = &warp;
  for (uint32_t site : behind_[basic_block]) {
    const CheckedSite& facts = sites_[site];
    if (facts.kind == CheckedSite::Kind::warp) {
      own.left[ordinals_[site]] |= mask;
      continue;
    }
    if (facts.counted) continue;
    BlockWatch::Barrier& there = all.barriers[ordinals_[site]];
    for (uint32_t left = mask; left != 0; left &= left - 1) {
      const int lane = std::countr_zero(left);
      const uint32_t arrivals = own.arrivals[size_t{ordinals_[site]} * kWarpSize + lane];
      if (arrivals < there.fewest) {
        there.fewest = arrivals;
        there.warp = number;
        there.lane = static_cast<uint32_t>(lane);
      }
      if (there.most <= arrivals) continue;
      // Somebody came more often: the first such thread.
      for (const BlockWatch::Warp& other : all.warps) {
        for (int k = 0; k < kWarpSize; k++) {
          if (!other.state || other.arrivals[size_t{ordinals_[site]} * kWarpSize + k] <= arrivals) continue;
          report_apart(*other.state, k, site, number, lane);
          break;
        }
      }
    }
  }
}

void Checker::released(BlockState& block, int barrier, uint32_t warps) {
  BlockWatch& all = watch(block);
  all.clocks.release(barrier, warps);
  if (barrier >= 0) all.open &= ~(1u << barrier);
  int32_t first = -1;
  const WarpState* first_warp = nullptr;
  int first_lane = 0;
  for (BlockWatch::Warp& warp : all.warps) {
    for (int lane = 0; lane < kWarpSize; lane++) {
      const int32_t site = warp.waits_at[lane];
      if (site < 0) continue;
      const CheckedSite& facts = sites_[static_cast<size_t>(site)];
      if (facts.barrier >= 0 && facts.barrier != barrier) continue;
      warp.waits_at[lane] = -1;
      if (facts.counted || facts.barrier < 0) continue;
      if (first < 0) {
        first = site;
        first_warp = warp.state;
        first_lane = lane;
      } else if (site != first && is_new("divergent barrier", static_cast<uint32_t>(site))) {
        CheckFinding& finding = add("divergent barrier", static_cast<uint32_t>(site), *warp.state, lane);
        finding.text = thread_name(*warp.state, lane) + " waits at the barrier" + at_line(static_cast<uint32_t>(site)) +
                       ", threadIdx " + thread_name(*first_warp, first_lane).substr(10) + " at the one" +
                       at_line(static_cast<uint32_t>(first)) + ": all threads of the block must wait at the same one";
      }
    }
  }
}

void Checker::stuck(BlockState& block, uint32_t live_threads) {
  BlockWatch& all = watch(block);
  const bool exited = live_threads < threads_[0] * threads_[1] * threads_[2];
  for (const BlockWatch::Warp& warp : all.warps) {
    for (int lane = 0; lane < kWarpSize; lane++) {
      if (warp.waits_at[lane] < 0) continue;
      const auto site = static_cast<uint32_t>(warp.waits_at[lane]);
      const bool others_left = exited && sites_[site].counted && std::popcount(all.open) <= 1;
      const char* kind = others_left ? "exited before barrier" : "divergent barrier";
      if (is_new(kind, site)) {
        CheckFinding& finding = add(kind, site, *warp.state, lane);
        finding.text = thread_name(*warp.state, lane) + " waits for ever at the barrier" + at_line(site) +
                       (others_left ? ": threads that it counts on have exited"
                                    : ": not all threads that it is for come to it; others wait elsewhere");
      }
      return;
    }
  }
}

// --- operations that wait for lanes

bool Checker::waits_in(int32_t next, int family) const {
  if (next == kLaneExited || !(next & kWarpWait)) return false;
  const auto basic_block = static_cast<size_t>(next & ~kWarpWait);
  return basic_block < meets_.size() && meets_[basic_block] == family;
}

void Checker::report_mask(const WarpState& warp, uint32_t site, int lane, const std::string& what) {
  if (!is_new("wrong mask", site)) return;
  CheckFinding& finding = add("wrong mask", site, warp, lane);
  finding.text = thread_name(warp, lane) + ": " + what;
}

void Checker::meet(WarpState& warp, uint32_t site, uint32_t mask, uint32_t here, const int32_t* next,
                   const uint32_t* members, const uint32_t* lanes, const uint32_t* clamps) {
  if (mask == 0) return;
  const CheckedSite& facts = sites_[site];
  BlockWatch::Warp& own = watch(*warp.block).warps[static_cast<uint32_t>(warp.index)];
  own.state = &warp;
  uint32_t* met = own.met[facts.family];
  uint32_t named = 0;
  together(warp, mask);
  for (uint32_t left = mask; left != 0; left &= left - 1) met[std::countr_zero(left)]++;
  for (uint32_t left = mask; left != 0; left &= left - 1) {
    const int lane = std::countr_zero(left);
    named |= members[lane];
    if (!(members[lane] >> lane & 1)) report_mask(warp, site, lane, "the mask does not name the lane that executes it");
    for (uint32_t others = members[lane] & mask; others != 0; others &= others - 1) {
      if (members[std::countr_zero(others)] == members[lane]) continue;
      report_mask(warp, site, lane, "lanes that the mask names execute it with another mask");
      break;
    }
  }
  for (uint32_t missing = named & ~mask; missing != 0; missing &= missing - 1) {
    const int lane = std::countr_zero(missing);
    const int executing = std::countr_zero(mask);
    const bool behind = met[lane] < met[executing];
    bool wrong = here >> lane & 1;
    if (!wrong && next && behind) {
      if (next[lane] == kLaneExited) {
        wrong = own.left[ordinals_[site]] >> lane & 1;
      } else {
        wrong = !waits_in(next[lane], facts.family);
      }
    }
    if (!wrong) continue;
    report_mask(warp, site, executing, "the mask names lane " + std::to_string(lane) + ", which does not execute it");
  }
  if (lanes && !reported_.contains({"wrong mask", place(site)})) check_sources(warp, site, mask, next, members, lanes, clamps);
}

// The lanes that a shuffle reads from: PTX ISA, shfl.sync.
void Checker::check_sources(WarpState& warp, uint32_t site, uint32_t mask, const int32_t* next, const uint32_t* members,
                            const uint32_t* lanes, const uint32_t* clamps) {
  using Shuffle = CheckedSite::Shuffle;
  const Shuffle mode = sites_[site].shuffle;
  for (uint32_t left = mask; left != 0; left &= left - 1) {
    const int lane = std::countr_zero(left);
    const int offset = static_cast<int>(lanes[lane] & 31);
    const int segment = static_cast<int>(clamps[lane] >> 8 & 31), limit = static_cast<int>(clamps[lane] & 31);
    const int first = lane & segment, last = first | (limit & ~segment & 31);
    const int source = mode == Shuffle::up     ? lane - offset
                       : mode == Shuffle::down ? lane + offset
                       : mode == Shuffle::bfly ? lane ^ offset
                                               : first | (offset & ~segment & 31);
    const bool in_range = mode == Shuffle::up ? source >= last : source <= last;
    if (!in_range || source == lane) continue;
    const bool takes_part = mask >> source & 1 || (next && waits_in(next[source], sites_[site].family));
    if (takes_part && members[lane] >> source & 1) continue;
    // In a reduction the upper lanes read what nobody uses; the result is the lowest lane's.
    if (mode == Shuffle::down && lane != std::countr_zero(mask)) continue;
    if (!is_new("inactive lane", site)) return;
    CheckFinding& finding = add("inactive lane", site, warp, lane);
    finding.text = thread_name(warp, lane) + " reads from lane " + std::to_string(source) +
                   (takes_part ? ", which its mask does not name" : ", which does not take part") +
                   ": the value is undefined";
    return;
  }
}

}  // namespace kernelevo
