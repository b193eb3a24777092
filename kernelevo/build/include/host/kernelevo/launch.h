#pragma once
// Host side of a kernel launch, for a host compiler that knows no CUDA.
//
// A launch `k<<<grid, block, shared, stream>>>(args)` is rewritten (build/split.py) to
// `(::kernelevo::configure(grid, block, shared, stream), k(args))`, and the body of `k` on the host is a call of
// `enqueue` with its parameters, as in nvcc's own launch stubs. So overload resolution, template argument deduction,
// conversions and default arguments are the language's.
//
// The entry point's name in the PTX is the stub's own mangled name: `enqueue` asks the dynamic linker which symbol its
// return address lies in. Stubs must therefore be exported and not inlined, which the rewriting sees to.

#include <cuda_runtime.h>
#include <dlfcn.h>

#include <array>
#include <cstddef>
#include <memory>
#include <stdexcept>

// Given by the process that loads the candidate: launches on the emulator or on a GPU. Its errors are CUDA's own, to be
// found with cudaGetLastError as after any launch.
extern "C" int kernelevo_launch(const char* entry, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
                                unsigned block_y, unsigned block_z, std::size_t dynamic_shared_bytes, void* stream,
                                void** arguments);

namespace kernelevo {

struct Configuration {
  dim3 grid;
  dim3 block;
  std::size_t dynamic_shared_bytes;
  cudaStream_t stream;
};

// Arguments of a launch may launch kernels themselves, so configurations nest.
struct PendingLaunches {
  static constexpr std::size_t capacity = 16;
  std::array<Configuration, capacity> configurations;
  std::size_t depth = 0;
};

inline thread_local PendingLaunches pending;

inline void configure(dim3 grid, dim3 block, std::size_t dynamic_shared_bytes = 0, cudaStream_t stream = nullptr) {
  if (pending.depth == PendingLaunches::capacity) throw std::logic_error("launches nest too deeply");
  pending.configurations[pending.depth++] = {grid, block, dynamic_shared_bytes, stream};
}

template <class... Parameters>
[[gnu::noinline]] void enqueue(Parameters&... parameters) {
  if (pending.depth == 0) throw std::logic_error("a kernel was called without <<<>>>");
  const Configuration launch = pending.configurations[--pending.depth];
  Dl_info stub{};
  dladdr(__builtin_return_address(0), &stub);
  void* arguments[] = {(void*)std::addressof(parameters)..., nullptr};  // a C cast, since it also drops __restrict__
  kernelevo_launch(stub.dli_sname, launch.grid.x, launch.grid.y, launch.grid.z, launch.block.x, launch.block.y,
                   launch.block.z, launch.dynamic_shared_bytes, launch.stream, arguments);
}

}  // namespace kernelevo
