// A CUDA program as nvcc builds it, with NVIDIA's own headers: test_runtime.py calls its functions through ctypes.
// A function gives the cudaError it is about, or -1 where a step before went wrong.
#include <cooperative_groups.h>
#include <cuda_runtime.h>

__constant__ float factors[4] = {1, 2, 3, 4};
__device__ int counter = 5;

__global__ void fill(int* out, int value, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) out[i] = value + counter;
}

template <typename T>
__global__ void scale(T* x, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) x[i] *= T(factors[i % 4]);
}

__global__ void increment(int* x) { atomicAdd(x, 1); }

__global__ void __launch_bounds__(64) bounded(int* x) { x[threadIdx.x] = 1; }

__global__ void shared_sum(int* out, int n) {
  extern __shared__ int tile[];
  __shared__ int own[32];
  own[threadIdx.x % 32] = 0;
  for (int i = threadIdx.x; i < n; i += blockDim.x) tile[i] = i;
  __syncthreads();
  if (threadIdx.x == 0) {
    int sum = own[0];
    for (int i = 0; i < n; i++) sum += tile[i];
    *out = sum;
  }
}

__global__ void trap() { asm volatile("trap;"); }
__global__ void wild(int* x) { x[threadIdx.x] = 1; }
__global__ void spin(volatile int* x) { while (*x == 0) {} }
__global__ void barrier_of_some(int* x) {
  if (threadIdx.x < 32) return;
  if (threadIdx.x < 64) asm volatile("bar.sync 1, 96;");
  *x = 1;
}
// Every block adds; after the grid's barrier each must see all.
__global__ void meet(int* sum, int* seen) {
  if (threadIdx.x == 0) atomicAdd(sum, 1);
  cooperative_groups::this_grid().sync();
  if (threadIdx.x == 0) seen[blockIdx.x] = *sum;
}

struct Wide { char c; double d; short s; };
__global__ void mixed(char a, double b, Wide w, short c, double* out) { *out = a + b + w.c + w.d + w.s + c; }

#define OK(call) \
  if ((call) != cudaSuccess) return -1

