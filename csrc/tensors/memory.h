// The allocators behind device="cuda" tensors and pinned host tensors.
#pragma once

#include <c10/core/Allocator.h>

namespace kernelevo::tensors {

c10::Allocator* device_allocator();
c10::Allocator* pinned_allocator();

// Makes the device allocator the one that torch and c10::cuda use for CUDA memory.
void register_allocator();

}  // namespace kernelevo::tensors
