// The extension kernelevo.emulator._tensors. Importing it makes device="cuda" real. Its functions are the C++ half of
// torch.cuda's streams and generators; kernelevo/emulator/runtime.py holds the Python half.

#include <c10/cuda/CUDAStream.h>
#include <pybind11/pybind11.h>
#include <torch/csrc/Generator.h>

#include "generator.h"
#include "hooks.h"
#include "memory.h"

namespace py = pybind11;

namespace {

std::int64_t new_stream(int priority) { return c10::cuda::getStreamFromPool(priority, 0).id(); }
std::int64_t current_stream() { return c10::cuda::getCurrentCUDAStream(0).id(); }

void set_current_stream(std::int64_t id) {
  c10::Stream stream(c10::Stream::UNSAFE, c10::Device(c10::kCUDA, 0), id);
  c10::cuda::setCurrentCUDAStream(c10::cuda::CUDAStream(stream));
}

}  // namespace

PYBIND11_MODULE(_tensors, m) {
  m.doc() = "device=\"cuda\" tensors in host memory, for a torch without CUDA.";
  kernelevo::tensors::register_allocator();
  kernelevo::tensors::install_hooks();
  m.def("new_stream", &new_stream, py::arg("priority") = 0);
  m.def("current_stream", &current_stream);
  m.def("default_generator", [] {
    return py::reinterpret_steal<py::object>(THPGenerator_Wrap(kernelevo::tensors::default_generator()));
  });
  m.def("set_current_stream", &set_current_stream);
}
