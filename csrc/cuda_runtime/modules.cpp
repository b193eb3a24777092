#include "modules.h"

#include <dlfcn.h>

#include <array>
#include <map>
#include <mutex>
#include <unordered_map>

#include "allocations.h"
#include "fatbin.h"

namespace kernelevo::runtime {
namespace {

struct Name {
  int module = 0;
  std::string name;
};

struct State {
  std::mutex mutex;
  Source source;
  std::vector<ModuleInfo> modules;             // module number - 1
  std::unordered_map<const void*, int> images;  // base address of a loaded object -> module
  std::unordered_map<const void*, Name> functions;
  std::unordered_map<const void*, Name> variables;
  std::map<std::pair<int, std::string>, std::unique_ptr<Kernel>> kernels;
  std::map<std::pair<int, std::string>, Variable> located;
  std::map<std::tuple<const Kernel*, std::array<unsigned, 3>, Variant>, CompiledKernel> compiled;
};

State& state() {
  static State* instance = new State;  // leaked: candidates' destructors may still call in at exit
  return *instance;
}

thread_local int loading_module = 0;

// The module of the object that holds `address`; 0 when no module is known for it.
int module_at(State& s, const void* address) {
  Dl_info info{};
  if (address != nullptr && dladdr(address, &info) != 0)
    if (auto it = s.images.find(info.dli_fbase); it != s.images.end()) return it->second;
  // While an object loads its image is not known yet, and tests call without one.
  return loading_module != 0 ? loading_module : static_cast<int>(s.modules.size());
}

// The exported symbol that starts at `address`.
std::optional<std::string> symbol_at(const void* address) {
  Dl_info info{};
  if (dladdr(address, &info) == 0 || info.dli_sname == nullptr || info.dli_saddr != address) return std::nullopt;
  return info.dli_sname;
}

// Asks the Python side without holding our lock: it takes Python's lock, which another thread may hold while waiting
// for ours.
Kernel& kernel(const Name& name) {
  State& s = state();
  auto key = std::make_pair(name.module, name.name);
  {
    std::lock_guard lock(s.mutex);
    if (auto it = s.kernels.find(key); it != s.kernels.end()) return *it->second;
  }
  if (name.module == 0) throw Refusal{cudaErrorInvalidDeviceFunction, "no module", "no module is loaded"};
  auto made = std::make_unique<Kernel>();
  made->module = name.module;
  made->entry = name.name;
  made->facts = s.source.describe(name.module, name.name);
  std::lock_guard lock(s.mutex);
  return *s.kernels.emplace(key, std::move(made)).first->second;
}

// The registered name of a host function or variable, or the exported symbol at its address.
std::optional<Name> name_of(State& s, const std::unordered_map<const void*, Name>& registered, const void* address) {
  std::lock_guard lock(s.mutex);
  if (auto it = registered.find(address); it != registered.end()) return it->second;
  if (auto symbol = symbol_at(address)) return Name{module_at(s, address), *symbol};
  return std::nullopt;
}

int add_module(State& s, ModuleInfo info) {
  s.modules.push_back(std::move(info));
  return static_cast<int>(s.modules.size());
}

}  // namespace

void set_source(Source source) {
  State& s = state();
  std::lock_guard lock(s.mutex);
  s.source = std::move(source);
}

Kernel& kernel_of_function(const void* host_function) {
  State& s = state();
  if (auto name = name_of(s, s.functions, host_function)) return kernel(*name);
  throw Refusal{cudaErrorInvalidDeviceFunction, "unknown kernel", "the function is not a registered kernel"};
}

Kernel& kernel_of_entry(const char* entry, const void* caller) {
  if (entry == nullptr)
    throw Refusal{cudaErrorInvalidDeviceFunction, "unknown kernel", "the launched kernel has no exported stub"};
  State& s = state();
  Name name{0, entry};
  {
    std::lock_guard lock(s.mutex);
    name.module = module_at(s, caller);
  }
  return kernel(name);
}

const CompiledKernel& compiled(Kernel& kernel, dim3 block, Variant variant) {
  State& s = state();
  auto key = std::make_tuple(static_cast<const Kernel*>(&kernel), std::array{block.x, block.y, block.z}, variant);
  {
    std::lock_guard lock(s.mutex);
    if (auto it = s.compiled.find(key); it != s.compiled.end()) return it->second;
  }
  CompiledKernel made = s.source.compile(kernel.module, kernel.entry, block, variant);
  std::lock_guard lock(s.mutex);
  return s.compiled.emplace(key, std::move(made)).first->second;
}

const KernelStorage& storage_of(Kernel& kernel) {
  State& s = state();
  {
    std::lock_guard lock(s.mutex);
    if (kernel.storage) return *kernel.storage;
  }
  KernelStorage storage = s.source.measure(kernel.module, kernel.entry);
  std::lock_guard lock(s.mutex);
  return kernel.storage.emplace(storage);
}

cudaError_t find_variable(const void* host_variable, Variable* variable) {
  State& s = state();
  auto name = name_of(s, s.variables, host_variable);
  if (!name) return cudaErrorInvalidSymbol;
  auto key = std::make_pair(name->module, name->name);
  {
    std::lock_guard lock(s.mutex);
    if (auto it = s.located.find(key); it != s.located.end()) {
      *variable = it->second;
      return cudaSuccess;
    }
  }
  try {
    auto [address, size] = s.source.locate(name->module, name->name);
    *variable = {reinterpret_cast<void*>(address), size};
  } catch (const Refusal& refusal) {
    return refusal.error == cudaErrorUnknown ? cudaErrorInvalidSymbol : refusal.error;
  }
  adopt(variable->address, variable->size, Origin::kModule);
  std::lock_guard lock(s.mutex);
  s.located.emplace(key, *variable);
  return cudaSuccess;
}

int begin_module(std::string name) {
  State& s = state();
  std::lock_guard lock(s.mutex);
  loading_module = add_module(s, {std::move(name), "", ""});
  return loading_module;
}

void end_module(int module, const void* image) {
  State& s = state();
  std::lock_guard lock(s.mutex);
  loading_module = 0;
  Dl_info info{};
  if (image != nullptr && dladdr(image, &info) != 0) s.images[info.dli_fbase] = module;
}

ModuleInfo module_info(int module) {
  State& s = state();
  std::lock_guard lock(s.mutex);
  if (module < 1 || static_cast<std::size_t>(module) > s.modules.size()) return {};
  return s.modules[static_cast<std::size_t>(module) - 1];
}

}  // namespace kernelevo::runtime

