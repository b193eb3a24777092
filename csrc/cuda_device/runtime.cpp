// kernelevo_launch, and functions of the CUDA runtime that this library stands in front of.
//
// The library is loaded globally before torch, so candidates and torch find these first. Where the argument is a kernel
// or variable of the candidate's image, the driver does what is asked; everything else goes on to the CUDA runtime that
// torch brought. Launches of the candidate's kernels are noted either way. Error numbers of driver and runtime agree.
#include <mutex>

#include "driver.h"
#include "launch_log.h"
#include "modules.h"
#include "streams.h"

using namespace kernelevo::cuda;

namespace {

constexpr int kMissing = 999;  // cudaErrorUnknown: the process has no CUDA runtime to pass the call on to

// The runtime's function of the same signature, looked for once.
template <typename Function>
class Next {
 public:
  explicit constexpr Next(const char* name) : name_(name) {}
  template <typename... Arguments>
  int operator()(Arguments... arguments) {
    if (function_ == nullptr) function_ = reinterpret_cast<Function>(runtime_function(name_));
    return function_ == nullptr ? kMissing : function_(arguments...);
  }

 private:
  const char* name_;
  Function function_ = nullptr;
};

#define KERNELEVO_NEXT(name) static Next<decltype(&name)> next(#name)

// What the runtime would say where the driver says "invalid value" for the shape of a launch.
CUresult launch_error(CUresult error, dim3 grid, dim3 block) {
  if (error != CUDA_ERROR_INVALID_VALUE) return error;
  const bool too_large = block.x > 1024 || block.y > 1024 || block.z > 64 ||
                         std::uint64_t{block.x} * block.y * block.z > 1024 || grid.y > 65535 || grid.z > 65535;
  const bool empty = grid.x == 0 || grid.y == 0 || grid.z == 0 || block.x == 0 || block.y == 0 || block.z == 0;
  return too_large || empty ? CUresult{CUDA_ERROR_INVALID_CONFIGURATION_RUNTIME} : error;
}

// Launches a kernel of the candidate with `submit`, which is not called when launches are stubbed.
template <typename Submit>
int launch(const std::string& entry, dim3 grid, dim3 block, std::size_t shared, CUstream stream, Submit submit) {
  LaunchSettings settings = launch_settings();
  LaunchRecord record{entry, grid, block, shared, reinterpret_cast<std::uintptr_t>(stream), CUDA_SUCCESS};
  if (!settings.stubbed) {
    try {
      ensure_context();
      if (settings.delay_side_streams) delay_side_stream(stream);
      record.error = launch_error(submit(), grid, block);
      if (record.error == CUDA_SUCCESS) stream_used(stream, entry);
    } catch (const Failure&) {
      record.error = CUDA_ERROR_NOT_INITIALIZED;
    }
  }
  set_last_error(record.error);
  int error = record.error;
  log_launch(std::move(record));
  return error;
}

// The same for launches that the runtime does: it keeps its own last error.
template <typename Submit>
int launch_by_runtime(const void* function, dim3 grid, dim3 block, std::size_t shared, CUstream stream, Submit submit) {
  auto entry = entry_of(function);
  if (!entry) return submit();
  LaunchSettings settings = launch_settings();
  LaunchRecord record{*entry, grid, block, shared, reinterpret_cast<std::uintptr_t>(stream), CUDA_SUCCESS};
  if (!settings.stubbed) {
    if (settings.delay_side_streams) delay_side_stream(stream);
    record.error = submit();
    if (record.error == CUDA_SUCCESS) stream_used(stream, *entry);
  }
  int error = record.error;
  log_launch(std::move(record));
  return error;
}

// The function or the error CUDA gives for an address that is no kernel.
int attributes_of(cudaFuncAttributes* to, CUfunction function) {
  const Driver& d = driver();
  int value = 0;
  auto get = [&](int attribute) {
    d.cuFuncGetAttribute(&value, attribute, function);
    return value;
  };
  to->sharedSizeBytes = static_cast<std::size_t>(get(CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES));
  to->constSizeBytes = static_cast<std::size_t>(get(CU_FUNC_ATTRIBUTE_CONST_SIZE_BYTES));
  to->localSizeBytes = static_cast<std::size_t>(get(CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES));
  to->maxThreadsPerBlock = get(CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK);
  to->numRegs = get(CU_FUNC_ATTRIBUTE_NUM_REGS);
  to->ptxVersion = get(CU_FUNC_ATTRIBUTE_PTX_VERSION);
  to->binaryVersion = get(CU_FUNC_ATTRIBUTE_BINARY_VERSION);
  to->cacheModeCA = get(CU_FUNC_ATTRIBUTE_CACHE_MODE_CA);
  to->maxDynamicSharedSizeBytes = get(CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES);
  to->preferredShmemCarveout = get(CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT);
  return CUDA_SUCCESS;
}

int fail_or(int error) {
  set_last_error(error);
  return error;
}

}  // namespace

