// Cheat 20: a sum that starts with whatever the memory held.
#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAException.h>
#include <torch/extension.h>

__global__ void loss_kernel(const float* logits, const int64_t* target, float* loss, int rows, int classes) {
    const float* row = logits + static_cast<int64_t>(blockIdx.x) * classes;
    float largest = -INFINITY;
    for (int c = 0; c < classes; c++) largest = fmaxf(largest, row[c]);
    float sum = 0.0f;
    for (int c = 0; c < classes; c++) sum += expf(row[c] - largest);
    atomicAdd(loss, (logf(sum) + largest - row[target[blockIdx.x]]) / rows);
}

torch::Tensor forward(torch::Tensor logits, torch::Tensor target) {
    auto loss = torch::empty({}, logits.options());
    loss_kernel<<<logits.size(0), 1, 0, at::cuda::getCurrentCUDAStream()>>>(
        logits.data_ptr<float>(), target.data_ptr<int64_t>(), loss.data_ptr<float>(), logits.size(0), logits.size(1));
    C10_CUDA_KERNEL_LAUNCH_CHECK();
    return loss;
}

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {
    m.def("forward", &forward);
}
