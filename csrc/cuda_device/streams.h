// Streams that this process has made, as far as they were made through the CUDA runtime.
#pragma once

#include <string>
#include <vector>

#include "cuda_api.h"

namespace kernelevo::cuda {

void stream_made(CUstream stream);
void stream_gone(CUstream stream);

// All known streams but `current` wait for the event, also those that are made before `join_streams`.
void fork_streams(CUstream current, CUevent event);

// `current` waits for everything that known streams have been given.
void join_streams(CUstream current);

// A kernel of the candidate was given to a stream.
void stream_used(CUstream stream, const std::string& entry);

// Kernels on streams that have not finished; the last one of each stream.
std::vector<std::string> busy_kernels();

// Before a kernel on a side stream that the default stream does not wait for: keeps the stream busy a while, so that who
// does not join it sees nothing of it. Once per stream, until forgotten.
void delay_side_stream(CUstream stream);
void forget_stream_use();

// The library's own stream, for fills and checks that must not wait for the candidate's work.
CUstream own_stream();

}  // namespace kernelevo::cuda
