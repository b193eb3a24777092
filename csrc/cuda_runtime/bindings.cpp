#include "bindings.h"

#include <cxxabi.h>
#include <pybind11/functional.h>
#include <pybind11/stl.h>

#include <cstdlib>
#include <memory>

#include "../emulator/grid.h"
#include "allocations.h"
#include "copied.h"
#include "device.h"
#include "launch.h"
#include "launch_log.h"
#include "modules.h"
#include "streams.h"

namespace py = pybind11;
using namespace kernelevo::runtime;

namespace {

struct RunSettings {
  int threads = 0;                // 0: all cores
  double time_limit_seconds = 0;  // of one launch; 0: none
  std::uint64_t schedule = 0;     // see grid.h
};

RunSettings settings;

struct Failure {
  cudaError_t error;
  const char* kind;
  const char* text;
};

// What a GPU would report. A grid that never ends would hang there until its watchdog, if it has one, ends it.
Failure failure_of(kernelevo::LaunchStatus status) {
  using kernelevo::LaunchStatus;
  switch (status) {
    case LaunchStatus::kDone: return {cudaSuccess, "", ""};
    case LaunchStatus::kTrapped: return {cudaErrorLaunchFailure, "trap", "executed trap"};
    case LaunchStatus::kAsserted: return {cudaErrorAssert, "assert", "device-side assert"};
    case LaunchStatus::kTimedOut: return {cudaErrorLaunchTimeout, "timeout", "ran past the time limit"};
    case LaunchStatus::kBarrierDeadlock:
      return {cudaErrorLaunchTimeout, "deadlock", "waits for a barrier that not all threads reach"};
    case LaunchStatus::kCompileFailed: return {cudaErrorLaunchFailure, "emulator", "could not be translated"};
    case LaunchStatus::kIllegalAddress: return {cudaErrorIllegalAddress, "illegal address", "accessed "};
    case LaunchStatus::kOutOfMemory:
      return {cudaErrorMemoryAllocation, "emulator", "this machine has no memory left for the blocks of the grid"};
  }
  return {cudaErrorUnknown, "emulator", "unknown status"};
}

// Python objects that C++ keeps for the life of the process; the interpreter must not be asked to free them at exit.
std::shared_ptr<py::object> keep(py::object object) {
  return {new py::object(std::move(object)), [](py::object*) {}};
}

// A Python exception as a Refusal: attribute `cuda_error` gives CUDA's error, `kind` the kind.
[[noreturn]] void refuse(py::error_already_set& e) {
  Refusal refusal{cudaErrorUnknown, "emulator", ""};
  if (py::hasattr(e.value(), "cuda_error")) refusal.error = cudaError_t(e.value().attr("cuda_error").cast<int>());
  if (py::hasattr(e.value(), "kind")) refusal.kind = e.value().attr("kind").cast<std::string>();
  refusal.text = py::str(e.value()).cast<std::string>();
  if (refusal.kind == "emulator")
    refusal.text = e.type().attr("__name__").cast<std::string>() + ": " + refusal.text;
  throw refusal;
}

std::optional<dim3> optional_dim3(const py::object& value) {
  if (value.is_none()) return std::nullopt;
  auto [x, y, z] = value.cast<std::tuple<unsigned, unsigned, unsigned>>();
  return dim3{x, y, z};
}

KernelFacts read_facts(const py::object& facts) {
  KernelFacts result;
  for (auto [offset, size] : facts.attr("parameters").cast<std::vector<std::pair<std::size_t, std::size_t>>>()) {
    result.parameters.push_back({offset, size});
    result.parameter_bytes = std::max(result.parameter_bytes, offset + size);
  }
  result.registers = facts.attr("registers").cast<int>();
  result.max_threads = optional_dim3(facts.attr("max_threads"));
  result.required_threads = optional_dim3(facts.attr("required_threads"));
  return result;
}

std::string where(kernelevo::LaunchReport& report, const std::string& site) {
  return (site.empty() ? "" : " at " + site) + ", block (" + std::to_string(report.ctaid[0]) + ", " +
         std::to_string(report.ctaid[1]) + ", " + std::to_string(report.ctaid[2]) + "), warp " +
         std::to_string(report.warp);
}

// The grid's threads may need Python to translate the rest of a kernel.
kernelevo::LaunchReport run_without_python(const kernelevo::Kernel& kernel, const kernelevo::LaunchConfig& config,
                                           const void* parameters) {
  if (!PyGILState_Check()) return kernelevo::run_grid(kernel, config, parameters);
  py::gil_scoped_release release;
  return kernelevo::run_grid(kernel, config, parameters);
}

// A Python object with `address` (of a kernelevo::Kernel) and `where(site) -> str`.
std::function<RunReport(const RunRequest&)> run_natively(const py::object& object) {
  auto kept = keep(object);
  auto* kernel = reinterpret_cast<kernelevo::Kernel*>(object.attr("address").cast<std::uintptr_t>());
  return [kept, kernel](const RunRequest& request) {
    kernelevo::LaunchConfig config{};
    config.grid[0] = request.grid.x;
    config.grid[1] = request.grid.y;
    config.grid[2] = request.grid.z;
    config.dynamic_shared_bytes = static_cast<std::uint32_t>(request.dynamic_shared_bytes);
    config.threads = kernel->fixed_order ? 1 : settings.threads;
    config.cooperative = request.cooperative;
    config.time_limit_seconds = settings.time_limit_seconds;
    config.schedule = settings.schedule;
    kernelevo::LaunchReport report = run_without_python(*kernel, config, request.parameters);
    Failure failure = failure_of(report.status);
    RunReport result{failure.error, failure.kind, failure.text, report.blocks_run, {}};
    if (failure.error == cudaSuccess) return result;
    if (report.message[0] != '\0') result.text += std::string(": ") + report.message;
    if (report.status == kernelevo::LaunchStatus::kIllegalAddress) {
      result.text += describe_address(report.address) + where(report, "");
      return result;
    }
    py::gil_scoped_acquire gil;
    try {
      result.text += where(report, kept->attr("where")(report.site).cast<std::string>());
    } catch (py::error_already_set&) {
      result.text += where(report, "");
    }
    return result;
  };
}

// `ask` calls the kernel's Python object: (status, text, blocks_run, counters).
template <typename Ask>
std::function<RunReport(const RunRequest&)> run_in_python(const py::object& object, Ask ask) {
  auto kept = keep(object);
  return [kept, ask](const RunRequest& request) -> RunReport {
    py::gil_scoped_acquire gil;
    try {
      py::tuple answer = ask(*kept, request);
      Failure failure = failure_of(kernelevo::LaunchStatus(answer[0].cast<int>()));
      std::string text = failure.error == cudaSuccess ? "" : failure.text + answer[1].cast<std::string>();
      return {failure.error, failure.kind, text, answer[2].cast<std::uint64_t>(),
              answer[3].cast<std::map<std::string, double>>()};
    } catch (py::error_already_set& e) {
      try {
        refuse(e);
      } catch (const Refusal& refusal) {
        return {cudaErrorLaunchFailure, refusal.kind, refusal.text, 0, {}};
      }
    }
  };
}

// A Python object with `count(grid, dynamic_shared_bytes, parameters, max_blocks) -> (status, text, blocks_run,
// counters)`; status is a kernelevo::LaunchStatus, `parameters` the address of the packed parameters.
std::function<RunReport(const RunRequest&)> run_counted(const py::object& object) {
  return run_in_python(object, [](const py::object& kernel, const RunRequest& request) {
    return kernel.attr("count")(py::make_tuple(request.grid.x, request.grid.y, request.grid.z),
                                request.dynamic_shared_bytes,
                                reinterpret_cast<std::uintptr_t>(request.parameters), request.max_blocks);
  });
}

// A Python object with `check(grid, dynamic_shared_bytes, parameters, cooperative)`, which keeps its findings; the
// rest as above.
std::function<RunReport(const RunRequest&)> run_checked(const py::object& object) {
  return run_in_python(object, [](const py::object& kernel, const RunRequest& request) {
    return kernel.attr("check")(py::make_tuple(request.grid.x, request.grid.y, request.grid.z),
                                request.dynamic_shared_bytes,
                                reinterpret_cast<std::uintptr_t>(request.parameters), request.cooperative);
  });
}

template <typename Ask>
auto ask_python(Ask ask) {
  py::gil_scoped_acquire gil;
  try {
    return ask();
  } catch (py::error_already_set& e) {
    refuse(e);
  }
}

// Functions of kernelevo/emulator/runtime.py; what they give is written in kernels.py.
void set_python_source(const py::object& describe, const py::object& measure, const py::object& compile,
                       const py::object& locate) {
  auto d = keep(describe), m = keep(measure), c = keep(compile), l = keep(locate);
  set_source({
      [d](int module, const std::string& entry) {
        return ask_python([&] { return read_facts((*d)(module, entry)); });
      },
      [m](int module, const std::string& entry) {
        return ask_python([&] {
          auto [shared, local, constant] =
              (*m)(module, entry).cast<std::tuple<std::size_t, std::size_t, std::size_t>>();
          return KernelStorage{shared, local, constant};
        });
      },
      [c](int module, const std::string& entry, dim3 block, Variant variant) {
        return ask_python([&] {
          static constexpr const char* names[] = {"fast", "counted", "checked"};
          py::tuple made = (*c)(module, entry, py::make_tuple(block.x, block.y, block.z),
                                names[static_cast<int>(variant)]);
          auto run = variant == Variant::kFast      ? run_natively(made[0])
                     : variant == Variant::kCounted ? run_counted(made[0])
                                                    : run_checked(made[0]);
          return CompiledKernel{std::move(run), made[1].cast<std::size_t>()};
        });
      },
      [l](int module, const std::string& name) {
        return ask_python([&] { return (*l)(module, name).cast<std::pair<std::uintptr_t, std::size_t>>(); });
      },
  });
}

py::tuple tuple_of(dim3 d) { return py::make_tuple(d.x, d.y, d.z); }

py::dict dict_of(const LaunchRecord& r) {
  py::dict d;
  d["kernel"] = r.kernel;
  d["grid"] = tuple_of(r.grid);
  d["block"] = tuple_of(r.block);
  d["dynamic_shared_bytes"] = r.dynamic_shared_bytes;
  d["static_shared_bytes"] = r.static_shared_bytes;
  d["registers"] = r.registers;
  d["stream"] = r.stream;
  d["error"] = static_cast<int>(r.error);
  d["reason"] = r.reason;
  d["finished"] = r.finished;
  d["blocks_run"] = r.blocks_run;
  d["seconds"] = r.seconds;
  d["counters"] = r.counters;
  return d;
}

py::list list_of(const std::vector<Fault>& faults) {
  py::list result;
  for (const Fault& f : faults) {
    py::dict d;
    d["kind"] = f.kind;
    d["kernel"] = f.kernel;
    d["text"] = f.text;
    d["error"] = static_cast<int>(f.error);
    result.append(d);
  }
  return result;
}

py::dict dict_of(const Allocation& a) {
  py::dict d;
  d["number"] = a.number;
  d["address"] = a.address;
  d["size"] = a.size;
  d["origin"] = word_for(a.origin);
  return d;
}

std::string demangle(const std::string& name) {
  int status = 0;
  std::unique_ptr<char, void (*)(void*)> text{abi::__cxa_demangle(name.c_str(), nullptr, nullptr, &status), std::free};
  return status == 0 ? text.get() : name;
}

// Names of the CUDA device properties that torch.cuda.get_device_properties shows.
py::dict device_facts() {
  py::dict d;
  d["name"] = kDevice.name;
  d["major"] = kDevice.major;
  d["minor"] = kDevice.minor;
  d["total_memory"] = kDevice.global_bytes;
  d["multi_processor_count"] = kDevice.multiprocessors;
  d["warp_size"] = kDevice.warp_size;
  d["max_threads_per_block"] = kDevice.max_threads_per_block;
  d["max_threads_per_multi_processor"] = kDevice.max_threads_per_multiprocessor;
  d["regs_per_multiprocessor"] = kDevice.registers_per_multiprocessor;
  d["shared_memory_per_block"] = kDevice.shared_per_block;
  d["shared_memory_per_block_optin"] = kDevice.shared_per_block_optin;
  d["shared_memory_per_multiprocessor"] = kDevice.shared_per_multiprocessor;
  d["L2_cache_size"] = kDevice.l2_bytes;
  return d;
}

}  // namespace

