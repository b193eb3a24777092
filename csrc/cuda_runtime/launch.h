// Kernel launches: checked against the limits of the emulated GPU as CUDA checks them, logged, queued in their stream.
#pragma once

#include <cstddef>
#include <cstdint>

#include "modules.h"

namespace kernelevo::runtime {

struct LaunchConfiguration {
  dim3 grid;
  dim3 block;
  std::size_t dynamic_shared_bytes = 0;
  cudaStream_t stream = nullptr;
  bool cooperative = false;  // all blocks must be resident at once, since they may wait for each other
};

// Queues a launch. `arguments`: one pointer per kernel parameter; the values are copied before this returns.
// Returns and records CUDA's error for a launch that the GPU would refuse. When the kernel itself fails, or the emulator
// cannot run it, a fault is recorded and the context is corrupted, as by a kernel that faults on hardware.
cudaError_t launch(Kernel& kernel, const LaunchConfiguration& configuration, void** arguments);

// Counted launches use the kernel's counted variant and run at most `max_blocks` blocks.
struct Counting {
  bool enabled = false;
  std::uint64_t max_blocks = UINT64_MAX;
};

void set_counting(Counting counting);

// Checked launches use the kernel's checked variant, where they are not counted. Stubbed ones are logged and run nothing.
void set_checking(bool on);
void set_stubbing(bool on);

}  // namespace kernelevo::runtime

extern "C" {
// What a launch in kernelevo's split build calls (kernelevo/build/include/host/kernelevo/launch.h declares it too).
// `entry` is the kernel's name in the PTX; its module is the one whose object called. Returns a cudaError.
KERNELEVO_API int kernelevo_launch(const char* entry, unsigned grid_x, unsigned grid_y, unsigned grid_z,
                                   unsigned block_x, unsigned block_y, unsigned block_z,
                                   std::size_t dynamic_shared_bytes, void* stream, void** arguments);
}
