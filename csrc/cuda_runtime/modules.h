// Which PTX a host function or variable belongs to. Objects built by nvcc register theirs through __cudaRegister...;
// objects of kernelevo's split build have exported stubs whose symbol names are the entry names.
// PTX is parsed and compiled on the Python side, asked through `Source`.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "errors.h"

namespace kernelevo::runtime {

// Where one parameter lies in the kernel's parameter space.
struct Parameter {
  std::size_t offset = 0;
  std::size_t size = 0;
};

// What a launch must be checked against, read from the PTX (and from ptxas when somebody ran it).
struct KernelFacts {
  std::vector<Parameter> parameters;
  std::size_t parameter_bytes = 0;
  int registers = 0;               // per thread; 0: not known
  std::optional<dim3> max_threads;       // .maxntid: its product bounds the threads of a block
  std::optional<dim3> required_threads;  // .reqntid: blocks must have exactly this shape
};

// Memory that a kernel takes besides its parameters. Known only after its body was read.
struct KernelStorage {
  std::size_t static_shared_bytes = 0;
  std::size_t local_bytes = 0;  // per thread
  std::size_t constant_bytes = 0;
};

// How a run ended: cudaSuccess, or an error with its kind ("illegal address", "trap", ...) and one line of text.
struct RunReport {
  cudaError_t error = cudaSuccess;
  std::string kind;
  std::string text;
  std::uint64_t blocks_run = 0;
  std::map<std::string, double> counters;  // of a counted run
};

struct RunRequest {
  dim3 grid;
  dim3 block;
  std::size_t dynamic_shared_bytes = 0;
  const std::uint8_t* parameters = nullptr;
  std::uint64_t max_blocks = UINT64_MAX;  // run at most this many blocks
  bool cooperative = false;               // the kernel may wait for the whole grid
};

// A kernel translated for one block shape.
struct CompiledKernel {
  std::function<RunReport(const RunRequest&)> run;
  std::size_t static_shared_bytes = 0;
};

// The Python side refuses: `error` is what CUDA would say, or cudaErrorUnknown where the emulator is at fault.
struct Refusal {
  cudaError_t error = cudaErrorUnknown;
  std::string kind;
  std::string text;
};

enum class Variant { kFast, kCounted, kChecked };

// The Python side. Each function may throw Refusal.
struct Source {
  std::function<KernelFacts(int module, const std::string& entry)> describe;
  std::function<KernelStorage(int module, const std::string& entry)> measure;
  std::function<CompiledKernel(int module, const std::string& entry, dim3 block, Variant)> compile;
  std::function<std::pair<std::uintptr_t, std::size_t>(int module, const std::string& variable)> locate;
};

void set_source(Source source);

// One entry of one module. Lives as long as the process.
struct Kernel {
  int module = 0;
  std::string entry;
  KernelFacts facts;
  std::size_t max_dynamic_shared_bytes = 0;  // what cudaFuncSetAttribute asked for
  std::optional<KernelStorage> storage;
};

// Finds a kernel by its host function or stub; throws Refusal.
Kernel& kernel_of_function(const void* host_function);

// Finds a kernel by entry name, in the module whose image holds `caller`; throws Refusal.
Kernel& kernel_of_entry(const char* entry, const void* caller);

// The kernel translated for this block shape; translated once. Throws Refusal.
const CompiledKernel& compiled(Kernel& kernel, dim3 block, Variant variant);

// What the kernel's body takes, asked for once. Throws Refusal.
const KernelStorage& storage_of(Kernel& kernel);

// A __device__ or __constant__ variable's memory.
struct Variable {
  void* address = nullptr;
  std::size_t size = 0;
};

cudaError_t find_variable(const void* host_variable, Variable* variable);

// Loading: between `begin_module` and `end_module` on one thread, static initialisers of the loaded object register
// into that module. `image` is any address inside the loaded object.
int begin_module(std::string name);
void end_module(int module, const void* image);

struct ModuleInfo {
  std::string name;
  std::string ptx;      // found in a registered fat binary; empty when the Python side has the text
  std::string problem;  // why a registered fat binary could not be used; empty otherwise
};

ModuleInfo module_info(int module);

}  // namespace kernelevo::runtime

extern "C" {
// For host objects whose variables have no exported symbol: names the PTX variable of a host variable.
KERNELEVO_API void kernelevo_register_variable(const void* host_variable, const char* name);
// The same for kernels: names the PTX entry of a host function.
KERNELEVO_API void kernelevo_register_kernel(const void* host_function, const char* entry);
}
