#pragma once
#include <cuda_runtime.h>
namespace at { namespace cuda { inline cudaStream_t getCurrentCUDAStream() { return 0; } } }
