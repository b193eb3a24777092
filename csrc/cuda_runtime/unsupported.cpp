// Parts of the runtime API that are known and refused: stream capture and graphs. A program that tests the returned
// error can go another way. What is not here or elsewhere in csrc/cuda_runtime is missing, and loading a candidate
// that needs it fails with its name.

#include "errors.h"
#include "streams.h"

using namespace kernelevo::runtime;

extern "C" {

KERNELEVO_API cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  if (status == nullptr) return set_error(cudaErrorInvalidValue);
  *status = cudaStreamCaptureStatusNone;
  return set_error(check_stream(stream));
}

KERNELEVO_API cudaError_t cudaStreamGetCaptureInfo(cudaStream_t stream, cudaStreamCaptureStatus* status,
                                                   unsigned long long* id, cudaGraph_t* /*graph*/,
                                                   const cudaGraphNode_t** /*dependencies*/,
                                                   const cudaGraphEdgeData** /*edges*/, std::size_t* /*count*/) {
  if (id != nullptr) *id = 0;
  return cudaStreamIsCapturing(stream, status);
}

KERNELEVO_API cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode* mode) {
  static thread_local cudaStreamCaptureMode current = cudaStreamCaptureModeGlobal;
  if (mode == nullptr) return set_error(cudaErrorInvalidValue);
  cudaStreamCaptureMode before = current;
  current = *mode;
  *mode = before;
  return set_error(cudaSuccess);
}

KERNELEVO_API cudaError_t cudaStreamBeginCapture(cudaStream_t /*stream*/, cudaStreamCaptureMode /*mode*/) {
  return set_error(cudaErrorNotSupported);
}

KERNELEVO_API cudaError_t cudaStreamEndCapture(cudaStream_t /*stream*/, cudaGraph_t* /*graph*/) {
  return set_error(cudaErrorNotSupported);
}

KERNELEVO_API cudaError_t cudaGraphCreate(cudaGraph_t* /*graph*/, unsigned /*flags*/) {
  return set_error(cudaErrorNotSupported);
}

KERNELEVO_API cudaError_t cudaGraphInstantiate(cudaGraphExec_t* /*executable*/, cudaGraph_t /*graph*/,
                                               unsigned long long /*flags*/) {
  return set_error(cudaErrorNotSupported);
}

KERNELEVO_API cudaError_t cudaGraphLaunch(cudaGraphExec_t /*executable*/, cudaStream_t /*stream*/) {
  return set_error(cudaErrorNotSupported);
}

KERNELEVO_API cudaError_t cudaGraphExecDestroy(cudaGraphExec_t /*executable*/) {
  return set_error(cudaErrorNotSupported);
}

KERNELEVO_API cudaError_t cudaGraphDestroy(cudaGraph_t /*graph*/) { return set_error(cudaErrorNotSupported); }
}
