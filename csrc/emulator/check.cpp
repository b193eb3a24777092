#include "check.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace kernelevo {
namespace {

const char* plural(uint64_t count) { return count == 1 ? " byte" : " bytes"; }

std::string bytes_text(uint64_t count) { return std::to_string(count) + plural(count); }

std::string triple(const uint32_t* v) {
  return "(" + std::to_string(v[0]) + "," + std::to_string(v[1]) + "," + std::to_string(v[2]) + ")";
}

// "offset 516 of X, 0 bytes past its end"
std::string offset_text(int64_t offset, uint64_t size, uint64_t bytes, const std::string& name) {
  std::string text = "offset " + std::to_string(offset) + " of " + name;
  const auto end = static_cast<int64_t>(size);
  if (offset < 0) return text + ", " + bytes_text(static_cast<uint64_t>(-offset)) + " before its start";
  if (offset >= end) return text + ", " + bytes_text(static_cast<uint64_t>(offset - end)) + " past its end";
  const auto over = static_cast<int64_t>(bytes) - (end - offset);
  if (over > 0) return text + ", the last " + bytes_text(static_cast<uint64_t>(over)) + " past its end";
  return text;
}

}  // namespace

Checker::Checker(std::vector<CheckedSite> sites, bool races, const uint32_t* threads, uint32_t local_bytes, uint32_t local_stride,
                 std::vector<MemoryRange> variables)
    : sites_(std::move(sites)),
      caches_(sites_.size()),
      view_{caches_.data(), this},
      local_bytes_(local_bytes),
      local_stride_(local_stride),
      memory_(std::move(variables)),
      threads_{threads[0], threads[1], threads[2]},
      ordinals_(sites_.size()),
      races_(races) {
  for (uint32_t site = 0; site < sites_.size(); site++) {
    const CheckedSite& facts = sites_[site];
    if (facts.kind == CheckedSite::Kind::barrier) ordinals_[site] = barriers_++;
    if (facts.kind == CheckedSite::Kind::warp) {
      ordinals_[site] = meetings_++;
      const auto basic_block = static_cast<size_t>(facts.starts);
      if (basic_block >= meets_.size()) meets_.resize(basic_block + 1, -1);
      if (meets_[basic_block] < 0) meets_[basic_block] = facts.family;  // lanes wait at the first alone
    }
    if (facts.kind == CheckedSite::Kind::access && facts.element != 0) {
      using Region = CheckedSite::Region;
      if (facts.region == Region::shared || facts.region == Region::generic)
        shared_granule_ = std::min(shared_granule_, facts.element);
      if (facts.region == Region::global || facts.region == Region::generic)
        global_granule_ = std::min(global_granule_, facts.element);
    }
    for (uint32_t basic_block : facts.behind) {
      if (basic_block >= behind_.size()) behind_.resize(basic_block + 1);
      behind_[basic_block].push_back(site);
    }
  }
  global_ = RaceMemory(global_granule_);
}

std::string Checker::at_line(uint32_t site) const {
  return sites_[site].line ? " on line " + std::to_string(sites_[site].line) : "";
}

uint32_t Checker::place(uint32_t site) const { return sites_[site].line ? sites_[site].line : site | 1u << 31; }

bool Checker::is_new(const char* kind, uint32_t site) { return reported_.emplace(kind, place(site)).second; }

// Who reads before others have written, for want of a barrier, also reads what nobody has written: the race says why.
std::vector<CheckFinding> Checker::findings() const {
  std::vector<CheckFinding> result;
  for (const CheckFinding& finding : findings_) {
    const bool explained = finding.kind == "uninitialised read" &&
                           std::any_of(findings_.begin(), findings_.end(), [&](const CheckFinding& other) {
                             return other.kind == "race" && other.allocation == finding.allocation;
                           });
    if (!explained) result.push_back(finding);
  }
  return result;
}

CheckFinding& Checker::add(const char* kind, uint32_t site, const WarpState& warp, int lane) {
  CheckFinding& finding = findings_.emplace_back();
  finding.kind = kind;
  finding.site = site;
  for (int k = 0; k < 3; k++) {
    finding.block[k] = warp.block->ctaid[k];
    finding.thread[k] = static_cast<uint32_t>(warp.tid[k][lane]);
  }
  return finding;
}

std::string Checker::thread_name(const WarpState& warp, int lane) {
  const uint32_t thread[3] = {static_cast<uint32_t>(warp.tid[0][lane]), static_cast<uint32_t>(warp.tid[1][lane]),
                              static_cast<uint32_t>(warp.tid[2][lane])};
  return "threadIdx " + triple(thread) + " of block " + triple(warp.block->ctaid);
}

// --- memory

