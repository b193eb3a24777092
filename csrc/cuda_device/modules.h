// Which kernel of the candidate a host address or an entry name stands for.
//
// Objects of kernelevo's split build have exported stubs whose symbol names are entry names of the cubin that is loaded
// here. Objects that nvcc linked register theirs with the CUDA runtime; those are only named here, for the log.
#pragma once

#include <optional>
#include <string>

#include "cuda_api.h"

namespace kernelevo::cuda {

// The candidate's kernels. Loads a cubin or NUL-terminated PTX into the primary context; throws Failure.
void load_image(const std::string& image);

// Between these two, what registers itself with the CUDA runtime belongs to the candidate.
void begin_loading();
void end_loading();
void note_kernel(const void* host_function, const char* entry);    // registered with the runtime
void note_variable(const void* host_variable);                      // registered with the runtime
void note_handle(const void* handle, const void* host_function);   // the runtime's handle of it

// A kernel of the loaded image by entry name; nullptr when it has none of this name.
CUfunction function_of_entry(const std::string& entry);

// A kernel of the loaded image by the address of its stub; a nullptr for any other address. Looked for once per address.
struct Stub {
  CUfunction function = nullptr;
  std::string entry;
};
const Stub& stub_of(const void* host_function);

// The entry name of a candidate's kernel by stub, registered function or handle; nothing for other people's kernels.
std::optional<std::string> entry_of(const void* host_function);

// A variable of the loaded image by the address of its host shadow.
struct Variable {
  CUdeviceptr address = 0;
  std::size_t bytes = 0;
};
std::optional<Variable> variable_of(const void* host_variable);

}  // namespace kernelevo::cuda
