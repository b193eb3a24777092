// Kernels that bench.py times on the emulator: the shapes that generated kernels have. extern "C": looked up by name.
#define KERNEL extern "C" __global__ void

KERNEL add(const float* a, const float* b, float* c, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) c[i] = a[i] + b[i];
}

KERNEL rmsnorm(const float* __restrict__ x, const float* __restrict__ weight, float* __restrict__ y, int n, float eps) {
  extern __shared__ float part[];
  const float4* in = (const float4*)(x + (size_t)blockIdx.x * n);
  float sum = 0;
  for (int i = threadIdx.x; i < n / 4; i += blockDim.x) {
    float4 v = in[i];
    sum += v.x * v.x + v.y * v.y + v.z * v.z + v.w * v.w;
  }
  for (int o = 16; o; o >>= 1) sum += __shfl_down_sync(~0u, sum, o);
  if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = sum;
  __syncthreads();
  if (threadIdx.x < 32) {
    sum = threadIdx.x < blockDim.x / 32 ? part[threadIdx.x] : 0;
    for (int o = 16; o; o >>= 1) sum += __shfl_down_sync(~0u, sum, o);
    if (threadIdx.x == 0) part[0] = rsqrtf(sum / n + eps);
  }
  __syncthreads();
  float scale = part[0];
  float4* out = (float4*)(y + (size_t)blockIdx.x * n);
  const float4* w = (const float4*)weight;
  for (int i = threadIdx.x; i < n / 4; i += blockDim.x) {
    float4 v = in[i], g = w[i];
    out[i] = make_float4(v.x * scale * g.x, v.y * scale * g.y, v.z * scale * g.z, v.w * scale * g.w);
  }
}

KERNEL softmax(const float* x, float* y, int n) {
  __shared__ float part[32];
  const float* row = x + (size_t)blockIdx.x * n;
  float most = -1e30f;
  for (int i = threadIdx.x; i < n; i += blockDim.x) most = fmaxf(most, row[i]);
  for (int o = 16; o; o >>= 1) most = fmaxf(most, __shfl_xor_sync(~0u, most, o));
  if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = most;
  __syncthreads();
  most = part[0];
  for (int i = 1; i < blockDim.x / 32; i++) most = fmaxf(most, part[i]);
  __syncthreads();
  float sum = 0;
  for (int i = threadIdx.x; i < n; i += blockDim.x) sum += expf(row[i] - most);
  for (int o = 16; o; o >>= 1) sum += __shfl_xor_sync(~0u, sum, o);
  if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = sum;
  __syncthreads();
  sum = 0;
  for (int i = 0; i < blockDim.x / 32; i++) sum += part[i];
  for (int i = threadIdx.x; i < n; i += blockDim.x) y[(size_t)blockIdx.x * n + i] = expf(row[i] - most) / sum;
}

template <int T>
__device__ void tiled(const float* a, const float* b, float* c, int n) {
  __shared__ float sa[T][T], sb[T][T];
  int i = blockIdx.y * T + threadIdx.y, j = blockIdx.x * T + threadIdx.x;
  float sum = 0;
  for (int k = 0; k < n; k += T) {
    sa[threadIdx.y][threadIdx.x] = a[i * n + k + threadIdx.x];
    sb[threadIdx.y][threadIdx.x] = b[(k + threadIdx.y) * n + j];
    __syncthreads();
#pragma unroll
    for (int q = 0; q < T; q++) sum += sa[threadIdx.y][q] * sb[q][threadIdx.x];
    __syncthreads();
  }
  c[i * n + j] = sum;
}
KERNEL matmul_tile32(const float* a, const float* b, float* c, int n) { tiled<32>(a, b, c, n); }
KERNEL matmul_tile16(const float* a, const float* b, float* c, int n) { tiled<16>(a, b, c, n); }

