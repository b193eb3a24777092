#include "count.h"

#include <algorithm>
#include <array>
#include <bit>
#include <map>

#include "../cuda_runtime/allocations.h"

namespace kernelevo {
namespace {

constexpr uint64_t sector_bytes = 32;
constexpr uint32_t banks = 32;
constexpr uint32_t bank_bytes = 4;
constexpr int warp = 32;

// Calls visit(sector) once for each distinct sector of the active lanes' accesses, in ascending order.
template <class Visit>
void distinct_sectors(uint32_t bytes, uint32_t mask, const uint64_t* addresses, Visit visit) {
  std::array<uint64_t, warp * 5> found;  // an access of up to 128 bytes per lane touches at most 5 sectors
  std::size_t count = 0;
  for (uint32_t left = mask; left != 0; left &= left - 1) {
    const uint64_t address = addresses[std::countr_zero(left)];
    for (uint64_t s = address / sector_bytes; s <= (address + bytes - 1) / sector_bytes; ++s) {
      if (count == 0 || found[count - 1] != s) found[count++] = s;
    }
  }
  std::sort(found.begin(), found.begin() + count);
  const auto end = std::unique(found.begin(), found.begin() + count);
  for (auto s = found.begin(); s != end; ++s) visit(*s);
}

// Passes of a group of lanes through the banks: the most distinct words that one bank must serve.
uint64_t bank_passes(uint32_t bytes, uint32_t mask, const uint64_t* addresses) {
  std::array<uint64_t, warp * 4> words;
  std::size_t count = 0;
  for (uint32_t left = mask; left != 0; left &= left - 1) {
    const uint64_t address = addresses[std::countr_zero(left)];
    for (uint64_t w = address / bank_bytes; w <= (address + bytes - 1) / bank_bytes; ++w) words[count++] = w;
  }
  std::sort(words.begin(), words.begin() + count);
  const auto end = std::unique(words.begin(), words.begin() + count);
  std::array<uint32_t, banks> load{};
  for (auto w = words.begin(); w != end; ++w) ++load[*w % banks];
  return *std::max_element(load.begin(), load.end());
}

uint64_t most_on_one_address(uint32_t mask, const uint64_t* addresses) {
  std::array<uint64_t, warp> sorted;
  std::size_t count = 0;
  for (uint32_t left = mask; left != 0; left &= left - 1) sorted[count++] = addresses[std::countr_zero(left)];
  std::sort(sorted.begin(), sorted.begin() + count);
  uint64_t most = 0, run = 0;
  for (std::size_t i = 0; i < count; ++i) {
    run = i != 0 && sorted[i] == sorted[i - 1] ? run + 1 : 1;
    most = std::max(most, run);
  }
  return most;
}

}  // namespace

Counter::Counter(std::vector<Site> sites, std::size_t basic_blocks)
  : site_facts_(std::move(sites)), site_counts_(site_facts_.size()), block_counts_(basic_blocks) {}

void Counter::block(uint64_t thread_block, uint32_t basic_block, uint32_t mask) {
  if (ordinal_ == 0 || thread_block_ != thread_block) {
    thread_block_ = thread_block;
    ++ordinal_;
    for (History& warp : warps_) warp = {};
  }
  BlockCounts& counts = block_counts_[basic_block];
  ++counts.executions;
  counts.lanes += std::popcount(mask);
}

void Counter::access(const WarpState& warp_state, uint32_t site, uint32_t mask, const uint64_t* addresses) {
  if (mask == 0) return;
  if (site_facts_[site].space == Space::generic) {
    const uint64_t offset = addresses[std::countr_zero(mask)] - reinterpret_cast<uint64_t>(warp_state.block->shared);
    if (offset < warp_state.block->total_shared_bytes) ++site;
  }
  const Site& facts = site_facts_[site];
  SiteCounts& counts = site_counts_[site];
  const bool atomic = facts.reads && facts.writes;
  ++counts.requests;
  counts.lanes += std::popcount(mask);
  if (facts.space == Space::shared) {
    if (atomic) counts.serial += most_on_one_address(mask, addresses);
    // Lanes that together move 128 bytes go through the banks at a time: all 32, 16 or 8.
    const int group = std::max<int>(warp * bank_bytes / std::max(facts.bytes, bank_bytes), 1);
    for (int first = 0; first < warp; first += group) {
      const uint32_t part = group == warp ? mask : mask & (((1u << group) - 1) << first);
      if (part == 0) continue;
      counts.wavefronts += bank_passes(facts.bytes, part, addresses);
      ++counts.ideal_wavefronts;
    }
    return;
  }
  if (atomic) {
    for (uint32_t left = mask; left != 0; left &= left - 1) {
      Atomics& on_address = atomics_[addresses[std::countr_zero(left)]];
      ++on_address.lanes;
      on_address.several_blocks |= on_address.last_block != 0 && on_address.last_block != ordinal_;
      on_address.last_block = ordinal_;
    }
  }
  distinct_sectors(facts.bytes, mask, addresses, [&](uint64_t sector) {
    ++counts.sectors;
    if (facts.space == Space::local) return;
    Touch& touch = sectors_[sector];
    if (facts.writes && touch.first_write == 0) touch.first_write = ordinal_;
    if (!facts.reads) return;
    read(static_cast<uint32_t>(warp_state.index), sector);
    if (touch.first_read == 0) touch.first_read = ordinal_;
    if (touch.last_read == ordinal_) return;
    touch.last_read = ordinal_;
    ++block_read_sectors_;
  });
}

void Counter::read(uint32_t warp_number, uint64_t sector) {
  if (warp_number >= warps_.size()) warps_.resize(warp_number + 1);
  History& history = warps_[warp_number];
  const auto [place, first] = history.last.try_emplace(sector, history.now);
  if (first) {
    ++warp_read_sectors_;
  } else {
    const std::size_t digits = std::bit_width(history.now - place->second);
    ++reuse_[std::min(digits, kDistances - 1)];
    place->second = history.now;
  }
  ++history.now;
}

uint64_t Counter::hottest_of_one() const {
  uint64_t most = 0;
  for (const auto& [address, on_address] : atomics_)
    if (!on_address.several_blocks) most = std::max(most, on_address.lanes);
  return most;
}

uint64_t Counter::hottest_of_several() const {
  uint64_t most = 0;
  for (const auto& [address, on_address] : atomics_)
    if (on_address.several_blocks) most = std::max(most, on_address.lanes);
  return most;
}

std::vector<Footprint> Counter::footprints() const {
  std::map<uint64_t, Footprint> by_base;
  const uint64_t half = ordinal_ / 2;
  for (const auto& [sector, touch] : sectors_) {
    const auto allocation = runtime::find_allocation(reinterpret_cast<const void*>(sector * sector_bytes));
    Footprint& footprint = by_base[allocation ? allocation->address : 0];
    footprint.bytes = allocation ? allocation->size : 0;
    footprint.read += touch.first_read != 0;
    footprint.read_half += touch.first_read != 0 && touch.first_read <= half;
    footprint.written += touch.first_write != 0;
    footprint.written_half += touch.first_write != 0 && touch.first_write <= half;
  }
  std::vector<Footprint> all;
  for (const auto& entry : by_base) all.push_back(entry.second);
  return all;
}

}  // namespace kernelevo

void kernelevo_count_block(kernelevo::Counter* counter, const kernelevo::WarpState* warp, uint32_t basic_block,
                           uint32_t mask) {
  counter->block(warp->block->linear_index, basic_block, mask);
}

void kernelevo_count_access(kernelevo::Counter* counter, const kernelevo::WarpState* warp, uint32_t site,
                            uint32_t mask, const uint64_t* addresses) {
  counter->access(*warp, site, mask, addresses);
}
