// What the emulated device says about itself: the facts of one GPU in one table.
#pragma once

#include <cstddef>

#include "cuda_runtime_api.h"

namespace kernelevo::runtime {

// NVIDIA H100 SXM5 80GB. Sources: CUDA C++ Programming Guide, "Technical Specifications per Compute Capability" (9.0);
// NVIDIA H100 Tensor Core GPU Architecture white paper; NVIDIA H100 data sheet.
struct DeviceLimits {
  const char* name = "NVIDIA H100 80GB HBM3 (emulated by kernelevo)";
  int major = 9;
  int minor = 0;
  int multiprocessors = 132;
  std::size_t global_bytes = std::size_t{80} << 30;
  int warp_size = 32;
  int max_threads_per_block = 1024;
  int max_block[3] = {1024, 1024, 64};
  unsigned max_grid[3] = {2147483647u, 65535u, 65535u};
  int max_threads_per_multiprocessor = 2048;
  int max_blocks_per_multiprocessor = 32;
  int registers_per_block = 65536;
  int registers_per_multiprocessor = 65536;
  int max_registers_per_thread = 255;
  std::size_t shared_per_block = 48 << 10;           // without asking
  std::size_t shared_per_block_optin = 227 << 10;    // with cudaFuncSetAttribute
  std::size_t shared_per_multiprocessor = 228 << 10;
  std::size_t shared_reserved_per_block = 1 << 10;
  std::size_t constant_bytes = 64 << 10;
  std::size_t parameter_bytes = 32764;
  std::size_t l2_bytes = 50 << 20;
  int memory_bus_bits = 5120;
  int clock_khz = 1980000;
  int memory_clock_khz = 2619000;
};

inline constexpr DeviceLimits kDevice;

}  // namespace kernelevo::runtime
