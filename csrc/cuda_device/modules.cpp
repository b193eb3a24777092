#include "modules.h"

#include <dlfcn.h>

#include <array>
#include <atomic>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "driver.h"

namespace kernelevo::cuda {
namespace {

struct State {
  std::mutex mutex;
  std::vector<CUmodule> modules;
  std::unordered_map<std::string, CUfunction> functions;  // nullptr: looked for and not there
  std::unordered_map<const void*, Stub> stubs;            // also of addresses that are none
  std::unordered_map<const void*, std::string> registered;  // host functions and handles
  std::unordered_map<const void*, bool> registered_variables;
};

State& state() {
  static State* instance = new State;  // leaked: candidates' destructors may still call in at exit
  return *instance;
}

std::atomic<bool> loading = false;
std::atomic<bool> has_image = false;

// The exported symbol that starts at `address`.
std::optional<std::string> symbol_at(const void* address) {
  Dl_info info{};
  if (dladdr(address, &info) == 0 || info.dli_sname == nullptr || info.dli_saddr != address) return std::nullopt;
  return info.dli_sname;
}

}  // namespace

void load_image(const std::string& image) {
  ensure_context();
  std::array<char, 8192> log{};
  std::array<int, 2> options{5, 6};  // CU_JIT_ERROR_LOG_BUFFER, CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES
  std::array<void*, 2> values{log.data(), reinterpret_cast<void*>(log.size())};
  CUmodule module = nullptr;
  CUresult result = driver().cuModuleLoadDataEx(&module, image.c_str(), 2, options.data(), values.data());
  if (result != CUDA_SUCCESS) throw Failure("the driver refuses the kernels: " + words(result) + " " + log.data());
  State& s = state();
  std::lock_guard lock(s.mutex);
  s.modules.push_back(module);
  s.functions.clear();
  s.stubs.clear();
  has_image = true;
}

void begin_loading() { loading = true; }
void end_loading() { loading = false; }

void note_kernel(const void* host_function, const char* entry) {
  if (!loading) return;
  State& s = state();
  std::lock_guard lock(s.mutex);
  s.registered[host_function] = entry;
}

void note_variable(const void* host_variable) {
  if (!loading) return;
  State& s = state();
  std::lock_guard lock(s.mutex);
  s.registered_variables[host_variable] = true;
}

void note_handle(const void* handle, const void* host_function) {
  State& s = state();
  std::lock_guard lock(s.mutex);
  if (auto it = s.registered.find(host_function); it != s.registered.end()) s.registered[handle] = it->second;
}

CUfunction function_of_entry(const std::string& entry) {
  if (!has_image) return nullptr;
  State& s = state();
  std::lock_guard lock(s.mutex);
  if (auto it = s.functions.find(entry); it != s.functions.end()) return it->second;
  CUfunction found = nullptr;
  for (CUmodule module : s.modules)
    if (found == nullptr && driver().cuModuleGetFunction(&found, module, entry.c_str()) != CUDA_SUCCESS) found = nullptr;
  s.functions[entry] = found;
  return found;
}

const Stub& stub_of(const void* host_function) {
  static const Stub none;
  if (!has_image) return none;
  State& s = state();
  {
    std::lock_guard lock(s.mutex);
    if (s.registered.count(host_function) != 0) return none;  // the runtime has it
    if (auto it = s.stubs.find(host_function); it != s.stubs.end()) return it->second;
  }
  // Slow in large libraries, and torch's own launches come by here too.
  Stub found;
  if (auto symbol = symbol_at(host_function)) found = {function_of_entry(*symbol), *symbol};
  std::lock_guard lock(s.mutex);
  return s.stubs.emplace(host_function, std::move(found)).first->second;  // references to elements stay valid
}

std::optional<std::string> entry_of(const void* host_function) {
  {
    State& s = state();
    std::lock_guard lock(s.mutex);
    if (auto it = s.registered.find(host_function); it != s.registered.end()) return it->second;
  }
  const Stub& stub = stub_of(host_function);
  return stub.function == nullptr ? std::nullopt : std::make_optional(stub.entry);
}

std::optional<Variable> variable_of(const void* host_variable) {
  if (!has_image) return std::nullopt;
  State& s = state();
  std::lock_guard lock(s.mutex);
  if (s.registered_variables.count(host_variable) != 0) return std::nullopt;
  auto symbol = symbol_at(host_variable);
  if (!symbol) return std::nullopt;
  for (CUmodule module : s.modules) {
    Variable found;
    if (driver().cuModuleGetGlobal(&found.address, &found.bytes, module, symbol->c_str()) == CUDA_SUCCESS) return found;
  }
  return std::nullopt;
}

}  // namespace kernelevo::cuda
