// Needs a function that no library has.
#include <pybind11/pybind11.h>

namespace cublas { int multiply(float alpha); }

PYBIND11_MODULE(undefined_symbol, m) {
  m.def("forward", [] { return cublas::multiply(1.0F); });
}
