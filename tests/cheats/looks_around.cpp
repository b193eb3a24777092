// What a candidate can see of its process. CUDA C++ as candidates are; not a cheat, so not a .cu of the catalogue.
#include <torch/extension.h>

#include <cstdio>

__global__ void nothing_kernel() {}

torch::Tensor forward(torch::Tensor x) {
    nothing_kernel<<<1, 1>>>();
#ifndef __CUDA_ARCH__
    std::printf("call\n");
    py::module_ sys = py::module_::import("sys");
    for (auto module : py::dict(sys.attr("modules"))) {
        const auto name = py::str(module.first).cast<std::string>();
        if (name.rfind("kernelevo", 0) == 0) std::printf("module %s\n", name.c_str());
    }
    for (auto folder : py::list(sys.attr("path"))) std::printf("path %s\n", py::str(folder).cast<std::string>().c_str());
    py::object is_tensor = py::module_::import("torch").attr("is_tensor");
    const auto input = x.cpu();
    for (py::handle object : py::module_::import("gc").attr("get_objects")()) {
        if (py::isinstance<py::type>(object) || !is_tensor(object).cast<bool>()) continue;
        auto tensor = object.cast<torch::Tensor>();
        const bool equal = tensor.sizes() == x.sizes() && tensor.scalar_type() == x.scalar_type() && tensor.cpu().equal(input);
        const char* what = tensor.is_same(x) ? "input" : equal ? "other-equal-to-input" : "other";
        std::printf("tensor %s %s\n", what, py::str(py::list(py::cast(tensor.sizes().vec()))).cast<std::string>().c_str());
    }
    std::fflush(stdout);
#endif
    return torch::empty_like(x);
}

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {
    m.def("forward", &forward);
}
