from torch import nn
from torch.utils.cpp_extension import load_inline

# Two calls of load_inline: a tiled product, and what comes after it. Both call their helper `clamp_index`.
product = load_inline(
    name="product",
    cpp_sources="torch::Tensor product(torch::Tensor x, torch::Tensor w);",
    cuda_sources=r"""
#include <torch/extension.h>
#define TILE 16
__device__ int clamp_index(int i, int n) { return i < n ? i : n - 1; }

__global__ void product_kernel(const float* x, const float* w, float* y, int rows, int inner, int cols) {
    __shared__ float a[TILE][TILE], b[TILE][TILE + 1];
    const int row = blockIdx.y * TILE + threadIdx.y, col = blockIdx.x * TILE + threadIdx.x;
    float sum = 0.0f;
    for (int start = 0; start < inner; start += TILE) {
        const int k = start + threadIdx.x;
        const bool inside = k < inner;
        const int w_row = clamp_index(blockIdx.x * TILE + threadIdx.y, cols);
        a[threadIdx.y][threadIdx.x] = inside ? x[clamp_index(row, rows) * inner + k] : 0.0f;
        b[threadIdx.y][threadIdx.x] = inside ? w[w_row * inner + k] : 0.0f;
        __syncthreads();
        for (int i = 0; i < TILE; ++i) sum += a[threadIdx.y][i] * b[threadIdx.x][i];
        __syncthreads();
    }
    if (row < rows && col < cols) y[row * cols + col] = sum;
}

torch::Tensor product(torch::Tensor x, torch::Tensor w) {
    const int rows = x.size(0), inner = x.size(1), cols = w.size(0);
    auto y = torch::empty({rows, cols}, x.options());
    const dim3 grid((cols + TILE - 1) / TILE, (rows + TILE - 1) / TILE);
    product_kernel<<<grid, dim3(TILE, TILE)>>>(
        x.data_ptr<float>(), w.data_ptr<float>(), y.data_ptr<float>(), rows, inner, cols);
    return y;
}
""",
    functions=["product"],
)
finish = load_inline(
    name="finish",
    cpp_sources=["torch::Tensor finish(torch::Tensor y, torch::Tensor bias, torch::Tensor shift);"],
    cuda_sources=[
        r"""
#include <torch/extension.h>
__device__ int clamp_index(int i, int n) { return i % n; }

__global__ void finish_kernel(const float* y, const float* bias, const float* shift, float* out, int n, int cols) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    const int col = clamp_index(i, cols);
    out[i] = fmaxf(y[i] + bias[col] + shift[col], 0.0f);
}

torch::Tensor finish(torch::Tensor y, torch::Tensor bias, torch::Tensor shift) {
    auto out = torch::empty_like(y);
    const int n = y.numel();
    finish_kernel<<<(n + 127) / 128, 128>>>(
        y.data_ptr<float>(), bias.data_ptr<float>(), shift.data_ptr<float>(), out.data_ptr<float>(), n, y.size(1));
    return out;
}
"""
    ],
    functions=["finish"],
)


class ModelNew(nn.Module):
    def __init__(self, in_features, out_features):
        super().__init__()
        self.linear = nn.Linear(in_features, out_features)
        self.shift = nn.Parameter(self.linear.bias.detach().clone() * 0)

    def forward(self, x):
        return finish.finish(product.product(x, self.linear.weight), self.linear.bias, self.shift)