KERNEL matmul_naive(const float* a, const float* b, float* c, int n) {
  int i = blockIdx.y * blockDim.y + threadIdx.y, j = blockIdx.x * blockDim.x + threadIdx.x;
  float sum = 0;
  if (i < n && j < n) {
    for (int k = 0; k < n; k++) sum += a[i * n + k] * b[k * n + j];
    c[i * n + j] = sum;
  }
}

// 64 x 64 of c per block of 256 threads, 4 x 4 per thread.
KERNEL matmul_registers(const float* a, const float* b, float* c, int n) {
  __shared__ float sa[16][64 + 4], sb[16][64];
  int t = threadIdx.x, tx = t % 16, ty = t / 16;
  a += blockIdx.y * 64 * n;
  b += blockIdx.x * 64;
  float sum[4][4] = {};
  for (int k = 0; k < n; k += 16) {
    float4 va = *(const float4*)(a + (t / 4) * n + k + (t % 4) * 4);
    sa[t % 4 * 4 + 0][t / 4] = va.x;
    sa[t % 4 * 4 + 1][t / 4] = va.y;
    sa[t % 4 * 4 + 2][t / 4] = va.z;
    sa[t % 4 * 4 + 3][t / 4] = va.w;
    *(float4*)&sb[t / 16][t % 16 * 4] = *(const float4*)(b + (k + t / 16) * n + t % 16 * 4);
    __syncthreads();
#pragma unroll
    for (int q = 0; q < 16; q++) {
      float4 x = *(float4*)&sa[q][ty * 4], y = *(float4*)&sb[q][tx * 4];
      float xs[4] = {x.x, x.y, x.z, x.w}, ys[4] = {y.x, y.y, y.z, y.w};
#pragma unroll
      for (int u = 0; u < 4; u++)
#pragma unroll
        for (int v = 0; v < 4; v++) sum[u][v] += xs[u] * ys[v];
    }
    __syncthreads();
  }
  for (int u = 0; u < 4; u++)
    *(float4*)(c + (blockIdx.y * 64 + ty * 4 + u) * n + blockIdx.x * 64 + tx * 4) =
        make_float4(sum[u][0], sum[u][1], sum[u][2], sum[u][3]);
}

// 3 x 3, padding 1; one output pixel per thread.
KERNEL convolution(const float* x, const float* w, float* y, int channels, int height, int width) {
  int j = blockIdx.x * blockDim.x + threadIdx.x, i = blockIdx.y * blockDim.y + threadIdx.y, o = blockIdx.z;
  if (i >= height || j >= width) return;
  float sum = 0;
  for (int c = 0; c < channels; c++)
    for (int u = -1; u <= 1; u++)
      for (int v = -1; v <= 1; v++) {
        int p = i + u, q = j + v;
        if (p >= 0 && p < height && q >= 0 && q < width)
          sum += x[(c * height + p) * width + q] * w[((o * channels + c) * 3 + u + 1) * 3 + v + 1];
      }
  y[(o * height + i) * width + j] = sum;
}

KERNEL histogram(const unsigned char* x, int* bins, int n) {
  __shared__ int own[256];
  for (int i = threadIdx.x; i < 256; i += blockDim.x) own[i] = 0;
  __syncthreads();
  for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) atomicAdd(&own[x[i]], 1);
  __syncthreads();
  for (int i = threadIdx.x; i < 256; i += blockDim.x) atomicAdd(&bins[i], own[i]);
}

KERNEL transpose(const float* in, float* out, int n) {
  __shared__ float tile[32][33];
  int x = blockIdx.x * 32 + threadIdx.x, y = blockIdx.y * 32 + threadIdx.y;
  for (int j = 0; j < 32; j += 8) tile[threadIdx.y + j][threadIdx.x] = in[(y + j) * n + x];
  __syncthreads();
  x = blockIdx.y * 32 + threadIdx.x;
  y = blockIdx.x * 32 + threadIdx.y;
  for (int j = 0; j < 32; j += 8) out[(y + j) * n + x] = tile[threadIdx.x][threadIdx.y + j];
}
