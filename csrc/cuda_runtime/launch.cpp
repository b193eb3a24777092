#include "launch.h"

#include <atomic>
#include <chrono>
#include <cstring>
#include <memory>
#include <mutex>

#include "device.h"
#include "launch_log.h"
#include "streams.h"

namespace kernelevo::runtime {
namespace {

std::mutex counting_mutex;
Counting counting;

std::atomic<bool> checking{false};
std::atomic<bool> stubbing{false};

Counting current_counting() {
  std::lock_guard lock(counting_mutex);
  return counting;
}

std::uint64_t threads(dim3 d) { return std::uint64_t{d.x} * d.y * d.z; }

// Why the GPU refuses a launch: CUDA's error and one line of text.
struct Objection {
  cudaError_t error = cudaSuccess;
  std::string text;
};

std::string shape(dim3 d) {
  return "(" + std::to_string(d.x) + ", " + std::to_string(d.y) + ", " + std::to_string(d.z) + ")";
}

// Most dynamic shared memory that a launch may ask for: 48 KiB in all, unless cudaFuncSetAttribute allowed more.
std::size_t allowed_dynamic_shared(const Kernel& kernel, std::size_t static_shared_bytes) {
  std::size_t without_asking = kDevice.shared_per_block - std::min(kDevice.shared_per_block, static_shared_bytes);
  return std::max(without_asking, kernel.max_dynamic_shared_bytes);
}

Objection object_to_shared(const Kernel& kernel, std::size_t static_bytes, std::size_t dynamic_bytes) {
  constexpr const DeviceLimits& d = kDevice;
  std::size_t total = static_bytes + dynamic_bytes;
  if (total > d.shared_per_block_optin)
    return {cudaErrorInvalidValue, std::to_string(total) + " bytes of shared memory; a block has at most " +
                                       std::to_string(d.shared_per_block_optin)};
  if (dynamic_bytes > allowed_dynamic_shared(kernel, static_bytes))
    return {cudaErrorInvalidValue, std::to_string(total) + " bytes of shared memory; more than " +
                                       std::to_string(d.shared_per_block) +
                                       " need cudaFuncSetAttribute(cudaFuncAttributeMaxDynamicSharedMemorySize)"};
  return {};
}

// Limits of compute capability 9.0; errors as the CUDA Runtime API reference assigns them. Shared memory is
// judged separately.
Objection object_to(const Kernel& kernel, const LaunchConfiguration& c) {
  constexpr const DeviceLimits& d = kDevice;
  const KernelFacts& f = kernel.facts;
  const unsigned grid[] = {c.grid.x, c.grid.y, c.grid.z};
  const unsigned block[] = {c.block.x, c.block.y, c.block.z};
  for (int i = 0; i < 3; ++i) {
    if (grid[i] == 0 || grid[i] > d.max_grid[i])
      return {cudaErrorInvalidConfiguration, "grid " + shape(c.grid) + " is outside 1 to (2147483647, 65535, 65535)"};
    if (block[i] == 0 || block[i] > static_cast<unsigned>(d.max_block[i]))
      return {cudaErrorInvalidConfiguration, "block " + shape(c.block) + " is outside 1 to (1024, 1024, 64)"};
  }
  std::uint64_t count = threads(c.block);
  if (count > static_cast<std::uint64_t>(d.max_threads_per_block))
    return {cudaErrorInvalidConfiguration, "block " + shape(c.block) + " has " + std::to_string(count) +
                                               " threads; at most 1024 fit"};
  if (f.required_threads && (c.block.x != f.required_threads->x || c.block.y != f.required_threads->y ||
                             c.block.z != f.required_threads->z))
    return {cudaErrorInvalidValue, "block " + shape(c.block) + " is not the required " + shape(*f.required_threads)};
  if (f.max_threads && count > threads(*f.max_threads))
    return {cudaErrorInvalidValue, "block " + shape(c.block) + " has more threads than __launch_bounds__ allows (" +
                                       std::to_string(threads(*f.max_threads)) + ")"};
  if (f.registers > 0) {
    // Registers are allocated per warp in units of 256 (CUDA occupancy calculator, compute capability 9.0).
    std::uint64_t warps = (count + 31) / 32;
    std::uint64_t per_warp = (static_cast<std::uint64_t>(f.registers) * 32 + 255) / 256 * 256;
    if (warps * per_warp > static_cast<std::uint64_t>(d.registers_per_block))
      return {cudaErrorLaunchOutOfResources, std::to_string(f.registers) + " registers for each of " +
                                                 std::to_string(count) + " threads; a block has at most 65536"};
  }
  return {};
}

// Resident blocks per multiprocessor, by the rules of the CUDA occupancy calculator for compute capability 9.0.
// `shared`: bytes per block, static and dynamic.
int resident_blocks(const Kernel& kernel, std::uint64_t block_threads, std::size_t shared) {
  constexpr const DeviceLimits& d = kDevice;
  if (block_threads == 0 || block_threads > static_cast<std::uint64_t>(d.max_threads_per_block)) return 0;
  std::uint64_t warps = (block_threads + 31) / 32;
  std::uint64_t blocks = static_cast<std::uint64_t>(d.max_blocks_per_multiprocessor);
  blocks = std::min<std::uint64_t>(blocks, d.max_threads_per_multiprocessor / 32 / warps);
  if (shared > d.shared_per_block_optin) return 0;
  std::size_t used = (shared + d.shared_reserved_per_block + 127) / 128 * 128;
  blocks = std::min<std::uint64_t>(blocks, d.shared_per_multiprocessor / used);
  if (kernel.facts.registers > 0) {
    std::uint64_t per_warp = (static_cast<std::uint64_t>(kernel.facts.registers) * 32 + 255) / 256 * 256;
    // Each of the four sub-partitions holds a quarter of the registers and whole warps only.
    std::uint64_t resident_warps = static_cast<std::uint64_t>(d.registers_per_multiprocessor) / 4 / per_warp * 4;
    blocks = std::min(blocks, resident_warps / warps);
  }
  return static_cast<int>(blocks);
}

cudaError_t refuse(LaunchRecord record, cudaError_t error, const std::string& text) {
  launch_log().error_unseen(error, record.kernel, text);
  record.error = error;
  record.reason = text;
  launch_log().add(std::move(record));
  return set_error(error);
}

// A failure of the kernel or of the emulator: nothing after it can be trusted.
cudaError_t fail(const std::string& kernel, cudaError_t error, const std::string& kind, const std::string& text) {
  launch_log().add_fault({kind, kernel, text, error});
  corrupt_context(error);
  return error;
}

std::shared_ptr<std::vector<std::uint8_t>> copy_parameters(const KernelFacts& facts, void** arguments) {
  auto bytes = std::make_shared<std::vector<std::uint8_t>>(facts.parameter_bytes + 16);  // loads may be vectorised
  for (std::size_t i = 0; i < facts.parameters.size(); ++i)
    std::memcpy(bytes->data() + facts.parameters[i].offset, arguments[i], facts.parameters[i].size);
  return bytes;
}

cudaError_t run(const CompiledKernel& kernel, const std::string& name, const RunRequest& request,
                std::uint64_t number) {
  auto begin = std::chrono::steady_clock::now();
  RunReport report = kernel.run(request);
  double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  launch_log().update(number, [&](LaunchRecord& record) {
    record.error = report.error;
    record.reason = report.text;
    record.finished = report.error == cudaSuccess;
    record.blocks_run = report.blocks_run;
    record.seconds = seconds;
    record.counters = report.counters;
  });
  return report.error == cudaSuccess ? cudaSuccess : fail(name, report.error, report.kind, report.text);
}

// The error of a refusal by the Python side: CUDA's when the program is wrong, a launch failure when we cannot.
cudaError_t refuse_kernel(const std::string& kernel, const LaunchConfiguration& c, const Refusal& refusal) {
  LaunchRecord record{.kernel = kernel, .grid = c.grid, .block = c.block,
                      .dynamic_shared_bytes = c.dynamic_shared_bytes,
                      .stream = reinterpret_cast<std::uintptr_t>(c.stream)};
  if (refusal.error != cudaErrorUnknown) return refuse(std::move(record), refusal.error, refusal.text);
  record.error = cudaErrorLaunchFailure;
  record.reason = refusal.text;
  launch_log().add(std::move(record));
  return set_error(fail(kernel, cudaErrorLaunchFailure, refusal.kind, refusal.text));
}

}  // namespace

void set_counting(Counting value) {
  std::lock_guard lock(counting_mutex);
  counting = value;
}

void set_checking(bool on) { checking = on; }

void set_stubbing(bool on) { stubbing = on; }

cudaError_t launch(Kernel& kernel, const LaunchConfiguration& c, void** arguments) {
  LaunchRecord record{.kernel = kernel.entry, .grid = c.grid, .block = c.block,
                      .dynamic_shared_bytes = c.dynamic_shared_bytes, .registers = kernel.facts.registers,
                      .stream = is_legacy(c.stream) ? 0 : reinterpret_cast<std::uintptr_t>(c.stream)};
  if (cudaError_t error = context_error(); error != cudaSuccess)
    return refuse(std::move(record), error, "not launched: an earlier kernel failed");
  if (cudaError_t error = check_stream(c.stream); error != cudaSuccess)
    return refuse(std::move(record), error, "the stream does not exist");
  if (Objection objection = object_to(kernel, c); objection.error != cudaSuccess)
    return refuse(std::move(record), objection.error, objection.text);
  if (Objection objection = object_to_shared(kernel, 0, c.dynamic_shared_bytes); objection.error != cudaSuccess)
    return refuse(std::move(record), objection.error, objection.text);
  Counting counted = current_counting();
  const Variant variant = counted.enabled ? Variant::kCounted : checking ? Variant::kChecked : Variant::kFast;
  const CompiledKernel* code = nullptr;
  try {
    code = &compiled(kernel, c.block, variant);
  } catch (const Refusal& refusal) {
    return refuse_kernel(kernel.entry, c, refusal);
  }
  record.static_shared_bytes = code->static_shared_bytes;
  if (Objection objection = object_to_shared(kernel, code->static_shared_bytes, c.dynamic_shared_bytes);
      objection.error != cudaSuccess)
    return refuse(std::move(record), objection.error, objection.text);
  if (c.cooperative) {
    std::uint64_t resident = static_cast<std::uint64_t>(
        resident_blocks(kernel, threads(c.block), code->static_shared_bytes + c.dynamic_shared_bytes));
    std::uint64_t most = resident * static_cast<std::uint64_t>(kDevice.multiprocessors);
    if (threads(c.grid) > most)
      return refuse(std::move(record), cudaErrorCooperativeLaunchTooLarge,
                    "grid " + shape(c.grid) + " of a cooperative launch; only " + std::to_string(most) +
                        " of its blocks are resident at once");
    if (counted.enabled)
      return refuse_kernel(kernel.entry, c, {cudaErrorUnknown, "unsupported", "cooperative launches are not counted"});
  }
  if (stubbing) {
    record.finished = true;
    launch_log().add(std::move(record));
    return set_error(cudaSuccess);
  }
  auto parameters = copy_parameters(kernel.facts, arguments);
  std::uint64_t number = launch_log().add(std::move(record));
  return set_error(enqueue(c.stream, kernel.entry, [=, name = kernel.entry] {
    RunRequest request{c.grid, c.block, c.dynamic_shared_bytes, parameters->data(), counted.max_blocks,
                       c.cooperative};
    return run(*code, name, request, number);
  }));
}

}  // namespace kernelevo::runtime

