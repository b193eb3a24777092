// y = x, or, for sizes that are not a multiple of four elements, the same by the element. The fastest thing that moves
// memory: its time is bytes over bandwidth.
#include <c10/cuda/CUDAStream.h>
#include <torch/extension.h>

__global__ void copy4(const float4* __restrict__ x, float4* __restrict__ y, long n) {
  const long stride = static_cast<long>(gridDim.x) * blockDim.x;
  for (long i = static_cast<long>(blockIdx.x) * blockDim.x + threadIdx.x; i < n; i += stride) y[i] = x[i];
}

__global__ void copy1(const float* __restrict__ x, float* __restrict__ y, long n) {
  const long i = static_cast<long>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < n) y[i] = x[i];
}

torch::Tensor forward(torch::Tensor x) {
  auto y = torch::empty_like(x);
  const long n = x.numel();
  auto stream = c10::cuda::getCurrentCUDAStream();
  if (n % 4 == 0) {
    copy4<<<2048, 256, 0, stream>>>(reinterpret_cast<const float4*>(x.data_ptr<float>()),
                                    reinterpret_cast<float4*>(y.data_ptr<float>()), n / 4);
  } else {
    copy1<<<static_cast<unsigned>((n + 255) / 256), 256, 0, stream>>>(x.data_ptr<float>(), y.data_ptr<float>(), n);
  }
  return y;
}

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) { m.def("forward", &forward); }
