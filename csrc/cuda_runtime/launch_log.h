// What was launched, what went wrong, and whether the candidate looked: facts for the checks of the Python side.
// Holds a bounded number of records; `dropped` counts the rest. Thread-safe.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "cuda_runtime_api.h"

namespace kernelevo::runtime {

// One kernel launch, refused or not.
struct LaunchRecord {
  std::string kernel;  // entry name in the PTX
  dim3 grid;
  dim3 block;
  size_t dynamic_shared_bytes = 0;
  size_t static_shared_bytes = 0;
  int registers = 0;            // per thread; 0: not known
  std::uintptr_t stream = 0;    // 0: the legacy default stream
  cudaError_t error = cudaSuccess;
  std::string reason = {};      // why it was refused or failed; empty otherwise
  bool finished = false;        // false: refused, failed, or still waiting in its stream
  std::uint64_t blocks_run = 0;
  double seconds = 0;           // spent in the emulator
  std::map<std::string, double> counters = {};  // of a counted launch
};

// Something a kernel did that CUDA reports as an error, or that the emulator cannot do.
struct Fault {
  std::string kind;  // "unsupported", "illegal address", "trap", "deadlock", "timeout", ...
  std::string kernel;
  std::string text;
  cudaError_t error = cudaSuccess;
};

class LaunchLog {
 public:
  // Adds a record and gives its number, with which `update` changes it. Numbers start again after `reset`, and a
  // number of before is ignored then.
  std::uint64_t add(LaunchRecord record);

  template <typename Change>
  void update(std::uint64_t number, Change change) {
    std::lock_guard lock(mutex_);
    if (number >= first_ && number - first_ < launches_.size()) change(launches_[number - first_]);
  }

  void add_fault(Fault fault);

  // An error that an API call returned, which nobody has looked at until `errors_seen`. `from_launch`: a launch's
  // triple chevrons give the caller nothing to look at.
  void error_unseen(cudaError_t error, const std::string& kernel, const std::string& reason);
  void errors_seen();

  std::vector<LaunchRecord> launches() const;
  std::vector<Fault> faults() const;
  std::vector<Fault> unchecked_errors() const;
  std::uint64_t dropped() const;
  void reset();

 private:
  static constexpr std::size_t kMaxRecords = 100'000;
  mutable std::mutex mutex_;
  std::vector<LaunchRecord> launches_;
  std::vector<Fault> faults_;
  std::vector<Fault> unchecked_;
  std::uint64_t first_ = 0;
  std::uint64_t dropped_ = 0;
};

LaunchLog& launch_log();

}  // namespace kernelevo::runtime
