// One candidate whose entry point does, by number, what kernels must be able to do without harm to anyone else.
#include <c10/cuda/CUDAStream.h>
#include <cuda_runtime.h>
#include <torch/extension.h>

#include <cstdio>
#include <cstdlib>

__global__ void scale(const float* x, float* y, int n, float factor) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) y[i] = factor * x[i];
}

__global__ void spin(const float* x, float* y) {
  while (*reinterpret_cast<const volatile float*>(x) < 1e30F) {
  }
  y[0] = 1.0F;
}

__global__ void give_up() { asm volatile("trap;"); }

__global__ void half_a_barrier(float* y) {
  if (threadIdx.x < 32) {
    __syncthreads();
    y[threadIdx.x] = 1.0F;
  } else {
    while (*reinterpret_cast<volatile float*>(y) != 1.0F) {
    }
  }
}

__global__ void write_behind(float* y, int n) { y[n] = 1.0F; }

__global__ void change(float* x) { x[threadIdx.x] = 7.0F; }

static int blocks(int n) { return (n + 127) / 128; }

static torch::Tensor scaled(torch::Tensor x) {
  auto y = torch::empty_like(x);
  const int n = static_cast<int>(x.numel());
  scale<<<blocks(n), 128>>>(x.data_ptr<float>(), y.data_ptr<float>(), n, 2.0F);
  return y;
}

torch::Tensor forward(torch::Tensor x, int64_t what, double factor) {
  auto y = torch::empty_like(x);
  const int n = static_cast<int>(x.numel());
  const float* from = x.data_ptr<float>();
  float* to = y.data_ptr<float>();
  switch (what) {
    case 0: scale<<<blocks(n), 128>>>(from, to, n, static_cast<float>(factor)); break;
    case 1: spin<<<1, 32>>>(from, to); break;
    case 2: give_up<<<1, 32>>>(); break;
    case 3: half_a_barrier<<<1, 64>>>(to); break;
    case 4: write_behind<<<1, 1>>>(to, n); break;
    case 5: scale<<<1, 2048>>>(from, to, n, 2.0F); break;
    case 6: break;  // writes nothing
    case 7: change<<<1, 1>>>(x.data_ptr<float>()); return scaled(x);
    case 8: return x;
    case 9: return x.cpu();
    case 10: {
      cudaStream_t side;
      cudaStreamCreateWithFlags(&side, cudaStreamNonBlocking);
      scale<<<blocks(n), 128, 0, side>>>(from, to, n, 2.0F);
      break;
    }
    case 11: scaled(x); return scaled(x);
    case 12: TORCH_CHECK(x.size(0) == 3, "x must have three rows, has ", x.size(0)); break;
    case 13: std::exit(0);
    case 14: std::abort();
    case 15: for (volatile bool go = true; go;) {} break;
    case 16: std::puts("one line of output"); std::fflush(stdout); return scaled(x);
    case 17: *reinterpret_cast<volatile int*>(16) = 1; break;
    case 18: return torch::empty_like(x).t().fill_(factor);
  }
  return y;
}

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) { m.def("forward", &forward); }
