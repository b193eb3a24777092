// The CUDA driver's interface (libcuda.so.1), implemented over the emulator: kernels of PTX images run there, memory is
// the host's, and streams are the emulator's. A cubin is refused, as by a driver of another GPU. It lets all of
// kernelevo.devices._cuda run for real where there is no GPU; it says nothing about NVIDIA's driver.
//
// KERNELEVO_STAND_IN_RUNTIME: path of kernelevo/emulator/_runtime, which must be loaded.
#include <dlfcn.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <set>
#include <string>

#define API extern "C" __attribute__((visibility("default")))

namespace {

struct Module {
  std::string ptx;
};

struct Function {
  std::string entry;
};

int context;  // its address is the one context there is

void* runtime(const char* name) {
  static void* library = dlopen(std::getenv("KERNELEVO_STAND_IN_RUNTIME"), RTLD_NOW | RTLD_NOLOAD);
  return library == nullptr ? nullptr : dlsym(library, name);
}

template <typename Function>
Function* of_runtime(const char* name) {
  return reinterpret_cast<Function*>(runtime(name));
}

// The word after ".entry" or a variable's declarator must be the whole name.
bool declares(const std::string& ptx, const std::string& keyword, const std::string& name) {
  for (std::size_t at = ptx.find(keyword); at != std::string::npos; at = ptx.find(keyword, at + 1)) {
    std::size_t end = ptx.find_first_of("(;{\n", at);
    std::string line = ptx.substr(at, end - at);
    std::size_t found = line.find(name);
    if (found != std::string::npos && (found + name.size() == line.size() || std::strchr(" [(", line[found + name.size()])))
      return true;
  }
  return false;
}

}  // namespace

API int cuInit(unsigned) { return 0; }
API int cuDriverGetVersion(int* version) { return *version = 13000, 0; }
API int cuDevicePrimaryCtxRetain(void** to, int) { return *to = &context, 0; }
API int cuCtxGetCurrent(void** to) {
  thread_local int calls = 0;
  *to = calls++ == 0 ? nullptr : &context;  // a thread has none before it sets one
  return 0;
}
API int cuCtxSetCurrent(void* to) { return to == &context ? 0 : 201; }
API int cuCtxSynchronize() { return of_runtime<int()>("cudaDeviceSynchronize")(); }

API int cuModuleLoadDataEx(void** to, const void* image, unsigned, int*, void**) {
  const char* text = static_cast<const char*>(image);
  if (std::memcmp(text, "\177ELF", 4) == 0) return 209;  // CUDA_ERROR_NO_BINARY_FOR_GPU
  *to = new Module{text};
  return 0;
}
API int cuModuleGetFunction(void** to, void* module, const char* name) {
  if (!declares(static_cast<Module*>(module)->ptx, ".entry", name)) return 500;
  *to = new Function{name};
  return 0;
}
API int cuModuleGetGlobal_v2(std::uint64_t*, std::size_t*, void*, const char*) { return 500; }
API int cuFuncGetAttribute(int* value, int attribute, void*) { return *value = attribute == 0 ? 1024 : 0, 0; }
API int cuFuncSetAttribute(void*, int, int) { return 0; }
API int cuFuncSetCacheConfig(void*, int) { return 0; }

API int cuLaunchKernel(void* function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                       unsigned shared, void* stream, void** parameters, void**) {
  const std::string& entry = static_cast<Function*>(function)->entry;
  if (entry == "kernelevo_delay") {
    // The emulator's streams do one thing each time they are asked; so the first question finds them busy.
    auto* nothing = +[](void*) {};
    using Enqueue = int(void*, void (*)(void*), void*);
    return of_runtime<Enqueue>("cudaLaunchHostFunc")(stream, nothing, nullptr);
  }
  if (bx * by * bz > 1024 || bx * by * bz == 0) return 1;
  using Launch = int(const char*, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, std::size_t, void*, void**);
  return of_runtime<Launch>("kernelevo_launch")(entry.c_str(), gx, gy, gz, bx, by, bz, shared, stream, parameters);
}
API int cuLaunchCooperativeKernel(void*, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void*,
                                  void**) {
  return 801;
}
API int cuLaunchKernelEx(const void*, void*, void**, void**) { return 801; }
API int cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* blocks, void*, int, std::size_t, unsigned) {
  return *blocks = 2, 0;
}
API int cuOccupancyAvailableDynamicSMemPerBlock(std::size_t* bytes, void*, int, int) { return *bytes = 0, 0; }

API int cuMemAlloc_v2(std::uint64_t* to, std::size_t bytes) {
  *to = reinterpret_cast<std::uint64_t>(std::aligned_alloc(512, (bytes + 511) / 512 * 512));
  return *to == 0 ? 2 : 0;
}
API int cuMemFree_v2(std::uint64_t address) { return std::free(reinterpret_cast<void*>(address)), 0; }
API int cuMemsetD8Async(std::uint64_t address, unsigned char value, std::size_t bytes, void*) {
  return std::memset(reinterpret_cast<void*>(address), value, bytes), 0;
}
API int cuMemcpyDtoHAsync_v2(void* to, std::uint64_t from, std::size_t bytes, void*) {
  return std::memcpy(to, reinterpret_cast<void*>(from), bytes), 0;
}
API int cuStreamCreate(void** to, unsigned) { return *to = &context, 0; }
API int cuStreamSynchronize(void* stream) {
  return stream == &context ? 0 : of_runtime<int(void*)>("cudaStreamSynchronize")(stream);
}
API int cuStreamQuery(void* stream) { return of_runtime<int(void*)>("cudaStreamQuery")(stream); }
API int cuStreamGetFlags(void* stream, unsigned* flags) {
  return of_runtime<int(void*, unsigned*)>("cudaStreamGetFlags")(stream, flags);
}
API int cuStreamWaitEvent(void* stream, void* event, unsigned flags) {
  return of_runtime<int(void*, void*, unsigned)>("cudaStreamWaitEvent")(stream, event, flags);
}
API int cuEventCreate(void** event, unsigned flags) {
  return of_runtime<int(void**, unsigned)>("cudaEventCreateWithFlags")(event, flags);
}
API int cuEventRecord(void* event, void* stream) {
  return of_runtime<int(void*, void*)>("cudaEventRecord")(event, stream);
}
API int cuThreadExchangeStreamCaptureMode(int*) { return 0; }
API int cuGetErrorString(int error, const char** text) {
  *text = error == 1 ? "invalid argument" : error == 2 ? "out of memory" : error == 209 ? "no kernel image" : "an error";
  return 0;
}
