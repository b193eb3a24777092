// Python's view of the CUDA runtime, added to the extension kernelevo.emulator._runtime as submodule `cuda`.
#pragma once

#include <pybind11/pybind11.h>

void bind_cuda_runtime(pybind11::module_& m);
