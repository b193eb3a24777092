// Catches accesses of kernels to memory that the process does not have, which a GPU reports as an illegal address.
// What lies in the process but outside a kernel's allocations is not noticed here.
#pragma once

#include <cstdint>
#include <functional>

namespace kernelevo {

struct AccessFault {
  bool happened = false;
  uintptr_t address = 0;  // UINTPTR_MAX: outside the address space
};

// Runs `body` on this thread. After a fault the body has been left in the middle: its objects are not destroyed.
AccessFault catch_access_fault(const std::function<void()>& body);

}  // namespace kernelevo