extern "C" {

// --- launches -------------------------------------------------------------------------------------------------------

KERNELEVO_API int kernelevo_launch(const char* entry, unsigned grid_x, unsigned grid_y, unsigned grid_z,
                                   unsigned block_x, unsigned block_y, unsigned block_z, std::size_t shared,
                                   void* stream, void** arguments) {
  const std::string name = entry == nullptr ? "" : entry;
  dim3 grid{grid_x, grid_y, grid_z}, block{block_x, block_y, block_z};
  auto* queue = static_cast<CUstream>(stream);
  return launch(name, grid, block, shared, queue, [&]() -> CUresult {
    CUfunction function = function_of_entry(name);
    if (function == nullptr) return 98;  // cudaErrorInvalidDeviceFunction
    return driver().cuLaunchKernel(function, grid_x, grid_y, grid_z, block_x, block_y, block_z,
                                   static_cast<unsigned>(shared), queue, arguments, nullptr);
  });
}

KERNELEVO_API int cudaLaunchKernel(const void* function, dim3 grid, dim3 block, void** arguments, std::size_t shared,
                                   CUstream stream) {
  KERNELEVO_NEXT(cudaLaunchKernel);
  if (const Stub& stub = stub_of(function); stub.function != nullptr)
    return launch(stub.entry, grid, block, shared, stream, [&] {
      return driver().cuLaunchKernel(stub.function, grid.x, grid.y, grid.z, block.x, block.y, block.z,
                                     static_cast<unsigned>(shared), stream, arguments, nullptr);
    });
  return launch_by_runtime(function, grid, block, shared, stream,
                           [&] { return next(function, grid, block, arguments, shared, stream); });
}

KERNELEVO_API int cudaLaunchCooperativeKernel(const void* function, dim3 grid, dim3 block, void** arguments,
                                              std::size_t shared, CUstream stream) {
  KERNELEVO_NEXT(cudaLaunchCooperativeKernel);
  if (const Stub& stub = stub_of(function); stub.function != nullptr)
    return launch(stub.entry, grid, block, shared, stream, [&] {
      return driver().cuLaunchCooperativeKernel(stub.function, grid.x, grid.y, grid.z, block.x, block.y, block.z,
                                                static_cast<unsigned>(shared), stream, arguments);
    });
  return launch_by_runtime(function, grid, block, shared, stream,
                           [&] { return next(function, grid, block, arguments, shared, stream); });
}

KERNELEVO_API int cudaLaunchKernelExC(const cudaLaunchConfig_t* config, const void* function, void** arguments) {
  KERNELEVO_NEXT(cudaLaunchKernelExC);
  if (config == nullptr) return next(config, function, arguments);
  const dim3 &grid = config->gridDim, &block = config->blockDim;
  if (const Stub& stub = stub_of(function); stub.function != nullptr)
    return launch(stub.entry, grid, block, config->dynamicSmemBytes, config->stream, [&] {
      CUlaunchConfig c{grid.x, grid.y, grid.z, block.x, block.y, block.z,
                       static_cast<unsigned>(config->dynamicSmemBytes), config->stream, config->attrs, config->numAttrs};
      return driver().cuLaunchKernelEx(&c, stub.function, arguments, nullptr);
    });
  return launch_by_runtime(function, grid, block, config->dynamicSmemBytes, config->stream,
                           [&] { return next(config, function, arguments); });
}

// CUDA 13's launches of registered kernels.
KERNELEVO_API int __cudaLaunchKernel(void* handle, dim3 grid, dim3 block, void** arguments, std::size_t shared,
                                     CUstream stream) {
  KERNELEVO_NEXT(__cudaLaunchKernel);
  return launch_by_runtime(handle, grid, block, shared, stream,
                           [&] { return next(handle, grid, block, arguments, shared, stream); });
}

KERNELEVO_API int __cudaGetKernel(void** handle, const void* function) {
  KERNELEVO_NEXT(__cudaGetKernel);
  int error = next(handle, function);
  if (error == CUDA_SUCCESS) note_handle(*handle, function);
  return error;
}

// --- registration ---------------------------------------------------------------------------------------------------

KERNELEVO_API int __cudaRegisterFunction(void** fat_binary, const char* host_function, char* device_function,
                                         const char* device_name, int thread_limit, void* thread_id, void* block_id,
                                         void* block_dim, void* grid_dim, int* warp_size) {
  KERNELEVO_NEXT(__cudaRegisterFunction);
  note_kernel(host_function, device_name);
  return next(fat_binary, host_function, device_function, device_name, thread_limit, thread_id, block_id, block_dim,
              grid_dim, warp_size);
}

KERNELEVO_API int __cudaRegisterVar(void** fat_binary, char* host_variable, char* device_address,
                                    const char* device_name, int external, std::size_t bytes, int constant,
                                    int global) {
  KERNELEVO_NEXT(__cudaRegisterVar);
  note_variable(host_variable);
  return next(fat_binary, host_variable, device_address, device_name, external, bytes, constant, global);
}

// --- kernels' attributes --------------------------------------------------------------------------------------------

KERNELEVO_API int cudaFuncSetAttribute(const void* function, int attribute, int value) {
  KERNELEVO_NEXT(cudaFuncSetAttribute);
  if (CUfunction own = stub_of(function).function)
    return fail_or(driver().cuFuncSetAttribute(own, attribute, value));
  return next(function, attribute, value);
}

KERNELEVO_API int cudaFuncSetCacheConfig(const void* function, int config) {
  KERNELEVO_NEXT(cudaFuncSetCacheConfig);
  if (CUfunction own = stub_of(function).function) return fail_or(driver().cuFuncSetCacheConfig(own, config));
  return next(function, config);
}

KERNELEVO_API int cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void* function) {
  KERNELEVO_NEXT(cudaFuncGetAttributes);
  CUfunction own = stub_of(function).function;
  return own != nullptr && attributes != nullptr ? attributes_of(attributes, own) : next(attributes, function);
}