uint32_t Checker::access(WarpState& warp, uint32_t site, uint32_t mask, const uint64_t* addresses) {
  const CheckedSite& facts = sites_[site];
  const uint64_t bytes = uint64_t{facts.element} * facts.count;
  uint32_t allowed = 0;
  bool one_place = true;
  Outcome first;
  for (uint32_t left = mask; left != 0; left &= left - 1) {
    const int lane = std::countr_zero(left);
    const Outcome outcome = judge(warp, site, lane, addresses[lane]);
    if (!outcome.allowed) continue;
    if (facts.reads && outcome.shadow && unwritten_lane(facts, addresses[lane], outcome.shadow))
      report_unwritten(warp, site, lane, addresses[lane]);
    if (allowed == 0) first = outcome;
    one_place = one_place && outcome.where == first.where && outcome.range == first.range;
    allowed |= 1u << lane;
  }
  if (facts.writes) {
    for (uint32_t left = allowed; left != 0; left &= left - 1) {
      const int lane = std::countr_zero(left);
      const uint64_t shadow = one_place ? first.shadow : judge(warp, site, lane, addresses[lane]).shadow;
      if (shadow) std::memset(reinterpret_cast<void*>(addresses[lane] + shadow), 0xff, bytes);
    }
  }
  if (allowed == 0 || !one_place || (first.where == Where::memory && !first.range)) return allowed;
  SiteCache& cache = caches_[site];
  if (first.where == Where::memory) {
    cache = {first.range->begin, first.range->end - first.range->begin - bytes, first.shadow, 0};
  } else if (first.where == Where::shared && facts.region == CheckedSite::Region::generic) {
    cache = {reinterpret_cast<uint64_t>(warp.block->shared), warp.block->total_shared_bytes - bytes, first.shadow, 0};
  }
  return allowed;
}

bool Checker::inside_window(WarpState& warp, uint32_t site, int lane, uint64_t address, Where where,
                            Outcome& outcome) {
  const CheckedSite& facts = sites_[site];
  const uint64_t bytes = uint64_t{facts.element} * facts.count;
  const bool shared = where == Where::shared;
  const uint64_t begin = shared ? reinterpret_cast<uint64_t>(warp.block->shared)
                                : reinterpret_cast<uint64_t>(warp.local) + uint64_t{local_stride_} * lane;
  const uint64_t size = shared ? warp.block->total_shared_bytes : local_bytes_;
  const uint64_t offset = address - begin;
  outcome = {true, where, nullptr, shared ? warp.block->shared_shadow : warp.block->local_shadow};
  if (offset < size && bytes <= size - offset) return true;
  outcome.allowed = false;
  if (!is_new("out of bounds", site)) return false;
  CheckFinding& finding = add("out of bounds", site, warp, lane);
  finding.allocation = (shared ? "shared memory, " : "local memory of the thread, ") + bytes_text(size);
  finding.address = static_cast<int64_t>(offset);
  finding.has_address = true;
  finding.bytes = static_cast<uint32_t>(bytes);
  finding.text = thread_name(warp, lane) + (facts.writes ? " writes " : " reads ") + bytes_text(bytes) + " at " +
                 offset_text(finding.address, size, bytes, finding.allocation);
  return false;
}

Checker::Outcome Checker::judge(WarpState& warp, uint32_t site, int lane, uint64_t address) {
  using Region = CheckedSite::Region;
  const CheckedSite& facts = sites_[site];
  const uint64_t bytes = uint64_t{facts.element} * facts.count;
  Outcome outcome;
  const uint64_t alignment = facts.strong && facts.reads && facts.writes ? facts.element : std::bit_floor(bytes);
  bool allowed = false;
  if (facts.region == Region::shared) {
    allowed = inside_window(warp, site, lane, address, Where::shared, outcome);
  } else if (facts.region == Region::local) {
    allowed = inside_window(warp, site, lane, address, Where::local, outcome);
  } else if (facts.region == Region::generic &&
             address - reinterpret_cast<uint64_t>(warp.block->shared) < warp.block->total_shared_bytes) {
    allowed = inside_window(warp, site, lane, address, Where::shared, outcome);
  } else if (facts.region == Region::generic && warp.local &&
             address - reinterpret_cast<uint64_t>(warp.local) < uint64_t{local_stride_} * kWarpSize) {
    allowed = inside_window(warp, site, lane, address, Where::local, outcome);
  } else if (warp.block->workspace && address - warp.block->workspace < 64) {
    return {true, Where::memory, nullptr, 0};
  } else {
    const Lookup found = memory_.find(address, bytes);
    if (found.kind == Lookup::Kind::inside && (found.range->writable || !facts.writes)) {
      const KnownRange* range = found.range;
      const uint64_t shadow = range->written ? reinterpret_cast<uint64_t>(range->written) - range->begin : 0;
      outcome = {true, Where::memory, range, shadow};
      allowed = true;
    } else {
      report_memory(warp, site, lane, address, found);
    }
  }
  if (!allowed) return {};
  if (address % alignment != 0) {
    if (is_new("misaligned", site)) {
      CheckFinding& finding = add("misaligned", site, warp, lane);
      const std::string what = describe(warp, lane, address, facts, finding);
      finding.bytes = static_cast<uint32_t>(bytes);
      finding.text = thread_name(warp, lane) + (facts.writes ? " writes " : " reads ") + bytes_text(bytes) + " at " +
                     what + ": the address is not a multiple of " + std::to_string(alignment);
    }
    return {};
  }
  return outcome;
}