void bind_cuda_runtime(py::module_& parent) {
  set_lock_waiter([](std::recursive_mutex& mutex) {
    if (!PyGILState_Check()) return mutex.lock();
    py::gil_scoped_release release;
    mutex.lock();
  });
  py::module_ m = parent.def_submodule("cuda", "The CUDA runtime of the emulated device.");
  m.def("set_source", &set_python_source, py::arg("describe"), py::arg("measure"), py::arg("compile"), py::arg("locate"));
  m.def("begin_module", &begin_module, py::arg("name"));
  m.def("end_module", [](int module, std::uintptr_t image) { end_module(module, reinterpret_cast<void*>(image)); });
  m.def("module_info", [](int module) {
    ModuleInfo info = module_info(module);
    return py::make_tuple(info.name, info.ptx, info.problem);
  });

  m.def("set_run_settings", [](int threads, double time_limit_seconds, std::uint64_t schedule) {
    settings = {threads, time_limit_seconds, schedule};
    schedule_streams(schedule);
  });
  m.def("set_checking", [](bool on) {
    set_checking(on);
    set_tracking(on);
  });
  m.def("set_stubbing", &set_stubbing);
  m.def("copied", [] {
    Copied bytes = copied();
    return py::make_tuple(bytes.in_bytes, bytes.out_bytes);
  });
  m.def("reset_copied", &reset_copied);
  m.def("set_name", [](std::uintptr_t pointer, std::string name) {
    set_name(reinterpret_cast<void*>(pointer), std::move(name));
  });
  m.def("set_counting", [](bool enabled, std::uint64_t max_blocks) { set_counting({enabled, max_blocks}); });

  m.def("launches", [] {
    py::list result;
    for (const LaunchRecord& record : launch_log().launches()) result.append(dict_of(record));
    return result;
  });
  m.def("dropped_launches", [] { return launch_log().dropped(); });
  m.def("faults", [] { return list_of(launch_log().faults()); });
  m.def("unchecked_errors", [] { return list_of(launch_log().unchecked_errors()); });
  m.def("reset_log", [] { launch_log().reset(); });
  m.def("reset_errors", &reset_errors);
  m.def("context_error", [] { return static_cast<int>(context_error()); });
  m.def("error_name", [](int error) { return cudaGetErrorName(cudaError_t(error)); });
  m.def("error_string", [](int error) { return cudaGetErrorString(cudaError_t(error)); });

  m.def("pending_work", [] {
    py::list result;
    for (const PendingWork& p : pending_work()) result.append(py::make_tuple(p.stream, p.blocking, p.label));
    return result;
  });
  m.def("discard_pending_work", &discard_pending_work);
  m.def("synchronize", [] { return static_cast<int>(cudaDeviceSynchronize()); });

  m.def("set_poison", &set_poison);
  m.def("allocate", [](std::size_t size) {
    return reinterpret_cast<std::uintptr_t>(allocate(size, Origin::kDevice));
  });
  m.def("release", [](std::uintptr_t pointer) { return release(reinterpret_cast<void*>(pointer)); });
  m.def("mark_written", [](std::uintptr_t pointer, std::size_t size) {
    mark_written(reinterpret_cast<void*>(pointer), size);
  });
  m.def("set_memory_limit", &set_memory_limit);
  m.def("memory_limit", &memory_limit);
  m.def("live_bytes", &live_bytes);
  m.def("peak_bytes", &peak_bytes);
  m.def("live_allocations", [] {
    py::list result;
    for (const Allocation& a : live_allocations()) result.append(dict_of(a));
    return result;
  });
  m.def("find_allocation", [](std::uintptr_t address) -> py::object {
    auto found = find_allocation(reinterpret_cast<void*>(address));
    return found ? py::object(dict_of(*found)) : py::none();
  });
  m.def("take_overruns", [] {
    py::list result;
    for (const Overrun& o : take_overruns()) {
      py::dict d = dict_of(o.allocation);
      d["offset"] = o.offset;
      d["bytes"] = o.bytes;
      d["after_release"] = o.after_release;
      result.append(d);
    }
    return result;
  });
  m.def("demangle", &demangle);
  m.def("device_facts", &device_facts);
}
