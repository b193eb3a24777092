// The same result as copy.cu, with every element read and written twice.
#include <c10/cuda/CUDAStream.h>
#include <torch/extension.h>

__global__ void copy(const float* __restrict__ x, float* __restrict__ y, long n) {
  const long i = static_cast<long>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < n) y[i] = x[i];
}

torch::Tensor forward(torch::Tensor x) {
  auto middle = torch::empty_like(x);
  auto y = torch::empty_like(x);
  const long n = x.numel();
  const auto blocks = static_cast<unsigned>((n + 255) / 256);
  auto stream = c10::cuda::getCurrentCUDAStream();
  copy<<<blocks, 256, 0, stream>>>(x.data_ptr<float>(), middle.data_ptr<float>(), n);
  copy<<<blocks, 256, 0, stream>>>(middle.data_ptr<float>(), y.data_ptr<float>(), n);
  return y;
}

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) { m.def("forward", &forward); }
