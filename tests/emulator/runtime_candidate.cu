// A torch extension that uses what candidates use of c10::cuda, at::cuda and the CUDA runtime beside their kernels.
#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/extension.h>

__constant__ float weights[3];

namespace {
template <typename T, int kThreads>
__global__ void weighted(const T* x, T* y, int n) {
  int i = blockIdx.x * kThreads + threadIdx.x;
  if (i < n) y[i] = x[i] * static_cast<T>(weights[i % 3]);
}
}  // namespace

static __global__ void add_one(float* x, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) x[i] += 1.0F;
}

torch::Tensor forward(torch::Tensor x) {
  TORCH_CHECK(x.is_cuda(), "x must be on the device");
  const c10::cuda::CUDAGuard guard(x.device());
  const float values[3] = {1, 10, 100};
  C10_CUDA_CHECK(cudaMemcpyToSymbol(weights, values, sizeof values));
  auto y = torch::empty_like(x);
  const int n = static_cast<int>(x.numel());
  const auto stream = at::cuda::getCurrentCUDAStream();
  AT_DISPATCH_FLOATING_TYPES(x.scalar_type(), "weighted", [&] {
    weighted<scalar_t, 64><<<(n + 63) / 64, 64, 0, stream>>>(x.data_ptr<scalar_t>(), y.data_ptr<scalar_t>(), n);
  });
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return y;
}

torch::Tensor too_many_threads(torch::Tensor x) {
  add_one<<<1, 2048>>>(x.data_ptr<float>(), 1);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return x;
}

// On a stream of torch's pool, joined or not.
torch::Tensor on_side_stream(torch::Tensor x, bool join) {
  auto side = c10::cuda::getStreamFromPool();
  {
    c10::cuda::CUDAStreamGuard guard(side);
    add_one<<<1, 64, 0, at::cuda::getCurrentCUDAStream()>>>(x.data_ptr<float>(), static_cast<int>(x.numel()));
  }
  if (join) side.synchronize();
  return x;
}

std::vector<int64_t> facts() {
  const cudaDeviceProp* p = at::cuda::getCurrentDeviceProperties();
  cudaFuncAttributes attributes;
  C10_CUDA_CHECK(cudaFuncGetAttributes(&attributes, add_one));
  int blocks = 0;
  C10_CUDA_CHECK(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, weighted<float, 64>, 64, 0));
  void* memory = c10::cuda::CUDACachingAllocator::raw_alloc(1000);
  size_t size = 0;
  c10::cuda::CUDACachingAllocator::getBaseAllocation(memory, &size);
  c10::cuda::CUDACachingAllocator::raw_delete(memory);
  return {p->multiProcessorCount, at::cuda::warp_size(), c10::cuda::device_count(), c10::cuda::current_device(),
          attributes.maxThreadsPerBlock, blocks, static_cast<int64_t>(size)};
}

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {
  m.def("forward", &forward);
  m.def("too_many_threads", &too_many_threads);
  m.def("on_side_stream", &on_side_stream);
  m.def("facts", &facts);
}