extern "C" {

int fill_and_read(int* result, int value, int n) {
  int* device;
  OK(cudaMalloc(&device, n * sizeof(int)));
  fill<<<(n + 63) / 64, 64>>>(device, value, n);
  OK(cudaGetLastError());
  OK(cudaMemcpy(result, device, n * sizeof(int), cudaMemcpyDeviceToHost));
  return cudaFree(device);
}

int change_symbols(float* scaled, int* read) {
  float mine[2] = {10, 20};
  int next = 7;
  OK(cudaMemcpyToSymbol(factors, mine, sizeof mine, sizeof(float)));
  OK(cudaMemcpyToSymbol(counter, &next, sizeof next));
  OK(cudaMemcpyFromSymbol(read, counter, sizeof next));
  size_t size = 0;
  void* address = nullptr;
  OK(cudaGetSymbolSize(&size, factors));
  OK(cudaGetSymbolAddress(&address, factors));
  if (size != 16) return -1;
  float* device;
  OK(cudaMalloc(&device, 4 * sizeof(float)));
  OK(cudaMemcpy(device, scaled, 4 * sizeof(float), cudaMemcpyHostToDevice));
  scale<float><<<1, 32>>>(device, 4);
  OK(cudaMemcpy(scaled, device, 4 * sizeof(float), cudaMemcpyDefault));
  return cudaMemcpyToSymbol(factors, mine, sizeof mine, 12);  // past the end
}

int mixed_parameters(double* result) {
  double* device;
  OK(cudaMalloc(&device, sizeof(double)));
  mixed<<<1, 1>>>(1, 2.5, Wide{3, 4.25, 5}, 6, device);
  return cudaMemcpy(result, device, sizeof(double), cudaMemcpyDeviceToHost);
}

int launch_shape(unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz) {
  int* device;
  OK(cudaMalloc(&device, 4096));
  fill<<<dim3(gx, gy, gz), dim3(bx, by, bz)>>>(device, 1, 0);
  int error = cudaGetLastError();
  OK(cudaGetLastError());  // asking clears it
  cudaFree(device);
  return error;
}

int launch_bounded(int threads) {
  int* device;
  OK(cudaMalloc(&device, 4096));
  bounded<<<1, threads>>>(device);
  return cudaGetLastError();
}

int launch_shared(int bytes, int allowed, int* sum) {
  int* device;
  OK(cudaMalloc(&device, sizeof(int)));
  if (allowed > 0)
    if (int error = cudaFuncSetAttribute(shared_sum, cudaFuncAttributeMaxDynamicSharedMemorySize, allowed)) {
      cudaGetLastError();
      return error;
    }
  shared_sum<<<1, 64, bytes>>>(device, bytes / 4);
  int error = cudaGetLastError();
  if (error == 0) error = cudaMemcpy(sum, device, sizeof(int), cudaMemcpyDeviceToHost);
  return error;
}

int fault(int which, long address) {
  static int* zero;
  OK(cudaMalloc(&zero, 4096));
  OK(cudaMemset(zero, 0, 4096));
  if (which == 0) trap<<<1, 1>>>();
  if (which == 1) wild<<<1, 1>>>(reinterpret_cast<int*>(address));
  if (which == 2) spin<<<1, 1>>>(zero);
  if (which == 3) barrier_of_some<<<1, 128>>>(zero);
  return cudaDeviceSynchronize();
}

int unchecked_launch() {
  fill<<<1, 4096>>>(nullptr, 1, 0);
  return 0;
}

int any_call() { return cudaDeviceSynchronize(); }
int last_error() { return cudaGetLastError(); }

// What another stream's kernel wrote, seen through `join`: 0 nothing, 1 stream, 2 device, 3 event, 4 default stream's
// kernel, 5 a synchronous copy, 6 asking until done, 7 another stream that waits for an event.
int side_stream(int nonblocking, int join, int* seen) {
  int *device, *pinned;
  OK(cudaMalloc(&device, sizeof(int)));
  OK(cudaMallocHost(&pinned, sizeof(int)));
  *pinned = 0;
  OK(cudaMemset(device, 0, sizeof(int)));
  cudaStream_t stream, other;
  cudaEvent_t event;
  OK(cudaStreamCreateWithFlags(&stream, nonblocking ? cudaStreamNonBlocking : cudaStreamDefault));
  OK(cudaStreamCreateWithFlags(&other, cudaStreamNonBlocking));
  OK(cudaEventCreate(&event));
  increment<<<1, 1, 0, stream>>>(device);
  OK(cudaMemcpyAsync(pinned, device, sizeof(int), cudaMemcpyDeviceToHost, stream));
  OK(cudaEventRecord(event, stream));
  int error = 0;
  switch (join) {
    case 1: error = cudaStreamSynchronize(stream); break;
    case 2: error = cudaDeviceSynchronize(); break;
    case 3: error = cudaEventSynchronize(event); break;
    case 4: fill<<<1, 1>>>(device, 0, 0); break;
    case 5: {
      int ignored;
      error = cudaMemcpy(&ignored, device, sizeof(int), cudaMemcpyDeviceToHost);
      break;
    }
    case 6:
      while ((error = cudaStreamQuery(stream)) == cudaErrorNotReady) {}
      break;
    case 7:
      OK(cudaStreamWaitEvent(other, event, 0));
      error = cudaStreamSynchronize(other);
      break;
    default: break;
  }
  *seen = *pinned;
  return error;
}

int freed_while_queued(int* result) {
  int *device, *pinned;
  OK(cudaMallocHost(&pinned, sizeof(int)));
  OK(cudaMallocAsync(&device, sizeof(int), nullptr));
  cudaStream_t stream;
  OK(cudaStreamCreate(&stream));
  OK(cudaMemsetAsync(device, 0, sizeof(int), stream));
  increment<<<1, 1, 0, stream>>>(device);
  OK(cudaMemcpyAsync(pinned, device, sizeof(int), cudaMemcpyDeviceToHost, stream));
  OK(cudaFreeAsync(device, stream));
  OK(cudaStreamDestroy(stream));
  OK(cudaDeviceSynchronize());
  *result = *pinned;
  return cudaStreamSynchronize(stream);  // destroyed
}

int event_times(float* milliseconds) {
  cudaEvent_t start, end, untimed;
  OK(cudaEventCreate(&start));
  OK(cudaEventCreate(&end));
  OK(cudaEventCreateWithFlags(&untimed, cudaEventDisableTiming));
  OK(cudaEventRecord(start));
  int* device;
  OK(cudaMalloc(&device, 1 << 20));
  for (int i = 0; i < 10; i++) fill<<<1024, 256>>>(device, i, 1 << 18);
  OK(cudaEventRecord(end));
  OK(cudaEventRecord(untimed));
  OK(cudaEventSynchronize(end));
  OK(cudaEventElapsedTime(milliseconds, start, end));
  return cudaEventElapsedTime(milliseconds + 1, start, untimed);
}

// Frees in the order of a stream that nobody waits for.
int release_while_queued(int rounds, long bytes) {
  cudaStream_t stream;
  int* device;
  OK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  OK(cudaMalloc(&device, sizeof(int)));
  for (int k = 0; k < rounds; k++) {
    void* memory;
    if (cudaError_t error = cudaMalloc(&memory, bytes)) return error;
    OK(cudaFreeAsync(memory, stream));
    OK(cudaMemsetAsync(device, 0, sizeof(int), stream));
  }
  return cudaSuccess;
}

int copy_rectangle(int* rows) {
  size_t pitch;
  int* device;
  OK(cudaMallocPitch(&device, &pitch, 12, 3));
  OK(cudaMemset2D(device, pitch, 0, 12, 3));
  OK(cudaMemcpy2D(device, pitch, rows, 16, 12, 3, cudaMemcpyHostToDevice));
  for (int i = 0; i < 12; i++) rows[i] = -1;
  return cudaMemcpy2D(rows, 16, device, pitch, 12, 3, cudaMemcpyDeviceToHost);
}

int wrong_memory(int which) {
  int* device;
  int host[4] = {};
  OK(cudaMalloc(&device, 16));
  switch (which) {
    case 0: return cudaMemcpy(device, host, 17, cudaMemcpyHostToDevice);  // more than there is
    case 1: return cudaMemcpy(host, host, 16, cudaMemcpyDeviceToHost);   // not device memory
    case 2: return cudaFree(device + 1);
    case 3: cudaFree(device); return cudaFree(device);
    case 4: return cudaMalloc(&device, size_t(1) << 50);
    case 5: return cudaMemset(nullptr, 0, 4);
    case 6: return cudaMemcpy(device, host, 16, static_cast<cudaMemcpyKind>(9));
    default: return -1;
  }
}

int device_facts(int* facts, char* name) {
  cudaDeviceProp p;
  OK(cudaGetDeviceProperties(&p, 0));
  for (int i = 0; i < 64; i++) name[i] = p.name[i];
  facts[0] = p.major;
  facts[1] = p.multiProcessorCount;
  facts[2] = static_cast<int>(p.sharedMemPerBlockOptin);
  facts[3] = p.maxBlocksPerMultiProcessor;
  OK(cudaDeviceGetAttribute(&facts[4], cudaDevAttrMaxSharedMemoryPerMultiprocessor, 0));
  OK(cudaDeviceGetAttribute(&facts[5], cudaDevAttrL2CacheSize, 0));
  facts[6] = p.maxGridSize[2];
  facts[7] = p.reserved[0];
  return cudaSetDevice(1);
}

int kernel_facts(int* facts) {
  cudaFuncAttributes a;
  OK(cudaFuncGetAttributes(&a, shared_sum));
  facts[0] = static_cast<int>(a.sharedSizeBytes);
  facts[1] = a.maxDynamicSharedSizeBytes;
  facts[2] = a.maxThreadsPerBlock;
  OK(cudaFuncGetAttributes(&a, bounded));
  facts[3] = a.maxThreadsPerBlock;
  OK(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&facts[4], fill, 256, 0));
  OK(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&facts[5], fill, 32, 0));
  OK(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&facts[6], shared_sum, 64, 100 << 10));
  int size;
  OK(cudaOccupancyMaxPotentialBlockSize(&facts[7], &size, fill));
  facts[8] = size;
  return 0;
}

