// The extension kernelevo.emulator._runtime.
#include <pybind11/pybind11.h>

#include "../cuda_runtime/bindings.h"
#include "check_bindings.h"
#include "count_bindings.h"
#include "grid_bindings.h"

PYBIND11_MODULE(_runtime, m) {
  bind_grid(m);
  bind_count(m);
  bind_check(m);
  bind_cuda_runtime(m);
}
