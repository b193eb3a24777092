// Launches whose names and arguments a test compares with what the host handed over. Runs nothing: the test records.
#include <torch/extension.h>

struct Pair {
  int first;
  float second;
};

static __constant__ float factors[2];

namespace {
template <typename T>
__global__ void hidden(T* x, float scale) {
  x[0] *= scale * factors[0];
}
}  // namespace

namespace ns {
__global__ void overloaded(float* x, Pair pair) { x[0] = pair.first * pair.second; }
__global__ void overloaded(double* x, long n) { x[0] = n; }
}  // namespace ns

template <int N>
static __global__ void counted(int n = N, short = 7) {
  extern __shared__ int shared_words[];
  shared_words[threadIdx.x] = n;
}

extern "C" __global__ void plain(const float* x, bool flag) {}

int launch_and_count(float* x) {
  plain<<<2, 3>>>(x, true);
  return 5;
}

int64_t forward(torch::Tensor x) {
  float* data = x.data_ptr<float>();
  hidden<<<dim3(1, 2, 3), dim3(4, 5, 6), 7 * sizeof(int)>>>(data, 0.5);
  ns::overloaded<<<x.size(0), 32>>>(data, {11, 2.5f});
  ns::overloaded<<<1, 1>>>((double*)nullptr, 12);
  counted<9><<<1, 1, 1024>>>(launch_and_count(data));
  counted<8><<<1, 1>>>();
  void (*pointer)(int, short) = counted<8>;
  pointer<<<4, 1>>>(1, 2);
  return reinterpret_cast<int64_t>(data);
}

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) { m.def("forward", &forward, "launches"); }