int launch_explicitly(int* result) {
  int* device;
  OK(cudaMalloc(&device, 4 * sizeof(int)));
  int value = 3, n = 4;
  void* arguments[] = {&device, &value, &n};
  OK(cudaLaunchKernel(fill, dim3(1), dim3(4), arguments, 0, 0));
  OK(cudaMemcpy(result, device, 16, cudaMemcpyDeviceToHost));
  cudaLaunchConfig_t config = {};
  config.gridDim = 1;
  config.blockDim = 4;
  OK(cudaLaunchKernelEx(&config, fill, device, 9, 4));
  OK(cudaMemcpy(result + 4, device, 16, cudaMemcpyDeviceToHost));
  return 0;
}

int launch_cooperatively(int blocks, int* seen) {
  int* device;
  OK(cudaMalloc(&device, (blocks + 1) * sizeof(int)));
  OK(cudaMemset(device, 0, sizeof(int)));
  int* places = device + 1;
  void* arguments[] = {&device, &places};
  if (int error = cudaLaunchCooperativeKernel(meet, dim3(blocks), dim3(64), arguments, 0, 0)) return error;
  return cudaMemcpy(seen, places, blocks * sizeof(int), cudaMemcpyDeviceToHost);
}

int capture_a_graph() {
  cudaStream_t stream;
  OK(cudaStreamCreate(&stream));
  cudaStreamCaptureStatus status;
  OK(cudaStreamIsCapturing(stream, &status));
  if (status != cudaStreamCaptureStatusNone) return -1;
  return cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal);
}

const char* name_of(int error) { return cudaGetErrorName(static_cast<cudaError_t>(error)); }
const char* text_of(int error) { return cudaGetErrorString(static_cast<cudaError_t>(error)); }
}
