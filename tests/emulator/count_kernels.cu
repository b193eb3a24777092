// Kernels whose memory events are known by arithmetic; see test_counted.py.
extern "C" __global__ void gather(const float* x, float* y, int n, int stride) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] = x[(long long)i * stride];
}
extern "C" __global__ void banks(float* y, int stride) {
    __shared__ float tile[32 * 33];
    tile[threadIdx.x * stride] = threadIdx.x;
    __syncthreads();
    y[blockIdx.x * 32 + threadIdx.x] = tile[threadIdx.x * stride];
}
extern "C" __global__ void pile(float* y) { atomicAdd(y + threadIdx.x % 2, 1.0f); }
extern "C" __global__ void twice(const float* x, float* y, int n) {
    float sum = 0;
    for (int i = threadIdx.x; i < n; i += blockDim.x) sum += x[blockIdx.x * n + i];
    for (int i = threadIdx.x; i < n; i += blockDim.x) y[blockIdx.x * n + i] = x[blockIdx.x * n + i] * sum;
}
extern "C" __global__ void shared_pile(float* y) {
    __shared__ float sum;
    if (threadIdx.x == 0) sum = 0;
    __syncthreads();
    atomicAdd(&sum, 1.0f);
    __syncthreads();
    if (threadIdx.x == 0) y[blockIdx.x] = sum;
}
extern "C" __global__ void generic(float* y, int from_shared) {
    __shared__ float tile[32];
    tile[threadIdx.x] = threadIdx.x;
    __syncthreads();
    const float* source = from_shared ? tile : y + 32;
    y[threadIdx.x] = source[threadIdx.x ^ 1];
}
