#include "check_race.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <new>

#include "check.h"

namespace kernelevo {

void RaceClocks::start(uint32_t number, uint32_t warps) {
  *this = {};
  ordinal = number;
  warps_ = std::min(warps, kWarps);
  for (uint32_t w = 0; w < warps_; w++) time[w] = 1;
}

void RaceClocks::meet(uint32_t warp, uint32_t lanes) {
  meetings[warp]++;
  for (uint32_t left = lanes; left != 0; left &= left - 1) met_[warp][std::countr_zero(left)] = meetings[warp];
}

void RaceClocks::arrive(int barrier, uint32_t warp) {
  for (int id = 0; id < 16; id++) {
    if (barrier >= 0 && id != barrier) continue;
    for (uint32_t v = 0; v < warps_; v++) arrived_[id][v] = std::max(arrived_[id][v], known_[warp][v]);
    arrived_[id][warp] = std::max(arrived_[id][warp], time[warp]);
  }
  time[warp]++;
}

void RaceClocks::release(int barrier, uint32_t warps) {
  uint32_t joined[kWarps] = {};
  if (barrier >= 0) {
    std::copy(std::begin(arrived_[barrier]), std::end(arrived_[barrier]), joined);
    std::fill(std::begin(arrived_[barrier]), std::end(arrived_[barrier]), 0);
  }
  for (uint32_t w = 0; w < warps_; w++) {
    if (!(warps >> w & 1)) continue;
    for (uint32_t v = 0; v < warps_; v++) joined[v] = std::max(joined[v], known_[w][v]);
    joined[w] = std::max(joined[w], time[w]);
  }
  for (uint32_t w = 0; w < warps_; w++) {
    if (!(warps >> w & 1)) continue;
    std::copy(joined, joined + kWarps, known_[w]);
    time[w]++;
    meet(w, UINT32_MAX);
  }
}

bool RaceClocks::ordered(const RaceAccess& before, uint32_t thread) const {
  if (before.thread == thread) return true;
  const uint32_t warp = thread / 32, other = before.thread / 32;
  if (warp != other) return known_[warp][other] >= before.time;
  return met_[warp][before.thread % 32] > before.sync && met_[warp][thread % 32] > before.sync;
}

RaceCell* RaceMemory::at(uint64_t address) {
  const uint64_t cell = address / granule_, page = cell / kPage;
  if (page != last_) {
    auto it = pages_.find(page);
    if (it == pages_.end()) {
      if (pages_.size() >= kMostPages) {
        full_ = true;
        return nullptr;
      }
      try {  // generated code is between us and whoever would catch it
        it = pages_.emplace(page, std::make_unique<RaceCell[]>(kPage)).first;
      } catch (const std::bad_alloc&) {
        full_ = true;
        return nullptr;
      }
    }
    last_ = page;
    last_page_ = it->second.get();
  }
  return last_page_ + cell % kPage;
}

// --- in the Checker

namespace {

// Whether two accesses of different threads that nothing orders may be left like that: both are meant for it, or one of
// them looks again and again until it sees the other.
bool tolerated(const RaceAccess& before, bool before_writes, const RaceAccess& now, bool now_writes, bool same_warp) {
  if (before.strength == Strength::relaxed && now.strength == Strength::relaxed) return !same_warp;
  if (before.strength != Strength::plain && now.strength != Strength::plain) return true;
  return !same_warp && ((now.spins && !now_writes) || (before.spins && !before_writes));
}

}  // namespace

void Checker::together(WarpState& warp, uint32_t mask) {
  if (mask != 0) watch(*warp.block).clocks.meet(static_cast<uint32_t>(warp.index), mask);
}

void Checker::fence(WarpState& warp) { fences_[watch(*warp.block).clocks.ordinal]++; }

void Checker::share(WarpState& warp, uint32_t site, uint32_t mask, const uint64_t* addresses, const char* values) {
  using Region = CheckedSite::Region;
  if (compared_ >= kMostCompared) return;
  const CheckedSite& facts = sites_[site];
  BlockWatch& all = watch(*warp.block);
  const uint64_t bytes = uint64_t{facts.element} * facts.count;
  const uint64_t shared = reinterpret_cast<uint64_t>(warp.block->shared);
  const auto number = static_cast<uint32_t>(warp.index);
  if (facts.releases) fence(warp);
  RaceAccess now;
  now.block = all.clocks.ordinal;
  now.time = all.clocks.time[number];
  now.sync = all.clocks.meetings[number];
  now.fence = fences_[now.block];
  now.site = site;
  now.strength = facts.atomic ? Strength::atomic : facts.strong ? Strength::relaxed : Strength::plain;
  now.spins = facts.spins && now.strength != Strength::plain;
  instance_++;
  uint64_t previous = UINT64_MAX;
  for (uint32_t left = mask; left != 0; left &= left - 1) {
    const int lane = std::countr_zero(left);
    const uint64_t address = addresses[lane];
    // Of lanes that read one place the last will do.
    if (!facts.writes && address == previous && (left & (left - 1)) != 0) continue;
    previous = address;
    now.thread = static_cast<uint16_t>(number * kWarpSize + static_cast<uint32_t>(lane));
    const uint64_t offset = address - shared;
    const bool in_shared = offset < warp.block->total_shared_bytes;
    if (facts.region == Region::generic && !in_shared && warp.local &&
        address - reinterpret_cast<uint64_t>(warp.local) < uint64_t{local_stride_} * kWarpSize)
      continue;
    if (warp.block->workspace && address - warp.block->workspace < 64) continue;
    const uint32_t granule = in_shared ? shared_granule_ : global_granule_;
    for (uint64_t at = 0; at < bytes; at += granule) {
      RaceCell* cell = in_shared ? &all.cells[(offset + at) / granule] : global_.at(address + at);
      if (!cell) break;
      compared_++;
      const uint64_t element = at / facts.element;
      const char* value = values ? values + (element * kWarpSize + static_cast<uint64_t>(lane)) * facts.element +
                                       at % facts.element
                                 : nullptr;
      compare(warp, site, lane, address + at, *cell, now, value, values, element, at % facts.element, granule);
    }
  }
}

void Checker::compare(WarpState& warp, uint32_t site, int lane, uint64_t address, RaceCell& cell, RaceAccess& now,
                      const char* value, const char* values, uint64_t element, uint64_t within, uint32_t granule) {
  const CheckedSite& facts = sites_[site];
  const BlockWatch& all = watch(*warp.block);
  auto conflicts = [&](const RaceAccess& before, bool before_writes) {
    if (before.block == 0) return false;
    if (before.block != now.block) {
      if (fences_[before.block] > before.fence) return false;  // published
      return !tolerated(before, before_writes, now, facts.writes, false);
    }
    if (all.clocks.ordered(before, now.thread)) return false;
    return !tolerated(before, before_writes, now, facts.writes, before.thread / kWarpSize == now.thread / kWarpSize);
  };
  const RaceAccess* other = nullptr;
  bool other_writes = true;
  if (facts.writes) {
    const bool one_instruction = cell.instance == instance_ && cell.write.block == now.block && !facts.atomic;
    bool same = false;
    if (value && one_instruction) {  // lanes of one instruction: the memory does not hold the other's value yet
      const uint64_t other_lane = cell.write.thread % kWarpSize;
      same = std::memcmp(value, values + (element * kWarpSize + other_lane) * facts.element + within, granule) == 0;
    } else if (value) {
      same = std::memcmp(value, reinterpret_cast<const void*>(address), granule) == 0;
    }
    if (!same) {
      if (one_instruction ? value && cell.write.thread != now.thread : conflicts(cell.write, true)) {
        other = &cell.write;
      } else {
        for (const RaceAccess* read : {&cell.reads[0], &cell.reads[1], &cell.foreign}) {
          if (!conflicts(*read, false)) continue;
          other = read;
          other_writes = false;
          break;
        }
      }
    }
  } else if (conflicts(cell.write, true)) {
    other = &cell.write;
  }
  if (other) report_race(warp, site, lane, address, *other, other_writes);
  if (facts.writes) {
    cell.write = now;
    cell.instance = instance_;
    return;
  }
  RaceAccess& last = cell.reads[0];
  if (last.block != now.block) {
    if (last.block) cell.foreign = last;
    cell.reads[1] = {};
  } else if (last.thread / kWarpSize != now.thread / kWarpSize) {
    cell.reads[1] = last;
  }
  last = now;
}

void Checker::report_race(WarpState& warp, uint32_t site, int lane, uint64_t address, const RaceAccess& other,
                          bool other_writes) {
  if (!is_new("race", site)) return;
  const CheckedSite& facts = sites_[site];
  const uint64_t bytes = uint64_t{facts.element} * facts.count;
  CheckFinding& finding = add("race", site, warp, lane);
  const std::string what = describe(warp, lane, address, facts, finding);
  finding.bytes = static_cast<uint32_t>(bytes);
  const uint32_t thread = other.thread;
  const uint32_t x = thread % threads_[0], y = thread / threads_[0] % threads_[1], z = thread / threads_[0] / threads_[1];
  const bool same_block = other.block == watch(*warp.block).clocks.ordinal;
  finding.text = thread_name(warp, lane) +
                 (facts.atomic ? " changes " : facts.writes ? " writes " : " reads ") + std::to_string(bytes) +
                 (bytes == 1 ? " byte at " : " bytes at ") + what + ", which threadIdx (" + std::to_string(x) + "," +
                 std::to_string(y) + "," + std::to_string(z) + ") of " + (same_block ? "its block" : "another block") +
                 (other_writes ? " writes" : " reads") + at_line(other.site) +
                 (same_block ? ": no barrier, and no __syncwarp within a warp, is between them"
                             : ": blocks run in any order, and no fence or atomic operation orders these");
}

}  // namespace kernelevo