using namespace kernelevo::runtime;

namespace {

// What __cudaRegisterFatBinary hands out; objects pass it back with every registration.
struct Registration {
  int module = 0;
};

int module_of(void** handle) { return reinterpret_cast<Registration*>(handle)->module; }

}  // namespace

extern "C" {

KERNELEVO_API void kernelevo_register_variable(const void* host_variable, const char* name) {
  State& s = state();
  std::lock_guard lock(s.mutex);
  s.variables[host_variable] = {module_at(s, __builtin_return_address(0)), name};
}

KERNELEVO_API void kernelevo_register_kernel(const void* host_function, const char* entry) {
  State& s = state();
  std::lock_guard lock(s.mutex);
  s.functions[host_function] = {module_at(s, __builtin_return_address(0)), entry};
}

// An object whose PTX was given beforehand joins the module being loaded; any other brings its own.
KERNELEVO_API void** __cudaRegisterFatBinary(void* fat_binary) {
  State& s = state();
  std::lock_guard lock(s.mutex);
  FatBinary found = read_fat_binary(fat_binary);
  auto* registration = new Registration;
  if (loading_module != 0) {
    registration->module = loading_module;
    ModuleInfo& info = s.modules[static_cast<std::size_t>(loading_module) - 1];
    if (!found.ptx.empty() && info.ptx.empty()) info.ptx = found.ptx;
    if (found.ptx.empty()) info.problem = found.problem;
  } else {
    registration->module = add_module(s, {"registered by nvcc", found.ptx, found.problem});
  }
  return reinterpret_cast<void**>(registration);
}

KERNELEVO_API void __cudaRegisterFatBinaryEnd(void** /*handle*/) {}

KERNELEVO_API void __cudaUnregisterFatBinary(void** handle) { delete reinterpret_cast<Registration*>(handle); }

KERNELEVO_API char __cudaInitModule(void** /*handle*/) { return 1; }

KERNELEVO_API void __cudaRegisterFunction(void** handle, const char* host_function, char* /*device_function*/,
                                          const char* device_name, int /*thread_limit*/, void* /*thread_id*/,
                                          void* /*block_id*/, void* /*block_dim*/, void* /*grid_dim*/,
                                          int* /*warp_size*/) {
  State& s = state();
  std::lock_guard lock(s.mutex);
  s.functions[host_function] = {module_of(handle), device_name};
}

KERNELEVO_API void __cudaRegisterVar(void** handle, char* host_variable, char* /*device_address*/,
                                     const char* device_name, int /*external*/, std::size_t /*size*/,
                                     int /*constant*/, int /*global*/) {
  State& s = state();
  std::lock_guard lock(s.mutex);
  s.variables[host_variable] = {module_of(handle), device_name};
}

KERNELEVO_API void __cudaRegisterManagedVar(void** handle, void** host_variable, char* /*device_address*/,
                                            const char* device_name, int /*external*/, std::size_t /*size*/,
                                            int /*constant*/, int /*global*/) {
  State& s = state();
  std::lock_guard lock(s.mutex);
  s.variables[host_variable] = {module_of(handle), device_name};
}
}
