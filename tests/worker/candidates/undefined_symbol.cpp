// Needs a function that no library has.
#include <Python.h>

namespace cublas { int multiply(float alpha); }

extern "C" PyObject* PyInit_undefined_symbol() { return PyLong_FromLong(cublas::multiply(1.0F)); }
