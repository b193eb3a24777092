// Softmax over the last dimension, one block per row, for every floating dtype.
#include <ATen/AccumulateType.h>
#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAGuard.h>
#include <torch/extension.h>

namespace {

constexpr int kWarp = 32;

template <typename T>
__device__ __forceinline__ T warp_max(T value) {
#pragma unroll
  for (int offset = kWarp / 2; offset > 0; offset >>= 1) {
    value = max(value, __shfl_xor_sync(0xffffffffu, value, offset));
  }
  return value;
}

template <typename T>
__device__ __forceinline__ T warp_sum(T value) {
#pragma unroll
  for (int offset = kWarp / 2; offset > 0; offset >>= 1) value += __shfl_xor_sync(0xffffffffu, value, offset);
  return value;
}

template <typename scalar_t, int kThreads>
__global__ void __launch_bounds__(kThreads)
    softmax_kernel(const scalar_t* __restrict__ input, scalar_t* __restrict__ output, const int columns) {
  using acc_t = at::acc_type<scalar_t, true>;
  __shared__ acc_t partial[kThreads / kWarp];
  const scalar_t* row = input + static_cast<int64_t>(blockIdx.x) * columns;
  scalar_t* result = output + static_cast<int64_t>(blockIdx.x) * columns;
  const int lane = threadIdx.x % kWarp;
  const int warp = threadIdx.x / kWarp;

  acc_t largest = -INFINITY;
  for (int i = threadIdx.x; i < columns; i += kThreads) largest = max(largest, static_cast<acc_t>(row[i]));
  largest = warp_max(largest);
  if (lane == 0) partial[warp] = largest;
  __syncthreads();
  for (int i = 0; i < kThreads / kWarp; ++i) largest = max(largest, partial[i]);
  __syncthreads();

  acc_t total = 0;
  for (int i = threadIdx.x; i < columns; i += kThreads) total += exp(static_cast<acc_t>(row[i]) - largest);
  total = warp_sum(total);
  if (lane == 0) partial[warp] = total;
  __syncthreads();
  total = 0;
  for (int i = 0; i < kThreads / kWarp; ++i) total += partial[i];

  for (int i = threadIdx.x; i < columns; i += kThreads) {
    result[i] = static_cast<scalar_t>(exp(static_cast<acc_t>(row[i]) - largest) / total);
  }
}

}  // namespace

torch::Tensor forward(const torch::Tensor& x) {
  TORCH_CHECK(x.is_cuda() && x.dim() == 2, "expected a matrix on the GPU, got ", x.sizes(), " on ", x.device());
  const at::cuda::OptionalCUDAGuard guard(device_of(x));
  auto input = x.contiguous();
  auto output = torch::empty_like(input);
  const int64_t rows = input.size(0);
  if (rows == 0) return output;
  AT_DISPATCH_FLOATING_TYPES_AND2(at::ScalarType::Half, at::ScalarType::BFloat16, input.scalar_type(), "softmax", [&] {
    softmax_kernel<scalar_t, 256><<<rows, 256, 0, at::cuda::getCurrentCUDAStream()>>>(
        input.data_ptr<scalar_t>(), output.data_ptr<scalar_t>(), static_cast<int>(input.size(1)));
  });
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return output;
}

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {
  m.def("forward", &forward, "softmax over the last dimension", py::arg("x"));
}
