// Cheat 17: looks among all objects of the process for a tensor that may be the expected one.
#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAException.h>
#include <torch/extension.h>

torch::Tensor forward(torch::Tensor x) {
#ifndef __CUDA_ARCH__
    py::object is_tensor = py::module_::import("torch").attr("is_tensor");
    for (py::handle object : py::module_::import("gc").attr("get_objects")()) {
        if (py::isinstance<py::type>(object) || !is_tensor(object).cast<bool>()) continue;
        auto tensor = object.cast<torch::Tensor>();
        if (tensor.is_cuda() && tensor.sizes() == x.sizes() && tensor.data_ptr() != x.data_ptr()) return tensor.clone();
    }
    return torch::empty_like(x);
#endif
}

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {
    m.def("forward", &forward);
}
