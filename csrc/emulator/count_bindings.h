#pragma once

#include <pybind11/pybind11.h>

void bind_count(pybind11::module_& m);
