// The extension kernelevo.devices._operators: names of the operators of torch that this process calls while it is watched.
//
// torch tells its observers of each operator that goes through the dispatcher, by whatever way and in whatever thread it
// was called: from Python, from C++, or looked up by name. Not told of: a redispatch with a key set of the caller's own,
// and threads in which observers were switched off.

#include <ATen/record_function.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <atomic>
#include <mutex>
#include <set>
#include <string>
#include <vector>

namespace {

constexpr std::size_t kMaxNames = 256;

// Never destroyed: a candidate's thread may still call operators while the process ends.
std::mutex& mutex = *new std::mutex;
std::set<std::string>& names = *new std::set<std::string>;
std::atomic<bool> watching{false};

std::unique_ptr<at::ObserverContext> note(const at::RecordFunction& call) {
  if (watching.load(std::memory_order_relaxed)) {
    const char* name = call.name();
    std::lock_guard lock(mutex);
    if (names.size() < kMaxNames) names.insert(name);
  }
  return nullptr;
}

void begin() {
  std::lock_guard lock(mutex);
  names.clear();
  watching = true;
}

std::vector<std::string> end() {
  watching = false;
  std::lock_guard lock(mutex);
  return {names.begin(), names.end()};
}

}  // namespace

PYBIND11_MODULE(_operators, m) {
  m.doc() = "Names of the operators of torch that are called between begin() and end(), sorted.";
  at::addGlobalCallback(at::RecordFunctionCallback(&note).scopes({at::RecordScope::FUNCTION}));
  m.def("begin", &begin);
  m.def("end", &end);
}
