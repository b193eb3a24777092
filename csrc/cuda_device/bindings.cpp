// kernelevo.devices._cuda: what the worker's Python side asks of this library.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "driver.h"
#include "guarded_memory.h"
#include "launch_log.h"
#include "modules.h"
#include "streams.h"

extern "C" int cudaGetLastError();

namespace py = pybind11;
using namespace kernelevo::cuda;

namespace {

py::tuple shape(dim3 d) { return py::make_tuple(d.x, d.y, d.z); }

py::list as_list(const std::vector<LaunchRecord>& records) {
  py::list list;
  for (const LaunchRecord& r : records) {
    py::dict entry;
    entry["kernel"] = r.entry;
    entry["grid"] = shape(r.grid);
    entry["block"] = shape(r.block);
    entry["shared_bytes"] = r.shared_bytes;
    entry["stream"] = r.stream;
    entry["error"] = r.error;
    entry["text"] = r.error == CUDA_SUCCESS ? std::string() : words(r.error);
    list.append(std::move(entry));
  }
  return list;
}

template <typename Handle>
Handle as(std::uintptr_t number) {
  return reinterpret_cast<Handle>(number);
}

}  // namespace

PYBIND11_MODULE(_cuda, m) {
  m.def("set_libraries", &set_libraries, py::arg("driver"), py::arg("runtime"));
  m.def("driver_version", [] {
    int version = 0;
    check(driver().cuDriverGetVersion(&version), "cuDriverGetVersion");
    return version;
  });
  m.def("load_image", [](const py::bytes& image) { load_image(image); });
  m.def("begin_loading", &begin_loading);
  m.def("end_loading", &end_loading);
  m.def(
      "reset",
      [](bool record, bool stubbed, bool delay_side_streams) {
        reset_log({record, stubbed, delay_side_streams});
        forget_stream_use();
      },
      py::kw_only(), py::arg("record"), py::arg("stubbed"), py::arg("delay_side_streams"));
  m.def("launches", [] { return as_list(launches()); });
  m.def("unseen_refusals", [] { return as_list(unseen_refusals()); });
  m.def("forget_errors", [] { cudaGetLastError(); });  // ours and the runtime's, of this thread
  m.def("reset_persisting_l2", [] {
    if (void* reset = runtime_function("cudaCtxResetPersistingL2Cache")) reinterpret_cast<int (*)()>(reset)();
  });
  m.def("busy_kernels", &busy_kernels);
  m.def("set_poison", &set_poison);
  m.def("set_memory_limit", &set_memory_limit);
  m.def("take_overruns", [] {
    py::list list;
    for (const Overrun& o : take_overruns()) list.append(py::make_tuple(o.size, o.offset, o.bytes));
    return list;
  });
  m.def("fork_streams", [](std::uintptr_t current, std::uintptr_t event) {
    fork_streams(as<CUstream>(current), as<CUevent>(event));
  });
  m.def("join_streams", [](std::uintptr_t current) { join_streams(as<CUstream>(current)); });
}
