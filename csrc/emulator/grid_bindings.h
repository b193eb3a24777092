// Python's view of the grid driver: kernelevo.emulator._runtime.Kernel and .launch.
#pragma once

#include <pybind11/pybind11.h>

void bind_grid(pybind11::module_& m);
