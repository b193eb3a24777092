#include "driver.h"

#include <dlfcn.h>

#include <mutex>

namespace kernelevo::cuda {
namespace {

std::mutex mutex;
std::string driver_path;
std::string runtime_path;
Driver table;
bool loaded = false;
void* runtime = nullptr;

void load() {
  const char* path = driver_path.empty() ? "libcuda.so.1" : driver_path.c_str();
  void* library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) throw Failure(std::string("no NVIDIA driver: ") + dlerror());
#define KERNELEVO_FIND(name, symbol, parameters)                                        \
  table.name = reinterpret_cast<CUresult(*) parameters>(dlsym(library, symbol));        \
  if (table.name == nullptr) throw Failure(std::string(path) + " has no function " symbol);
  KERNELEVO_DRIVER_FUNCTIONS(KERNELEVO_FIND)
#undef KERNELEVO_FIND
  check(table.cuInit(0), "cuInit");
  loaded = true;
}

}  // namespace

void set_libraries(std::string driver, std::string runtime_library) {
  std::lock_guard lock(mutex);
  driver_path = std::move(driver);
  runtime_path = std::move(runtime_library);
  loaded = false;
  runtime = nullptr;
}

const Driver& driver() {
  std::lock_guard lock(mutex);
  if (!loaded) load();
  return table;
}

void* runtime_function(const char* name) {
  std::lock_guard lock(mutex);
  if (runtime == nullptr) {
    if (!runtime_path.empty()) runtime = dlopen(runtime_path.c_str(), RTLD_NOW | RTLD_LOCAL);
    // torch has loaded one of these before anything calls it.
    for (const char* soname : {"libcudart.so.13", "libcudart.so.12"})
      if (runtime == nullptr) runtime = dlopen(soname, RTLD_NOW | RTLD_NOLOAD);
    if (runtime == nullptr) return nullptr;
  }
  return dlsym(runtime, name);
}

void ensure_context() {
  const Driver& d = driver();
  CUcontext current = nullptr;
  check(d.cuCtxGetCurrent(&current), "cuCtxGetCurrent");
  if (current != nullptr) return;
  CUcontext primary = nullptr;
  check(d.cuDevicePrimaryCtxRetain(&primary, 0), "cuDevicePrimaryCtxRetain");
  check(d.cuCtxSetCurrent(primary), "cuCtxSetCurrent");
}

std::string words(CUresult error) {
  const char* text = nullptr;
  if (table.cuGetErrorString != nullptr) table.cuGetErrorString(error, &text);
  return std::string(text == nullptr ? "unknown error" : text) + " (CUDA error " + std::to_string(error) + ")";
}

void check(CUresult result, const char* what) {
  if (result != CUDA_SUCCESS) throw Failure(std::string(what) + ": " + words(result));
}

}  // namespace kernelevo::cuda