void Checker::report_memory(WarpState& warp, uint32_t site, int lane, uint64_t address, const Lookup& found) {
  using Kind = Lookup::Kind;
  const CheckedSite& facts = sites_[site];
  const uint64_t bytes = uint64_t{facts.element} * facts.count;
  const char* kind = found.kind == Kind::inside     ? "write to const"
                     : found.kind == Kind::released ? "use after free"
                     : found.kind == Kind::null     ? "null pointer"
                                                    : "out of bounds";
  if (!is_new(kind, site)) return;
  CheckFinding& finding = add(kind, site, warp, lane);
  finding.bytes = static_cast<uint32_t>(bytes);
  std::string where;
  if (found.range) {
    finding.allocation = found.range->name;
    finding.address = static_cast<int64_t>(address - found.range->begin);
    finding.has_address = true;
    where = offset_text(finding.address, found.range->end - found.range->begin, bytes, finding.allocation);
    if (found.kind == Kind::released) where += ", which was released";
    if (found.kind == Kind::inside) where += ", which kernels may only read";
  } else if (found.kind == Kind::null) {
    finding.address = static_cast<int64_t>(address);
    finding.has_address = true;
    finding.allocation = "no memory";
    where = address == 0 ? "a null pointer" : "address " + std::to_string(address) + ", a null pointer with an offset";
  } else {
    finding.allocation = "no memory";
    where = "an address that is no memory of the device; a pointer of the host, or never set";
  }
  finding.text = thread_name(warp, lane) + (facts.writes ? " writes " : " reads ") + bytes_text(bytes) + " at " + where;
}

std::string Checker::describe(const WarpState& warp, int lane, uint64_t address, const CheckedSite& facts,
                              CheckFinding& finding) {
  const uint64_t bytes = uint64_t{facts.element} * facts.count;
  const uint64_t shared = address - reinterpret_cast<uint64_t>(warp.block->shared);
  const uint64_t local = address - reinterpret_cast<uint64_t>(warp.local) - uint64_t{local_stride_} * lane;
  finding.has_address = true;
  if (shared < warp.block->total_shared_bytes) {
    finding.allocation = "shared memory, " + bytes_text(warp.block->total_shared_bytes);
    finding.address = static_cast<int64_t>(shared);
    return offset_text(finding.address, warp.block->total_shared_bytes, bytes, finding.allocation);
  }
  if (warp.local && local < local_stride_) {
    finding.allocation = "local memory of the thread, " + bytes_text(local_bytes_);
    finding.address = static_cast<int64_t>(local);
    return offset_text(finding.address, local_bytes_, bytes, finding.allocation);
  }
  if (const Lookup found = memory_.find(address, bytes); found.range) {
    finding.allocation = found.range->name;
    finding.address = static_cast<int64_t>(address - found.range->begin);
    return offset_text(finding.address, found.range->end - found.range->begin, bytes, finding.allocation);
  }
  finding.has_address = false;
  return "an unknown address";
}

// --- what was never written

// Whether an element that is used for something has no byte that was written. Elements with some written bytes may be
// structures with padding.
bool Checker::unwritten_lane(const CheckedSite& facts, uint64_t address, uint64_t shadow) const {
  const auto* written = reinterpret_cast<const uint8_t*>(address + shadow);
  for (uint32_t k = 0; k < facts.count; k++) {
    if (!(facts.used >> k & 1)) continue;
    bool any = false;
    for (uint32_t byte = 0; byte < facts.element; byte++) any = any || written[k * facts.element + byte];
    if (!any) return true;
  }
  return false;
}

void Checker::unwritten(WarpState& warp, uint32_t site, uint32_t mask, const uint64_t* addresses) {
  if (mask != 0) report_unwritten(warp, site, std::countr_zero(mask), addresses[std::countr_zero(mask)]);
}

void Checker::report_unwritten(WarpState& warp, uint32_t site, int lane, uint64_t address) {
  if (!is_new("uninitialised read", site)) return;
  const CheckedSite& facts = sites_[site];
  CheckFinding& finding = add("uninitialised read", site, warp, lane);
  const uint64_t bytes = uint64_t{facts.element} * facts.count;
  const std::string what = describe(warp, lane, address, facts, finding);
  finding.bytes = static_cast<uint32_t>(bytes);
  finding.text = thread_name(warp, lane) + (facts.writes ? " adds to " : " reads ") + bytes_text(bytes) + " at " + what +
                 ", which nothing has written";
}

}  // namespace kernelevo
