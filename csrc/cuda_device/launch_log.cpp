#include "launch_log.h"

#include <atomic>
#include <mutex>

namespace kernelevo::cuda {
namespace {

constexpr std::size_t kMostRecords = 20'000;

std::mutex mutex;
std::vector<LaunchRecord> records;
std::vector<LaunchRecord> refusals;
LaunchSettings settings;
std::atomic<bool> recording = true;
thread_local CUresult last_error = CUDA_SUCCESS;

}  // namespace

void reset_log(LaunchSettings value) {
  std::lock_guard lock(mutex);
  records.clear();
  refusals.clear();
  settings = value;
  recording = value.record;
  last_error = CUDA_SUCCESS;
}

LaunchSettings launch_settings() {
  std::lock_guard lock(mutex);
  return settings;
}

void log_launch(LaunchRecord record) {
  if (record.error == CUDA_SUCCESS && !recording) return;
  std::lock_guard lock(mutex);
  if (record.error != CUDA_SUCCESS) refusals.push_back(record);
  if (records.size() < kMostRecords) records.push_back(std::move(record));
}

std::vector<LaunchRecord> launches() {
  std::lock_guard lock(mutex);
  return records;
}

void set_last_error(CUresult error) {
  if (error != CUDA_SUCCESS) last_error = error;
}

CUresult take_last_error() {
  CUresult error = last_error;
  last_error = CUDA_SUCCESS;
  return error;
}

CUresult peek_last_error() { return last_error; }

std::vector<LaunchRecord> unseen_refusals() {
  std::lock_guard lock(mutex);
  return refusals;
}

void refusals_seen() {
  std::lock_guard lock(mutex);
  refusals.clear();
}

}  // namespace kernelevo::cuda
