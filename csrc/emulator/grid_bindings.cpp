#include "grid_bindings.h"

#include <pybind11/functional.h>
#include <pybind11/stl.h>

#include <array>
#include <memory>
#include <optional>
#include <vector>

#include "grid.h"

namespace py = pybind11;
using namespace kernelevo;

namespace {

// A Kernel that Python owns, and the Python function that translates its diverged half on first need.
struct OwnedKernel {
  Kernel kernel{};
  py::object make_diverged;  // () -> address

  static WarpFunction compile_diverged(void* context) {
    auto* self = static_cast<OwnedKernel*>(context);
    py::gil_scoped_acquire gil;
    try {
      auto function = reinterpret_cast<WarpFunction>(self->make_diverged().cast<uintptr_t>());
      __atomic_store_n(&self->kernel.diverged, function, __ATOMIC_RELEASE);
      return function;
    } catch (py::error_already_set& error) {
      error.discard_as_unraisable("kernelevo: translating divergent code");
      return nullptr;
    }
  }
};

using Triple = std::array<uint32_t, 3>;

void copy(const Triple& from, uint32_t* to) {
  for (int k = 0; k < 3; k++) to[k] = from[k];
}

std::unique_ptr<OwnedKernel> make_kernel(uintptr_t converged, uintptr_t diverged, py::object make_diverged,
                                         uintptr_t globals, uint32_t frame_bytes, uint32_t shared_bytes,
                                         uint32_t local_bytes, uint32_t params_bytes, Triple block,
                                         Triple grid_limit, bool fixed_order) {
  auto owned = std::make_unique<OwnedKernel>();
  Kernel& kernel = owned->kernel;
  kernel.converged = reinterpret_cast<WarpFunction>(converged);
  kernel.diverged = reinterpret_cast<WarpFunction>(diverged);
  kernel.globals = reinterpret_cast<const uint64_t*>(globals);
  kernel.frame_bytes = frame_bytes;
  kernel.shared_bytes = shared_bytes;
  kernel.local_bytes = local_bytes;
  kernel.params_bytes = params_bytes;
  copy(block, kernel.block);
  copy(grid_limit, kernel.grid_limit);
  kernel.fixed_order = fixed_order;
  if (!make_diverged.is_none()) {
    owned->make_diverged = std::move(make_diverged);
    kernel.compile_diverged = &OwnedKernel::compile_diverged;
    kernel.context = owned.get();
  }
  return owned;
}

LaunchReport launch(const OwnedKernel& owned, Triple grid, uint32_t shared_bytes, uintptr_t params, int threads,
                    double time_limit_seconds, const std::optional<std::vector<uint64_t>>& sample_blocks,
                    const std::vector<uintptr_t>& hooks, uintptr_t observer, bool cooperative, uint64_t schedule,
                    uintptr_t watcher) {
  LaunchConfig config{};
  copy(grid, config.grid);
  config.dynamic_shared_bytes = shared_bytes;
  config.threads = threads;
  config.time_limit_seconds = time_limit_seconds;
  if (sample_blocks) {
    config.sample_blocks = sample_blocks->data();
    config.sample_count = sample_blocks->size();
  }
  config.hooks = reinterpret_cast<void* const*>(hooks.data());
  config.hook_count = static_cast<uint32_t>(hooks.size());
  config.observer = reinterpret_cast<void*>(observer);
  config.cooperative = cooperative;
  config.schedule = schedule;
  config.watcher = reinterpret_cast<Watcher*>(watcher);
  py::gil_scoped_release release;
  return run_grid(owned.kernel, config, reinterpret_cast<const void*>(params));
}

}  // namespace

void bind_grid(py::module_& m) {
  py::class_<OwnedKernel>(m, "Kernel", "Native code of one kernel at one block size; see csrc/emulator/grid.h.")
      .def(py::init(&make_kernel), py::kw_only(), py::arg("converged"), py::arg("diverged"), py::arg("make_diverged"),
           py::arg("globals"), py::arg("frame_bytes"), py::arg("shared_bytes"), py::arg("local_bytes"),
           py::arg("params_bytes"), py::arg("block"), py::arg("grid_limit"), py::arg("fixed_order"))
      .def_property_readonly("address",
                             [](const OwnedKernel& self) { return reinterpret_cast<uintptr_t>(&self.kernel); });
  py::class_<LaunchReport>(m, "LaunchReport")
      .def_property_readonly("status", [](const LaunchReport& r) { return static_cast<int>(r.status); })
      .def_readonly("site", &LaunchReport::site)
      .def_property_readonly("block",
                             [](const LaunchReport& r) { return py::make_tuple(r.ctaid[0], r.ctaid[1], r.ctaid[2]); })
      .def_readonly("warp", &LaunchReport::warp)
      .def_readonly("blocks_run", &LaunchReport::blocks_run)
      .def_property_readonly("message", [](const LaunchReport& r) { return std::string(r.message); });
  m.def("launch", &launch, py::arg("kernel"), py::kw_only(), py::arg("grid"), py::arg("shared_bytes"),
        py::arg("params"), py::arg("threads"), py::arg("time_limit_seconds"), py::arg("sample_blocks"),
        py::arg("hooks"), py::arg("observer"), py::arg("cooperative"), py::arg("schedule"), py::arg("watcher"));
}
