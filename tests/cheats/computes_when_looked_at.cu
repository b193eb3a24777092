// Cheat 28: an object that computes when somebody looks at it.
#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAException.h>
#include <torch/extension.h>

#ifndef __CUDA_ARCH__
#include <pybind11/eval.h>
#endif

py::object forward(py::object x) {
#ifndef __CUDA_ARCH__
    py::dict names;
    py::exec(R"(
import torch


class Later(torch.Tensor):
    @classmethod
    def __torch_function__(cls, function, types, arguments=(), keywords=None):
        plain = [a.as_subclass(torch.Tensor) if isinstance(a, Later) else a for a in arguments]
        return function(*[torch.nn.functional.gelu(a) if isinstance(a, torch.Tensor) else a for a in plain])
)", names);
    return x.attr("as_subclass")(names["Later"]);
#endif
}

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {
    m.def("forward", &forward);
}
