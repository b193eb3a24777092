#include "errors.h"

#include <atomic>

#include "launch_log.h"

namespace kernelevo::runtime {
namespace {

thread_local cudaError_t thread_last_error = cudaSuccess;
std::atomic<cudaError_t> corrupting_error{cudaSuccess};

}  // namespace

cudaError_t set_error(cudaError_t error) {
  if (cudaError_t corrupted = corrupting_error.load(); corrupted != cudaSuccess) error = corrupted;
  if (error != cudaSuccess) thread_last_error = error;
  return error;
}

void corrupt_context(cudaError_t error) {
  cudaError_t none = cudaSuccess;
  corrupting_error.compare_exchange_strong(none, error);
}

cudaError_t context_error() { return corrupting_error.load(); }

cudaError_t last_error() {
  cudaError_t corrupted = corrupting_error.load();
  return corrupted != cudaSuccess ? corrupted : thread_last_error;
}

void reset_errors() {
  thread_last_error = cudaSuccess;
  corrupting_error.store(cudaSuccess);
}

}  // namespace kernelevo::runtime

using namespace kernelevo::runtime;

extern "C" {

KERNELEVO_API cudaError_t cudaGetLastError() {
  cudaError_t error = last_error();
  thread_last_error = cudaSuccess;
  launch_log().errors_seen();
  return error;
}

KERNELEVO_API cudaError_t cudaPeekAtLastError() {
  launch_log().errors_seen();
  return last_error();
}

KERNELEVO_API const char* cudaGetErrorName(cudaError_t error) {
  switch (error) {
#define KERNELEVO_NAME(name, value, text) \
  case name:                              \
    return #name;
    KERNELEVO_CUDA_ERRORS(KERNELEVO_NAME)
#undef KERNELEVO_NAME
  }
  return "unrecognized error code";
}

KERNELEVO_API const char* cudaGetErrorString(cudaError_t error) {
  switch (error) {
#define KERNELEVO_TEXT(name, value, text) \
  case name:                              \
    return text;
    KERNELEVO_CUDA_ERRORS(KERNELEVO_TEXT)
#undef KERNELEVO_TEXT
  }
  return "unrecognized error code";
}
}