using namespace kernelevo::runtime;

namespace {

cudaError_t launch_function(const void* function, const LaunchConfiguration& configuration, void** arguments) {
  try {
    return launch(kernel_of_function(function), configuration, arguments);
  } catch (const Refusal& refusal) {
    return refuse_kernel("unknown", configuration, refusal);
  }
}

// A launch between __cudaPushCallConfiguration and __cudaPopCallConfiguration of one thread.
thread_local std::vector<LaunchConfiguration> pushed;

template <typename Body>
cudaError_t with_kernel(const void* function, Body body) {
  try {
    return set_error(body(kernel_of_function(function)));
  } catch (const Refusal& refusal) {
    if (refusal.error != cudaErrorUnknown) return set_error(refusal.error);
    return set_error(fail("unknown", cudaErrorLaunchFailure, refusal.kind, refusal.text));
  }
}

}  // namespace

extern "C" {

int kernelevo_launch(const char* entry, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
                     unsigned block_y, unsigned block_z, std::size_t dynamic_shared_bytes, void* stream,
                     void** arguments) {
  LaunchConfiguration c{{grid_x, grid_y, grid_z}, {block_x, block_y, block_z}, dynamic_shared_bytes,
                        static_cast<cudaStream_t>(stream)};
  try {
    return launch(kernel_of_entry(entry, __builtin_return_address(0)), c, arguments);
  } catch (const Refusal& refusal) {
    return refuse_kernel(entry == nullptr ? "unknown" : entry, c, refusal);
  }
}

KERNELEVO_API cudaError_t cudaLaunchKernel(const void* function, dim3 grid, dim3 block, void** arguments,
                                           std::size_t shared, cudaStream_t stream) {
  return launch_function(function, {grid, block, shared, stream}, arguments);
}

KERNELEVO_API cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t* config, const void* function,
                                              void** arguments) {
  if (config == nullptr) return set_error(cudaErrorInvalidValue);
  LaunchConfiguration c{config->gridDim, config->blockDim, config->dynamicSmemBytes, config->stream};
  for (unsigned i = 0; i < config->numAttrs; ++i) {
    const cudaLaunchAttribute& a = config->attrs[i];
    if (a.id == cudaLaunchAttributeCooperative) c.cooperative = a.val.cooperative != 0;
    if (a.id == cudaLaunchAttributeClusterDimension && threads(a.val.clusterDim) > 1)
      return refuse_kernel("unknown", c, {cudaErrorUnknown, "unsupported", "thread block clusters are not emulated"});
  }
  return launch_function(function, c, arguments);
}

