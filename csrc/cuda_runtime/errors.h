// Error state as CUDA keeps it: each host thread has a last error; some errors corrupt the context, and every
// later call of every thread returns them ("sticky"). Gives `set_error`, which every API function returns through.
#pragma once

#include "cuda_runtime_api.h"

#define KERNELEVO_API __attribute__((visibility("default")))

namespace kernelevo::runtime {

// Records `error` as the calling thread's last error unless it is cudaSuccess, and returns it. When the context is corrupted, records and returns the corrupting error instead.
cudaError_t set_error(cudaError_t error);

// Corrupts the context: what a kernel that faulted does. The first such error wins.
void corrupt_context(cudaError_t error);

// cudaSuccess, or the error that corrupted the context.
KERNELEVO_API cudaError_t context_error();

// The calling thread's last error; reading does not clear it.
cudaError_t last_error();

// Forgets the calling thread's last error and repairs the context (a new process, as far as the candidate sees).
void reset_errors();

}  // namespace kernelevo::runtime
