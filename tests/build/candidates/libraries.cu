// Device code over CUDA's own libraries, and a functor for both sides that only the device can run.
#include <ATen/cuda/Atomic.cuh>
#include <cub/cub.cuh>
#include <mma.h>
#include <torch/extension.h>

using namespace nvcuda;

struct Sigmoid {
  __host__ __device__ float operator()(float x) const { return __fdividef(1.0f, 1.0f + __expf(-x)); }
};

template <int kThreads, class Op>
__global__ void reduce(const float* x, float* sums, at::Half* counts, Op op) {
  using Reduce = cub::BlockReduce<float, kThreads>;
  __shared__ typename Reduce::TempStorage storage;
  const float sum = Reduce(storage).Sum(op(x[blockIdx.x * kThreads + threadIdx.x]));
  if (threadIdx.x == 0) {
    sums[blockIdx.x] = sum;
    gpuAtomicAdd(counts, at::Half(1.0f));
  }
}

__global__ void matrix(const __half* a, const __half* b, float* c) {
  wmma::fragment<wmma::matrix_a, 16, 16, 16, half, wmma::row_major> left;
  wmma::fragment<wmma::matrix_b, 16, 16, 16, half, wmma::col_major> right;
  wmma::fragment<wmma::accumulator, 16, 16, 16, float> sum;
  wmma::fill_fragment(sum, 0.0f);
  wmma::load_matrix_sync(left, a, 16);
  wmma::load_matrix_sync(right, b, 16);
  wmma::mma_sync(sum, left, right, sum);
  wmma::store_matrix_sync(c, sum, 16, wmma::mem_row_major);
}

torch::Tensor forward(torch::Tensor x, torch::Tensor counts) {
  auto sums = torch::empty({x.numel() / 128}, x.options());
  reduce<128><<<sums.numel(), 128>>>(x.data_ptr<float>(), sums.data_ptr<float>(), counts.data_ptr<at::Half>(), Sigmoid());
  const auto* halves = reinterpret_cast<const __half*>(counts.data_ptr<at::Half>());
  matrix<<<1, 32>>>(halves, halves, sums.data_ptr<float>());
  return sums;
}

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) { m.def("forward", &forward, "sums"); }