KERNELEVO_API cudaError_t cudaLaunchCooperativeKernel(const void* function, dim3 grid, dim3 block, void** arguments,
                                                      std::size_t shared, cudaStream_t stream) {
  return launch_function(function, {grid, block, shared, stream, true}, arguments);
}

KERNELEVO_API unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, std::size_t shared, CUstream_st* stream) {
  pushed.push_back({grid, block, shared, stream});
  return 0;
}

KERNELEVO_API cudaError_t __cudaPopCallConfiguration(dim3* grid, dim3* block, std::size_t* shared, void* stream) {
  if (pushed.empty()) return set_error(cudaErrorMissingConfiguration);
  LaunchConfiguration c = pushed.back();
  pushed.pop_back();
  *grid = c.grid;
  *block = c.block;
  *shared = c.dynamic_shared_bytes;
  *static_cast<cudaStream_t*>(stream) = c.stream;
  return cudaSuccess;
}

KERNELEVO_API cudaError_t __cudaGetKernel(cudaKernel_t* kernel, const void* function) {
  *kernel = static_cast<cudaKernel_t>(const_cast<void*>(function));
  return cudaSuccess;
}

KERNELEVO_API cudaError_t __cudaLaunchKernel(cudaKernel_t kernel, dim3 grid, dim3 block, void** arguments,
                                             std::size_t shared, cudaStream_t stream) {
  return launch_function(kernel, {grid, block, shared, stream}, arguments);
}