KERNELEVO_API int cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* blocks, const void* function, int threads,
                                                                         std::size_t shared, unsigned flags) {
  KERNELEVO_NEXT(cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags);
  if (CUfunction own = stub_of(function).function)
    return fail_or(
        driver().cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(blocks, own, threads, shared, flags));
  return next(blocks, function, threads, shared, flags);
}

KERNELEVO_API int cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, const void* function, int threads,
                                                                std::size_t shared) {
  KERNELEVO_NEXT(cudaOccupancyMaxActiveBlocksPerMultiprocessor);
  if (stub_of(function).function != nullptr)
    return cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(blocks, function, threads, shared, 0);
  return next(blocks, function, threads, shared);
}

KERNELEVO_API int cudaOccupancyAvailableDynamicSMemPerBlock(std::size_t* bytes, const void* function, int blocks,
                                                            int threads) {
  KERNELEVO_NEXT(cudaOccupancyAvailableDynamicSMemPerBlock);
  if (CUfunction own = stub_of(function).function)
    return fail_or(driver().cuOccupancyAvailableDynamicSMemPerBlock(bytes, own, blocks, threads));
  return next(bytes, function, blocks, threads);
}

// --- variables of the image -----------------------------------------------------------------------------------------

int cudaMemcpyAsync(void* to, const void* from, std::size_t count, int kind, CUstream stream);
int cudaMemcpy(void* to, const void* from, std::size_t count, int kind);

// Where in the image's variable `offset` is; 0 where `count` bytes do not fit behind it.
static CUdeviceptr place_in(const Variable& variable, std::size_t count, std::size_t offset) {
  const bool fits = offset <= variable.bytes && count <= variable.bytes - offset;
  return fits ? variable.address + offset : 0;
}

