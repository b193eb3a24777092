// vprintf and __assertfail of device code.
#pragma once

#include <cstddef>
#include <cstdint>

namespace kernelevo {

// One thread's printf: a C format string and its arguments packed as CUDA's device printf packs them (each aligned
// to its size, float promoted to double). Writes to stdout. Returns the number of arguments.
int32_t device_printf(const char* format, const char* arguments);

// `arguments` points to {message, file, line, function, character size} of __assertfail, 8, 8, 4, 8 and 8 bytes.
void describe_assertion(int64_t arguments, char* text, size_t size);

}  // namespace kernelevo
