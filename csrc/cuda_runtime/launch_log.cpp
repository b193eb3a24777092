#include "launch_log.h"

#include <utility>

namespace kernelevo::runtime {

std::uint64_t LaunchLog::add(LaunchRecord record) {
  std::lock_guard lock(mutex_);
  if (launches_.size() >= kMaxRecords) {
    ++dropped_;
    return UINT64_MAX;
  }
  launches_.push_back(std::move(record));
  return first_ + launches_.size() - 1;
}

void LaunchLog::add_fault(Fault fault) {
  std::lock_guard lock(mutex_);
  if (faults_.size() < kMaxRecords) faults_.push_back(std::move(fault));
}

void LaunchLog::error_unseen(cudaError_t error, const std::string& kernel, const std::string& reason) {
  std::lock_guard lock(mutex_);
  if (unchecked_.size() < kMaxRecords) unchecked_.push_back({"unchecked launch error", kernel, reason, error});
}

void LaunchLog::errors_seen() {
  std::lock_guard lock(mutex_);
  unchecked_.clear();
}

std::vector<LaunchRecord> LaunchLog::launches() const {
  std::lock_guard lock(mutex_);
  return launches_;
}

std::vector<Fault> LaunchLog::faults() const {
  std::lock_guard lock(mutex_);
  return faults_;
}

std::vector<Fault> LaunchLog::unchecked_errors() const {
  std::lock_guard lock(mutex_);
  return unchecked_;
}

std::uint64_t LaunchLog::dropped() const {
  std::lock_guard lock(mutex_);
  return dropped_;
}

void LaunchLog::reset() {
  std::lock_guard lock(mutex_);
  first_ += launches_.size();
  launches_.clear();
  faults_.clear();
  unchecked_.clear();
  dropped_ = 0;
}

LaunchLog& launch_log() {
  static LaunchLog* log = new LaunchLog;  // leaked: candidates' destructors may still call in at exit
  return *log;
}

}  // namespace kernelevo::runtime