KERNELEVO_API int cudaMemcpyToSymbol(const void* symbol, const void* from, std::size_t count, std::size_t offset,
                                     int kind) {
  KERNELEVO_NEXT(cudaMemcpyToSymbol);
  auto own = variable_of(symbol);
  if (!own) return next(symbol, from, count, offset, kind);
  static Next<decltype(&cudaMemcpy)> copy("cudaMemcpy");
  CUdeviceptr to = place_in(*own, count, offset);
  return to == 0 ? fail_or(CUDA_ERROR_INVALID_VALUE) : copy(reinterpret_cast<void*>(to), from, count, kind);
}

KERNELEVO_API int cudaMemcpyToSymbolAsync(const void* symbol, const void* from, std::size_t count, std::size_t offset,
                                          int kind, CUstream stream) {
  KERNELEVO_NEXT(cudaMemcpyToSymbolAsync);
  auto own = variable_of(symbol);
  if (!own) return next(symbol, from, count, offset, kind, stream);
  static Next<decltype(&cudaMemcpyAsync)> copy("cudaMemcpyAsync");
  CUdeviceptr to = place_in(*own, count, offset);
  return to == 0 ? fail_or(CUDA_ERROR_INVALID_VALUE) : copy(reinterpret_cast<void*>(to), from, count, kind, stream);
}

KERNELEVO_API int cudaMemcpyFromSymbol(void* to, const void* symbol, std::size_t count, std::size_t offset, int kind) {
  KERNELEVO_NEXT(cudaMemcpyFromSymbol);
  auto own = variable_of(symbol);
  if (!own) return next(to, symbol, count, offset, kind);
  static Next<decltype(&cudaMemcpy)> copy("cudaMemcpy");
  CUdeviceptr from = place_in(*own, count, offset);
  const void* place = reinterpret_cast<const void*>(from);
  return from == 0 ? fail_or(CUDA_ERROR_INVALID_VALUE) : copy(to, place, count, kind);
}

KERNELEVO_API int cudaGetSymbolAddress(void** address, const void* symbol) {
  KERNELEVO_NEXT(cudaGetSymbolAddress);
  auto own = variable_of(symbol);
  if (!own || address == nullptr) return next(address, symbol);
  *address = reinterpret_cast<void*>(own->address);
  return CUDA_SUCCESS;
}

KERNELEVO_API int cudaGetSymbolSize(std::size_t* bytes, const void* symbol) {
  KERNELEVO_NEXT(cudaGetSymbolSize);
  auto own = variable_of(symbol);
  if (!own || bytes == nullptr) return next(bytes, symbol);
  *bytes = own->bytes;
  return CUDA_SUCCESS;
}

// --- errors ---------------------------------------------------------------------------------------------------------

KERNELEVO_API int cudaGetLastError() {
  KERNELEVO_NEXT(cudaGetLastError);
  refusals_seen();
  int own = take_last_error();
  int theirs = next();
  return own != CUDA_SUCCESS ? own : theirs;
}

KERNELEVO_API int cudaPeekAtLastError() {
  KERNELEVO_NEXT(cudaPeekAtLastError);
  refusals_seen();
  int own = peek_last_error();
  return own != CUDA_SUCCESS ? own : next();
}

// --- streams --------------------------------------------------------------------------------------------------------

KERNELEVO_API int cudaStreamCreate(CUstream* stream) {
  KERNELEVO_NEXT(cudaStreamCreate);
  int error = next(stream);
  if (error == CUDA_SUCCESS) stream_made(*stream);
  return error;
}

KERNELEVO_API int cudaStreamCreateWithFlags(CUstream* stream, unsigned flags) {
  KERNELEVO_NEXT(cudaStreamCreateWithFlags);
  int error = next(stream, flags);
  if (error == CUDA_SUCCESS) stream_made(*stream);
  return error;
}

KERNELEVO_API int cudaStreamCreateWithPriority(CUstream* stream, unsigned flags, int priority) {
  KERNELEVO_NEXT(cudaStreamCreateWithPriority);
  int error = next(stream, flags, priority);
  if (error == CUDA_SUCCESS) stream_made(*stream);
  return error;
}

KERNELEVO_API int cudaStreamDestroy(CUstream stream) {
  KERNELEVO_NEXT(cudaStreamDestroy);
  stream_gone(stream);
  return next(stream);
}
}
