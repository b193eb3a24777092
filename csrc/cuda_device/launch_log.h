// What the candidate launched since the last reset, and how launches are to be treated.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cuda_api.h"

namespace kernelevo::cuda {

struct LaunchRecord {
  std::string entry;
  dim3 grid{}, block{};
  std::size_t shared_bytes = 0;
  std::uintptr_t stream = 0;
  CUresult error = CUDA_SUCCESS;
};

struct LaunchSettings {
  bool record = true;             // keep a record of each launch
  bool stubbed = false;           // note launches, and run nothing
  bool delay_side_streams = false;  // see streams.h
};

void reset_log(LaunchSettings settings);
LaunchSettings launch_settings();
void log_launch(LaunchRecord record);
std::vector<LaunchRecord> launches();

// The calling thread's error of a launch through this library, as cudaGetLastError keeps it.
void set_last_error(CUresult error);
CUresult take_last_error();
CUresult peek_last_error();

// Refused launches whose error nobody has looked at.
std::vector<LaunchRecord> unseen_refusals();
void refusals_seen();

}  // namespace kernelevo::cuda