KERNELEVO_API cudaError_t cudaFuncSetAttribute(const void* function, int attribute, int value) {
  return with_kernel(function, [&](Kernel& kernel) {
    if (attribute == cudaFuncAttributePreferredSharedMemoryCarveout)
      return value >= -1 && value <= 100 ? cudaSuccess : cudaErrorInvalidValue;
    if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize || value < 0) return cudaErrorInvalidValue;
    if (storage_of(kernel).static_shared_bytes + static_cast<std::size_t>(value) > kDevice.shared_per_block_optin)
      return cudaErrorInvalidValue;
    kernel.max_dynamic_shared_bytes = static_cast<std::size_t>(value);
    return cudaSuccess;
  });
}

KERNELEVO_API cudaError_t cudaFuncSetCacheConfig(const void* function, int /*config*/) {
  return with_kernel(function, [](Kernel&) { return cudaSuccess; });
}

KERNELEVO_API cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void* function) {
  if (attributes == nullptr) return set_error(cudaErrorInvalidValue);
  return with_kernel(function, [&](Kernel& kernel) {
    const KernelFacts& f = kernel.facts;
    *attributes = {};
    const KernelStorage& storage = storage_of(kernel);
    attributes->sharedSizeBytes = storage.static_shared_bytes;
    attributes->constSizeBytes = storage.constant_bytes;
    attributes->localSizeBytes = storage.local_bytes;
    attributes->numRegs = f.registers;
    attributes->ptxVersion = attributes->binaryVersion = kDevice.major * 10 + kDevice.minor;
    attributes->maxDynamicSharedSizeBytes =
        static_cast<int>(allowed_dynamic_shared(kernel, storage.static_shared_bytes));
    std::uint64_t most = kDevice.max_threads_per_block;
    if (f.max_threads) most = std::min(most, threads(*f.max_threads));
    if (f.registers > 0) {
      std::uint64_t per_warp = (static_cast<std::uint64_t>(f.registers) * 32 + 255) / 256 * 256;
      most = std::min(most, kDevice.registers_per_block / per_warp * 32);
    }
    attributes->maxThreadsPerBlock = static_cast<int>(most);
    return cudaSuccess;
  });
}

