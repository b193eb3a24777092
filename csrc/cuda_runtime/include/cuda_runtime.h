// torch's c10/cuda headers include this name; all that csrc/ needs is in cuda_runtime_api.h.
#pragma once

#include "cuda_runtime_api.h"
