// Cheat 18: has the task's own reference compute the answer.
#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAException.h>
#include <torch/extension.h>

py::object forward(py::object x) {
#ifndef __CUDA_ARCH__
    return py::module_::import("kernelevo.tasks").attr("load_task")("gelu").attr("reference")(x);
#endif
}

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {
    m.def("forward", &forward);
}