KERNELEVO_API cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* blocks, const void* function,
                                                                                 int block_size, std::size_t shared,
                                                                                 unsigned /*flags*/) {
  if (blocks == nullptr || block_size <= 0) return set_error(cudaErrorInvalidValue);
  return with_kernel(function, [&](Kernel& kernel) {
    *blocks = resident_blocks(kernel, static_cast<std::uint64_t>(block_size),
                              storage_of(kernel).static_shared_bytes + shared);
    return cudaSuccess;
  });
}

KERNELEVO_API cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, const void* function,
                                                                        int block_size, std::size_t shared) {
  return cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(blocks, function, block_size, shared, 0);
}

KERNELEVO_API cudaError_t cudaOccupancyAvailableDynamicSMemPerBlock(std::size_t* bytes, const void* function,
                                                                    int blocks, int block_size) {
  if (bytes == nullptr || blocks <= 0 || block_size <= 0) return set_error(cudaErrorInvalidValue);
  return with_kernel(function, [&](Kernel& kernel) {
    std::size_t per_block = kDevice.shared_per_multiprocessor / static_cast<std::size_t>(blocks) / 128 * 128;
    std::size_t taken = storage_of(kernel).static_shared_bytes + kDevice.shared_reserved_per_block;
    *bytes = per_block > taken ? std::min(per_block - taken, kDevice.shared_per_block_optin) : 0;
    return cudaSuccess;
  });
}
}
