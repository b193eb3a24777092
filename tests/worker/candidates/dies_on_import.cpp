// Ends the process while the dynamic linker loads it, before any function of it is called.
#include <pybind11/pybind11.h>

#include <cstdlib>

__attribute__((constructor)) static void leave() { std::_Exit(0); }

PYBIND11_MODULE(dies_on_import, m) { m.def("forward", [] { return 1; }); }
