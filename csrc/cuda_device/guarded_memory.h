// Device memory for candidates under judgement: filled with a poison byte, with canaries on both sides.
// Given to torch as a CUDAPluggableAllocator. Slower than torch's own allocator; not for timing.
#pragma once

#include <string>
#include <vector>

#include "cuda_api.h"

namespace kernelevo::cuda {

struct Overrun {
  std::size_t size = 0;        // of the allocation
  std::ptrdiff_t offset = 0;   // of the first damaged byte from its start
  std::size_t bytes = 0;       // damaged
};

void set_poison(unsigned char byte);
void set_memory_limit(std::size_t bytes);

// Writes outside allocations, each damaged place once. Memory that was freed is given back to the device afterwards.
// Waits for nothing but its own copies: call it when the work in question is done.
std::vector<Overrun> take_overruns();

}  // namespace kernelevo::cuda

extern "C" {
// Throws std::runtime_error "out of memory" beyond the limit, or what the driver says.
KERNELEVO_API void* kernelevo_guarded_malloc(std::ptrdiff_t size, int device, CUstream stream);
KERNELEVO_API void kernelevo_guarded_free(void* address, std::ptrdiff_t size, int device, CUstream stream);
}
